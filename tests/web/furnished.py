"""A hub with a bit of everything, behind a real server: what pictures are taken of and what axe judges."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from typing import Any

import pyotp
from tests.faults import world
from tests.waiting import wait_for

from keyturn.api.app import create_app
from keyturn.model.ids import DebtId, new_id
from keyturn.model.plan import Goal
from keyturn.model.run import Debt
from keyturn.operations import (
    connections,
    datasets,
    factors,
    issued,
    jobs,
    leases,
    notices,
    people,
    projects,
    rights,
    runs,
    tasks,
)
from keyturn.storage import debts

PASSWORD = "plum-orbit-kettle-42"
DAY = 86400.0
LOCAL = rights.local("ada")
RECORDS = "id,name,country\n1,Northwind,NL\n2,Contoso,FR\n3,Fabrikam,ES\n"


def furnish(hub: Any, vendor: Any) -> dict[str, list[str]]:
    """A hub with a bit of everything; addresses of what is in it, by the name of the path's parameter."""
    local = LOCAL
    ada = people.accept(
        hub, people.invite(hub, local, "ada", "Ada Marsh", [("admin", "")]).code.reveal(), PASSWORD
    )
    people.invite(hub, local, "ben@example.com", "Ben Okafor", [("operator", "Billing")])
    tess = people.accept(
        hub, people.invite(hub, local, "tess", "Tess", [("viewer", "")]).code.reveal(), PASSWORD
    )
    factors.confirm(hub, tess, pyotp.TOTP(factors.offer(hub, tess).secret).now())
    robot = people.add_service(hub, local, "nightly-export", "Nightly export", [("operator", "")])
    made: dict[str, Any] = {}

    def connect(method: str, name: str, project: str = "", age_days: float = 12, **options: Any) -> None:
        login = f"{name.replace(' ', '-').lower()}-{new_id('x')[-6:]}"
        world.connect(hub, vendor.client, method, login, **options)
        there = connections.find(hub, login)
        born = time.time() - age_days * DAY

        def work(tx: Any) -> None:
            tx.run("UPDATE connection SET name = ?, owner = 'Data platform' WHERE id = ?", name, there.id)
            tx.run(
                "UPDATE version SET changed_at = ?, born_at = ? WHERE connection_id = ?", born, born, there.id
            )

        hub.store.write(work)
        if project:
            projects.move(hub, there.id, project)
        made[name] = connections.find(hub, there.id)

    connect("two_slots", "Orders database", "Billing", 40)
    connect("many_ids", "Data lake", "Analytics", 3)
    connect("supplied", "Roadmap", "Product", 71)
    connect("grant", "Tickets", "Product", 20)
    connect("one_slot", "Warehouse", "Analytics", 101)
    connect("named_slots", "Mail relay", "", 60)
    connect("regenerate", "Survey tool", "", 88)
    warehouse, relay = made["Warehouse"], made["Mail relay"]
    soon = time.time() + 6 * DAY
    hub.store.write(
        lambda tx: tx.run("UPDATE version SET expires_at = ? WHERE connection_id = ?", soon, relay.id)
    )
    hub.engine.start()
    done = runs.start(hub, made["Orders database"].name, Goal.ROTATE, reason="quarterly")
    waits = runs.start(hub, made["Roadmap"].name, Goal.ROTATE)
    wait_for(lambda: runs.get(hub, done.id).ended_at)
    nightly, _ = jobs.add(
        hub, made["Orders database"].id, "nightly-orders", what="sales.orders", schedule="daily at 06:30"
    )
    broken, _ = jobs.add(
        hub, made["Orders database"].id, "refunds", what="missing", untested=True, after_rotation=False
    )
    jobs.run(hub, broken.id)
    leases.declare(hub, made["Orders database"].id, "billing service", "cached", ttl_s=300)
    leases.take(hub, made["Orders database"].name, "export on host 7", ttl_s=3600)
    task = wait_for(lambda: next(iter(tasks.waiting(hub)), None))
    owed = Debt(
        DebtId(new_id("dbt")),
        made["Data lake"].id,
        None,
        done.id,
        "orphan",
        "a key exists at the vendor whose value nobody knows",
        {
            "ref": {"id": "key-4f", "slot": "", "label": "", "fingerprint": ""},
            "last": "the vendor gives no answer",
        },
        "ada",
        2,
        time.time() + 3600 * 5,
        time.time() - 2 * DAY,
        None,
        "",
        "",
    )
    hub.store.write(lambda tx: debts.add(tx, owed))
    projects.add(hub, "Billing")
    projects.add_object(hub, "Billing", "Revenue")
    projects.add_source(
        hub, "Billing/Revenue/Daily orders", "Orders database", reads="sales.orders", untested=True
    )
    projects.add_object(hub, "Billing", "Refunds")
    hook, _ = notices.add_recipient(
        hub,
        local,
        "webhook",
        "Operations channel",
        "https://hooks.example.com/keyturn",
        ["debt.open", "run.done"],
    )
    waiting = runs.start(
        hub, made["Survey tool"].name, Goal.DISCONNECT, reason="not used any more", who="ben"
    )
    key = issued.issue(hub, "api-key", "Partner portal", {"scopes": "read"}, "Partner team")
    load(hub, "customers")
    return {
        "connection_id": [made["Orders database"].id, made["Roadmap"].id, made["Tickets"].id, warehouse.id],
        "goal": ["rotate", "disconnect", "reauthorize"],
        "run_id": [done.id, waits.id, waiting.id],
        "job_id": [nightly.id, broken.id],
        "recipient_id": [hook.id],
        "kind": ["api-key", "oauth-app"],
        "move": ["many_ids", "grant", "two_slots"],
        "task_id": [task.id],
        "debt_id": [owed.id],
        "account_id": [ada.id, robot.id],
        "system": ["snowflake", "postgresql", "jira"],
        "method": ["key_pair", "password", "oauth"],
        "issued_id": [key.connection.id],
        "project": ["Billing"],
        "dataset": ["customers"],
    }


def load(hub: Any, name: str, text: str = RECORDS) -> None:
    """A dataset that somebody loaded with a bulk key."""
    sender = issued.issue(hub, "bulk-key", f"Export of {name}", {}, "Partner team")
    made = datasets.begin(hub, name, sender.connection.id, sender.version_id, form="csv")
    receiver, let_go = datasets.receiving(hub, made.id, 0)
    receiver.write(text.encode())
    receiver.commit(complete=True)
    let_go()
    datasets.Loader(hub).work()


def serve(hub: Any) -> tuple[Any, str, Any]:
    """The hub behind a real server: (application, address, how to stop it)."""
    import uvicorn

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://localhost:{port}"
    app = create_app(replace(hub, settings=replace(hub.settings, public_url=url, egress=("203.0.113.7",))))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", timeout_graceful_shutdown=1))
    app.state.pages.live.stopping = lambda: server.should_exit
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)

    def stop() -> None:
        server.should_exit = True
        thread.join(timeout=5)

    return app, url, stop

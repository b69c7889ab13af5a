"""`make screens`: every page of the site map on a hub with a bit of everything, at two widths, in light and dark.

Writes PNG files to a folder and prints what a look cannot show: console messages and what `CHECKS` finds.
"""

from __future__ import annotations

import argparse
import re
import socket
import sys
import tempfile
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults import world
from tests.issued.conftest import open_test_hub, wait_for

from keyturn.api.app import create_app
from keyturn.model.ids import DebtId, new_id
from keyturn.model.plan import Goal
from keyturn.model.run import Debt
from keyturn.operations import connections, issued, people, projects, rights, runs, tasks
from keyturn.storage import debts
from keyturn_lab.vendors.shapes.running import Shapes

PASSWORD = "plum-orbit-kettle-42"
WIDTHS, SCHEMES = (1440, 390), ("light", "dark")
DAY = 86400.0


def furnish(hub: Any, vendor: Any) -> dict[str, list[str]]:
    """A hub with a bit of everything; addresses of what is in it, by the name of the path's parameter."""
    local = rights.local("ada")
    ada = people.accept(
        hub, people.invite(hub, local, "ada", "Ada Marsh", [("admin", "")]).code.reveal(), PASSWORD
    )
    people.invite(hub, local, "ben@example.com", "Ben Okafor", [("operator", "Billing")])
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
    key = issued.issue(hub, "api-key", "Partner portal", {"scopes": "read"}, "Partner team")
    return {
        "connection_id": [made["Orders database"].id, made["Roadmap"].id, made["Tickets"].id, warehouse.id],
        "goal": ["rotate", "disconnect", "reauthorize"],
        "run_id": [done.id, waits.id],
        "task_id": [task.id],
        "debt_id": [owed.id],
        "account_id": [ada.id, robot.id],
        "system": ["snowflake", "postgresql", "jira"],
        "method": ["key_pair", "password", "oauth"],
        "kind": ["api-key", "oauth-app"],
        "issued_id": [key.connection.id],
        "project": ["Billing"],
    }


_SKIPPED = re.compile(r"^/live|^/join$|^/setup$|^/sign-in/|^/oauth/|^/account/passkey$|export")


def addresses(pages: Any, there: dict[str, list[str]]) -> list[str]:
    """Every page that is looked at, with each of what there is; `method` and `goal` go along with what they are of."""
    found = []
    for page in pages:
        if page.method != "GET" or _SKIPPED.search(page.path):
            continue
        if page.path == "/bulk/{goal}":
            ids = "&".join(f"id={each}" for each in there["connection_id"])
            found += [f"/bulk/{goal}?{ids}" for goal in ("rotate", "contain")]
            continue
        names = re.findall(r"\{(\w+)\}", page.path)
        first = there[names[0]] if names else [""]
        for number, value in enumerate(first):
            path = page.path.replace(f"{{{names[0]}}}", value) if names else page.path
            for name in names[1:]:
                path = path.replace(f"{{{name}}}", there[name][min(number, len(there[name]) - 1)])
            found.append(path)
    return found


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


def look(folder: Path, url: str, paths: list[str], only: str) -> list[str]:
    """Takes the pictures. What is wrong, page by page."""
    from playwright.sync_api import sync_playwright
    from tests.web.conftest import CHROMIUM
    from tests.web.test_browser import CHECKS

    wrong: list[str] = []
    with sync_playwright() as made:
        browser = made.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in WIDTHS:
            for scheme in SCHEMES:
                context = browser.new_context(
                    viewport={"width": width, "height": 900}, color_scheme=scheme, base_url=url
                )
                page = context.new_page()
                page.on("console", partial(_note, wrong))
                page.goto("/sign-in")
                if not only:
                    page.screenshot(path=folder / f"sign-in-{width}-{scheme}.png", full_page=True)
                page.fill("#f-login", "ada")
                page.fill("#f-password", PASSWORD)
                page.keyboard.press("Enter")
                page.wait_for_url("**/")
                for path in paths:
                    if only and not re.search(only, path):
                        continue
                    page.goto(path)
                    name = re.sub(r"[^a-z]+", "-", _kind(path)).strip("-") or "home"
                    number = sum(1 for each in paths[: paths.index(path)] if _kind(each) == _kind(path))
                    page.screenshot(path=folder / f"{name}-{number}-{width}-{scheme}.png", full_page=True)
                    wrong += [f"{path} {width} {scheme}: {each}" for each in page.evaluate(CHECKS)]
                context.close()
        browser.close()
    return wrong


def _note(wrong: list[str], message: Any) -> None:
    if message.type in {"error", "warning"}:
        wrong.append(message.text)


def _kind(path: str) -> str:
    return re.sub(r"[a-z]{3}_[0-9a-z]{20,}", "one", path)


def main() -> int:
    """0 when nothing is wrong."""
    said = argparse.ArgumentParser(description=__doc__)
    said.add_argument("--to", type=Path, default=Path(".screens"))
    said.add_argument("--only", default="", help="a regular expression of addresses")
    given = said.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Shapes.in_thread() as vendor:
        hub = open_test_hub(Path(folder), shapes=world.external())
        try:
            there = furnish(hub, vendor)
            app, url, stop = serve(hub)
            try:
                paths = addresses(app.state.pages.map, there)
                wrong = look(given.to, url, paths, given.only)
            finally:
                stop()
        finally:
            hub.close()
    report = [f"{len(list(given.to.glob('*.png')))} pictures in {given.to}", *wrong]
    sys.stdout.write("\n".join(report) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

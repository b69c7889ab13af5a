"""A hub, the vendor of every shape, and the scripted people: what one case of the fault matrix happens in."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from keyturn.bootstrap import Keyturn, open_hub
from keyturn.catalog import Catalog
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import NetworkPolicy
from keyturn.executor.executor import Executor
from keyturn.model.plan import Goal
from keyturn.model.run import TERMINAL, Run, RunState, Task, TaskState
from keyturn.operations import connections, runs, tasks
from keyturn.settings import Settings
from keyturn_lab.vendors.shapes import Client
from tests import stores
from tests.faults import shapes_connector as shapes


class _Locator:
    def locate(self, access: Any, material: Any) -> Any:
        return shapes.ref_of(material)


def external(**timing: float) -> SimpleNamespace:
    """The shapes connector as an entry point would give it; `timing` are durations of its cards."""

    def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
        return replace(shapes.capabilities(method, settings), locator=_Locator())

    return SimpleNamespace(system=partial(shapes.system, **timing), capabilities=capabilities)


def settings(folder: Path, database: str = "", patience: float = 0.02) -> Settings:
    """Settings of a hub that lives in one folder."""
    return Settings(
        home=folder / "home",
        database=database or stores.url(folder / "home"),
        kek=f"file:{folder / 'kek'}",
        network=NetworkPolicy(),
        patience=patience,
        actor="matrix",
    )


def open_world(
    folder: Path, database: str = "", *, create: bool = True, patience: float = 0.02, **timing: float
) -> Keyturn:
    """The hub with the shapes connector in its catalogue."""
    catalog = Catalog(lambda _: None, extra={"shapes": external(**timing)})
    return open_hub(settings(folder, database, patience), create=create, catalog=catalog)


def connect(hub: Keyturn, client: Client, method: str, name: str, **options: Any) -> shapes.Provisioned:
    """A provisioned principal and its connection."""
    made = shapes.provision(client, method, name, **options)
    values = {**made.settings, **dict(made.material), **dict(made.admin or {})}
    known = {f.name for f in shapes.system().method(method).fields}
    may_be_lost = method in {"regenerate", "one_slot_self"} and made.admin is None
    connections.connect(
        hub,
        "shapes",
        method,
        name,
        {k: v for k, v in values.items() if k in known},
        policy={"retention_s": 0.0, "drain_min_s": 0.02}
        | ({"accept": f"{name} may be lost"} if may_be_lost else {}),
    )
    return made


def drive(
    hub: Keyturn,
    run_id: str,
    person: Callable[[Task], None],
    *,
    timeout_s: float = 20.0,
    stop: Callable[[Run], bool] | None = None,
) -> Run:
    """Advances a run to quiescence in this thread, as the engine would, answering its tasks."""
    until = time.monotonic() + timeout_s
    while True:
        run = runs.get(hub, run_id)
        if run.state in TERMINAL or (stop and stop(run)):
            return run
        if time.monotonic() > until:
            raise TimeoutError(f"{run.state.value}: {run.waiting_for}")
        if run.state is RunState.WAITING_HUMAN:
            for task in tasks.waiting(hub):
                if task.run_id == run.id and task.state in {
                    TaskState.OPEN,
                    TaskState.RETURNED,
                    TaskState.CLAIMED,
                }:
                    person(task)
            run = runs.get(hub, run_id)
        wait = run.due_at - time.time()
        if wait > 0:
            time.sleep(min(wait, 0.05))
            if run.state in {RunState.BLOCKED, RunState.LOST} and wait > 5:
                return run
            continue
        Executor(hub.hub).advance(run.id)


def person(client: Client, hub: Keyturn, name: str) -> Callable[[Task], None]:
    """The scripted person: supplies, consents, deletes."""

    def act(task: Task) -> None:
        if task.kind == "supply":
            tasks.submit(hub, task.id, shapes.pasted(shapes.person_supplies(client, name)))
        elif task.kind == "consent":
            url = next(str(i["url"]) for i in task.instructions if "url" in i)
            tasks.submit(hub, task.id, {"callback_url": shapes.person_consents(url)})
        elif task.kind == "delete":
            text = " ".join(str(i["text"]) for i in task.instructions)
            which = text.split("Delete the key ")[1].split(" of ")[0]
            shapes.person_deletes(client, name, which)
            tasks.submit(hub, task.id, {})

    return act


def rotate(hub: Keyturn, client: Client, name: str, goal: Goal = Goal.ROTATE) -> Run:
    """One run from start to quiescence."""
    run = runs.start(hub, name, goal)
    return drive(hub, run.id, person(client, hub, name))

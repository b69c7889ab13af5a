"""Does what engine and people would do, and leaps over the waits."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.executor.executor import Executor
from keyturn.model.plan import Goal
from keyturn.model.run import TERMINAL, Run, RunState, Task, TaskState
from keyturn.operations import migrating, runs, tasks
from keyturn.operations.connections import find
from keyturn_lab.vendors.shapes import Client
from tests.faults import invariants
from tests.faults import shapes_connector as shapes
from tests.faults.bench import Bench
from tests.faults.cases import Case

ROUNDS = 400
STUCK = 3  # times a run may come back to the same waiting state before it counts as at rest
PATIENCE = 6  # tasks a person answers before they give up


def principal_name(case: Case) -> str:
    """The vendor's name for it, also the connection's."""
    return f"p-{case.subject.name}"


class Driver:
    """Does what engine and people would do, and leaps over the waits."""

    def __init__(self, bench: Bench, hub: Keyturn, case: Case, folder: Path | None) -> None:
        self.bench, self.hub, self.case, self.folder = bench, hub, case, folder
        self.answered = 0

    def go(self, check: Callable[[str], None] = lambda _: None) -> str:
        """The case's run, from its start or from where a crash left it; words when it comes to no rest."""
        name, goal = principal_name(self.case), self.case.subject.goal
        if goal is not Goal.MIGRATE:
            made = runs.start(self.hub, name, goal, trigger=self.case.name)
        elif latest := runs.recent(self.hub, name, 1):
            made = latest[
                0
            ]  # after the switch the connection is of the new method: there is nowhere to move to
        else:
            made = migrating.start(self.hub, name, "many_ids", {}, trigger=self.case.name)
        return self.drive(made.id, check)

    def once_more(self) -> str:
        """The same goal again; after a farewell the way back, and after that a rotation."""
        subject = self.case.subject
        after = {
            Goal.MIGRATE: Goal.ROTATE,
            Goal.RECONNECT: Goal.ROTATE,
            Goal.DISCONNECT: Goal.RECONNECT,
            Goal.REVOKE: Goal.RECONNECT,
        }
        goal = after.get(subject.goal, subject.goal)
        made = runs.start(self.hub, principal_name(self.case), goal, trigger="once more")
        self.answered = 0
        return self.drive(made.id)

    def drive(self, run_id: str, check: Callable[[str], None] = lambda _: None) -> str:
        """To quiescence; words when it is not reached."""
        stuck: Counter[RunState] = Counter()
        executor = Executor(self.hub.hub)
        for _ in range(ROUNDS):
            made = runs.get(self.hub, run_id)
            if made.state in TERMINAL:
                return ""
            nobody = self.case.fault.name == "not_told"
            if made.state in {RunState.WAITING_HUMAN, RunState.LOST} and not nobody and self._people(made):
                continue
            wait = made.due_at - self.bench.clock.now()
            if made.state is RunState.WAITING_HUMAN and (nobody or self.answered >= PATIENCE):
                wait = max(
                    wait, 5 * 86400.0
                )  # the run looks every few seconds at what a person may have ended
            if made.state in invariants.WAITS and wait > 60:
                stuck[made.state] += 1
                if stuck[made.state] > STUCK:
                    return ""
            if wait > 0:
                self._leap(wait, check)
            self._meddle()
            executor.advance(made.id)
            check("between two steps")
            if runs.get(self.hub, run_id).due_at == made.due_at:
                executor.advance(made.id)  # as its pool does at once with a run that got nowhere
                check("between two steps")
        return f"no rest after {ROUNDS} rounds"

    def _leap(self, wait: float, check: Callable[[str], None]) -> None:
        self.bench.clock.leap(self.bench.client, wait / 2)
        check("while waiting")
        self.bench.clock.leap(self.bench.client, wait / 2 + 1e-3)

    def _meddle(self) -> None:
        """Somebody at the vendor ends what serves, once, while the end of the old one is still to be proven."""
        if self.case.fault.name != "siblings.after" or self.memory().get("meddled") or self.folder is None:
            return
        current = find(self.hub, principal_name(self.case)).current_version_id
        began = runs.recent(self.hub, principal_name(self.case), 1)[0].old_version_id
        if current != began:
            slot = self.bench.client.call("alive", principal=principal_name(self.case))[0]["slot"]
            shapes.person_deletes(self.bench.client, principal_name(self.case), slot)
            self._remember(meddled=True)

    # -- people: their memory survives our crashes ---------------------------------------------------------------

    def memory(self) -> dict[str, Any]:
        """What the person holds in their hands and head."""
        path = self.folder / "person.json" if self.folder else None
        return json.loads(path.read_text()) if path and path.exists() else {}

    def _remember(self, **what: Any) -> None:
        if self.folder:
            (self.folder / "person.json").write_text(json.dumps({**self.memory(), **what}))

    def _people(self, made: Run) -> bool:
        """Whether somebody did something."""
        did = False
        for task in tasks.waiting(self.hub):
            if task.run_id == made.id and task.state in {
                TaskState.OPEN,
                TaskState.RETURNED,
                TaskState.CLAIMED,
            }:
                if self.answered >= PATIENCE:
                    return False  # people give up too
                self.answered += 1
                self._answer(task)
                did = True
        return did

    def _answer(self, task: Task) -> None:
        name, client, fault = principal_name(self.case), self.bench.client, self.case.fault.name
        again = int(self.memory().get("tries", 0))
        if task.kind == "supply" and self.case.subject.name == "regenerate_person":
            self._reset(task, name, client)
        elif task.kind == "supply" and self.case.subject.name != "supplied":
            wrong = fault == "siblings.end" and not again  # typed from an old note
            self._remember(tries=1)
            brought = self._from_a_note(name) if wrong else self.memory().get("brought")
            if brought is None:
                brought = self._rescue(name, client)
                self._remember(brought=brought, holds=[brought["secret"]])
            tasks.submit(self.hub, task.id, brought)
            self._remember(brought=None)
        elif task.kind == "supply":
            if fault == "wrong_paste" and not again:
                self._remember(tries=1)
                tasks.submit(self.hub, task.id, {"key_id": f"{name}.77", "secret": "ktlab-not-a-key-at-all"})
                return
            holds = self.memory().get("holds", [])
            if not holds or task.state is TaskState.RETURNED:
                holds = [shapes.person_supplies(client, name), *holds]
                self._remember(holds=holds)
            tasks.submit(self.hub, task.id, shapes.pasted(holds[0]))
            self._remember(holds=holds[1:])
        elif task.kind == "consent":
            url = next(str(i["url"]) for i in task.instructions if "url" in i)
            more: dict[str, Any] = {}
            if not again and fault in {"denied", "fewer_rights"}:
                self._remember(tries=1)
                more = {"deny": True} if fault == "denied" else {"rights": ["read"]}
            tasks.submit(self.hub, task.id, {"callback_url": shapes.person_consents(url, **more)})
        elif task.kind == "handover":
            tasks.submit(self.hub, task.id, {})
        elif task.kind == "delete":
            text = " ".join(str(i["text"]) for i in task.instructions)
            which = text.split("Delete the key ")[1].split(" of ")[0]
            shapes.person_deletes(client, name, which)
            tasks.submit(self.hub, task.id, {})

    def _reset(self, task: Task, name: str, client: Client) -> None:
        """Presses the button, which ends the old one, and pastes; with `wrong_paste` something else at first."""
        held, fault = self.memory().get("holds", []), self.case.fault.name
        if not held:
            held = [shapes.person_resets(client, name)]
            self._remember(holds=held)
        if fault == "wrong_paste" and not self.memory().get("tries"):
            self._remember(tries=1)
            tasks.submit(self.hub, task.id, {"secret": "ktlab-not-a-key-at-all"})
            return
        tasks.submit(self.hub, task.id, {"secret": held[0]})
        self._remember(holds=[])

    def _from_a_note(self, name: str) -> dict[str, str]:
        method = self.case.subject.method
        if method in {"many_ids", "bucket"}:
            return {"key_id": f"{name}.77", "secret": "ktlab-an-old-note"}
        return {"slot": {"two_slots": "a"}.get(method, "k1"), "secret": "ktlab-an-old-note"}

    def _rescue(self, name: str, client: Client) -> dict[str, str]:
        """What a person brings who follows the vendor's recovery steps: reset there, by their own rights."""
        method = self.case.subject.method
        if method == "grant":
            raise AssertionError("a grant is asked for in the browser")
        if method in {"many_ids", "bucket"}:
            made = client.call("issue", principal=name, by="person", label="by hand")
            return {"key_id": made["id"], "secret": made["value"]}
        slot = {"two_slots": "a", "named_slots": "k1", "regenerate": "key"}.get(method, "password")
        if method in {"named_slots", "regenerate"}:
            return {
                "slot": slot,
                "secret": client.call("regenerate", principal=name, by="person", slot=slot)["value"],
            }
        value = f"ktlab-by-hand-{self.answered}-{os.urandom(8).hex()}"
        client.call("set", principal=name, by="person", slot=slot, value=value)
        return {"slot": slot, "secret": value}

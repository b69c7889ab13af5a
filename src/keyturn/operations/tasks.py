"""What people do: see, claim, submit. A submission is sealed before anything looks at it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput, NotFound
from keyturn.model.ids import TaskId
from keyturn.model.run import Line, LineKind, Run, Task, TaskState
from keyturn.operations.forms import read_parts
from keyturn.storage import connections, journal, people, runs, tasks, versions
from keyturn.storage.database import Tx
from keyturn.vault.secrets import task_row

CLAIM_S = 1800.0


def waiting(hub: Keyturn) -> list[Task]:
    """Tasks somebody should do, most urgent first."""
    return hub.store.read(tasks.waiting)


def waiting_of(hub: Keyturn, connection_id: str) -> list[Task]:
    """Those of one connection."""
    return hub.store.read(lambda tx: tasks.waiting_of(tx, connection_id))


@dataclass(frozen=True)
class Owned:
    """A task somebody should do, with its connection's name and who answers for it."""

    task: Task
    connection: str
    owner: str
    project: str


WHOSE = ("all", "mine", "team")


def owned(hub: Keyturn, whose: str = "all", who: str = "") -> list[Owned]:
    """The waiting tasks of those that `owned_page` means, most urgent first within an owner. Raises: InvalidInput."""
    _, found = owned_page(hub, whose, who)
    return sorted(found, key=lambda each: each.owner.casefold())


def owned_page(
    hub: Keyturn,
    whose: str = "all",
    who: str = "",
    *,
    connection_id: str = "",
    projects: frozenset[str] | None = None,
    after: Sequence[Any] | None = None,
    limit: int = 1_000_000,
) -> tuple[int, list[Owned]]:
    """How many tasks wait, and the first of them, most urgent first, behind `after`, a task's (due_at, id). `all`; `mine`,
    of connections that `who` owns or that they work on; `team`, of the projects in which they hold a role or own a
    connection, besides. Raises: InvalidInput."""
    if whose not in WHOSE:
        raise InvalidInput("whose tasks: all, mine or team", field="whose")
    me, now = (who or hub.settings.actor).strip(), time.time()

    def work(tx: Tx) -> tuple[int, list[Owned]]:
        team = _team(tx, me) if whose == "team" else frozenset()
        many, found = tasks.page(
            tx,
            connection_id=connection_id,
            projects=projects,
            mine=None if whose == "all" else (me, now, team),
            after=after,
            limit=limit,
        )
        known = connections.by_ids(tx, [task.connection_id for task in found])
        where = people.projects_of(tx, list(known))
        return many, [
            Owned(
                task,
                known[task.connection_id].name,
                known[task.connection_id].owner,
                where[task.connection_id],
            )
            for task in found
        ]

    return hub.store.read(work)


def _team(tx: Tx, me: str) -> frozenset[str]:
    """The projects in which somebody holds a role or owns a connection."""
    account = people.by_login(tx, me.casefold())
    held = {project for _, project, _ in people.roles(tx, account.id)} if account else set()
    return frozenset(held | people.projects_owned(tx, me)) - {""}


def get(hub: Keyturn, task_id: str) -> Task:
    """A task. Raises: NotFound."""
    found = hub.store.read(lambda tx: tasks.by_id(tx, TaskId(task_id)))
    if found is None:
        raise NotFound(
            f"there is no task {task_id}", hint="`keyturn tasks` shows the open ones.", field="task"
        )
    return found


def by_state(hub: Keyturn, state: str) -> Task | None:
    """The consent that waits for this OAuth state, found by equality of its keyed fingerprint: nothing is decrypted.

    None when nobody waits for it, or not any more: a state works once.
    """
    if not state:
        return None
    lookup = hub.roots.fingerprint("state:" + state)
    return hub.store.read(lambda tx: tasks.waiting_by_lookup(tx, lookup))


def claim(hub: Keyturn, task_id: str, who: str = "") -> Task:
    """Says who works on it, for half an hour. Raises: Conflict while somebody else does."""
    task, who, now = _open(hub, task_id), who or hub.settings.actor, time.time()
    if task.claimed_by and task.claimed_by != who and task.claimed_until > now:
        raise Conflict(
            f"{task.claimed_by} works on {task_id}", hint="Ask them, or wait until their claim runs out."
        )

    def work(tx: Tx) -> None:
        tasks.change(tx, task.id, state=TaskState.CLAIMED.value, claimed_by=who, claimed_until=now + CLAIM_S)
        runs.wake(tx, task.run_id, now)  # consumers may have to wait from now on

    hub.store.write(work)
    hub.engine.wake(task.run_id, now)
    return get(hub, task_id)


def submit(
    hub: Keyturn,
    task_id: str,
    values: Mapping[str, str],
    who: str = "",
    also: Callable[[Tx], None] = lambda _tx: None,
) -> Task:
    """Takes a person's answer: checked for shape and for being the old value, sealed, then the machine check follows.
    `also` is written in the same commit.

    Raises: InvalidInput naming the field; the task stays open and nothing is stored.
    """
    task, who, now = _open(hub, task_id), who or hub.settings.actor, time.time()
    connection = hub.store.read(lambda tx: connections.by_id(tx, task.connection_id))
    if connection is None:
        raise NotFound("the task's connection is gone")
    run = hub.store.read(lambda tx: runs.by_id(tx, task.run_id))
    if run is not None:  # a migration asks for the fields of the method it goes to
        connection = replace(connection, method=run.plan.method)
    method = hub.catalog.row_of(connection).method
    body = read_parts(method, task.fields, values)
    if task.kind == "supply":
        _not_known_already(hub, task, values)
    seal = hub.secrets.sealing(task_row(task.id), body, now)
    facts = {"decision": "submitted", "task": task.id, "by": who}

    def work(tx: Tx) -> None:
        now_is = tasks.by_id(tx, task.id)
        if now_is is None or now_is.state not in tasks.OPEN_STATES:
            raise Conflict(f"{task_id} was answered by somebody else meanwhile")
        also(tx)
        seal(tx)
        tasks.change(tx, task.id, state=TaskState.SUBMITTED.value, claimed_by=who, why="")
        journal.append(
            tx, task.connection_id, [journal.Entry(now, task.run_id, task.step, LineKind.DECISION, 0, facts)]
        )
        runs.wake(tx, task.run_id, now)

    hub.store.write(work)
    hub.engine.wake(task.run_id, now)
    return get(hub, task_id)


def _open(hub: Keyturn, task_id: str) -> Task:
    task = get(hub, task_id)
    if task.state not in tasks.OPEN_STATES:
        raise Conflict(f"{task_id} is {task.state.value}", hint="`keyturn tasks` shows the open ones.")
    return task


def _not_known_already(hub: Keyturn, task: Task, values: Mapping[str, str]) -> None:
    """The same value again, pasted by mistake, is caught before any vendor call (keyed comparison)."""
    secret = {str(each["name"]) for each in task.fields if each.get("secret")}
    typed = sorted(value.strip() for name, value in values.items() if name in secret)
    fingerprint = hub.roots.fingerprint("\0".join(typed))
    for version in hub.store.read(lambda tx: versions.by_fingerprint(tx, fingerprint)):
        if version.connection_id == task.connection_id:
            raise InvalidInput(
                f"this is the value of version {version.number}, not a new one",
                hint="Create or reset the credential at the vendor, then paste what it shows.",
                field=next(iter(sorted(secret)), "value"),
            )


def verdict(hub: Keyturn, task_id: str) -> tuple[str, str]:
    """What the machine check said of the latest submission: DONE, RETURNED or SUBMITTED, and why. Both empty for a task
    that nobody has handed in."""
    return verdict_of(hub, get(hub, task_id))


def verdict_of(hub: Keyturn, now_is: Task) -> tuple[str, str]:
    """The same of a task as it was read just now."""
    if now_is.state in {TaskState.RETURNED, TaskState.CANCELLED, TaskState.EXPIRED}:
        return "RETURNED", now_is.why or "it was not accepted"
    if now_is.state is TaskState.DONE:
        return "DONE", "It was checked and accepted."
    if now_is.state in {TaskState.OPEN, TaskState.CLAIMED}:
        return "", ""

    def look(tx: Tx) -> tuple[list[Line], Run | None]:
        return journal.of_run(tx, now_is.run_id), runs.by_id(tx, now_is.run_id)

    lines, run = hub.store.read(look)
    said = [line for line in lines if line.kind is LineKind.DECISION]
    turned = [line for line in said if line.facts.get("decision") in {"turned_down", "returned", "abort"}]
    handed = [line.number for line in said if line.facts.get("task") == now_is.id]
    late = [line for line in turned if not handed or line.number > handed[-1]]
    if late:
        return "RETURNED", str(late[-1].facts.get("why", ""))
    if run is not None and run.cursor > _checked_by(run, now_is):
        return "DONE", "It was checked and accepted."
    return "SUBMITTED", "It is sealed; the check has not finished."


def _checked_by(run: Run, task: Task) -> int:
    """Behind which step the check of a submission lies: a credential counts once it is proven."""
    keys = [step.key for step in run.plan.steps]
    wanted = "prove" if task.kind in {"supply", "consent"} and "prove" in keys else task.step
    return keys.index(wanted) if wanted in keys else 0

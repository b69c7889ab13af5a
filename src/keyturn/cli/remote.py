"""The main commands against a hub elsewhere: `keyturn --server URL`. The same words, options, output and exit codes.

A command is its local twin with another body: it takes the same parameters, asks the hub's API, and hands what comes back
to the same functions that show it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from shlex import quote
from typing import Any

import click

from keyturn.cli import follow, inputs, terminal
from keyturn.cli.commands import connections as shown_connections
from keyturn.cli.commands import debts as shown_debts
from keyturn.cli.commands import plan as shown_plan
from keyturn.cli.commands import runs as shown_runs
from keyturn.cli.commands import tasks as shown_tasks
from keyturn.cli.session import Session
from keyturn.cli.terminal import Exit
from keyturn.client import Client
from keyturn.errors import Conflict, InvalidInput, KeyturnError, NotFound
from keyturn.model.ids import ConnectionId, PrincipalId, RunId
from keyturn.model.plan import Goal, Plan
from keyturn.model.run import TERMINAL, Line, LineKind, Run, RunState, Track
from keyturn.settings import token_for

_EVERY_S = 0.5
_FINAL = frozenset({Goal.DISCONNECT, Goal.REVOKE, Goal.CONTAIN})
_UNDONE = frozenset({RunState.ABORTED_CLEAN})
_RAW = frozenset(  # what the API says of a run besides its page
    {
        "connection_id",
        "track",
        "cursor",
        "reason",
        "attempts",
        "due_at",
        "created_at",
        "started_at",
        "ended_at",
        "plan",
        "steps",
        "lines",
    }
)
_MORE = frozenset(
    {
        "health",
        "project",
        "serving",
        "generation",
        "created_at",
        "run",
        "goal",
        "run_state",
        "debts",
        "tasks",
        "jobs",
        "failing_jobs",
    }
)


@dataclass(frozen=True)
class There:
    """A hub elsewhere, as one command uses it."""

    client: Client
    environment: Mapping[str, str] | None

    # -- what follow.py looks at ---------------------------------------------------------------------------------------

    def get(self, run_id: str) -> Run:
        """A run as it is now."""
        return run_of(self.client.run(run_id))

    def some(self, run_ids: Sequence[str]) -> list[Run]:
        """Runs as they are now, in the order named."""
        return [self.get(run_id) for run_id in run_ids]

    def name_of(self, run: Run) -> str:
        """Its connection's name."""
        return self.client.run(run.id)["connection"]

    def until(self, is_over: Callable[[], bool], timeout_s: float | None) -> None:
        """Looks again and again; the hub's own engine does the work."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not is_over() and (end is None or time.monotonic() < end):
            time.sleep(_EVERY_S)

    # -- finding -------------------------------------------------------------------------------------------------------

    def connection(self, name: str) -> str:
        """A connection's name. Raises: NotFound with the nearest names."""
        try:
            return self.client.connection(name)["name"]
        except NotFound:
            guess = inputs.did_you_mean(name, (c["name"] for c in self.client.connections()))
            hint = guess or "`keyturn list` shows all."
            raise NotFound(f"there is no connection named {name}", hint=hint, field="name") from None

    def run(self, run_id: str) -> Mapping[str, Any]:
        """A run by id, or the latest of a connection. Raises: NotFound."""
        try:
            return self.client.run(run_id)
        except NotFound:
            try:
                name = self.client.connection(run_id)["name"]
            except NotFound:
                raise NotFound(
                    f"there is no run {run_id}", hint="`keyturn runs` shows the latest.", field="run"
                ) from None
        latest = next(self.client.runs(name, 1), None)
        if latest is None:
            raise NotFound(
                f"{name} has no runs", hint=f"`keyturn rotate {quote(name)}` starts one.", field="run"
            )
        return self.client.run(latest["id"])

    def task(self, task_id: str) -> Mapping[str, Any]:
        """A task by id, or the one open task of a connection. Raises: NotFound, Conflict."""
        try:
            return self.client.task(task_id)
        except NotFound:
            try:
                name = self.client.connection(task_id)["name"]
            except NotFound:
                raise NotFound(
                    f"there is no task {task_id}", hint="`keyturn tasks` shows the open ones.", field="task"
                ) from None
        mine = [task for task in self.client.tasks() if task["connection"] == name]
        if len(mine) == 1:
            return mine[0]
        if mine:
            hint = f"Name one: {', '.join(task['id'] for task in mine)}."
            raise Conflict(f"{name} has {len(mine)} open tasks", hint=hint, field="task")
        raise NotFound(f"{name} has no open task", hint="`keyturn tasks` shows all.", field="task")


def command(local: click.Command, name: str, server: str) -> click.Command:
    """A command's twin for a hub elsewhere. Raises: InvalidInput when it works on the hub's machine only."""
    body = _BODIES.get(name)
    if body is None:
        raise InvalidInput(
            f"`keyturn {name}` works on the machine of the hub, without --server",
            hint=f"With --server: {', '.join(sorted(_BODIES))}.",
            field="--server",
        )

    def callback(**given: Any) -> None:
        session = click.get_current_context().ensure_object(Session)
        with _there(server, session.environment) as there:
            code = body(there, **given)
        if code is not Exit.DONE:
            raise click.exceptions.Exit(code)

    return click.Command(
        name,
        params=local.params,
        callback=callback,
        help=local.help,
        epilog=local.epilog,
        short_help=local.short_help,
    )


@contextmanager
def _there(server: str, environment: Mapping[str, str] | None) -> Iterator[There]:
    with Client(server, token_for(server.rstrip("/"), environment)) as client:
        yield There(client, environment)


# -- bodies ------------------------------------------------------------------------------------------------------------


def _list(there: There, *, as_json: bool) -> Exit:
    found = [{k: v for k, v in each.items() if k not in _MORE} for each in there.client.connections()]
    shown_connections.listed(found, as_json)
    return Exit.DONE


def _show(there: There, *, name: str, as_json: bool) -> Exit:
    page = dict(there.client.connection(there.connection(name)))
    page.pop("project", None)
    shown_connections.show(page, as_json)
    return Exit.DONE


def _test(there: There, *, name: str, as_json: bool) -> Exit:
    shown_connections.tested(there.client.test(there.connection(name)), as_json)
    return Exit.DONE


def _plan(there: There, *, name: str, goal: str, to: str, plain: Sequence[str], as_json: bool) -> Exit:
    found = there.connection(name)
    _only_show(name, _planned(there, found, Goal(goal), to, _typed(plain, (), there.environment)), as_json)
    return Exit.DONE


def _only_show(name: str, made: Mapping[str, Any], as_json: bool) -> None:
    shown_plan.told(name, Plan.from_json(made), made["approval"], as_json)


def _planned(
    there: There, name: str, goal: Goal, to: str, values: Mapping[str, str], *, drop: bool = False
) -> Any:
    if goal is Goal.MIGRATE:
        if not to:
            raise InvalidInput("--to is missing", hint="Say which method it moves to.", field="to")
        return there.client.plan(name, goal.value, to=to, values=values)
    if drop:
        return there.client.get(f"connections/{_id(there, name)}/plan/{goal.value}", drop="true")
    return there.client.plan(name, goal.value)


def _id(there: There, name: str) -> str:
    return there.client.connection(name)["id"]


def _typed(
    plain: Sequence[str], secret: Sequence[str], environment: Mapping[str, str] | None
) -> dict[str, str]:
    """`--set` and `--secret` together; which fields there are the hub says."""
    found: dict[str, str] = {}
    for pair in plain:
        name, value = inputs.split(pair, "--set")
        found[name] = value
    for pair in secret:
        name, way = inputs.split(pair, "--secret")
        found[name] = inputs.read_source(name, way, environment or {})
    return found


def _starting(goal: Goal) -> Callable[..., Exit]:
    def start(
        there: There,
        *,
        yes: bool,
        dry_run: bool,
        no_wait: bool,
        reason: str,
        timeout: float | None,
        as_json: bool,
        emergency: str = "",
        accept: Sequence[str] = (),
        name: str = "",
        names: Sequence[str] = (),
        drop: bool = False,
        to: str = "",
        plain: Sequence[str] = (),
        secret: Sequence[str] = (),
    ) -> Exit:
        chosen = list(dict.fromkeys(there.connection(each) for each in (names or [name])))
        values = _typed(plain, secret, there.environment)
        plans = {each: _planned(there, each, goal, to, values, drop=drop) for each in chosen}
        if dry_run:
            for each, made in plans.items():
                _only_show(each, made, as_json)
            return Exit.DONE
        if goal in _FINAL or goal is Goal.MIGRATE:
            _ask(plans, goal, yes)
        for made in plans.values():
            accept = terminal.accept(made["risk"], made["accept"], accept)
        more: dict[str, Any] = {
            **({"accept": list(accept)} if accept else {}),
            **({"emergency": emergency} if emergency else {}),
            **({"drop": True} if drop else {}),
            **({"to": to, "values": values} if goal is Goal.MIGRATE else {}),
        }
        started, codes = _begin(there, chosen, goal, reason, more)
        if no_wait:
            follow.concluded([run_of(r) for r in started], [page_of(r) for r in started], as_json=as_json)
            return terminal.worst(codes)
        codes.append(_watch(there, [str(r["id"]) for r in started], timeout, as_json, new=True))
        return terminal.worst(codes)

    return start


def _begin(
    there: There, names: Sequence[str], goal: Goal, reason: str, more: Mapping[str, Any]
) -> tuple[list[Mapping[str, Any]], list[Exit]]:
    """One call for several, so that the hub knows how many were asked for at once."""
    if len(names) == 1:
        return [there.client.start(names[0], goal.value, reason=reason, **more)], []
    started: list[Mapping[str, Any]] = []
    codes: list[Exit] = []
    for each in there.client.start_several(names, goal.value, reason=reason, **more):
        if run := each.get("run"):
            started.append(there.client.run(run))
            continue
        problem = each.get("problem") or {}
        terminal.failed(Conflict(str(problem.get("detail", "")), hint=str(problem.get("hint", ""))))
        codes.append(Exit.BAD_INPUT)
    return started, codes


def _ask(plans: Mapping[str, Any], goal: Goal, yes: bool) -> None:
    if not yes and terminal.is_interactive():
        for name, made in plans.items():
            shown_plan.show(name, Plan.from_json(made))
            terminal.say()
    terminal.confirm(list(plans), f"{goal.value.capitalize()} {', '.join(plans)}", yes=yes)


def _watch(
    there: There,
    run_ids: Sequence[str],
    timeout: float | None,
    as_json: bool,
    *,
    new: bool = False,
    wanted: frozenset[RunState] = frozenset({RunState.COMPLETE}),
) -> Exit:
    found = follow.watch(there, run_ids, as_json=as_json, timeout_s=timeout, new=new)
    pages = [page_of(there.client.run(run.id)) for run in found]
    return follow.concluded(found, pages, as_json=as_json, wanted=wanted)


def _runs(there: There, *, name: str | None, limit: int, as_json: bool) -> Exit:
    found = list(there.client.runs(there.connection(name) if name else "", limit))
    shown_runs.listed([page_of(r) for r in found], [_seconds(r["created_at"]) or 0.0 for r in found], as_json)
    return Exit.DONE


def _run(there: There, *, run_id: str, following: bool, timeout: float | None, as_json: bool) -> Exit:
    found = there.run(run_id)
    run = run_of(found)
    if following and run.state not in TERMINAL:
        return _watch(there, [run.id], timeout, as_json)
    if as_json:
        terminal.emit({**page_of(found), "steps": found["steps"], "reason": found["reason"]})
    else:
        shown_runs.show(run, page_of(found), [line_of(each) for each in found["lines"]])
    return Exit.DONE


def _going_on(
    act: Callable[[Client, str], Mapping[str, Any]], wanted: frozenset[RunState]
) -> Callable[..., Exit]:
    def go_on(
        there: There, *, run_id: str, as_json: bool, no_wait: bool = False, timeout: float | None = None
    ) -> Exit:
        found = act(there.client, str(there.run(run_id)["id"]))
        if no_wait:
            follow.concluded([run_of(found)], [page_of(found)], as_json=as_json)
            return Exit.DONE
        return _watch(there, [str(found["id"])], timeout, as_json, wanted=wanted)

    return go_on


def _cancel(there: There, *, run_id: str, as_json: bool) -> Exit:
    found = there.client.cancel(str(there.run(run_id)["id"]))
    if not found["ended"]:
        return _watch(there, [str(found["id"])], 60.0, as_json, wanted=_UNDONE)
    return follow.concluded([run_of(found)], [page_of(found)], as_json=as_json, wanted=_UNDONE)


def _tasks(there: There, *, as_json: bool, whose: str | None = "all") -> Exit:
    every = there.client.pages("tasks", whose=whose or "all")
    found = sorted(every, key=lambda task: task["owner"].casefold())
    due = [_seconds(task["due"]) or 0.0 for task in found]
    pages = [{**task_page(task), "owner": task["owner"], "project": task["project"]} for task in found]
    shown_tasks.listed(pages, due, as_json)
    return Exit.DONE


def _task(
    there: There,
    *,
    task_id: str,
    claim: bool,
    submit: tuple[str, ...],
    done: bool,
    no_wait: bool,
    timeout: float | None,
    as_json: bool,
    link: bool = False,
    made_for: str = "",
) -> Exit:
    if link or made_for:
        raise InvalidInput("a link is made on the machine of the hub, or on its pages", field="--link")
    task = there.task(task_id)
    if claim:
        task = there.client.claim(task["id"])
    if not submit and not done:
        if as_json:
            terminal.emit(task_page(task))
        else:
            shown_tasks.show(task_page(task))
        return Exit.DONE
    values = shown_tasks.values_of(task["fields"], submit, _environment(there), ask=done)
    task = there.client.submit(task["id"], values)
    if no_wait:
        shown_tasks.say(task["id"], "SUBMITTED", "It is sealed and will be checked.", as_json)
        return Exit.DONE
    found = follow.watch(there, [task["run"]], as_json=as_json, timeout_s=timeout)
    task, page = there.client.task(task["id"]), page_of(there.client.run(task["run"]))
    if as_json:
        terminal.emit({"task": task["id"], "result": task["result"], "why": task["said"], "run": page})
        return follow.exit_of(found[0])
    shown_tasks.say(task["id"], task["result"], task["said"], as_json)
    return follow.concluded(found, [page], as_json=False)


def _environment(there: There) -> Mapping[str, str]:
    from keyturn.settings import Settings

    return Settings.read(there.environment).environment


def _debts(there: There, *, as_json: bool) -> Exit:
    found = list(there.client.debts())
    shown_debts.listed(found, [_seconds(debt["created"]) or 0.0 for debt in found], as_json)
    return Exit.DONE


def _debt(there: There, *, debt_id: str, again: bool, close: bool, reason: str, as_json: bool) -> Exit:
    if again and close:
        raise InvalidInput("--try and --close are two different things", hint="Give one.", field="--close")
    try:
        debt = there.client.debt(debt_id)
    except NotFound:
        raise NotFound(
            f"there is no debt {debt_id}", hint="`keyturn debts` shows the open ones.", field="debt"
        ) from None
    if close:
        if not reason.strip():
            raise InvalidInput(
                "closing a debt needs a reason", hint="Say how you know, with --reason.", field="reason"
            )
        debt = there.client.close_debt(debt_id, reason)
    elif again and not debt["closed"]:
        debt = there.client.try_debt(debt_id)
    shown_debts.show(debt, as_json, tried=again)
    return Exit.DONE


_BODIES: Mapping[str, Callable[..., Exit]] = {
    "list": _list,
    "show": _show,
    "test": _test,
    "plan": _plan,
    **{goal.value: _starting(goal) for goal in Goal},
    "runs": _runs,
    "run": _run,
    "retry": _going_on(Client.retry, frozenset({RunState.COMPLETE})),
    "rollback": _going_on(Client.rollback, _UNDONE),
    "cancel": _cancel,
    "tasks": _tasks,
    "task": _task,
    "debts": _debts,
    "debt": _debt,
}


# -- what comes back, as what is shown ---------------------------------------------------------------------------------


def page_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """A run's page as a hub on this machine gives it."""
    return {key: value for key, value in found.items() if key not in _RAW}


def task_page(task: Mapping[str, Any]) -> dict[str, Any]:
    """A task's page as a hub on this machine gives it."""
    return {key: value for key, value in task.items() if key not in {"result", "said", "owner", "project"}}


def _seconds(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def line_of(said: Mapping[str, Any]) -> Line:
    """A journal line."""
    return Line(
        said["connection_id"],
        said["number"],
        _seconds(said["at"]) or 0.0,
        said["run_id"],
        said["step"],
        LineKind(said["kind"]),
        0,
        said["facts"],
        said["hash"],
    )


def run_of(found: Mapping[str, Any]) -> Run:
    """A run, as far as it is shown. Raises: KeyturnError for a state this release does not know."""
    try:
        return Run(
            id=RunId(found["id"]),
            connection_id=ConnectionId(found["connection_id"]),
            principal_id=PrincipalId(""),
            goal=Goal(found["goal"]),
            trigger="",
            reason=found["reason"],
            plan=Plan.from_json(found["plan"]),
            state=RunState(found["state"]),
            track=Track(found["track"]),
            cursor=found["cursor"],
            due_at=_seconds(found["due_at"]) or 0.0,
            waiting_for=found["waiting_for"],
            old_version_id=None,
            new_version_id=None,
            attempts=found["attempts"],
            proof=found["proof"],
            created_at=_seconds(found["created_at"]) or 0.0,
            started_at=_seconds(found["started_at"]),
            ended_at=_seconds(found["ended_at"]),
            outcome=found["outcome"],
        )
    except (ValueError, KeyError) as error:
        raise KeyturnError(
            f"the hub says something this release does not know ({type(error).__name__})",
            hint="Use a `keyturn` of the hub's release.",
        ) from None

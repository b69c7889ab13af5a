"""runs, run, retry, cancel, rollback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from keyturn.cli import follow, inputs, terminal, words
from keyturn.cli.session import Session, pass_session
from keyturn.cli.terminal import Exit
from keyturn.errors import NotFound
from keyturn.model.run import TERMINAL, LineKind, Run, RunState

if TYPE_CHECKING:
    from keyturn.bootstrap import Keyturn
    from keyturn.model.run import Line

_UNDONE = frozenset({RunState.ABORTED_CLEAN})


@click.command(
    "runs",
    epilog=terminal.examples("keyturn runs", "keyturn runs orders-db --limit 5", "keyturn runs --json"),
)
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@terminal.json_option
@pass_session
def runs_command(session: Session, name: str | None, limit: int, as_json: bool) -> None:
    """The latest runs, of one connection when NAME is given."""
    from keyturn.operations import runs, systems

    with session.hub() as hub:
        found = runs.recent(hub, inputs.connection(hub, name).name if name else "", limit)
        pages = systems.run_pages(hub, found)
    listed(pages, [run.created_at for run in found], as_json)


def listed(pages: Sequence[Mapping[str, Any]], began: Sequence[float], as_json: bool) -> None:
    """Runs, one a line; `began` are the instants at which they were asked for."""
    if as_json:
        terminal.emit(pages)
        return
    terminal.table(
        ("Run", "Connection", "Goal", "State", "Started", "Took", "Proof", "Waiting for"),
        [
            (
                page["id"],
                page["connection"],
                page["goal"],
                page["state"].replace("_", " "),
                words.clock(at),
                words.took(page["seconds"]),
                page["proof"],
                page["waiting_for"],
            )
            for at, page in zip(began, pages, strict=True)
        ],
        "No runs. `keyturn rotate NAME` starts one.",
    )


@click.command("run", epilog=terminal.examples("keyturn run run_01...", "keyturn run orders-db --follow"))
@click.argument("run_id", metavar="ID")
@click.option(
    "--follow", "following", is_flag=True, help="Work on it and show it until it ends or needs somebody."
)
@click.option("--timeout", type=inputs.length, metavar="LENGTH", help="Follow no longer than this, e.g. 10m.")
@terminal.json_option
@pass_session
def run_command(session: Session, run_id: str, following: bool, timeout: float | None, as_json: bool) -> None:
    """One run: its plan as a checklist, with times from the journal. ID is a run's, or a connection's name: its latest.

    With --follow the exit code says how it stands: 0 done, 1 failed, 3 waiting, 4 needs attention.
    """
    from keyturn.operations import progress, runs, systems

    with session.hub() as hub:
        run = find(hub, run_id)
        if following and run.state not in TERMINAL:
            hub.engine.start()
            code = follow.conclude(
                hub, follow.follow(hub, [run.id], as_json=as_json, timeout_s=timeout), as_json=as_json
            )
        else:
            lines = runs.lines(hub, run.id)
            page = systems.run_page(hub, run)
            if as_json:
                terminal.emit({**page, "steps": progress.steps(run, lines), "reason": run.reason})
            else:
                show(run, page, lines)
            code = Exit.DONE
    raise click.exceptions.Exit(code)


def find(hub: Keyturn, run_id: str) -> Run:
    """A run by id, or the latest of a connection. Raises: NotFound."""
    from keyturn.operations import connections, runs

    try:
        return runs.get(hub, run_id)
    except NotFound as missing:
        try:
            name = connections.find(hub, run_id).name
        except NotFound:
            raise missing from None
        latest = runs.recent(hub, name, 1)
        if not latest:
            raise NotFound(
                f"{name} has no runs", hint=f"`keyturn rotate {quote(name)}` starts one.", field="run"
            ) from None
        return latest[0]


def show(run: Run, page: Mapping[str, Any], lines: Sequence[Line]) -> None:
    """A run as a checklist."""
    from keyturn.operations import progress

    times = progress.times(lines)

    def when(key: str) -> str:
        if key not in times:
            return ""
        first, last = times[key]
        return words.clock(first) + (f" +{words.took(last - first)}" if last - first >= 0.1 else "")

    terminal.say(terminal.style(f"{page['goal']} {page['connection']}", bold=True) + f"  {page['id']}")
    terminal.pairs(
        [
            ("State", words.state(page["state"])),
            ("Started", words.clock(run.created_at)),
            ("Reason", run.reason),
            ("Strategy", f"{page['strategy']}, gap {page['gap_class']}, wanted proof {run.plan.proof.value}"),
            *([("Gap", _gap(page["gap"]))] if page["gap"] else []),
        ],
        "  ",
    )
    terminal.say()
    for line in follow.drawn(run, frozenset(times), when):
        terminal.say(f"  {line}")
    _decisions(lines)
    terminal.say()
    follow.explain(page, run)


def _gap(gap: dict[str, Any]) -> str:
    """How long the old one was refused before the new one was in use."""
    lasts = "" if gap["until"] else ", and it lasts"
    return f"{words.took(gap['seconds'])} without a credential that works, since {gap['since']}{lasts}"


def _decisions(lines: Sequence[Line]) -> None:
    """Why things went as they went: the journal's reasons."""
    told = [
        f"{words.clock(line.at)} {line.step}: {line.facts.get('decision', '')} {line.facts['why']}"
        for line in lines
        if line.kind is LineKind.DECISION and line.facts.get("why")
    ]
    if told:
        terminal.say()
        for text in told[-10:]:
            terminal.say(f"  {text}")


@click.command("retry", epilog=terminal.examples("keyturn retry run_01..."))
@click.argument("run_id", metavar="ID")
@click.option("--no-wait", is_flag=True, help="Make it due and return; serve or worker does the rest.")
@click.option("--timeout", type=inputs.length, metavar="LENGTH", help="Follow no longer than this, e.g. 10m.")
@terminal.json_option
@pass_session
def retry_command(session: Session, run_id: str, no_wait: bool, timeout: float | None, as_json: bool) -> None:
    """Look at a waiting or blocked run now, and follow it."""
    from keyturn.operations import runs

    with session.hub() as hub:
        run = runs.retry(hub, find(hub, run_id).id)
        _go_on(hub, run, no_wait, timeout, as_json)


@click.command("rollback", epilog=terminal.examples("keyturn rollback run_01..."))
@click.argument("run_id", metavar="ID")
@click.option("--no-wait", is_flag=True, help="Turn it round and return; serve or worker does the rest.")
@click.option("--timeout", type=inputs.length, metavar="LENGTH", help="Follow no longer than this, e.g. 10m.")
@terminal.json_option
@pass_session
def rollback_command(
    session: Session, run_id: str, no_wait: bool, timeout: float | None, as_json: bool
) -> None:
    """Undo a run before its point of no return: the old one serves again, the new one is taken away and proven dead.

    Past that point a run only rolls forward; `keyturn plan` marks it.
    """
    from keyturn.operations import runs

    with session.hub() as hub:
        run = runs.rollback(hub, find(hub, run_id).id)
        _go_on(hub, run, no_wait, timeout, as_json, wanted=_UNDONE)


def _go_on(
    hub: Keyturn,
    run: Run,
    no_wait: bool,
    timeout: float | None,
    as_json: bool,
    wanted: frozenset[RunState] = frozenset({RunState.COMPLETE}),
) -> None:
    if no_wait:
        follow.conclude(hub, [run], as_json=as_json)
        return
    hub.engine.start()
    found = follow.follow(hub, [run.id], as_json=as_json, timeout_s=timeout)
    raise click.exceptions.Exit(follow.conclude(hub, found, as_json=as_json, wanted=wanted))


@click.command("cancel", epilog=terminal.examples("keyturn cancel run_01..."))
@click.argument("run_id", metavar="ID")
@terminal.json_option
@pass_session
def cancel_command(session: Session, run_id: str, as_json: bool) -> None:
    """End a run that has changed nothing at the vendor yet. One that has is undone with `keyturn rollback`.

    Where a person was asked to, the old credential is tested first: the run ends when it works.
    """
    from keyturn.operations import runs

    with session.hub() as hub:
        run = runs.cancel(hub, find(hub, run_id).id)
        if run.state not in TERMINAL:
            _go_on(hub, run, no_wait=False, timeout=60.0, as_json=as_json, wanted=_UNDONE)
        code = follow.conclude(hub, [run], as_json=as_json, wanted=_UNDONE)
    raise click.exceptions.Exit(code)

"""Following runs: a live checklist for a person, a line per change for a pipe, silence for JSON; then what it means."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from keyturn.cli import terminal, words
from keyturn.cli.terminal import Exit
from keyturn.errors import StoreUnavailable
from keyturn.model.run import TERMINAL, Run, RunState, Track
from keyturn.operations import progress

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.console import RenderableType

    from keyturn.bootstrap import Keyturn

_WHOLE = 4  # so many runs are shown with all their steps
_REST = 5  # so many times as long as a look took, none follows


class Source(Protocol):
    """Where runs are looked at: a hub that is open here, or one behind its API."""

    def some(self, run_ids: Sequence[str]) -> list[Run]:
        """Runs as they are now, in the order named."""

    def name_of(self, run: Run) -> str:
        """Its connection's name."""

    def until(self, is_over: Callable[[], bool], timeout_s: float | None) -> None:
        """Looks again and again until it is over or the time is up."""


class _Here:
    def __init__(self, hub: Keyturn) -> None:
        from keyturn.operations import runs

        self._hub, self._runs = hub, runs

    def some(self, run_ids: Sequence[str]) -> list[Run]:
        found = self._runs.some(self._hub, run_ids)
        if len(found) < len(run_ids):
            return [self._runs.get(self._hub, run_id) for run_id in run_ids]  # says which there is not
        return found

    def name_of(self, run: Run) -> str:
        return self._runs.name_of(self._hub, run)

    def until(self, is_over: Callable[[], bool], timeout_s: float | None) -> None:
        self._hub.engine.run_until(is_over, timeout_s)


def follow(
    hub: Keyturn,
    run_ids: Sequence[str],
    *,
    as_json: bool = False,
    timeout_s: float | None = None,
    new: bool = False,
) -> list[Run]:
    """Shows runs until each has ended or needs somebody, or the time is up. The engine must have been started.

    Of a run that is not `new`, only what changes from now on is told line by line.
    """
    return watch(_Here(hub), run_ids, as_json=as_json, timeout_s=timeout_s, new=new)


def watch(
    source: Source,
    run_ids: Sequence[str],
    *,
    as_json: bool = False,
    timeout_s: float | None = None,
    new: bool = False,
) -> list[Run]:
    """The same, wherever the runs are."""
    found = source.some(run_ids)
    names = {run.id: source.name_of(run) for run in found}
    show: Display = (
        _Silent()
        if as_json
        else _Live(names)
        if terminal.is_terminal()
        else _Lines(names, () if new else found)
    )

    rested_at = 0.0

    def look() -> bool:
        nonlocal found, rested_at
        began = time.monotonic()
        if began < rested_at:
            return False
        try:
            going = iter(source.some([run.id for run in found if run.state not in TERMINAL]))
        except StoreUnavailable:
            return False
        found = [run if run.state in TERMINAL else next(going) for run in found]
        show.update(found)
        # It is asked after every change: looking at thousands must not take the time in which they could go on.
        rested_at = time.monotonic() + _REST * (time.monotonic() - began)
        return all(progress.is_still(run) for run in found)

    try:
        with show.running():
            source.until(look, timeout_s)
    except KeyboardInterrupt:
        terminal.note(
            "Not followed any more. A run loses nothing: it goes on at the next serve, worker or --follow."
        )
    return found


class Display(Protocol):
    """How changes are shown."""

    def running(self) -> AbstractContextManager[Any]:
        """Around the whole."""

    def update(self, found: Sequence[Run]) -> None:
        """The runs as they are now."""


class _Silent:
    def running(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def update(self, found: Sequence[Run]) -> None:
        """JSON is printed at the end."""


class _Lines:
    """A line per change."""

    def __init__(self, names: dict[Any, str], known: Sequence[Run]) -> None:
        self._names = names
        self._seen: dict[str, tuple[Track, int, str]] = {
            r.id: (r.track, r.cursor, progress.waits(r)) for r in known
        }

    def running(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def update(self, found: Sequence[Run]) -> None:
        for run in found:
            track, cursor, waits = self._seen.get(run.id, (Track.FORWARD, 0, ""))
            steps = run.plan.steps if run.track is Track.FORWARD else run.plan.rollback
            if run.track is not track:
                self._line(run, "rolling back")
                cursor = 0
            for step in steps[cursor : run.cursor]:
                self._line(run, f"done: {step.title}")
            if run.cursor < cursor and run.track is track and run.cursor < len(steps):
                self._line(run, f"again: {steps[run.cursor].title}")
            said = progress.waits(run)
            if said and said != waits:
                self._line(run, said)
            self._seen[run.id] = (run.track, run.cursor, said)

    def _line(self, run: Run, text: str) -> None:
        terminal.say(f"{words.clock(time.time())} {self._names[run.id]} {run.goal.value}: {text}")


class _Live:
    """Checklists that change in place."""

    def __init__(self, names: dict[Any, str]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._names = names
        self._found: Sequence[Run] = ()
        console = Console(no_color=not terminal.has_colours(), highlight=False)
        self._height = console.height
        self._live = Live(
            console=console,
            get_renderable=self._draw,
            refresh_per_second=5,
            vertical_overflow="crop",
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def running(self) -> AbstractContextManager[Any]:
        return self._live

    def update(self, found: Sequence[Run]) -> None:
        self._found = found

    def _draw(self) -> RenderableType:
        from rich.text import Text

        found = self._found
        lines: list[str] = []
        if len(found) <= _WHOLE:
            for run in found:
                lines += [self._head(run), *(f"  {line}" for line in drawn(run))]
        else:
            waiting = sorted(found, key=lambda r: (r.state in TERMINAL, r.created_at))
            room = max(5, self._height - 3)
            lines += [self._head(run) for run in waiting[:room]]
            ended = sum(run.state in TERMINAL for run in found)
            lines.append(f"{ended} of {len(found)} ended")
        return Text.from_ansi("\n".join(lines), no_wrap=True, overflow="ellipsis")

    def _head(self, run: Run) -> str:
        name = terminal.style(self._names[run.id], bold=True)
        elapsed = words.took((run.ended_at or time.time()) - run.created_at)
        return f"{name} {run.goal.value}  {words.state(run.state.value)}  {elapsed}"


def drawn(
    run: Run, said: frozenset[str] = frozenset(), details: Callable[[str], str] = lambda _: ""
) -> list[str]:
    """A checklist's lines; below the present step, what it waits for and when it is looked at again."""
    lines = []
    for item in progress.checklist(run, said):
        who = f" ({item.step.who})" if item.step.who != "hub" else ""
        late = details(item.key)
        gap = f"  {terminal.style(late, dim=True)}" if late else ""
        lines.append(f"{words.mark(item.mark)} {terminal.clean(item.step.title)}{who}{gap}")
        if item.mark in {"now", "person", "stop"} and run.state not in TERMINAL:
            said_now = progress.waits(run)
            if said_now:
                again = f", next look {words.clock(run.due_at)}" if run.due_at > time.time() else ""
                lines.append(f"    {terminal.style(terminal.clean(said_now) + again, 'yellow')}")
    return lines


# -- what it means -----------------------------------------------------------------------------------------------------


def exit_of(run: Run, *, wanted: frozenset[RunState] = frozenset({RunState.COMPLETE})) -> Exit:
    """The exit code of a run that was followed."""
    if run.state in wanted:
        return Exit.DONE
    if run.state in {
        RunState.COMPLETE_WITH_DEBT,
        RunState.ABORTED_WITH_DEBT,
        RunState.BLOCKED,
        RunState.LOST,
    }:
        return Exit.ATTENTION
    return Exit.FAILED if run.state in TERMINAL else Exit.PERSON


def conclude(
    hub: Keyturn,
    found: Sequence[Run],
    *,
    as_json: bool,
    wanted: frozenset[RunState] = frozenset({RunState.COMPLETE}),
) -> Exit:
    """One object per run, or for people what serves, what is alive and what to do next."""
    from keyturn.operations import systems

    return concluded(found, systems.run_pages(hub, found), as_json=as_json, wanted=wanted)


def concluded(
    found: Sequence[Run],
    pages: Sequence[Mapping[str, Any]],
    *,
    as_json: bool,
    wanted: frozenset[RunState] = frozenset({RunState.COMPLETE}),
) -> Exit:
    """The same of runs whose pages are known."""
    for run, page in zip(found, pages, strict=True):
        if as_json:
            terminal.emit(page)
        else:
            explain(page, run)
    return terminal.worst([exit_of(run, wanted=wanted) for run in found])


def explain(page: Mapping[str, Any], run: Run) -> None:
    """A run's end, or why there is none yet."""
    name, took = page["connection"], words.took(page["seconds"])
    if run.state is RunState.COMPLETE:
        proof = f", proof {page['proof']}" if page["proof"] else ""
        terminal.say(f"{name}: {page['goal']} {words.state('complete')} in {took}{proof}; {page['serving']}.")
        return
    terminal.say(f"{name}: {page['goal']} {words.state(page['state'])} after {took} ({page['id']})")
    terminal.pairs(
        [
            ("Why", page["waiting_for"] or page["outcome"]),
            ("Serving", page["serving"]),
            ("Alive remotely", ", ".join(page["alive"]) or "nothing known"),
            *(("Task", f"{t['id']}  {t['title']}") for t in page["tasks"]),
            *(("Open", t["url"]) for t in page["tasks"] if t["url"]),
            *(("Debt", f"{d['id']}  {d['why']}") for d in page["debts"]),
            ("Next", page["next"]),
        ],
        "  ",
    )

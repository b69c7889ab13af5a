"""Several connections at once: one combined plan, then one page on which all their runs are followed."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.responses import Response

from keyturn.errors import Conflict, InvalidInput, KeyturnError, NotFound
from keyturn.issued import kinds
from keyturn.model.card import GapClass
from keyturn.model.credential import Connection
from keyturn.model.ids import new_id
from keyturn.model.plan import Goal, Plan
from keyturn.model.run import Run, Track
from keyturn.operations import approvals, overview, progress, runs, systems
from keyturn.operations.rights import Operation
from keyturn.web import words
from keyturn.web.pages.plans import digest
from keyturn.web.site import Visit

MOST, PAGE = 100, 50
_GOALS = (Goal.ROTATE, Goal.CONTAIN)


@dataclass(frozen=True)
class Part:
    """One connection of the combined plan. `why` says what keeps it out."""

    connection: Connection
    plan: Plan | None
    why: str = ""
    second: str = ""  # why a second person is asked first

    @property
    def persons(self) -> int:
        """How many of its steps a person does."""
        return sum(step.who == "person" for step in self.plan.steps) if self.plan else 0


def _goal(text: str) -> Goal:
    found = next((goal for goal in _GOALS if goal.value == text), None)
    if found is None:
        raise NotFound("there is no such page")
    return found


def _chosen(it: Visit, named: list[str]) -> list[tuple[Connection, str]]:
    """The connections that were ticked, each once, and their projects. Raises: InvalidInput, NotFound."""
    ids = list(dict.fromkeys(named))
    if not ids:
        raise InvalidInput("nothing was chosen", hint="Tick the connections in the list first.")
    if len(ids) > MOST:
        raise InvalidInput(f"at most {MOST} connections at once", hint="Choose fewer of them.")
    return [it.connection(each) for each in ids]


def show(it: Visit, goal: str) -> Response:
    """What would happen to all of them."""
    return _show(it, _goal(goal), it.request.query_params.getlist("id"))


def _show(it: Visit, goal: Goal, ids: list[str], status: int = 200, wrong: str = "") -> Response:
    chosen = _chosen(it, ids)
    parts = [_part(it, connection, project, goal, len(chosen)) for connection, project in chosen]
    fit = [part for part in parts if part.plan]
    worst = max((part.plan.gap_class for part in fit if part.plan), key=list(GapClass).index, default=None)
    return it.render(
        "bulk.html",
        status,
        goal=goal,
        parts=parts,
        fit=fit,
        worst=worst,
        persons=sum(part.persons > 0 for part in fit),
        digests={part.connection.id: digest(part.plan) for part in fit if part.plan},
        trigger=it.text("trigger") or new_id("web"),
        reason=it.text("reason"),
        gaps=systems.GAPS,
        wrong=wrong,
    )


def _part(it: Visit, connection: Connection, project: str, goal: Goal, many: int) -> Part:
    if not it.may(Operation.RUN_ROTATE, project):
        return Part(connection, None, "Your role lets you see it, not start it.")
    if kinds.is_ours(connection.system, connection.method):
        return Part(connection, None, "This hub issued it: it is reissued, so that its value is shown.")
    last = next(iter(runs.recent(it.hub, connection.id, 1)), None)
    if last is not None and last.ended_at is None and goal is not Goal.CONTAIN:
        return Part(connection, None, "A run of it has not ended.")
    try:
        made = runs.plan(it.hub, connection.id, goal)
        if made.accept:
            return Part(connection, None, "It has a risk to accept in words: start it from its own page.")
        return Part(connection, made, second=approvals.needed(it.hub, connection, made, many))
    except KeyturnError as error:
        return Part(connection, None, words.sentence(error.message))


def start(it: Visit, goal: str) -> Response:
    """Starts those whose plans are as shown. What could not be started is said, and keeps no other back."""
    wanted = _goal(goal)
    ids = [str(each) for each in it.form.getlist("id")]
    chosen = _chosen(it, ids)
    if wanted is Goal.CONTAIN and it.text("sure") != "yes":
        return _show(it, wanted, ids, 422, "Say that you are sure.")
    started, not_started = [], []
    for connection, _ in chosen:
        try:
            started.append(_start(it, connection, wanted, len(chosen)))
        except KeyturnError as error:
            not_started.append(f"{connection.name} ({error.message})")
    said = f"{len(started)} {'run is' if len(started) == 1 else 'runs are'} started."
    if not_started:
        said += f" Not started: {'; '.join(not_started)}."
    if not started:
        return it.redirect("/connections", said, "bad")
    address = urlencode([("run", run.id) for run in started])
    return it.redirect(f"/runs?{address}", said, "warn" if not_started else "good")


def _start(it: Visit, connection: Connection, goal: Goal, many: int) -> Run:
    shown = it.text(f"digest-{connection.id}")
    if kinds.is_ours(connection.system, connection.method):
        raise Conflict("issued by this hub")

    def as_shown(made: Plan) -> Plan:
        if digest(made) != shown:
            raise Conflict("its plan is another one by now")
        return made

    run = runs.start(
        it.hub,
        connection.id,
        goal,
        reason=" ".join(it.text("reason").split())[:300],
        trigger=it.text("trigger")[:60],
        shape=as_shown,
        emergency=" ".join(it.text("emergency").split())[:300],
        many=many,
        address=it.address,
    )
    it.done(Operation.RUN_ROTATE, connection.name, run=run.id, verb=f"{goal.value}, several at once")
    return run


def follow(it: Visit) -> Response:
    """Several runs on one page, live; the latest ones when none are named."""
    named = list(dict.fromkeys(it.request.query_params.getlist("run")))[:MOST]
    place = it.place("runs")
    found = (
        runs.some(it.hub, named)
        if named
        else runs.listed(
            it.hub, projects=it.projects(), before=tuple(place) if place else None, limit=PAGE + 1
        )
    )
    last = found[PAGE - 1] if len(found) > PAGE and not named else None
    found = found[:PAGE] if not named else found
    names = overview.names(it.hub, [run.connection_id for run in found], it.projects())
    shown = [run for run in found if run.connection_id in names]
    if named and len(shown) < len(named):
        raise NotFound("there is no such run")
    said = runs.steps_said(it.hub, [run.id for run in shown if run.track is Track.ROLLBACK])
    lines = []
    for run in shown:
        items = progress.checklist(run, said.get(run.id, frozenset()))
        done = sum(item.mark == "done" for item in items)
        lines.append((run, names[run.connection_id], done, len(items), progress.waits(run)))
    ended = sum(overview.has_ended(run) for run in shown)
    return it.render(
        "runs.html",
        lines=lines,
        named=named,
        next=it.behind("runs", [last.created_at, last.id]) if last else "",
        ended=ended,
        address=urlencode([("run", each) for each in named]),
    )

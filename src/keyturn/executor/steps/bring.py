"""Steps in which a person brings the new credential: pasted into a task, or consented to in a browser."""

from __future__ import annotations

import json
import math
from dataclasses import replace

from keyturn.contract.values import Candidate
from keyturn.errors import (
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    OutcomeUnknown,
    UnexpectedAnswer,
    ValueRefused,
)
from keyturn.executor.context import Context
from keyturn.executor.moves import Abort, Done, Move, Wait
from keyturn.executor.retries import soon
from keyturn.executor.tasking import open_task, task_of, waiting_for
from keyturn.keymaking import pkce
from keyturn.model.card import Strategy
from keyturn.model.credential import ConnectionState, Provenance, Ref, State, Version
from keyturn.model.plan import Step
from keyturn.model.run import LineKind, RunState, Task, TaskState
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict
from keyturn.storage import connections, tasks
from keyturn.vault.secrets import receipt_row, task_row

# How often the old credential is looked at while a person may have ended it: while somebody is at it, and else.
POLL_S = 5.0
SLOW_POLL_S = 300.0
JUST_ASKED_S = 1800.0  # whoever asked for the run is likely to be at it


def ask(ctx: Context, step: Step) -> Move:
    """S5, S6: instructions with this connection's names, write-only fields; the paste is sealed before it is looked at."""
    if ctx.new is not None and ctx.new.state in {State.ISSUED, State.PROVEN, State.CURRENT}:
        return Done()
    task = task_of(ctx, step)
    if task is None:
        if not _by_the_clock(ctx):
            _pause(ctx, step)
        if not step.reversible:  # from now on the person may have ended the old one
            ctx.line(step, LineKind.INTENT, by="person", deadline_s=0.0)
        opened = open_task(ctx, step, kind="supply", title=step.title)
        return replace(opened, until=min(opened.until, _next_look(ctx, step, None)))
    if task.state is TaskState.SUBMITTED:
        if not step.reversible:
            ctx.applied(step, by="person")
        take(ctx, step, task)
        return Done()
    if task.state in {TaskState.EXPIRED, TaskState.CANCELLED}:
        return _given_up(ctx, step, task)
    _watch_old(ctx, step)
    if _has_begun(ctx, step, task):
        _pause(ctx, step)
    elif _by_the_clock(ctx):
        _resume(ctx, step)
    waiting = waiting_for(ctx, step, task)
    return replace(waiting, until=min(waiting.until, _next_look(ctx, step, task)))


def _by_the_clock(ctx: Context) -> bool:
    """Whether nobody asked for this run just now: then consumers wait only once somebody has taken the task up."""
    return ctx.run.trigger.startswith("clock/")


def _has_begun(ctx: Context, step: Step, task: Task) -> bool:
    """Whether somebody is at it: has claimed the task, or the old one is refused already."""
    claimed = bool(task.claimed_by) and task.claimed_until > ctx.hub.clock()
    return claimed or _is_out(ctx, step)


def _pause(ctx: Context, step: Step) -> None:
    """Consumers wait from now on: what they sent with a dead credential would count against the account."""
    if step.params.get("pause") and ctx.connection.state is ConnectionState.ACTIVE:
        paused = ConnectionState.PAUSED.value
        ctx.later(lambda tx: connections.change(tx, ctx.connection.id, state=paused))


def _resume(ctx: Context, step: Step) -> None:
    """Whoever took the task up let it go, and the old one still works."""
    if step.params.get("pause") and ctx.connection.state is ConnectionState.PAUSED:
        active = ConnectionState.ACTIVE.value
        ctx.later(lambda tx: connections.change(tx, ctx.connection.id, state=active))


def _next_look(ctx: Context, step: Step, task: Task | None) -> float:
    """When the old one is looked at again, so that the outage clock is exact; never once it is refused."""
    if not _old_may_die(ctx) or ctx.old is None or _is_out(ctx, step):
        return math.inf
    now = ctx.hub.clock()
    asked_now = not _by_the_clock(ctx) and (task is None or now < task.created_at + JUST_ASKED_S)
    is_near = asked_now or (task is not None and _has_begun(ctx, step, task))
    return now + (POLL_S if is_near else SLOW_POLL_S) * ctx.hub.patience


def _given_up(ctx: Context, step: Step, task: Task) -> Move:
    """Nobody answered. Where the person may have ended the old one, a test of it decides: nothing happened, or LOST."""
    why = f"the task was {task.state.value}: {task.title}"
    if step.reversible or ctx.old is None:
        return Abort(why)
    found = ctx.probe(step, ctx.old, what="old", may_fail=True)
    if found.verdict is Verdict.ACCEPTED:
        ctx.line(step, LineKind.OUTCOME, outcome="not_applied", looked=True, why="the old one still works")
        return Abort(why)
    if found.verdict is Verdict.UNKNOWN:
        return soon(ctx, f"no clear answer about the old credential ({found.code})", found.wait_s)
    ctx.later(lambda tx: tasks.change(tx, task.id, state=TaskState.CANCELLED.value, why="asked again"))
    lost = open_task(
        ctx, step, kind="supply", title=step.title, why="the old one is refused: a new one is needed"
    )
    return Wait(
        lost.until, "LOST: the old credential is refused and nobody brought the new one", RunState.LOST
    )


def take(ctx: Context, step: Step, task: Task) -> None:
    """Makes a version of what a person submitted."""
    parts: dict[str, str] = json.loads(ctx.hub.secrets.get(task_row(task.id)))
    public = frozenset(f.name for f in ctx.row.method.fields if f.part and not f.secret)
    kept = {name: value for name, value in _serving_value(ctx).items() if name in public}
    material = Material({**kept, **parts}, public)
    ref = _place_of(ctx, material)
    ctx.add_version(Candidate(ref, material, ref.ends_at), State.ISSUED, Provenance.HUMAN)
    ctx.line(step, LineKind.RECEIPT, task=task.id, by=task.claimed_by)


def _serving_value(ctx: Context) -> Material:
    """What serves, or nothing: the value of a dead one may be destroyed already."""
    serving = ctx.serving()
    return ctx.material(serving) if serving and serving.state is not State.DEAD else Material({})


def _place_of(ctx: Context, material: Material) -> Ref:
    """Where the paste sits at the vendor; the name a person gave is what later steps call it by."""
    label = material.get("key_name", material.get("name", ""))
    found = Ref(id=material.get("key_id", ""))
    if ctx.can.locator is not None:
        try:
            found = ctx.can.locator.locate(ctx.access(), material)
        except KeyturnError:
            pass  # a value that cannot be placed is turned down by its test, with the vendor's own words
    return replace(found, label=found.label or label)


def _old_may_die(ctx: Context) -> bool:
    return ctx.card.strategy is Strategy.REGENERATE


def _is_out(ctx: Context, step: Step) -> bool:
    return any(facts.get("what") == "outage" for facts, _ in ctx.lines(step, LineKind.OBSERVED))


def _watch_old(ctx: Context, step: Step) -> None:
    """While a person resets a one-slot credential, the old one is looked at so that the outage clock is exact."""
    if not _old_may_die(ctx) or ctx.old is None or _is_out(ctx, step):
        return
    found = ctx.watch(step, ctx.old, what="old_while_waiting")
    if found.verdict is Verdict.REJECTED:
        ctx.line(
            step,
            LineKind.OBSERVED,
            what="outage",
            why="the old credential is refused; the new one is not here yet",
        )


def consent(ctx: Context, step: Step) -> Move:
    """S7: the session is sealed, a person consents, the code is exchanged once; the raw answer is sealed unread."""
    authorizer = ctx.can.authorizer
    if authorizer is None:
        return Abort("this connector has no consent page")
    client = client_of(ctx, step)
    if (
        ctx.new is not None
        and ctx.new.state in {State.ISSUED, State.PROVEN, State.CURRENT}
        and not is_bare_client(ctx, ctx.new)
    ):
        return Done()
    task = task_of(ctx, step)
    if task is None:
        session = {
            "state": pkce.state(),
            "code_verifier": pkce.verifier(),
            "redirect_uri": ctx.hub.redirect_uri,
        }
        url = authorizer.begin(ctx.access(client), session)
        returned = [
            facts["why"] for facts, _ in ctx.lines(step, LineKind.DECISION) if facts["decision"] == "returned"
        ]
        why = returned[-1] if returned else ""
        if client is not None:
            ctx.line(step, LineKind.DECISION, decision="client", version=client.id)
        return open_task(ctx, step, kind="consent", title=step.title, url=url, session=session, why=why)
    if task.state is not TaskState.SUBMITTED:
        if task.state in {TaskState.EXPIRED, TaskState.CANCELLED}:
            return Abort(f"the task was {task.state.value}: {task.title}")
        return waiting_for(ctx, step, task)
    attempt = len(ctx.lines(step, LineKind.INTENT))
    access = ctx.access(client)
    if ctx.open_intent(step) is not None:
        raw = ctx.hub.secrets.find(receipt_row(ctx.run.id, ctx.key(step), attempt))
        if raw is not None:
            return _granted(ctx, step, task, raw)
        ctx.owe(
            "unknown_grant", "a consent was answered and the answer lost; the grant cannot be named", None
        )
        return _return(ctx, step, task, "the answer to the consent was lost; please consent once more")
    session = json.loads(ctx.hub.secrets.get(f"{task_row(task.id)}:session"))
    callback = json.loads(ctx.hub.secrets.get(task_row(task.id)))["callback_url"]
    try:
        raw = ctx.act(step, lambda: authorizer.exchange(access, session, callback), task=task.id)
    except (InvalidInput, ValueRefused, CredentialRejected) as error:
        return _return(ctx, step, task, error.message)
    except (OutcomeUnknown, UnexpectedAnswer) as error:
        ctx.owe(
            "unknown_grant", "a consent was answered and the answer lost; the grant cannot be named", None
        )
        ctx.line(
            step, LineKind.OUTCOME, outcome="not_applied", why="a code works once; the person is asked again"
        )
        return _return(ctx, step, task, f"the exchange failed ({error.message}); please consent once more")
    ctx.receipt(step, attempt + 1, raw)
    return _granted(ctx, step, task, raw)


def _granted(ctx: Context, step: Step, task: Task, raw: bytes) -> Move:
    """A grant that would run out where the old one renewed itself is not taken: the person consents once more."""
    authorizer = ctx.can.authorizer
    if authorizer is None:
        return Abort("this connector has no consent page")
    client = client_of(ctx, step)
    try:
        candidate = authorizer.read(ctx.access(client), raw, None)
    except UnexpectedAnswer as error:  # the code is used up: only another consent gives another answer
        ctx.owe(
            "unknown_grant",
            "a consent was answered in a way that cannot be read; the grant cannot be named",
            None,
        )
        return _return(
            ctx, step, task, f"the answer cannot be read ({error.message}); please consent once more"
        )
    before = _serving_value(ctx)
    ctx.applied(step)  # from here on nothing may fail: an answer that is called applied is not read again
    if before.get("refresh_token") and not candidate.material.get("refresh_token"):
        unwanted = ctx.add_version(candidate, State.REFUSED, Provenance.GRANT)
        ctx.owe("unwanted", "consented to without a refresh token", unwanted)
        _supersede(ctx, step, client, unwanted)
        ctx.new_id = None
        ctx.column(new_version_id=None)
        return _return(
            ctx, step, task, "the vendor gave no refresh token; consent again and allow offline access"
        )
    _supersede(ctx, step, client, ctx.add_version(candidate, State.ISSUED, Provenance.GRANT))
    return Done()


def is_bare_client(ctx: Context, version: Version) -> bool:
    """Whether it is a client that was registered for a consent, without any grant yet: it opens nothing."""
    return ctx.card.own_client and not {"access_token", "refresh_token"} & set(ctx.material(version))


def client_of(ctx: Context, step: Step) -> Version | None:
    """The client this consent is for, where each grant has its own: registered a step earlier, and kept when a grant
    is turned down, whose value then holds it.
    """
    if not ctx.card.own_client:
        return None
    if ctx.new is not None:
        return ctx.new
    used = [
        facts["version"] for facts, _ in ctx.lines(step, LineKind.DECISION) if facts["decision"] == "client"
    ]
    return ctx.versions.get(used[-1]) if used else None


def _supersede(ctx: Context, step: Step, client: Version | None, grant: Version) -> None:
    """From now on the grant's value holds the client as well."""
    if client is None:
        return
    ctx.line(step, LineKind.DECISION, decision="client", version=grant.id)
    if is_bare_client(ctx, client):
        ctx.move(client, State.DEAD)


def _return(ctx: Context, step: Step, task: Task, why: str) -> Move:
    """Gives the task back with a fresh consent page: a state and a code work once."""
    if ctx.open_intent(step) is not None:
        ctx.line(step, LineKind.OUTCOME, outcome="not_applied", why=why)
    ctx.line(step, LineKind.DECISION, decision="returned", why=why)
    ctx.later(lambda tx: tasks.change(tx, task.id, state=TaskState.CANCELLED.value, why=why))
    return Wait(ctx.hub.clock(), why)

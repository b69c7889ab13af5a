"""The pointer: forward, back, and the bookkeeping at the end of a goal."""

from __future__ import annotations

from dataclasses import replace

from keyturn.errors import LeaseLost
from keyturn.executor.context import Context
from keyturn.executor.moves import Abort, Done, Move, Wait
from keyturn.executor.retries import soon
from keyturn.executor.steps.death import unused_until
from keyturn.executor.steps.make import settle_forward
from keyturn.model.card import RevokeScope, Strategy
from keyturn.model.credential import ConnectionState, State, Version
from keyturn.model.plan import Step
from keyturn.model.run import LineKind, RunState
from keyturn.model.verdict import Verdict, mismatch
from keyturn.planner.shapes import ONE_SLOT
from keyturn.storage import connections
from keyturn.storage.database import Tx


def cutover(ctx: Context, step: Step) -> Move:
    """One local transaction: new CURRENT, old DRAINING (or already ended), generation up by one (P2, P3)."""
    new = ctx.new
    if new is None or new.state not in {State.PROVEN, State.CURRENT}:
        return Abort("there is nothing proven to switch to")
    if new.state is State.CURRENT:
        return Done()
    old = ctx.serving()
    if old is not None and old.id != new.id:
        ctx.move(old, State.REVOKED if ctx.card.strategy in ONE_SLOT else State.DRAINING)
    ctx.move(new, State.CURRENT)
    ctx.forget_refused()
    _flip(ctx, new)
    generation, of = ctx.connection.generation, old.id if old else None
    ctx.line(step, LineKind.DECISION, decision="cutover", to=new.id, of=of, generation=generation)
    return Done()


def _flip(ctx: Context, to: Version) -> None:
    """Buffers the switch, from the generation this run knows: whoever else switched meanwhile is not overwritten."""
    known = ctx.connection
    ctx.connection = replace(known, generation=known.generation + 1, current_version_id=to.id)
    ctx.switching = True

    def work(tx: Tx) -> None:
        switched = connections.flip(tx, known, to.id)
        if switched is None:
            raise LeaseLost("the connection was switched by somebody else", hint="The run looks anew.")
        state, method = switched
        if to.method and to.method != method:
            connections.change(tx, known.id, method=to.method)
        if state in {ConnectionState.NEEDS_REAUTH, ConnectionState.PAUSED}:
            connections.change(tx, known.id, state=ConnectionState.ACTIVE.value)

    ctx.later(work)


def flip_back(ctx: Context, step: Step) -> Move:
    """Rollback after the cut-over: only to an old version that a fresh test accepts; re-enabled if it was off."""
    old, new = ctx.old, ctx.new
    if new is None or new.state is not State.CURRENT or old is None:
        return Done()  # the pointer never moved
    if old.state is State.DISABLED and ctx.can.disabler is not None:
        disabler = ctx.can.disabler
        access, ref = ctx.access(new), old.ref
        ctx.act(step, lambda: disabler.enable(access, ref), ref=ref.as_json(), what="enable")
        ctx.applied(step)
        old = ctx.move(old, State.DRAINING)
    found = ctx.probe(step, old, what="old", may_fail=True)
    wrong = mismatch(ctx.connection.identity, found.identity) if found.verdict is Verdict.ACCEPTED else ()
    if wrong:
        return Wait(
            ctx.hub.clock() + 3600,
            f"the old credential belongs to another account by now ({', '.join(wrong)} differ); the new one stays in use",
            RunState.BLOCKED,
        )
    if found.verdict is Verdict.ACCEPTED:
        ctx.move(new, State.DRAINING)
        ctx.move(old, State.CURRENT)
        _flip(ctx, old)
        ctx.line(step, LineKind.DECISION, decision="flipped_back", to=old.id, of=new.id)
        return Done()
    if found.verdict is Verdict.UNKNOWN or ctx.hub.clock() < old.changed_at + ctx.policy.settle_create(
        ctx.card
    ):
        return soon(ctx, f"no clear answer about the old credential ({found.code})", found.wait_s)
    return Wait(
        ctx.hub.clock() + 3600,
        f"the old credential is refused ({found.code}); the new one stays in use",
        RunState.BLOCKED,
    )


def remove(ctx: Context, step: Step) -> Move:
    """Rollback: takes the candidate away at the vendor. Not found counts as done."""
    move = settle_forward(ctx)
    if move is not None:
        return move
    new, revoker = ctx.new, ctx.can.revoker
    if new is None or new.state in {State.DEAD, State.REVOKED}:
        return Done()
    if new.state is State.CURRENT:
        return Abort("the new credential is in use")
    if ctx.card.strategy is Strategy.CONSENT and ctx.card.revoke_scope is not RevokeScope.CREDENTIAL:
        why = "revoking it would end the old grant too"
        ctx.owe("unrevocable_grant", why, new, **unused_until(ctx, new))
        return Done()
    if revoker is None:
        return Done()
    material, acting = ctx.material(new), ctx.old
    ctx.act(
        step,
        lambda: revoker.revoke(ctx.access(acting), new.ref, material),
        version=new.id,
        ref=new.ref.as_json(),
    )
    ctx.applied(step)
    ctx.move(new, State.REVOKED)
    return Done()


def close(ctx: Context, step: Step) -> Move:
    """The last line of a goal that changes what the connection is."""
    if step.params.get("supersede") and ctx.old is not None and ctx.old.state is State.DRAINING:
        ctx.line(
            step, LineKind.DECISION, decision="superseded", version=ctx.old.id, why="its refresh used it up"
        )
        ctx.move(ctx.old, State.DEAD)
    state = step.params.get("state")
    if state:
        for version in list(ctx.versions.values()):
            if state != ConnectionState.ACTIVE.value and version.state is State.CURRENT:
                ctx.move(version, State.REVOKED)
        ctx.later(lambda tx: connections.change(tx, ctx.connection.id, state=state))
        if state != ConnectionState.ACTIVE.value:
            ctx.later(lambda tx: connections.change(tx, ctx.connection.id, current_version_id=None))
    ctx.line(step, LineKind.DECISION, decision="closed", state=state or "superseded")
    return Done()

"""How an old credential goes: its users leave, it is switched off, ended; each call idempotent, so resolving is repeating."""

from __future__ import annotations

from functools import partial

from keyturn.consumers.gate import why_closed
from keyturn.errors import (
    CredentialRejected,
    KeyturnError,
    OutcomeUnknown,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.executor.context import Context
from keyturn.executor.moves import Abort, Done, Move, Wait
from keyturn.executor.steps.make import settle_forward
from keyturn.executor.tasking import open_task, task_of, waiting_for
from keyturn.model.card import Proof
from keyturn.model.credential import LIVE, State, Version
from keyturn.model.plan import Step
from keyturn.model.run import LineKind, RunState, TaskState
from keyturn.storage import tasks

_ENDED = frozenset({State.REVOKED, State.DEAD, State.REFUSED})


def targets(ctx: Context, step: Step) -> list[Version]:
    """The versions a step acts on, newest first: the old one, the candidate, all live ones, or all but the current."""
    if step.target == "old":
        # An earlier run may have been cut short: whatever still drains on this connection is old as well.
        leaving = {State.DRAINING, State.DISABLED, State.REVOKING, State.REVOKED}
        found = [v for v in ctx.versions.values() if v.state in leaving]
    elif step.target == "new":
        found = [ctx.new] if ctx.new else []
    elif step.target == "others":
        found = [v for v in ctx.versions.values() if v.state in LIVE and v.state is not State.CURRENT]
    else:
        found = [v for v in ctx.versions.values() if v.state in LIVE]
    return sorted(found, key=lambda v: -v.number)


def drain(ctx: Context, step: Step) -> Move:
    """Waits until the gate is open: time, leases, declared consumers, the vendor's last-used (P3)."""
    now = ctx.hub.clock()
    if _is_emergency(ctx):
        return Done()
    for version in targets(ctx, step):
        if version.state in _ENDED:
            continue
        closed = why_closed(ctx, version, back=step.target == "new")
        if closed is None:
            continue
        since = version.changed_at if version.state is State.DRAINING else (ctx.run.started_at or now)
        if now - since > ctx.policy.drain_max_s:
            return Wait(
                now + 600 * ctx.hub.patience,
                f"still in use after {ctx.policy.drain_max_s:.0f} s: {closed.why}",
                RunState.BLOCKED,
            )
        return Wait(max(closed.until, now + 0.05), closed.why)
    if (
        ctx.switching
    ):  # until others see the switch, they are counted by the generation before, and lease the old one
        ctx.commit()
        return drain(ctx, step)
    ctx.line(step, LineKind.OBSERVED, what="gate", open=True)
    return Done()


def _is_emergency(ctx: Context) -> bool:
    """Somebody pressed contain while this run was under way: from then on it waits for nobody."""
    return any(key == "contain" for key, _, _, _ in ctx.said)


def disable(ctx: Context, step: Step) -> Move:
    """The reversible off switch, before anything final."""
    disabler = ctx.can.disabler
    if disabler is None:
        return Done()
    for version in targets(ctx, step):
        if version.state in _ENDED or version.state is State.DISABLED or ctx.is_superseded(version):
            continue
        if not ctx.has_admin and _acting(ctx, version) is version:
            continue  # it has to sign its own end next, and a credential that is off signs nothing
        access, ref = ctx.access(_acting(ctx, version)), version.ref
        ctx.act(step, partial(disabler.disable, access, ref), version=version.id, ref=ref.as_json())
        ctx.applied(step, version=version.id)
        ctx.move(version, State.DISABLED)
    return Done()


def soak(ctx: Context, step: Step) -> Move:
    """A time in which a complaint can still be answered by switching it on again."""
    if _is_emergency(ctx):
        return Done()
    waited = [v.changed_at for v in targets(ctx, step) if v.state is State.DISABLED]
    until = max(waited, default=0.0) + ctx.policy.soak_s
    if ctx.hub.clock() < until:
        return Wait(until, "the old credential is off; listening for complaints")
    return Done()


def revoke(ctx: Context, step: Step) -> Move:
    """Ends what the step targets. The point of no return: from the INTENT on, a run only rolls forward."""
    if step.target == "principal":
        return _drop(ctx, step)
    revoker = ctx.can.revoker
    if revoker is None:
        return Done()
    for version in targets(ctx, step):
        if version.state in _ENDED:
            continue
        if ctx.is_superseded(version):
            ctx.line(step, LineKind.DECISION, decision="superseded", version=version.id)
            ctx.move(version, State.REVOKED)
            continue
        if version.state is not State.REVOKING:
            version = ctx.move(version, State.REVOKING)
        access, ref, value = ctx.access(_acting(ctx, version)), version.ref, ctx.material(version)
        try:
            ctx.act(step, partial(revoker.revoke, access, ref, value), version=version.id, ref=ref.as_json())
        except (VendorUnavailable, VendorThrottled, OutcomeUnknown):
            raise  # repeated: a revoke that finds nothing counts as done
        except KeyturnError as error:
            if not _ended_itself(ctx, version, error):
                ctx.owe("revoke_refused", f"the vendor refused to end it: {error.message}", version)
            ctx.move(version, State.REVOKED)
            continue
        ctx.applied(step, version=version.id)
        ctx.move(version, State.REVOKED)
    return Done()


def _ended_itself(ctx: Context, version: Version, error: KeyturnError) -> bool:
    """The last one signs its own end. Refused when asked again, it is gone already: the answer to an earlier call was
    lost. The proof that follows tests it, and owes it if it is alive."""
    acting = None if ctx.has_admin else _acting(ctx, version)
    is_own = acting is not None and acting.id == version.id
    return is_own and isinstance(error, CredentialRejected) and ctx.run.plan.proof is not Proof.D0


def _acting(ctx: Context, version: Version) -> Version | None:
    """Who signs the end of `version`: what serves now; the version itself only when it is the last one."""
    serving = ctx.serving()
    return serving if serving is not None and serving.id != version.id else version


def _drop(ctx: Context, step: Step) -> Move:
    dropper = ctx.can.dropper
    if dropper is None or any(
        facts.get("outcome") == "applied" for facts, _ in ctx.lines(step, LineKind.OUTCOME)
    ):
        return Done()
    ctx.act(step, lambda: dropper.drop(ctx.access()), what="principal")
    ctx.applied(step)
    return Done()


def tell(ctx: Context, step: Step) -> Move:
    """A person ends it at the vendor; the machine check that follows decides whether it is done."""
    if step.target == "new" and step.key == "remove":
        move = settle_forward(ctx)
        if move is not None:
            return move
    task = task_of(ctx, step)
    found = [v for v in targets(ctx, step) if v.state not in _ENDED]
    for version in [v for v in found if task is None and ctx.is_superseded(v)]:
        # A newer value in its slot has ended it; whoever was told to end it there would end that one.
        ctx.line(step, LineKind.DECISION, decision="superseded", version=version.id)
        ctx.move(version, State.REVOKED)
        found.remove(version)
    if step.target == "new" and (ctx.new is None or ctx.new.state in _ENDED):
        return Done()
    if task is None:
        if not found and not step.params.get("always"):
            return Done()
        about = found[0] if found else ctx.old
        return open_task(ctx, step, kind="delete", title=step.title, version=about)
    if task.state is TaskState.SUBMITTED or task.state is TaskState.DONE:
        for version in found:
            ctx.move(version, State.REVOKED)
        ctx.later(lambda tx: tasks.change(tx, task.id, state=TaskState.DONE.value))
        ctx.line(step, LineKind.DECISION, decision="told", task=task.id, by=task.claimed_by)
        return Done()
    if task.state in {TaskState.EXPIRED, TaskState.CANCELLED}:
        owed = found or ([ctx.old] if ctx.old and step.params.get("always") else [])
        for version in owed:
            ctx.owe("not_deleted", "nobody deleted it at the vendor in time", version)
        return Done() if owed else Abort("the task expired")
    return waiting_for(ctx, step, task)

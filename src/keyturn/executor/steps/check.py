"""Looking before acting, and proving before switching."""

from __future__ import annotations

from shlex import quote

from keyturn.contract.values import Remote
from keyturn.errors import CapReached, Conflict, CredentialRejected, WrongAccount
from keyturn.executor.context import Context
from keyturn.executor.moves import Abort, Back, Done, Move, Wait
from keyturn.executor.retries import soon
from keyturn.executor.steps.bring import take
from keyturn.executor.steps.jobs import first_reads, shape_of
from keyturn.executor.tasking import rescue, return_task
from keyturn.model.card import Strategy
from keyturn.model.credential import LIVE, Provenance, State, Version
from keyturn.model.moment import iso
from keyturn.model.plan import Kind, Step
from keyturn.model.run import LineKind, RunState, TaskState
from keyturn.model.verdict import Probe, Verdict, mismatch
from keyturn.planner.shapes import ONE_SLOT
from keyturn.storage import connections, tasks


def preflight(ctx: Context, step: Step) -> Move:
    """No mutation. With an administrator's path the inventory shows that it works; else the current one must.

    Raises what the vendor says; CredentialRejected when the current credential is dead and nothing else can set one.
    """
    lenient = bool(step.params.get("lenient"))
    old = ctx.old
    supplied = any(s.kind in {Kind.ASK, Kind.CONSENT} for s in ctx.run.plan.steps)
    looked = ctx.can.lister is not None and (ctx.has_admin or (ctx.card.inventory and old is not None))
    if ctx.can.lister is not None and looked:
        _compare(ctx, step, ctx.can.lister.list(ctx.access()))
    if old is None or lenient or (ctx.has_admin and looked):
        return Done()
    found = ctx.probe(step, old, what="current", may_fail=True)
    if found.verdict is Verdict.ACCEPTED:
        wrong = mismatch(ctx.connection.identity, found.identity)
        if wrong:
            raise WrongAccount(
                f"the current credential belongs to another account ({', '.join(wrong)} differ)",
                hint="Nothing was changed. Check the connection's settings, or reconnect it on purpose.",
            )
        return Done()
    if found.verdict is Verdict.UNKNOWN:
        unclear = f"no clear answer about the current credential ({found.code or 'no answer'})"
        return soon(ctx, found.detail if found.locked else unclear, found.wait_s)
    if ctx.has_admin or supplied:
        ctx.line(step, LineKind.DECISION, decision="repair", why="the current credential is refused already")
        return Done()
    raise CredentialRejected(
        f"the current credential is refused ({found.code}) and there is no other way to set a new one",
        hint=f"Use `keyturn reconnect {quote(ctx.connection.name)}` with a credential that works.",
    )


def _compare(ctx: Context, step: Step, inventory: tuple[Remote, ...]) -> None:
    """Inventory against the ledger: room for one more, and the current one where we believe it is."""
    ours = [v for v in ctx.versions.values() if v.state in LIVE]
    strangers = [r for r in inventory if not any(v.ref.same_place(r.ref) for v in ours)]
    ctx.line(
        step,
        LineKind.OBSERVED,
        what="inventory",
        count=len(inventory),
        strangers=[r.ref.as_json() for r in strangers],
    )
    serving = ctx.serving()
    if (
        serving is not None
        and serving.state is State.CURRENT
        and serving.method in {"", ctx.row.method.name}
        and (serving.ref.id or serving.ref.slot)
        and inventory
    ):
        place = (serving.ref.id, serving.ref.slot)
        if not any((r.ref.id, r.ref.slot) == place for r in inventory):
            raise WrongAccount(
                "the vendor's inventory does not show the credential that serves, but others: this looks like another"
                " principal",
                hint="Check the connection's user and account. Nothing was changed.",
            )
    slot = ctx.run.plan.target_slot if step.target == "new" else ""
    if slot and serving is not None and serving.state is State.CURRENT and serving.ref.slot == slot:
        raise Conflict(
            f"the plan would write slot {slot}, which is in use by now",
            hint="Start a new run: it plans anew.",
        )
    if slot:
        occupant = next((r for r in inventory if r.ref.slot == slot and r.active and r.ref.fingerprint), None)
        leftover = next((v for v in ours if v.ref.slot == slot), None)
        if occupant is not None and leftover is None:
            raise CapReached(
                f"slot {slot} holds a credential that is not ours",
                hint="Find out whose it is and clear the slot at the vendor, then retry the run.",
                slot=slot,
            )
    elif ctx.card.cap and len(inventory) >= ctx.card.cap and ctx.card.strategy is Strategy.MANY_IDS:
        names = "; ".join(_told(r, ours=r not in strangers) for r in inventory)
        raise CapReached(
            f"the vendor allows {ctx.card.cap} credentials and {len(inventory)} exist ({names})",
            hint="Delete one that is not used at the vendor, then retry the run.",
        )


def _told(remote: Remote, *, ours: bool) -> str:
    """One credential at the vendor, so that a person can tell which of them nobody needs."""
    used = (
        f"last used {iso(remote.last_used_at)}"
        if remote.last_used_at
        else "never used, as far as the vendor tells"
    )
    made = f"made {iso(remote.created_at)}, " if remote.created_at else ""
    return f"{remote.ref.id}: {'ours' if ours else 'not ours'}, {made}{used}"


def prove(ctx: Context, step: Step) -> Move:
    """The new version is PROVEN after a fresh ACCEPTED test with the pinned identity and all rights (P2, I3)."""
    new = ctx.new
    if new is None:
        return Abort("there is no new credential to prove")
    if new.state in {State.PROVEN, State.CURRENT}:
        return Done()
    shape = shape_of(ctx, new)
    for _ in range(ctx.card.prove_times):
        found = ctx.probe(step, new, what="new", may_fail=True, format=shape)
        if found.verdict is not Verdict.ACCEPTED:
            return _not_accepted(ctx, step, new, found)
        wrong = mismatch(ctx.connection.identity, found.identity)
        if wrong:
            return _not_ours(ctx, step, found, wrong)
        missing = _rights_wanted(ctx) - found.rights
        if missing:
            return _turned_down(
                ctx, step, f"the new credential lacks rights the old one has: {', '.join(sorted(missing))}"
            )
        if not ctx.connection.identity:
            _pin(ctx, step, found)
    unread = first_reads(ctx, step, new)
    if isinstance(unread, Wait):
        return unread
    if unread:
        return _turned_down(ctx, step, unread)
    ctx.move(new, State.PROVEN)
    return Done()


def _pin(ctx: Context, step: Step, found: Probe) -> None:
    """The first proof of a connection that was saved without a credential: from now on it must be this account."""
    identity = dict(found.identity)
    if found.rights:
        identity["rights_label"] = " ".join(sorted(found.rights))
    ctx.later(lambda tx: connections.change(tx, ctx.connection.id, identity=identity))
    ctx.line(step, LineKind.DECISION, decision="pinned", identity=identity)


def _rights_wanted(ctx: Context) -> frozenset[str]:
    pinned = ctx.connection.identity.get("rights_label", "")
    return frozenset(pinned.split()) if pinned else frozenset()


def _not_accepted(ctx: Context, step: Step, new: Version, found: Probe) -> Move:
    now = ctx.hub.clock()
    settled = new.changed_at + ctx.policy.settle_create(ctx.card)
    if found.verdict is Verdict.UNKNOWN:
        return soon(
            ctx, f"no clear answer about the new credential ({found.code or 'no answer'})", found.wait_s
        )
    if now < settled:
        # Where logins are counted, one early look is all that is spent on impatience.
        pause = max(0.02, ctx.policy.settle_create(ctx.card) / 8)
        until = settled if ctx.card.lockout else min(settled, now + pause)
        return Wait(until, "the new credential settles")
    return _turned_down(ctx, step, f"the new credential is refused ({found.code})")


def _not_ours(ctx: Context, step: Step, found: Probe, wrong: tuple[str, ...]) -> Move:
    seen = found.identity.get("principal_label") or found.identity.get("principal", "?")
    pinned = ctx.connection.identity.get("principal_label") or ctx.connection.identity.get("principal", "?")
    why = f"the new credential belongs to {seen}, this connection to {pinned} ({', '.join(wrong)} differ)"
    if ctx.new is not None and ctx.card.strategy in ONE_SLOT:
        # Setting the slot anew overwrites what sits in it, but not what was made in another account.
        ctx.owe("unwanted", why, ctx.new)
    return _turned_down(ctx, step, why)


def _turned_down(ctx: Context, step: Step, why: str) -> Move:
    """Definitely not good enough: back to the person who brought it, or undo, or (no way back) try another way."""
    ctx.line(step, LineKind.DECISION, decision="turned_down", why=why)
    stage = [s for s in ctx.run.plan.steps if s.kind in _STAGES][-1]
    new = ctx.new
    by_person = stage.kind in {Kind.ASK, Kind.CONSENT}
    if new is not None and by_person and not _given_up(ctx):
        _quarantine(ctx, new, why)
        return_task(ctx, stage, why)
        return Back(stage.key, why)
    is_rescue = (
        new is not None and new.provenance is Provenance.HUMAN and not by_person
    )  # nothing else worked
    if stage.reversible and not is_rescue:
        return Abort(why)
    if ctx.has_admin and len(ctx.lines(stage, LineKind.INTENT)) < _TRIES:
        if new is not None:
            ctx.move(new, State.REFUSED)
        ctx.new_id = None
        ctx.column(new_version_id=None)
        return Back(stage.key, f"{why}; a fresh value is set by the administrator")
    if new is None or (not is_rescue and ctx.hub.clock() < new.changed_at + LOST_AFTER_S * ctx.hub.patience):
        return Wait(ctx.hub.clock() + 600 * ctx.hub.patience, f"LOST: {why}", RunState.LOST)
    answer = rescue(ctx, step, why)  # a vendor that lagged longer than its card says had its chance
    if isinstance(answer, Wait):
        return answer
    ctx.move(new, State.REFUSED)
    ctx.later(lambda tx: tasks.change(tx, answer.id, state=TaskState.DONE.value))
    take(ctx, step, answer)
    return Back(step.key, "somebody brought a value")


_STAGES = frozenset({Kind.SET, Kind.ISSUE, Kind.ASK, Kind.CONSENT, Kind.REFRESH})
_TRIES = 4
LOST_AFTER_S = 1800.0  # how long a refused value is tested again before a person is asked for another


def _given_up(ctx: Context) -> bool:
    returned = [
        t for t in ctx.hub.store.read(lambda tx: tasks.of_run(tx, ctx.run.id)) if t.state is TaskState.EXPIRED
    ]
    return bool(returned)


def _quarantine(ctx: Context, new: Version, why: str) -> None:
    """What a person brought and is not good enough stays sealed, is never served, and is owed until proven dead."""
    ctx.move(new, State.REFUSED)
    if new.ref.id or ctx.card.strategy is Strategy.CONSENT:
        ctx.owe("unwanted", f"brought by a person and turned down: {why}", new)
    ctx.new_id = None
    ctx.column(new_version_id=None)

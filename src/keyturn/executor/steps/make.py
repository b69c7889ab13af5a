"""Making the new credential without a person: set a value of ours, have the vendor issue one, refresh a grant."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from keyturn import boundary
from keyturn.contract.capabilities import Issuer
from keyturn.contract.values import Candidate, Remote
from keyturn.errors import (
    CredentialRejected,
    OutcomeUnknown,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.executor.context import Context
from keyturn.executor.moves import Abort, Back, Done, Move, Wait
from keyturn.executor.retries import soon
from keyturn.executor.spooling import elsewhere, is_awaited, unanswered
from keyturn.executor.steps.bring import take
from keyturn.executor.tasking import rescue, task_of
from keyturn.model.card import Strategy
from keyturn.model.credential import ConnectionState, Provenance, Ref, State, Version
from keyturn.model.plan import Kind, Step
from keyturn.model.run import LineKind, RunState, TaskState
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict, mismatch
from keyturn.storage import connections, tasks, versions
from keyturn.vault.secrets import receipt_row

MAX_VALUES = 3
END_TRIES = 4  # with the waits in between more than a minute
CLOCK_SKEW_S = 120.0
_RESEND_S = 60.0  # vendors that tell no leeway forgive a lost answer for moments only
_REFUSED_AGAIN_S = (120.0, 480.0)
_UNREADABLE_S = 3600.0


def set_value(ctx: Context, step: Step) -> Move:
    """S1, S4, S8: the value is sealed and its INTENT durable before the vendor hears of it (P1)."""
    setter, maker = ctx.can.setter, ctx.can.maker
    new = ctx.new
    if new is not None and new.state in {State.ISSUED, State.PROVEN, State.CURRENT}:
        return Done()
    if step.params.get("public"):
        ctx.add_version(Candidate(Ref(), Material({}, frozenset())), State.ISSUED, Provenance.OURS)
        return Done()
    if setter is None or maker is None:
        return Abort("this connector cannot set a value")
    intent = ctx.open_intent(step)
    if intent is not None and new is not None:
        move = _resolve_set(ctx, step, new, intent)
        if move is not None:
            return move
    if new is None:
        if len({facts["version"] for facts, _ in ctx.lines(step, LineKind.INTENT)}) > MAX_VALUES:
            return Abort("the vendor refused every value that was offered")
        slot = str(step.params.get("slot", ""))
        candidate = maker.make(ctx.access(), Ref(id=slot, slot=slot) if slot else _same_place(ctx))
        new = ctx.add_version(candidate, State.REQUESTED, Provenance.OURS)
    ctx.line(
        step,
        LineKind.INTENT,
        deadline_s=ctx.policy.deadline(ctx.card),
        version=new.id,
        ref=new.ref.as_json(),
        fingerprint=new.fingerprint,
    )
    ctx.commit()
    value, ref = ctx.material(new), new.ref  # read back: what is sent is what the vault holds
    try:
        ctx.send(step, lambda: setter.set(ctx.access(), ref, value))
    except ValueRefused as error:
        ctx.move(new, State.REFUSED)
        ctx.new_id = None
        ctx.column(new_version_id=None)
        return Back(step.key, f"the vendor refused the value ({error.message}); another is made")
    ctx.applied(step, version=new.id)
    ctx.move(new, State.ISSUED)
    return Done()


def _same_place(ctx: Context) -> Ref:
    """Where the one slot is: as the newest value we know of was placed, also when nothing serves any more."""
    known = sorted(ctx.versions.values(), key=lambda v: -v.number)
    return ctx.old.ref if ctx.old else (known[0].ref if known else Ref())


def _resolve_set(ctx: Context, step: Step, new: Version, intent: tuple[dict[str, Any], float]) -> Move | None:
    """Applied or not? Observe first; None means: send the same candidate again."""
    if ctx.card.set_is_absolute and ctx.has_admin:
        return None  # re-asserting the same value is safe at any time
    until = ctx.zombie_until(intent)
    if ctx.hub.clock() < until:
        return Wait(until, "an unanswered call may still take effect", RunState.RESOLVING)
    if ctx.can.lister is not None and new.ref.fingerprint:
        here = any(
            r.ref.same_place(new.ref) and r.ref.fingerprint == new.ref.fingerprint for r in _inventory(ctx)
        )
        ctx.line(step, LineKind.OBSERVED, what="slot", holds_candidate=here)
        return _was_applied(ctx, step, new) if here else None
    found = ctx.probe(step, new, what="candidate", may_fail=True)
    if found.verdict is Verdict.ACCEPTED:
        return _if_the_test_can_tell(ctx, step, new) or _was_applied(ctx, step, new)
    if found.verdict is Verdict.UNKNOWN:
        return soon(
            ctx, "it is not known whether the new value took effect", found.wait_s, RunState.RESOLVING
        )
    old = ctx.old
    if old is None or ctx.card.strategy is Strategy.TWO_SLOTS:
        return None
    before = ctx.probe(step, old, what="current", may_fail=True)
    if before.verdict is Verdict.ACCEPTED:
        return None
    if before.verdict is Verdict.UNKNOWN:
        return soon(
            ctx, "it is not known whether the new value took effect", before.wait_s, RunState.RESOLVING
        )
    return _older_or_lost(ctx, step, (new, old))


def _if_the_test_can_tell(ctx: Context, step: Step, new: Version) -> Move | None:
    """An accepted candidate shows that the call took effect only where a made-up one is refused; None: it does."""
    try:
        bogus = ctx.can.verifier.bogus(ctx.material(new))
    except LookupError:
        return None
    fake = ctx.probe_material(step, bogus, what="control_bogus", may_fail=True)
    if fake.verdict is not Verdict.ACCEPTED:
        return None
    why = "the test accepts a made-up credential, so it cannot tell whether the new value took effect"
    return soon(ctx, why, state=RunState.BLOCKED)


def _older_or_lost(ctx: Context, step: Step, tried: tuple[Version, ...]) -> Move | None:
    """Candidate and current are refused: try the other sealed values, newest first; else reconcile, else LOST."""
    for version in sorted(ctx.versions.values(), key=lambda v: -v.number):
        if version in tried or version.state is State.DEAD or not ctx.holds(version):
            continue
        found = ctx.probe(step, version, what="older", may_fail=True)
        if found.verdict is Verdict.ACCEPTED and not mismatch(ctx.connection.identity, found.identity):
            ctx.line(step, LineKind.DECISION, decision="serve_older", version=version.id)
            if ctx.new is not None:
                ctx.move(ctx.new, State.REFUSED)
            ctx.applied(step, how="an older value is the one that works")
            ctx.move(version, State.ISSUED)  # proven and switched to like any other
            ctx.new_id = version.id
            ctx.column(new_version_id=version.id)
            return Done()
    if ctx.has_admin:
        return None
    return _rescued(ctx, step, "no known value is accepted")


def _rescued(ctx: Context, step: Step, why: str) -> Move:
    """Asks a person for a value that works, and goes on with it."""
    answer = rescue(ctx, step, why)
    if isinstance(answer, Wait):
        return answer
    ctx.later(lambda tx: tasks.change(tx, answer.id, state=TaskState.DONE.value))
    if ctx.new is not None:
        ctx.move(ctx.new, State.REFUSED)
    take(ctx, step, answer)
    ctx.applied(step, how="brought by a person")
    return Done()


def _was_applied(ctx: Context, step: Step, new: Version) -> Move:
    ctx.applied(step, version=new.id, how="observed")
    ctx.move(new, State.ISSUED)
    return Done()


def issue(ctx: Context, step: Step) -> Move:
    """S2, S3, S5 by API: the pre-image is durable before the call, the raw answer sealed before it is read (P1, P4)."""
    issuer = ctx.can.issuer
    if issuer is None:
        return Abort("this connector cannot ask for a credential")
    new = ctx.new
    if new is not None and new.state in {State.ISSUED, State.PROVEN, State.CURRENT}:
        return Done()
    attempt = len(ctx.lines(step, LineKind.INTENT))
    intent = ctx.open_intent(step)
    if intent is not None:
        raw = ctx.hub.secrets.find(receipt_row(ctx.run.id, ctx.key(step), attempt))
        if raw is not None:
            return _take_out(ctx, step, issuer, raw)
        away = elsewhere(ctx, step) if _signs_with_what_it_ends(ctx) else None
        if away is not None:
            return away
        move = _resolve_issue(ctx, step, intent)
        if move is not None:
            return move
    if _lost_answers(ctx, step) > MAX_VALUES:
        return Abort("the vendor's answer was lost again and again")
    slot = str(step.params.get("slot", ""))
    before = _inventory(ctx) if ctx.can.lister is not None else ()
    marker = f"keyturn-{ctx.run.id[-10:]}-{attempt + 1}"
    access = ctx.access(marker=marker)
    if _signs_with_what_it_ends(ctx) and (task_of(ctx, step) or ctx.may_have_applied(ctx.key(step))):
        found = ctx.probe(step, ctx.old, what="current", may_fail=True) if ctx.old else None
        if found is not None and found.verdict is Verdict.UNKNOWN:
            return soon(
                ctx, "it is not known whether the old value still works", found.wait_s, RunState.RESOLVING
            )
        if found is None or found.verdict is Verdict.REJECTED:
            return _rescued(ctx, step, "the answer with the new value was lost and the old one is refused")
    if step.params.get("pause"):  # whoever went on with the old value would count against the account
        paused = ConnectionState.PAUSED.value
        ctx.later(lambda tx: connections.change(tx, ctx.connection.id, state=paused))
    raw = ctx.act(
        step,
        lambda: issuer.issue(access, Ref(id=slot, slot=slot) if slot else Ref()),
        marker=marker,
        slot=slot,
        before=[r.ref.as_json() for r in before],
        spool=ctx.hub.spool_name,
    )
    ctx.receipt(step, attempt + 1, raw)
    return _take_out(ctx, step, issuer, raw)


def _signs_with_what_it_ends(ctx: Context) -> bool:
    """S5 without an administrator: after a lost answer there is nothing left to ask with."""
    return ctx.card.strategy is Strategy.REGENERATE and not ctx.has_admin


def _lost_answers(ctx: Context, step: Step) -> int:
    """Calls that the vendor did not definitely refuse to carry out: throttling and errors are not losses."""
    refused = [1 for facts, _ in ctx.lines(step, LineKind.OUTCOME) if facts.get("outcome") == "not_applied"]
    resolved = [1 for facts, _ in ctx.lines(step, LineKind.OUTCOME) if facts.get("resolved")]
    return len(ctx.lines(step, LineKind.INTENT)) - len(refused) + len(resolved)


def _take_out(ctx: Context, step: Step, issuer: Issuer, raw: bytes) -> Move:
    """The credential inside a sealed answer. One that cannot be read stays sealed and asks for the one thing to do."""
    try:
        candidate = issuer.read(ctx.access(), raw)
    except UnexpectedAnswer as error:
        return _unreadable(ctx, step, error)
    return _accept(ctx, step, candidate)


def _unreadable(ctx: Context, step: Step, error: UnexpectedAnswer) -> Move:
    """Reading it again gives the same, and asking again would make one more of which nobody knows the value."""
    why = f"the vendor's answer to making a new one cannot be read ({error.message}); it is kept sealed"
    if ctx.card.strategy is Strategy.REGENERATE:
        return _rescued(ctx, step, f"{why}, and the old value has ended")
    ways = [f"`keyturn retry {ctx.run.id}` reads it again after an update of Keyturn"]
    if ctx.run.plan.rollback:
        ways.insert(0, f"`keyturn rollback {ctx.run.id}` ends what was made")
    until = ctx.hub.clock() + _UNREADABLE_S * ctx.hub.patience
    return Wait(until, f"{why}. {'; '.join(ways)}", RunState.BLOCKED)


def _accept(ctx: Context, step: Step, candidate: Candidate) -> Move:
    ctx.applied(step, ref=candidate.ref.as_json())
    ctx.add_version(candidate, State.ISSUED, Provenance.VENDOR)
    return Done()


def _resolve_issue(ctx: Context, step: Step, intent: tuple[dict[str, Any], float]) -> Move | None:
    """The value is gone with the answer, so what was made is useless: find it, end it, ask again (None)."""
    facts, at = intent
    until = ctx.zombie_until(intent)
    if ctx.hub.clock() < until:
        return Wait(until, "an unanswered call may still take effect", RunState.RESOLVING)
    listed = until + ctx.policy.settle_create(ctx.card)
    if ctx.hub.clock() < listed and not facts.get("slot"):
        return Wait(listed, "what an unanswered call made may not be listed yet", RunState.RESOLVING)
    if facts.get("slot") or ctx.card.strategy is Strategy.REGENERATE:
        return None  # the same idle (or already dead) slot is simply made anew
    if ctx.can.lister is None or ctx.can.revoker is None:
        ctx.owe(
            "orphan_unknown",
            "a create call went unanswered and the vendor cannot list what exists",
            None,
            **facts,
        )
        return (
            None
            if len(ctx.lines(step, LineKind.INTENT)) < 2
            else Abort("a create call went unanswered twice")
        )
    known = [Ref.from_json(each) for each in facts.get("before", [])]
    ledger = [v.ref for v in ctx.hub.store.read(lambda tx: versions.of_connection(tx, ctx.connection.id))]
    fresh = [r for r in _inventory(ctx) if not any(r.ref.same_place(k) for k in (*known, *ledger))]
    ours = [r for r in fresh if _is_ours(ctx, r, facts, at, until)]
    ctx.line(step, LineKind.OBSERVED, what="orphans", fresh=[r.ref.as_json() for r in fresh], ours=len(ours))
    if len(ours) < len(fresh):
        ctx.owe(
            "perhaps_ours",
            "appeared at the vendor during a call of ours and cannot be told apart from somebody else's",
            None,
            refs=[r.ref.as_json() for r in fresh if r not in ours],
        )
    asked = [
        facts["ref"] for facts, _ in ctx.lines(step, LineKind.DECISION) if facts["decision"] == "end_orphan"
    ]
    for remote in ours:
        if asked.count(remote.ref.as_json()) < END_TRIES:
            end_orphan(ctx, step, remote)
            return soon(ctx, "what a lost answer left behind is being ended", state=RunState.RESOLVING)
        why = "a lost answer left a credential whose value nobody has, and it does not go away"
        ctx.owe("orphan", why, None, ref=remote.ref.as_json())
    why = "what it made was found and ended" if asked else "nothing new"
    ctx.line(step, LineKind.OUTCOME, outcome="not_applied", resolved=True, why=why)
    return None


def end_orphan(ctx: Context, step: Step, remote: Remote) -> None:
    """Ends a credential that is ours for certain and whose value nobody has. The list shows later whether it is gone;
    ending is idempotent, so an answer that fails is simply asked for again then."""
    revoker = ctx.can.revoker
    if revoker is None:
        return
    ctx.line(step, LineKind.DECISION, decision="end_orphan", ref=remote.ref.as_json())
    ctx.commit()
    boundary.reach(f"call:{step.key}.end_orphan:before")
    with suppress(OutcomeUnknown, VendorUnavailable, VendorThrottled, UnexpectedAnswer):
        revoker.revoke(ctx.access(), remote.ref, None)
    boundary.reach(f"call:{step.key}.end_orphan:after")


def _is_ours(ctx: Context, remote: Remote, facts: dict[str, Any], at: float, until: float) -> bool:
    """Certain: our marker is on it, or it was in no pre-image and was born inside the call's window."""
    marker = facts.get("marker", "")
    if ctx.card.label_field:
        return bool(marker) and marker in (remote.ref.label or "")
    if remote.created_at is None:
        return False
    return at - CLOCK_SKEW_S <= remote.created_at <= until + CLOCK_SKEW_S


def _inventory(ctx: Context) -> tuple[Remote, ...]:
    lister = ctx.can.lister
    return lister.list(ctx.access()) if lister is not None else ()


def refresh(ctx: Context, step: Step) -> Move:
    """The grant's own refresh: the used token's fingerprint is journaled, the answer sealed before it is read."""
    authorizer, old = ctx.can.authorizer, ctx.old
    if authorizer is None or old is None:
        return Abort("there is no grant to refresh")
    if ctx.new is not None and ctx.new.state in {State.ISSUED, State.PROVEN, State.CURRENT}:
        return Done()
    attempt = len(ctx.lines(step, LineKind.INTENT))
    access, used = ctx.access(old), ctx.material(old)
    unread: set[int] = set()
    for number, _, _ in unanswered(ctx, step):  # an earlier answer may have come out of a spool by now
        raw = ctx.hub.secrets.find(receipt_row(ctx.run.id, ctx.key(step), number))
        if raw is not None:
            unread.add(number)
            with suppress(
                UnexpectedAnswer
            ):  # not the vendor's: sent again, and a dead grant then says so itself
                return _refreshed(ctx, step, authorizer.read(access, raw, used))
    if is_awaited(ctx, step):
        return elsewhere(ctx, step) or _grant_lost(ctx, step, "another host holds its answer, and is away")
    if ctx.open_intent(step) is not None and attempt not in unread:
        # The answer was lost: the vendor's leeway is there for sending the same token once more, and only within it.
        late = ctx.hub.clock() - ctx.lines(step, LineKind.INTENT)[-1][1]
        if late > max(_RESEND_S, ctx.policy.settle_revoke(ctx.card)):
            why = "the answer to a refresh was lost and its token may be used up"
            return elsewhere(ctx, step) or _grant_lost(ctx, step, why)
    spool = ctx.hub.spool_name
    try:
        raw = ctx.act(step, lambda: authorizer.refresh(access, used), used=old.fingerprint, spool=spool)
    except CredentialRejected as error:
        if attempt < MAX_VALUES - 1:
            pause = _REFUSED_AGAIN_S[attempt] * ctx.hub.patience
            return Wait(
                ctx.hub.clock() + pause,
                f"the grant was refused ({error.message}); asked again before giving up",
            )
        return elsewhere(ctx, step) or _grant_lost(ctx, step, error.message)
    ctx.receipt(step, attempt + 1, raw)
    return _refreshed(ctx, step, authorizer.read(access, raw, used))


def _grant_lost(ctx: Context, step: Step, why: str) -> Move:
    """Only a person's consent helps now. The stored grant is kept: it is never blanked on a failure."""
    state = ConnectionState.NEEDS_REAUTH.value
    ctx.later(lambda tx: connections.change(tx, ctx.connection.id, state=state))
    ctx.line(step, LineKind.DECISION, decision="needs_reauth", why=why)
    if ctx.may_have_applied(step.key):
        ctx.owe(
            "unknown_grant", "a refresh was answered and the answer lost; its tokens cannot be named", None
        )
    return Abort(f"the grant is dead: {why}", final=True)


def settle_forward(ctx: Context) -> Move | None:
    """Before undoing: what became of a call that was never answered? None when everything it made is in the ledger.

    Nothing is sent again. What can be found is taken into the ledger or ended; what cannot be named is owed.
    """
    stages = [s for s in ctx.run.plan.steps if s.kind in {Kind.SET, Kind.ISSUE, Kind.CONSENT, Kind.REFRESH}]
    stage = next((s for s in stages if ctx.open_intent(s) is not None), None)
    intent = ctx.open_intent(stage) if stage is not None else None
    if stage is None or intent is None:
        return None
    if ctx.hub.clock() < ctx.zombie_until(intent):
        return Wait(ctx.zombie_until(intent), "an unanswered call may still take effect", RunState.RESOLVING)
    raw = ctx.hub.secrets.find(receipt_row(ctx.run.id, stage.key, len(ctx.lines(stage, LineKind.INTENT))))
    if raw is not None and _is_taken_out(ctx, stage, raw):
        return None
    if stage.kind is Kind.ISSUE:
        move = _resolve_issue(ctx, stage, intent)
        if isinstance(move, Wait):
            return move
        if intent[0].get("slot"):
            ctx.owe(
                "orphan_unknown", "an unanswered call may have filled a slot", None, slot=intent[0]["slot"]
            )
    elif stage.kind is not Kind.SET:  # a set candidate is in the ledger already and is removed by its place
        ctx.owe(
            "unknown_grant", "a consent was answered and the answer lost; the grant cannot be named", None
        )
    return None


def _is_taken_out(ctx: Context, stage: Step, raw: bytes) -> bool:
    """Whether what a sealed answer holds is in the ledger now; False when it cannot be read."""
    try:
        if stage.kind is Kind.ISSUE and ctx.can.issuer is not None:
            _accept(ctx, stage, ctx.can.issuer.read(ctx.access(), raw))
        elif ctx.can.authorizer is not None:
            _refreshed(ctx, stage, ctx.can.authorizer.read(ctx.access(), raw, None))
    except UnexpectedAnswer:
        return False
    return True


def _refreshed(ctx: Context, step: Step, candidate: Candidate) -> Move:
    ctx.applied(step)
    ctx.add_version(candidate, State.ISSUED, Provenance.GRANT)
    return Done()

"""Proving that a credential is dead, to the grade the policy asks for, with both controls (P6)."""

from __future__ import annotations

from contextlib import suppress

from keyturn.contract.values import Remote
from keyturn.errors import CredentialRejected, KeyturnError, VendorThrottled, VendorUnavailable
from keyturn.executor.context import Context
from keyturn.executor.moves import Back, Done, Move, Wait
from keyturn.executor.retries import soon
from keyturn.executor.steps.bring import is_bare_client, take
from keyturn.executor.steps.retire import targets
from keyturn.executor.tasking import rescue, return_task
from keyturn.model.card import Proof, RevokeScope, Strategy
from keyturn.model.credential import State, Version
from keyturn.model.moment import iso
from keyturn.model.plan import Kind, Step
from keyturn.model.run import LineKind, RunState, TaskState, Track
from keyturn.model.verdict import Probe, Verdict
from keyturn.planner.shapes import ONE_SLOT
from keyturn.storage import tasks

REFUSALS = 3
_MARGIN = 1.1  # "six months": a look a day too early would begin them anew
_ALONE_S = 60.0  # over how long the refusals are spread when nothing serves that could be the live control


def prove_dead(ctx: Context, step: Step) -> Move:
    """Observes until the wanted grade is reached; what cannot be proven becomes a debt, never a success."""
    wanted = ctx.run.plan.proof
    for version in targets(ctx, step):
        if version.state is State.DEAD:
            continue
        if version.state is State.DRAINING and _is_only_superseded(ctx):
            version = ctx.move(version, State.REVOKED)
        if version.state is State.DRAINING and _shares_the_grant(ctx, version):
            why = "it works on: ending it would end what serves now too"
            ctx.owe("unrevocable_grant", why, version, **unused_until(ctx, version))
        if version.state is not State.REVOKED:
            continue  # still to be ended by a debt or a later run
        if is_bare_client(ctx, version):
            why = "no grant was made with it, so it opens nothing"
            ctx.line(step, LineKind.DECISION, decision="dead", version=version.id, why=why)
            ctx.move(version, State.DEAD)
            continue
        move = _one(ctx, step, version, wanted)
        if move is not None:
            return move
    if ctx.track is not Track.FORWARD:
        return Done()
    move = _grant_is_gone(ctx, step) if step.params.get("whole_grant") else _siblings_alive(ctx, step)
    if isinstance(move, Done):
        _what_the_vendor_saw(ctx, step)
    return move


def _what_the_vendor_saw(ctx: Context, step: Step) -> None:
    """The vendor's own word on when what serves was last used, for the audit trail. Evidence: nothing hangs on it."""
    serving, lister = ctx.serving(), ctx.can.lister
    tells = ctx.card.last_used and ctx.row.method.direction == "outbound"
    if serving is None or serving.state is not State.CURRENT or lister is None or not tells:
        return
    with suppress(KeyturnError):
        for remote in lister.list(ctx.access(serving)):
            if _shows(remote, serving):
                seen = iso(remote.last_used_at)
                ctx.line(step, LineKind.OBSERVED, what="last_used", version=serving.id, at=seen or "not told")


def _is_only_superseded(ctx: Context) -> bool:
    """A grant that cannot be ended alone: nothing in the plan ends it, using up its refresh token does."""
    return ctx.can.death is not None and not any(
        s.kind in {Kind.REVOKE, Kind.TELL} for s in ctx.run.plan.steps
    )


def _shares_the_grant(ctx: Context, version: Version) -> bool:
    """Whether the plan leaves it alive on purpose. What earlier runs left is owed by those."""
    shared = ctx.card.strategy is Strategy.CONSENT and ctx.card.revoke_scope is not RevokeScope.CREDENTIAL
    mine = ctx.track is Track.FORWARD and ctx.old is not None and version.id == ctx.old.id
    return shared and mine and not any(s.kind in {Kind.REVOKE, Kind.TELL} for s in ctx.run.plan.steps)


def unused_until(ctx: Context, version: Version) -> dict[str, float]:
    """When a grant that nobody may end has ended by itself, if nobody uses it any more from now on. Testing is using."""
    if version.expires_at is None or version.born_at is None:
        return {}
    life = _MARGIN * max(0.0, version.expires_at - version.born_at)
    return {"unused_until": ctx.hub.clock() + life, "unused_for_s": life}


def _one(ctx: Context, step: Step, version: Version, wanted: Proof) -> Move | None:
    grade = Proof.D0
    absent = _absent(ctx, step, version)
    if absent:
        grade = Proof.D1
    if not grade.reaches(wanted) or wanted is Proof.D2:
        refused = _refused(ctx, step, version)
        if isinstance(refused, Wait):
            return _outage_or_siblings(ctx, step) or refused
        if refused is None:
            return _still_alive(ctx, step, version)
        if refused is Proof.D1:
            return _too_weak(ctx, step, version, grade, wanted)
        grade = Proof.D2
    if wanted is Proof.D3:
        until = version.changed_at + ctx.card.derived_ttl_s
        if ctx.hub.clock() < until:
            return Wait(until, "tokens or sessions made from the old credential run out")
        grade = Proof.D3
    if absent is False:
        return _still_alive(ctx, step, version)
    ctx.line(step, LineKind.DECISION, decision="dead", version=version.id, proof=grade.value)
    ctx.column(proof=grade.value)
    ctx.move(version, State.DEAD)
    return None


def _too_weak(ctx: Context, step: Step, version: Version, grade: Proof, wanted: Proof) -> Move | None:
    """It is refused, but a made-up one is refused differently: only what the inventory shows counts."""
    if grade.reaches(Proof.D1):
        ctx.line(step, LineKind.DECISION, decision="dead", version=version.id, proof=grade.value)
        ctx.column(proof=grade.value)
        ctx.move(version, State.DEAD)
    ctx.owe("weak_proof", f"its death is not proven to grade {wanted.value}: the controls differ", version)
    return None


def _outage_or_siblings(ctx: Context, step: Step) -> Move | None:
    """When the live control is refused again and again: did the end take what serves, or is everything refused?"""
    serving, checks = ctx.serving(), _live_checks(ctx, step)
    if serving is None or not checks or checks[-1] != Verdict.REJECTED.value:
        return None
    if len(checks) < REFUSALS:
        pause = max(0.02, ctx.policy.settle_revoke(ctx.card) / REFUSALS)
        return Wait(ctx.hub.clock() + pause, "what serves is refused as well; looking again")
    if ctx.can.lister is not None and ctx.card.inventory:
        try:
            shown = any(_shows(r, serving) for r in ctx.can.lister.list(ctx.access(serving)))
        except CredentialRejected:
            shown = False  # it may not even look any more
        ctx.line(step, LineKind.OBSERVED, what="inventory", shows=shown, version=serving.id)
        if shown:
            return soon(ctx, "what serves is listed and yet refused: an outage must not look like a death")
    return _make_again(ctx, step, serving)


def _absent(ctx: Context, step: Step, version: Version) -> bool | None:
    """D1: the inventory no longer shows it, or its one slot was just seen to hold another value. None: cannot tell."""
    serving = ctx.serving()
    same_slot = ctx.card.strategy in ONE_SLOT and serving is not None and serving.method == version.method
    if same_slot and serving is not None and serving.id != version.id:
        proven = any(
            facts.get("what") == "new" and facts.get("verdict") == Verdict.ACCEPTED.value
            for _, kind, facts, _ in ctx.said
            if kind is LineKind.OBSERVED
        )
        if proven:
            ctx.line(step, LineKind.OBSERVED, what="slot", holds="the new value", version=version.id)
            return True
    if ctx.is_superseded(version):
        ctx.line(step, LineKind.OBSERVED, what="slot", holds="a newer value", version=version.id)
        return True
    if ctx.can.lister is None or not ctx.card.inventory:
        return None
    try:
        inventory = ctx.can.lister.list(ctx.access(serving or version))
    except (VendorUnavailable, VendorThrottled):
        raise
    except KeyturnError:
        return None  # nobody left who may list
    here = any(_shows(remote, version) for remote in inventory)
    ctx.line(step, LineKind.OBSERVED, what="inventory", shows=here, version=version.id)
    return not here


def _shows(remote: Remote, version: Version) -> bool:
    """Whether an inventory line is this version: the same place, switched on, and not visibly another value."""
    ours, theirs = version.ref.fingerprint, remote.ref.fingerprint
    return version.ref.same_place(remote.ref) and remote.active and not (ours and theirs and ours != theirs)


def _refused(ctx: Context, step: Step, version: Version) -> Wait | bool | Proof | None:
    """D2: refused three times across the settle time, in one go with both controls. None: it is accepted."""
    now = ctx.hub.clock()
    key = f"death:{version.id}"
    seen = [
        at
        for facts, at in ctx.lines(step, LineKind.OBSERVED)
        if facts.get("what") == key and facts.get("counts")
    ]
    if ctx.card.old_counts and seen:
        # One refused login is all this account can bear.
        return _controls(ctx, step, version, _last_code(ctx, step, key))
    settle = ctx.policy.settle_revoke(ctx.card)
    if not _has_live(ctx):
        settle = max(settle, _ALONE_S * ctx.hub.patience)
    gap = settle / REFUSALS
    needed = REFUSALS - len(seen)
    if seen and now < seen[-1] + gap:
        return Wait(seen[-1] + gap, f"refused {len(seen)} of {REFUSALS} times")
    found: Probe | None = None
    while needed > 0:
        found = ctx.probe(step, version, what="old", may_fail=True, death=True)
        if found.verdict is Verdict.ACCEPTED:
            return None
        if found.verdict is Verdict.UNKNOWN:
            return soon(
                ctx, f"no clear answer about the old credential ({found.code or 'no answer'})", found.wait_s
            )
        ctx.line(step, LineKind.OBSERVED, what=key, counts=True, code=found.code)
        needed -= 1
        if needed and gap > 0.0:
            return Wait(now + gap, f"refused {REFUSALS - needed} of {REFUSALS} times")
        if ctx.card.old_counts:
            break
    return _controls(ctx, step, version, found.code if found else _last_code(ctx, step, key))


def _last_code(ctx: Context, step: Step, key: str) -> str:
    codes = [
        facts.get("code", "") for facts, _ in ctx.lines(step, LineKind.OBSERVED) if facts.get("what") == key
    ]
    return str(codes[-1]) if codes else ""


def _has_live(ctx: Context) -> bool:
    serving = ctx.serving()
    return serving is not None and serving.state is State.CURRENT


def _controls(ctx: Context, step: Step, version: Version, code: str) -> Wait | bool | Proof:
    """In the same minute: what serves is accepted, and a bogus credential is refused in the same way.

    When nothing serves any more (a disconnect), the refusals were spread over a minute instead. Proof.D1: the bogus
    one was refused in another way or could not be tried, so refusals alone prove nothing.
    """
    serving = ctx.serving()
    if serving is not None and serving.state is State.CURRENT:
        live = ctx.probe(step, serving, what="control_live")
        if live.verdict is Verdict.UNKNOWN:
            return soon(
                ctx,
                "the control login got no clear answer; an outage must not look like a death",
                live.wait_s,
            )
        if live.verdict is Verdict.REJECTED:
            # Everything is refused: an outage, or the end took what serves with it. `_siblings_alive` finds out which;
            # the old one is judged once something is accepted again.
            return Wait(ctx.hub.clock(), "what serves is refused as well")
    bogus = ctx.can.verifier.bogus(ctx.material(version))
    fake = ctx.probe_material(step, bogus, what="control_bogus", may_fail=True, death=True)
    if fake.verdict is Verdict.ACCEPTED:
        ctx.owe("proves_nothing", "the test accepts a made-up credential: it proves nothing", None)
        return soon(
            ctx,
            "the test accepts a made-up credential, so a death cannot be proven",
            state=RunState.BLOCKED,
        )
    if fake.verdict is Verdict.UNKNOWN and fake.code != "budget":
        return soon(ctx, "the bogus control got no clear answer", fake.wait_s)
    lockout = ctx.card.lockout
    if fake.code == "budget" and lockout is not None and not _waited_for_budget(ctx, step):
        ctx.line(step, LineKind.DECISION, decision="spare_budget")
        pause = lockout.window_s / 4 * ctx.hub.patience
        return Wait(ctx.hub.clock() + pause, "the account has had enough refused logins for now")
    if fake.verdict is Verdict.UNKNOWN or (code and fake.code != code):
        ctx.line(step, LineKind.DECISION, decision="weak_control", code=code, bogus=fake.code)
        return Proof.D1
    ctx.line(step, LineKind.DECISION, decision="refused", code=code)
    return True


def _waited_for_budget(ctx: Context, step: Step) -> bool:
    spared = [1 for facts, _ in ctx.lines(step, LineKind.DECISION) if facts.get("decision") == "spare_budget"]
    return len(spared) > REFUSALS


def _still_alive(ctx: Context, step: Step, version: Version) -> Move | None:
    """Accepted or listed although it should be gone: wait out the lag, then ask again, then owe it."""
    now = ctx.hub.clock()
    settle = ctx.policy.settle_revoke(ctx.card)
    burned = len([1 for facts, _ in ctx.lines(step, LineKind.DECISION) if facts.get("decision") == "burned"])
    if ctx.can.death is not None and burned < REFUSALS:
        # The refresh that was still accepted used the token up; past the vendor's leeway it must be refused.
        ctx.line(step, LineKind.DECISION, decision="burned", version=version.id)
        return Wait(now + settle * 1.1 + 0.1, "the used refresh token's leeway runs out")
    if now < version.changed_at + settle:
        return Wait(
            min(version.changed_at + settle, now + max(0.02, settle / 8)), "the vendor may lag behind"
        )
    steps = ctx.run.plan.steps if ctx.track is Track.FORWARD else ctx.run.plan.rollback
    enders = [s for s in steps if s.kind in {Kind.REVOKE, Kind.TELL, Kind.REMOVE} and s.target == step.target]
    tries = len(
        [1 for facts, _ in ctx.lines(step, LineKind.DECISION) if facts.get("decision") == "end_again"]
    )
    if ctx.card.strategy is Strategy.REGENERATE and not enders:
        return _same_key(ctx, step, version, tries)
    if enders and tries < REFUSALS:
        ctx.line(step, LineKind.DECISION, decision="end_again", version=version.id)
        ctx.move(version, State.REVOKING)
        if enders[0].kind is Kind.TELL:
            return_task(
                ctx, enders[0], "the old credential still works: it was not deleted, or another one was"
            )
        return Back(enders[0].key, "the old credential still works")
    ctx.owe("alive", "it should be dead and is still accepted or listed", version)
    ctx.line(step, LineKind.DECISION, decision="owed", version=version.id)
    return None


def _same_key(ctx: Context, step: Step, version: Version, tries: int) -> Move | None:
    """A person pasted a new key and the old still works: it was not reset."""
    if tries < REFUSALS:
        ctx.line(step, LineKind.DECISION, decision="end_again", version=version.id)
        return Wait(ctx.hub.clock() + 60 * ctx.hub.patience, "the old key still works; was it really reset?")
    ctx.owe("alive", "the old key is still accepted although a new one is in use", version)
    return None


def _siblings_alive(ctx: Context, step: Step) -> Move:
    """After an end, what serves is tested again: some vendors end more than was asked."""
    serving = ctx.serving()
    if serving is None or serving.state is not State.CURRENT or step.target == "all":
        return Done()
    checked = _live_checks(ctx, step)
    one_slot = ctx.card.strategy in ONE_SLOT
    if checked or one_slot:
        if not checked or checked[-1] != Verdict.REJECTED.value:
            return Done()
    else:
        found = ctx.probe(step, serving, what="sibling")
        if found.verdict is Verdict.UNKNOWN:
            return soon(ctx, "no clear answer about what serves now", found.wait_s)
        if found.verdict is Verdict.ACCEPTED:
            return Done()
    return _make_again(ctx, step, serving)


def _grant_is_gone(ctx: Context, step: Step) -> Move:
    """A person was told to remove the whole grant: what serves has to die with it, once, and another consent follows."""
    serving = ctx.serving()
    teller = next((s for s in ctx.run.plan.steps if s.kind is Kind.TELL and s.target == step.target), None)
    died = any(facts.get("decision") == "sibling_died" for facts, _ in ctx.lines(step, LineKind.DECISION))
    if died or serving is None or teller is None:
        return _siblings_alive(ctx, step)
    told = [at for facts, at in ctx.lines(teller, LineKind.DECISION) if facts.get("decision") == "told"]
    if not told:
        return Done()  # nobody did it in time, which is owed
    found = ctx.probe(step, serving, what="sibling")
    if found.verdict is Verdict.REJECTED:
        return _make_again(ctx, step, serving)
    settled = told[-1] + ctx.policy.settle_revoke(ctx.card)
    if found.verdict is Verdict.UNKNOWN or ctx.hub.clock() < settled:
        return soon(ctx, "the grant may still be on its way out", found.wait_s)
    return_task(ctx, teller, "the grant still works: it was not removed, or another one was")
    return Back(teller.key, "the grant still works")


def _live_checks(ctx: Context, step: Step) -> list[str]:
    """What the tests of what serves said, since the last time that it was found dead and replaced."""
    key, found = ctx.key(step), list[str]()
    for said, kind, facts, _ in ctx.said:
        if said == key and facts.get("decision") == "sibling_died":
            found = []
        elif said == key and kind is LineKind.OBSERVED and facts.get("what") in {"control_live", "sibling"}:
            found.append(str(facts.get("verdict")))
    return found


def _make_again(ctx: Context, step: Step, serving: Version) -> Move:
    """The end took what serves with it. One more round of the same plan brings a new one; nothing is left to kill."""
    stage = ctx.run.plan.steps[1] if len(ctx.run.plan.steps) > 1 else None
    again = [1 for facts, _ in ctx.lines(step, LineKind.DECISION) if facts.get("decision") == "sibling_died"]
    ctx.line(step, LineKind.DECISION, decision="sibling_died", version=serving.id)
    why = "the vendor ended the new credential together with the old one"
    if not step.params.get("whole_grant"):
        ctx.owe("sibling_died", "the vendor ended a credential that nobody asked it to end", serving)
    by_person = stage is not None and stage.kind in {Kind.ASK, Kind.CONSENT}
    if stage is None or len(again) >= REFUSALS or not (ctx.has_admin or by_person):
        answer = rescue(ctx, step, why)  # nothing is left that could sign a call for another one
        if isinstance(answer, Wait):
            return answer
        ctx.later(lambda tx: tasks.change(tx, answer.id, state=TaskState.DONE.value))
        take(ctx, step, answer)
        return Back("prove", "somebody brought a value")
    for asked in ctx.run.plan.steps:
        if asked.kind is Kind.CONSENT or (by_person and asked.key == stage.key):
            return_task(ctx, asked, why)
    ctx.new_id = None
    ctx.column(new_version_id=None)
    return Back(stage.key, f"{why}; another is made")

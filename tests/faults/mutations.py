"""Breaks the product on purpose, one promise at a time: a matrix that does not notice would prove nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from keyturn import boundary
from keyturn.consumers import gate
from keyturn.engine.sweep import Sweep
from keyturn.executor import executor as machine
from keyturn.executor.context import Context
from keyturn.executor.moves import Done, Wait
from keyturn.executor.steps import STEPS, bring, check, make, retire
from keyturn.issued import book, reveal
from keyturn.issued.capabilities import Own
from keyturn.model.credential import State
from keyturn.model.plan import Goal, Kind
from keyturn.model.run import LineKind
from keyturn.model.secret import Material
from keyturn.operations import issued, leases
from keyturn.planner import plans, shapes
from keyturn.storage import journal, principals, sealed
from keyturn.storage import versions as version_rows
from keyturn.storage.issued import SecretState
from keyturn.vault.secrets import Secrets
from tests.faults import pool
from tests.faults.cases import Case
from tests.faults.crash import Result, run
from tests.faults.invariants import TITLES


@dataclass(frozen=True)
class Mutation:
    """One break, the invariant that must report it, and the groups of cases (`subject/goal/fault`) that show it."""

    invariant: str
    name: str
    breaks: Callable[[], None]
    groups: tuple[str, ...]


def _send_before_commit() -> None:
    whole = Context.commit

    def commit(self: Context, **how: bool) -> None:
        if self._entries and self._entries[-1].kind is LineKind.INTENT:
            return  # the INTENT goes along with whatever is committed next
        whole(self, **how)

    Context.commit = commit  # type: ignore[method-assign]


def _receipts_are_not_read() -> None:
    find = Secrets.find
    Secrets.find = lambda self, row: None if row.startswith("receipt:") else find(self, row)  # type: ignore[method-assign]


def _debts_are_forgotten() -> None:
    Context.owe = lambda self, *_, **__: None  # type: ignore[method-assign]


def _orphans_are_not_looked_for() -> None:
    def resolve(ctx: Context, step: Any, intent: Any) -> None:
        ctx.line(step, LineKind.OUTCOME, outcome="not_applied", why="nobody looked")

    make._resolve_issue = resolve  # type: ignore[assignment]


def _identity_is_not_checked() -> None:
    check.mismatch = lambda pin, seen: ()  # type: ignore[attr-defined]


def _switched_unproven() -> None:
    def prove(ctx: Context, step: Any) -> Done:
        if ctx.new is not None and ctx.new.state is not State.CURRENT:
            ctx.move(ctx.new, State.PROVEN)
        return Done()

    machine.STEPS = {**STEPS, Kind.PROVE: prove}  # type: ignore[attr-defined]


def _revoked_before_cutover() -> None:
    usual = retire.targets

    def targets(ctx: Context, step: Any) -> Any:
        early = [v for v in ctx.versions.values() if v.state is State.CURRENT and v is not ctx.new]
        return usual(ctx, step) or (early if step.target == "old" else [])

    def rotate(situation: Any, goal: Goal) -> Any:
        kill = [s for s in shapes.retire(situation) if s.kind in {Kind.REVOKE, Kind.DISABLE}]
        rest = [s for s in shapes.retire(situation) if s not in kill]
        steps = (
            shapes.preflight(situation),
            *shapes.stage(situation),
            *kill,
            *shapes.switch(situation),
            *rest,
        )
        return plans._make(situation, goal, steps, shapes.rollback(situation))

    retire.targets = targets
    plans._BUILDERS[Goal.ROTATE] = rotate  # type: ignore[index]


def _oldest_is_ended_instead() -> None:
    def end_orphan(ctx: Context, step: Any, remote: Any) -> None:
        lister, revoker = ctx.can.lister, ctx.can.revoker
        assert lister is not None
        assert revoker is not None
        oldest = min(lister.list(ctx.access()), key=lambda r: r.created_at or 0.0)
        revoker.revoke(ctx.access(), oldest.ref, None)

    make.end_orphan = end_orphan


def _occupied_slot_is_written() -> None:
    check._compare = lambda ctx, step, inventory: None


def _nobody_reads_twice() -> None:
    whole = leases._serving
    leases._serving = lambda tx, name: (*whole(tx, name)[:2], None)


def _served_before_it_settles() -> None:
    """Also breaks I3; seen from the consumer's side."""
    _switched_unproven()


def _budget_is_ignored() -> None:
    probe = Context.probe

    def careless(
        self: Context, step: Any, version: Any, *, what: str, may_fail: bool = False, **more: Any
    ) -> Any:
        return probe(self, step, version, what=what, **more)

    def impatient(ctx: Context, step: Any, new: Any, found: Any) -> Wait:
        return Wait(ctx.hub.clock() + 1.0, "the new credential settles")

    Context.probe = careless  # type: ignore[method-assign,assignment]
    check._not_accepted = impatient


def _epoch_is_not_checked() -> None:
    def hold(tx: Any, principal_id: Any, epoch: int, until: float) -> None:
        tx.run("UPDATE principal SET lease_until = ? WHERE id = ?", until, principal_id)

    principals.hold = hold


def _secret_in_a_journal_line() -> None:
    whole = Context.probe_material

    def probe(self: Context, step: Any, material: Material, **more: Any) -> Any:
        found = whole(self, step, material, **more)
        self.line(step, LineKind.OBSERVED, tried=material.get("secret", material.get("access_token", "")))
        return found

    Context.probe_material = probe  # type: ignore[method-assign]


def _secret_on_standard_output() -> None:
    from_bytes = Material.from_bytes.__func__  # type: ignore[attr-defined]

    def loud(cls: type[Material], data: bytes) -> Material:
        found: Material = from_bytes(cls, data)
        sys.stdout.write(f"opened {found.secrets()}\n")
        return found

    Material.from_bytes = classmethod(loud)  # type: ignore[assignment,method-assign]


def _facts_are_not_hashed() -> None:
    whole = journal.link
    journal.link = lambda previous, connection, number, entry, facts: whole(
        previous, connection, number, entry, ""
    )


def _a_part_is_not_sealed() -> None:
    whole = Material.to_bytes

    def to_bytes(self: Material) -> bytes:
        parts = dict(self)
        if len(parts) > 1:
            del parts[min(parts, key=lambda name: name in self.public and name != "grant_id")]
        return whole(Material(parts, self.public))

    Material.to_bytes = to_bytes  # type: ignore[method-assign]


def _refresh_keeps_the_old_token() -> None:
    whole = make._refreshed

    def refreshed(ctx: Context, step: Any, candidate: Any) -> Any:
        assert ctx.old is not None
        spent = ctx.material(ctx.old)["refresh_token"]
        return whole(
            ctx, step, replace(candidate, material=candidate.material.replacing(refresh_token=spent))
        )

    make._refreshed = refreshed


def _calls_inside_transactions() -> None:
    boundary.leaving = lambda target: None


def _waits_without_a_word() -> None:
    whole = machine.Executor._wait
    machine.Executor._wait = lambda self, ctx, move: whole(self, ctx, replace(move, why=""))  # type: ignore[method-assign]


def _dead_without_a_proof() -> None:
    def prove_dead(ctx: Context, step: Any) -> Done:
        for version in retire.targets(ctx, step):
            ctx.move(version, State.DEAD)
        return Done()

    def revoke(ctx: Context, step: Any) -> Done:
        for version in retire.targets(ctx, step):
            ctx.move(version, State.REVOKED)
        return Done()

    machine.STEPS = {**STEPS, Kind.PROVE_DEAD: prove_dead, Kind.REVOKE: revoke}  # type: ignore[attr-defined]


def _the_candidate_is_thrown_away() -> None:
    """A refused or unanswered value is deleted at once, as some vaults do."""
    move = version_rows.move

    def forgetful(tx: Any, version_id: Any, state: State, at: float) -> None:
        move(tx, version_id, state, at)
        if state is State.REFUSED:
            tx.run("DELETE FROM sealed WHERE id = ?", f"version:{version_id}")

    def resolve(ctx: Context, step: Any, new: Any, intent: Any) -> Any:
        ctx.move(new, State.REFUSED)
        ctx.new_id = None
        ctx.column(new_version_id=None)
        return machine.Back(step.key, "another value is made")

    version_rows.move = forgetful
    make._resolve_set = resolve


def _never_used_is_enough() -> None:
    gate._issued_closed = lambda look, version, live, declared: None


def _ended_is_let_in() -> None:
    book.ACCEPTED = frozenset(SecretState)


def _value_beside_its_digest() -> None:
    whole = Own.make

    def keep(self: Own, access: Any, slot: Any) -> Any:
        made = whole(self, access, slot)
        value = reveal.find(self._secrets, made.material["digest"], made.expires_at or 0.0)
        return replace(made, material=made.material.replacing(value=value or ""))

    Own.make = keep  # type: ignore[method-assign]


def _the_gap_is_not_named() -> None:
    whole = issued._anew
    issued._anew = lambda plan, client_id: replace(whole(plan, client_id), gap_class=plan.gap_class)


def _an_opened_link_keeps_its_value() -> None:
    destroy = sealed.destroy

    def forget(tx: Any, row: str) -> None:
        if not row.startswith("pickup:"):
            destroy(tx, row)

    sealed.destroy = forget


def _spool_is_not_read() -> None:
    Sweep.import_spool = lambda self: 0  # type: ignore[method-assign]


def _consumers_are_not_paused() -> None:
    def ask(ctx: Context, step: Any) -> Any:
        return bring.ask(ctx, replace(step, params={}))

    machine.STEPS = {**STEPS, Kind.ASK: ask}  # type: ignore[attr-defined]


def _farewell_without_an_end() -> None:
    machine.STEPS = {**STEPS, Kind.REVOKE: lambda ctx, step: Done()}  # type: ignore[attr-defined]


def _farewell_without_a_look() -> None:
    machine.STEPS = {**STEPS, Kind.DRAIN: lambda ctx, step: Done()}  # type: ignore[attr-defined]


MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        "I1",
        "the call is sent before its INTENT is durable",
        _send_before_commit,
        ("one_slot_self/rotate/none",),
    ),
    Mutation("I1", "a sealed receipt is not read", _receipts_are_not_read, ("regenerate/rotate/none",)),
    Mutation(
        "I1",
        "an unanswered candidate is thrown away",
        _the_candidate_is_thrown_away,
        ("one_slot_self/rotate/answer_lost.stage",),
    ),
    Mutation("I1", "the spool is not read", _spool_is_not_read, ("grant/rotate/store_refuses.receipt",)),
    Mutation("I2", "debts are forgotten", _debts_are_forgotten, ("grant/rotate/answer_lost.stage",)),
    Mutation(
        "I2",
        "orphans are not looked for",
        _orphans_are_not_looked_for,
        ("many_ids/rotate/answer_lost.stage",),
    ),
    Mutation("I2", "dead without a proof", _dead_without_a_proof, ("two_slots/rotate/none",)),
    Mutation("I2", "an ended key is let in", _ended_is_let_in, ("issued/rotate/none",)),
    Mutation("I2", "disconnected and nothing ended", _farewell_without_an_end, ("many_ids/disconnect/none",)),
    Mutation(
        "I3",
        "the identity is not checked",
        _identity_is_not_checked,
        ("many_ids/rotate/wrong_identity.stage",),
    ),
    Mutation("I3", "switched without a test", _switched_unproven, ("two_slots/rotate/none",)),
    Mutation("I4", "revoked before the cut-over", _revoked_before_cutover, ("two_slots/rotate/none",)),
    Mutation(
        "I4",
        "retired although the new one was never used",
        _never_used_is_enough,
        ("issued/rotate/never_used",),
    ),
    Mutation(
        "I4", "ended without a look at the gate", _farewell_without_a_look, ("two_slots/disconnect/none",)
    ),
    Mutation(
        "I5",
        "the oldest is ended, not our orphan",
        _oldest_is_ended_instead,
        ("many_ids/rotate/answer_lost.stage",),
    ),
    Mutation(
        "I5",
        "an occupied slot is written",
        _occupied_slot_is_written,
        ("two_slots/rotate/cap_reached.for_good",),
    ),
    Mutation("I6", "no second value while one slot changes", _nobody_reads_twice, ("one_slot/rotate/none",)),
    Mutation("I6", "served before it settles", _served_before_it_settles, ("two_slots/rotate/lag.stage",)),
    Mutation(
        "I6",
        "consumers go on while a person resets",
        _consumers_are_not_paused,
        ("regenerate_person/rotate/none",),
    ),
    Mutation("I7", "the lock-out budget is ignored", _budget_is_ignored, ("one_slot_self/rotate/lag.stage",)),
    Mutation("I8", "the epoch is not checked", _epoch_is_not_checked, ("two workers",)),
    Mutation("I9", "a value in a journal line", _secret_in_a_journal_line, ("many_ids/rotate/none",)),
    Mutation("I9", "a value on standard output", _secret_on_standard_output, ("two_slots/rotate/none",)),
    Mutation("I9", "a value beside its digest", _value_beside_its_digest, ("issued/rotate/none",)),
    Mutation(
        "I9", "an opened link keeps its value", _an_opened_link_keeps_its_value, ("segment/rotate/none",)
    ),
    Mutation("I6", "a gap that the plan does not name", _the_gap_is_not_named, ("recreated/rotate/none",)),
    Mutation("I10", "facts are not hashed", _facts_are_not_hashed, ("two_slots/rotate/none",)),
    Mutation(
        "I11", "a part is not sealed", _a_part_is_not_sealed, ("grant/rotate/none", "many_ids/rotate/none")
    ),
    Mutation("I12", "a refresh keeps the spent token", _refresh_keeps_the_old_token, ("grant/refresh/none",)),
    Mutation(
        "I13",
        "calls inside transactions are let through",
        _calls_inside_transactions,
        ("two_slots/rotate/none",),
    ),
    Mutation(
        "END", "a run waits without a word", _waits_without_a_word, ("two_slots/rotate/cap_reached.for_good",)
    ),
)
MOST = 120  # cases per group until a mutation counts as survived


@dataclass(frozen=True)
class Caught:
    """What became of one mutation: the case that reported it and what it said, or nothing."""

    mutation: Mutation
    case: str
    text: str
    tried: int


def try_one(mutation: Mutation) -> Caught:
    """Runs cases until one reports the mutation's invariant."""
    if mutation.groups == ("two workers",):
        from tests.faults import two_workers

        wrong = two_workers.overtaken(mutation.breaks)
        return Caught(mutation, "two workers" if wrong else "", wrong, 1)
    tried = 0
    with pool.bench(mutate=mutation.breaks) as tools:
        for group in mutation.groups:
            calm = run(tools, Case.parse(f"{group}/never#0"))
            for result in _with_kills(tools, calm):
                tried += 1
                said = [text for name, text in result.violations if name == mutation.invariant]
                if said:
                    return Caught(mutation, result.name, said[0], tried)
    return Caught(mutation, "", "", tried)


def _with_kills(tools: Any, calm: Result) -> Any:
    from tests.faults.matrix import plan

    yield calm
    for case in plan([calm])[:MOST]:
        yield run(tools, case)


def main(only: str = "") -> list[Caught]:
    """Prints the table. Raises: SystemExit when an invariant has no mutation."""
    found = [try_one(m) for m in MUTATIONS if only in f"{m.invariant} {m.name}"]
    for each in found:
        verdict = (
            f"caught by {each.case} (case {each.tried})" if each.case else f"SURVIVED {each.tried} cases"
        )
        sys.stdout.write(f"{each.mutation.invariant:4} {each.mutation.name:45} {verdict}\n")
    missing = set(TITLES) - {m.invariant for m in MUTATIONS}
    if missing:
        raise SystemExit(f"no mutation for {', '.join(sorted(missing))}")
    sys.stdout.write(f"mutations={len(found)} survived={sum(not c.case for c in found)}\n")
    return found


if __name__ == "__main__":
    sys.exit(0 if all(each.case for each in main(*sys.argv[1:])) else 1)

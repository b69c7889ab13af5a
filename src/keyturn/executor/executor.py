"""Advances one run: takes its principal, rebuilds what is known from the journal, and does step after step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from keyturn.errors import (
    CallInsideTransaction,
    CapReached,
    CredentialRejected,
    KeyturnError,
    LeaseLost,
    OutcomeUnknown,
    PermissionMissing,
    Retry,
    StoreUnavailable,
    UnexpectedAnswer,
    unexpected,
)
from keyturn.executor.context import CommitFailed, Context
from keyturn.executor.hub import Hub, RowOf
from keyturn.executor.moves import Abort, Back, Done, Move, Wait
from keyturn.executor.retries import soon
from keyturn.executor.steps import STEPS
from keyturn.executor.steps.bring import take
from keyturn.executor.tasking import rescue
from keyturn.model.credential import Connection, ConnectionState, State, Version
from keyturn.model.ids import RunId
from keyturn.model.plan import Kind, Step
from keyturn.model.run import TERMINAL, Line, LineKind, Run, RunState, TaskState, Track
from keyturn.planner.shapes import ONE_SLOT
from keyturn.storage import connections, debts, journal, principals, runs, sealed, tasks, versions
from keyturn.storage.database import Tx
from keyturn.vault.secrets import admin_row, task_row, version_row

_BLOCKED_S = 3600.0
_BRINGS = frozenset({Kind.SET, Kind.ISSUE, Kind.ASK, Kind.CONSENT, Kind.REFRESH})
_MOST_MOVES = 200  # a run that neither waits nor ends within this many steps is our bug


class Seen(NamedTuple):
    """A connection as a transaction has read it, its versions in play, and its row where that was asked for as well."""

    connection: Connection
    known: Sequence[Version]
    row: RowOf | None = None


@dataclass(frozen=True)
class Claim:
    """A run with its principal taken, and what was read with it. Taken `at`; the lease holds `until`."""

    run: Run
    seen: Seen
    epoch: int
    lines: Sequence[Line]
    bodies: dict[str, bytes]
    at: float
    until: float


class Executor:
    """One executor for every strategy; a strategy is a shape of plan."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def advance(self, run_id: RunId, claim: Claim | None = None) -> bool:
        """Does what can be done now. Returns when the run waits or is in another worker's hands; True when it ended.

        Called twice, by two workers, or after a crash at any point: the journal decides what is left to do.
        `claim` is what the transaction that started the run has taken already.
        """
        try:
            self.hub.import_spool()  # an answer the store refused is there: without it, it would be asked for again
        except StoreUnavailable:
            return False
        claim = claim or self._take(run_id)
        if claim is None:
            return False
        ctx = self._context(claim)
        try:
            for _ in range(_MOST_MOVES):
                if not self._step(ctx):
                    return ctx.ended
            raise RuntimeError("the run makes no progress")
        except LeaseLost:
            return False
        except StoreUnavailable:
            return False  # nothing of this round was kept; it is due again and starts from the journal
        except CommitFailed as error:
            self._stop(ctx, str(error))
            return False

    def _stop(self, ctx: Context, why: str) -> None:
        """Our own bug: nothing of this round is kept but that the run is blocked, so that it is seen and not spun on."""
        until = self.hub.clock() + _BLOCKED_S * self.hub.patience

        def work(tx: Tx) -> None:
            principals.hold(tx, ctx.connection.principal_id, ctx.epoch, until)
            runs.change(
                tx, ctx.run.id, {"state": RunState.BLOCKED.value, "due_at": until, "waiting_for": why}
            )
            principals.let_go(tx, ctx.connection.principal_id, ctx.epoch, ended=False)

        with suppress(LeaseLost, StoreUnavailable):
            self.hub.store.write(work)

    def _take(self, run_id: RunId) -> Claim | None:
        """Claims the principal and loads everything in one transaction; None when somebody else has it."""

        def work(tx: Tx) -> Claim | None:
            run = runs.by_id(tx, run_id)
            if run is None or run.state in TERMINAL or run.state is RunState.WAITING_APPROVAL:
                return None
            claim = self.claim(tx, run)
            if claim is not None and run.started_at is None:
                runs.change(tx, run_id, {"started_at": claim.at, "state": RunState.RUNNING.value})
            return claim

        # Nothing hangs on this commit alone: the first INTENT makes it durable, and before it nothing was changed.
        return self.hub.store.write(work, durable=False)

    def claim(self, tx: Tx, run: Run, seen: Seen | None = None) -> Claim | None:
        """Takes a run's principal for this worker and reads what `advance` goes by; None when somebody else has it.

        What the same transaction has just `seen` is not read again.
        """
        now = self.hub.clock()
        until = now + self.hub.lease_s
        epoch = principals.take(tx, run.principal_id, self.hub.worker, run.id, now, until)
        if epoch is None:
            return None
        lines = journal.of_run(tx, run.id) if run.started_at is not None else []
        seen = seen or self._see(tx, run, lines)
        if seen is None:
            return None
        bodies = sealed.some(tx, admin_row(run.connection_id), version_row(run.old_version_id or ""))
        return Claim(run, seen, epoch, lines, bodies, now, until)

    def _see(self, tx: Tx, run: Run, lines: Sequence[Line]) -> Seen | None:
        connection = connections.by_id(tx, run.connection_id)
        if connection is None:
            return None
        named = {run.old_version_id, run.new_version_id, *(line.facts.get("version") for line in lines)}
        return Seen(connection, versions.in_play(tx, connection.id, named))

    def _context(self, claim: Claim) -> Context:
        connection, known, row = claim.seen
        row = row or self.hub.rows.row_of(connection)
        has_admin = admin_row(connection.id) in claim.bodies
        ctx = Context(self.hub, claim.run, connection, row, claim.epoch, known, claim.lines, has_admin)
        ctx.bodies, ctx.held_until = claim.bodies, claim.until
        return ctx

    def _step(self, ctx: Context) -> bool:
        """One step or the end. False: the run waits or ended."""
        steps = ctx.run.plan.steps if ctx.track is Track.FORWARD else ctx.run.plan.rollback
        if ctx.cursor >= len(steps):
            self._end(ctx)
            return False
        step = steps[ctx.cursor]
        ctx.stand(step)
        move = self._try(ctx, step)
        if isinstance(move, Done):
            ctx.cursor += 1
            ctx.attempts = 0
            ctx.column(attempts=0)
            return True
        if isinstance(move, Back):
            ctx.line(step, LineKind.DECISION, decision="back", to=move.to, why=move.why)
            ctx.cursor = next(i for i, each in enumerate(steps) if each.key == move.to)
            ctx.commit()  # the step asks the store (for its task, say) and must find what sent us back
            return True
        if isinstance(move, Abort):
            return self._abort(ctx, step, move)
        self._wait(ctx, step, move)
        return False

    def _try(self, ctx: Context, step: Step) -> Move:
        """A step's move; errors become moves by their retry class, so that no exception ends a run silently."""
        try:
            return STEPS[step.kind](ctx, step)
        except (LeaseLost, StoreUnavailable, CallInsideTransaction, CommitFailed):
            raise
        except (OutcomeUnknown, UnexpectedAnswer) as error:
            return soon(ctx, f"checking what happened: {error.message}", state=RunState.RESOLVING)
        except KeyturnError as error:
            if error.retry is Retry.LATER:
                return soon(ctx, error.message, float(error.facts.get("wait_s", 0.0) or 0.0))
            return self._refused(ctx, step, error)
        except Exception as error:
            ctx.line(step, LineKind.DECISION, decision="stopped", why=unexpected(error))
            return Wait(ctx.hub.clock() + _BLOCKED_S * ctx.hub.patience, unexpected(error), RunState.BLOCKED)

    def _refused(self, ctx: Context, step: Step, error: KeyturnError) -> Move:
        """A definite no. Before anything was made: blocked, the old one serves, and goes on once a person has cleared
        the way. After: undo what was made."""
        why = f"{error.message}. {error.hint}".strip() if error.hint else error.message
        ctx.line(step, LineKind.DECISION, decision="refused", error=type(error).__name__, why=why)
        made = ctx.new is not None and ctx.new.state not in {State.REFUSED, State.DEAD}
        if made and ctx.track is Track.FORWARD and not self._past_return(ctx):
            clears = isinstance(error, PermissionMissing | CapReached) and not self._may_be_there(ctx)
            return self._halt(ctx, why) if clears else Abort(why)
        if isinstance(error, CredentialRejected) and self._can_be_rescued(ctx):
            answer = rescue(ctx, step, why)
            if isinstance(answer, Wait):
                return answer
            ctx.later(lambda tx: tasks.change(tx, answer.id, state=TaskState.DONE.value))
            if made and ctx.new is not None and ctx.new.state is not State.CURRENT:
                ctx.move(ctx.new, State.REFUSED)
            take(ctx, step, answer)
            return Back("prove", "somebody brought a value")
        return self._halt(ctx, why)

    def _can_be_rescued(self, ctx: Context) -> bool:
        """What signs our calls is refused after calls of ours changed something: no known value works, ask for one."""
        begun = any(kind is LineKind.INTENT for _, kind, _, _ in ctx.said)
        proves = any(step.kind is Kind.PROVE for step in ctx.run.plan.steps)
        by_person = any(step.kind in {Kind.ASK, Kind.CONSENT} for step in ctx.run.plan.steps)
        return begun and proves and not by_person and not ctx.has_admin and ctx.track is Track.FORWARD

    def _halt(self, ctx: Context, why: str) -> Wait:
        """Waits for somebody. BLOCKED promises that the old one serves; past the return of a one-slot credential
        nothing may serve, and the run says LOST."""
        lost = (
            ctx.card.strategy in ONE_SLOT
            and ctx.serving() is ctx.old
            and ctx.track is Track.FORWARD
            and self._past_return(ctx)
        )
        state = RunState.LOST if lost else RunState.BLOCKED
        return Wait(ctx.hub.clock() + _BLOCKED_S * ctx.hub.patience, why, state)

    def _past_return(self, ctx: Context) -> bool:
        """Whether something that cannot be undone has happened or may have: the INTENT of an irreversible step that
        is not followed by a definite `not_applied`."""
        return any(not step.reversible and ctx.may_have_applied(step.key) for step in ctx.run.plan.steps)

    def _abort(self, ctx: Context, step: Step, move: Abort) -> bool:
        ctx.line(step, LineKind.DECISION, decision="abort", why=move.why)
        ctx.column(outcome=move.why)
        if self._past_return(ctx) and not move.final:
            self._wait(ctx, step, self._halt(ctx, move.why))
            return False
        if ctx.track is Track.ROLLBACK or not ctx.run.plan.rollback:
            self._drop_candidate(ctx)
            self._end(ctx, aborted=True)
            return False
        ctx.track, ctx.cursor = Track.ROLLBACK, 0
        ctx.column(track=Track.ROLLBACK.value, attempts=0)
        return True

    def _may_be_there(self, ctx: Context) -> bool:
        """Whether a call that brings the new one took effect at the vendor, or may have."""
        return any(ctx.may_have_applied(step.key) for step in ctx.run.plan.steps if step.kind in _BRINGS)

    def _drop_candidate(self, ctx: Context) -> None:
        """A candidate that never reached the vendor is simply refused; it stays sealed until another is proven."""
        new = ctx.new
        if new is None or new.state not in {State.SEALED, State.REQUESTED, State.ISSUED, State.PROVEN}:
            return
        if new.state is State.REQUESTED and not self._may_be_there(ctx):
            ctx.move(new, State.REFUSED)
        else:
            ctx.owe("unproven", "a candidate may exist at the vendor", new)

    def _wait(self, ctx: Context, step: Step, move: Wait) -> None:
        """Lies down. A person may answer while this round is still going on: then the run is due at once."""
        asks = ctx.key(step) if move.state in {RunState.WAITING_HUMAN, RunState.LOST} else ""
        ctx.column(state=move.state.value, due_at=move.until, waiting_for=move.why)
        ctx.commit(releases=True, asks=asks)
        ctx.hub.wake(ctx.run.id, move.until)

    def _end(self, ctx: Context, *, aborted: bool = False) -> None:
        """Terminal: COMPLETE only without debts and with the wanted proof; the rest says what is owed."""
        aborted = aborted or ctx.track is Track.ROLLBACK
        owed = (
            ctx.hub.store.read(lambda tx: [d for d in debts.of_run(tx, ctx.run.id) if d.closed_at is None])
            if self._may_owe(ctx)
            else []
        )
        fresh = ctx.owing
        if aborted:
            state = RunState.ABORTED_WITH_DEBT if owed or fresh else RunState.ABORTED_CLEAN
        else:
            state = RunState.COMPLETE_WITH_DEBT if owed or fresh else RunState.COMPLETE
        now = ctx.hub.clock()
        last = ctx.run.plan.steps[-1] if ctx.run.plan.steps else Step("end", Kind.CLOSE, "end")
        ctx.line(last, LineKind.DECISION, decision="ended", state=state.value)
        ctx.column(state=state.value, due_at=None, ended_at=now, waiting_for="")
        if self._may_owe(ctx) or any(kind is LineKind.RECEIPT for _, kind, _, _ in ctx.said):
            receipts = f"receipt:{ctx.run.id}:"  # versions hold what was in them
            ctx.later(lambda tx: sealed.destroy_all(tx, receipts))
        if self._had_tasks(ctx):
            ctx.later(lambda tx: _close_tasks(tx, ctx.run))
        ctx.commit(ends=True)

    def _may_owe(self, ctx: Context) -> bool:
        """A run that never waited and never owed has no rows to read: saves a query on the happy path."""
        return bool(ctx.run.attempts) or ctx.run.started_at is not None or ctx.owing

    def _had_tasks(self, ctx: Context) -> bool:
        paused = any(step.params.get("pause") for step in ctx.run.plan.steps)
        return paused or any(facts.get("decision") == "asked" for _, _, facts, _ in ctx.said)


def _close_tasks(tx: Tx, run: Run) -> None:
    """Nobody is asked for anything any more, and nobody waits."""
    now = connections.by_id(tx, run.connection_id)
    if now is not None and now.state is ConnectionState.PAUSED:
        connections.change(tx, now.id, state=ConnectionState.ACTIVE.value)
    for task in tasks.of_run(tx, run.id):
        sealed.destroy_all(tx, task_row(task.id))
        if task.state is TaskState.SUBMITTED:
            tasks.change(tx, task.id, state=TaskState.DONE.value)
        elif task.state in tasks.OPEN_STATES:
            tasks.change(tx, task.id, state=TaskState.CANCELLED.value, why="the run ended")

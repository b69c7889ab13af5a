"""Handing a new credential to another party: a person tells them; its first use, or their word, goes on."""

from __future__ import annotations

from keyturn.executor.context import Context
from keyturn.executor.moves import Done, Move, Wait
from keyturn.executor.tasking import open_task, task_of, waiting_for
from keyturn.model.card import Strategy
from keyturn.model.plan import Step
from keyturn.model.run import LineKind, TaskState
from keyturn.storage import tasks

LOOK_AGAIN_S = 5.0


def handover(ctx: Context, step: Step) -> Move:
    """Opens the task once and waits for its answer. The old one is not touched before: nobody is late for it.

    A credential that this hub issued closes the task by its first use; where a vendor counts our own tests as uses, only
    somebody's word does. A task nobody did in time is owed and goes on: the drain behind it still waits for the use.
    """
    task = task_of(ctx, step)
    if _was_used(ctx):
        if task is not None and task.state in {*tasks.OPEN_STATES, TaskState.SUBMITTED}:
            ctx.later(lambda tx: tasks.change(tx, task.id, state=TaskState.DONE.value, why="seen in use"))
        ctx.line(step, LineKind.OBSERVED, what="first_use", version=ctx.new.id if ctx.new else "")
        return Done()
    if task is None:
        return _look_again(ctx, open_task(ctx, step, kind="handover", title="hand the new one over"))
    if task.state in {TaskState.SUBMITTED, TaskState.DONE}:
        ctx.later(lambda tx: tasks.change(tx, task.id, state=TaskState.DONE.value))
        ctx.line(step, LineKind.DECISION, decision="handed_over", task=task.id, by=task.claimed_by)
        return Done()
    if task.state in {TaskState.EXPIRED, TaskState.CANCELLED}:
        ctx.owe("not_handed_over", "nobody handed the new credential over in time", ctx.new)
        return Done()
    return waiting_for(ctx, step, task, poll_s=LOOK_AGAIN_S)


def _look_again(ctx: Context, wait: Wait) -> Wait:
    until = min(wait.until, ctx.hub.clock() + LOOK_AGAIN_S * ctx.hub.patience)
    return Wait(until, wait.why, wait.state)


def _was_used(ctx: Context) -> bool:
    new = ctx.new
    if new is None or ctx.card.strategy is not Strategy.ISSUED or ctx.can.lister is None:
        return False
    return any(
        remote.ref.same_place(new.ref) and remote.last_used_at is not None
        for remote in ctx.can.lister.list(ctx.access())
    )

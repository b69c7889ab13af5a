"""Opening tasks and waiting for people: instructions filled with this connection's names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from keyturn.contract.manifest import GuideStep
from keyturn.definitions.expressions import fill
from keyturn.executor.context import Context
from keyturn.executor.moves import Wait
from keyturn.model.credential import State, Version
from keyturn.model.ids import TaskId, new_id
from keyturn.model.plan import Kind, Step
from keyturn.model.run import LineKind, RunState, Task, TaskState
from keyturn.storage import tasks
from keyturn.storage.database import Tx
from keyturn.vault.secrets import task_row


def task_of(ctx: Context, step: Step) -> Task | None:
    """The step's latest task that was not taken back."""
    found = ctx.hub.store.read(lambda tx: tasks.of_run(tx, ctx.run.id, ctx.key(step)))
    alive = [task for task in found if task.state is not TaskState.CANCELLED or task.why == "cancelled"]
    return alive[-1] if alive else None


def open_task(
    ctx: Context,
    step: Step,
    *,
    kind: str,
    title: str,
    url: str = "",
    session: Mapping[str, str] | None = None,
    version: Version | None = None,
    why: str = "",
) -> Wait:
    """Buffers a new task and waits for its person. A second look after a crash finds the first task instead."""
    method, now = ctx.row.method, ctx.hub.clock()
    guide = method.revoke_steps if kind == "delete" else method.create_steps
    if kind == "consent" and ctx.card.own_client:
        guide = ()  # the steps for creating are about the client, which is there by now
    if kind == "supply" and step.kind is not Kind.ASK:
        guide = (*method.recovery_steps, *guide)
    if step.params.get("recovery") and method.recovery_steps:
        guide = method.recovery_steps
    instructions = [_instruction(ctx, each, version) for each in guide]
    if url:
        instructions = [{"text": "Open the authorization page and consent", "url": url}, *instructions]
    task = Task(
        id=TaskId(new_id("tsk")),
        run_id=ctx.run.id,
        connection_id=ctx.connection.id,
        step=ctx.key(step),
        kind=kind,
        state=TaskState.OPEN,
        title=f"{ctx.connection.name}: {title}",
        instructions=tuple(instructions),
        fields=tuple(_fields(ctx, kind, whole=bool(step.params.get("client")))),
        claimed_by="",
        claimed_until=0.0,
        why=why,
        created_at=now,
        due_at=now + ctx.policy.task_days * 86400,
        lookup=ctx.hub.fingerprint("state:" + session["state"]) if session and session.get("state") else "",
    )
    if session is not None:
        ctx.later(
            ctx.hub.secrets.sealing(f"{task_row(task.id)}:session", json.dumps(dict(session)).encode(), now)
        )
    ctx.later(lambda tx: tasks.add(tx, task))
    ctx.line(step, LineKind.DECISION, decision="asked", task=task.id, title=title)
    return Wait(task.due_at, f"a person: {title}", RunState.WAITING_HUMAN)


def waiting_for(ctx: Context, step: Step, task: Task, poll_s: float | None = None) -> Wait:
    """Waits on for the person; an overdue task expires."""
    now = ctx.hub.clock()
    if now >= task.due_at:
        ctx.later(
            lambda tx: tasks.change(tx, task.id, state=TaskState.EXPIRED.value, why="nobody did it in time")
        )
        ctx.line(step, LineKind.DECISION, decision="expired", task=task.id)
        return Wait(now, "the task expired")
    until = task.due_at if poll_s is None else min(task.due_at, now + poll_s * ctx.hub.patience)
    who = (
        f"{task.claimed_by} works on it"
        if task.claimed_by and task.claimed_until > now
        else "nobody claimed it yet"
    )
    return Wait(until, f"a person ({who})", RunState.WAITING_HUMAN)


def rescue(ctx: Context, step: Step, why: str) -> Wait | Task:
    """No known value works: LOST, with a task that asks for one that does; the task once somebody answered it."""
    task = task_of(ctx, step)
    if task is not None and task.state is TaskState.SUBMITTED:
        return task
    if task is None or task.state not in tasks.OPEN_STATES:
        wait = open_task(ctx, step, kind="supply", title="bring a value that works", why=why)
    else:
        wait = waiting_for(ctx, step, task)
    return Wait(
        wait.until, f"LOST: {why}; follow the vendor's recovery steps and submit what works", RunState.LOST
    )


def return_task(ctx: Context, step: Step, why: str) -> None:
    """Buffers giving a step's answered task back to its person, with the reason.

    A consent's state and code work once, so a consent is asked for anew instead.
    """
    key = ctx.key(step)
    anew = step.kind is Kind.CONSENT
    if anew:
        ctx.line(step, LineKind.DECISION, decision="returned", why=why)

    def work(tx: Tx) -> None:
        done = [
            t for t in tasks.of_run(tx, ctx.run.id, key) if t.state in {TaskState.DONE, TaskState.SUBMITTED}
        ]
        if done:
            state = TaskState.CANCELLED.value if anew else TaskState.RETURNED.value
            tasks.change(tx, done[-1].id, state=state, why=why, claimed_by="", claimed_until=0.0)

    ctx.later(work)


def _fields(ctx: Context, kind: str, *, whole: bool = False) -> list[dict[str, Any]]:
    if kind in {"delete", "handover"}:
        return []
    if kind == "consent":
        return [
            {
                "name": "callback_url",
                "label": "The address the browser was sent back to",
                "help": "Only needed when the browser could not reach this hub by itself.",
                "secret": True,
                "required": True,
            }
        ]
    named = ctx.row.method.paste_fields or tuple(
        f.name for f in ctx.row.method.fields if (f.secret or f.part) and f.group != "admin"
    )
    found = [ctx.row.method.field(name) for name in named]
    return [
        {
            "name": f.name,
            "label": f.label,
            "help": f.help,
            "pattern": f.pattern,
            "secret": f.secret,
            "required": f.required or whole,
        }
        for f in found
        if f is not None
    ]


def _instruction(ctx: Context, guide: GuideStep, version: Version | None) -> dict[str, Any]:
    """One instruction with names filled in; secrets are not in any of the scopes."""
    scopes: dict[str, Mapping[str, Any]] = {
        "input": ctx.connection.settings,
        "current": _public(ctx, ctx.old),
        "pending": _public(ctx, ctx.new),
        "retiring": _public(ctx, version or ctx.old),
        "job": {"id": ctx.run.id},
    }
    filled: dict[str, Any] = {"text": fill(guide.text, scopes)}
    if guide.ui_path:
        filled["ui_path"] = list(guide.ui_path)
    for name in ("button", "url", "warning", "hint", "who"):
        if text := getattr(guide, name):
            filled[name] = fill(text, scopes)
    return filled


def _public(ctx: Context, version: Version | None) -> dict[str, str]:
    if version is None:
        return {}
    shown: dict[str, str] = {}
    if version.state is not State.DEAD:  # the value of a dead one may be destroyed
        material = ctx.material(version)
        shown = {name: material[name] for name in material if name in material.public}
    ref = version.ref
    return {"key_id": ref.id, "key_name": ref.label, "name": ref.label, "slot": ref.slot, **shown}

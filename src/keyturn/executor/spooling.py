"""The last resort for an answer that cannot be asked for again: a sealed spool file beside the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keyturn import boundary
from keyturn.executor.context import Context
from keyturn.executor.hub import Hub
from keyturn.executor.moves import Wait
from keyturn.model.plan import Step
from keyturn.model.run import LineKind, Outcome, RunState
from keyturn.storage import spools
from keyturn.vault import spool

ELSEWHERE_S = 900.0  # how long another host is waited for, that may hold the one copy of an answer
_ASK_S = 10.0
_WRITE_S = 30.0  # how long after an answer's last moment it may still be on its way into a spool


def spool_receipt(hub: Hub, row_id: str, raw: bytes) -> None:
    """Appends the answer, sealed to the hub's public key, and syncs it. No unlock and no database needed."""
    if hub.spool:
        boundary.reach("spool:before")
        spool.append(hub.spool, hub.spool_key, row_id, raw)
        boundary.reach("spool:after")


def elsewhere(ctx: Context, step: Step) -> Wait | None:
    """Whether the answer to a call that cannot be made again may lie in the spool of another host: until that host has
    said that its spool is empty, or is away for too long, nobody goes on as if nothing had come. None: nothing is there.
    """
    sent = [each for each in unanswered(ctx, step) if _is_away(ctx, each[1])]
    if not sent:
        return None
    _, facts, at = sent[-1]
    name, last = str(facts["spool"]), ctx.zombie_until((dict(facts), at)) + _WRITE_S * ctx.hub.patience
    now, until = ctx.hub.clock(), at + ELSEWHERE_S * ctx.hub.patience
    if now >= until or ctx.hub.store.read(lambda tx: spools.empty_at(tx, name)) > last:
        return None
    if not is_awaited(ctx, step):
        ctx.line(step, LineKind.DECISION, decision="awaits_spool", spool=name)
    why = f"the answer may lie in the spool of another host ({name}): start Keyturn there, or wait"
    return Wait(min(until, now + _ASK_S * ctx.hub.patience), why, RunState.RESOLVING)


def is_awaited(ctx: Context, step: Step) -> bool:
    """Whether another host's spool was waited for already."""
    return any(facts.get("decision") == "awaits_spool" for facts, _ in ctx.lines(step, LineKind.DECISION))


def unanswered(ctx: Context, step: Step) -> list[tuple[int, Mapping[str, Any], float]]:
    """The calls of a step of which nobody knows what became of them: number, facts and instant of each."""
    key, number = ctx.key(step), 0
    sent: list[tuple[int, Mapping[str, Any], float]] = []
    for said, kind, facts, at in ctx.said:
        if said != key:
            continue
        if kind is LineKind.INTENT:
            number += 1
            sent.append((number, facts, at))
        elif kind is LineKind.OUTCOME and facts.get("outcome") != Outcome.UNKNOWN.value and sent:
            sent.pop()
    return sent


def _is_away(ctx: Context, facts: Mapping[str, Any]) -> bool:
    return bool(facts.get("spool")) and facts["spool"] != ctx.hub.spool_name

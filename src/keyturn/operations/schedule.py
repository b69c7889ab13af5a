"""What the clock asks for: grants refreshed before their tokens end, rotations that are due begun, what was issued looked after."""

from __future__ import annotations

import time

from keyturn.bootstrap import Keyturn
from keyturn.errors import KeyturnError
from keyturn.model.credential import Connection, ConnectionState, Version
from keyturn.model.plan import Goal
from keyturn.model.policy import Policy
from keyturn.operations import approvals, runs, upkeep
from keyturn.storage import connections, versions
from keyturn.storage.database import Tx

BY = "keyturn"
AT_ONCE = 20  # begun in one look; the next look is seconds away
_AGAIN_S = {Goal.REFRESH: 900.0, Goal.ROTATE: 86400.0}  # one that ended badly is not begun again sooner
_LEAD = 0.2  # the last part of a credential's life in which it is replaced, at most _MOST_LEAD_S
_MOST_LEAD_S = 14 * 86400.0


def start_due(hub: Keyturn) -> int:
    """Begins refreshes and rotations whose time has come; how many. Then looks after what was issued. Several workers begin each once: the trigger names
    version and hour. One that cannot begin (another run is going on, a plan that is refused) keeps no other back.
    """
    approvals.expire_due(hub)
    now, begun = time.time(), 0
    refresh, rotate = hub.store.read(lambda tx: (_refreshes(tx, now), _rotations(tx, now)))
    for goal, found, why in (
        (Goal.REFRESH, refresh, "most of its token's life is over"),
        (Goal.ROTATE, rotate, "it is due"),
    ):
        for connection, version in found:
            if begun >= AT_ONCE:
                break
            before, behind = _trigger(goal, now)
            trigger = f"{before}{version.id}{behind}"
            try:
                made = runs.start(hub, connection.id, goal, reason=why, trigger=trigger, who=BY)
            except KeyturnError:
                continue
            begun += made.created_at >= now
    upkeep.look_after(hub)
    return begun


def due_at(connection: Connection, current: Version | None) -> float | None:
    """When the connection should be rotated: at its policy's age, or with time to spare before the credential ends."""
    if current is None:
        return None
    born, most = current.born_at or current.changed_at, Policy.read(connection.policy).max_age_days
    due = [born + most * 86400.0] if most else []
    if current.expires_at is not None:
        due.append(current.expires_at - min(_MOST_LEAD_S, _LEAD * max(0.0, current.expires_at - born)))
    return min(due, default=None)


def _refreshes(tx: Tx, now: float) -> list[tuple[Connection, Version]]:
    return _pairs(tx, versions.to_refresh(tx, now, AT_ONCE))


def _rotations(tx: Tx, now: float) -> list[tuple[Connection, Version]]:
    """Those whose policy says `automatic`; the rest is shown as due and left to people. Some more than are begun: a plan
    that is refused keeps no other back."""
    found = connections.to_rotate(tx, now, _trigger(Goal.ROTATE, now), 3 * AT_ONCE)
    known = {
        v.id: v for v in versions.by_ids(tx, [c.current_version_id for c in found if c.current_version_id])
    }
    pairs = ((c, known[c.current_version_id]) for c in found if c.current_version_id in known)
    return [(c, v) for c, v in pairs if (due_at(c, v) or now) <= now]


def _trigger(goal: Goal, now: float) -> tuple[str, str]:
    """What a run's trigger is, before and behind the id of the version."""
    return f"clock/{goal.value}/", f"/{int(now // _AGAIN_S[goal])}"


def _pairs(tx: Tx, found: list[Version]) -> list[tuple[Connection, Version]]:
    made = ((connections.by_id(tx, version.connection_id), version) for version in found)
    return [(c, v) for c, v in made if c is not None and c.state is ConnectionState.ACTIVE]

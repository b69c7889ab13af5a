"""What the hub does by itself about what it issued: reminds whoever still uses an old secret, sums up once a week for each
owner, warns of what nobody uses and ends it a month later.

What was told is marked in the commit that tells it, so that several workers tell it once.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.errors import KeyturnError
from keyturn.issued import endings, kinds
from keyturn.model.credential import Connection, ConnectionState
from keyturn.model.ids import ConnectionId
from keyturn.model.moment import iso
from keyturn.model.policy import Policy
from keyturn.operations import issued as issued_operations
from keyturn.operations import notices, register
from keyturn.operations.register import WARNING_DAYS
from keyturn.storage import connections, issued, runs
from keyturn.storage import notices as rows
from keyturn.storage import register as register_rows
from keyturn.storage.database import Tx
from keyturn.storage.issued import IssuedSecret

PARTS = (50, 80, 95)  # of an overlap in hundredths, at which whoever still calls with the old one is named
SHORTEST_S = 3600.0  # an overlap shorter than this is over before a reminder is read
BY = "keyturn"
_DAY_S = 86400.0
_MOST = 40  # lines of one letter
_DIGEST, _HOUR = "digest", "upkeep"


def look_after(hub: Keyturn) -> None:
    """All of it, as often as the clock is looked at; what nobody uses once an hour."""
    remind(hub)
    sum_up(hub)
    now = time.time()
    hour = f"{now // 3600:.0f}"
    if hub.store.read(lambda tx: rows.marks(tx, [_HOUR])).get(_HOUR) != hour:
        end_unused(hub, now)
        hub.store.write(lambda tx: rows.mark(tx, [(_HOUR, hour, True)], now))


def remind(hub: Keyturn, now: float | None = None) -> int:
    """Names callers that still use a secret on its way out, at 50, 80 and 95 % of its overlap; how many notices."""
    now = time.time() if now is None else now
    found = hub.store.read(lambda tx: [each for s in issued.retiring(tx) if (each := _late(tx, s, now))])
    return sum(
        _tell(hub, subject, mark, "credential.late", to, facts, is_open=False)
        for subject, mark, to, facts in found
    )


def _late(tx: Tx, secret: IssuedSecret, now: float) -> tuple[str, str, str, dict[str, Any]] | None:
    """The latest part of the overlap that is over, when somebody called with the old one since the part before it."""
    ending = endings.of(tx, secret)
    if ending.since is None or ending.until is None or ending.until - ending.since < SHORTEST_S:
        return None
    lasts_s = ending.until - ending.since
    over = [part for part in PARTS if now >= ending.since + lasts_s * part / 100]
    subject = f"late/{secret.version_id}"
    if not over or rows.marks(tx, [subject]).get(subject) == str(over[-1]):
        return None
    before = ending.since + lasts_s * (over[-2] if len(over) > 1 else 0) / 100
    callers = register_rows.callers(tx, [secret.version_id], before)
    connection = connections.by_id(tx, secret.connection_id)
    if not callers or connection is None:
        return None
    facts = {
        "connection": connection.name,
        "owner": connection.owner,
        "contact": str(connection.settings.get("contact", "")),
        "slot": secret.slot,
        "over": f"{over[-1]} %",
        "ends": iso(ending.until),
        "items": [f"{c.address or 'somewhere'} ({c.agent or 'no agent'})" for c in callers[:_MOST]],
    }
    return subject, str(over[-1]), secret.connection_id, facts


def sum_up(hub: Keyturn, now: float | None = None) -> int:
    """Once a week and for each owner, what is odd about what they answer for; how many notices. The first week is silent."""
    now = time.time() if now is None else now
    week = time.strftime("%G-W%V", time.gmtime(now))
    before = hub.store.read(lambda tx: rows.marks(tx, [_DIGEST])).get(_DIGEST, "")
    if before == week:
        return 0
    owners: dict[str, list[str]] = defaultdict(list)
    if before:
        every = issued_operations.every(hub)
        said = register.findings(hub, now, every)
        for each in every:
            name = each.connection.name
            if name in said:
                owners[each.connection.owner].append(f"{name}: {'; '.join(said[name])}")

    def work(tx: Tx) -> int:
        rows.lock(tx)
        if rows.marks(tx, [_DIGEST]).get(_DIGEST, "") != before:
            return 0
        rows.mark(tx, [(_DIGEST, week, True)], now)
        for owner, lines in sorted(owners.items()):
            more = [f"and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
            facts = {"owner": owner, "week": week, "items": [*lines[:_MOST], *more]}
            notices.tell(tx, "issued.digest", "", f"{_DIGEST}/{owner}", facts)
        return len(owners)

    return hub.store.write(work)


def end_unused(hub: Keyturn, now: float | None = None) -> int:
    """Warns of credentials that nobody used for as long as their policy allows less a month, and ends them when the month
    is over; how many notices. A use in between, or an open run, leaves them alone."""
    now = time.time() if now is None else now
    told = 0
    for connection_id, used_at in hub.store.read(lambda tx: issued.idle(tx, now - _DAY_S)):
        connection = hub.store.read(lambda tx, each=connection_id: _untouched(tx, each))  # type: ignore[misc]
        if connection is not None:
            told += _warn_or_end(hub, connection, used_at, now)
    return told


def _untouched(tx: Tx, connection_id: ConnectionId) -> Connection | None:
    """The credential, if it is one whose uses are seen here and nothing is being done with it."""
    found = connections.by_id(tx, connection_id)
    if found is None or found.state is not ConnectionState.ACTIVE:
        return None
    if not kinds.is_ours(found.system, found.method) or runs.unfinished_of(tx, connection_id) is not None:
        return None
    return found


def _warn_or_end(hub: Keyturn, connection: Connection, used_at: float, now: float) -> int:
    days = Policy.read(connection.policy).unused_days
    if not days or now < used_at + register.warned_after_s(days):
        return 0
    subject, last = f"unused/{connection.id}", f"{used_at:.0f}"
    before, _, ends = hub.store.read(lambda tx: rows.marks(tx, [subject])).get(subject, "").partition("/")
    facts = {"connection": connection.name, "owner": connection.owner, "unused_since": iso(used_at)}
    if before != last:  # it was used since it was last spoken of, or never spoken of
        ends_at = max(used_at + days * _DAY_S, now + min(WARNING_DAYS, days / 2) * _DAY_S)
        facts = {**facts, "ends": iso(ends_at)}
        return _tell(hub, subject, f"{last}/{ends_at:.0f}", "credential.unused", connection.id, facts)
    if ends in {"", "ended"} or now < float(ends):
        return 0
    with suppress(KeyturnError):  # somebody was quicker, or is at it: looked at again
        issued_operations.revoke(hub, connection.id, reason=f"not used for {days:g} days", who=BY)
        facts = {**facts, "ended": iso(now)}
        return _tell(hub, subject, f"{last}/ended", "credential.unused", connection.id, facts)
    return 0


def _tell(
    hub: Keyturn,
    subject: str,
    mark: str,
    topic: str,
    connection_id: str,
    facts: Mapping[str, Any],
    *,
    is_open: bool = True,
) -> int:
    """One notice, unless another worker told it meanwhile. `is_open`: that it was told is kept for longer than a month."""

    def work(tx: Tx) -> int:
        rows.lock(tx)
        if rows.marks(tx, [subject]).get(subject) == mark:
            return 0
        rows.mark(tx, [(subject, mark, is_open)], time.time())
        notices.tell(tx, topic, connection_id, subject, facts)
        return 1

    return hub.store.write(work)

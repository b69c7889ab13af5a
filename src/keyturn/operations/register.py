"""Who holds what this hub issued: declared holders, callers that were seen, and one-time links that hand a value over.

Asked before anything is changed: whoever is named here is cut off by it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput, NotFound
from keyturn.issued import kinds
from keyturn.issued import reveal as kept
from keyturn.model.credential import Connection, Version
from keyturn.model.ids import ConnectionId, new_id
from keyturn.model.moment import iso
from keyturn.model.policy import Policy
from keyturn.model.run import LineKind
from keyturn.model.secret import Secret
from keyturn.operations import issued as issued_operations
from keyturn.operations.connections import find
from keyturn.operations.issued import Issued
from keyturn.storage import bulk, connections, journal, people, register, runs, sealed, versions
from keyturn.storage.database import Tx
from keyturn.storage.issued import ACCEPTED, IssuedSecret
from keyturn.storage.register import Holder, Pickup, Seen
from keyturn.vault.secrets import version_row

LINK_S, LONGEST_LINK_S = 86400.0, 7 * 86400.0
SEEN_S = 30 * 86400.0
_DAY_S = 86400.0
UNUSED_S, OLD_S = 90 * _DAY_S, 90 * _DAY_S
WARNING_DAYS = 30.0  # between a warning and the end of what nobody uses
_SHORT = 200


@dataclass(frozen=True)
class Whereabouts:
    """Where an issued credential is: whom it was given to, who calls with which slot, what runs, and what is odd."""

    connection: Connection
    kind: str
    secrets: tuple[IssuedSecret, ...]
    holders: tuple[Holder, ...]
    callers: tuple[Seen, ...]
    loads: tuple[str, ...]
    findings: tuple[str, ...]

    def slot(self, version_id: str) -> str:
        """The slot of a version; empty for one that is not known any more."""
        return next((s.slot for s in self.secrets if s.version_id == version_id), "")

    def owed(self) -> tuple[Holder, ...]:
        """Holders who have not confirmed the newest secret."""
        newest = self.secrets[0].version_id if self.secrets else ""
        return tuple(h for h in self.holders if h.version_id != newest or h.state != "confirmed")


def told(found: Whereabouts) -> dict[str, Any]:
    """The same for programs."""
    owed = {holder.name for holder in found.owed()}
    return {
        "name": found.connection.name,
        "kind": found.kind,
        "holders": [
            {
                "name": h.name,
                "contact": h.contact,
                "place": h.place,
                "state": h.state,
                "owed": h.name in owed,
                "changed": iso(h.changed_at),
                "by": h.changed_by,
            }
            for h in found.holders
        ],
        "callers": [
            {
                "slot": found.slot(c.version_id),
                "address": c.address,
                "agent": c.agent,
                "first": iso(c.first_at),
                "last": iso(c.last_at),
                "uses": c.uses,
            }
            for c in found.callers
        ],
        "loads": list(found.loads),
        "findings": list(found.findings),
    }


def hold(
    hub: Keyturn, name: str, holder: str, *, contact: str = "", place: str = "", who: str = ""
) -> Holder:
    """Puts somebody on the register of an issued credential, or changes what is known of them. Journaled."""
    connection, who, now = _ours(hub, name), who or hub.settings.actor, time.time()
    words = {"holder": holder, "contact": contact, "place": place}
    for field, text in words.items():
        if len(text) > _SHORT or any(not c.isprintable() for c in text):
            raise InvalidInput(f"{field} has up to {_SHORT} printable characters", field=field)
    if not holder.strip():
        raise InvalidInput("the holder needs a name", field="holder")
    row = Holder(new_id("hld"), connection.id, holder.strip(), contact, place, "told", "", now, who)
    facts = {"decision": "holder_put", **words, "by": who}

    def work(tx: Tx) -> Holder:
        register.put_holder(tx, row)
        journal.append(tx, connection.id, [journal.Entry(now, "", "register", LineKind.DECISION, 0, facts)])
        return next(h for h in register.holders(tx, connection.id) if h.name == row.name)

    return hub.store.write(work)


def confirm(hub: Keyturn, name: str, holder: str, who: str = "") -> None:
    """Notes somebody's word that a holder uses the newest secret. The first use decides, not this."""
    connection, who, now = _ours(hub, name), who or hub.settings.actor, time.time()
    facts = {"decision": "holder_confirmed", "holder": holder, "by": who}

    def work(tx: Tx) -> None:
        newest = _newest(tx, connection)
        if not register.move_holder(tx, connection.id, holder, "confirmed", newest, now, who):
            raise NotFound(f"{holder} is not on the register of {name}", field="holder")
        journal.append(tx, connection.id, [journal.Entry(now, "", "register", LineKind.DECISION, 0, facts)])

    hub.store.write(work)


def let_go(hub: Keyturn, name: str, holder: str, who: str = "") -> None:
    """Takes somebody off the register. Journaled. Raises: NotFound."""
    connection, who, now = _ours(hub, name), who or hub.settings.actor, time.time()
    facts = {"decision": "holder_gone", "holder": holder, "by": who}

    def work(tx: Tx) -> None:
        if not register.drop_holder(tx, connection.id, holder):
            raise NotFound(f"{holder} is not on the register of {name}", field="holder")
        journal.append(tx, connection.id, [journal.Entry(now, "", "register", LineKind.DECISION, 0, facts)])

    hub.store.write(work)


def _newest(tx: Tx, connection: Connection) -> str:
    found = connections.by_id(tx, connection.id)
    return str(found.current_version_id or "") if found is not None else ""


def _ours(hub: Keyturn, name: str) -> Connection:
    """An issued credential. Raises: NotFound, InvalidInput for a connection to somebody else's system."""
    connection = find(hub, name)
    if hub.catalog.method(connection.system, connection.method).direction != "inbound":
        raise InvalidInput(
            f"{name} is a connection to {connection.system}; this hub did not issue it",
            hint="`keyturn use` declares who uses a connection.",
            field="name",
        )
    return connection


def where_used(hub: Keyturn, name: str, now: float | None = None) -> Whereabouts:
    """Who has an issued credential and who called with it within 30 days. Changes nothing."""
    found, now = issued_operations.get(hub, _ours(hub, name).id), now or time.time()
    ids = [s.version_id for s in found.secrets]

    def look(tx: Tx) -> tuple[list[Holder], list[Seen], list[str], frozenset[str]]:
        return (
            register.holders(tx, found.connection.id),
            register.callers(tx, ids, now - SEEN_S),
            [load.id for load in bulk.of_versions(tx, ids)],
            _gone(tx),
        )

    held, callers, loads, gone = hub.store.read(look)
    return Whereabouts(
        found.connection,
        found.kind,
        found.secrets,
        tuple(held),
        tuple(callers),
        tuple(loads),
        _findings(found, now, gone),
    )


def _gone(tx: Tx) -> frozenset[str]:
    """The logins of people whose accounts are switched off."""
    return frozenset(each.login for each in people.every(tx, "person") if each.disabled_at is not None)


def _findings(found: Issued, now: float, gone: frozenset[str]) -> tuple[str, ...]:
    """What is odd about a credential: old, unused, without anybody to tell or to answer for it."""
    said, connection, known = [], found.connection, found.secrets
    counts_uses = kinds.named(found.kind).is_ours_to_check
    live = [s for s in known if s.state in ACCEPTED and (s.ends_at is None or now < s.ends_at)]
    limit_s = float(connection.policy.get("max_age_days", 0) or 0) * _DAY_S or OLD_S
    for secret in live:
        where = f"slot {secret.slot}" if secret.slot else f"key ...{secret.hint}"
        age = now - secret.created_at
        idle = now - (secret.last_used_at or secret.created_at)
        if age >= limit_s:
            said.append(f"{where} is {int(age / _DAY_S)} days old")
        if counts_uses and secret.last_used_at is None and age >= 7 * _DAY_S:
            said.append(f"{where} was never used")
        elif secret.last_used_at is not None and idle >= UNUSED_S:
            said.append(f"{where} was not used for {int(idle / _DAY_S)} days")
        if secret.ends_at is not None and 0 < secret.ends_at - now <= 5 * _DAY_S:
            said.append(f"{where} expires in {max(1, round((secret.ends_at - now) / _DAY_S))} days")
    last = max((s.last_used_at or s.starts_at or s.created_at for s in live), default=now)
    limit = Policy.read(connection.policy).unused_days
    if counts_uses and limit and now - last >= warned_after_s(limit):
        said.append(f"nobody uses it: it is ended after {limit:g} days, and not before somebody was warned")
    if len(live) > 1 and all(s.last_used_at is not None for s in live):
        said.append("both slots are in use")
    if live and not connection.settings.get("contact"):
        said.append("nobody to tell: it has no contact")
    if live and connection.owner in gone:
        said.append(f"its owner {connection.owner} has left: name another one")
    return tuple(said)


def warned_after_s(unused_days: float) -> float:
    """How long nobody may use a credential before somebody is told that it will be ended."""
    return max(unused_days - WARNING_DAYS, unused_days / 2) * _DAY_S


def findings(
    hub: Keyturn, now: float | None = None, among: Sequence[Issued] | None = None
) -> dict[str, tuple[str, ...]]:
    """What is odd, by name; credentials without findings are left out. Of all of them when none are given."""
    gone = hub.store.read(_gone)
    found = {
        each.connection.name: _findings(each, now or time.time(), gone)
        for each in (issued_operations.every(hub) if among is None else among)
    }
    return {name: said for name, said in found.items() if said}


def affected(hub: Keyturn, name: str, slot: str | None = None, within_s: float = 7 * _DAY_S) -> list[str]:
    """Whom a change of an issued credential hits, in words: asked before every one. Empty when nobody is known."""
    found, now = where_used(hub, name), time.time()
    live = {s.version_id for s in found.secrets if s.state in ACCEPTED and (slot is None or s.slot == slot)}
    said = [
        f"{seen.address or 'somewhere'} ({seen.agent or 'no agent'}), slot {found.slot(seen.version_id)}, {seen.uses} calls"
        for seen in found.callers
        if seen.version_id in live and seen.last_at > now - within_s
    ]
    said += [
        f"{h.name}" + (f", {h.contact}" if h.contact else "") + (f", in {h.place}" if h.place else "")
        for h in found.holders
    ]
    return said + [f"bulk load {load}" for load in found.loads]


# -- one-time links ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    """A one-time link, for the one answer that shows it. Whoever has it can open it once until `until_at`."""

    url: Secret
    code: Secret
    connection: Connection
    holder: str
    until_at: float


@dataclass(frozen=True)
class Opened:
    """What a link held: the values by name, and for what."""

    name: str
    values: Mapping[str, str]
    holder: str


def link(hub: Keyturn, name: str, holder: str = "", *, for_s: float = LINK_S, who: str = "") -> Link:
    """A one-time link to the newest value of an issued credential, for whoever is to have it. Journaled; links to it
    that nobody opened end.

    A key that the hub keeps no value of can be linked within ten minutes of its making, or while a link to it is unopened.
    Raises: Conflict when the value is nowhere any more, InvalidInput.
    """
    connection, who, now = _ours(hub, name), who or hub.settings.actor, time.time()
    if not 60 <= for_s <= LONGEST_LINK_S:
        raise InvalidInput("a link lives for a minute to 7 days", field="for")
    version, values = _newest_value(hub, connection)
    code = secrets.token_urlsafe(32)
    digest = _digest(hub, code)
    row = Pickup(digest, version.id, connection.id, holder, who, now, now + for_s, None, "")
    seal = hub.secrets.sealing(_row(digest), json.dumps(values).encode(), now)
    facts = {
        "decision": "link_made",
        "version": version.id,
        "holder": holder,
        "until": row.until_at,
        "by": who,
    }

    def work(tx: Tx) -> None:
        for before in register.pickups(tx, version.id):
            if before.opened_at is None and before.holder == holder:
                register.void_pickup(tx, before.digest, now)
                sealed.destroy(tx, _row(before.digest))
        seal(tx)
        sealed.destroy_later(tx, _row(digest), row.until_at)
        register.add_pickup(tx, row)
        if holder:
            if all(h.name != holder for h in register.holders(tx, connection.id)):
                fresh = Holder(new_id("hld"), connection.id, holder, "", "", "told", version.id, now, who)
                register.put_holder(tx, fresh)
            register.move_holder(tx, connection.id, holder, "told", version.id, now, who)
        journal.append(tx, connection.id, [journal.Entry(now, "", "register", LineKind.DECISION, 0, facts)])

    hub.store.write(work)
    url = f"{hub.settings.public_url}/handover#{code}"  # behind #: no server log and no proxy sees it
    return Link(Secret(url), Secret(code), connection, holder, row.until_at)


def _newest_value(hub: Keyturn, connection: Connection) -> tuple[Version, dict[str, str]]:
    """The value that serves (or, while a rotation waits, the newest made) and its version. Raises: Conflict."""

    def look(tx: Tx) -> tuple[Version | None, list[Pickup]]:
        as_is = connections.by_id(tx, connection.id)
        current = as_is.current_version_id if as_is is not None else None
        version = versions.by_id(tx, current) if current else None
        return version, register.pickups(tx, version.id) if version else []

    version, links = hub.store.read(look)
    if version is not None:
        material = hub.secrets.material(version_row(version.id))
        if "digest" not in material:
            return version, dict(material)
        value = material.get("value") or kept.find(hub.secrets, material["digest"], time.time())
        if value:
            return version, {"value": value}
        for each in links:
            found = (
                hub.secrets.find(_row(each.digest))
                if each.opened_at is None and each.until_at > time.time()
                else None
            )
            if found is not None:
                return version, json.loads(found)
    raise Conflict(
        f"the value of {connection.name} is nowhere any more: it was handed over, or its ten minutes are over",
        hint=f"Use `keyturn reissue {quote(connection.name)}` for a new one.",
    )


def _digest(hub: Keyturn, code: str) -> str:
    return hub.roots.token_digest(f"pickup:{code}")


def _row(digest: str) -> str:
    return f"pickup:{digest}"


def open_link(hub: Keyturn, code: str, *, address: str = "") -> Opened:
    """What the link holds, once; it is destroyed in the same commit that says so. Journaled with the address.

    Raises: NotFound for a wrong, used or ended one alike.
    """
    gone = NotFound("this link was used, has ended or never was", hint="Ask whoever sent it for another one.")
    if not 20 <= len(code) <= 100:
        raise gone
    digest, now = _digest(hub, code), time.time()
    row = hub.store.read(lambda tx: register.pickup(tx, digest))
    held = hub.secrets.find(_row(digest)) if row is not None else None
    if row is None or held is None:
        raise gone
    facts = {"what": "link_opened", "version": row.version_id, "holder": row.holder, "from": address[:64]}

    def work(tx: Tx) -> Connection:
        if not register.open_pickup(tx, digest, now, address[:64]):
            raise gone
        sealed.destroy(tx, _row(digest))
        if row.holder:
            register.move_holder(tx, row.connection_id, row.holder, "opened", row.version_id, now, "link")
        entry = journal.Entry(now, "", "register", LineKind.OBSERVED, 0, facts)
        journal.append(tx, row.connection_id, [entry])
        connection = connections.by_id(tx, row.connection_id)
        if connection is None:
            raise gone
        return connection

    connection = hub.store.write(work)
    return Opened(connection.name, json.loads(held), row.holder)


def acknowledge(hub: Keyturn, code: str, *, address: str = "") -> str:
    """The outsider says that the value is in place, with the link they opened: their holder is confirmed, and the task of
    an open rotation is answered. Again is fine. Returns the credential's name. Raises: NotFound."""
    digest, now = _digest(hub, code), time.time()
    facts = {"what": "link_acknowledged", "from": address[:64]}

    def work(tx: Tx) -> tuple[str, ConnectionId]:
        row = register.pickup(tx, digest)
        connection = connections.by_id(tx, row.connection_id) if row is not None and row.opened_at else None
        if row is None or connection is None:
            raise NotFound("this link was not opened yet, or never was", hint="Open it first.")
        if row.holder:
            register.move_holder(tx, row.connection_id, row.holder, "confirmed", row.version_id, now, "link")
        journal.append(
            tx,
            connection.id,
            [journal.Entry(now, "", "register", LineKind.OBSERVED, 0, {**facts, "holder": row.holder})],
        )
        for run in runs.recent(tx, connection.id, 3):
            runs.wake(tx, run.id, now)
        return connection.name, connection.id

    name, connection_id = hub.store.write(work)
    _answer_task(hub, connection_id)
    return name


def _answer_task(hub: Keyturn, connection_id: ConnectionId) -> None:
    """Submits the open hand-over task of this credential, if there is one."""
    from keyturn.operations import tasks

    for task in tasks.waiting_of(hub, connection_id):
        if task.kind == "handover":
            try:
                tasks.submit(hub, task.id, {}, "link")
            except Conflict:
                return  # somebody was quicker


__all__ = [
    "Holder",
    "Link",
    "Opened",
    "Seen",
    "Whereabouts",
    "acknowledge",
    "affected",
    "confirm",
    "findings",
    "hold",
    "let_go",
    "link",
    "open_link",
    "told",
    "where_used",
]

"""Resolving a credential at use time, and holding it: what `keyturn lease` and programs call."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote

from keyturn.bootstrap import Keyturn
from keyturn.definitions.expressions import fill
from keyturn.errors import Conflict, InvalidInput
from keyturn.model.credential import Connection, ConnectionState, State, Version
from keyturn.model.ids import LeaseId, new_id
from keyturn.model.run import LineKind
from keyturn.model.secret import Material
from keyturn.operations.connections import find
from keyturn.planner.shapes import ONE_SLOT
from keyturn.storage import connections, consumers, journal, versions
from keyturn.storage.consumers import Consumer, Lease
from keyturn.storage.database import Tx
from keyturn.vault.secrets import version_row

KINDS = ("live", "cached", "deploy-time", "pushed", "outside")


@dataclass(frozen=True)
class Held:
    """A resolved credential. While a one-slot value is being changed, `other` is the second one to try on a refusal."""

    lease_id: LeaseId
    connection: Connection
    version: Version
    material: Material
    other: Material | None
    not_after: float


def take(hub: Keyturn, name: str, consumer: str, *, ttl_s: float = 300.0) -> Held:
    """Leases what serves now for `ttl_s` seconds: the version is not ended before the lease is.

    Raises: Conflict when nothing serves (disconnected, waiting for authorization).
    """
    _check(ttl_s)
    now = time.time()
    lease_id = LeaseId(new_id("lse"))

    def work(tx: Tx) -> tuple[Connection, Version, Version | None]:
        connection, version, other = _serving(tx, name)
        lease = consumers.Lease(lease_id, connection.id, version.id, consumer, now, now + ttl_s, None)
        consumers.add_lease(tx, lease)
        consumers.seen(tx, connection.id, consumer, connection.generation, now)
        return connection, version, other

    wanted = find(hub, name)
    if hub.catalog.method(wanted.system, wanted.method).direction == "inbound":
        raise InvalidInput(
            f"{name} was issued by this hub: whoever it was handed to holds it, the hub keeps only a digest",
            hint="Leases are for credentials of other systems.",
            field="name",
        )
    connection, version, other = hub.store.write(work)
    return _held(hub, lease_id, connection, version, other, now + ttl_s)


def _check(ttl_s: float) -> None:
    if not 1 <= ttl_s <= 7 * 86400:
        raise InvalidInput("ttl_s must be between 1 second and 7 days", field="ttl_s")


def resolve(hub: Keyturn, name: str) -> Held:
    """What serves now, without holding it: for consumers that resolve at every use. Reads only."""
    connection, version, other = hub.store.read(lambda tx: _serving(tx, name))
    return _held(hub, LeaseId(""), connection, version, other, time.time())


def _serving(tx: Tx, name: str) -> tuple[Connection, Version, Version | None]:
    connection = connections.by_name(tx, name)
    if connection is None or connection.current_version_id is None:
        state = connection.state.value if connection else "unknown"
        raise Conflict(
            f"{name} has no credential to lease ({state})", hint=f"Use `keyturn reconnect {quote(name)}`."
        )
    if connection.state is ConnectionState.PAUSED:
        raise Conflict(
            f"{name} is paused while a person replaces its credential",
            hint="Wait; it resumes by itself as soon as the new one is proven.",
            paused=True,
        )
    version = versions.by_id(tx, connection.current_version_id)
    if version is None or version.state is State.SUSPECT:
        raise Conflict(f"{name} is suspected to be compromised and is not served")
    place = (version.ref.id, version.ref.slot)
    pending = (v for v in versions.candidates(tx, connection.id) if (v.ref.id, v.ref.slot) == place)
    return connection, version, next(pending, None)


def _held(
    hub: Keyturn,
    lease_id: LeaseId,
    connection: Connection,
    version: Version,
    other: Version | None,
    until: float,
) -> Held:
    material = hub.secrets.material(version_row(version.id))
    is_second = other is not None and hub.catalog.row_of(connection).card.strategy in ONE_SLOT
    second = hub.secrets.material(version_row(other.id)) if other and is_second else None
    return Held(lease_id, connection, version, material, second, until)


def extend(hub: Keyturn, lease_id: str, ttl_s: float = 300.0) -> bool:
    """Prolongs a lease; False when it ended, or what it holds is being ended: resolve again."""
    _check(ttl_s)
    now = time.time()
    return hub.store.write(lambda tx: consumers.extend_lease(tx, LeaseId(lease_id), now, now + ttl_s))


def connection_of(hub: Keyturn, lease_id: str) -> Connection | None:
    """Whose credential a lease holds."""

    def work(tx: Tx) -> Connection | None:
        lease = consumers.lease(tx, LeaseId(lease_id))
        return connections.by_id(tx, lease.connection_id) if lease else None

    return hub.store.read(work)


def give_back(hub: Keyturn, lease_id: str) -> None:
    """Ends a lease; ending twice is fine."""
    hub.store.write(lambda tx: consumers.end_lease(tx, LeaseId(lease_id), time.time()))


def environment(hub: Keyturn, held: Held) -> dict[str, str]:
    """The variables a program finds the credential in, as its row's page names them."""
    method = hub.catalog.row_of(held.connection).method
    wanted: Mapping[str, str] = method.env
    scopes = {"input": held.connection.settings, "secret": held.material, "current": held.material}
    if wanted:
        return {name: fill(text, scopes, missing="") for name, text in wanted.items()}
    return {f"KEYTURN_{name.upper()}": held.material[name] for name in held.material}


def declare(
    hub: Keyturn, name: str, consumer: str, kind: str, *, ttl_s: float = 0.0, required: bool = True
) -> None:
    """Declares who uses a connection, so that its old credential waits for them."""
    if kind not in KINDS:
        raise InvalidInput(f"kind must be one of {', '.join(KINDS)}", field="kind")
    connection = find(hub, name)
    row = Consumer(new_id("cns"), connection.id, consumer, kind, ttl_s, required, connection.generation, None)
    facts = {"decision": "consumer_declared", "consumer": consumer, "kind": kind, "by": hub.settings.actor}

    def work(tx: Tx) -> None:
        consumers.declare(tx, row)
        entry = journal.Entry(time.time(), "", "consumer", LineKind.DECISION, 0, facts)
        journal.append(tx, connection.id, [entry])

    hub.store.write(work)


def users(hub: Keyturn, name: str) -> list[Consumer]:
    """The declared consumers of a connection."""
    connection = find(hub, name)
    return hub.store.read(lambda tx: consumers.declared(tx, connection.id))


def held(hub: Keyturn, name: str) -> list[tuple[int, Lease]]:
    """Who holds a version of a connection now, with the version's number; newest version first."""
    connection, now = find(hub, name), time.time()
    return hub.store.read(lambda tx: consumers.held(tx, connection.id, now), alone=True)

"""Connecting, testing, listing, discovering: a connection is tested before it is saved."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.contract.manifest import PROVEN
from keyturn.contract.values import Access, Found
from keyturn.errors import (
    Conflict,
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    VendorUnavailable,
)
from keyturn.executor.hub import RowOf
from keyturn.model.card import Strategy
from keyturn.model.credential import Connection, ConnectionState, Provenance, Ref, State, Version
from keyturn.model.ids import ConnectionId, PrincipalId, VersionId, new_id
from keyturn.model.policy import Policy
from keyturn.model.run import LineKind
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, Verdict, mismatch
from keyturn.operations.forms import read_form, whole_admin
from keyturn.storage import connections, journal, principals, projects, sealed, versions
from keyturn.storage.database import Tx
from keyturn.vault.secrets import admin_row, version_row

_NAME = re.compile(r"[^\W_][\w .@/-]{0,78}[\w]|[^\W_]", re.UNICODE)


@dataclass(frozen=True)
class Connected:
    """A new connection and what its first test saw."""

    connection: Connection
    probe: Probe
    negative_control: str


def connect(
    hub: Keyturn,
    system: str,
    method: str,
    name: str,
    values: Mapping[str, str],
    *,
    owner: str = "",
    policy: Mapping[str, Any] | None = None,
    definition: str = "",
) -> Connected:
    """Tests, then saves. Nothing is stored when the test does not pass.

    OAuth rows that need a person's consent are saved without a credential, in state `revoked`: authorize them next. So
    are rows that can also be authorized, when an administrator is given and no token.
    Raises: InvalidInput or Conflict (field named), CredentialRejected, VendorUnavailable.
    """
    it = _tested(hub, system, method, name, values, owner, policy, definition)
    if it.probe.verdict is not Verdict.ACCEPTED:  # waits for a consent
        admin = it.admin or _client_parts(it.material)
        saved = _save(hub, it.row, it.connection, None, Ref(), admin, it.connection.created_at, {})
        return Connected(saved, it.probe, it.control)
    ref = locate(it.row, it.access, it.material)
    facts = {"what": "connect", **it.probe.as_facts(), "negative_control": it.control}
    saved = _save(hub, it.row, it.connection, it.material, ref, it.admin, it.connection.created_at, facts)
    return Connected(saved, it.probe, it.control)


def check(
    hub: Keyturn,
    system: str,
    method: str,
    name: str,
    values: Mapping[str, str],
    *,
    owner: str = "",
    policy: Mapping[str, Any] | None = None,
    definition: str = "",
) -> Connected:
    """Everything `connect` does before it saves, and nothing after. Raises: as `connect`."""
    it = _tested(hub, system, method, name, values, owner, policy, definition)
    return Connected(it.connection, it.probe, it.control)


@dataclass(frozen=True)
class _Tested:
    """A connection about to be saved. Its probe is `unknown` only where a person's consent comes first."""

    row: RowOf
    access: Access
    connection: Connection
    material: Material
    admin: Material | None
    probe: Probe
    control: str


def _tested(
    hub: Keyturn,
    system: str,
    method: str,
    name: str,
    values: Mapping[str, str],
    owner: str,
    policy: Mapping[str, Any] | None,
    definition: str,
) -> _Tested:
    name = check_name(hub, name)
    own = dict(policy or {})
    Policy.read(own)
    hub.catalog.method(system, method)
    row = hub.catalog.row(system, method, values, definition)
    settings, material, admin = read_form(f"{system}/{method}", row.method, values)
    whole_admin(row.method, values)
    hub.store.read(lambda tx: _not_second(hub, tx, system))
    row = hub.catalog.row(system, method, settings, definition)
    if row.card.strategy is Strategy.NOTHING:
        own["max_age_days"] = 0
    connection = Connection(
        id=ConnectionId(new_id("con")),
        name=name,
        system=system,
        method=method,
        settings=settings,
        principal_id=PrincipalId(""),
        owner=owner or hub.settings.actor,
        policy=own,
        identity={},
        state=ConnectionState.ACTIVE,
        generation=0,
        current_version_id=None,
        definition_hash=definition,
        created_at=time.time(),
    )
    access = Access(settings, material, admin, row.card.call_deadline_s, hub.settings.network)
    if (
        (row.card.strategy is Strategy.CONSENT or (row.can.authorizer is not None and admin is not None))
        and "refresh_token" not in material
        and "access_token" not in material
    ):
        waiting = Connection(**{**connection.__dict__, "state": ConnectionState.REVOKED})
        waits = Probe(Verdict.UNKNOWN, detail="waits for consent")
        return _Tested(row, access, waiting, material, admin, waits, "not needed")
    probe = row.can.verifier.verify(access, material)
    if probe.verdict is Verdict.REJECTED:
        raise CredentialRejected(
            f"{system} refused the credential ({probe.code})" + (f": {probe.detail}" if probe.detail else ""),
            hint="Nothing was saved. Check the values and that the account is not locked.",
            code=probe.code,
        )
    if probe.verdict is Verdict.UNKNOWN:
        raise VendorUnavailable(
            f"{system} gave no clear answer ({probe.code or 'no answer'})"
            + (f": {probe.detail}" if probe.detail else ""),
            hint="Nothing was saved. Check host, port and network, then try again.",
        )
    admin_works(row, access, saved="Nothing was saved.")
    control = negative_control(row, access, material)
    identity = dict(probe.identity)
    if probe.rights:
        identity["rights_label"] = " ".join(sorted(probe.rights))
    full = Connection(**{**connection.__dict__, "identity": identity})
    return _Tested(row, access, full, material, admin, probe, control)


def admin_works(row: RowOf, access: Access, *, saved: str) -> None:
    """The administrator sees what a run would look at first. Raises what the vendor says; `saved` says what became of it."""
    if access.admin is None or row.can.lister is None:
        return
    try:
        row.can.lister.list(access)
    except KeyturnError as error:
        raise type(error)(
            f"the administrator's access does not work: {error.message}",
            hint=f"{saved} {error.hint}".strip(),
            **error.facts,
        ) from None


def check_name(hub: Keyturn, name: str) -> str:
    """A free, well-formed name. Raises: InvalidInput, Conflict."""
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "name must be 1 to 80 letters, digits, spaces or . _ @ / -, starting with a letter or digit",
            field="name",
        )
    if hub.store.read(lambda tx: connections.by_name(tx, name)):
        raise Conflict(
            f"there is a connection named {name} already", hint="Choose another name.", field="name"
        )
    return name


def _client_parts(material: Material) -> Material | None:
    return material if len(material) else None


def negative_control(row: RowOf, access: Access, material: Material) -> str:
    """Whether a made-up credential is refused: "refused", "unclear" or "skipped". Raises when it is accepted."""
    if row.card.strategy is Strategy.ISSUED:
        return "skipped"
    try:
        bogus = row.can.verifier.bogus(material)
    except LookupError:
        return "skipped"
    found = row.can.verifier.verify(access, bogus)
    if found.verdict is Verdict.ACCEPTED:
        raise InvalidInput(
            "the test accepts a made-up credential, so it proves nothing",
            hint="The endpoint is open or trusts this address (pg_hba trust, a public URL). Nothing was saved.",
            field="test",
        )
    return "refused" if found.verdict is Verdict.REJECTED else "unclear"


def locate(row: RowOf, access: Access, material: Material) -> Ref:
    """Where a credential that came from outside sits at the vendor."""
    if row.can.locator is not None:
        return row.can.locator.locate(access, material)
    return Ref(id=material.get("key_id", ""))


def principal_key(hub: Keyturn, row: RowOf, connection: Connection) -> str:
    """The name of the remote account, the same for every connection to it by the same method.

    Where two users take turns the pair is the account, whichever of them is in use.
    """
    own = [str(hub.catalog.definition(connection.definition_hash).id)] if connection.definition_hash else []
    named = _named(row, connection)
    if not any(named):
        return f"{connection.system}/{connection.method}/{connection.id}"
    return "/".join([connection.system, connection.method, *own, *named])


_AND = " and "


def _named(row: RowOf, connection: Connection) -> list[str]:
    proven = {PROVEN: connection.identity.get("principal", "")}
    values = {name: str(value) for name, value in {**connection.settings, **proven}.items()}
    named = [values.get(field, "") for field in row.method.principal]
    pair = {values[slot] for slot in row.card.slot_names if values.get(slot)}
    return [_AND.join(sorted(pair)) if value in pair else value for value in named]


def _not_halved(tx: Tx, row: RowOf, connection: Connection) -> None:
    """One of two users that take turns is nobody's alone: the other's turn would end what is used here.

    Raises: Conflict naming the connection that has it.
    """
    if not any(row.method.field(slot) for v in row.method.variants for slot in v.card.slot_names):
        return
    named = _named(row, connection)
    mine, start = named[-1], "/".join([connection.system, connection.method, *named[:-1], ""])
    for name, theirs in connections.identities(tx, start):
        members = theirs.removeprefix(start)
        if members != mine and set(members.split(_AND)) & set(mine.split(_AND)):
            raise Conflict(
                f"{name} rotates {members}, and this connection would use {mine}: one would end the other's password",
                hint=f"Let the programs use {name}, or disconnect it first.",
                field="user",
            )


def _not_second(hub: Keyturn, tx: Tx, system: str) -> None:
    """Raises: Conflict naming the one there is, where a system has one connection at most."""
    if not hub.catalog.system(system).single:
        return
    for there in connections.of_system(tx, system):
        gone = there.state in {ConnectionState.DISCONNECTED, ConnectionState.REVOKED}
        raise Conflict(
            f"{system} has one connection, and it is {there.name}",
            hint=f"Use `keyturn reconnect {quote(there.name)}`."
            if gone
            else f"Let all jobs and programs use {there.name}.",
            field="name",
        )


def _save(
    hub: Keyturn,
    row: RowOf,
    connection: Connection,
    material: Material | None,
    ref: Ref,
    admin: Material | None,
    now: float,
    facts: Mapping[str, Any],
) -> Connection:
    identity = principal_key(hub, row, connection)
    version_id = VersionId(new_id("ver"))
    seals = []
    if material is not None:
        seals.append(hub.secrets.sealing(version_row(version_id), material.to_bytes(), now))
    if admin is not None:
        seals.append(hub.secrets.sealing(admin_row(connection.id), admin.to_bytes(), now))

    def work(tx: Tx) -> Connection:
        if hub.catalog.system(connection.system).single:
            principals.alone(tx, connection.system)
        _not_second(hub, tx, connection.system)
        _not_halved(tx, row, connection)
        principal_id = principals.ensure(tx, identity)
        current = version_id if material is not None else None
        whole = Connection(
            **{**connection.__dict__, "principal_id": principal_id, "current_version_id": current}
        )
        if not connections.add(tx, whole):
            raise Conflict(f"there is a connection named {connection.name} already", field="name")
        for seal in seals:
            seal(tx)
        entries = [
            journal.Entry(
                now,
                "",
                "connect",
                LineKind.DECISION,
                0,
                {
                    "decision": "connected",
                    "by": hub.settings.actor,
                    "system": whole.system,
                    "method": whole.method,
                },
            )
        ]
        if material is not None:
            version = Version(
                id=version_id,
                connection_id=whole.id,
                principal_id=principal_id,
                number=1,
                state=State.CURRENT,
                ref=ref,
                fingerprint=hub.roots.fingerprint("\0".join(sorted(material.secrets()))),
                provenance=Provenance.HUMAN,
                born_at=None,
                expires_at=ref.ends_at,
                changed_at=now,
            )
            versions.add(tx, version)
            entries.insert(
                0, journal.Entry(now, "", "connect", LineKind.OBSERVED, 0, {**facts, "version": version_id})
            )
        journal.append(tx, whole.id, entries)
        return whole

    return hub.store.write(work)


def find(hub: Keyturn, name: str) -> Connection:
    """A connection by name or id. Raises: NotFound."""
    return named(hub.store.read(lambda tx: connections.by_name_or_id(tx, name), alone=True), name)


def named(found: Connection | None, name: str) -> Connection:
    """What was found by a name. Raises: NotFound."""
    if found is None:
        raise NotFound(f"there is no connection named {name}", hint="`keyturn list` shows all.", field="name")
    return found


def sharing(hub: Keyturn, connection: Connection) -> list[str]:
    """Names of the other connections to the same account at the vendor."""
    return [each.name for each in hub.store.read(lambda tx: connections.siblings(tx, connection))]


def every(hub: Keyturn) -> list[Connection]:
    """All connections."""
    return hub.store.read(connections.every)


def access_of(hub: Keyturn, connection: Connection) -> tuple[RowOf, Access, Version | None]:
    """A connection's row and with what it acts now."""
    row, serving = hub.catalog.row_of(connection), connection.current_version_id
    current = hub.store.read(lambda tx: versions.by_id(tx, serving), alone=True) if serving else None
    admin = hub.secrets.find(admin_row(connection.id))
    access = Access(
        settings=connection.settings,
        acting=hub.secrets.material(version_row(current.id)) if current else None,
        admin=Material.from_bytes(admin) if admin else None,
        deadline_s=Policy.read(connection.policy).deadline(row.card),
        network=hub.settings.network,
    )
    return row, access, current


def test(hub: Keyturn, name: str) -> Probe:
    """A fresh test of what serves now; journaled. The identity must still be the pinned one."""
    connection = find(hub, name)
    row, access, current = access_of(hub, connection)
    if current is None or access.acting is None:
        raise Conflict(f"{name} has no credential", hint=f"Use `keyturn reconnect {quote(name)}`.")
    probe = row.can.verifier.verify(access, access.acting)
    wrong = mismatch(connection.identity, probe.identity) if probe.verdict is Verdict.ACCEPTED else ()
    facts = {"what": "test", "by": hub.settings.actor, **probe.as_facts(), "wrong_account": list(wrong)}
    entry = journal.Entry(time.time(), "", "test", LineKind.OBSERVED, 0, facts)
    hub.store.write(lambda tx: journal.append(tx, connection.id, [entry]))
    if wrong:
        return Probe(
            Verdict.UNKNOWN,
            identity=probe.identity,
            code="wrong_account",
            detail=f"{', '.join(wrong)} differ from the pin",
        )
    return probe


def discover(hub: Keyturn, name: str) -> tuple[Found, ...]:
    """What the credential can see at the vendor. Raises: InvalidInput when the row cannot look."""
    connection = find(hub, name)
    row, access, _ = access_of(hub, connection)
    if row.can.discoverer is not None:
        return row.can.discoverer.discover(access)
    if row.can.lister is not None:
        remotes = row.can.lister.list(access)
        return tuple(
            Found(
                name=r.ref.id or r.ref.slot,
                kind="credential",
                facts={
                    "label": r.ref.label,
                    "active": r.active,
                    "created_at": r.created_at,
                    "last_used_at": r.last_used_at,
                },
            )
            for r in remotes
        )
    why = (
        row.method.unsupported.get("discover")
        or row.method.unsupported.get("list")
        or "the vendor offers no listing"
    )
    raise InvalidInput(f"{name} cannot discover: {why}", field="name")


def forget(hub: Keyturn, name: str) -> None:
    """Deletes a connection's stored secrets once nothing of it is alive. Its history stays.

    Raises: Conflict while anything may still be alive at the vendor, or naming the sources that read through it.
    """
    connection = find(hub, name)
    known = hub.store.read(lambda tx: versions.of_connection(tx, connection.id))
    alive = [v for v in known if v.state not in {State.DEAD, State.REFUSED}]
    if alive:
        raise Conflict(
            f"{name} still has {len(alive)} live credential(s)",
            hint=f"Use `keyturn disconnect {quote(name)}` first.",
        )

    def work(tx: Tx) -> None:
        tx.hold("SELECT generation FROM connection WHERE id = ?", connection.id)
        left = projects.labels_of(tx, connection.id)
        if left:
            raise Conflict(
                f"{name} is used by {', '.join(left)}",
                hint=f"`keyturn source edit {quote(left[0])} --connection OTHER`, or `keyturn source remove {quote(left[0])}`.",
                sources=left,
            )
        for version in known:
            sealed.destroy(tx, version_row(version.id))
        sealed.destroy(tx, admin_row(connection.id))

    hub.store.write(work)

"""Keys to the hub's own buckets: a user of its own for each consumer, made by a run like every other change."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from shlex import quote
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput, NotDone
from keyturn.executor.executor import Executor
from keyturn.issued.kinds import Kind
from keyturn.issued.reveal import REVEAL_S
from keyturn.model.credential import CANDIDATE, Connection, ConnectionState, State, Version
from keyturn.model.ids import ConnectionId, PrincipalId, new_id
from keyturn.model.plan import Goal
from keyturn.model.policy import Policy
from keyturn.model.run import LineKind, RunState
from keyturn.model.secret import Material, Secret
from keyturn.operations import runs as run_operations
from keyturn.operations.connections import check_name, find, principal_key
from keyturn.operations.forms import read_form
from keyturn.operations.issued import Handed
from keyturn.storage import connections, journal, principals, versions
from keyturn.storage.database import Tx
from keyturn.storage.issued import IssuedSecret, SecretState
from keyturn.vault.secrets import admin_row, version_row

OVERLAP_S = 86400.0
_ONCE_S = 0.5


_STATES = {State.CURRENT: SecretState.LIVE, State.DRAINING: SecretState.RETIRING}


def keys(hub: Keyturn, connection: Connection) -> tuple[IssuedSecret, ...]:
    """The keys of one consumer as the hub's own book would hold them, newest first. Their uses stay empty: the store
    alone sees them."""
    known = hub.store.read(lambda tx: versions.of_connection(tx, connection.id))
    return tuple(
        IssuedSecret(
            version_id=version.id,
            connection_id=connection.id,
            slot="",
            hash="",
            hint=version.ref.id[-4:],
            state=_STATES.get(version.state, SecretState.REVOKED),
            created_at=version.born_at or version.changed_at,
            ends_at=version.expires_at,
            first_used_at=None,
            last_used_at=None,
            last_used_from="",
            last_used_agent="",
            uses=0,
        )
        for version in sorted(known, key=lambda each: -each.number)
        if version.state not in CANDIDATE
    )


def value(version: Version, material: Material) -> str | None:
    """The pair as JSON, for ten minutes from its making on; the hub keeps it longer, to prove things with it."""
    if time.time() - (version.born_at or version.changed_at) > REVEAL_S:
        return None
    return json.dumps({part: material[part] for part in sorted(material)})


def issue(
    hub: Keyturn,
    kind: Kind,
    name: str,
    values: Mapping[str, str],
    owner: str = "",
    *,
    policy: Mapping[str, Any] | None = None,
    who: str = "",
    wait_s: float = 180.0,
) -> Handed:
    """Makes the consumer's user, limited to its prefix, and its first key, by a run that any worker can finish after a
    crash. The value is the pair as JSON; `register.link` hands it over.

    Raises: InvalidInput or Conflict (field named), NotDone naming the run when it does not get that far in `wait_s`.
    """
    name, who, now = check_name(hub, name), who or hub.settings.actor, time.time()
    own = {"drain_min_s": OVERLAP_S, **(policy or {})}
    Policy.read(own)
    given = next((part for part in kind.made if values.get(part)), "")
    if given:
        raise InvalidInput(
            f"{given} is made by the store when it is issued", hint="Leave it out.", field=given
        )
    method = hub.catalog.method(kind.system, kind.method)
    settings, _, admin = read_form(f"{kind.system}/{kind.method}", method, values)
    connection_id = ConnectionId(new_id("con"))
    settings["user_name"] = settings.get("user_name") or f"keyturn-{connection_id[-12:]}"
    connection = Connection(
        id=connection_id,
        name=name,
        system=kind.system,
        method=kind.method,
        settings=settings,
        principal_id=PrincipalId(""),
        owner=owner or who,
        policy=own,
        identity={},
        state=ConnectionState.REVOKED,
        generation=0,
        current_version_id=None,
        definition_hash="",
        created_at=now,
    )
    row = hub.catalog.row(kind.system, kind.method, settings)
    assert admin is not None  # both of its fields are required
    seal = hub.secrets.sealing(admin_row(connection.id), admin.to_bytes(), now)
    identity = principal_key(hub, row, connection)
    said = {
        "decision": "issued",
        "kind": kind.name,
        "by": who,
        "user": settings["user_name"],
        "prefix": settings["prefix"],
    }

    def work(tx: Tx) -> None:
        principal_id = principals.ensure(tx, identity)
        if connections.siblings(tx, replace(connection, principal_id=principal_id)):
            raise Conflict(
                "another credential has this user", hint="Choose another user name.", field="user_name"
            )
        if not connections.add(tx, replace(connection, principal_id=principal_id)):
            raise Conflict(f"there is a connection named {name} already", field="name")
        seal(tx)
        journal.append(tx, connection.id, [journal.Entry(now, "", "issue", LineKind.DECISION, 0, said)])

    hub.store.write(work)
    run = run_operations.start(hub, name, Goal.RECONNECT, reason="issued", who=who)

    def is_over() -> bool:
        return run_operations.settled(run_operations.get(hub, run.id))

    if not hub.engine.run_until(is_over, min(_ONCE_S, wait_s)):
        if run_operations.get(hub, run.id).started_at is None:
            Executor(hub.hub).advance(run.id)
        hub.engine.run_until(is_over, wait_s)
    done, made = run_operations.get(hub, run.id), find(hub, name)
    if done.state is not RunState.COMPLETE or made.current_version_id is None:
        raise NotDone(
            f"the key of {name} is not there yet ({done.outcome or done.waiting_for or done.state.value})",
            hint=f"`keyturn run {run.id}` shows how far it is; `keyturn handover {quote(name)}` hands it over then.",
            run=run.id,
        )
    material = hub.secrets.material(version_row(made.current_version_id))
    pair = json.dumps({part: material[part] for part in sorted(material)})
    return Handed(made, Secret(pair), made.current_version_id, "", time.time() + REVEAL_S, done)

"""Moving a connection to another method of its system: the same name, the same account, another way in."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput
from keyturn.executor.hub import RowOf
from keyturn.model.credential import Connection, ConnectionState
from keyturn.model.ids import RunId
from keyturn.model.plan import Goal, Plan
from keyturn.model.run import Run
from keyturn.model.secret import Material
from keyturn.operations import runs
from keyturn.operations.connections import find, principal_key
from keyturn.operations.forms import read_form
from keyturn.planner.plans import plan as make_plan
from keyturn.planner.situation import Situation
from keyturn.storage import connections, principals, versions
from keyturn.storage.database import Tx
from keyturn.vault.secrets import admin_row

_GONE = frozenset({ConnectionState.DISCONNECTED, ConnectionState.REVOKED})


@dataclass(frozen=True)
class _Move:
    """Where a connection goes. `settings` are those of both methods, `typed` what a person gave for the administrator's
    row: its own credential, or a client's id and secret, which wait there for the consent."""

    row: RowOf
    settings: Mapping[str, Any]
    typed: Mapping[str, str]
    has_admin: bool


def plan(hub: Keyturn, name: str, to: str, values: Mapping[str, str]) -> Plan:
    """The plan, without starting anything. Changes nothing, calls nobody. Raises: as `start`."""
    connection = find(hub, name)
    move = _move(hub, connection, to, values)
    return make_plan(_view(connection, move)(runs.situation(hub, connection)), Goal.MIGRATE)


def start(
    hub: Keyturn,
    name: str,
    to: str,
    values: Mapping[str, str],
    *,
    reason: str = "",
    trigger: str = "",
    who: str = "",
    emergency: str = "",
    address: str = "",
) -> Run:
    """Freezes the plan into a queued run. `values` are fields of the method it goes to; what both methods have is taken
    over. Programs keep the connection's name; the pointer and the method change in one local transaction. While it waits
    for approval, `values` are kept sealed and nothing of the connection is changed.

    Raises: InvalidInput naming the field; Conflict when the account is connected by that method already, or a run of
    the connection has not ended.
    """
    connection = find(hub, name)
    move, now = _move(hub, connection, to, values), time.time()

    def hold(run_id: RunId) -> Callable[[Tx], None]:
        body = json.dumps({"to": to, "values": dict(values)}).encode()
        return hub.secrets.sealing(runs.held_row(run_id), body, now)

    return runs.start(
        hub,
        name,
        Goal.MIGRATE,
        reason=reason,
        trigger=trigger,
        who=who,
        view=_view(connection, move),
        also=_also(hub, connection, move, now),
        hold=hold,
        emergency=emergency,
        address=address,
        to=to,
    )


@dataclass(frozen=True)
class Held:
    """A migration that waits for approval: how its plan is made, and what begins with it."""

    view: Callable[[Situation], Situation]
    also: Callable[[Tx, Connection], None]


def held(hub: Keyturn, run: Run) -> Held:
    """What was kept of a migration that waits. Raises: as `start`, when it does not fit any more."""
    connection, kept = find(hub, run.connection_id), json.loads(hub.secrets.get(runs.held_row(run.id)))
    move = _move(hub, connection, str(kept["to"]), kept["values"])
    return Held(_view(connection, move), _also(hub, connection, move, time.time()))


def _also(hub: Keyturn, connection: Connection, move: _Move, now: float) -> Callable[[Tx, Connection], None]:
    seal = _seal(hub, connection, move, now)

    def also(tx: Tx, _: Connection) -> None:
        connections.change(tx, connection.id, settings=dict(move.settings))
        versions.mark_method(tx, connection.id, connection.method)
        if seal is not None:
            seal(tx)

    return also


def _move(hub: Keyturn, connection: Connection, to: str, values: Mapping[str, str]) -> _Move:
    if connection.definition_hash:
        raise InvalidInput(
            f"{connection.name} has a definition of its own, which has one method",
            hint="Connect the other one beside it, and disconnect this one afterwards.",
            field="to",
        )
    others = [m.name for m in hub.catalog.system(connection.system).methods if m.name != connection.method]
    if to not in others:
        there = f"It can move to: {', '.join(others)}." if others else "It has no other."
        raise InvalidInput(f"{connection.name} cannot move to {to}", hint=there, field="to")
    method = hub.catalog.method(connection.system, to)
    made_here = replace(
        method,  # the credential itself comes from the run, and the administrator is known already
        fields=tuple(replace(f, required=f.required and not (f.secret or f.part)) for f in method.fields),
    )
    known = {field.name for field in method.fields if not field.secret}
    typed = {**{k: str(v) for k, v in connection.settings.items() if k in known and v is not None}, **values}
    settings, parts, admin = read_form(f"{connection.system}/{to}", made_here, typed)
    has_admin = admin is not None and any(f.group == "admin" and f.name in values for f in method.fields)
    row = hub.catalog.row(connection.system, to, settings)
    _alone(hub, row, replace(connection, method=to, settings=settings))
    kept = {**(dict(admin) if admin and has_admin else {}), **{k: parts[k] for k in parts if k in values}}
    return _Move(row, {**connection.settings, **settings}, kept, has_admin)


def _alone(hub: Keyturn, row: RowOf, wanted: Connection) -> None:
    """Two connections that rotate one account by one method would end each other's credentials."""
    key = principal_key(hub, row, wanted)

    def there(tx: Tx) -> list[Connection]:
        found = principals.by_identity(tx, key)
        return connections.siblings(tx, replace(wanted, principal_id=found)) if found else []

    beside = [each.name for each in hub.store.read(there) if each.state not in _GONE]
    if beside:
        raise Conflict(
            f"this account is connected by {wanted.method} already: {', '.join(beside)}",
            hint="Let the programs use that connection, and disconnect this one.",
            field="to",
        )


def _view(connection: Connection, move: _Move) -> Callable[[Situation], Situation]:
    """The connection as it would be by the other method."""
    there = replace(connection, method=move.row.method.name, settings=move.settings)

    def see(seen: Situation) -> Situation:
        return replace(
            seen,
            connection=replace(seen.connection, method=there.method, settings=there.settings),
            method=move.row.method,
            card=move.row.card,
            can=runs.capability_names(move.row.can),
            has_admin=seen.has_admin or move.has_admin,
            origin=seen,
        )

    return see


def _seal(hub: Keyturn, connection: Connection, move: _Move, now: float) -> Callable[[Tx], None] | None:
    if not move.typed:
        return None
    body = hub.secrets.find(admin_row(connection.id))
    before = dict(Material.from_bytes(body)) if body else {}
    return hub.secrets.sealing(admin_row(connection.id), Material({**before, **move.typed}).to_bytes(), now)

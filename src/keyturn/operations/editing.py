"""Changing what a connection is called by its owner, wants by its policy and needs to reach its system."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from shlex import quote
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.contract.manifest import Field, Method
from keyturn.errors import Conflict, CredentialRejected, InvalidInput, VendorUnavailable, WrongAccount
from keyturn.issued import kinds, oauth
from keyturn.model.card import Strategy
from keyturn.model.credential import Connection
from keyturn.model.policy import Policy
from keyturn.model.run import LineKind
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict, mismatch
from keyturn.operations.connections import access_of, admin_works, find
from keyturn.operations.forms import checked
from keyturn.storage import connections, journal, runs
from keyturn.storage.database import Tx
from keyturn.vault.secrets import admin_row

_LONGEST = 120
_PLACE = re.compile(r"(?:^|_)(?:url|uri|host|port|endpoint|address|server|domain)$")


def edit(
    hub: Keyturn,
    name: str,
    *,
    owner: str | None = None,
    policy: Mapping[str, Any] | None = None,
    values: Mapping[str, str] | None = None,
) -> Connection:
    """Changes owner, policy and settings; what is not named stays. In `policy` None takes a setting back to its default.

    `values` are fields of the connection's row: those that are not secret, and the administrator's. What serves now is
    tested with them before anything is saved, and must be the same account. A credential is not edited but rotated.

    Raises: InvalidInput naming the field; Conflict while a run is going on; CredentialRejected, VendorUnavailable,
    WrongAccount when the test does not pass, with nothing changed.
    """
    before = find(hub, name)
    changed: dict[str, Any] = {}
    if owner is not None:
        changed["owner"] = _owner(owner)
    if policy is not None:
        merged = {**before.policy, **policy}
        changed["policy"] = {key: value for key, value in merged.items() if value is not None}
        Policy.read(changed["policy"])
    admin: Material | None = None
    if values:
        settings, typed = _settings(hub, before, values)
        changed["settings"] = settings
        body = hub.secrets.find(admin_row(before.id)) if typed else None
        known = dict(Material.from_bytes(body)) if body else {}
        admin = Material({**known, **typed}) if typed else None
        _test(hub, before, settings, admin)
    now = time.time()
    seal = hub.secrets.sealing(admin_row(before.id), admin.to_bytes(), now) if admin else None
    facts = {
        "decision": "edited",
        "by": hub.settings.actor,
        "changed": _differences(before, changed),
        **({"administrator": True} if admin else {}),
    }

    def work(tx: Tx) -> Connection:
        tx.hold("SELECT generation FROM connection WHERE id = ?", before.id)
        as_is = connections.by_id(tx, before.id)
        if as_is is None or any(getattr(as_is, key) != getattr(before, key) for key in changed):
            raise Conflict("somebody else edited it meanwhile", hint="Look at it, then try again.")
        unfinished = runs.unfinished_of(tx, before.id)
        if unfinished is not None and (values or admin):
            raise Conflict(
                f"{before.name} has a run that has not ended ({unfinished.id})",
                hint=f"`keyturn cancel {unfinished.id}` ends one that changed nothing yet; else wait until it has ended.",
                run=unfinished.id,
            )
        if changed:
            connections.change(tx, before.id, **changed)
        if seal is not None:
            seal(tx)
        journal.append(tx, before.id, [journal.Entry(now, "", "edit", LineKind.DECISION, 0, facts)])
        return replace(as_is, **changed)

    if not facts["changed"] and admin is None:
        return before
    return hub.store.write(work)


def _owner(text: str) -> str:
    owner = " ".join(text.split())
    if not owner or len(owner) > _LONGEST or not owner.isprintable():
        raise InvalidInput(f"an owner has 1 to {_LONGEST} characters", field="owner")
    return owner


def _settings(
    hub: Keyturn, connection: Connection, values: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings as they would be, and the administrator's parts that were typed. Raises: InvalidInput."""
    method = hub.catalog.row_of(connection).method
    settings, admin = dict(connection.settings), {}
    for name, raw in values.items():
        field = method.field(name)
        if field is None:
            known = ", ".join(each.name for each in method.fields if _may_change(method, each))
            raise InvalidInput(f"{connection.name} has no field {name}", hint=f"Fields: {known}.", field=name)
        if not _may_change(method, field):
            hint = (
                "Connect the other account or place beside it, and disconnect this one."
                if name in method.principal or not (field.secret or field.part)
                else f"Use `keyturn rotate {quote(connection.name)}`."
            )
            raise InvalidInput(f"{name} cannot be edited", hint=hint, field=name)
        if not raw and not field.required:
            settings.pop(name, None)
            continue
        value = checked(field, raw)
        if field.group == "admin":
            admin[name.removeprefix("admin_")] = admin[name] = str(value)
        if not field.secret:
            settings[name] = value
    return settings, admin


def fields(hub: Keyturn, connection: Connection) -> list[Field]:
    """The fields of a connection that `edit` takes."""
    method = hub.catalog.row_of(connection).method
    return [field for field in method.fields if _may_change(method, field)]


def _may_change(method: Method, field: Field) -> bool:
    """What names the account or is the credential itself is not edited. Nor is where it is sent: whoever may edit could
    have a credential that nobody may read sent to a place of their own."""
    is_credential = (field.secret or field.part) and field.group != "admin"
    says_where = bool(_PLACE.search(field.name)) or "://" in f"{field.example} {field.default}"
    is_place = says_where and method.card.strategy is not Strategy.ISSUED
    return not is_credential and not is_place and field.name not in {*method.principal, "definition"}


def _test(hub: Keyturn, before: Connection, settings: Mapping[str, Any], admin: Material | None) -> None:
    """What serves now, with the new settings. A connection without a credential has nothing to test yet."""
    wanted = replace(before, settings=settings)
    row, access, current = access_of(hub, wanted)
    if row.card.strategy is Strategy.ISSUED:
        oauth.terms(kinds.of_row(before.system, before.method), settings)
        return
    acting = access.acting
    if current is None or acting is None:
        return
    if admin is not None:
        access = replace(access, admin=admin)
        admin_works(row, access, saved="Nothing was changed.")
    probe = row.can.verifier.verify(access, acting)
    said = " ".join(part for part in (probe.code, probe.detail) if part)
    if probe.verdict is Verdict.REJECTED:
        raise CredentialRejected(
            f"with these settings {before.system} refuses the credential ({said})",
            hint="Nothing was changed.",
            code=probe.code,
        )
    if probe.verdict is Verdict.UNKNOWN:
        raise VendorUnavailable(
            f"with these settings {before.system} gives no clear answer ({said or 'no answer'})",
            hint="Nothing was changed. Check host, port and network.",
        )
    wrong = mismatch(before.identity, probe.identity)
    if wrong:
        raise WrongAccount(
            f"with these settings it is another account ({', '.join(wrong)} differ)",
            hint="Nothing was changed. Connect the other account beside it.",
        )


def _differences(before: Connection, changed: Mapping[str, Any]) -> dict[str, Any]:
    """What is another now, setting by setting: nothing of it is secret."""
    found: dict[str, Any] = {}
    for key, value in changed.items():
        old = getattr(before, key)
        if not isinstance(value, dict):
            if value != old:
                found[key] = [old, value]
            continue
        for name in sorted({*old, *value}):
            if old.get(name) != value.get(name):
                found[f"{key}.{name}"] = [old.get(name), value.get(name)]
    return found

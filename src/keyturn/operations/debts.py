"""Debts: shown until they are paid or a person closes them with a reason."""

from __future__ import annotations

import time

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput, KeyturnError, NotFound
from keyturn.model.credential import Ref, State
from keyturn.model.ids import ConnectionId, DebtId
from keyturn.model.run import Debt, LineKind
from keyturn.model.verdict import Verdict
from keyturn.operations.connections import access_of
from keyturn.storage import connections, debts, journal, versions
from keyturn.storage.database import Tx
from keyturn.vault.secrets import version_row

_LADDER_S = (3600.0, 6 * 3600.0, 86400.0, 7 * 86400.0)


def every(hub: Keyturn) -> list[Debt]:
    """All open debts, oldest first."""
    return hub.store.read(debts.open_debts)


def get(hub: Keyturn, debt_id: str) -> Debt:
    """A debt. Raises: NotFound."""
    found = hub.store.read(lambda tx: debts.by_id(tx, DebtId(debt_id)))
    if found is None:
        raise NotFound(
            f"there is no debt {debt_id}", hint="`keyturn debts` shows the open ones.", field="debt"
        )
    return found


def close(hub: Keyturn, debt_id: str, why: str) -> Debt:
    """Closes a debt on a person's word; their name and reason go into the audit trail."""
    debt = get(hub, debt_id)
    if not why.strip():
        raise InvalidInput(
            "closing a debt needs a reason", hint="Say how you know, with --reason.", field="reason"
        )
    if debt.closed_at is not None:
        raise Conflict(f"{debt_id} is closed already")
    _close(hub, debt, hub.settings.actor, why)
    return get(hub, debt_id)


def _close(hub: Keyturn, debt: Debt, by: str, why: str) -> None:
    now = time.time()
    facts = {"decision": "debt_closed", "debt": debt.id, "kind": debt.kind, "by": by, "why": why}

    def work(tx: Tx) -> None:
        debts.close(tx, debt.id, now, by, why)
        journal.append(
            tx, debt.connection_id, [journal.Entry(now, debt.run_id, "debt", LineKind.DECISION, 0, facts)]
        )

    hub.store.write(work)


def try_again(hub: Keyturn, debt: Debt) -> bool:
    """One more look at what is owed: ends and tests it where that can be done. True when it is paid.

    Only what the ledger calls ours is touched; the rest is looked at.
    """
    connection = hub.store.read(lambda tx: connections.by_id(tx, ConnectionId(debt.connection_id)))
    if connection is None:
        return False
    row, access, _ = access_of(hub, connection)
    owed = debt.version_id
    version = hub.store.read(lambda tx: versions.by_id(tx, owed)) if owed else None
    paid, said = False, "nothing to try: a person decides"
    try:
        if version is not None:
            body = hub.secrets.find(version_row(version.id))
            if row.can.revoker is not None and version.state is not State.CURRENT:
                material = hub.secrets.material(version_row(version.id)) if body else None
                row.can.revoker.revoke(access, version.ref, material)
            if body:
                found = row.can.verifier.verify(access, hub.secrets.material(version_row(version.id)))
                paid, said = found.verdict is Verdict.REJECTED, f"tested: {found.verdict.value} {found.code}"
        elif debt.kind == "orphan" and row.can.revoker is not None:
            ref = Ref.from_json(debt.facts["ref"])
            row.can.revoker.revoke(access, ref, None)
            left = row.can.lister.list(access) if row.can.lister else ()
            paid, said = not any(r.ref.same_place(ref) for r in left), "ended and looked up"
    except KeyturnError as error:
        said = error.message
    wait = _LADDER_S[min(debt.tries, len(_LADDER_S) - 1)] * hub.settings.patience
    if paid:
        _close(hub, debt, "the hub", f"proven: {said}")
        if version is not None:
            hub.store.write(lambda tx: versions.move(tx, version.id, State.DEAD, time.time()))
    else:
        hub.store.write(lambda tx: debts.postpone(tx, debt.id, time.time() + wait))
    return paid

"""What a rotation of each row looks like, for a connection that nobody has: the real planner on made-up facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keyturn.catalog import Catalog
from keyturn.contract.manifest import Method, System
from keyturn.model.card import Strategy
from keyturn.model.credential import Connection, ConnectionState, Provenance, Ref, State, Version
from keyturn.model.ids import ConnectionId, PrincipalId, VersionId
from keyturn.model.plan import Goal, Plan
from keyturn.model.policy import Policy
from keyturn.operations.runs import capability_names
from keyturn.planner.plans import plan
from keyturn.planner.situation import Situation

_ISSUED = frozenset({"verifier", "lister", "maker", "setter", "revoker"})


def has_administrator(method: Method) -> bool:
    """Whether the made-up connection has an administrator's credential: where a row takes one, it does."""
    return method.direction == "inbound" or any(field.group == "admin" for field in method.fields)


def is_told(method: Method) -> bool:
    """Whether it must be said that it has one: elsewhere it goes without saying, or is the client of a consent."""
    inbound, consents = method.direction == "inbound", method.card.strategy is Strategy.CONSENT
    return has_administrator(method) and not inbound and not consents


def rotations(catalog: Catalog, system: System, method: Method) -> Iterator[tuple[str, Plan, str]]:
    """The plan of a rotation for the row as it is, and for each of its variants by name; and what must be accepted in
    words before it starts (P1), where it is one that sets the only value also without an administrator's credential.
    None for a user's definition."""
    if method.rest == "user":
        return
    cases: list[tuple[str, dict[str, Any]]] = [("", {})]
    cases += [(variant.name, {variant.field: variant.equals}) for variant in method.variants]
    for name, settings in cases:
        admin = has_administrator(method)
        made = plan(_situation(catalog, system, method, settings, has_admin=admin), Goal.ROTATE)
        alone = made
        if is_told(method) and made.strategy is Strategy.SET_ONE:
            alone = plan(_situation(catalog, system, method, settings, has_admin=False), Goal.ROTATE)
        yield name, made, alone.risk


def _situation(
    catalog: Catalog, system: System, method: Method, settings: Mapping[str, Any], *, has_admin: bool
) -> Situation:
    """A connection with one version in use."""
    card = method.card_for(settings)
    inbound = method.direction == "inbound"
    can = _ISSUED if inbound else capability_names(catalog.row(system.name, method.name, settings).can)
    connection = Connection(
        id=ConnectionId("con_example"),
        name="example",
        system=system.name,
        method=method.name,
        settings=settings,
        principal_id=PrincipalId("prn_example"),
        owner="example",
        policy={},
        identity={},
        state=ConnectionState.ACTIVE,
        generation=1,
        current_version_id=VersionId("ver_example"),
        definition_hash="",
        created_at=0.0,
    )
    current = Version(
        id=VersionId("ver_example"),
        connection_id=connection.id,
        principal_id=connection.principal_id,
        number=1,
        state=State.CURRENT,
        ref=Ref(slot=card.slot_names[0] if card.slot_names else ""),
        fingerprint="",
        provenance=Provenance.HUMAN,
        born_at=None,
        expires_at=None,
        changed_at=0.0,
    )
    return Situation(connection, method.fitting(settings), card, can, has_admin, (current,), Policy())

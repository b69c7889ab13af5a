"""What people allowed applications: who may do what through them, and taking it back.

A token that a person allowed never does more than that person may do now: roles are looked at with every call.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from keyturn.bootstrap import Keyturn
from keyturn.errors import NotFound
from keyturn.operations import events
from keyturn.operations.rights import Who
from keyturn.operations.sessions import as_who
from keyturn.storage import oauth, people
from keyturn.storage.database import Tx

SAYS = {
    "read": "see connections, runs and systems",
    "write": "change what you may change",
    "bulk": "load data in bulk",
    "events:write": "send events",
    "lease": "fetch the credentials of connections for its own use",
    "introspect": "ask whether tokens are valid",
}


@dataclass(frozen=True)
class Allowed:
    """What somebody allowed an application, while it lasts."""

    id: str
    application: str
    connection_id: str
    subject: str
    scopes: tuple[str, ...]
    since: float


def says(scope: str) -> str:
    """A scope in words."""
    kind, _, name = scope.partition(":")
    if kind == "lease" and name:
        return f"fetch the credential of {name} for its own use"
    return SAYS.get(scope, scope)


def allowed(hub: Keyturn, account_id: str = "") -> list[Allowed]:
    """What one person, or everybody, allows at present, newest first. `subject` is a login."""

    def work(tx: Tx) -> list[Allowed]:
        found = []
        for grant, name in oauth.live_grants(tx, account_id):
            account = people.by_id(tx, grant.subject)
            login = account.login if account else grant.subject
            scopes = tuple(grant.scopes.split())
            found.append(Allowed(grant.id, name, grant.connection_id, login, scopes, grant.created_at))
        return found

    return hub.store.read(work)


def of_application(hub: Keyturn, connection_id: str) -> list[Allowed]:
    """What people allow one application at present, newest first."""
    return [each for each in allowed(hub) if each.connection_id == connection_id]


def take_back(hub: Keyturn, grant_id: str, *, by: str, account_id: str = "", address: str = "") -> None:
    """Ends what was allowed, with every token that came of it, on every worker from this call on. Twice is fine.

    `account_id`: only if it is theirs. Raises: NotFound.
    """
    now = time.time()

    def work(tx: Tx) -> None:
        grant = oauth.grant(tx, grant_id)
        if grant is None or (account_id and grant.subject != account_id):
            raise NotFound("nothing of that name was allowed", field="grant")
        if oauth.end_grant(tx, grant_id, now, f"taken back by {by}"):
            events.line("application_taken_back", by=by, address=address, on=grant.client_id)(tx)

    hub.store.write(work)


def person(hub: Keyturn, account_id: str, scopes: frozenset[str], address: str = "") -> Who | None:
    """Whoever allowed a token, with the roles they have now and no more than its scopes. None when they may not sign in."""
    account = hub.store.read(lambda tx: people.by_id(tx, account_id))
    if account is None or account.disabled_at is not None:
        return None
    return as_who(hub, account, address, scopes)

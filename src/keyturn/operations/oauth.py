"""OAuth applications and the people who use them: what somebody allows, what they take back, what a token may do.

A token that a person allowed never does more than that person may do now: roles are looked at with every call.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from keyturn.bootstrap import Keyturn
from keyturn.errors import NotFound
from keyturn.issued.book import IssuedBook
from keyturn.issued.oauth import OauthBook
from keyturn.issued.oauth_server import (
    AUTHORIZE,
    INTROSPECT,
    METADATA,
    MOST_FORM,
    REVOKE,
    TOKEN,
    Answer,
    Ask,
    Back,
    Caller,
    NotOurs,
    OauthServer,
    origin,
)
from keyturn.model.run import LineKind
from keyturn.operations import events
from keyturn.operations.issued import book as issued_book
from keyturn.operations.rights import Who
from keyturn.operations.sessions import as_who
from keyturn.storage import journal, oauth, people
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
    subject: str
    scopes: tuple[str, ...]
    since: float


def server(hub: Keyturn, book: IssuedBook | None = None) -> OauthServer:
    """The hub's OAuth server. `book` counts uses, for whoever serves and closes it."""
    return OauthServer(OauthBook(book or issued_book(hub)), hub.settings.public_url)


def says(scope: str) -> str:
    """A scope in words."""
    kind, _, name = scope.partition(":")
    if kind == "lease" and name:
        return f"fetch the credential of {name} for its own use"
    return SAYS.get(scope, scope)


def consider(hub: Keyturn, query: Sequence[tuple[str, str]]) -> Ask | Back:
    """What an application asks for, or where to send the browser with a refusal. Raises: NotFound when there is nobody to
    send it to: shown to the person, repeating nothing."""
    try:
        return server(hub).consider(query)
    except NotOurs:
        raise NotFound(
            "no application of this hub asks like that",
            hint="Go back to the application. Whoever runs it compares its client id and callback with those registered here.",
        ) from None


def allow(hub: Keyturn, who: Who, ask: Ask) -> Back:
    """Somebody signed in says yes. On record in the hub's chain and in the application's."""
    facts = {"application": ask.client.name, "client": ask.client.id, "scopes": ask.scopes}
    line = events.line("application_allowed", by=who.login, address=who.address, **facts)
    connection_id = ask.client.secret.connection_id
    seen = {"decision": "allowed", "by": who.login, "client": ask.client.id, "scopes": ask.scopes}
    entry = journal.Entry(time.time(), "", "issued", LineKind.DECISION, 0, seen)

    def note(tx: Tx) -> None:
        line(tx)
        journal.append(tx, connection_id, [entry])

    return server(hub).allowed(ask, who.id, note)


def refuse(hub: Keyturn, who: Who, ask: Ask) -> Back:
    """Somebody says no."""
    facts = {"application": ask.client.name, "client": ask.client.id}
    events.note(hub, "application_refused", by=who.login, address=who.address, **facts)
    return server(hub).refused(ask.redirect_uri, ask.state)


def allowed(hub: Keyturn, account_id: str = "") -> list[Allowed]:
    """What one person, or everybody, allows at present, newest first. `subject` is a login."""

    def work(tx: Tx) -> list[Allowed]:
        found = []
        for grant, name in oauth.live_grants(tx, account_id):
            account = people.by_id(tx, grant.subject)
            login = account.login if account else grant.subject
            found.append(Allowed(grant.id, name, login, tuple(grant.scopes.split()), grant.created_at))
        return found

    return hub.store.read(work)


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


__all__ = [
    "AUTHORIZE",
    "INTROSPECT",
    "METADATA",
    "MOST_FORM",
    "REVOKE",
    "SAYS",
    "TOKEN",
    "Allowed",
    "Answer",
    "Ask",
    "Back",
    "Caller",
    "OauthServer",
    "allow",
    "allowed",
    "consider",
    "origin",
    "person",
    "refuse",
    "says",
    "server",
    "take_back",
]

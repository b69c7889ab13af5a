"""The hub's OAuth server, and the consent of whoever is asked: yes or no, on record. Needs the extra `serve`."""

from __future__ import annotations

import time
from collections.abc import Sequence

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
from keyturn.storage import journal
from keyturn.storage.database import Tx


def server(hub: Keyturn, book: IssuedBook | None = None) -> OauthServer:
    """The hub's OAuth server. `book` counts uses, for whoever serves and closes it."""
    return OauthServer(OauthBook(book or issued_book(hub)), hub.settings.public_url)


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


__all__ = [
    "AUTHORIZE",
    "INTROSPECT",
    "METADATA",
    "MOST_FORM",
    "REVOKE",
    "TOKEN",
    "Answer",
    "Ask",
    "Back",
    "Caller",
    "OauthServer",
    "allow",
    "consider",
    "origin",
    "refuse",
    "server",
]

"""Facts about OAuth: a code and a state work once and only for us, and two refreshes in a row always work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import parse_qs, urlencode, urlsplit

from keyturn import boundary
from keyturn.errors import CredentialRejected, InvalidInput, OutcomeUnknown, UnexpectedAnswer, ValueRefused
from keyturn.model.verdict import Verdict, mismatch
from keyturn.testing.facts_page import Told
from keyturn.testing.row import RowUnderTest

_ONCE = (InvalidInput, CredentialRejected, ValueRefused)


def facts() -> Iterator[Told]:
    """(name, check, capabilities needed, whether it applies)."""
    checks: tuple[Callable[[RowUnderTest], None], ...] = (
        begins,
        consents,
        once,
        strangers,
        refreshes,
        lost_exchange,
    )
    for check in checks:
        yield f"grant: {check.__name__.replace('_', ' ')}", check, ("authorizer",), lambda _row: True
    yield "grant: lost refresh", lost_refresh, ("authorizer",), lambda _row: True
    yield "grant: garbage", garbage, ("authorizer",), lambda _row: True


def begins(row: RowUnderTest) -> None:
    """The consent page's address carries the state and never the verifier or a secret; making it needs no network."""
    assert row.can.authorizer is not None
    session = row.session()
    with boundary.transaction():
        url = row.can.authorizer.begin(row.access, session)
    query = parse_qs(urlsplit(url).query)
    assert query["state"] == [session["state"]]
    assert query["redirect_uri"] == [session["redirect_uri"]]
    row.witness.tell(session["code_verifier"])
    row.witness.check([url])


def consents(row: RowUnderTest) -> None:
    """A fresh consent gives a grant that works as the same account, reads back whole, and leaves the old one alone."""
    made = row.stage()
    found = row.becomes(made.material, Verdict.ACCEPTED)
    assert not mismatch(row.identity, found.identity)
    assert made.material.get("refresh_token"), "no refresh token: the grant would end within the hour"
    assert row.card.new_kills_old or row.verify(row.good).verdict is Verdict.ACCEPTED


def once(row: RowUnderTest) -> None:
    """A code works once."""
    assert row.can.authorizer is not None
    authorizer, session = row.can.authorizer, row.session()
    callback = row.consent(authorizer.begin(row.access, session))
    first = authorizer.read(row.access, authorizer.exchange(row.access, session, callback), None)
    row.witness.tell(first.material, parse_qs(urlsplit(callback).query)["code"][0], session["code_verifier"])
    row.raises(lambda: authorizer.exchange(row.access, session, callback), *_ONCE)


def strangers(row: RowUnderTest) -> None:
    """A callback with another state, without a code, or with an error is refused before anything is sent."""
    assert row.can.authorizer is not None
    authorizer, session = row.can.authorizer, row.session()
    home = session["redirect_uri"]
    callbacks = (
        f"{home}?{urlencode({'code': 'ktlab-some-code', 'state': 'another-state'})}",
        f"{home}?{urlencode({'code': 'ktlab-some-code'})}",
        f"{home}?{urlencode({'state': session['state']})}",
        f"{home}?{urlencode({'error': 'access_denied', 'state': session['state']})}",
        "not an address",
        "",
    )
    row.witness.tell("ktlab-some-code", session["code_verifier"])
    for callback in callbacks:
        with boundary.transaction():  # nothing is sent, or the boundary would say so
            row.raises(partial(authorizer.exchange, row.access, session, callback), InvalidInput)


def refreshes(row: RowUnderTest) -> None:
    """Two refreshes in a row work, each with the token of the one before (I12)."""
    assert row.can.authorizer is not None
    held = row.good
    for _ in range(2):
        made = row.can.authorizer.read(row.access, row.can.authorizer.refresh(row.access, held), held)
        row.witness.tell(made.material)
        row.witness.keep(made)
        assert made.material.get("refresh_token"), "the refresh token was lost"
        found = row.becomes(made.material, Verdict.ACCEPTED)
        assert not mismatch(row.identity, found.identity)
        held = made.material
    dead = row.can.verifier.bogus(held)
    row.witness.tell(dead)
    authorizer = row.can.authorizer
    row.raises(lambda: authorizer.refresh(row.access, dead), CredentialRejected)


def lost_exchange(row: RowUnderTest) -> None:
    """A lost answer to the exchange is an unknown outcome: a grant may exist."""
    assert row.can.authorizer is not None
    authorizer, session = row.can.authorizer, row.session()
    row.witness.tell(session["code_verifier"])
    callback = row.consent(authorizer.begin(row.access, session))
    with row.lost("exchange") as access:
        row.raises(lambda: authorizer.exchange(access, session, callback), OutcomeUnknown)


def lost_refresh(row: RowUnderTest) -> None:
    """A lost answer to a refresh is an unknown outcome."""
    assert row.can.authorizer is not None
    authorizer = row.can.authorizer
    with row.lost("refresh") as access:
        row.raises(lambda: authorizer.refresh(access, row.good), OutcomeUnknown)


def garbage(row: RowUnderTest) -> None:
    """A token answer without a token is refused without quoting it."""
    assert row.can.authorizer is not None
    authorizer = row.can.authorizer
    row.witness.tell("ktlab-not-to-be-quoted")
    for raw in (
        b"",
        b"{}",
        b"null",
        b"<html>",
        b"[]",
        b'{"error": "ktlab-not-to-be-quoted"}',
        b'{"access_token": 7}',
    ):
        row.raises(partial(authorizer.read, row.access, raw, None), UnexpectedAnswer)

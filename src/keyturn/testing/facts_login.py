"""Facts about the test call: only a documented no is a no, whatever answers, and nothing is ever said of the secret."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from keyturn import boundary
from keyturn.errors import CallInsideTransaction, InvalidInput
from keyturn.model.secret import MASK, Material
from keyturn.model.verdict import Verdict, mismatch
from keyturn.testing.facts_page import Told
from keyturn.testing.liar import LIES, Liar, tls
from keyturn.testing.row import RowUnderTest

ODD = {
    "quotes": "a'b\"c`d--;/*",
    "backslashes": "\\x00\\n\\\\end\\",
    "percent": "100%s%(x)s%00%0d%0a&a=b+c#d?e",
    "expressions": "${secret.password}{{7*7}}$(id)${input.host|default('x')}",
    "unicode": "pässwörd-日本語-🔑-\u202e-ﬀ",
    "spaces inside": "two words\tand a tab",
    "long": "x" * 5000,
    "line break": "first\r\nX-Injected: yes",
    "empty": "",
}


def facts() -> Iterator[Told]:
    """(name, check, capabilities needed, whether it applies)."""
    asked: Callable[[RowUnderTest], bool] = lambda row: not row.is_public  # noqa: E731 - one word for the lines below
    for check in (accepted, other_account, masked, round_trip, down, throttled):
        yield f"login: {check.__name__.replace('_', ' ')}", check, (), lambda _row: True
    for check in (twice, refused, bogus):
        yield f"login: {check.__name__}", check, (), asked
    yield "login: public", public, (), lambda row: row.is_public
    yield "boundary: no login inside a transaction", inside_transaction, (), lambda _row: True
    for lie in LIES:
        yield f"lie: {lie}", _named(lied_to, lie), (), _is_no_word_of(lie)
    yield "lie: expired certificate", expired, (), lambda row: row.secured is not None
    for odd in ODD:
        yield f"odd: {odd}", _named(odd_value, odd), (), asked


def _is_no_word_of(lie: str) -> Callable[[RowUnderTest], bool]:
    return lambda row: lie not in row.own_words


def _named(check: Callable[[RowUnderTest, str], None], which: str) -> Callable[[RowUnderTest], None]:
    return lambda row: check(row, which)


def accepted(row: RowUnderTest) -> None:
    """A good credential is accepted, as the account it belongs to."""
    found = row.verify(row.good)
    assert found.verdict is Verdict.ACCEPTED, f"{found.verdict.value}: {found.code} {found.detail}"
    wrong = mismatch(row.identity, found.identity)
    assert not wrong, f"seen as {dict(found.identity)}; {', '.join(wrong)} differ"
    assert row.nameless or found.identity.get("principal"), "no principal is read back"
    assert not any(value in found.identity.values() for value in row.good.secrets()), (
        "a secret is the identity"
    )


def twice(row: RowUnderTest) -> None:
    """A good login says nothing about the next one: after it a wrong credential is refused all the same."""
    assert row.verify(row.good).verdict is Verdict.ACCEPTED
    assert row.verify(row.wrong[0]).verdict is Verdict.REJECTED
    assert row.verify(row.good).verdict is Verdict.ACCEPTED


def refused(row: RowUnderTest) -> None:
    """A wrong credential is refused with a documented code; the refusal names the code and no identity."""
    for wrong in row.wrong:
        found = row.verify(wrong)
        assert found.verdict is Verdict.REJECTED, f"{found.verdict.value}: {found.code} {found.detail}"
        assert found.code in row.codes, f"code {found.code!r} is not one of {sorted(row.codes)}"
        assert not found.identity, "a refused login has an identity"


def bogus(row: RowUnderTest) -> None:
    """The negative control is refused in the way a wrong credential is, is new each time and holds nothing of ours."""
    first, second = (row.can.verifier.bogus(row.good) for _ in range(2))
    row.witness.tell(first, second)
    assert first.secrets() != second.secrets(), "the negative control is always the same"
    assert not set(first.secrets()) & set(row.good.secrets()), "the negative control holds a real secret"
    found = row.verify(first)
    assert found.verdict is Verdict.REJECTED, f"{found.verdict.value}: {found.code} {found.detail}"
    assert found.code in row.codes, f"code {found.code!r} is not one of {sorted(row.codes)}"


def public(row: RowUnderTest) -> None:
    """Nothing is sent that could be refused: no value is held, and no control is made up."""
    assert not row.good, "a public address is given a credential"
    try:
        row.can.verifier.bogus(row.good)
    except LookupError:
        return
    raise AssertionError("a credential is made up for an address that asks for none")


def other_account(row: RowUnderTest) -> None:
    """A login that works but belongs to somebody else can be told from the pinned one."""
    if row.elsewhere is None:
        assert row.nameless, "give RowUnderTest(elsewhere=...) or say in `nameless` why no identity is told"
        return
    pin = row.verify(row.good).identity
    with row.elsewhere() as (access, material):
        row.witness.tell(material)
        found = row.verify(material, access)
    assert found.verdict is not Verdict.ACCEPTED or mismatch(pin, found.identity), f"taken for {dict(pin)}"


def masked(row: RowUnderTest) -> None:
    """Nothing that holds a secret shows it: not the material, not the access, not in f-strings."""
    for shown in (row.good, row.access):
        text = f"{shown} {shown!r} {shown!s}"
        row.witness.keep(shown)
        row.witness.check([text])
    assert row.is_public or MASK in repr(row.good)


def round_trip(row: RowUnderTest) -> None:
    """The credential reads back whole from the bytes the vault keeps, and still works."""
    again = Material.from_bytes(row.good.to_bytes())
    assert (dict(again), again.public) == (dict(row.good), row.good.public)
    assert row.verify(again).verdict is Verdict.ACCEPTED


def down(row: RowUnderTest) -> None:
    """A vendor that is down says nothing about a credential: unknown, and soon."""
    with Liar("hung up") as there:
        access = row.hurried(row.aimed(there))
    began = time.monotonic()
    for material in (row.good, *row.wrong[:1]):
        found = row.verify(material, access)
        assert found.verdict is Verdict.UNKNOWN, f"{found.verdict.value}: {found.code} {found.detail}"
        assert found.code, "unknown without a word why"
    assert time.monotonic() - began < 2 * row.deadline_s + 3


def throttled(row: RowUnderTest) -> None:
    """Being told to wait is not a refusal; how long is passed on."""
    with row.throttled():
        found = row.verify(row.good)
    assert found.verdict is Verdict.UNKNOWN, f"{found.verdict.value}: {found.code} {found.detail}"
    assert found.wait_s > 0 or not row.throttle_says_wait, (
        "the vendor said how long to wait and it was dropped"
    )


def lied_to(row: RowUnderTest, which: str) -> None:
    """An answer outside the documented shape is unknown, in time, and no header or secret goes to a foreign host."""
    with Liar(which, first_word_s=0.1 if row.server_speaks_first else 2.0) as liar:
        access = row.hurried(row.aimed(liar))
        watchdog = threading.Timer(
            row.deadline_s + 3.0, liar.end
        )  # who waits for ever is let go, and found out
        watchdog.start()
        began = time.monotonic()
        found = row.verify(row.good, access)
        took = time.monotonic() - began
        watchdog.cancel()
        assert found.verdict is Verdict.UNKNOWN, f"{found.verdict.value}: {found.code} {found.detail}"
        # An official driver may follow a redirect by itself; what it must never do is take anything of ours along.
        row.witness.check([liar.astray.decode("latin-1")])
        assert b"authorization" not in liar.astray.lower(), "a header was carried to a foreign host"
        assert not _tokens(bytes(liar.received)) & _tokens(liar.astray), (
            "something of the login went to a foreign host"
        )
        there = liar.visits if row.server_speaks_first else liar.received
        assert there, "the login never went where it was aimed: the fact was not tested"
    assert took < row.deadline_s + 2.5, f"took {took:.1f} s with a deadline of {row.deadline_s} s"


def expired(row: RowUnderTest) -> None:
    """A certificate that ran out yesterday says nothing about a credential, and nothing is sent to its owner.

    Where the row can be given an authority, the same server with a certificate that has not run out is spoken to.
    """
    assert row.secured is not None
    for days in (-1, 30):
        with Liar("empty object", secure=tls(days, row.to_tls)) as liar:
            authority = tls(days, row.to_tls).authority
            more = row.secured(authority)
            access = row.hurried(row.aimed(liar))
            found = row.verify(row.good, replace(access, settings={**access.settings, **more}))
            assert liar.visits, "the login never went where it was aimed: the fact was not tested"
        assert found.verdict is Verdict.UNKNOWN, f"{found.verdict.value}: {found.code} {found.detail}"
        trusted = days > 0 and authority in more.values()
        assert bool(liar.received) == trusted, (
            "the certificate is good and trusted, and nothing was said"
            if trusted
            else "something was said to a server whose certificate has expired"
        )


def _tokens(said: bytes) -> set[bytes]:
    """Long opaque words: signatures, assertions, session tokens."""
    return set(re.findall(rb"[A-Za-z0-9+/_=-]{40,}", said))


def odd_value(row: RowUnderTest, which: str) -> None:
    """No character in a value changes the question: it is refused or unknown, never accepted, never a crash."""
    value = ODD[which]
    for name in row.good:
        if name in row.good.public:
            continue
        material = row.good.replacing(**{name: value})
        row.witness.tell(material if len(value) >= 8 else None)
        try:
            found = row.can.verifier.verify(row.access, material)
        except InvalidInput as error:  # said before anything was sent: the form would have said it too
            row.witness.saw(error)
            continue
        row.witness.keep(found)
        assert found.verdict is not Verdict.ACCEPTED or name not in _needed(row), (
            f"accepted with {name} = {which}"
        )
    assert row.verify(row.good).verdict is not Verdict.REJECTED


def _needed(row: RowUnderTest) -> set[str]:
    """The parts a login really uses: those of which a wrong one is among `wrong`."""
    return {name for wrong in row.wrong for name in row.good if wrong.get(name) != row.good[name]}


def inside_transaction(row: RowUnderTest) -> None:
    """No login is sent while a database transaction is open; making a bogus one needs no network."""
    with boundary.transaction():
        row.raises(lambda: row.can.verifier.verify(row.access, row.good), CallInsideTransaction)
        if not row.is_public:
            row.can.verifier.bogus(row.good)
    assert row.verify(row.good).verdict is Verdict.ACCEPTED

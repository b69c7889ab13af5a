"""Facts about the reads of jobs: the credential in force counts what is there, and nothing else is ever a count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from keyturn.contract.values import Access, Sample
from keyturn.errors import (
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.secret import Material
from keyturn.testing.facts_page import Told
from keyturn.testing.liar import Liar
from keyturn.testing.row import Reads, RowUnderTest

# What a vendor's outage, proxy or login page looks like. None of it may count, and none of it is a definite no.
_LIES = (
    "html page",
    "html page as json",
    "empty object",
    "other shape",
    "error with 200",
    "list as text",
    "truncated",
    "oversized",
    "redirect to a foreign host",
    "server error",
)
SPOILS = ("html_page", "truncated", "oversize", "redirect_foreign", "error_not_applied", "throttle")
_UNCLEAR = (VendorUnavailable, VendorThrottled, UnexpectedAnswer)
_DEFINITE = (InvalidInput, NotFound, ValueRefused, PermissionMissing)
# Names that a person may type, or paste: each is data, and no piece of a statement, an address or a template.
HOSTILE = (
    'x"; DROP TABLE orders; --',
    "x' OR '1'='1",
    "x` LIMIT 1) t; DROP TABLE orders; --",
    "../../admin",
    "a/../../b",
    "orders?limit=100000#",
    "orders%2f..%2f..%2fadmin",
    "${secret.password}{{7*7}}",
    "a.b.c.d.e",
    "..",
    "日本語-🔑-\u202e",
    "x" * 300,
)


def facts() -> Iterator[Told]:
    """(name, check, capabilities needed, whether it applies)."""
    for check in (counts, absent, hostile):
        yield f"read: {check.__name__}", check, ("reader",), lambda _row: True
    yield "read: refused", refused, ("reader",), lambda row: not row.is_public
    for lie in _LIES:
        yield f"read: lie: {lie}", partial(lied_to, which=lie), ("reader",), lambda _row: True
    for kind in SPOILS:
        yield (
            f"read: spoiled: {kind.replace('_', ' ')}",
            partial(spoiled, kind=kind),
            ("reader",),
            lambda row: row.reads is not None and row.reads.spoil is not None,
        )


def _reads(row: RowUnderTest) -> Reads:
    assert row.reads is not None, "the row claims a reader: give RowUnderTest(reads=...) something to read"
    return row.reads


def _read(
    row: RowUnderTest, material: Material, what: str, limit: int, access: Access | None = None
) -> Sample:
    assert row.can.reader is not None
    found = row.can.reader.read_sample(access or row.access, material, what, limit)
    row.witness.keep(found)
    return found


def _refusal(row: RowUnderTest, call: Callable[[], Sample], *kinds: type[KeyturnError]) -> KeyturnError:
    error = row.raises(call, *kinds)
    assert error.message.strip(), "an error without a word"
    assert len(error.message) < 400, "an error that quotes an answer"
    return error


def counts(row: RowUnderTest) -> None:
    """The credential in force counts what is there, never more than was asked for; nothing counted is none."""
    reads = _reads(row)
    assert reads.there > 1, "something with two items shows that a limit holds"
    found = _read(row, row.good, reads.what, 10)
    assert found.count == reads.there, f"counted {found.count} of {reads.there}"
    assert _read(row, row.good, reads.what, 1).count == 1
    if reads.empty is not None:
        assert _read(row, row.good, reads.empty, 10).count == 0
    for what, there in reads.more.items():
        assert _read(row, row.good, what, 10).count == there, what


def refused(row: RowUnderTest) -> None:
    """A wrong credential is refused by name: no count, and no other reason is blamed."""
    reads = _reads(row)
    for wrong in row.wrong:
        _refusal(row, partial(_read, row, wrong, reads.what, 10), CredentialRejected)


def absent(row: RowUnderTest) -> None:
    """What is not there, or not for this account, is said clearly, with what to do, and the credential is not blamed."""
    reads = _reads(row)
    assert reads.absent or reads.any_name, "name something that is not there"
    for what in reads.absent:
        error = _refusal(row, partial(_read, row, row.good, what, 10), *_DEFINITE)
        assert error.hint or "right" in error.facts or error.facts.get("code"), f"{error.message}: and now?"
    assert _read(row, row.good, reads.what, 10).count == reads.there


def hostile(row: RowUnderTest) -> None:
    """No name changes the question: it is refused, or it is a name like any other; what is there stays there."""
    reads = _reads(row)
    for what in HOSTILE:
        try:
            found = _read(row, row.good, what, 10)
        except _DEFINITE as error:
            row.witness.saw(error)
            continue
        except KeyturnError as error:
            raise AssertionError(f"{what[:30]!r}: {type(error).__name__}: {error}") from error
        assert reads.any_name, f"{what[:30]!r} was counted"
        assert found.count == 0, f"{what[:30]!r} is {found.count} items"
    assert _read(row, row.good, reads.what, 10).count == reads.there


def lied_to(row: RowUnderTest, which: str) -> None:
    """An answer outside the documented shape is no count and no definite no; nothing goes to a foreign host."""
    reads = _reads(row)
    with Liar(which, first_word_s=0.1 if row.server_speaks_first else 2.0) as liar:
        access = row.hurried(row.aimed(liar))
        _refusal(row, partial(_read, row, row.good, reads.what, 10, access), *_UNCLEAR)
        row.witness.check([liar.astray.decode("latin-1")])
        assert b"authorization" not in liar.astray.lower(), "a header was carried to a foreign host"
        assert liar.visits, "the read never went where it was aimed: the fact was not tested"


def spoiled(row: RowUnderTest, kind: str) -> None:
    """The login is fine and the read itself is answered with nonsense: no count, no definite no, and the next one works."""
    reads = _reads(row)
    assert reads.spoil is not None
    with reads.spoil(kind):
        _refusal(row, partial(_read, row, row.good, reads.what, 10), *_UNCLEAR)
    assert _read(row, row.good, reads.what, 10).count == reads.there

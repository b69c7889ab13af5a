"""Facts about calls that change something: absolute, repeatable, never silent about an answer that was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from keyturn import boundary
from keyturn.contract.values import Access, Candidate
from keyturn.errors import (
    CallInsideTransaction,
    KeyturnError,
    OutcomeUnknown,
    Retry,
    UnexpectedAnswer,
)
from keyturn.model.card import RevokeScope, Strategy
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict, mismatch
from keyturn.testing.facts_page import Told
from keyturn.testing.liar import Liar
from keyturn.testing.row import RowUnderTest

_GARBAGE = (b"", b"{}", b"null", b"<html>", b"[" * 100_000, b'{"id": 1', b"\xff\xfe\x00", b'"text"', b"[[1]]")


def facts() -> Iterator[Told]:
    """(name, check, capabilities needed, whether it applies)."""
    always: Callable[[RowUnderTest], bool] = lambda _row: True  # noqa: E731 - one word for the table below
    revocable: Callable[[RowUnderTest], bool] = lambda row: row.can.revoker is not None and not _one(row)  # noqa: E731
    yield "set: makes without network", makes, ("maker",), always
    yield "set: absolute", absolute, ("maker", "setter"), always
    yield "set: neighbours", neighbours, ("maker", "setter"), always
    yield "set: lost answer", lost_set, ("maker", "setter"), always
    yield "issue: round trip", issues, ("issuer",), always
    yield "issue: labelled", labelled, ("issuer", "lister"), lambda row: bool(row.card.label_field)
    yield "issue: lost answer", lost_issue, ("issuer",), always
    yield "issue: garbage", garbage, ("issuer",), always
    yield "list: shows the credential in use", lists, ("lister",), lambda row: row.card.inventory
    yield "list: located", located, ("locator",), always
    yield "disable: reversible", reversible, ("disabler",), always
    yield "disable: lost answer", lost_disable, ("disabler",), always
    yield "revoke: twice", revokes, ("revoker",), revocable
    yield "revoke: the last one", revokes_last, ("revoker",), lambda row: row.access.admin is not None
    yield "revoke: lost answer", lost_revoke, ("revoker",), revocable
    yield "discover: changes nothing", discovers, ("discoverer",), lambda row: row.access.admin is not None
    yield "down: every call says that nothing was changed", down, (), always
    yield "boundary: no call inside a transaction", inside_transaction, (), always


def _one(row: RowUnderTest) -> bool:
    return row.card.strategy in {Strategy.SET_ONE, Strategy.REGENERATE}


def _make(row: RowUnderTest) -> Candidate:
    assert row.can.maker is not None
    made = row.can.maker.make(row.access, row.slot)
    row.witness.tell(made.material)
    row.witness.keep(made)
    return made


def makes(row: RowUnderTest) -> None:
    """Values are made here, differ each time, say where they go, read back whole, and need no network."""
    with boundary.transaction():
        first, second = _make(row), _make(row)
    assert first.material.secrets()
    assert set(first.material.secrets()).isdisjoint(second.material.secrets()), "the same value twice"
    assert row.slot.slot in {"", first.ref.slot}, f"made for {first.ref.slot!r} instead of {row.slot.slot!r}"
    assert dict(Material.from_bytes(first.material.to_bytes())) == dict(first.material)


def absolute(row: RowUnderTest) -> None:
    """Setting the same value twice gives what setting it once gives: it works, as the same account, in one place."""
    assert row.can.setter is not None
    made, seen = _make(row), []
    for _ in range(2):
        row.can.setter.set(row.access, made.ref, made.material)
        found = row.becomes(row.usable(made), Verdict.ACCEPTED)
        assert not mismatch(row.identity, found.identity)
        if row.access.admin is None and row.card.new_kills_old:
            row.access = replace(row.access, acting=made.material)  # the value it signed in with is no more
        seen.append([remote.ref for remote in row.inventory()])
    assert seen[0] == seen[1], "the second time changed the inventory"
    assert not row.card.inventory or row.here(made.ref), "the inventory does not show what was set"


def neighbours(row: RowUnderTest) -> None:
    """What the card says of the old value holds: it lives on beside the new one, or dies with it."""
    made = row.stage()
    row.becomes(made.material, Verdict.ACCEPTED)
    if row.card.new_kills_old:
        assert row.becomes(row.good, Verdict.REJECTED).code in row.codes
    else:
        assert row.verify(row.good).verdict is Verdict.ACCEPTED


def lost_set(row: RowUnderTest) -> None:
    """A set whose answer is lost is an unknown outcome, and sending the same value again settles it."""
    assert row.can.setter is not None
    setter, made = row.can.setter, _make(row)
    with row.lost("set") as access:
        row.raises(lambda: setter.set(access, made.ref, made.material), OutcomeUnknown)
    _again(row, lambda using: setter.set(using, made.ref, made.material), made.material)
    row.becomes(row.usable(made), Verdict.ACCEPTED)


def _again(row: RowUnderTest, call: Callable[[Access], object], new: Material) -> None:
    """Repeats a call; where a self path lost its own login with the change, the new value signs."""
    try:
        call(row.access)
    except KeyturnError as error:
        row.witness.saw(error)
        if row.access.admin is not None:
            raise AssertionError(f"the same again was refused: {error}") from error
        call(replace(row.access, acting=new))


def issues(row: RowUnderTest) -> None:
    """What the vendor makes is read from its sealed answer, the same each time, works, and is listed."""
    assert row.can.issuer is not None
    before = {(remote.ref.id, remote.ref.slot, remote.ref.fingerprint) for remote in row.inventory()}
    raw = row.can.issuer.issue(row.access, row.slot)
    with boundary.transaction():
        first, second = (row.can.issuer.read(row.access, raw) for _ in range(2))
    row.witness.tell(first.material)
    row.witness.keep(first)
    assert (dict(first.material), first.ref) == (dict(second.material), second.ref)
    assert dict(Material.from_bytes(first.material.to_bytes())) == dict(first.material)
    assert set(first.material) >= set(row.good) - {"registration_access_token"}, (
        "the new one lacks parts of the old"
    )
    found = row.becomes(first.material, Verdict.ACCEPTED)
    assert row.nameless or not mismatch(row.identity, found.identity)
    if row.card.inventory:
        here = row.here(first.ref)
        assert here is not None, "the inventory does not show what was issued"
        assert (here.ref.id, here.ref.slot, here.ref.fingerprint) not in before
    if not row.card.new_kills_old:
        assert row.verify(row.good).verdict is Verdict.ACCEPTED


def labelled(row: RowUnderTest) -> None:
    """Our marker is on what we made, so that it is known again after a lost answer."""
    assert row.can.issuer is not None
    access = replace(row.access, marker="keyturn-contract-1")
    made = row.can.issuer.read(access, row.can.issuer.issue(access, row.slot))
    row.witness.tell(made.material)
    here = row.here(made.ref)
    assert here is not None
    assert "keyturn-contract-1" in here.ref.label


def lost_issue(row: RowUnderTest) -> None:
    """An answer lost after the vendor made a credential is an unknown outcome, and the inventory shows the orphan."""
    assert row.can.issuer is not None
    issuer, before = row.can.issuer, {remote.ref.id for remote in row.inventory()}
    with row.lost("issue") as access:
        row.raises(lambda: issuer.issue(access, row.slot), OutcomeUnknown)
    if row.card.inventory and not row.slot.slot:
        fresh = [remote for remote in row.inventory() if remote.ref.id not in before]
        assert len(fresh) == 1, "the orphan cannot be told from what was there"
        if row.can.revoker is not None:
            row.can.revoker.revoke(row.access, fresh[0].ref, None)
            assert row.here(fresh[0].ref) is None


def garbage(row: RowUnderTest) -> None:
    """An answer that holds no credential is refused without quoting it."""
    assert row.can.issuer is not None
    issuer = row.can.issuer
    row.witness.tell("ktlab-not-to-be-quoted")
    for raw in (*_GARBAGE, b'{"error": "ktlab-not-to-be-quoted"}'):
        row.raises(partial(issuer.read, row.access, raw), UnexpectedAnswer)


def lists(row: RowUnderTest) -> None:
    """The inventory shows the credential in use, follows every page, and nothing in it is a secret."""
    inventory = row.inventory()
    row.witness.keep(inventory)
    where = row.can.locator.locate(row.access, row.good) if row.can.locator else None
    assert inventory, "nothing is listed although a credential is in use"
    if where is not None:
        here = row.here(where)
        assert here is not None, "the credential in use is not listed"
        assert here.active


def located(row: RowUnderTest) -> None:
    """A credential that came from outside is found at its place; one that is not there is not."""
    assert row.can.locator is not None
    where = row.can.locator.locate(row.access, row.good)
    assert where != Ref(), "no place is named"
    row.witness.keep(where)


def reversible(row: RowUnderTest) -> None:
    """Switched off it is refused and still listed, switched on it works; each twice is once."""
    assert row.can.disabler is not None
    made = row.stage()
    row.becomes(made.material, Verdict.ACCEPTED)
    for _ in range(2):
        row.can.disabler.disable(row.access, made.ref)
    row.becomes(made.material, Verdict.REJECTED)
    if row.card.inventory:
        here = row.here(made.ref)
        assert here is not None, "switched off is not gone"
        assert not here.active
    for _ in range(2):
        row.can.disabler.enable(row.access, made.ref)
    row.becomes(made.material, Verdict.ACCEPTED)


def lost_disable(row: RowUnderTest) -> None:
    """A switch whose answer is lost is an unknown outcome; repeating settles it."""
    assert row.can.disabler is not None
    disabler, made = row.can.disabler, row.stage()
    row.becomes(made.material, Verdict.ACCEPTED)
    with row.lost("disable") as access:
        row.raises(lambda: disabler.disable(access, made.ref), OutcomeUnknown)
    disabler.disable(row.access, made.ref)
    row.becomes(made.material, Verdict.REJECTED)


def revokes(row: RowUnderTest) -> None:
    """Ending a credential ends it, and only it unless the card says more; twice is fine; the inventory follows."""
    assert row.can.revoker is not None
    made = row.stage()
    row.becomes(made.material, Verdict.ACCEPTED)
    for _ in range(2):
        row.can.revoker.revoke(row.access, made.ref, made.material)
    found = row.becomes(made.material, Verdict.REJECTED)
    assert found.code in row.codes, f"dead with code {found.code!r}, not one of {sorted(row.codes)}"
    if row.card.inventory:
        assert row.here(made.ref) is None, "the inventory still shows it"
    if row.card.revoke_scope is RevokeScope.CREDENTIAL:
        assert row.verify(row.good).verdict is Verdict.ACCEPTED, "its neighbour died too"
    else:
        row.becomes(row.good, Verdict.REJECTED)  # as the card says: it shares what was ended


def revokes_last(row: RowUnderTest) -> None:
    """The last credential can be ended as well, by the administrator, with or without its value, twice."""
    assert row.can.revoker is not None
    where = row.can.locator.locate(row.access, row.good) if row.can.locator else _first(row)
    row.can.revoker.revoke(row.access, where, row.good)
    row.becomes(row.good, Verdict.REJECTED)
    row.can.revoker.revoke(row.access, where, row.good)


def _first(row: RowUnderTest) -> Ref:
    return next(
        (remote.ref for remote in row.inventory() if remote.active), Ref(id=row.good.get("key_id", ""))
    )


def lost_revoke(row: RowUnderTest) -> None:
    """An end whose answer is lost is an unknown outcome; repeating it finds nothing and is done."""
    assert row.can.revoker is not None
    revoker, made = row.can.revoker, row.stage()
    row.becomes(made.material, Verdict.ACCEPTED)
    with row.lost("revoke") as access:
        row.raises(lambda: revoker.revoke(access, made.ref, made.material), OutcomeUnknown)
    revoker.revoke(row.access, made.ref, made.material)
    row.becomes(made.material, Verdict.REJECTED)


def discovers(row: RowUnderTest) -> None:
    """Looking around finds something with a name and a kind, and changes nothing."""
    assert row.can.discoverer is not None
    before = [remote.ref for remote in row.inventory()]
    found = row.can.discoverer.discover(row.access)
    row.witness.keep(found)
    assert found, "nothing was seen"
    assert all(each.name and each.kind for each in found)
    assert [remote.ref for remote in row.inventory()] == before
    assert row.verify(row.good).verdict is Verdict.ACCEPTED


def _calls(row: RowUnderTest, access: Access, made: Candidate) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every call that goes to the vendor, apart from the login."""
    can = row.can
    if can.lister is not None:
        yield "list", partial(can.lister.list, access)
    if can.setter is not None:
        yield "set", partial(can.setter.set, access, made.ref, made.material)
    if can.issuer is not None:
        yield "issue", partial(can.issuer.issue, access, row.slot)
    if can.disabler is not None:
        yield "disable", partial(can.disabler.disable, access, made.ref)
        yield "enable", partial(can.disabler.enable, access, made.ref)
    if can.revoker is not None:
        yield "revoke", partial(can.revoker.revoke, access, made.ref, made.material)
    if can.dropper is not None and access.admin is not None:
        yield "drop", partial(can.dropper.drop, access)
    if can.discoverer is not None:
        yield "discover", partial(can.discoverer.discover, access)
    if can.reader is not None and row.reads is not None:
        yield "read", partial(can.reader.read_sample, access, row.good, row.reads.what, 1)
    if can.authorizer is not None:
        session = row.session()
        back = f"{session['redirect_uri']}?code=ktlab-no-such-code&state={session['state']}"
        yield "exchange", partial(can.authorizer.exchange, access, session, back)
        yield "refresh", partial(can.authorizer.refresh, access, row.good)


def _candidate(row: RowUnderTest) -> Candidate:
    """Something well-formed to act on; it need not exist."""
    if row.can.maker is not None:
        return _make(row)
    where = next((remote.ref for remote in row.inventory()), Ref(id="AKIA0000000000000000"))
    return Candidate(where, row.good)


def down(row: RowUnderTest) -> None:
    """While the vendor is unreachable every call says so, promises that nothing was changed, and can be made later."""
    made = _candidate(row)
    with Liar("hung up") as there:
        access = row.hurried(row.aimed(there))
    for name, call in _calls(row, access, made):
        error = row.raises(call, KeyturnError)
        assert error.retry is Retry.LATER, f"{name} raises {type(error).__name__} ({error}): nothing was sent"


def inside_transaction(row: RowUnderTest) -> None:
    """No call goes out while a database transaction is open, whatever it is."""
    made = _candidate(row)
    for name, call in _calls(row, row.access, made):
        with boundary.transaction():
            error = row.raises(call, KeyturnError)
        assert isinstance(error, CallInsideTransaction), f"{name} raises {type(error).__name__} ({error})"

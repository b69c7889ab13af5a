"""The book of issued secrets: who is let in, how uses are counted, and what is final."""

import logging
import threading

import pytest

from keyturn.errors import CallInsideTransaction, Conflict, InvalidInput, NotFound
from keyturn.issued import grants, kinds
from keyturn.issued import reveal as kept
from keyturn.issued.book import Code, IssuedBook
from keyturn.issued.capabilities import capabilities
from keyturn.keymaking import passwords
from keyturn.operations import connections, issued, leaks
from keyturn.operations.connections import find
from keyturn.storage import issued as rows
from keyturn.storage import journal


def make(hub, name="crm", **values):
    return issued.issue(hub, "api-key", name, {"scopes": "read", **values})


VECTORS = (
    "hubk_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1UTyZL",
    "hubs_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg287xaI",
    "hubk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000016900xVfD",
)


@pytest.mark.parametrize("value", VECTORS)
def test_vectors(value):
    """The token format is the documented one."""
    assert passwords.parse(value, "hub").kind == value[3]


def test_an_issued_value_has_our_format_and_is_accepted(idle, book):
    """A fresh key is well formed and let in at once."""
    handed = make(idle)
    value = handed.value.reveal()
    assert passwords.parse(value).kind == "k"
    found = book.check(value, address="192.0.2.7", agent="loader/1")
    assert found.accepted
    assert found.name == "crm"
    assert found.scopes == {"read"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda v: v[:-1] + ("0" if v[-1] != "0" else "1"),
        lambda v: v[:9] + ("x" if v[9] != "x" else "y") + v[10:],
        lambda v: "ktnw" + v[4:],
        lambda v: v + "\n",
        lambda v: v[:-1],
        lambda _: "",
        lambda _: "ünïcode",
        lambda v: v * 1000,
    ],
)
def test_a_bad_checksum_never_reaches_the_database(idle, book, spoil, monkeypatch):
    """Malformed values are refused without a query."""
    value = spoil(make(idle).value.reveal())
    monkeypatch.setattr(book.store, "read", lambda _: pytest.fail("the database was asked"))
    assert book.check(value).code is Code.MALFORMED


def test_a_well_formed_stranger_is_unknown(idle, book):
    """The right shape alone opens nothing."""
    make(idle)
    assert book.check(passwords.token("k")).code is Code.UNKNOWN


def test_a_revoked_key_is_refused_at_once_by_every_book(idle, book):
    """Another worker's book refuses from the commit on: nothing accepted is remembered."""
    handed = make(idle)
    other = IssuedBook(idle.store, idle.roots)
    assert other.check(handed.value.reveal()).accepted
    issued.revoke(idle, "crm")
    assert other.check(handed.value.reveal()).code is Code.REVOKED
    assert book.check(handed.value.reveal()).code is Code.REVOKED
    other.close()


def test_expiry_is_final(idle):
    """A key that expired stays expired when the clock is set back."""
    now = [0.0]
    handed = make(idle, expires_in_days="1")
    book = IssuedBook(idle.store, idle.roots, lambda: now[0])
    born = book.list(handed.connection.id)[0].created_at
    now[0] = born + 86399
    assert book.check(handed.value.reveal()).accepted
    now[0] = born + 86401
    assert book.check(handed.value.reveal()).code is Code.EXPIRED
    book.flush()
    now[0] = born + 60
    assert book.check(handed.value.reveal()).code is Code.EXPIRED
    book.close()


@pytest.mark.parametrize("seen_by", ["a caller", "the sweep"])
def test_clock_jumps_revive_nothing(idle, seen_by):
    """An hour forward and back, over the end and around it: what was expired once, by whoever noticed, is not let in again,
    and what was not is."""
    handed = make(idle, expires_in_days="1")
    value, born = handed.value.reveal(), handed.until - kept.REVEAL_S
    now = [born + 86400 - 1800]
    book = IssuedBook(idle.store, idle.roots, lambda: now[0])

    def notice():
        if seen_by == "a caller":
            book.check(value)
            book.flush()
        else:
            idle.store.write(lambda tx: rows.keep_time(tx, now[0]))

    for jump in (-3600, 0):
        now[0] += jump
        notice()
        assert book.look(value).accepted
        now[0] -= jump
    now[0] += 3600
    notice()
    now[0] -= 3600
    assert book.look(value).code is Code.EXPIRED
    assert [s.state.value for s in book.list(handed.connection.id)] == ["expired"]
    now[0] += 3600
    assert book.look(value).code is Code.EXPIRED
    book.close()


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("192.0.2.9", Code.OK),
        ("::ffff:192.0.2.9", Code.OK),
        ("2001:db8::1", Code.OK),
        ("198.51.100.1", Code.ADDRESS),
        ("", Code.ADDRESS),
        ("testclient", Code.ADDRESS),
    ],
)
def test_allowed_networks(idle, book, address, code):
    """Only callers from the listed networks come in."""
    handed = make(idle, allowed_cidrs="192.0.2.0/24, 2001:db8::/32")
    assert book.check(handed.value.reveal(), address=address).code is code


@pytest.mark.parametrize(
    ("has", "needs", "is_covered"),
    [
        ("read", "", True),
        ("read", "read", True),
        ("read", "write", False),
        ("lease", "lease:warehouse", True),
        ("lease:warehouse", "lease:warehouse", True),
        ("lease:warehouse", "lease:crm", False),
        ("lease:warehouse", "lease", False),
        ("lease:warehouse", "lease:", True),
        ("read", "lease:", False),
        ("leases", "lease:", False),
    ],
)
def test_scopes(has, needs, is_covered):
    """A narrow scope never opens a wide door."""
    assert grants.of({"scopes": has}).covers(needs) is is_covered


def test_uses_are_counted_in_batches_and_the_first_at_once(idle, book):
    """The first use is in the database when the call returns; the rest follow in one write."""
    handed = make(idle)
    value = handed.value.reveal()
    book.check(value, address="192.0.2.7", agent="loader/1")
    first = rows.by_version, handed.version_id
    row = idle.store.read(lambda tx: first[0](tx, first[1]))
    assert row.first_used_at is not None
    assert row.uses == 0
    for _ in range(99):
        book.check(value, address="192.0.2.7", agent="loader/1")
    book.flush()
    row = idle.store.read(lambda tx: rows.by_version(tx, handed.version_id))
    assert (row.uses, row.last_used_from, row.last_used_agent) == (100, "192.0.2.7", "loader/1")


def test_many_threads_lose_no_use(idle, book):
    """Counting is exact under contention."""
    value = make(idle).value.reveal()
    threads = [
        threading.Thread(target=lambda: [book.check(value, address="192.0.2.7") for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    book.flush()
    assert issued.get(idle, "crm").secrets[0].uses == 200


def test_a_late_caller_is_put_on_record_once(idle, book):
    """Whoever still presents an ended key is told of in the journal, with address and agent, but not at every call."""
    handed = make(idle)
    value = handed.value.reveal()
    issued.revoke(idle, "crm")
    for _ in range(5):
        book.check(value, address="192.0.2.7", agent=f"old loader {value}")
    book.flush()
    book.check(value, address="192.0.2.7")
    book.flush()
    lines = idle.store.read(lambda tx: journal.of_connection(tx, handed.connection.id))
    seen = [line.facts for line in lines if line.facts.get("what") == "refused_secret"]
    assert [(s["times"], s["from"], s["agent"], s["why"]) for s in seen] == [
        (5, "192.0.2.7", "old loader (token)", "revoked")
    ]
    assert issued.get(idle, "crm").secrets[0].uses == 0


def test_the_value_is_nowhere_but_sealed(idle, book, tmp_path, caplog):
    """Neither the database's files nor the log hold the value; its ten minutes are ciphertext."""
    caplog.set_level(logging.DEBUG)
    value = make(idle).value.reveal()
    book.check(value, address="192.0.2.7", agent=value)
    book.flush()
    for path in (tmp_path / "home").rglob("*"):
        assert not path.is_file() or value.encode() not in path.read_bytes()
    assert value not in caplog.text


def test_at_most_two_live(idle, book):
    """A slot that holds a live secret takes no second one."""
    handed = make(idle)
    connection = handed.connection
    with pytest.raises(Conflict, match="slot A"):
        idle.store.write(lambda tx: book.add(tx, "ver_x", connection.id, "A", "0" * 64, "abcd", None))


def test_no_call_inside_a_transaction(idle, book):
    """The book is a vendor like any other: the executor may not ask it while it holds a transaction (I13)."""
    handed = make(idle)
    can = capabilities(book, idle.secrets, handed.connection)
    with pytest.raises(CallInsideTransaction):
        idle.store.write(lambda _: can.lister.list(None))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"scopes": "read;write"}, "scopes"),
        ({"expires_in_days": "soon"}, "expires_in_days"),
        ({"allowed_cidrs": "10.0.0.0/99"}, "allowed_cidrs"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_input_names_its_field(idle, values, field):
    """Nothing is issued and the field is named."""
    with pytest.raises(InvalidInput) as caught:
        issued.issue(idle, "hub-api/access_key", "crm", values)
    assert caught.value.facts["field"] == field
    assert issued.every(idle) == []


def test_names_and_kinds(idle):
    """Names are unique; kinds are listed in the error."""
    make(idle)
    with pytest.raises(Conflict):
        make(idle)
    with pytest.raises(NotFound, match="issues no saml"):
        kinds.named("saml")
    assert find(idle, "crm").identity["principal"] == find(idle, "crm").id


# -- made for later ----------------------------------------------------------------------------------------------------


def later(hub, **asked):
    handed = issued.issue(hub, "api-key", "crm", {"scopes": "read"}, starts_in_s=3600.0, **asked)
    now = [handed.until - kept.REVEAL_S]
    return handed, IssuedBook(hub.store, hub.roots, lambda: now[0]), now


def state(hub, name="crm"):
    return [s.state.value for s in issued.get(hub, name).secrets]


def test_a_secret_made_for_later_is_refused_until_then(idle):
    """Until its hour, with a code of its own; then its first use makes it live for good, whatever the clock does."""
    handed, book, now = later(idle)
    value = handed.value.reveal()
    assert state(idle) == ["pending"]
    assert book.check(value).code is Code.EARLY
    now[0] += 3599
    assert book.check(value).code is Code.EARLY
    now[0] += 2
    found = book.check(value)
    assert (found.code, found.is_first_use) == (Code.OK, True)
    assert state(idle) == ["live"]
    now[0] -= 3601
    assert book.check(value).accepted
    book.close()


def test_a_secret_made_for_later_is_live_in_time_though_nobody_calls(idle):
    """The sweep says so to whoever looks at it."""
    handed, book, _ = later(idle)
    begun = next(s.starts_at for s in book.list(handed.connection.id))
    assert idle.store.write(lambda tx: rows.keep_time(tx, begun - 1)) == 0
    assert idle.store.write(lambda tx: rows.keep_time(tx, begun)) == 1
    assert state(idle) == ["live"]
    book.close()


def test_the_sweep_reads_no_secret_in_vain(idle):
    """Both of its questions go by an index of what is not over."""
    later(idle)[1].close()

    def plans(tx):
        return [tx.all(f"EXPLAIN QUERY PLAN SELECT 1 FROM issued_secret WHERE {each}", 1.0) for each in asked]

    asked = (rows._BEGUN, rows._OVER)
    if idle.store.dialect == "sqlite":
        assert all("USING INDEX issued_" in str(plan) for plan in idle.store.read(plans)), "a scan"


def test_the_hub_may_test_what_is_made_for_later(idle):
    """A nightly test must not call it broken; a wrong scope or address cannot pass for one."""
    later(idle)[1].close()
    assert connections.test(idle, "crm").verdict.value == "accepted"
    assert state(idle) == ["pending"]


def test_what_is_made_for_later_can_be_ended_before(idle):
    """Revoked and leaked alike, and it never starts."""
    handed, book, now = later(idle)
    issued.revoke(idle, "crm")
    now[0] += 7200
    assert book.check(handed.value.reveal()).code is Code.REVOKED
    book.close()
    other = issued.issue(idle, "api-key", "erp", {"scopes": "read"}, starts_in_s=3600.0)
    assert [each.was_live for each in leaks.report(idle, other.value.reveal()).known] == [True]
    assert state(idle, "erp")[-1] == "revoked"


@pytest.mark.parametrize(
    ("kind", "values", "starts_in_s"),
    [
        ("api-key", {}, -1.0),
        ("api-key", {}, 400 * 86400.0),
        ("api-key", {"expires_in_days": "1"}, 86400.0),
        ("hub-bucket", {}, 60.0),
    ],
)
def test_a_start_that_cannot_be(idle, kind, values, starts_in_s):
    """Refused before anything is made, with the field."""
    with pytest.raises(InvalidInput) as caught:
        issued.issue(idle, kind, "crm", values, starts_in_s=starts_in_s)
    assert caught.value.facts["field"] == "starts_in_s"
    assert issued.every(idle) == []

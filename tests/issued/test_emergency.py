"""Many ended with one word: all of a kind, all issued before a moment; nothing else, and at once."""

import time

import pytest
from tests.waiting import wait_for

from keyturn.errors import InvalidInput, NotFound
from keyturn.issued.book import Code, IssuedBook
from keyturn.operations import emergency, issued, register, runs
from keyturn.storage import journal


def make(hub, name, kind="api-key", at=None):
    handed = issued.issue(hub, kind, name, {})
    if at is not None:
        hub.store.write(
            lambda tx: tx.run(
                "UPDATE issued_secret SET created_at = ? WHERE version_id = ?", at, handed.version_id
            )
        )
    return handed.value.reveal()


@pytest.fixture
def ledger(idle):
    found = IssuedBook(idle.store, idle.roots)
    yield found
    found.close()


def test_everything_of_a_kind(hub, ledger):
    """Refused when the call returns; others go on; each is proven by its run; it is in each one's journal."""
    keys = [make(hub, name) for name in ("a", "b")]
    other = make(hub, "c", "bulk-key")
    register.hold(hub, "a", "Acme", contact="ops@acme.example")
    chosen = emergency.choose(hub, "api-key")
    assert [(each.credential.connection.name, each.hit) for each in chosen] == [
        ("a", ("Acme, ops@acme.example",)),
        ("b", ()),
    ]
    assert all(ledger.look(each).accepted for each in keys)
    ended = emergency.end(hub, "api-key", reason="incident 7", who="kim")
    assert [ledger.look(each).code for each in keys] == [Code.REVOKED, Code.REVOKED]
    assert ledger.look(other).accepted
    for each in ended:
        run = wait_for(lambda each=each: (r := runs.get(hub, each.run_id)).ended_at and r)
        assert (run.state.value, run.reason) == ("complete", "incident 7")
    connection = issued.get(hub, "a").connection
    lines = hub.store.read(lambda tx: journal.of_connection(tx, connection.id))
    said = next(line.facts for line in lines if line.facts.get("decision") == "revoked_now")
    assert (said["by"], said["reason"], said["among"]) == ("kim", "incident 7", 2)


def test_everything_issued_before_a_moment(hub, ledger):
    """Of a credential whose newer secret was issued since, only the older slot; its rotation goes on to its end."""
    then = time.time() - 5
    old, young = make(hub, "old", at=then - 60), make(hub, "young")
    first = make(hub, "both", at=then - 60)
    second = issued.reissue(hub, "both", 3600).value.reveal()
    ledger.check(first)
    chosen = emergency.choose(hub, before=then)
    assert [(each.credential.connection.name, each.slot) for each in chosen] == [("both", "A"), ("old", None)]
    emergency.end(hub, before=then)
    assert [ledger.look(each).accepted for each in (old, young, first, second)] == [False, True, False, True]
    wait_for(lambda: runs.recent(hub, "both", 1)[0].ended_at)
    assert [s.state.value for s in issued.get(hub, "both").secrets] == ["live", "revoked"]


def test_an_open_rotation_does_not_save_anything(hub, ledger):
    """Both slots, though a run is under way."""
    first = make(hub, "both")
    second = issued.reissue(hub, "both", 3600).value.reveal()
    ended = emergency.end(hub, "api-key")
    assert [ledger.look(each).accepted for each in (first, second)] == [False, False]
    assert ended[0].slots == ("B", "A")
    wait_for(lambda: runs.get(hub, ended[0].run_id).ended_at)
    assert issued.reissue(hub, "both", 0).value.reveal() not in {first, second}


def test_again_ends_nothing_twice(hub):
    """What is ended is not chosen any more."""
    make(hub, "a")
    assert len(emergency.end(hub, "api-key")) == 1
    assert emergency.end(hub, "api-key") == []


def test_a_client_goes_with_its_tokens(hub, ledger):
    """The secrets of a kind of client, and what was made with them."""
    make(hub, "etl", "m2m")
    assert [each.name for each in emergency.end(hub, "m2m")] == ["etl"]


def test_one_must_say_which(idle):
    """Nothing named is not everything."""
    with pytest.raises(InvalidInput):
        emergency.choose(idle)
    with pytest.raises(NotFound):
        emergency.end(idle, "nonsense")

"""A second key beside the first: overlap, confirm by use, retirement, and ending things now."""

import threading
import time

import pytest
from tests.issued.conftest import open_test_hub
from tests.waiting import wait_for

from keyturn.catalog import check
from keyturn.errors import Conflict, InvalidInput, NotDone, NotFound, NotPermitted, ValueRefused
from keyturn.executor.executor import Executor
from keyturn.issued import reveal as kept
from keyturn.issued.book import Code
from keyturn.issued.capabilities import capabilities
from keyturn.model.credential import ConnectionState, State
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict
from keyturn.operations import audit, connections, issued, runs
from keyturn.storage import issued as rows
from keyturn.storage import sealed, versions
from keyturn.vault.secrets import version_row


def make(hub, name="crm", **values):
    return issued.issue(hub, "api-key", name, {"scopes": "read", **values})


def ended(hub, run, timeout_s=10.0):
    return wait_for(lambda: (r := runs.get(hub, run.id)).ended_at and r, timeout_s)


def test_card_and_code_agree(idle, book):
    """The page's card promises only what the code can do."""
    handed = make(idle)
    row = idle.catalog.row_of(handed.connection)
    check("hub-api/access_key", row.method, row.card, row.can)
    assert row.method.direction == "inbound"


def test_both_work_in_the_overlap_then_only_the_new(hub, book):
    """In the overlap both are let in; afterwards the old is refused within a second and the new never was."""
    old = make(hub).value.reveal()
    assert book.check(old).accepted
    handed = issued.reissue(hub, "crm", 0.8)
    new = handed.value.reveal()
    started = time.monotonic()
    assert handed.slot == "B"
    assert book.check(old).accepted
    assert book.check(new).accepted
    assert [s.state.value for s in issued.get(hub, "crm").secrets] == ["live", "retiring"]
    wait_for(lambda: not book.look(old).accepted)
    assert 0.7 <= time.monotonic() - started <= 0.8 + 1.0
    run = ended(hub, handed.run)
    assert (run.state, run.proof) == (RunState.COMPLETE, "D2")
    assert book.check(old).code is Code.REVOKED
    assert book.check(new).accepted


def test_the_old_is_not_retired_while_the_new_was_never_used(hub, book):
    """However long the overlap is over: the first use of the new one opens the gate, and at once."""
    old = make(hub).value.reveal()
    book.check(old)
    handed = issued.reissue(hub, "crm", 0)
    wait_for(lambda: "never used" in runs.get(hub, handed.run.id).waiting_for)
    time.sleep(0.6)
    assert book.look(old).accepted
    assert book.check(handed.value.reveal()).accepted
    assert ended(hub, handed.run).state is RunState.COMPLETE
    assert not book.look(old).accepted


def test_a_test_by_the_hub_is_not_a_use(hub, book):
    """The hub's own proof of the new key does not count as its first use."""
    make(hub)
    handed = issued.reissue(hub, "crm", 0)
    connections.test(hub, "crm")
    assert all(s.first_used_at is None for s in issued.get(hub, "crm").secrets)
    assert runs.get(hub, handed.run.id).ended_at is None


def test_a_new_one_made_for_later_begins_its_overlap_then(hub, book):
    """Pending beside the live one, which serves on; a third is refused; from its hour on both work, and then the overlap
    runs, also for a forced end."""
    old = make(hub).value.reveal()
    assert book.check(old).accepted
    began = time.monotonic()
    handed = issued.reissue(hub, "crm", 0.5, force=True, starts_in_s=1.0)
    new = handed.value.reveal()
    assert [s.state.value for s in issued.get(hub, "crm").secrets] == ["pending", "live"]
    assert book.check(new).code is Code.EARLY
    assert book.check(old).ending is None
    with pytest.raises(Conflict, match="reissued already"):
        issued.reissue(hub, "crm", 60)
    wait_for(lambda: book.check(new).accepted)
    assert time.monotonic() - began >= 0.9
    assert book.check(old).accepted
    assert [s.state.value for s in issued.get(hub, "crm").secrets] == ["live", "retiring"]
    wait_for(lambda: not book.look(old).accepted)
    assert time.monotonic() - began >= 1.4
    assert ended(hub, handed.run).state is RunState.COMPLETE


def test_force_retires_although_the_new_was_never_used(hub, book):
    """The typed override: the old one goes after its overlap."""
    old = make(hub).value.reveal()
    handed = issued.reissue(hub, "crm", 0, force=True)
    assert ended(hub, handed.run).state is RunState.COMPLETE
    assert book.check(old).code is Code.REVOKED


def test_an_old_key_in_use_gets_until_twice_the_overlap(hub, book):
    """Whoever goes on with the old key is heard, but not for ever."""
    old = make(hub).value.reveal()
    handed = issued.reissue(hub, "crm", 1.5)
    new = handed.value.reveal()
    started = time.monotonic()
    while book.check(old).accepted:
        book.check(new)
        assert time.monotonic() - started < 5
        time.sleep(0.02)
    assert time.monotonic() - started >= 2.8
    assert ended(hub, handed.run).state is RunState.COMPLETE


def test_a_caller_loop_sees_no_refusal(hub, book):
    """Callers who pick the new value up during the overlap are never refused (I6)."""
    value = [make(hub).value.reveal()]
    refused, calls, stop = [], [0], threading.Event()

    def loop():
        while not stop.is_set():
            found = book.check(value[0], address="192.0.2.7")
            calls[0] += 1
            if not found.accepted:
                refused.append(found.code)
            time.sleep(0.001)

    threads = [threading.Thread(target=loop) for _ in range(2)]
    for thread in threads:
        thread.start()
    handed = issued.reissue(hub, "crm", 0.5)
    time.sleep(0.1)
    value[0] = handed.value.reveal()
    ended(hub, handed.run)
    time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    assert refused == []
    assert calls[0] > 100


def test_without_an_engine_the_value_is_handed_out_too(idle, book):
    """`keyturn reissue` on a hub where nothing else runs: it goes as far as the new key being let in."""
    old = make(idle).value.reveal()
    handed = issued.reissue(idle, "crm", 60)
    assert book.check(handed.value.reveal()).accepted
    assert book.check(old).accepted


def test_again_during_the_overlap_is_refused(hub):
    """Two live at a time: a third must wait, or one of the two be ended."""
    make(hub)
    issued.reissue(hub, "crm", 60)
    with pytest.raises(Conflict, match="reissued already"):
        issued.reissue(hub, "crm", 60)
    with pytest.raises(InvalidInput):
        issued.reissue(hub, "crm", -1)


def test_the_same_trigger_is_the_same_key(hub):
    """A double click makes one key."""
    make(hub)
    first = issued.reissue(hub, "crm", 60, trigger="t1")
    again = issued.reissue(hub, "crm", 60, trigger="t1")
    assert (first.version_id, first.value) == (again.version_id, again.value)


def test_slots_take_turns(hub, book):
    """A, B, A: an ended slot is free again."""
    make(hub)
    for slot in ("B", "A"):
        handed = issued.reissue(hub, "crm", 0)
        book.check(handed.value.reveal())
        assert handed.slot == slot
        assert ended(hub, handed.run).state is RunState.COMPLETE


def test_reveal_for_ten_minutes_and_for_the_same_person(idle, monkeypatch):
    """Whoever asked may look again; nobody else, and not later. Only the digest is left then."""
    handed = make(idle)
    assert issued.reveal(idle, handed.version_id) == handed.value
    with pytest.raises(NotPermitted):
        issued.reveal(idle, handed.version_id, who="eve")
    with pytest.raises(NotFound):
        issued.reveal(idle, "ver_none")
    second = issued.reissue(idle, "crm", 60, who="bob")
    assert issued.reveal(idle, second.version_id, who="bob") == second.value
    with pytest.raises(NotPermitted):
        issued.reveal(idle, second.version_id)
    later = time.time() + 601
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(Conflict, match="ten minutes"):
        issued.reveal(idle, handed.version_id)
    assert idle.store.write(lambda tx: sealed.destroy_due(tx, later)) == 2
    assert list(idle.secrets.material(version_row(handed.version_id))) == ["digest"]


def test_everything_works_by_digest_when_the_value_is_gone(hub, book):
    """Proof, death and test need the hash row only (the value was destroyed long ago)."""
    first = make(hub)
    hub.store.write(lambda tx: sealed.destroy_due(tx, time.time() + 601))
    assert connections.test(hub, "crm").verdict is Verdict.ACCEPTED
    handed = issued.reissue(hub, "crm", 0)
    hub.store.write(lambda tx: sealed.destroy_due(tx, time.time() + 601))
    assert book.check(handed.value.reveal()).accepted
    run = ended(hub, handed.run)
    assert (run.state, run.proof) == (RunState.COMPLETE, "D2")
    assert book.check(first.value.reveal()).code is Code.REVOKED


def test_a_value_nobody_can_be_given_is_not_let_in(idle, book):
    """P1: when the fresh value was destroyed before it was set, another is made instead."""
    handed = make(idle)
    can = capabilities(book, idle.secrets, handed.connection)
    version = idle.store.read(lambda tx: versions.by_id(tx, handed.version_id))
    idle.store.write(lambda tx: kept.destroy(tx, idle.secrets.material(version_row(version.id))["digest"]))
    with pytest.raises(ValueRefused):
        can.setter.set(None, version.ref, idle.secrets.material(version_row(version.id)))


def test_setting_and_ending_twice_is_fine(idle, book):
    """The book's calls are absolute."""
    handed = make(idle)
    can = capabilities(book, idle.secrets, handed.connection)
    version = idle.store.read(lambda tx: versions.by_id(tx, handed.version_id))
    material = idle.secrets.material(version_row(version.id))
    for _ in range(2):
        can.setter.set(None, version.ref, material)
    assert len(can.lister.list(None)) == 1
    assert can.verifier.verify(None, can.verifier.bogus(material)).verdict is Verdict.REJECTED
    for _ in range(2):
        can.revoker.revoke(None, version.ref, None)
    assert can.verifier.verify(None, material).code == "refused"
    can.setter.set(None, version.ref, material) if kept.find(
        idle.secrets, material["digest"], time.time()
    ) else None
    assert can.lister.list(None) == ()


def test_a_key_of_another_credential_does_not_verify(idle, book):
    """Key A never passes for B."""
    make(idle, "crm")
    other = make(idle, "bi")
    can = capabilities(book, idle.secrets, other.connection)
    digest = idle.secrets.material(version_row(connections.find(idle, "crm").current_version_id))
    assert can.verifier.verify(None, Material(dict(digest))).code == "refused"


def test_revoke_the_old_slot_ends_the_overlap(hub, book):
    """Ending the old one finishes the rotation early."""
    old = make(hub).value.reveal()
    handed = issued.reissue(hub, "crm", 3600)
    run = issued.revoke(hub, "crm", "A", reason="leaked")
    assert book.check(old).code is Code.REVOKED
    assert run.id == handed.run.id
    assert ended(hub, run).state is RunState.COMPLETE
    assert book.check(handed.value.reveal()).accepted


def test_revoke_the_new_slot_takes_the_rotation_back(hub, book):
    """Ending the new one leaves the old one serving, and live rather than retiring."""
    old = make(hub).value.reveal()
    handed = issued.reissue(hub, "crm", 3600)
    new = handed.value.reveal()
    book.check(new)
    issued.revoke(hub, "crm", "B")
    assert book.check(new).code is Code.REVOKED
    run = ended(hub, handed.run)
    assert run.state is RunState.ABORTED_CLEAN
    assert book.check(old).accepted
    assert [(s.slot, s.state.value) for s in issued.get(hub, "crm").secrets] == [
        ("B", "revoked"),
        ("A", "live"),
    ]
    again = issued.reissue(hub, "crm", 0)
    assert again.slot == "B"


@pytest.mark.parametrize("is_rotating", [False, True])
def test_revoke_everything_is_at_once_and_proven(hub, book, is_rotating):
    """All keys are refused when the call returns; an open rotation ends; the proof follows; a new key can be issued."""
    values = [make(hub).value.reveal()]
    if is_rotating:
        values.append(issued.reissue(hub, "crm", 3600).value.reveal())
    assert all(book.check(value).accepted for value in values)
    run = issued.revoke(hub, "crm", reason="leaked")
    assert [book.check(value).code for value in values] == [Code.REVOKED] * len(values)
    assert ended(hub, run).state is RunState.COMPLETE
    assert connections.find(hub, "crm").state is ConnectionState.REVOKED
    connection = connections.find(hub, "crm")
    found = hub.store.read(lambda tx: versions.of_connection(tx, connection.id))
    assert {v.state for v in found} == {State.DEAD}
    with pytest.raises(Conflict, match="nothing alive"):
        issued.revoke(hub, "crm")
    handed = issued.reissue(hub, "crm", 0)
    assert book.check(handed.value.reveal()).accepted
    assert connections.find(hub, "crm").state is ConnectionState.ACTIVE


@pytest.mark.parametrize("swept", [False, True])
def test_an_expired_key_can_be_followed_by_a_new_one(hub, book, swept):
    """The hub is its own administrator: no working key is needed to make the next."""
    handed = make(hub, expires_in_days="1")
    hub.store.write(
        lambda tx: tx.run("UPDATE issued_secret SET ends_at = 1 WHERE version_id = ?", handed.version_id)
    )
    if swept:
        assert hub.store.write(lambda tx: rows.keep_time(tx, time.time())) == 1
    assert book.check(handed.value.reveal()).code is Code.EXPIRED
    second = issued.reissue(hub, "crm", 0)
    assert book.check(second.value.reveal()).accepted
    assert ended(hub, second.run).state is RunState.COMPLETE


def test_contain_kills_without_waiting(hub, book):
    """Emergency: the generic goal works on issued keys too."""
    old = make(hub).value.reveal()
    book.check(old)
    run = runs.start(hub, "crm", Goal.CONTAIN, reason="leak")
    assert ended(hub, run).state is RunState.COMPLETE
    assert book.check(old).code is Code.REVOKED


def test_disconnect_waits_for_nobody_when_unused(hub, book):
    """The generic goal ends an idle key and proves it."""
    old = make(hub).value.reveal()
    run = runs.start(hub, "crm", Goal.DISCONNECT)
    assert ended(hub, run).state is RunState.COMPLETE
    assert book.check(old).code is Code.REVOKED


def test_a_slow_hub_says_so(idle, monkeypatch):
    """No value in time: the old one works on and the run is named."""
    make(idle)
    monkeypatch.setattr(Executor, "advance", lambda *_: None)
    with pytest.raises(NotDone) as caught:
        issued.reissue(idle, "crm", 60, wait_s=0.1)
    assert caught.value.facts["run"].startswith("run_")


def test_the_trail_holds_and_names_no_value(hub, book, tmp_path):
    """Chains verify after reissue and revoke, and hold no value."""
    first = make(hub).value.reveal()
    second = issued.reissue(hub, "crm", 0).value.reveal()
    book.check(second)
    issued.revoke(hub, "crm")
    audit.export(hub, tmp_path / "trail")
    text = (tmp_path / "trail").read_text()
    assert audit.verify(tmp_path / "trail").is_whole
    assert first not in text
    assert second not in text


def test_a_restart_in_the_overlap_loses_nothing(tmp_path):
    """The hub stops in the overlap and starts again: both work, then the old one is retired."""
    hub = open_test_hub(tmp_path)
    old = make(hub).value.reveal()
    handed = issued.reissue(hub, "crm", 0.3)
    hub.close()
    hub = open_test_hub(tmp_path)
    book = issued.book(hub)
    assert book.check(old).accepted
    assert book.check(handed.value.reveal()).accepted
    hub.engine.start()
    assert ended(hub, handed.run).state is RunState.COMPLETE
    assert not book.check(old).accepted
    book.close()
    hub.close()

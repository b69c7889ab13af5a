"""The spool: nothing that was appended is lost, whatever happens around it."""

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.errors import StoreUnavailable
from keyturn.vault import spool
from keyturn.vault.roots import Roots, new_roots

HUB = Roots(new_roots())


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "spool")


def _fill(path, count):
    for number in range(count):
        spool.append(path, HUB.spool_public, f"receipt:run_{number}", f"answer {number}".encode())


def _found(path):
    return [record.payload for record in spool.read(path, HUB.spool_private).records]


def test_round_trip(path):
    """Answers come back in order with the row they belong to, and clearing empties the file."""
    _fill(path, 3)
    spooled = spool.read(path, HUB.spool_private)
    assert [record.identity for record in spooled.records] == [
        "receipt:run_0",
        "receipt:run_1",
        "receipt:run_2",
    ]
    assert spooled.records[2].payload == b"answer 2"
    assert spooled.damaged == 0
    assert spool.clear(path, spooled)
    assert os.path.getsize(path) == 0
    assert spool.read(path, HUB.spool_private).records == ()


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=500), st.text(max_size=30, alphabet=st.characters(codec="utf-8")))
def test_any_record(tmp_path_factory, payload, identity):
    """Any bytes and any name come back whole, marker bytes in the payload included."""
    path = str(tmp_path_factory.mktemp("spool") / "spool")
    for each in (payload, spool._MAGIC + payload):
        spool.append(path, HUB.spool_public, identity, each)
    spooled = spool.read(path, HUB.spool_private)
    assert [(r.identity, r.payload) for r in spooled.records] == [
        (identity, payload),
        (identity, spool._MAGIC + payload),
    ]


def test_private_and_unreadable(path):
    """The file is 0600, holds nothing in clear, and another hub's key reads nothing."""
    _fill(path, 1)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with open(path, "rb") as file:
        data = file.read()
    assert b"answer" not in data
    assert b"run_0" not in data
    foreign = spool.read(path, Roots(new_roots()).spool_private)
    assert foreign.records == ()
    assert foreign.damaged == 1


def test_absent_is_empty(path):
    """A hub that never needed its spool reads an empty one."""
    empty = spool.read(path, HUB.spool_private)
    assert empty == spool.Spooled((), 0, 0)
    assert spool.clear(path, empty)


def test_truncation(path):
    """A last record torn at any byte is counted as damage and hides none before it."""
    _fill(path, 1)
    first = os.path.getsize(path)
    _fill(path, 1)
    whole = os.path.getsize(path)
    for size in range(whole - 1, first, -1):
        os.truncate(path, size)
        spooled = spool.read(path, HUB.spool_private)
        assert (len(spooled.records), spooled.damaged) == (1, 1)


def test_append_after_a_torn_record(path):
    """An answer appended behind a torn record is found."""
    _fill(path, 2)
    os.truncate(path, os.path.getsize(path) - 7)
    _fill(path, 1)
    assert _found(path) == [b"answer 0", b"answer 0"]


def test_any_flipped_bit_costs_one_record(path):
    """Damage anywhere in a record, its length included, costs that record only."""
    _fill(path, 1)
    size = os.path.getsize(path)
    spool.append(path, HUB.spool_public, "receipt:x", b"second")
    with open(path, "rb") as file:
        good = file.read()
    for bit in range(size * 8):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        with open(path, "wb") as file:
            file.write(damaged)
        spooled = spool.read(path, HUB.spool_private)
        assert [record.payload for record in spooled.records] == [b"second"]
        assert spooled.damaged == 1


def test_clear_keeps_what_came_later(path):
    """A spool that grew after it was read is not cleared."""
    _fill(path, 1)
    spooled = spool.read(path, HUB.spool_private)
    _fill(path, 1)
    assert not spool.clear(path, spooled)
    assert len(_found(path)) == 2


def test_clear_keeps_damage_for_a_person(path, tmp_path):
    """A damaged spool is moved aside, not destroyed."""
    _fill(path, 2)
    os.truncate(path, os.path.getsize(path) - 1)
    assert spool.clear(path, spool.read(path, HUB.spool_private))
    assert not os.path.exists(path)
    assert len(list(tmp_path.glob("spool.damaged-*"))) == 1


def test_many_writers(path):
    """Records of concurrent writers do not mix."""
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: spool.append(path, HUB.spool_public, f"r:{n}", b"x" * n), range(20)))
    spooled = spool.read(path, HUB.spool_private)
    assert spooled.damaged == 0
    assert sorted(len(record.payload) for record in spooled.records) == list(range(20))


def test_full_disk_spends_the_reserve(path, monkeypatch):
    """On a full disk the reserve makes room, and a partial write is taken back first."""
    spool.prepare(path, 4096)
    spool.prepare(path, 4096)
    assert os.path.getsize(path + ".reserve") == 4096
    write = os.write

    def full_while_reserved(handle, data):
        if os.path.exists(path + ".reserve"):
            return write(handle, data[:10])
        return write(handle, data)

    monkeypatch.setattr(os, "write", full_while_reserved)
    _fill(path, 1)
    assert spool.read(path, HUB.spool_private).damaged == 0
    assert _found(path) == [b"answer 0"]


def test_refusal_is_ours(path, monkeypatch):
    """A disk that refuses everything raises our error and leaves no part of a record."""

    def refuse(handle, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(StoreUnavailable, match="No space left"):
        _fill(path, 1)
    assert os.path.getsize(path) == 0

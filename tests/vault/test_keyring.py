"""The keyring and the roots: what survives a rotation of the master key."""

import pickle

import pytest

from keyturn.errors import VaultSealed, VaultTampered
from keyturn.vault.envelope import Kek
from keyturn.vault.keyring import Keyring, key_id
from keyturn.vault.roots import ROOTS_IDENTITY, Roots, new_roots, verify

OLD, NEW = Kek(bytes(range(32))), Kek(bytes(range(1, 33)))


def test_old_opens_new_seals():
    """After a rotation, old rows open and new rows need the new key."""
    row = Keyring([OLD]).seal(b"secret", "version:ver_a")
    ring = Keyring([NEW, OLD])
    assert ring.ids == (NEW.id, OLD.id)
    assert ring.open(row, "version:ver_a") == b"secret"
    assert key_id(ring.seal(b"x", "version:ver_b")) == NEW.id


def test_rewrap_sweep_may_run_twice():
    """Rewrapping moves a row to the newest key once and leaves it alone afterwards."""
    row = Keyring([OLD]).seal(b"secret", "version:ver_a")
    ring = Keyring([NEW, OLD])
    moved = ring.rewrap(row, "version:ver_a")
    assert key_id(moved) == NEW.id
    assert ring.rewrap(moved, "version:ver_a") is moved
    assert Keyring([NEW]).open(moved, "version:ver_a") == b"secret"


def test_missing_key_is_named():
    """A row under an unloaded key says which key is needed and which are there."""
    row = Keyring([OLD]).seal(b"secret", "version:ver_a")
    with pytest.raises(VaultSealed, match=OLD.id) as caught:
        Keyring([NEW]).open(row, "version:ver_a")
    assert NEW.id in caught.value.message


def test_relabelled_row_is_tampering():
    """A row whose key id was altered is reported as altered, although its key is loaded."""
    row = Keyring([OLD]).seal(b"secret", "version:ver_a")
    relabelled = row[:1] + bytes(8) + row[9:]
    with pytest.raises(VaultTampered):
        Keyring([NEW, OLD]).open(relabelled, "version:ver_a")


def test_no_key_no_ring():
    """A ring without keys does not exist."""
    with pytest.raises(VaultSealed):
        Keyring([])


def test_nothing_secret_prints_or_pickles():
    """Keys, rings and roots refuse pickling and print no key."""
    root = new_roots()
    for thing in (OLD, Keyring([OLD]), Roots(root)):
        with pytest.raises(TypeError):
            pickle.dumps(thing)
        assert OLD.key.hex() not in repr(thing)
        assert root.hex() not in repr(thing)


def test_fingerprints_survive_a_key_rotation():
    """Fingerprints, token digests and the audit key stay the same when the master key is replaced."""
    row = Keyring([OLD]).seal(new_roots(), ROOTS_IDENTITY)
    before = Roots(Keyring([OLD]).open(row, ROOTS_IDENTITY))
    ring = Keyring([NEW, OLD])
    after = Roots(Keyring([NEW]).open(ring.rewrap(row, ROOTS_IDENTITY), ROOTS_IDENTITY))
    assert before.fingerprint("s") == after.fingerprint("s")
    assert before.token_digest("s") == after.token_digest("s")
    assert before.public_key_pem == after.public_key_pem


def test_subkeys_are_pinned():
    """Derivations are data: a change would orphan every stored fingerprint and signature."""
    roots = Roots(bytes(range(32)))
    assert roots.fingerprint("hello") == "fp_58c306a798b8990b22c31f8aa235e1de"
    assert roots.token_digest("hello")[:16] == "17ca6cac0a889a81"
    assert roots.spool_public.hex()[:16] == "8f280ca3efa19baa"
    assert roots.sign(b"hello").hex()[:16] == "1851762da30ea3a6"


def test_fingerprints_differ_between_hubs():
    """Equal secrets have equal fingerprints within a hub and unrelated ones across hubs."""
    one, two = Roots(new_roots()), Roots(new_roots())
    assert one.fingerprint("s") == one.fingerprint("s") != two.fingerprint("s")
    assert one.fingerprint("s") != one.fingerprint("t")
    assert len(one.fingerprint("ü")) == 35
    assert len({one.subkey("a"), one.subkey("b"), one.cursor_key}) == 3


def test_signature():
    """An audit signature verifies with the public key alone, and only for the same bytes."""
    roots = Roots(new_roots())
    signature = roots.sign(b"line")
    assert verify(roots.public_key_pem, b"line", signature)
    assert not verify(roots.public_key_pem, b"Line", signature)
    assert not verify(Roots(new_roots()).public_key_pem, b"line", signature)
    assert not verify("not a key", b"line", signature)
    assert not verify(roots.public_key_pem, b"line", b"short")


def test_root_size():
    """A root secret of another size is refused."""
    with pytest.raises(ValueError, match="32 bytes"):
        Roots(b"short")

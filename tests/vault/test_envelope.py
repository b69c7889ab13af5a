"""The envelope: what opens, what does not, and what a rewrap leaves alone."""

import os

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.errors import VaultSealed, VaultTampered
from keyturn.vault import envelope
from keyturn.vault.envelope import Kek, Sealed

KEK = Kek(bytes(range(32)))
OTHER = Kek(bytes(range(1, 33)))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=2000), st.text(min_size=1, max_size=40, alphabet=st.characters(codec="utf-8")))
def test_round_trip(plaintext, identity):
    """Every value comes back whole through its compact form."""
    sealed = Sealed.from_bytes(envelope.seal(KEK, plaintext, identity).to_bytes())
    assert envelope.open_(KEK, sealed, identity) == plaintext


def test_wrong_identity_refuses():
    """A sealed row copied onto another row does not open."""
    sealed = envelope.seal(KEK, b"secret", "version:ver_a")
    with pytest.raises(VaultTampered):
        envelope.open_(KEK, sealed, "version:ver_b")


def test_identity_is_required():
    """Nothing can be sealed to no place."""
    with pytest.raises(ValueError, match="identity"):
        envelope.seal(KEK, b"secret", "")


def test_any_flipped_bit_is_tampering():
    """Every single bit of a sealed row is protected, version and key id included."""
    data = envelope.seal(KEK, b"secret", "version:ver_a").to_bytes()
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(VaultTampered):
            envelope.open_(KEK, Sealed.from_bytes(bytes(flipped)), "version:ver_a")


def test_any_truncation_is_tampering():
    """A row cut short at any place, or made longer, does not open."""
    data = envelope.seal(KEK, b"secret", "version:ver_a").to_bytes()
    for cut in [data[:size] for size in range(len(data))] + [data + b"\0"]:
        with pytest.raises(VaultTampered):
            envelope.open_(KEK, Sealed.from_bytes(cut), "version:ver_a")


def test_body_of_another_row_refuses():
    """A ciphertext spliced onto the wrapped key of another row does not open."""
    one, two = (envelope.seal(KEK, text, "version:ver_a") for text in (b"one", b"two"))
    with pytest.raises(VaultTampered):
        envelope.open_(KEK, Sealed(one.kek_id, one.wrapped_key, two.body), "version:ver_a")


def test_other_key_is_sealed():
    """A wrong key is a missing key, by name, and not an accusation of tampering."""
    sealed = envelope.seal(KEK, b"secret", "version:ver_a")
    with pytest.raises(VaultSealed) as caught:
        envelope.open_(OTHER, sealed, "version:ver_a")
    assert KEK.id in caught.value.message
    assert caught.value.facts["kek_id"] == KEK.id


def test_rewrap_keeps_the_ciphertext():
    """A rewrapped row opens under the new key only, with the same ciphertext."""
    sealed = envelope.seal(KEK, b"secret", "version:ver_a")
    moved = envelope.rewrap(sealed, KEK, OTHER, "version:ver_a")
    assert moved.body == sealed.body
    assert moved.kek_id == OTHER.id
    assert envelope.open_(OTHER, moved, "version:ver_a") == b"secret"
    with pytest.raises(VaultSealed):
        envelope.open_(KEK, moved, "version:ver_a")


def test_rewrap_refuses_another_place():
    """A rewrap cannot be used to move a row."""
    sealed = envelope.seal(KEK, b"secret", "version:ver_a")
    with pytest.raises(VaultTampered):
        envelope.rewrap(sealed, KEK, OTHER, "version:ver_b")


def test_every_seal_is_fresh():
    """The same value sealed twice shares no salt, nonce, key or ciphertext."""
    one, two = (envelope.seal(KEK, b"secret", "version:ver_a") for _ in range(2))
    assert one.wrapped_key[:28] != two.wrapped_key[:28]
    assert one.body[:12] != two.body[:12]


def test_wrap_key_is_hkdf():
    """The wrap key is the standard's HKDF-Expand, computed in one HMAC."""
    salt = os.urandom(16)
    assert envelope._wrap_key(KEK, salt) == HKDFExpand(SHA256(), 32, b"keyturn/wrap/1" + salt).derive(KEK.key)


def test_format_is_pinned():
    """A row sealed by the first release opens for ever; its overhead is 113 bytes."""
    row = bytes.fromhex(PINNED)
    assert envelope.open_(KEK, Sealed.from_bytes(row), "version:ver_pinned") == b"from the first release"
    assert len(row) == 113 + len(b"from the first release")


def test_key_does_not_print():
    """A master key's repr shows its public id and no key bytes."""
    assert repr(KEK) == f"Kek(id='{KEK.id}')"


def test_key_size():
    """Only 256-bit keys are keys."""
    with pytest.raises(ValueError, match="32 bytes"):
        Kek(bytes(16))


PINNED = (
    "01e077304642f9a535bc7fe2532db70c962ae87488fd722618575492ff992b7bb38355a40c25ef3bdfb75a5ce26ff94c"
    "c4e321502420125fa0e34938c314af156e16108e8970dc86b91741eafa0b50d039e671d6c462dbfd0df9a556723f1362"
    "d7e3bde4fa35ca584ee57b4353305224934daefcfd1ce9842ad76ddef252015f722d1c85ae8601"
)

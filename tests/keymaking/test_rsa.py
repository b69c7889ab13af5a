"""RSA pairs: the forms vendors read, the faults people make, and the pool."""

import base64
import hashlib
import pickle
import threading

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
)

from keyturn.errors import InvalidInput
from keyturn.keymaking.rsa import KeyPair, KeyPool, generate, load


@pytest.fixture(scope="module")
def pair():
    return generate()


def _pem(key, form=PrivateFormat.PKCS8):
    return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()


def test_public_forms(pair):
    """The public key is one line of base64 DER, and the fingerprint is the hash of exactly that."""
    der = base64.b64decode(pair.public_key, validate=True)
    assert load_der_public_key(der).key_size == pair.bits == 2048
    assert pair.fingerprint == "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).decode()
    assert len(pair.fingerprint) == 7 + 44


def test_private_forms_round_trip(pair):
    """Plain, encrypted, PKCS#1, JSON-escaped and DER forms all hold the same key."""
    plain = pair.private_pem.reveal()
    locked = pair.encrypted_pem("pass phrase ü").reveal()
    assert "ENCRYPTED" in locked
    older = _pem(load_der_private_key(pair.private_der, None), PrivateFormat.TraditionalOpenSSL)
    for text, passphrase in (
        (plain, None),
        (plain, "not needed"),
        (f"\n {plain}\r\n", ""),
        (plain.replace("\n", "\r\n"), None),
        (plain.strip().replace("\n", "\\n"), None),
        (older, None),
        (locked, "pass phrase ü"),
    ):
        assert load(text, passphrase).fingerprint == pair.fingerprint


def test_signature(pair):
    """A signature verifies as RS256."""
    public = load_der_public_key(base64.b64decode(pair.public_key))
    public.verify(pair.sign(b"header.claims"), b"header.claims", padding.PKCS1v15(), SHA256())


def test_nothing_secret_prints_or_pickles(pair):
    """A pair shows its fingerprint only."""
    assert pair.fingerprint in repr(pair)
    assert "PRIVATE" not in repr(pair) + str(pair.private_pem)
    with pytest.raises(TypeError):
        pickle.dumps(pair)


def test_faults_are_told_apart(pair):
    """Each way to supply a wrong key names the field and the fault, and quotes nothing."""
    plain, locked = pair.private_pem.reveal(), pair.encrypted_pem("right").reveal()
    public = load_der_private_key(pair.private_der, None).public_key()
    public_pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    short = KeyPair(rsa.generate_private_key(65537, 1024))
    cases = (
        ("hello", None, "private_key", "not a PEM"),
        (plain[:300] + plain[400:], None, "private_key", "cannot be read"),
        (plain.replace("M", "ü", 1), None, "private_key", "cannot be read|not a PEM"),
        (public_pem, None, "private_key", "public key"),
        ("-----BEGIN CERTIFICATE-----\nx", None, "private_key", "certificate"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nx", None, "private_key", "OpenSSH"),
        (_pem(ec.generate_private_key(ec.SECP256R1())), None, "private_key", "not RSA"),
        (short.private_pem.reveal(), None, "private_key", "1024 bits"),
        (locked, None, "passphrase", "encrypted"),
        (locked, "", "passphrase", "encrypted"),
        (locked, "wrong", "passphrase", "passphrase"),
    )
    for text, passphrase, field, words in cases:
        with pytest.raises(InvalidInput, match=words) as caught:
            load(text, passphrase)
        assert caught.value.facts["field"] == field
        assert plain[60:90] not in caught.value.message + caught.value.hint
        assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_text_is_checked_once(monkeypatch):
    """What was found sound, or was made here, is believed the next time: a check takes longer than a login."""
    unchecked = []

    def look(text, secret, *, unsafe_skip_rsa_key_validation):
        unchecked.append(unsafe_skip_rsa_key_validation)
        return load_pem_private_key(
            text, secret, unsafe_skip_rsa_key_validation=unsafe_skip_rsa_key_validation
        )

    monkeypatch.setattr("keyturn.keymaking.rsa.load_pem_private_key", look)
    supplied = _pem(rsa.generate_private_key(65537, 2048))
    load(supplied)
    load(supplied)
    load(generate().private_pem.reveal())
    assert unchecked == [False, True, True]


def test_a_key_that_is_none_is_refused_every_time():
    """One whose numbers do not belong together, as often as it comes: it would sign, and give itself away."""
    sound = rsa.generate_private_key(65537, 2048).private_numbers()
    odd = rsa.RSAPrivateNumbers(
        sound.p, sound.q, sound.d, sound.dmp1 + 2, sound.dmq1, sound.iqmp, sound.public_numbers
    )
    text = _pem(odd.private_key(unsafe_skip_rsa_key_validation=True))
    for _ in range(2):
        with pytest.raises(InvalidInput, match="cannot be read"):
            load(text)


def test_small_keys_are_not_made():
    """No weak key is generated, alone or by a pool."""
    for make in (generate, KeyPool().take):
        with pytest.raises(InvalidInput):
            make(1024)


def test_pool():
    """The pool starts on the first take, fills up, hands each pair out once, and stops cleanly."""
    pool = KeyPool(size=2)
    before = threading.active_count()
    taken = [pool.take()]
    with pool._changed:
        assert pool._changed.wait_for(lambda: len(pool._ready[2048]) == 2, timeout=20)
    assert pool.ready() == 2
    taken += [pool.take() for _ in range(3)]
    assert len({pair.fingerprint for pair in taken}) == 4
    pool.stop()
    pool.stop()
    assert threading.active_count() == before
    assert pool.ready() == 0
    assert pool.take().bits == 2048

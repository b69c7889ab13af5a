"""Certificates: made here or read from one PEM file, in any order."""

from __future__ import annotations

import pickle

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from keyturn.errors import InvalidInput
from keyturn.keymaking import certificates, rsa
from keyturn.keymaking.certificates import Certified


@pytest.fixture(scope="module")
def pair() -> Certified:
    return certificates.self_signed(rsa.generate(), "integration", 30)


def test_a_self_signed_pair_reads_back(pair: Certified) -> None:
    """Key and certificate in one text give the same pair, also with the certificate first or between others."""
    text = pair.pem.reveal()
    other = certificates.self_signed(rsa.generate(), "other", 1)
    only = text[text.index("-----BEGIN CERT") :]
    strange = other.pem.reveal()
    strange = strange[strange.index("-----BEGIN CERT") :]
    key = text.removesuffix(only)
    for written in (text, only + key, key + strange + only, text.replace("\n", "\\n")):
        assert certificates.load(written).fingerprint == pair.fingerprint
    assert pair.ends_at - pair.starts_at == pytest.approx(30 * 86_400 + 300, abs=1)


def test_its_names_are_those_of_the_certificate(pair: Certified) -> None:
    """Thumbprint, fingerprint and header parameters agree with the certificate itself."""
    parsed = x509.load_der_x509_certificate(pair.der)
    assert pair.thumbprint == parsed.fingerprint(certificates.SHA1()).hex().upper()
    assert "=" not in pair.x5t + pair.x5t_s256
    assert pair.subject == "CN=integration"
    parsed.verify_directly_issued_by(parsed)


def test_it_prints_no_key_and_is_not_pickled(pair: Certified) -> None:
    """Only its fingerprint is shown."""
    assert repr(pair) == f"Certified({pair.fingerprint})"
    with pytest.raises(TypeError):
        pickle.dumps(pair)


def test_a_pss_signature_is_ps256(pair: Certified) -> None:
    """Salt as long as the hash, as RFC 7518 section 3.5 asks."""
    public = x509.load_der_x509_certificate(pair.der).public_key()
    pss = padding.PSS(padding.MGF1(SHA256()), 32)
    public.verify(pair.keys.sign_pss(b"data"), b"data", pss, SHA256())  # type: ignore[union-attr,call-arg,arg-type]


def test_what_does_not_belong_together_is_named(pair: Certified) -> None:
    """A missing half, a damaged one, another's certificate, an encrypted key without its passphrase."""
    text = pair.pem.reveal()
    cut = text.index("-----BEGIN CERT")
    other = certificates.self_signed(rsa.generate(), "other", 1).pem.reveal()
    with pytest.raises(InvalidInput, match="no certificate"):
        certificates.load(text[:cut])
    with pytest.raises(InvalidInput, match="no private key"):
        certificates.load(text[cut:])
    with pytest.raises(InvalidInput, match="another private key"):
        certificates.load(text[:cut] + other[other.index("-----BEGIN CERT") :])
    broken = text[:cut] + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
    with pytest.raises(InvalidInput, match="cannot be read"):
        certificates.load(broken)
    locked = pair.keys.encrypted_pem("pass phrase").reveal() + text[cut:]
    with pytest.raises(InvalidInput) as caught:
        certificates.load(locked)
    assert caught.value.facts["field"] == "passphrase"
    opened = certificates.load(locked, "pass phrase")
    assert load_pem_private_key(opened.keys.private_pem.reveal().encode(), None)

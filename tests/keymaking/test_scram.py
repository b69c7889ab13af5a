"""SCRAM verifiers: the RFC's numbers, PostgreSQL's text, and what happens to letters beyond ASCII."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.keymaking.scram import matches, prepared, saslprep, scram_keys


def test_rfc_7677():
    """The exchange printed in RFC 7677, section 3, is reproduced: client proof and server signature."""
    keys = scram_keys("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    exchange = (
        f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}".encode()
    )
    signature = hmac.digest(keys.stored_key, exchange, "sha256")
    proof = bytes(a ^ b for a, b in zip(keys.client_key, signature, strict=True))
    assert base64.b64encode(proof) == b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    server = hmac.digest(keys.server_key, exchange, "sha256")
    assert base64.b64encode(server) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_verifier_text():
    """The verifier has PostgreSQL's shape, with a fresh 16-byte salt each time, and shows no key in its repr."""
    keys = scram_keys("correct horse")
    scheme, numbers, secrets = keys.verifier().split("$")
    rounds, salt = numbers.split(":")
    stored, server = (base64.b64decode(part, validate=True) for part in secrets.split(":"))
    assert (scheme, rounds, len(base64.b64decode(salt))) == ("SCRAM-SHA-256", "4096", 16)
    assert stored == hashlib.sha256(keys.client_key).digest()
    assert server == keys.server_key
    assert scram_keys("correct horse").salt != keys.salt
    assert "client_key" not in repr(keys)


def test_postgres_library_agrees():
    """libpq itself makes the same verifier from the same salt."""
    psycopg = pytest.importorskip("psycopg")
    for text in ("plain", "pass\u00adword ⅸ", "ünïcödé", "mixed \u0627a", "tab\t"):
        made = _libpq(psycopg, text)
        assert matches(text, made)
        assert not matches(text + "x", made)


def _libpq(psycopg, text):
    pgconn = psycopg.pq.PGconn.connect_start(b"host=/nowhere")
    try:
        return pgconn.encrypt_password(text.encode(), b"role", b"scram-sha-256").decode()
    finally:
        pgconn.finish()


@settings(max_examples=10, deadline=None)
@given(st.text(min_size=1, max_size=20, alphabet=st.characters(codec="utf-8")))
def test_any_password_matches_itself(text):
    """Whatever the password, its own verifier proves it."""
    assert matches(text, scram_keys(text, iterations=2).verifier())


def test_not_a_verifier():
    """Anything that is not a SCRAM verifier proves nothing."""
    good = scram_keys("x", iterations=1).verifier()
    for text in (
        "",
        "md5" + "0" * 32,
        good[:-1],
        good.replace("$1:", "$0:"),
        good.replace("$1:", "$99999999:"),
    ):
        assert not matches("x", text)
    assert not matches("", good)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
    ],
)
def test_saslprep_examples(text, expected):
    """The examples of RFC 4013, section 3."""
    assert saslprep(text) == expected


@pytest.mark.parametrize(
    "text", ["\u0007", "\u0627\u0031", "\u00ad", "\u0627a\u0627", "\ud800", "\U0001f511"]
)
def test_saslprep_refusals(text):
    """Prohibited, unassigned, empty and mixed-direction texts are refused; PostgreSQL then takes the bytes as they are."""
    with pytest.raises(ValueError, match="SASLprep"):
        saslprep(text)
    if text != "\ud800":
        assert prepared(text) == text.encode()


def test_empty_password():
    """An empty password, which PostgreSQL would turn into no password, is refused."""
    with pytest.raises(ValueError, match="empty"):
        scram_keys("")

"""Masking of secrets in text that leaves."""

import base64
import json
from urllib.parse import quote, quote_plus

import pytest

from keyturn.model.secret import MASK
from keyturn.transport.redact import redact

SECRET = 'p@ss/w+rd "ü" 1234'


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote(SECRET),
        quote_plus(SECRET),
        "p%40ss%2fw%2brd%20%22%c3%bc%22%201234",
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
    ],
)
def test_each_form_in_which_a_secret_travels_is_masked(form):
    """The text around it stays."""
    text = redact(f"before {form} after", [SECRET])
    assert MASK in text
    assert text.startswith("before ")
    assert text.endswith(" after")
    assert "1234" not in text
    assert form not in text


@pytest.mark.parametrize("user", ["", "a", "ab", "abc", "abcd"])
def test_a_secret_inside_a_basic_header_is_masked(user):
    """Base64 of user:secret holds the secret at any of three offsets."""
    text = base64.b64encode(f"{user}:sup3rs3cretvalue:X".encode()).decode()
    assert MASK in redact(text, ["sup3rs3cretvalue"])


def test_longer_secrets_are_masked_first():
    """No tail of a longer one is left when a shorter one is its beginning."""
    assert redact("token-abc-def", ["token-abc", "token-abc-def"]) == MASK


def test_very_short_values_are_left():
    """Masking `X` would mask half of any text."""
    assert redact("X marks it", ["X", ""]) == "X marks it"

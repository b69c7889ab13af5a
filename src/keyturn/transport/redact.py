"""Masks known secret values in any text that leaves, in the forms in which they travel. Knows no vendor."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

from keyturn.model.secret import MASK

SHORTEST = 4  # shorter values would mask half of any text and are guessable anyway


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with every form of every secret masked; longest first, so that no tail of a longer one stays."""
    forms = {form for secret in secrets for form in forms_of(secret)}
    for form in sorted(forms, key=len, reverse=True):
        if form in text:
            text = text.replace(form, MASK)
    return text


def forms_of(secret: str) -> Iterator[str]:
    """Plain, base64 and base64url (at any offset inside a longer text), URL-encoded, hex and JSON-escaped."""
    if len(secret) < SHORTEST:
        return
    yield secret
    yield from {secret.strip()} - {secret, ""}
    data = secret.encode()
    yield from _base64(data)
    for encoded in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield encoded
        yield _lower_escapes(encoded)
    yield data.hex()
    yield data.hex().upper()
    for ascii_only in (True, False):
        escaped = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        yield escaped
        yield escaped.replace("/", "\\/")


def _base64(data: bytes) -> Iterator[str]:
    """The characters that depend on `data` alone, for each of the three places it can start in a base64 group."""
    for shift in range(3):
        padded = b"\0" * shift + data
        whole = base64.b64encode(padded).decode().rstrip("=")
        first = (shift * 8 + 5) // 6
        last = len(padded) * 8 // 6
        core = whole[first:last]
        if len(core) >= SHORTEST + 1:
            yield core
            yield core.translate(str.maketrans("+/", "-_"))
    for text in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()):
        yield text
        yield text.rstrip("=")


def _lower_escapes(text: str) -> str:
    pieces = text.split("%")
    return pieces[0] + "".join(f"%{p[:2].lower()}{p[2:]}" for p in pieces[1:])

"""The shapes in which a secret may lie around: plain, encoded, escaped, cut into lines, turned round. Pure."""

from __future__ import annotations

import base64
import binascii
import html
import json
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote, quote_plus

LEAST = 8  # shorter texts occur by chance and prove nothing
_LINE = 48  # a line of a PEM body this long is as good as the key


@lru_cache(maxsize=1024)
def forms(secret: str) -> frozenset[bytes]:
    """Every byte string whose presence means that `secret` leaked; empty for one too short to tell from chance."""
    text = secret.strip()
    if len(text) < LEAST:
        return frozenset()
    raw = text.encode()
    found = {
        raw,
        raw[::-1],
        binascii.hexlify(raw),
        binascii.hexlify(raw).upper(),
        raw.decode().encode("utf-16-le"),
    }
    for escaped in (
        json.dumps(text),
        json.dumps(text, ensure_ascii=False),
        json.dumps(json.dumps(text)[1:-1]),
    ):
        found.add(escaped[1:-1].encode())
    found |= {quote(text, safe="").encode(), quote(text).encode(), quote_plus(text).encode()}
    found |= {html.escape(text).encode(), repr(text)[1:-1].encode()}
    found |= _base64(raw)
    if "-----BEGIN" in text:
        found |= _pem(text)
    return frozenset(each for each in found if len(each) >= LEAST)


def _base64(raw: bytes) -> set[bytes]:
    """The part of each of the three alignments that does not depend on the neighbours, in both alphabets."""
    found = set()
    for shift, first in ((0, 0), (1, 2), (2, 3)):
        whole = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")
        last = len(whole) - (1 if (shift + len(raw)) % 3 else 0)
        found |= {whole[first:last], whole[first:last].replace(b"+", b"-").replace(b"/", b"_")}
    return found


def _pem(text: str) -> set[bytes]:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("-----")]
    body = "".join(lines)
    found = {body.encode(), body[::-1].encode(), "\\n".join(lines).encode(), "\n".join(lines).encode()}
    # The first line of every RSA key of one size is alike; the others are random.
    found |= {line.encode() for line in lines[1:] if len(line) >= _LINE}
    found |= {line[::-1].encode() for line in lines[1:] if len(line) >= _LINE}
    try:
        der = base64.b64decode(body, validate=True)
    except ValueError:
        return found
    return found | {der, der.hex().encode()}


def traces(secrets: Iterable[str], data: bytes) -> tuple[str, ...]:
    """Which of `secrets` are in `data`, in any form; told by their first three characters and length."""
    return tuple(
        f"{secret[:3]}… ({len(secret)} characters)"
        for secret in dict.fromkeys(secrets)
        if any(form in data for form in forms(secret))
    )

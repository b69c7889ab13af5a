"""Leak reports that a scanning service signs: whose signature counts, and what the service is told of each find.

Nothing of a report is read before its signature is found good. The service's public keys come from the address that the
operator set; without one nobody's signature counts.
Source: https://docs.github.com/code-security/secret-scanning/secret-scanning-partner-program, checked 2026-11-30.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.errors import InvalidInput, KeyturnError
from keyturn.keymaking import ecdsa
from keyturn.operations import leaks
from keyturn.transport import http

KEY_HEADER, SIGNATURE_HEADER = "github-public-key-identifier", "github-public-key-signature"
MOST = 1000  # finds in one report
_KEPT_S = 3600.0
_AGAIN_S = 60.0  # a made-up key id must not make us ask all the time
_FETCH_S = 5.0
_MOST_KEYS, _LONGEST = 100, 300
_log = logging.getLogger("keyturn.leaks")


class Standing(StrEnum):
    """What a signature is worth."""

    GOOD = "good"
    UNKNOWN_KEY = "unknown_key"
    WRONG = "signature"
    NO_KEYS = "no_keys"


@dataclass
class _Kept:
    """Public keys by id; `tried_at` and `got_at` are monotonic."""

    keys: dict[str, str] = field(default_factory=dict)
    got_at: float = float("-inf")
    tried_at: float = float("-inf")


_kept: dict[str, _Kept] = {}
_lock = threading.Lock()


def judge(hub: Keyturn, key_id: str, signature: str, raw: bytes) -> Standing:
    """Whether `raw`, byte for byte, is signed with a key of the service. `NO_KEYS`: they could not be fetched, so nobody
    can tell."""
    try:
        given = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return Standing.WRONG
    if not 0 < len(key_id) <= _LONGEST or not 0 < len(given) <= _LONGEST:
        return Standing.WRONG
    keys = _keys(hub, key_id)
    if keys is None:
        return Standing.NO_KEYS
    if key_id not in keys:
        return Standing.UNKNOWN_KEY
    return Standing.GOOD if ecdsa.is_signed(raw, given, keys[key_id]) else Standing.WRONG


def _keys(hub: Keyturn, wanted: str) -> dict[str, str] | None:
    """The service's keys, kept for an hour; an id that is not among them is looked for once a minute."""
    url = hub.settings.leak_keys
    with _lock:
        kept = _kept.setdefault(url, _Kept())
        now = time.monotonic()
        is_fresh = now - kept.got_at < _KEPT_S
        if (not is_fresh or wanted not in kept.keys) and now - kept.tried_at >= _AGAIN_S:
            kept.tried_at = now
            try:
                kept.keys, kept.got_at = _fetched(hub, url), now
                is_fresh = True
            except KeyturnError as error:
                _log.warning("leak.keys_not_fetched error=%s", type(error).__name__)
        return kept.keys if is_fresh else None


def _fetched(hub: Keyturn, url: str) -> dict[str, str]:
    """Raises: KeyturnError for whatever keeps us from it, an answer of another shape among it."""
    asked = http.Request("GET", url, {"Accept": "application/json"}, timeout_s=_FETCH_S)
    said = http.send(asked, hub.settings.network)
    data = said.json() if said.status == 200 else None
    listed = data.get("public_keys") if isinstance(data, dict) else None
    if not isinstance(listed, list):
        raise InvalidInput("this is no list of public keys", field="KEYTURN_LEAK_KEYS_URL")
    found = [each for each in listed[:_MOST_KEYS] if isinstance(each, dict)]
    return {
        each["key_identifier"]: each["key"]
        for each in found
        if isinstance(each.get("key_identifier"), str) and isinstance(each.get("key"), str)
    }


def take(hub: Keyturn, key_id: str, raw: bytes) -> list[dict[str, str]]:
    """Stops what a signed report names, and tells of each find whether it was one of ours: by its SHA-256, as the service
    asks for it, never by the value itself. The same report again changes nothing.

    Raises: InvalidInput, with nothing stopped.
    """
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise InvalidInput("the body is not JSON", field="body") from None
    if not isinstance(value, list) or not 1 <= len(value) <= MOST:
        raise InvalidInput(f"the body is a list of 1 to {MOST} finds", field="body")
    read = leaks.texts(value)
    kinds = [_type(item) for item in value]
    answers, who = [], f"secret scanning ({key_id[:12]})"
    for (token, source, url), kind in zip(read, kinds, strict=True):
        made = leaks.report(
            hub,
            token,
            source=leaks.plain(source),
            url=leaks.plain(url),
            who=who,
            ours_only=True,
        )
        answers.append(
            {
                "token_hash": hashlib.sha256(token.encode("utf-8", "replace")).hexdigest(),
                "token_type": kind,
                "label": "true_positive" if made.known else "false_positive",
            }
        )
    return answers


def _type(item: dict[str, Any]) -> str:
    """The service's own name for what it found, which its answer must repeat. Raises: InvalidInput."""
    kind = item.get("type", "")
    if not isinstance(kind, str) or leaks.plain(kind) != kind:
        raise InvalidInput("the type of a find is a short name", field="body")
    return kind

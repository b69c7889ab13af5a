"""JSON in columns, the same text every time, so that hashes over it are stable."""

from __future__ import annotations

import json
from typing import Any

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def dump(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces."""
    return _encode(value)


def load(text: str) -> Any:
    """The inverse of `dump`."""
    return {} if text == "{}" else json.loads(text)

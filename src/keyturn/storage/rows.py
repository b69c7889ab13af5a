"""JSON in columns, the same text every time, so that hashes over it are stable."""

from __future__ import annotations

import json
from typing import Any

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
_decode = (
    json.JSONDecoder().raw_decode
)  # `loads` looks for spaces around, at twice the price: `dump` writes none


def dump(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces."""
    return _encode(value)


def load(text: str) -> Any:
    """The inverse of `dump`."""
    return {} if text == "{}" else _decode(text)[0]

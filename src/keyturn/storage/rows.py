"""JSON in columns, the same text every time, so that hashes over it are stable."""

from __future__ import annotations

import json
from typing import Any


def dump(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def load(text: str) -> Any:
    """The inverse of `dump`."""
    return json.loads(text)

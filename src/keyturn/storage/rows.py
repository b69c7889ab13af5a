"""JSON in columns, the same text every time, so that hashes over it are stable."""

from __future__ import annotations

import json
from json import encoder
from typing import Any, NoReturn


def _refuse(value: Any) -> NoReturn:
    raise TypeError(f"{type(value).__name__} has no JSON form")


# What `json.dumps` and `json.loads` use, made once: they make it anew at every call, and look for spaces around the text.
_chunks = encoder.c_make_encoder(  # type: ignore[attr-defined]
    None, _refuse, encoder.encode_basestring, None, ":", ",", True, False, True
)
_decode = json.JSONDecoder().raw_decode


def dump(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces. Raises: TypeError for what has no JSON form."""
    return "".join(_chunks(value, 0))


def load(text: str) -> Any:
    """The inverse of `dump`."""
    return {} if text == "{}" else _decode(text)[0]

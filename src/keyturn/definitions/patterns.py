"""Regular expressions from definitions: RE2 only, so that no pattern can hang a worker; bounded, so that none is vague."""

from __future__ import annotations

import functools
import re
from typing import Any

_CLASS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]")
_UNBOUNDED = re.compile(r"[*+]|\{[0-9]+,\}")


@functools.lru_cache(maxsize=512)
def compiled(pattern: str) -> Any:
    """The compiled pattern; None when RE2 refuses it."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        return re2.compile(pattern, options)
    except re2.error:
        return None


def unbounded(pattern: str) -> bool:
    """Whether something in the pattern may repeat for ever."""
    return bool(_UNBOUNDED.search(_CLASS.sub("c", pattern)))


def groups(pattern: str) -> frozenset[str]:
    """The names of the pattern's groups."""
    found = compiled(pattern)
    return frozenset(found.groupindex if found is not None else ())


def parts(pattern: str, text: str) -> dict[str, str] | None:
    """The named groups of the whole of `text`, those that took part; None when it has not this shape."""
    found = compiled(pattern)
    match = found.fullmatch(text) if found is not None else None
    return None if match is None else {k: v for k, v in match.groupdict().items() if v is not None}


def fits(pattern: str, text: str) -> bool:
    """Whether the whole of `text` has this shape; an empty pattern fits all."""
    if not pattern:
        return True
    found = compiled(pattern)
    return found is not None and found.fullmatch(text) is not None

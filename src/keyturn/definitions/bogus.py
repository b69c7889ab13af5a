"""Well-formed credentials that cannot work: the middle of each value is changed within its character classes."""

from __future__ import annotations

import secrets
import string

from keyturn.definitions.auth import Basic, NoAuth, OAuth
from keyturn.definitions.model import Definition, Part
from keyturn.definitions.patterns import fits
from keyturn.model.secret import Material

_CLASSES = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
_TRIES = 20


def bogus(definition: Definition, material: Material) -> Material:
    """A copy with every secret part changed, and the user as well where a refused login could lock a live one."""
    known = {p.name: p for p in definition.parts}
    is_public = isinstance(definition.auth, NoAuth)
    if is_public:
        raise LookupError("a public address takes no credential that could be made up")
    named = _users(definition)
    changed = {}
    for name, value in material.items():
        part = known.get(name)
        secret = part.secret if part is not None else name not in material.public
        if secret or name in named:
            changed[name] = _altered(value, part)
    return material.replacing(**changed)


def _users(definition: Definition) -> frozenset[str]:
    """The parts that name the account: a bogus user costs the real one no failed login."""
    auth = definition.auth
    if isinstance(auth, Basic):
        return frozenset(r.path for r in auth.username.references() if r.scope == "secret")
    if isinstance(auth, OAuth) and auth.kind == "oauth2_cc":
        return frozenset(r.path for r in auth.client_id.references() if r.scope == "secret")
    return frozenset()


def _altered(value: str, part: Part | None) -> str:
    """Another value of the same shape; the pattern is kept whenever changing the middle can keep it."""
    pattern = part.pattern if part is not None else ""
    wanted = pattern if fits(pattern, value) else ""
    candidate = ""
    for _ in range(_TRIES):
        candidate = _middle_changed(value)
        if fits(wanted, candidate):
            return candidate
    return candidate


def _middle_changed(value: str) -> str:
    third = len(value) // 3
    start, end = (third, len(value) - third) if len(value) >= 9 else (0, len(value))
    out = [_other(c) if start <= i < end else c for i, c in enumerate(value)]
    if "".join(out) == value:  # no letter or digit in the middle
        out = [_other(c) for c in value]
    return "".join(out) if "".join(out) != value else value + "x"


def _other(c: str) -> str:
    for letters in _CLASSES:
        if c in letters:
            return secrets.choice(letters.replace(c, ""))
    return c

"""The three-valued answer to "does this credential work?", with who answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """Only `accepted` means works and only `rejected` means does not; everything else is `unknown`."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Probe:
    """One test of one credential: the verdict, the identity seen and the vendor's own code.

    `identity` holds at least `principal` when accepted, and `tenant` where the vendor tells it. `rights` is the set of
    scopes or roles seen. `detail` is plain words without any secret.
    """

    verdict: Verdict
    identity: Mapping[str, str] = field(default_factory=dict)
    rights: frozenset[str] = frozenset()
    code: str = ""
    detail: str = ""
    locked: bool = False
    wait_s: float = 0.0

    def as_facts(self) -> dict[str, Any]:
        """What the journal keeps of it."""
        facts: dict[str, Any] = {"verdict": self.verdict.value}
        if self.identity:
            facts["identity"] = dict(self.identity)
        if self.code:
            facts["code"] = self.code
        if self.detail:
            facts["detail"] = self.detail
        if self.locked:
            facts["locked"] = True
        return facts


def accepted(principal: str, *, tenant: str = "", rights: frozenset[str] = frozenset(), **more: str) -> Probe:
    """A probe that was let in as `principal`."""
    identity = {"principal": principal, **({"tenant": tenant} if tenant else {}), **more}
    return Probe(Verdict.ACCEPTED, identity=identity, rights=rights)


def rejected(code: str, detail: str = "") -> Probe:
    """A definite, documented no."""
    return Probe(Verdict.REJECTED, code=code, detail=detail)


def unknown(code: str, detail: str = "", wait_s: float = 0.0) -> Probe:
    """Anything that says nothing about the credential."""
    return Probe(Verdict.UNKNOWN, code=code, detail=detail, wait_s=wait_s)


def mismatch(pin: Mapping[str, str], seen: Mapping[str, str]) -> tuple[str, ...]:
    """The pinned identity keys that `seen` contradicts or lacks; empty means the same account.

    Labels (`*_label`) are for people and are never compared.
    """
    return tuple(key for key, value in pin.items() if not key.endswith("_label") and seen.get(key) != value)

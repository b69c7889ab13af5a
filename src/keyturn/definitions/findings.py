"""What is wrong with a document: level, line, field, message and fix, collected so that one reading shows them all."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from keyturn.errors import InvalidInput

REFUSE = "refuse"
WARN = "warn"


@dataclass(frozen=True)
class Finding:
    """One remark. `level` is "refuse" (the document is not used) or "warn"; `field` is a dotted path."""

    level: str
    line: int
    field: str
    message: str
    fix: str = ""

    def text(self, where: str) -> str:
        """One line for a terminal or a log."""
        tail = f" {self.fix}" if self.fix else ""
        return f"{where}:{self.line}: {self.field + ': ' if self.field else ''}{self.message}.{tail}"


@dataclass
class Log:
    """Collects findings while a document is read."""

    where: str
    findings: list[Finding] = field(default_factory=list)

    def refuse(self, line: int, at: str, message: str, fix: str = "") -> None:
        """Notes something that makes the document unusable."""
        self.findings.append(Finding(REFUSE, line, at, message, fix))

    def remark(self, line: int, at: str, message: str, fix: str = "") -> None:
        """Notes something that works but is worse than it could be."""
        self.findings.append(Finding(WARN, line, at, message, fix))

    @property
    def refused(self) -> tuple[Finding, ...]:
        """The findings that make the document unusable."""
        return tuple(f for f in self.findings if f.level == REFUSE)

    def stop_if_refused(self) -> None:
        """Raises: InvalidInput naming file, line, field and fix of the first refusal, and how many more there are."""
        if self.refused:
            refuse(self.where, self.refused)


def refuse(where: str, found: tuple[Finding, ...]) -> NoReturn:
    """Raises the InvalidInput that stands for these findings."""
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    raise InvalidInput(
        f"{where}:{first.line}: {first.field + ': ' if first.field else ''}{first.message}{more}",
        hint=first.fix,
        where=where,
        line=first.line,
        field=first.field,
        findings=tuple(f.text(where) for f in found),
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A fix naming the nearest known word, or all of them."""
    options = list(known)
    near = difflib.get_close_matches(word, options, 1, 0.6)
    return f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(options)}."

"""All facts in one list, and the two ways to check them: one by one from pytest, or all at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from keyturn.testing import facts_change, facts_grant, facts_login, facts_page, facts_read
from keyturn.testing.row import RowUnderTest

_UNSUPPORTED = {
    "lister": ("list", "discover"),
    "issuer": ("issue", "create"),
    "setter": ("set", "issue"),
    "disabler": ("disable",),
    "revoker": ("revoke",),
    "dropper": ("drop",),
    "authorizer": ("authorize",),
    "discoverer": ("discover", "list"),
    "locator": ("locate",),
    "reader": ("read",),
}


@dataclass(frozen=True)
class Fact:
    """One fact; its sentence is the docstring of its check. `needs` names the capabilities it is about.

    One that `changes` something wants a fresh row; the others may share one.
    """

    name: str
    holds: Callable[[RowUnderTest], None]
    needs: tuple[str, ...] = ()
    applies: Callable[[RowUnderTest], bool] = lambda _row: True
    changes: bool = True

    def __str__(self) -> str:
        return self.name

    def why_not(self, row: RowUnderTest) -> str:
        """Why the fact does not apply to a row, from its manifest alone; empty when it does."""
        for need in self.needs:
            if getattr(row.can, need) is None:
                said: Mapping[str, str] = row.method.unsupported
                words = next((said[key] for key in _UNSUPPORTED.get(need, ()) if key in said), "")
                return (
                    words or f"{row.name} has no {need} ({row.card.strategy.value}, {row.card.hands.value})"
                )
        return "" if self.applies(row) else f"the card of {row.name} says otherwise"

    def check(self, row: RowUnderTest) -> None:
        """Checks the fact while every logger speaks; in the end no secret may have been said anywhere.

        Raises: AssertionError.
        """
        with row.witness.listening():
            self.holds(row)


FACTS: tuple[Fact, ...] = tuple(
    Fact(name, holds, needs, applies, module in {facts_change, facts_grant})
    for module in (facts_page, facts_login, facts_read, facts_change, facts_grant)
    for name, holds, needs, applies in module.facts()
)


def applicable(make: Callable[[], RowUnderTest]) -> list[Fact]:
    """The facts that apply to a row, in order."""
    row = make()
    return [fact for fact in FACTS if not fact.why_not(row)]


def check_row(make: Callable[[], RowUnderTest]) -> dict[str, str]:
    """Checks everything that applies, each fact on a fresh row; answers what was left out, and why.

    Raises: AssertionError naming every fact that does not hold.
    """
    left_out: dict[str, str] = {}
    broken: list[str] = []
    for fact in FACTS:
        row = make()
        why_not = fact.why_not(row)
        if why_not:
            left_out[fact.name] = why_not
            continue
        try:
            fact.check(row)
        except AssertionError as error:
            broken.append(f"{fact.name}: {error}")
    assert not broken, "\n".join(broken)
    return left_out

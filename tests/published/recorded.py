"""What a set of rows sent and was answered, and which lines of their code never ran."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

from keyturn.catalog import Catalog
from tests.compliance.case import under_test
from tests.compliance.rows import ROWS
from tests.published.drive import everything
from tests.published.sites import Sites
from tests.published.tap import Exchange, Tap, TappedLab


@dataclass(frozen=True)
class Recorded:
    """Everything that went over the wire, by row."""

    by_row: Mapping[str, tuple[Exchange, ...]]
    sites: Sites
    lab: TappedLab
    tap: Tap

    def of(self, start: str = "") -> list[Exchange]:
        """What the rows sent whose names start so."""
        return [each for row, sent in self.by_row.items() if row.startswith(start) for each in sent]


@contextmanager
def recording(
    part: str,
    systems: Iterable[str],
    folders: Iterable[str],
    modules: Iterable[ModuleType] = (),
    also: Mapping[str, Callable[[TappedLab], None]] | None = None,
) -> Iterator[Recorded]:
    """Drives every row of the systems against a part of the lab with a tap on it.

    `folders` of the connectors and `modules` of transport are watched; `also` reaches what the rows do not.
    """
    lab, sites = TappedLab(), Sites(folders, modules)
    tap = lab.tap(part)
    by_row: dict[str, tuple[Exchange, ...]] = {}

    def watched(name: str, run: Callable[[], None]) -> None:
        before = len(tap.seen)
        with sites.watching():
            run()
        by_row[name] = tuple(tap.seen[before:])

    try:
        for name in ROWS:
            if name.split("/", maxsplit=1)[0] in systems:
                row = under_test(name, ROWS[name](lab))
                watched(name, lambda row=row: everything(row))
        for name, run in (also or {}).items():
            watched(name, lambda run=run: run(lab))
        yield Recorded(by_row, sites, lab, tap)
    finally:
        lab.close()


def said_to_be_sent(system: str, method: str) -> str:
    """What the row's page says its calls are, all capabilities together."""
    return "; ".join(Catalog().method(system, method).calls.values())

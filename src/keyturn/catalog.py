"""Finds connectors and checks that card, methods and code agree; the only importer of connectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.util import find_spec
from typing import Any, Protocol

from keyturn import definitions
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.manifest import Method, System
from keyturn.errors import InvalidInput, NotFound
from keyturn.executor.hub import RowOf
from keyturn.model.card import Card, Hands, Strategy
from keyturn.model.credential import Connection

GROUP = "keyturn.connectors"


class External(Protocol):
    """What an entry point of group `keyturn.connectors` gives: a module with these two functions."""

    def system(self) -> System:
        """The system it adds."""

    def capabilities(self, method: str, settings: Mapping[str, Any]) -> Capabilities:
        """What a method can do."""


class Catalog:
    """The systems there are. `definition_text` reads a user's own definition by its content hash."""

    def __init__(
        self,
        definition_text: Callable[[str], str | None] = lambda _: None,
        extra: Mapping[str, External] | None = None,
    ) -> None:
        self._definition_text = definition_text
        self._systems: dict[str, System] = {}
        self._external: dict[str, External] = dict(extra or {})
        self._inbound: Callable[[Connection], Capabilities] | None = None
        self._own: dict[str, Any] = {}

    def serve_inbound(self, capabilities: Callable[[Connection], Capabilities]) -> None:
        """Tells how credentials that we issue are made: they live in our own tables."""
        self._inbound = capabilities

    def names(self) -> list[str]:
        """Every system's name, built in first."""
        folder = files("keyturn.connectors")
        built_in = sorted(
            entry.name.replace("_", "-")
            for entry in folder.iterdir()
            if (entry / "definition.yaml").is_file()
        )
        outside = sorted({entry.name for entry in entry_points(group=GROUP)} | set(self._external))
        return [*built_in, *(name for name in outside if name not in built_in)]

    def system(self, name: str) -> System:
        """A system by name. Raises: NotFound with the names there are."""
        found = self._systems.get(name)
        if found is None:
            found = self._systems[name] = self._load(name)
        return found

    def systems(self) -> Iterator[System]:
        """All of them, in the order of `names`."""
        for name in self.names():
            yield self.system(name)

    def method(self, system: str, method: str) -> Method:
        """A row. Raises: NotFound with the methods there are."""
        found = self.system(system)
        row = found.method(method)
        if row is None:
            names = ", ".join(m.name for m in found.methods)
            raise NotFound(f"{system} has no method {method}", hint=f"It has: {names}.", field="method")
        return row

    def row_of(self, connection: Connection) -> RowOf:
        """The row of a connection, with the card that holds for its settings."""
        return self.row(
            connection.system, connection.method, connection.settings, connection.definition_hash, connection
        )

    def row(
        self,
        system: str,
        method: str,
        settings: Mapping[str, Any],
        definition_hash: str = "",
        connection: Connection | None = None,
    ) -> RowOf:
        """The row for settings that may not be a connection yet."""
        row = self.method(system, method)
        if definition_hash:
            own = self.definition(definition_hash)
            row = definitions.as_method(own, row)
            row = replace(row, fields=tuple(f for f in row.fields if f.name != "definition"))
            return RowOf(row, definitions.card(own), definitions.capabilities(own))
        if row.direction == "inbound" and row.card.strategy is Strategy.ISSUED:  # they live in our own book
            if self._inbound is None or connection is None:
                raise NotFound(f"{system} is issued by this hub", hint="Use `keyturn issue`.")
            return RowOf(row, row.card_for(settings), self._inbound(connection))
        card = row.card_for(settings)
        can = self._capabilities(system, row, settings)
        row = row.fitting(settings)
        check(f"{system}/{method}", row, card, can)
        return RowOf(row, card, can)

    def definition(self, definition_hash: str) -> Any:
        """A user's own definition. Raises: NotFound."""
        found = self._own.get(definition_hash)
        if found is None:
            text = self._definition_text(definition_hash)
            if text is None:
                raise NotFound("the definition this connection was made with is missing", field="definition")
            found = self._own[definition_hash] = definitions.read(text, definition_hash)
        return found

    def _load(self, name: str) -> System:
        if name in self._external:
            return self._external[name].system()
        path = files("keyturn.connectors") / name.replace("-", "_") / "definition.yaml"
        if path.is_file():
            return definitions.read_system(path.read_text(), f"connectors/{name}/definition.yaml")
        for entry in entry_points(group=GROUP):
            if entry.name == name:
                self._external[name] = entry.load()
                return self._external[name].system()
        raise NotFound(
            f"there is no system {name}", hint=f"Known: {', '.join(self.names())}.", field="system"
        )

    def _capabilities(self, system: str, row: Method, settings: Mapping[str, Any]) -> Capabilities:
        if system in self._external:
            return self._external[system].capabilities(row.name, settings)
        code = _code(system)
        if row.rest is not None:
            declared = definitions.capabilities(row.rest)
            if code is None:
                return declared
            extended: Capabilities = code.extend(row.name, settings, declared)
            return extended
        if code is None:
            raise NotFound(f"{system} has no connector", hint="Only its page is known.")
        found: Capabilities = code.capabilities(row.name, settings)
        return found


@cache
def _code(system: str) -> Any:
    """The module of a system's connector, None where there is none."""
    name = f"keyturn.connectors.{system.replace('-', '_')}.connector"
    return None if find_spec(name) is None else import_module(name)


def check(name: str, row: Method, card: Card, can: Capabilities) -> None:
    """Refuses a row whose card promises what its code cannot do. Raises: InvalidInput naming what is missing."""
    needed = {
        Strategy.TWO_SLOTS: ("maker", "setter", "revoker"),
        Strategy.SET_ONE: ("maker", "setter"),
        Strategy.ISSUED: ("maker", "setter", "revoker"),
        Strategy.MANY_IDS: ("issuer", "revoker"),
        Strategy.NAMED_SLOTS: ("issuer", "revoker"),
        Strategy.CONSENT: ("authorizer",),
    }.get(card.strategy, ())
    guided = card.hands is Hands.GUIDED
    if guided and card.strategy is not Strategy.CONSENT:
        needed = ()
        if not row.create_steps:
            raise InvalidInput(f"{name} is guided but has no guide.create steps", field="guide")
    elif card.strategy is Strategy.REGENERATE:
        needed = ("issuer",)
    missing = [each for each in needed if getattr(can, each) is None]
    if card.inventory and can.lister is None:
        missing.append("lister")
    if card.disable_first and can.disabler is None:
        missing.append("disabler")
    if missing:
        raise InvalidInput(
            f"{name} declares {card.strategy.value} but lacks {', '.join(missing)}", field="card"
        )

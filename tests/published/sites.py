"""Which lines of a connector speak to its vendor, and which of them ran.

A call that no test sends would never be held against the vendor's description; so each line that can send one must have
run while the tap was on.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import keyturn.connectors

# Names by which transport is spoken to.
DOORS = frozenset({"send", "call", "pages", "authenticate"})
# A capability is where a call begins, not a way to it; `set` and `list` are everyday words besides.
_BEGINNINGS = frozenset(
    {"verify", "list", "set", "issue", "disable", "enable", "revoke", "drop", "discover", "locate"}
)


class Sites:
    """The speaking lines of the modules in `folders` of keyturn.connectors and of single `modules`."""

    def __init__(self, folders: Iterable[str], modules: Iterable[ModuleType] = ()) -> None:
        home = Path(keyturn.connectors.__path__[0])
        files = [path for folder in folders for path in sorted((home / folder).glob("*.py"))]
        self._trees = {
            str(path): ast.parse(path.read_text())
            for path in (*files, *(Path(str(each.__file__)) for each in modules))
        }
        self._speaking = self._closure()
        self._ran: set[tuple[str, int]] = set()

    def _closure(self) -> frozenset[str]:
        """Functions that speak, by name: those that use a door, and those that use one that does."""
        speaking = set(DOORS)
        while True:
            found = {
                function.name
                for tree in self._trees.values()
                for function in ast.walk(tree)
                if isinstance(function, ast.FunctionDef)
                and function.name not in _BEGINNINGS
                and any(_called(node) in speaking for node in ast.walk(function))
            }
            if found <= speaking:
                return frozenset(speaking)
            speaking |= found

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Notes each line of these modules that runs in this thread."""

        def line(frame: FrameType, event: str, _arg: Any) -> Any:
            if event == "line":
                self._ran.add((frame.f_code.co_filename, frame.f_lineno))
            return line

        def begin(frame: FrameType, _event: str, _arg: Any) -> Any:
            return line if frame.f_code.co_filename in self._trees else None

        before = sys.gettrace()
        sys.settrace(begin)
        try:
            yield
        finally:
            sys.settrace(before)

    def silent(self) -> list[str]:
        """Calls that never ran, as `file: source`. The same words in two places are one call."""
        ran: set[tuple[str, str]] = set()
        all_of_them: set[tuple[str, str]] = set()
        for path, tree in self._trees.items():
            for node in ast.walk(tree):
                if _called(node) in self._speaking and isinstance(node, ast.Call):
                    site = (Path(path).name, ast.unparse(node))
                    all_of_them.add(site)
                    lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                    if any((path, number) in self._ran for number in lines):
                        ran.add(site)
        return sorted(f"{name}: {source}" for name, source in all_of_them - ran)


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Attribute):
        return "" if node.func.attr in _BEGINNINGS else node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""

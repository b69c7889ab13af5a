"""YAML and JSON text as values that know their line. Scalars follow YAML 1.2's core schema: `off` and `no` are text.

Only plain mappings, lists and scalars are read: no tags, no merge keys, no duplicate keys, bounded size and depth, so
that an alias bomb costs nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 262_144
MAX_DEPTH = 24
MAX_ITEMS = 20_000

_INTEGER = re.compile(r"^[-+]?[0-9]{1,18}$")
_FLOAT = re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?$")
_WORDS: dict[str, Any] = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "True": True,
    "false": False,
    "False": False,
}
_PLAIN_TAGS = frozenset({None, "!", *(f"tag:yaml.org,2002:{t}" for t in ("str", "map", "seq"))})


@dataclass(frozen=True)
class Item:
    """One value of the document and the line it starts on (from 1)."""

    value: Any  # a scalar, dict[str, Item] or list[Item]
    line: int

    def plain(self) -> Any:
        """The value without lines, for hashing and for JSON bodies."""
        if isinstance(self.value, dict):
            return {k: v.plain() for k, v in self.value.items()}
        if isinstance(self.value, list):
            return [v.plain() for v in self.value]
        return self.value


class Malformed(ValueError):
    """The text is not a document we read; `line` says where."""

    def __init__(self, message: str, line: int, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.fix = fix


def parse(text: str) -> Item:
    """Reads one document. Raises: Malformed."""
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise Malformed(
            f"the document is larger than {MAX_BYTES // 1024} KB", 1, "Split it or remove what is unused."
        )
    if text.lstrip().startswith("{"):
        text = text.replace("\t", " ")  # tabs are lawful between JSON tokens and nowhere in YAML
    import yaml

    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        node = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Malformed(
            f"not valid YAML: {error.problem or 'syntax error'}",
            mark.line + 1 if mark else 1,
            "Check the indentation, and put texts holding ': ' or '#' into quotes.",
        ) from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise Malformed("not valid YAML", 1, "Check for control characters and for nesting.") from None
    if node is None:
        raise Malformed("the document is empty", 1, "Start it with a schema line.")
    return _Reader().item(node, 0)


class _Reader:
    def __init__(self) -> None:
        self.items = 0

    def item(self, node: Any, depth: int) -> Item:
        line = node.start_mark.line + 1
        self.items += 1
        if self.items > MAX_ITEMS or depth > MAX_DEPTH:
            raise Malformed("the document is nested too deeply or repeats itself", line, "Write aliases out.")
        if node.tag not in _PLAIN_TAGS:
            raise Malformed("tags such as !!x are not read", line, "Remove the tag.")
        if node.id == "mapping":
            return Item(self.mapping(node, depth), line)
        if node.id == "sequence":
            return Item([self.item(n, depth + 1) for n in node.value], line)
        return Item(node.value if node.style else scalar(node.value), line)

    def mapping(self, node: Any, depth: int) -> dict[str, Item]:
        found: dict[str, Item] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.id != "scalar":
                raise Malformed("a key must be a plain word", line, "Write it as text.")
            if key.value in found:
                raise Malformed(f"the key {key.value!r} is given twice", line, "Keep one of the two.")
            found[key.value] = self.item(value, depth + 1)
        return found


def scalar(text: str) -> Any:
    """An unquoted scalar by YAML 1.2's core schema; numbers beyond 18 digits stay text, as ids must."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text):
        return text if len(text.lstrip("+-")) > 1 and text.lstrip("+-").startswith("0") else int(text)
    return float(text) if _FLOAT.match(text) else text

"""The documentation as data: pages, their links, code and commands; and the generator as a module."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```([a-z]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PROSE = re.compile(r"`((?:keyturn|make) [^`\n]+)`")


def written() -> list[Path]:
    """Every page that belongs to the project, faults.md included once it is there."""
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    return [*top, *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "changelog.d").glob("*.md"))]


def name_of(path: Path) -> str:
    """A page's path below the root."""
    return str(path.relative_to(ROOT))


def text(name: str) -> str:
    """A page's text."""
    return (ROOT / name).read_text(encoding="utf-8")


def fences(page: str) -> Iterator[tuple[str, str]]:
    """Language and content of each code block."""
    yield from _FENCE.findall(page)


def links(page: str) -> list[str]:
    """Every link target outside code blocks."""
    return _LINK.findall(_FENCE.sub("", page))


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#{1,6} (.+)$", _FENCE.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def commands(page: str) -> Iterator[list[str]]:
    """Every `keyturn ...` and `make ...` that a reader could type, as words."""
    for language, block in fences(page):
        if language in {"", "sh", "console"}:
            for line in map(str.strip, block.replace("\\\n", " ").splitlines()):
                if line.startswith(("keyturn ", "make ")):
                    yield shlex.split(line)  # a usage line of docs/cli.md is one as well
    for found in _PROSE.findall(_FENCE.sub("", page)):
        yield shlex.split(found)


@cache
def generator() -> ModuleType:
    """tools/generate.py."""
    spec = importlib.util.spec_from_file_location("keyturn_generate", ROOT / "tools" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

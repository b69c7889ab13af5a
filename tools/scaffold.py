"""Makes the folders of a new connector in code: `python tools/scaffold.py SYSTEM [--method M] [--title T]`.

Connector, stand-in, tests, compliance row, demo row and changelog fragment, all new files and all of them the new
connector's own: nothing that is there is edited. They describe a pretended vendor with API keys that its API makes and
ends, pass the contract suite as they are, and are then changed into what the real vendor does. A vendor whose calls can
be declared needs none of this: `keyturn definitions new`.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).resolve().parent / "new_connector"
_SYSTEM = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_METHOD = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")


def scaffold(root: Path, system: str, method: str = "api_key", title: str = "") -> list[Path]:
    """Writes the files below `root` and says which, in order; nothing when one of them is there already.

    Raises: ValueError for a name that is none, FileExistsError naming the file.
    """
    if not _SYSTEM.fullmatch(system):
        raise ValueError("a system's name is lower-case words joined by -")
    if not _METHOD.fullmatch(method):
        raise ValueError("a method's name is lower-case words joined by _")
    module = system.replace("-", "_")
    title = " ".join(title.split()) or " ".join(word.capitalize() for word in system.split("-"))
    if not title.isprintable() or any(c in title for c in "\"'\\#:{}"):
        raise ValueError("the title may hold no quotes, braces, backslashes, colons and number signs")
    words = {
        "__module__": module,
        "__system__": system,
        "__method__": method,
        "__title__": title,
        "__VARIABLE__": module.upper(),
    }
    made = {}
    for template in sorted(TEMPLATES.rglob("*.txt")):
        name = str(template.relative_to(TEMPLATES)).removesuffix(".txt")
        made[root / _filled(name, words)] = _filled(template.read_text(encoding="utf-8"), words)
    there = [path for path in made if path.exists()]
    if there:
        raise FileExistsError(f"{there[0].relative_to(root)} is there already")
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(made)


def _filled(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def main() -> None:
    """By hand."""
    options = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    options.add_argument("system", help="its name in keyturn, such as acme-notes")
    options.add_argument("--method", default="api_key", help="how one signs in (default: api_key)")
    options.add_argument("--title", default="", help="its name for people")
    given = options.parse_args()
    try:
        made = scaffold(ROOT, given.system, given.method, given.title)
    except (ValueError, FileExistsError) as error:
        sys.exit(str(error))
    for path in made:
        print(path.relative_to(ROOT))
    row = f"{given.system}/{given.method}"
    print(
        f"\nNext: pytest tests/compliance -k '{row}' tests/connectors/{given.system.replace('-', '_')}, then make it like the vendor"
    )
    print("and run `make generate`.")


if __name__ == "__main__":
    main()

"""`make canary`: lives a hub's life with all logs on, then looks for every secret in everything that was left."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from keyturn.bootstrap import open_hub
from keyturn.errors import KeyturnError
from keyturn.settings import Settings
from keyturn.testing import forms
from tests.canary.scan import Hit, Scanner, files_below
from tests.canary.scenario import play
from tests.canary.secrets import Named, of_hub, of_key, of_state
from tests.compliance.lab import the_lab

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / ".demo"
PLANT = "ktlab-planted-S3cr3t/with+odd=chars&'quotes'"


def main() -> int:
    """Exit status 0 only when something was scanned, the planted secret was found, and no other was."""
    parser = argparse.ArgumentParser(prog="make canary", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the scanned folder behind")
    parser.add_argument("--only", nargs="*", default=[], help="these rows alone")
    parser.add_argument(
        "folders", nargs="*", type=Path, help="further folders to scan, such as a test run's logs"
    )
    options = parser.parse_args()
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="kt-canary-"))
    try:
        told = play(the_lab(), folder, only=tuple(options.only))
        secrets = [*told.secrets, *_demo_secrets()]
        scanner = Scanner(secrets)
        if not _finds_what_is_planted(folder):
            _say("the self-test failed: a planted secret was not found in every form")
            _say("files=0 hits=1")
            return 2
        files = files_below(folder, *_demo_folders(), *options.folders, leave_out=_leave_out(folder))
        hits = [hit for path in files for hit in scanner.file(path)]
        _report(hits, told.trouble)
        _say(f"rotated={told.rotated} secrets={scanner.secrets} seconds={time.monotonic() - began:.0f}")
        _say(f"files={len(files)} hits={len(hits)}")
        return 1 if hits or not files or not told.rotated else 0
    finally:
        if options.keep:
            sys.stderr.write(f"kept: {folder}" + "\n")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _finds_what_is_planted(folder: Path) -> bool:
    """Each form in a file of its own, across the border of two pieces as well."""
    planted = folder / "planted"
    planted.mkdir()
    scanner = Scanner([("planted", PLANT)])
    try:
        for number, form in enumerate(sorted(forms(PLANT))):
            path = planted / str(number)
            path.write_bytes(b"x" * (8 * 1024 * 1024 - 5 if number == 0 else 100) + form + b"y" * 100)
            if not scanner.file(path):
                return False
        clean = planted / "clean"
        clean.write_bytes(b"nothing of interest" * 1000)
        return not scanner.file(clean)
    finally:
        shutil.rmtree(planted)


def _demo_folders() -> tuple[Path, ...]:
    return (DEMO,) if DEMO.is_dir() else ()


def _leave_out(folder: Path) -> list[Path]:
    """The master keys, and what a lab wrote for its own callers: the two places where secrets belong in clear."""
    return [folder / "key", folder / "second" / "key", DEMO / "key", DEMO / "lab.json"]


def _demo_secrets() -> Iterator[Named]:
    """What the last demo's vault holds, and what its lab had written down where it still runs."""
    if (DEMO / "lab.json").is_file():
        yield from of_state(DEMO / "lab.json")
    key = DEMO / "key" / "kek"
    if not key.is_file():
        return
    yield from of_key(key)
    environment = {"KEYTURN_HOME": str(DEMO / "home"), "KEYTURN_KEK": f"file:{key}"}
    try:
        hub = open_hub(Settings.read(environment))
    except KeyturnError as error:
        _say(f"the demo's hub does not open: {error}")
        return
    with contextlib.closing(hub):
        yield from of_hub(hub)


def _report(hits: list[Hit], trouble: list[str]) -> None:
    for each in trouble:
        _say(f"not as it should be: {each}")
    for hit in hits[:50]:
        _say(f"LEAK {hit.where} at {hit.at}: {hit.what}")


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""audit: the trail taken away, and checked offline."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from keyturn.cli import inputs, terminal
from keyturn.cli.session import Session, pass_session
from keyturn.cli.terminal import Exit
from keyturn.errors import Conflict, InvalidInput


@click.group(
    "audit",
    epilog=terminal.examples(
        "keyturn audit export trail.jsonl",
        "keyturn audit verify trail.jsonl",
        "keyturn audit verify trail.jsonl --public-key hub.pem",
    ),
)
def audit_command() -> None:
    """The audit trail: every connection's journal, chained by hashes and signed by the hub."""


@audit_command.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--public-key", type=click.Path(path_type=Path), help="Also write the hub's public key (PEM) here."
)
@terminal.json_option
@pass_session
def export(session: Session, file: Path, public_key: Path | None, as_json: bool) -> None:
    """Write every journal line into FILE (JSON lines), with the signed heads at the end. Never overwrites."""
    from keyturn.operations import audit

    with session.hub() as hub:
        _new(file)
        try:
            count = audit.export(hub, file)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        if public_key is not None:
            _new(public_key)
            public_key.write_text(hub.roots.public_key_pem)
    if as_json:
        terminal.emit({"file": str(file), "lines": count})
        return
    terminal.say(f"Wrote {count} lines to {file}. Check it anywhere: keyturn audit verify {file}")


def _new(path: Path) -> None:
    """An empty file only we can read. Raises: Conflict, InvalidInput."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise Conflict(f"{path} is there already", hint="Choose another name.", field="file") from None
    except OSError as error:
        raise InvalidInput(
            f"cannot write {path} ({error.strerror})",
            hint="Check the folder, its mode and its space.",
            field="file",
        ) from None


@audit_command.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--public-key",
    type=click.Path(path_type=Path),
    help="PEM file: whose signature it must be (default: as it says).",
)
@terminal.json_option
@pass_session
def verify(session: Session, file: Path, public_key: Path | None, as_json: bool) -> None:
    """Check an export without the hub: altered, added and missing lines are found. Exit code 1 when it is not whole.

    Without --public-key the file's own key is used: that finds accidents, not somebody who signed a forgery.
    """
    from keyturn.operations import audit

    del session
    pem = inputs.read_source("public-key", f"@{public_key}", {}, whole=True) if public_key else ""
    try:
        found = audit.verify(file, pem)
    except (InvalidInput, LookupError, ValueError, TypeError):
        number = _damaged(file)
        if number is None:
            raise
        found = audit.Checked(0, 0, (f"line {number} of the file cannot be read",), signed=False)
    if as_json:
        terminal.emit({**vars(found), "broken": list(found.broken), "ok": found.is_whole})
    elif found.is_whole:
        terminal.say(f"{file} is whole: {found.lines} lines of {found.connections} connections, signed.")
        if not pem:
            terminal.note("The signature was checked with the key in the file; pin yours with --public-key.")
    else:
        for each in found.broken:
            terminal.say(f"BROKEN {each}")
        if not found.signed:
            terminal.say("BROKEN the signature is missing or is not the hub's")
    if not found.is_whole:
        raise click.exceptions.Exit(Exit.FAILED)


def _damaged(file: Path) -> int | None:
    """The line of an export that is not as we write it; None when the file is no export of ours at all."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    if not lines or "keyturn-audit/" not in lines[0]:
        return None
    for number, text in enumerate(lines[1:], 2):
        try:
            known = json.loads(text).keys()
        except (ValueError, AttributeError):
            return number
        if not known >= {"connection_id", "number", "hash", "facts", "kind"} and not known >= {
            "heads",
            "signature",
        }:
            return number
    return len(lines)

"""audit: the trail taken away, and checked offline."""

from __future__ import annotations

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
        "keyturn audit verify trail.jsonl --public-key hub.pem --earlier last-month.jsonl",
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
    """Write every journal line into FILE (JSON lines), with the signed heads at the end. Never overwrites.

    Exit code 1 when a chain in the database does not hold up to its head; FILE is written all the same and shows it.
    """
    from keyturn.operations import audit

    with session.hub() as hub:
        _new(file)
        try:
            done = audit.export(hub, file)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        if public_key is not None:
            _new(public_key)
            public_key.write_text(hub.roots.public_key_pem)
    if as_json:
        terminal.emit({"file": str(file), "lines": done.lines, "broken": list(done.broken)})
    else:
        for each in done.broken:
            terminal.say(f"BROKEN {each}")
        terminal.say(f"Wrote {done.lines} lines to {file}. Check it anywhere: keyturn audit verify {file}")
    if done.broken:
        raise click.exceptions.Exit(Exit.FAILED)


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
@click.option(
    "--earlier",
    type=click.Path(path_type=Path),
    help="An older export: each of its chains must be the beginning of the one in FILE.",
)
@terminal.json_option
@pass_session
def verify(
    session: Session, file: Path, public_key: Path | None, earlier: Path | None, as_json: bool
) -> None:
    """Check an export without the hub: altered, added and missing lines are found. Exit code 1 when it is not whole.

    Without --public-key the file's own key is used: that finds accidents, not somebody who signed a forgery. Without
    --earlier a chain that was rewritten from its beginning looks like any other: keep exports away from the hub.
    """
    from keyturn.operations import audit

    del session
    pem = inputs.read_source("public-key", f"@{public_key}", {}, whole=True) if public_key else ""
    found = audit.verify(file, pem, earlier)
    if as_json:
        terminal.emit({**vars(found), "broken": list(found.broken), "ok": found.is_whole})
    elif found.is_whole:
        terminal.say(f"{file} is whole: {found.lines} lines of {found.connections} connections, signed.")
        if earlier is not None:
            terminal.say(f"Every chain of {earlier} is the beginning of its chain there.")
        if not pem:
            terminal.note("The signature was checked with the key in the file; pin yours with --public-key.")
    else:
        for each in found.broken:
            terminal.say(f"BROKEN {each}")
        if not found.signed:
            terminal.say("BROKEN the signature is missing or is not the hub's")
    if not found.is_whole:
        raise click.exceptions.Exit(Exit.FAILED)

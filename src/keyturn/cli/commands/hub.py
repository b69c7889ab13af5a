"""init, doctor, backup, restore."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.cli import terminal, words
from keyturn.cli.session import Session, pass_session
from keyturn.cli.terminal import Exit


@click.command(
    "init",
    epilog=terminal.examples(
        "keyturn init",
        "KEYTURN_HOME=/var/lib/keyturn KEYTURN_KEK=file:/etc/keyturn/kek keyturn init",
        "KEYTURN_DATABASE=postgresql://keyturn@db/keyturn keyturn init",
    ),
)
@terminal.json_option
@pass_session
def init_command(session: Session, as_json: bool) -> None:
    """Create the home, the master key and the database.

    Run a second time it says so and changes nothing. Without the master key nothing in the database can be read:
    back it up, apart from the database.
    """
    from keyturn.operations import hub

    made = hub.init(session.settings(), session.catalog)
    if as_json:
        terminal.emit({**vars(made), "home": str(made.home)})
        return
    if made.made_hub:
        terminal.say(terminal.style("This hub is ready.", "green", bold=True))
    else:
        terminal.say("This hub was initialised before; nothing was changed.")
    terminal.pairs(
        [
            ("Home", made.home),
            ("Database", made.database),
            ("Master key", f"{made.key_id} at {made.key_source}"),
        ],
        "  ",
    )
    terminal.say()
    if made.made_key:
        terminal.say(f"Back up the master key now: {made.key_source}")
        terminal.say(
            "Without it nothing in the database can be read again. Keep it apart from the database's backups."
        )
    else:
        terminal.say(f"The master key was there already ({made.key_source}). Is it backed up?")
    terminal.say("Next: `keyturn systems` shows what can be connected.")


@click.command("doctor", epilog=terminal.examples("keyturn doctor", "keyturn doctor --json"))
@terminal.json_option
@pass_session
def doctor_command(session: Session, as_json: bool) -> None:
    """Check database, master key, packages, extras, audit trail and clock. Changes nothing.

    Exit code 1 when something does not work.
    """
    from keyturn.operations import doctor

    found = doctor.doctor(session.settings(), session.catalog)
    failed = any(f.state == "fail" for f in found)
    if as_json:
        terminal.emit({"ok": not failed, "checks": [vars(f) for f in found]})
    else:
        for each in found:
            mark = words.mark({"ok": "done", "warn": "person"}.get(each.state, "stop"))
            terminal.say(f"{mark} {each.name.ljust(15)} {each.said}")
            if each.fix and (each.state != "ok"):
                terminal.say(f"  {' ' * 16}{each.fix}")
    if failed:
        raise click.exceptions.Exit(Exit.FAILED)


@click.command("backup", epilog=terminal.examples("keyturn backup /var/backups/keyturn-2026-11-23.db"))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@terminal.json_option
@pass_session
def backup_command(session: Session, file: Path, as_json: bool) -> None:
    """Copy the database into FILE while it is in use.

    The copy is whole, readable by you alone, and useless without the master key. A file is never overwritten. For a
    hub on PostgreSQL use pg_dump.
    """
    from keyturn.operations import backups

    made = backups.backup(session.settings(), file)
    if as_json:
        terminal.emit({**vars(made), "path": str(made.path)})
        return
    terminal.say(f"Wrote {made.path} ({made.size_bytes // 1024} KB, {made.connections} connections).")
    terminal.say(f"It opens only with the master key {' or '.join(made.key_ids)}: back that up elsewhere.")


@click.command("restore", epilog=terminal.examples("keyturn restore /var/backups/keyturn-2026-11-23.db"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--yes", is_flag=True, help="Replace a hub that has connections; the present database is kept beside it."
)
@terminal.json_option
@pass_session
def restore_command(session: Session, file: Path, yes: bool, as_json: bool) -> None:
    """Put the backup FILE in the database's place. Stop serve and worker first."""
    from keyturn.operations import backups

    facts, kept = backups.restore(session.settings(), file, replace=yes)
    if as_json:
        terminal.emit(
            {"restored": str(facts.path), "connections": facts.connections, "kept": str(kept or "")}
        )
        return
    terminal.say(f"Restored {facts.connections} connections from {facts.path}.")
    if kept:
        terminal.say(f"The database that was there is kept at {kept}.")
    terminal.say(
        "Credentials rotated after that backup are not in it: run `keyturn test` on each connection."
    )

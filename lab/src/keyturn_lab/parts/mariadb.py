"""A private MariaDB server on a free loopback port, its general log on, and the users a rotation needs.

Source: providers sheet MySQL and MariaDB sections 4 and 10, run on MariaDB 10.11, checked 2026-11-23.
"""

import glob
import hashlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from keyturn_lab.guard import LOOPBACK, mint

from .child import Child, PartMissing, free_port, scratch_directory

ROOT = "root"


@dataclass(frozen=True)
class User:
    name: str
    password: str = field(repr=False)
    host: str = "%"

    @property
    def account(self) -> str:
        return f"{quote(self.name)}@{quote(self.host)}"


@dataclass(frozen=True)
class TwoUsers:
    """The alternating pair: `active` can log in, `idle` is locked; both act with the default role `role`."""

    role: str
    active: User
    idle: str


class MariaDBServer:
    """`with MariaDBServer() as server: pymysql.connect(**server.login(user))`. All is thrown away at the end."""

    def __init__(
        self, *, port: int | None = None, max_connections: int = 200, options: dict[str, str] | None = None
    ):
        self.host = LOOPBACK
        self.port = port or free_port()
        self.root = User(ROOT, mint("mysql_password"), "localhost")
        self._settings = {
            "bind-address": LOOPBACK,
            "port": str(self.port),
            "max-connections": str(max_connections),
            "general-log": "1",
            "skip-name-resolve": "1",
            "skip-log-bin": "1",
            "innodb-flush-log-at-trx-commit": "0",
            "innodb-buffer-pool-size": "32M",
            "performance-schema": "0",
            "plugin-load-add": "auth_ed25519",
            **(options or {}),
        }
        self._child: Child | None = None

    def start(self) -> Self:
        """Makes and starts the server.

        Raises: PartMissing when no server binaries are found, PartFailed when they do not start.
        """
        server, installer = find_binaries()
        self._account = _unprivileged_user()
        # Socket paths have a limit of 107 bytes, so the directory is kept short.
        base = scratch_directory("my", self._account)
        os.chmod(base, 0o755)
        self.socket, self.general_log = base / "s.sock", base / "general.log"
        try:
            self._install(installer, base)
        except BaseException:
            shutil.rmtree(base, ignore_errors=True)
            raise
        argv = [str(server), "--no-defaults", f"--datadir={base / 'data'}", f"--socket={self.socket}"]
        argv += [f"--pid-file={base / 'pid'}", f"--general-log-file={self.general_log}", f"--tmpdir={base}"]
        argv += [f"--{name}={value}" for name, value in self._settings.items()]
        if os.geteuid() == 0 and not self._account:
            argv.append("--user=root")
        self._child = Child(argv, log_path=base / "log", user=self._account, remove=base)
        self._child.wait_until(lambda: "ready for connections" in self._child.read_log() and self._answers())
        self._secure()
        return self

    def _install(self, installer: Path, base: Path) -> None:
        argv = [str(installer), "--no-defaults", f"--datadir={base / 'data'}"]
        argv += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        owner: dict[str, Any] = {}
        if self._account:
            account = pwd.getpwnam(self._account)
            owner = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        # In a folder shared with another installation each clears away the other's temporary tables.
        environment = {**os.environ, "TMPDIR": str(base)}
        made = subprocess.run(
            argv, cwd="/", env=environment, capture_output=True, text=True, check=False, **owner
        )
        if made.returncode:
            raise PartMissing(f"{installer.name} failed: {(made.stderr or made.stdout).strip()[-1500:]}")

    def _answers(self) -> bool:
        import pymysql

        with suppress(pymysql.err.MySQLError):
            pymysql.connect(unix_socket=str(self.socket), user=ROOT, ssl_disabled=True).close()
            return True
        return False

    def _secure(self) -> None:
        """Root gets a password before anything else: it starts without one."""
        import pymysql

        with pymysql.connect(
            unix_socket=str(self.socket), user=ROOT, ssl_disabled=True, autocommit=True
        ) as session:
            cursor = session.cursor()
            cursor.execute("DELETE FROM mysql.global_priv WHERE user = 'root' AND host <> 'localhost'")
            cursor.execute("FLUSH PRIVILEGES")
            cursor.execute(
                f"ALTER USER {self.root.account} IDENTIFIED BY PASSWORD {quote(native_hash(self.root.password))}"
            )

    def stop(self) -> None:
        if self._child:
            self._child.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def login(self, user: User, **more: Any) -> dict[str, Any]:
        """What `pymysql.connect` needs for this user over TCP."""
        return {
            "host": self.host,
            "port": self.port,
            "user": user.name,
            "password": user.password,
            "ssl_disabled": True,
            **more,
        }

    def read_log(self) -> str:
        """Every statement as the server wrote it down."""
        return self.general_log.read_text(errors="replace") if self.general_log.exists() else ""

    @contextmanager
    def connect(self, database: str | None = None) -> Iterator[Any]:
        """An autocommitting session of root; `execute` it."""
        import pymysql

        session = pymysql.connect(
            unix_socket=str(self.socket),
            user=ROOT,
            password=self.root.password,
            database=database,
            autocommit=True,
            ssl_disabled=True,
        )
        with session, session.cursor() as cursor:
            yield cursor

    def run(self, *statements: str) -> None:
        with self.connect() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def create_user(self, name: str, host: str = "%", plugin: str = "mysql_native_password") -> User:
        """A plain login user, as a customer's application has it."""
        user = User(name, mint("mysql_password"), host)
        # The server works the ed25519 key out by itself: here a password in its log hurts nobody.
        native = plugin == "mysql_native_password"
        stored = quote(native_hash(user.password)) if native else f"PASSWORD({quote(user.password)})"
        self.run(f"CREATE USER {user.account} IDENTIFIED VIA {plugin} USING {stored}")
        return user

    def create_rotator(self, name: str = "rotator") -> User:
        """The rights the sheet asks for and no more."""
        user = self.create_user(name)
        self.run(
            f"GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO {user.account}",
            f"GRANT SELECT ON mysql.global_priv TO {user.account}",
        )
        return user

    def two_user_setup(self, prefix: str = "app", database: str = "mysql_app") -> TwoUsers:
        """The alternating pair: one role holds the grants and is the default role of both; `idle` holds no password."""
        active = self.create_user(f"{prefix}_a")
        idle, role = User(f"{prefix}_b", ""), f"{prefix}_role"
        self.run(
            f"CREATE DATABASE IF NOT EXISTS `{database}`",
            f"CREATE ROLE {quote(role)}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON `{database}`.* TO {quote(role)}",
            f"CREATE USER {idle.account} IDENTIFIED VIA mysql_native_password USING 'invalid' ACCOUNT LOCK",
            *(f"GRANT {quote(role)} TO {each.account}" for each in (active, idle)),
            *(f"SET DEFAULT ROLE {quote(role)} FOR {each.account}" for each in (active, idle)),
        )
        return TwoUsers(role, active, idle.name)

    def accepts(self, user: User) -> bool:
        """Whether an ordinary client gets in with exactly this password now; another failure than a no is raised."""
        import pymysql

        try:
            pymysql.connect(**self.login(user)).close()
        except pymysql.err.OperationalError as refusal:
            if refusal.args[0] in {1045, 4151}:
                return False
            raise
        return True

    def alive(self) -> list[dict[str, Any]]:
        """The oracle: see `list_users`."""
        return list_users(str(self.socket), self.root.password)


def list_users(socket: str, root_password: str) -> list[dict[str, Any]]:
    """Every password some account takes now, one line each; the value itself is known to nobody here."""
    import pymysql

    session = pymysql.connect(unix_socket=socket, user=ROOT, password=root_password, ssl_disabled=True)
    with session, session.cursor() as cursor:
        cursor.execute(
            "SELECT user, host, JSON_VALUE(priv,'$.authentication_string'), JSON_QUERY(priv,'$.auth_or'),"
            " (SELECT count(*) FROM information_schema.processlist p WHERE p.user = g.user)"
            " FROM mysql.global_priv g WHERE JSON_VALUE(priv,'$.is_role') IS NULL"
            " AND coalesce(JSON_VALUE(priv,'$.account_locked'), 0) = 0 AND user <> 'root' ORDER BY 1, 2"
        )
        rows = cursor.fetchall()
    return [
        {
            "id": f"{user}@{host}",
            "kind": "user",
            "owner": user,
            "value": "",
            "sha256": "",
            "facts": {"verifier": stored, "sessions": sessions},
        }
        for user, host, first, others, sessions in rows
        for stored in _entries(first, others)
    ]


def _entries(first: str | None, others: str | None) -> list[str]:
    import json

    found = [first or "", *(each.get("authentication_string", "") for each in json.loads(others or "[]"))]
    return [stored for stored in found if stored not in {"", "invalid"}]


def find_binaries() -> tuple[Path, Path]:
    """`mariadbd` and `mariadb-install-db`, from PATH or where Debian puts them. Raises: PartMissing."""
    places = os.pathsep.join(
        [os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin", "/usr/libexec", "/usr/local/sbin"]
    )
    places += "".join(os.pathsep + each for each in sorted(glob.glob("/opt/mariadb*/bin")))
    server, installer = shutil.which("mariadbd", path=places), shutil.which("mariadb-install-db", path=places)
    if not server or not installer:
        raise PartMissing(
            "no MariaDB server binaries: install the Debian package `mariadb-server`"
            " (apt-get install --no-install-recommends mariadb-server)"
        )
    return Path(server), Path(installer)


def _unprivileged_user() -> str | None:
    """The account to run the server as; None when we are not root, whom MariaDB refuses without being told."""
    if os.geteuid() != 0:
        return None
    for name in ("mysql", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return None


def native_hash(password: str) -> str:
    """What `mysql_native_password` stores, so that the password itself never reaches a log."""
    return "*" + hashlib.sha1(hashlib.sha1(password.encode()).digest()).hexdigest().upper()


def quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"

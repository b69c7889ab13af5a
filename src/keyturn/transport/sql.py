"""The only door to PostgreSQL for connectors: fresh logins, pooled administrator sessions, errors in our words.

Speaks libpq directly (`psycopg.pq`). Measured at 8 threads on two cores, login and identity query: this file
0.4 ms of CPU, `psycopg.connect` 0.65 ms, and `PGconn.connect` keeps the interpreter locked while it waits.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import hmac
import os
import re
import select
import shutil
import ssl
import stat
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from psycopg import pq

from keyturn import boundary
from keyturn.contract.values import NetworkPolicy
from keyturn.errors import (
    Conflict,
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    NotPermitted,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.secret import Secret
from keyturn.transport import ssrf

SSLMODES = ("verify-full", "verify-ca", "require", "prefer", "disable")
Row = tuple[str | None, ...]

_OK, _FAILED, _READING = pq.PollingStatus.OK, pq.PollingStatus.FAILED, pq.PollingStatus.READING
_VERBOSE = 2  # PQERRORS_VERBOSE


@dataclass(frozen=True)
class Login:
    """Where to log in, as whom, and how long it may take altogether.

    `keys` are the SCRAM client and server key of `password`: libpq then skips 2.7 ms of hashing under the interpreter
    lock. The caller derives them from the same value as `password` (see connectors/postgresql/scram_memo.py).
    `ca` is the PEM text of the authority to trust; empty means this machine's.
    """

    host: str
    port: int
    database: str
    user: str
    password: Secret
    sslmode: str = "verify-full"
    ca: str = field(default="", repr=False)
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    deadline_s: float = 10.0
    keys: tuple[bytes, bytes] | None = field(default=None, repr=False)


class Session:
    """One logged-in session. Not for two threads at once. Everything ends before `until` (monotonic seconds)."""

    def __init__(self, conn: pq.abc.PGconn, host: str, until: float) -> None:
        self._conn = conn
        self._escape = pq.Escaping(conn)
        self._poll = select.poll()
        self._poll.register(conn.socket, select.POLLIN)
        self._host = host
        self.until = until
        self.broken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_superuser(self) -> bool:
        """Whether the server said at login that this role is a superuser; costs nothing."""
        return self._conn.parameter_status(b"is_superuser") == b"on"

    @property
    def server_version(self) -> int:
        """150018 for 15.18."""
        return self._conn.server_version

    def compose(self, template: str, *names: str, **literals: str) -> str:
        """Puts identifiers at `{0}`, `{1}` and string literals at `{word}`, each escaped by libpq for this session."""
        quoted = [self._escape.escape_identifier(n.encode()) for n in names]
        values = {k: self._escape.escape_literal(v.encode()) for k, v in literals.items()}
        return template.format(
            *(bytes(q).decode() for q in quoted), **{k: bytes(v).decode() for k, v in values.items()}
        )

    def query(self, statement: str, *params: str) -> list[Row]:
        """One read; values are bound to `$1`, `$2`. Raises: PermissionMissing, VendorUnavailable and the rest."""
        self._send(lambda: self._conn.send_query_params(statement.encode(), _bound(params)), changes=False)
        return _rows(self._checked(self._results(changes=False), changes=False, right="")[-1])

    def read_only(self, *statements: str) -> list[list[Row]]:
        """Several reads in one round trip inside a read-only transaction that is rolled back.

        Each text must be a single statement: the server refuses `SELECT 1; DROP ...` here, so a query that a person
        typed cannot do more than read.
        """
        conn = self._conn

        def send() -> None:
            conn.enter_pipeline_mode()
            for text in ("BEGIN READ ONLY", *statements, "ROLLBACK"):
                conn.send_query_params(text.encode(), None)
            conn.pipeline_sync()

        self._send(send, changes=False)
        try:
            found = self._pipelined(len(statements) + 2)
        finally:
            self.broken = True  # a proof's session is used once; nothing is worth bringing it back in order
        return [_rows(result) for result in self._checked(found, changes=False, right="")[1:-1]]

    def change(self, *statements: str, right: str = "") -> list[list[Row]]:
        """All statements in one transaction and one round trip; returns each one's rows.

        `right` is the vendor's name for what the statements need, told when the server says 42501.
        The server's own statement_timeout ends just before our deadline, so that a lock wait becomes a definite
        "nothing changed" and no forgotten statement takes effect later. SET LOCAL, because a plain SET would outlive
        us in a transaction pooler.
        Raises: OutcomeUnknown when the answer is lost after sending.
        """
        left_ms = max(int((self.until - time.monotonic()) * 900), 1)
        text = ";".join(("BEGIN", f"SET LOCAL statement_timeout={left_ms}", *statements, "COMMIT"))
        self._send(lambda: self._conn.send_query(text.encode()), changes=True)
        results = self._results(changes=True)
        try:
            self._checked(results, changes=True, right=right)
        except KeyturnError:
            self._roll_back()
            raise
        if results[-1].command_status != b"COMMIT" or len(results) != len(statements) + 3:
            self.broken = True
            raise OutcomeUnknown(f"{self._host} did not confirm the change", host=self._host)
        return [_rows(result) for result in results[2:-1]]

    def is_usable(self) -> bool:
        """Whether the session is idle and the server has said nothing: a farewell or a closed socket is readable."""
        return (
            not self.broken
            and self._conn.transaction_status == pq.TransactionStatus.IDLE
            and not self._poll.poll(0)
        )

    def close(self) -> None:
        """Ends the session; twice is fine."""
        self.broken = True
        self._conn.finish()

    def _send(self, send: Callable[[], None], *, changes: bool) -> None:
        boundary.leaving(self._host)
        try:
            self._conn.nonblocking = 1
            send()
            while self._conn.flush():
                self._wait(select.POLLIN | select.POLLOUT, changes=changes)
                self._conn.consume_input()
        except _library_error():
            raise self._lost(changes=changes) from None

    def _results(self, *, changes: bool) -> list[pq.abc.PGresult]:
        found = []
        while (result := self._next(changes=changes)) is not None:
            found.append(result)
        return found

    def _pipelined(self, count: int) -> list[pq.abc.PGresult]:
        found: list[pq.abc.PGresult] = []
        while len(found) < count:
            while (result := self._next(changes=False)) is not None:
                found.append(result)
                if result.status == pq.ExecStatus.FATAL_ERROR:
                    return found
        return found

    def _next(self, *, changes: bool) -> pq.abc.PGresult | None:
        try:
            while self._conn.is_busy():
                self._wait(select.POLLIN, changes=changes)
                self._conn.consume_input()
            return self._conn.get_result()
        except _library_error():
            raise self._lost(changes=changes) from None

    def _wait(self, events: int, *, changes: bool) -> None:
        self._poll.modify(self._conn.socket, events)
        left = self.until - time.monotonic()
        try:
            ready = left > 0 and self._poll.poll(left * 1000)
        finally:
            if events != select.POLLIN:
                self._poll.modify(self._conn.socket, select.POLLIN)
        if not ready:
            raise self._lost(changes=changes, network="timeout")

    def _lost(self, *, changes: bool, network: str = "lost") -> KeyturnError:
        self.close()  # at once: a session that may still be working must never be used again
        words = "did not answer in time" if network == "timeout" else "closed the connection"
        if changes:
            return OutcomeUnknown(
                f"{self._host} {words}",
                hint="The change may have happened; the server is looked at first.",
                host=self._host,
                code=network,
            )
        return VendorUnavailable(f"{self._host} {words}", host=self._host, code=network)

    def _checked(
        self, results: Sequence[pq.abc.PGresult], *, changes: bool, right: str
    ) -> Sequence[pq.abc.PGresult]:
        for result in results:
            if result.status in {pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED}:
                raise self._refused(result, changes=changes, right=right)
        if not results:
            raise self._lost(changes=changes)
        return results

    def _refused(self, result: pq.abc.PGresult, *, changes: bool, right: str) -> KeyturnError:
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        severity = result.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) or b"ERROR"
        if not state or severity != b"ERROR":
            return self._lost(changes=changes)  # FATAL: whether the commit went through first is not known
        said = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode("utf-8", "replace")
        detail = (result.error_field(pq.DiagnosticField.MESSAGE_DETAIL) or b"").decode("utf-8", "replace")
        return _statement_error(state, said, detail, self._host, right)

    def _roll_back(self) -> None:
        """Brings a session back after a refused statement; when that fails it is dropped."""
        if self.broken or self._conn.transaction_status == pq.TransactionStatus.IDLE:
            return
        try:
            self._send(lambda: self._conn.send_query(b"ROLLBACK"), changes=False)
            self._results(changes=False)
        except KeyturnError:
            self.close()


def login(params: Login) -> Session:
    """A fresh session, never a pooled one: what it proves, it proves now.

    Raises: CredentialRejected only for 28P01 and for a role without LOGIN, with the SQLSTATE in `facts['code']`;
    VendorUnavailable, VendorThrottled, PermissionMissing, InvalidInput, UnexpectedAnswer for everything that says
    nothing about the password. All carry `facts['code']`.
    """
    boundary.leaving(params.host)
    until = time.monotonic() + params.deadline_s
    _check(params)
    target = ssrf.Target("postgresql", params.host, params.port, "")
    try:
        found = ssrf.addresses(target, params.network)
    except VendorUnavailable as error:
        raise VendorUnavailable(error.message, hint=error.hint, host=params.host, code="dns") from None
    for index, address in enumerate(found):
        left = len(found) - index
        share = time.monotonic() + (until - time.monotonic()) / left
        try:
            return _connect(params, address, share, until)
        except VendorUnavailable as error:
            if left == 1 or error.facts.get("code") not in {"timeout", "refused", "unreachable"}:
                raise
    # unreachable: ssrf.addresses answers with at least one
    raise VendorUnavailable(f"{params.host} has no address", host=params.host, code="dns")


def _connect(params: Login, address: str, share: float, until: float) -> Session:
    conn = pq.PGconn.connect_start(_conninfo(params, address))
    if conn.status == pq.ConnStatus.BAD:  # nothing was sent
        raise _login_error(conn, params)
    _tell_sqlstate(conn)
    waiting: int = pq.PollingStatus.WRITING
    poll = select.poll()
    while True:
        socket = conn.socket
        poll.register(socket, select.POLLIN if waiting == _READING else select.POLLOUT)
        left = share - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            conn.finish()
            raise VendorUnavailable(
                f"{params.host} did not answer in time",
                hint="Check the address and the firewall in between.",
                host=params.host,
                code="timeout",
            )
        poll.unregister(socket)  # libpq may go on with another socket
        waiting = conn.connect_poll()
        if waiting == _OK:
            return Session(conn, params.host, until)
        if waiting == _FAILED:
            raise _login_error(conn, params)


# --- administrator sessions ------------------------------------------------------------------------------------------

IDLE_S = 60.0
LIFE_S = 600.0
PER_LOGIN = 8  # sessions at one server as one role: administrators share a server with everybody else
_Key = tuple[Any, ...]


@dataclass
class _Shelf:
    idle: list[tuple[Session, float, float]] = field(default_factory=list)  # session, born, idle since
    out: int = 0


class _Pool:
    """Sessions by (server, role, fingerprint of the password): a rotated password never meets an old session."""

    def __init__(self) -> None:
        self._shelves: dict[_Key, _Shelf] = {}
        self._changed = threading.Condition()
        self._reaper: threading.Timer | None = None
        self._pepper = os.urandom(32)

    @contextmanager
    def session(self, params: Login) -> Iterator[Session]:
        boundary.leaving(params.host)
        until = time.monotonic() + params.deadline_s
        key = self._key(params)
        taken, born = self._take(key, params, until)
        try:
            taken = taken or login(params)
            taken.until = until
            yield taken
        finally:
            self._give_back(key, taken, born)

    def close(self) -> None:
        """Ends every idle session."""
        self._reap(everything=True)

    def _key(self, params: Login) -> _Key:
        print_ = hmac.digest(self._pepper, params.password.reveal().encode(), "sha256")
        return (params.host, params.port, params.user, params.database, params.sslmode, params.ca, print_)

    def _take(self, key: _Key, params: Login, until: float) -> tuple[Session | None, float]:
        with self._changed:
            shelf = self._shelves.setdefault(key, _Shelf())
            while shelf.out >= PER_LOGIN:
                if not self._changed.wait(max(until - time.monotonic(), 0)):
                    raise VendorUnavailable(
                        f"all administrator sessions at {params.host} are busy", host=params.host, code="busy"
                    )
                shelf = self._shelves.setdefault(key, _Shelf())
            shelf.out += 1
            found, born = None, time.monotonic()
            while shelf.idle and found is None:
                found, born, since = shelf.idle.pop()
                if not found.is_usable() or _is_stale(born, since):
                    found.close()
                    found, born = None, time.monotonic()
            return found, born

    def _give_back(self, key: _Key, taken: Session | None, born: float) -> None:
        with self._changed:
            shelf = self._shelves[key]
            shelf.out -= 1
            if taken is not None and taken.is_usable():
                shelf.idle.append((taken, born, time.monotonic()))
                self._schedule()
            elif taken is not None:
                taken.close()
            self._changed.notify_all()

    def _schedule(self) -> None:
        if self._reaper is None:
            self._reaper = threading.Timer(IDLE_S, self._reap)
            self._reaper.daemon = True
            self._reaper.start()

    def _reap(self, *, everything: bool = False) -> None:
        with self._changed:
            if self._reaper is not None:
                self._reaper.cancel()
            self._reaper = None
            for key, shelf in list(self._shelves.items()):
                stale = [e for e in shelf.idle if everything or _is_stale(e[1], e[2])]
                for entry in stale:
                    shelf.idle.remove(entry)
                    entry[0].close()
                if not shelf.idle and not shelf.out:
                    del self._shelves[key]
            if any(shelf.idle for shelf in self._shelves.values()):
                self._schedule()


def _is_stale(born: float, since: float) -> bool:
    now = time.monotonic()
    return now - since >= IDLE_S or now - born >= LIFE_S


_pool = _Pool()


@contextmanager
def admin(params: Login) -> Iterator[Session]:
    """A session of an administrator, reused between calls and threads. Never for a proof: it proves only the pool.

    Raises: like `login`, and VendorUnavailable when all sessions stay busy until the deadline.
    """
    with _pool.session(params) as session:
        yield session


def close_idle() -> None:
    """Ends every pooled session that nobody uses: at shutdown, and after an administrator was rotated."""
    _pool.close()


# --- how we connect --------------------------------------------------------------------------------------------------


def _check(params: Login) -> None:
    if params.sslmode not in SSLMODES:
        raise InvalidInput(
            f"sslmode {params.sslmode!r} is not known", hint=f"Use {', '.join(SSLMODES)}.", field="sslmode"
        )
    if params.sslmode in {"prefer", "disable"} and not params.network.allows(params.host, params.port):
        raise NotPermitted(
            f"sslmode {params.sslmode} to {params.host} is refused: the connection could be read on the way",
            hint="Use verify-full, or let the operator open this host in the network policy.",
            host=params.host,
        )
    if params.sslmode == "verify-ca" and not params.ca:
        raise InvalidInput(
            "verify-ca needs the authority's certificate",
            hint="Give `ca`, or use verify-full.",
            field="ca",
        )
    if not params.password.reveal():
        raise UnexpectedAnswer(
            "there is no password to log in with", hint="PostgreSQL never accepts an empty one.", code="empty"
        )
    for name in ("host", "database", "user"):
        if not getattr(params, name):
            raise InvalidInput(f"{name} is missing", field=name)
    if "\0" in params.host + params.database + params.user + params.password.reveal():
        raise InvalidInput("a NUL character cannot be part of a login", field="user")


def _conninfo(params: Login, address: str) -> bytes:
    # Cleartext passwords go only to a server that has proven its name. `none` is never allowed: a server that asks
    # for no password (a `trust` line in pg_hba.conf) accepts every value, so a login there proves nothing.
    methods = "scram-sha-256,md5" + (",password" if params.sslmode == "verify-full" else "")
    named = {
        "host": params.host,
        "hostaddr": address,
        "port": str(params.port),
        "dbname": params.database,
        "user": params.user,
        "password": params.password.reveal(),
        "sslmode": params.sslmode,
        "sslrootcert": _authority(params.ca) if params.sslmode.startswith("verify") else "",
        "sslcertmode": "disable",
        "require_auth": methods,
        "tcp_user_timeout": str(max(int(params.deadline_s * 1000), 1)),
    }
    if params.keys is not None and "scram_client_key" in _keywords():
        named["scram_client_key"], named["scram_server_key"] = (b64encode(k).decode() for k in params.keys)
    return " ".join(f"{k}={_quoted(v)}" for k, v in named.items() if k in _keywords()).encode() + _tail()


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@functools.cache
def _keywords() -> frozenset[str]:
    return frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())


@functools.cache
def _tail() -> bytes:
    """Every other option, written out, so that no PG* variable, service or password file has a say."""
    ours = {
        "application_name": "keyturn",
        "client_encoding": "UTF8",
        "passfile": "/dev/null/none",  # /dev/null itself makes libpq print a warning at each login
        "gssencmode": "disable",
        "min_protocol_version": "3.0",
        "max_protocol_version": "3.0",
        "keepalives": "1",
        "keepalives_idle": "15",
        "keepalives_interval": "5",
        "keepalives_count": "3",
    }
    named = {"host", "hostaddr", "port", "dbname", "user", "password", "service", "sslmode", "sslrootcert"}
    named |= {"sslcertmode", "require_auth", "tcp_user_timeout"}
    rest = {
        option.keyword.decode(): (option.compiled or b"").decode()
        for option in pq.Conninfo.get_defaults()
        if option.envvar and option.keyword.decode() not in named | {"connect_timeout"}
    }
    settings = {**rest, **{k: v for k, v in ours.items() if k in _keywords()}}
    return "".join(f" {k}={_quoted(v)}" for k, v in settings.items()).encode()


_authorities = threading.Lock()
_folder: list[str] = []  # one, private to this process


def _authority(pem: str) -> str:
    """A file with the authorities to trust: libpq takes nothing else."""
    if not pem.strip():
        return _system_authorities()
    name = hashlib.sha256(pem.encode()).hexdigest()[:32] + ".pem"
    with _authorities:
        if not _folder or not _is_ours(_folder[0]):  # machines clean old files out of their temporary folder
            _folder[:] = [tempfile.mkdtemp(prefix="keyturn-ca-")]
            atexit.register(shutil.rmtree, _folder[0], ignore_errors=True)
        path = os.path.join(_folder[0], name)
        if not os.path.exists(path):
            with open(path, "w", encoding="ascii", errors="replace") as file:
                file.write(pem)
    return path


def _is_ours(folder: str) -> bool:
    """Whether the folder is still the private one we made: whoever owns it chooses whom we trust."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


@functools.cache
def _system_authorities() -> str:
    found = ssl.get_default_verify_paths().cafile
    usual = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
    return next((path for path in (found, *usual) if path and os.path.exists(path)), "system")


@functools.cache
def _library() -> Any:
    """The libpq that psycopg loaded, found through psycopg's own extension; None where that is not possible.

    psycopg does not expose PQsetErrorVerbosity, and without it a refused login has no SQLSTATE, only a text in the
    server's language. `lc_messages` does not help: only superusers may set it, and it would apply after the login.
    """
    try:
        library = ctypes.PyDLL(sys.modules[pq.PGconn.__module__].__file__)
        library.PQsetErrorVerbosity.argtypes = [ctypes.c_void_p, ctypes.c_int]
        library.PQsetErrorVerbosity.restype = ctypes.c_int
    except (OSError, AttributeError, TypeError, KeyError):
        return None
    return library


def _tell_sqlstate(conn: Any) -> None:
    library = _library()
    if library is not None:
        library.PQsetErrorVerbosity(conn.pgconn_ptr, _VERBOSE)


@functools.cache
def _library_error() -> type[Exception]:
    from psycopg import Error

    return Error


def _bound(params: Sequence[str]) -> list[bytes | None]:
    return [value.encode() for value in params]


def _rows(result: pq.abc.PGresult) -> list[Row]:
    return [
        tuple(
            None if (value := result.get_value(row, column)) is None else bytes(value).decode()
            for column in range(result.nfields)
        )
        for row in range(result.ntuples)
    ]


# --- what the server says, in our words ------------------------------------------------------------------------------

_STATE = re.compile(r"failed: [^\n]*?:  ([0-9A-Z]{5}): ")
# Without a SQLSTATE (an old libpq): the English texts, which PostgreSQL has not changed since version 8.
_TEXTS = (
    ("password authentication failed", "28P01"),
    ("is not permitted to log in", "28000"),
    ("no pg_hba.conf entry", "28000"),
    ("permission denied for database", "42501"),
    ("too many connections", "53300"),
    ("too many clients", "53300"),
    ("remaining connection slots", "53300"),
    ("the database system is starting", "57P03"),
    ("the database system is shutting", "57P03"),
    ("the database system is not accepting", "57P03"),
)
_NO_DATABASE = re.compile(r'database "[^\n]*" does not exist')
_LOCAL = (  # libpq's own words, before or instead of an answer
    ("did not complete authentication", "trust"),
    ("authentication method requirement", "method"),
    ("Connection refused", "refused"),
    ("timeout expired", "timeout"),
    ("Connection timed out", "timeout"),
    ("certificate", "tls"),
    ("SSL", "tls"),
    ("server closed the connection", "lost"),
    ("Connection reset", "lost"),
)


def _login_error(conn: pq.abc.PGconn, params: Login) -> KeyturnError:
    text = conn.error_message.decode("utf-8", "replace")
    conn.finish()
    code = _code(text)
    # LOCATION names the C function that refused, in no language: the role exists and the password fits, but no LOGIN.
    if code == "28000" and ("InitializeSessionUserId" in text or "is not permitted to log in" in text):
        return CredentialRejected(
            f"role {params.user} is not permitted to log in",
            hint=f"ALTER ROLE {params.user} LOGIN.",
            code=code,
            host=params.host,
        )
    return _LOGIN_ERRORS.get(code, _unreachable)(code, params)


def _code(text: str) -> str:
    if found := _STATE.search(text):
        return found[1]
    for words, code in _TEXTS:
        if words in text:
            return code
    if _NO_DATABASE.search(text):
        return "3D000"
    return next((code for words, code in _LOCAL if words in text), "unreachable")


def _wrong_password(code: str, params: Login) -> KeyturnError:
    return CredentialRejected(
        f"password authentication failed for role {params.user}",
        hint="PostgreSQL does not tell a wrong password, an unknown role, a passed VALID UNTIL and no password apart.",
        code=code,
        host=params.host,
    )


def _not_let_in(code: str, params: Login) -> KeyturnError:
    return PermissionMissing(
        f"{params.host} has no pg_hba.conf entry that lets role {params.user} into {params.database} from here",
        hint="Add a `hostssl ... scram-sha-256` line for this machine's address and reload the server.",
        right="pg_hba.conf entry",
        code=code,
        host=params.host,
    )


def _no_connect(code: str, params: Login) -> KeyturnError:
    return PermissionMissing(
        f"role {params.user} may not connect to database {params.database}",
        hint=f"GRANT CONNECT ON DATABASE {params.database} TO {params.user};",
        right="CONNECT",
        code=code,
        host=params.host,
    )


def _no_database(code: str, params: Login) -> KeyturnError:
    return InvalidInput(
        f"database {params.database} does not exist at {params.host}",
        hint="Check the database's name.",
        field="database",
        code=code,
        host=params.host,
    )


def _full(code: str, params: Login) -> KeyturnError:
    return VendorThrottled(
        f"{params.host} has no free connection for role {params.user}",
        hint="Raise the role's CONNECTION LIMIT or the server's max_connections, or close unused sessions.",
        code=code,
        host=params.host,
    )


def _not_ready(code: str, params: Login) -> KeyturnError:
    return VendorUnavailable(f"{params.host} is starting or shutting down", code=code, host=params.host)


def _asks_nothing(code: str, params: Login) -> KeyturnError:
    return UnexpectedAnswer(
        f"{params.host} lets role {params.user} in without asking for the password, so no test means anything",
        hint="A line in pg_hba.conf says trust (or peer, cert) for this login: make it scram-sha-256.",
        code=code,
        host=params.host,
    )


def _other_method(code: str, params: Login) -> KeyturnError:
    return UnexpectedAnswer(
        f"{params.host} asks for an authentication method that is not safe here",
        hint="scram-sha-256 and md5 are used; a clear password is sent only under sslmode verify-full.",
        code=code,
        host=params.host,
    )


def _tls(code: str, params: Login) -> KeyturnError:
    return VendorUnavailable(
        f"no TLS connection to {params.host} that sslmode {params.sslmode} accepts",
        hint="Check that the server speaks TLS and that `ca` is the authority of its certificate.",
        code=code,
        host=params.host,
    )


def _unreachable(code: str, params: Login) -> KeyturnError:
    words = {"refused": "refused the connection", "lost": "closed the connection"}
    message = f"{params.host} {words.get(code, 'could not be reached')}"
    return VendorUnavailable(message, hint="Check host, port and firewall.", code=code, host=params.host)


_LOGIN_ERRORS: dict[str, Callable[[str, Login], KeyturnError]] = {
    "28P01": _wrong_password,
    "28000": _not_let_in,
    "42501": _no_connect,
    "3D000": _no_database,
    "53300": _full,
    "57P01": _not_ready,
    "57P03": _not_ready,
    "trust": _asks_nothing,
    "method": _other_method,
    "tls": _tls,
}


def _statement_error(state: str, said: str, detail: str, host: str, right: str) -> KeyturnError:
    """A refused statement: its transaction was undone, so nothing changed.

    The server's words are shown only for states whose text holds names; a syntax error could quote a verifier.
    """
    facts = {"code": state, "host": host}
    if state == "42501":
        needed = right or "a privilege"
        return PermissionMissing(
            f"{said or 'permission denied'}", hint=f"Needed: {needed}.", right=needed, **facts
        )
    if state in {"42704", "3D000", "42P01", "42883"}:
        return NotFound(said or "the object does not exist", **facts)
    if state in {"42710", "2BP01"}:
        return Conflict(said or "it is in use", hint=detail, **facts)
    if state in {"22023", "28P01"}:
        return ValueRefused("the server refused the value", hint="A password policy may be at work.", **facts)
    if state == "25006":
        return InvalidInput(
            f"{host} is a read-only replica", hint="Give the primary's address.", field="host", **facts
        )
    if state == "53300":
        return VendorThrottled(f"{host} has no free connection", **facts)
    # 57014: our statement_timeout or a cancel. XX000 with ALTER ROLE is "tuple concurrently updated": a race, lost.
    if state[:2] in {"40", "53", "55", "57"} or state == "XX000":
        return VendorUnavailable(f"{host} did not carry the statement out ({state})", **facts)
    return UnexpectedAnswer(f"{host} refused the statement ({state})", **facts)

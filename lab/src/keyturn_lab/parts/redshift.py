"""Redshift's side of the wire: a proxy that speaks its peculiarities in front of a real PostgreSQL of its own.

What is real: logins, md5 passwords, VALID UNTIL, sessions, transactions, privileges. What the proxy adds: server 8.0.2, no
TLS, 28000 for a refused login, the driver's own startup options, PASSWORD DISABLE, the rules for a password in clear text,
sha256 passwords with Redshift's own authentication request 13, stv_sessions, and 55006 for a user that owns something.
Not modelled, as nothing of ours asks for them: temporary credentials (`IAM:` users) and the Data API.
Source: providers sheet Redshift sections 3, 4, 6 and 10; judged by redshift_connector unmodified; checked 2026-11-23.
"""

import gc
import hashlib
import re
import secrets
import socket
import struct
import threading
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from keyturn_lab.guard import LOOPBACK, mint

from .postgres import PostgresCluster, _format, _quote, list_roles

_SSL_REQUEST, _GSS_REQUEST, _CANCEL = 80877103, 80877104, 80877102
_OWN_OPTIONS = {
    b"client_protocol_version", b"driver_version", b"os_version", b"driver_discovery_version",
    b"plugin_name", b"idp_type", b"provider_name",
}  # fmt: skip
_CODES = {b"28P01": b"28000", b"2BP01": b"55006"}
_PASSWORD = re.compile(r"(?is)\bPASSWORD\s+(DISABLE|'(?:[^']|'')*')")
_USER = re.compile(r'(?is)\b(?:ALTER|CREATE)\s+USER\s+("(?:[^"]|"")+"|\w+)')
_PLAIN = re.compile(r"""^(?=.*[A-Z])(?=.*[a-z])(?=.*[0-9])[!-~]{8,64}$""")
_NOT_PLAIN = re.compile(r"""['"\\/@ ]""")


@dataclass(frozen=True)
class User:
    name: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class TwoUsers:
    """The alternating pair: `active` can log in, `idle` holds no password; both are in `group`."""

    group: str
    active: User
    idle: str


@dataclass(frozen=True)
class _Sha256:
    digest: str
    salt: str
    upstream: str


class RedshiftServer:
    """`with RedshiftServer() as server: redshift_connector.connect(**server.login(user))`."""

    def __init__(self, *, port: int | None = None):
        self.host = LOOPBACK
        self._wanted_port = port or 0
        self.statements: list[str] = []  # what Redshift would keep in STL_DDLTEXT and its audit log
        self._sha256: dict[str, _Sha256] = {}
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def start(self) -> Self:
        """Starts the cluster behind and the proxy. Raises: PartMissing, PartFailed."""
        self.cluster = PostgresCluster(max_connections=80, options={"password_encryption": "md5"}).start()
        hba = self.cluster.log_path.parent / "data" / "pg_hba.conf"
        hba.write_text(
            f"host all all {LOOPBACK}/32 md5\n"
        )  # what is stored decides: md5, or the superuser's SCRAM
        with self.cluster.connect() as session:
            session.execute("SELECT pg_reload_conf()")
            session.execute(
                "CREATE VIEW public.stv_sessions AS SELECT backend_start AS starttime, pid AS process,"
                " rpad(usename::text, 50)::char(50) AS user_name, rpad(datname::text, 50)::char(50) AS db_name"
                " FROM pg_stat_activity WHERE usename = current_user"
                " OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
            )
            session.execute("GRANT SELECT ON public.stv_sessions TO PUBLIC")
        self._listener = socket.create_server((LOOPBACK, self._wanted_port))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def stop(self) -> None:
        self._listener.close()
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self.cluster.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def dsn(self) -> str:
        """The cluster behind, as its superuser: for the oracle."""
        return self.cluster.dsn()

    def login(self, user: User, **more: Any) -> dict[str, Any]:
        """What `redshift_connector.connect` needs for this user."""
        place = {"host": self.host, "port": self.port, "database": "postgres", "ssl": False, "timeout": 10}
        return {**place, "user": user.name, "password": user.password, **more}

    def run(self, *statements: str) -> None:
        """As the cluster's owner, past the proxy."""
        with self.cluster.connect() as session:
            for statement in statements:
                session.execute(statement)

    def create_user(self, name: str, *, superuser: bool = False) -> User:
        user = User(name, mint("redshift_password") + "Aa1")
        kind = "SUPERUSER" if superuser else "NOSUPERUSER"
        stored = _quote("md5" + hashlib.md5((user.password + name).encode()).hexdigest())
        self.run(_format(f"CREATE USER {{}} {kind} PASSWORD {stored}", name))
        return user

    def two_user_setup(self, prefix: str = "etl") -> TwoUsers:
        """The alternating pair: one group holds the grants of both."""
        active, idle, group = self.create_user(f"{prefix}_a"), f"{prefix}_b", f"{prefix}_group"
        self.run(
            _format("CREATE USER {} PASSWORD NULL VALID UNTIL '1971-01-01'", idle),
            _format("CREATE GROUP {}", group),
            *(_format("ALTER GROUP {} ADD USER {}", group, name) for name in (active.name, idle)),
        )
        return TwoUsers(group, active, idle)

    def accepts(self, user: User) -> bool:
        """Whether Amazon's own driver gets in with exactly this password now; another failure than a no is raised."""
        if self._driver_enters(user):
            return True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()  # after a refusal the driver leaves its socket to the garbage collector
        return False

    def _driver_enters(self, user: User) -> bool:
        import redshift_connector

        try:
            redshift_connector.connect(**self.login(user)).close()
        except redshift_connector.error.InterfaceError as refusal:
            if refusal.args and isinstance(refusal.args[0], dict) and refusal.args[0].get("C") == "28000":
                return False
            raise
        return True

    def alive(self) -> list[dict[str, Any]]:
        """The oracle: see `list_roles`."""
        return list_roles(self.dsn)

    # -- the proxy -------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._quietly, args=(client,), daemon=True).start()

    def _quietly(self, client: socket.socket) -> None:
        upstream = socket.create_connection((self.cluster.host, self.cluster.port), 10)
        upstream.settimeout(None)
        with self._lock:
            self._open |= {client, upstream}
        try:
            with client, upstream, suppress(OSError, EOFError, struct.error):
                self._serve(client, upstream)
        finally:
            with self._lock:
                self._open -= {client, upstream}

    def _serve(self, client: socket.socket, upstream: socket.socket) -> None:
        body = _startup(client)
        if body is None:
            return
        (code,) = struct.unpack("!I", body[:4])
        if code == _CANCEL:
            upstream.sendall(struct.pack("!I", len(body) + 4) + body)
            return
        words = body[4:].rstrip(b"\0").split(b"\0")
        options = dict(zip(words[::2], words[1::2], strict=False))
        kept = b"".join(k + b"\0" + v + b"\0" for k, v in options.items() if k not in _OWN_OPTIONS)
        upstream.sendall(struct.pack("!II", len(kept) + 9, code) + kept + b"\0")
        name = options.get(b"user", b"").decode()
        digest = self._sha256.get(name)
        if digest is not None and not self._digest_login(client, upstream, name, digest):
            return
        back = threading.Thread(target=self._back, args=(upstream, client), daemon=True)
        back.start()
        while True:
            kind, said = _message(client)
            try:
                kind, said = self._statement(kind, said)
            except ValueError as refusal:
                client.sendall(_error(str(refusal), b"22023", b"ERROR"))
                while kind not in {b"Q", b"S"}:  # after an error in a Parse everything up to Sync is left out
                    kind, _ = _message(client)
                client.sendall(_packed(b"Z", b"I"))
                continue
            upstream.sendall(_packed(kind, said))

    def _back(self, upstream: socket.socket, client: socket.socket) -> None:
        with suppress(OSError, EOFError):
            while True:
                kind, said = _message(upstream)
                client.sendall(_packed(kind, _answer(kind, said)))
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _digest_login(self, client: socket.socket, upstream: socket.socket, name: str, kept: _Sha256) -> bool:
        """Authentication request 13: the proxy is the server here, and logs in behind with a secret of its own."""
        nonce = secrets.token_hex(8).encode()
        salt = kept.salt.encode()
        ask = struct.pack("!III", 13, 0, len(salt)) + salt + struct.pack("!I", len(nonce)) + nonce
        client.sendall(_packed(b"R", ask))
        kind, said = _message(client)
        size = struct.unpack("!I", said[:4])[0] if kind == b"d" else 0
        digest, rest = said[4 : 4 + size], said[4 + size :]
        theirs = rest[4:] if len(rest) >= 4 else b""
        wanted = hashlib.sha256(bytes.fromhex(kept.digest) + nonce + theirs).digest()
        if kind != b"d" or not secrets.compare_digest(digest, wanted):
            client.sendall(_error(f'password authentication failed for user "{name}"', b"28000", b"FATAL"))
            return False
        kind, said = _message(upstream)
        if kind == b"R" and said[:4] == struct.pack("!I", 5):
            inner = hashlib.md5((kept.upstream + name).encode()).hexdigest().encode()
            word = b"md5" + hashlib.md5(inner + said[4:8]).hexdigest().encode()
            upstream.sendall(_packed(b"p", word + b"\0"))
        return True

    def _statement(self, kind: bytes, said: bytes) -> tuple[bytes, bytes]:
        """A Query or Parse as PostgreSQL understands it. Raises: ValueError with Redshift's refusal."""
        if kind not in {b"Q", b"P"}:
            return kind, said
        head, text, tail = b"", said, b""
        if kind == b"P":
            name, _, rest = said.partition(b"\0")
            text, _, tail = rest.partition(b"\0")
            head, tail = name + b"\0", b"\0" + tail
        sql = text.rstrip(b"\0").decode()
        self.statements.append(sql)
        found, named = _PASSWORD.search(sql), _USER.search(sql)
        if found and named:
            user = named[1].strip('"').replace('""', '"').lower()
            sql = sql[: found.start(1)] + self._password(user, found[1]) + sql[found.end(1) :]
        changed = sql.encode()
        return kind, head + changed + (tail if kind == b"P" else b"\0")

    def _password(self, user: str, literal: str) -> str:
        if literal.upper() == "DISABLE":
            self._sha256.pop(user, None)
            return "NULL"
        value = literal[1:-1].replace("''", "'")
        if value.startswith("sha256|"):
            parts = value.split("|")
            if len(parts) == 2:
                salt = secrets.token_hex(8)
                parts = ["sha256", hashlib.sha256((parts[1] + salt).encode()).hexdigest(), salt]
            if len(parts) != 3 or not re.fullmatch(r"[0-9a-f]{64}", parts[1]):
                raise ValueError("sha256 password is malformed")
            kept = _Sha256(parts[1], parts[2], secrets.token_hex(16))
            self._sha256[user] = kept
            return _quote("md5" + hashlib.md5((kept.upstream + user).encode()).hexdigest())
        self._sha256.pop(user, None)
        if re.fullmatch(r"md5[0-9a-f]{32}", value):
            return literal
        if not _PLAIN.match(value) or _NOT_PLAIN.search(value):
            raise ValueError(
                "password does not meet the rules: 8 to 64 characters, upper and lower case and a digit"
            )
        return literal


def _startup(client: socket.socket) -> bytes | None:
    """The startup packet without its length; encryption is refused, as on a cluster without it."""
    while True:
        (size,) = struct.unpack("!I", _exactly(client, 4))
        if not 8 <= size <= 10_000:
            return None
        body = _exactly(client, size - 4)
        if struct.unpack("!I", body[:4])[0] not in {_SSL_REQUEST, _GSS_REQUEST}:
            return body
        client.sendall(b"N")


def _answer(kind: bytes, said: bytes) -> bytes:
    if kind == b"S" and said.startswith(b"server_version\0"):
        return b"server_version\0" + b"8.0.2\0"
    if kind == b"E":
        for ours, theirs in _CODES.items():
            said = said.replace(b"\0C" + ours + b"\0", b"\0C" + theirs + b"\0")
    return said


def _error(text: str, code: bytes, severity: bytes) -> bytes:
    return _packed(
        b"E", b"S" + severity + b"\0V" + severity + b"\0C" + code + b"\0M" + text.encode() + b"\0\0"
    )


def _packed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _message(peer: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(peer, 5)
    return head[:1], _exactly(peer, struct.unpack("!I", head[1:])[0] - 4)


def _exactly(peer: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = peer.recv(min(size - len(data), 65_536))
        if not more:
            raise EOFError
        data += more
    return bytes(data)

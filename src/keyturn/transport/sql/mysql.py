"""The only door to MySQL and MariaDB for connectors: fresh logins, guarded sessions, errors in our words.

PyMySQL speaks the protocol. Ours are the socket (resolved once, a public address or one the operator opened), a deadline
over the whole call instead of one per read, TLS that is never silently left out, and the methods of authentication that
may be used: PyMySQL would answer a server that asks for the password in clear text with the password.
"""

from __future__ import annotations

import functools
import select
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Self

import pymysql
from pymysql import _auth
from pymysql.connections import Connection
from pymysql.constants import CLIENT, CR, SERVER_STATUS

from keyturn import boundary
from keyturn.errors import (
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    OutcomeUnknown,
    VendorUnavailable,
)
from keyturn.transport import ssrf
from keyturn.transport.sql import mariadb_ed25519
from keyturn.transport.sql import mysql_words as words
from keyturn.transport.sql.conninfo import Login, check

Row = tuple[str | None, ...]
_MAX_PACKET_BYTES = 4 * 1024 * 1024
_MAX_BYTES = 16 * 1024 * 1024  # of one session: nothing we ask for comes near
_NATIVE, _CACHING, _ED25519 = "mysql_native_password", "caching_sha2_password", "client_ed25519"


def login(params: Login) -> Session:
    """A fresh session, never a pooled one: what it proves, it proves now.

    Raises: CredentialRejected only for 1045 and for a locked account (4151, 3118); VendorUnavailable, VendorThrottled,
    PermissionMissing, InvalidInput, UnexpectedAnswer for everything that says nothing about the password. All carry
    `facts['code']`.
    """
    boundary.leaving(params.host)
    until = time.monotonic() + params.deadline_s
    check(params, needed=("host", "user"))
    try:
        found = ssrf.addresses(ssrf.Target("mysql", params.host, params.port, ""), params.network)
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
    wire = _Wire(params, share)
    try:
        wire.connect(_dial(address, params.port, share))
    except words.Broken as broken:
        raise words.broken_login(broken.code, params) from None
    except pymysql.err.MySQLError as error:
        if error.args[:1] == (CR.CR_SSL_CONNECTION_ERROR,):
            raise words.broken_login("tls", params) from None
        refused = words.login_error(words.code_of(error), params)
    except KeyturnError:
        raise
    except Exception:
        raise words.broken_login("protocol", params) from None
    else:
        wire.until = until
        return Session(wire, params.host)
    if isinstance(refused, CredentialRejected) and wire.offers_tls and params.sslmode == "disable":
        # 1045 is also what an account that requires TLS says to the right password: ask once more, the safer way.
        _connect(replace(params, sslmode="require"), address, share, until).close()
        raise words.broken_login("needs_tls", params)
    raise refused


def _dial(address: str, port: int, until: float) -> socket.socket:
    try:
        dialled = socket.create_connection((address, port), max(until - time.monotonic(), 0.001))
    except TimeoutError:
        raise words.Broken("timeout") from None
    except ConnectionRefusedError:
        raise words.Broken("refused") from None
    except OSError:
        raise words.Broken("unreachable") from None
    dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    dialled.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return dialled


class Session:
    """One logged-in session. Not for two threads at once. Everything ends before `until` (monotonic seconds)."""

    def __init__(self, wire: _Wire, host: str) -> None:
        self._wire = wire
        self._host = host

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_mariadb(self) -> bool:
        """MariaDB says so in its version, whatever a proxy puts in front of it."""
        return "mariadb" in self._wire.server_version.lower()

    @property
    def version(self) -> tuple[int, ...]:
        """(10, 11, 19) or (8, 0, 36); (0,) when the server's text holds no number."""
        text = (
            self._wire.server_version.removeprefix("5.5.5-") if self.is_mariadb else self._wire.server_version
        )
        numbers = []
        for part in text.split("-")[0].split("."):
            if not part.isdecimal():
                break
            numbers.append(int(part))
        return tuple(numbers) or (0,)

    @property
    def product(self) -> str:
        """For messages: `MariaDB 10.11.19`."""
        return f"{'MariaDB' if self.is_mariadb else 'MySQL'} {'.'.join(map(str, self.version))}"

    @property
    def connection_id(self) -> int:
        """The server's number of this session; later sessions have higher ones."""
        return int(self._wire.server_thread_id[0])

    @property
    def plugin(self) -> str:
        """The method by which the server checked our password, by its client name."""
        return self._wire.used

    @property
    def is_encrypted(self) -> bool:
        """Whether the session runs over TLS."""
        return bool(self._wire._secure)  # noqa: SLF001 - PyMySQL has no other word for it

    def compose(self, template: str, **literals: str) -> str:
        """Puts string literals at `{word}`, each quoted for this session's sql_mode. Raises: InvalidInput for a NUL."""
        return template.format(**{name: self._quoted(text) for name, text in literals.items()})

    def query(self, statement: str) -> list[Row]:
        """One read. Raises: PermissionMissing, VendorUnavailable and the rest."""
        return self._run(statement, changes=False, right="")

    def read_only(self, statement: str) -> list[Row]:
        """One statement a person typed, in a session that from here on can only read.

        The server refuses everything that writes (1792), and a second statement behind a semicolon, as the protocol's
        multi-statement mode stays off. The whole session is made read-only: inside a single read-only transaction DDL
        would end that transaction and go through (seen on MariaDB 10.11).
        """
        self.query("SET SESSION TRANSACTION READ ONLY")
        return self.query(statement)

    def change(self, statement: str, *, right: str = "") -> None:
        """One statement that changes accounts; each is atomic per account and takes effect at once.

        `right` is the vendor's name for what it needs. The lock wait ends before our deadline, so that it becomes a
        definite "nothing changed" and no forgotten statement takes effect later.
        Raises: OutcomeUnknown when the answer is lost after sending.
        """
        left = max(int(self._wire.until - time.monotonic()), 1)
        self._run(f"SET SESSION lock_wait_timeout={left}", changes=False, right="")
        self._run(statement, changes=True, right=right)

    def kill(self, number: int, *, right: str) -> None:
        """Ends another session; one that is gone already counts as done. Raises: PermissionMissing."""
        try:
            self._run(f"KILL {number}", changes=False, right=right)
        except NotFound:
            return

    def close(self) -> None:
        """Ends the session; twice is fine."""
        with suppress(Exception):
            self._wire._force_close()  # noqa: SLF001 - `close` would wait for a peer that may be silent

    def _quoted(self, text: str) -> str:
        # In UTF-8 no other character holds the byte of a quote or a backslash.
        if "\0" in text:
            raise InvalidInput("a NUL character cannot be part of a name or value", field="user")
        text = text.replace("'", "''")
        if not self._wire.server_status & SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES:
            text = text.replace("\\", "\\\\")
        return f"'{text}'"

    def _run(self, statement: str, *, changes: bool, right: str) -> list[Row]:
        boundary.leaving(self._host)
        try:
            self._wire.query(statement)
            result = self._wire._result  # noqa: SLF001 - a cursor adds nothing but state
            return [_texts(row) for row in (result.rows or ())] if result is not None else []
        except words.Broken as broken:
            raise self._lost(broken.code, changes=changes) from None
        except pymysql.err.MySQLError as error:
            code = words.code_of(error)
            # Killed or shut down in the middle: whether the statement had its effect first is not known.
            if code is None or code in words.CUT_OFF:
                raise self._lost("lost", changes=changes) from None
            raise words.statement_error(code, str(error.args[1]), self._host, right) from None
        except Exception:
            raise self._lost("protocol", changes=changes) from None

    def _lost(self, code: str, *, changes: bool) -> KeyturnError:
        self.close()  # at once: a session that may still be working must never be used again
        said = "did not answer in time" if code == "timeout" else "closed the connection"
        if changes:
            return OutcomeUnknown(
                f"{self._host} {said}",
                hint="The change may have happened; the server is looked at first.",
                host=self._host,
                code=code,
            )
        return VendorUnavailable(f"{self._host} {said}", host=self._host, code=code)


def _texts(row: Sequence[Any]) -> Row:
    return tuple(
        None
        if value is None
        else value.decode("utf-8", "replace")
        if isinstance(value, bytes)
        else str(value)
        for value in row
    )


class _Wire(Connection):  # type: ignore[misc]  # PyMySQL has no types
    """PyMySQL's protocol over a socket of ours."""

    ctx: Any
    _auth_plugin_name: str

    def __init__(self, params: Login, until: float) -> None:
        plain = params.sslmode == "disable"
        # Who may see the password itself: a server that has proven its name, or a host the operator opened.
        self.may_see = params.sslmode.startswith("verify") or params.network.allows(params.host, params.port)
        self.until = until
        self.used = ""
        self.offers_tls = False
        self._seen_bytes = 0
        handlers = {_CACHING: _Caching, _ED25519: _Ed25519, _NATIVE: _Native}
        super().__init__(
            host=params.host,
            port=params.port,
            user=params.user,
            password=params.password.reveal().encode(),
            database=params.database or None,
            charset="utf8mb4",
            autocommit=True,
            defer_connect=True,
            program_name="keyturn",
            conv={},
            auth_plugin_map={name.encode(): handler for name, handler in handlers.items()},
            **({"ssl_disabled": True} if plain else {"ssl": _context(params.sslmode, params.ca)}),
        )
        self._ssl_required = not plain and params.sslmode != "prefer"
        if not plain:
            self.ctx = _Handshake(self, self.ctx)

    def _get_server_information(self) -> None:
        super()._get_server_information()
        self.offers_tls = bool(self.server_capabilities & CLIENT.SSL)
        if (
            not self.server_capabilities & CLIENT.PLUGIN_AUTH
            or not self.server_capabilities & CLIENT.PROTOCOL_41
        ):
            raise words.Broken("method")
        if self._auth_plugin_name not in {_NATIVE, _CACHING}:
            # Begin with a method that gives nothing away; the server asks for another one if it wants it.
            self._auth_plugin_name = _NATIVE
        self.used = self._auth_plugin_name

    def _process_auth(self, plugin_name: bytes, auth_packet: Any, handler: Any = None) -> Any:
        if handler is None:
            raise words.Broken("method")
        self.used = plugin_name.decode("ascii", "replace")
        return handler.authenticate(auth_packet)

    def _read_bytes(self, num_bytes: int) -> bytes:
        self._seen_bytes += num_bytes
        if num_bytes > _MAX_PACKET_BYTES or self._seen_bytes > _MAX_BYTES:
            self._force_close()
            raise words.Broken("protocol")
        data = bytearray()
        while len(data) < num_bytes:
            # Exactly what is missing, never more: bytes sent ahead of the TLS handshake must not count as inside it.
            more = self._within(partial(self._sock.recv, min(num_bytes - len(data), 65_536)))
            if not more:
                self._force_close()
                raise words.Broken("lost")
            data += more
        return bytes(data)

    def _write_bytes(self, data: bytes) -> None:
        self._within(partial(self._sock.sendall, data))

    def _within(self, act: Any) -> Any:
        left = self.until - time.monotonic()
        try:
            if left <= 0 or self._sock is None:
                raise TimeoutError
            self._sock.settimeout(left)
            return act()
        except TimeoutError:
            self._force_close()
            raise words.Broken("timeout") from None
        except OSError:
            self._force_close()
            raise words.Broken("lost") from None


class _Handler:
    """One method of authentication; `authenticate` gets the server's request and gives its last packet."""

    def __init__(self, wire: _Wire) -> None:
        self.wire = wire

    def _answer(self, data: bytes) -> Any:
        self.wire.write_packet(data)
        packet = self.wire._read_packet()  # noqa: SLF001 - PyMySQL's own handlers do the same
        packet.check_error()
        return packet


class _Native(_Handler):
    def authenticate(self, packet: Any) -> Any:
        if not packet.is_auth_switch_request():
            raise words.Broken("protocol")
        return self._answer(_auth.scramble_native_password(self.wire.password, _salt(packet)))


class _Ed25519(_Handler):
    def authenticate(self, packet: Any) -> Any:
        if not packet.is_auth_switch_request():
            raise words.Broken("protocol")
        return self._answer(mariadb_ed25519.sign(self.wire.password, _salt(packet, 32)))


class _Caching(_Handler):
    def authenticate(self, packet: Any) -> Any:
        if packet.is_auth_switch_request():
            self.wire.salt = _salt(packet)
            packet = self._answer(_auth.scramble_caching_sha2(self.wire.password, self.wire.salt))
        if not packet.is_extra_auth_data():
            return packet
        packet.advance(1)
        step = packet.read_uint8()
        if step == 3:
            return self.wire._read_packet()  # noqa: SLF001
        if not self.wire.may_see:
            raise words.Broken("method")
        if self.wire._secure:  # noqa: SLF001
            return self._answer(self.wire.password + b"\0")
        key = self._answer(b"\x02")._data[1:]  # noqa: SLF001 - the server's RSA key
        return self._answer(_auth.sha2_rsa_encrypt(self.wire.password, self.wire.salt, bytes(key)))


def _salt(packet: Any, size: int = 20) -> bytes:
    if packet._data[:1] == b"\xfe" and packet._position == 0:  # noqa: SLF001
        packet.read_uint8()
        packet.read_string()
    return bytes(packet.read_all())[:size]


class _Handshake:
    """What PyMySQL calls to wrap its socket: a TLS handshake that ends in time."""

    def __init__(self, wire: _Wire, context: ssl.SSLContext) -> None:
        self._wire, self._context = wire, context

    def wrap_socket(self, plain: socket.socket, server_hostname: str) -> ssl.SSLSocket:
        try:
            tls = self._context.wrap_socket(
                plain, server_hostname=server_hostname, do_handshake_on_connect=False
            )
        except (ValueError, OSError):
            raise words.Broken("tls") from None
        self._wire._sock = tls  # noqa: SLF001 - from here on closing means closing this one
        tls.setblocking(False)
        while True:
            try:
                tls.do_handshake()
                return tls
            except ssl.SSLWantReadError:
                self._wait(tls, select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(tls, select.POLLOUT)
            except (ssl.SSLError, OSError):
                raise words.Broken("tls") from None

    def _wait(self, tls: ssl.SSLSocket, events: int) -> None:
        poll = select.poll()
        poll.register(tls, events)
        left = self._wire.until - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise words.Broken("timeout")


@functools.lru_cache(maxsize=64)
def _context(sslmode: str, ca: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=ca or None)
    except (ssl.SSLError, ValueError):
        raise InvalidInput(
            "ca is not a certificate in PEM form", hint="Paste the authority's certificate.", field="ca"
        ) from None
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # what these servers make for themselves is not strict
    context.check_hostname = sslmode == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if sslmode.startswith("verify") else ssl.CERT_NONE
    return context

"""One login to SAP HANA: guarded address, one deadline over the whole conversation, bounded answers, no pool.

The SQL command network protocol, as much of it as a login, a statement and one text cell need. It is spoken here and
not through SAP's driver because only so the address can be pinned and the deadline cover every read.
Source: SAP HANA SQL Command Network Protocol Reference and SAP/go-hdb, checked 2026-11-23; run against SAP's hdbcli
2.30.27 as the counterpart of the lab's stand-in.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from keyturn import boundary
from keyturn.contract.values import NetworkPolicy
from keyturn.errors import (
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    PermissionMissing,
    UnexpectedAnswer,
    VendorUnavailable,
)
from keyturn.transport import ssrf

_HELLO = bytes.fromhex("ffffffff 04 0014 04 0001 00 01 01 01")
_WELCOME_BYTES, _HEAD_BYTES, _SEGMENT_BYTES, _PART_BYTES = 8, 32, 24, 16
_MOST_BYTES = 1_000_000
_AUTHENTICATE, _CONNECT, _EXECUTE, _DISCONNECT = 65, 66, 2, 77
_COMMAND, _RESULT, _ERROR, _AUTH, _CLIENT_ID, _OPTIONS, _COLUMNS = 3, 5, 6, 33, 35, 42, 48
_COMPRESSED = 0x02
_MOST_ROUNDS = 2_000_000  # a server that asks for more wants to keep us busy
_TEXT_TYPES = frozenset(
    {8, 9, 10, 11, 29, 30, 36, 37}
)  # CHAR to NVARCHAR, STRING, NSTRING, VARCHAR2, ALPHANUM
# Complete array execution, distribution protocol off, select for update off, split batches, data format 1.
_OUR_OPTIONS = (
    (2, 28, b"\1"),
    (17, 28, b"\0"),
    (14, 28, b"\0"),
    (18, 28, b"\1"),
    (23, 3, struct.pack("<i", 1)),
)
_WORDS = {
    258: "the user lacks a privilege",
    259: "the table or view does not exist or is hidden",
    412: "the password does not meet the policy",
    413: "one of the last passwords cannot be used again",
    414: "the user must change the password first",
    415: "the user is deactivated: its initial password lapsed",
    416: "the user is locked after too many refused logins",
}


@dataclass(frozen=True)
class Login:
    """Who logs in where. `tls` off works only for hosts that the operator opened. Prints without the password."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    deadline_s: float = 15.0
    tls: bool = True


class Session:
    """A conversation after its login."""

    def __init__(self, line: _Line) -> None:
        self._line = line

    def run(self, statement: str) -> None:
        """A statement without a result that matters. Raises: PermissionMissing, VendorUnavailable with `code`."""
        self._line.ask(_EXECUTE, (_COMMAND, 1, _cesu8(statement)))

    def text(self, statement: str) -> str:
        """The first cell of the first row, which has to be text; empty when there is no row. Raises: UnexpectedAnswer."""
        parts = self._line.ask(_EXECUTE, (_COMMAND, 1, _cesu8(statement)))
        columns, result = parts.get(_COLUMNS), parts.get(_RESULT)
        if columns is None or result is None or len(columns[1]) < 2:
            raise self._line.odd("without a result")
        if columns[1][1] not in _TEXT_TYPES:
            raise self._line.odd("with a column that is not text")
        if result[0] == 0:
            return ""
        try:
            return _field(result[1], 0)[0].decode("utf-8", "replace")
        except (struct.error, IndexError):
            raise self._line.odd("with a damaged row") from None


@contextmanager
def login(params: Login, network: NetworkPolicy) -> Iterator[Session]:
    """A fresh session, closed at the end.

    Raises: CredentialRejected (code 10, the documented no), PermissionMissing, VendorUnavailable and UnexpectedAnswer
    with what the server said as `code`; InvalidInput and NotPermitted before anything is sent.
    """
    if "\0" in params.user + params.password:
        raise InvalidInput("user and password cannot hold a null character", field="password")
    scheme = "https" if params.tls else "http"
    host = f"[{params.host}]" if ":" in params.host else params.host
    target = ssrf.target(f"{scheme}://{host}:{params.port}/", network)
    pinned = ssrf.addresses(target, network)
    boundary.leaving(target.host)
    line = _Line(target.host, time.monotonic() + params.deadline_s)
    try:
        line.dial(pinned, target.port, tls=params.tls)
        _enter(line, params.user, params.password)
        yield Session(line)
        with suppress(KeyturnError):
            line.ask(_DISCONNECT)
    finally:
        line.close()


def _enter(line: _Line, user: str, password: str) -> None:
    """SCRAM: the password itself never leaves. Raises: CredentialRejected."""
    ours = os.urandom(64)
    methods = (b"SCRAMPBKDF2SHA256", ours, b"SCRAMSHA256", ours)
    parts = line.ask(_AUTHENTICATE, (_AUTH, 1, _fields(_cesu8(user), *methods)))
    try:
        method, challenge = _unfield(parts[_AUTH][1])
        inner = _unfield(challenge)
        salt, theirs = inner[:2]
        if method == b"SCRAMPBKDF2SHA256":
            (rounds,) = struct.unpack(">I", inner[2])
            if not 1 <= rounds <= _MOST_ROUNDS:
                raise line.odd("with an absurd challenge")
            salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
        elif method == b"SCRAMSHA256":
            salted = hmac.digest(password.encode(), salt, "sha256")
        else:
            raise line.odd("with a login method we did not offer")
    except (KeyError, ValueError, IndexError, struct.error):
        raise line.odd("with a damaged challenge") from None
    key = hashlib.sha256(salted).digest()
    signature = hmac.digest(hashlib.sha256(key).digest(), salt + theirs + ours, "sha256")
    proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    options = b"".join(struct.pack("<bb", key_, kind) + value for key_, kind, value in _OUR_OPTIONS)
    parts = line.ask(
        _CONNECT,
        (_AUTH, 1, _fields(_cesu8(user), method, _fields(proof))),
        (_CLIENT_ID, 1, b"keyturn"),
        (_OPTIONS, len(_OUR_OPTIONS), options),
    )
    if _AUTH not in parts or line.session == 0:
        raise line.odd("without a session")


class _Line:
    """The socket: one deadline over everything, whole messages in and out."""

    def __init__(self, host: str, deadline: float) -> None:
        self._host, self._deadline = host, deadline
        self._socket: socket.socket | None = None
        self._count = 0
        self.session = 0

    def dial(self, pinned: tuple[str, ...], port: int, *, tls: bool) -> None:
        problem = "refused"
        for address in pinned:
            try:
                self._socket = socket.create_connection((address, port), timeout=self._left())
                break
            except TimeoutError:
                problem = "timeout"
            except OSError:
                continue
        if self._socket is None:
            raise self._down(problem)
        if tls:
            try:
                self._socket.settimeout(self._left())
                self._socket = ssl.create_default_context().wrap_socket(
                    self._socket, server_hostname=self._host
                )
            except TimeoutError:
                raise self._down("timeout") from None
            except (OSError, ValueError):
                raise self._down("tls") from None
        self._send(_HELLO)
        self._receive(_WELCOME_BYTES)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def ask(self, kind: int, *parts: tuple[int, int, bytes]) -> Mapping[int, tuple[int, bytes]]:
        """One message and its reply's parts by kind, each with its argument count. Raises what the server refuses with."""
        body = b"".join(_part(*part) for part in parts)
        segment = (
            struct.pack("<iihhbbbb8x", _SEGMENT_BYTES + len(body), 0, len(parts), 1, 1, kind, 1, 0) + body
        )
        size = len(segment)
        self._send(struct.pack("<qiIIhb9x", self.session, self._count, size, size, 1, 0) + segment)
        self._count += 1
        head = self._receive(_HEAD_BYTES)
        session, _, length, _, segments, flags = struct.unpack("<qiIIhb9x", head)
        if segments != 1 or flags & _COMPRESSED or not _SEGMENT_BYTES <= length <= _MOST_BYTES:
            raise self.odd("with a malformed message")
        found = self._parts(self._receive(length))
        self.session = session or self.session
        return found

    def _parts(self, data: bytes) -> dict[int, tuple[int, bytes]]:
        _, _, count, _, kind = struct.unpack_from("<iihhb", data)
        found: dict[int, tuple[int, bytes]] = {}
        at = _SEGMENT_BYTES
        try:
            for _ in range(count):
                part, _, arguments, many, length, _ = struct.unpack_from("<bbhiii", data, at)
                at += _PART_BYTES
                if length < 0 or at + length > len(data):
                    raise self.odd("with a malformed part")
                found[part] = (many if arguments == -1 else arguments, data[at : at + length])
                at += (length + 7) // 8 * 8
        except struct.error:
            raise self.odd("with a malformed part") from None
        if kind == 5 or _ERROR in found:
            raise self._refusal(found.get(_ERROR, (0, b""))[1])
        if kind != 2:
            raise self.odd("with something that is no reply")
        return found

    def _refusal(self, data: bytes) -> KeyturnError:
        """Only the number is told: the server's words may name users and tables."""
        if len(data) < 4:
            return self.odd("with a damaged error")
        (code,) = struct.unpack_from("<i", data)
        facts: dict[str, Any] = {"host": self._host, "code": str(code)}
        if code == 10:
            return CredentialRejected(
                "authentication failed", hint="Check the user and its password.", **facts
            )
        words = _WORDS.get(code, f"the server refused with error {code}")
        if code in {258, 259}:
            return PermissionMissing(words, right="privilege on the object", **facts)
        return VendorUnavailable(words, **facts)

    def _send(self, data: bytes) -> None:
        try:
            self._open.settimeout(self._left())
            self._open.sendall(data)
        except TimeoutError:
            raise self._down("timeout") from None
        except OSError:
            raise self._down("reset") from None

    def _receive(self, wanted: int) -> bytes:
        data = bytearray()
        while len(data) < wanted:
            try:
                self._open.settimeout(self._left())
                piece = self._open.recv(min(wanted - len(data), 65_536))
            except TimeoutError:
                raise self._down("timeout") from None
            except OSError:
                raise self._down("reset") from None
            if not piece:
                raise self._down("reset")
            data += piece
        return bytes(data)

    @property
    def _open(self) -> socket.socket:
        if self._socket is None:  # unreachable: dial comes first
            raise self._down("refused")
        return self._socket

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._down("timeout")
        return left

    def _down(self, kind: str) -> VendorUnavailable:
        words = {
            "refused": "refused the connection",
            "timeout": "did not answer in time",
            "tls": "failed the TLS check",
            "reset": "dropped the connection",
        }[kind]
        hint = "Check host and port, and whether this hub's address is on the IP allow list."
        return VendorUnavailable(f"{self._host} {words}", hint=hint, host=self._host, code=kind)

    def odd(self, how: str) -> UnexpectedAnswer:
        return UnexpectedAnswer(f"{self._host} answered {how}", host=self._host, code="protocol")


def _part(kind: int, arguments: int, data: bytes) -> bytes:
    return struct.pack("<bbhiii", kind, 0, arguments, 0, len(data), 0) + data + b"\0" * (-len(data) % 8)


def _fields(*values: bytes) -> bytes:
    return struct.pack("<H", len(values)) + b"".join(_sized(each) for each in values)


def _sized(value: bytes) -> bytes:
    if len(value) <= 245:
        return bytes([len(value)]) + value
    return b"\xf6" + struct.pack("<H", len(value)) + value


def _unfield(data: bytes) -> list[bytes]:
    (count,) = struct.unpack_from("<H", data)
    found, at = [], 2
    for _ in range(count):
        value, at = _field(data, at)
        found.append(value)
    return found


def _field(data: bytes, at: int) -> tuple[bytes, int]:
    """A length-prefixed value and where the next one begins. 255 is null in a row and a big-endian length in a login."""
    first = data[at]
    at += 1
    if first == 246:
        (size,) = struct.unpack_from("<h", data, at)
        at += 2
    elif first == 247:
        (size,) = struct.unpack_from("<i", data, at)
        at += 4
    elif first > 247:
        return b"", at
    else:
        size = first
    if size < 0 or at + size > len(data):
        raise IndexError(size)
    return data[at : at + size], at + size


def _cesu8(text: str) -> bytes:
    """HANA's encoding: like UTF-8, but characters beyond the basic plane as two surrogates."""
    wide = text.encode("utf-16-le", "surrogatepass")
    units = struct.unpack(f"<{len(wide) // 2}H", wide)
    return "".join(chr(unit) for unit in units).encode("utf-8", "surrogatepass")

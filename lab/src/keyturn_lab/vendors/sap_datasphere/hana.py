"""The HANA end of the wire: SCRAM logins and the few statements that a rotation and its consumers send.

Layout as run against hdbcli 2.30.27 (2026-11-23); everything is little-endian.
"""

import hashlib
import hmac
import ipaddress
import itertools
import re
import secrets
import socket
import ssl
import struct
import tempfile
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keyturn_lab import guard
from keyturn_lab.quirks import Kind
from keyturn_lab.vendors.sap_datasphere.state import DbUser, Refused, Tenant

AUTHENTICATE, CONNECT, EXECUTE, DISCONNECT = 65, 66, 2, 77
COMMAND, RESULT, ERROR, ROWS_AFFECTED, RESULT_ID, AUTH, OPTIONS, COLUMNS = 3, 5, 6, 12, 13, 33, 42, 48
LAST_AND_CLOSED = 0x11
ROUNDS = 15_000
_SESSIONS = itertools.count(1001)
_ALTER = re.compile(r'ALTER USER "?([^"\s]+)"? PASSWORD "((?:[^"]|"")*)"\s*$', re.IGNORECASE)
_COUNT = re.compile(
    r'^SELECT TO_VARCHAR\(COUNT\(\*\)\) FROM \(SELECT 1 AS ONE FROM "([^"]+)"\."([^"]+)" LIMIT ([0-9]+)\)$'
)
_INTO = re.compile(r'^INSERT INTO "([^"]+)"\."([^"]+)" SELECT \* FROM "\1"\."\2" WHERE 1 = 0$')


class SqlServer:
    """Listens on loopback for the tenant's database, on one port plain and on one with TLS; `authority` is a PEM text."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._context, self.authority = _certified()
        self.port, self.tls_port = (self._listen(tls=tls) for tls in (False, True))

    def _listen(self, *, tls: bool) -> int:
        listener = socket.create_server((guard.LOOPBACK, 0))
        threading.Thread(target=self._accept, args=(listener, tls), daemon=True).start()
        port: int = listener.getsockname()[1]
        return port

    def _accept(self, listener: socket.socket, tls: bool) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._quietly, args=(peer, tls), daemon=True).start()

    def _quietly(self, peer: socket.socket, tls: bool) -> None:
        with suppress(OSError, struct.error, IndexError, ValueError), peer:
            peer.settimeout(60)
            if not self._tenant.settings.is_address_allowed:
                return
            if not tls:
                Conversation(self._tenant, peer).run()
                return
            with self._context.wrap_socket(peer, server_side=True) as secure:
                Conversation(self._tenant, secure).run()


class Conversation:
    """One client, from its greeting to its farewell."""

    def __init__(self, tenant: Tenant, peer: socket.socket) -> None:
        self._tenant, self._peer = tenant, peer
        self._salt, self._challenge = secrets.token_bytes(16), secrets.token_bytes(48)
        self._name, self._method, self._theirs = "", b"", b""
        self._user: DbUser | None = None
        self._epoch = 0
        self._session = 0

    def run(self) -> None:
        self._read(14)
        self._peer.sendall(struct.pack("<bHbHh", 2, 0, 4, 1, 0))
        while True:
            head = self._read(32)
            _, count, length = struct.unpack_from("<qiI", head)
            kind, parts = _request(self._read(length))
            fault = self._tenant.quirks.take("sql_login") if kind == CONNECT else None
            if fault is not None and fault.kind in {Kind.ERROR_NOT_APPLIED, Kind.ANSWER_LOST}:
                return
            try:
                reply = self._answer(kind, parts)
            except Refused as refusal:
                reply = _message(5, 0, [(ERROR, 1, 0, _error(refusal))])
            size = len(reply)
            # Before the login is whole, clients want to see no session id.
            session = 0 if kind == AUTHENTICATE else self._session
            self._peer.sendall(struct.pack("<qiIIhb9x", session, count, size, size, 1, 0) + reply)
            if kind == DISCONNECT:
                return

    def _answer(self, kind: int, parts: dict[int, bytes]) -> bytes:
        if kind == AUTHENTICATE:
            return self._begin(_unfields(parts[AUTH]))
        if kind == CONNECT:
            return self._connect(_unfields(parts[AUTH]))
        if kind == DISCONNECT:
            return _message(2, 18, [])
        if kind == EXECUTE and self._user is not None:
            return self._execute(self._user, parts[COMMAND].decode("utf-8", "replace").strip())
        raise Refused(7, "feature not supported")

    def _begin(self, fields: list[bytes]) -> bytes:
        """Offers the newer of the methods that the client knows."""
        self._name = fields[0].decode("utf-8", "replace")
        offered = dict(zip(fields[1::2], fields[2::2], strict=False))
        for method in (b"SCRAMPBKDF2SHA256", b"SCRAMSHA256"):
            if method in offered:
                self._method, self._theirs = method, offered[method]
                break
        else:
            raise Refused(10, "authentication failed", "28000")
        challenge = [self._salt, self._challenge]
        if self._method == b"SCRAMPBKDF2SHA256":
            challenge.append(struct.pack(">I", ROUNDS))
        return _message(2, 0, [(AUTH, 1, 0, _fields(self._method, _fields(*challenge)))])

    def _connect(self, fields: list[bytes]) -> bytes:
        (proof,) = _unfields(fields[2])
        user = self._tenant.known(self._name)
        known = self._tenant.candidates(user) if user is not None else []
        matching = next((each for each in known if hmac.compare_digest(self._proof(each), proof)), None)
        self._user = self._tenant.enter(self._name, matching)
        self._epoch, self._session = self._user.epoch, next(_SESSIONS)
        server_proof = b""
        if matching is not None and self._method == b"SCRAMPBKDF2SHA256":
            salted = self._salted(matching)
            key = hmac.digest(salted, self._salt + self._challenge + self._theirs, "sha256")
            server_proof = _fields(key)
        options = (
            (1, 3, struct.pack("<i", self._session)),
            (2, 28, b"\0"),
            (11, 29, struct.pack("<h", 3) + b"H00"),
            (12, 3, struct.pack("<i", 4)),
            (17, 28, b"\0"),
            (20, 28, b"\1"),
            (23, 28, b"\1"),
            (44, 29, struct.pack("<h", 19) + b"4.00.000.00.1700000"),
        )
        packed = b"".join(struct.pack("<bb", key, kind) + value for key, kind, value in options)
        parts = [(AUTH, 1, 0, _fields(self._method, server_proof)), (OPTIONS, len(options), 0, packed)]
        return _message(2, 0, parts)

    def _salted(self, password: str) -> bytes:
        if self._method == b"SCRAMPBKDF2SHA256":
            return hashlib.pbkdf2_hmac("sha256", password.encode(), self._salt, ROUNDS)
        return hmac.digest(password.encode(), self._salt, "sha256")

    def _proof(self, password: str) -> bytes:
        key = hashlib.sha256(self._salted(password)).digest()
        text = self._salt + self._challenge + self._theirs
        signature = hmac.digest(hashlib.sha256(key).digest(), text, "sha256")
        return bytes(a ^ b for a, b in zip(key, signature, strict=True))

    def _execute(self, user: DbUser, statement: str) -> bytes:
        if self._epoch != user.epoch and not self._tenant.settings.sessions_survive:
            raise Refused(-10807, "session was terminated")
        if found := _ALTER.match(statement):
            if found[1] != user.name:
                raise Refused(258, "insufficient privilege: Not authorized")
            self._tenant.change_own(user, found[2].replace('""', '"'))
            self._epoch = user.epoch
            return _message(2, 1, [(ROWS_AFFECTED, 1, 0, struct.pack("<i", 0))])
        if user.must_change:
            raise Refused(
                414, f"user is forced to change password: alter password required for user {user.name}"
            )
        if re.fullmatch(r"SELECT CURRENT_USER FROM (SYS\.)?DUMMY", statement, re.IGNORECASE):
            return _one_cell("CURRENT_USER", user.name)
        if found := _INTO.match(statement):
            self._need(user, f"{found[1]}.{found[2]}", write=True)
            return _message(2, 2, [(ROWS_AFFECTED, 1, 0, struct.pack("<i", 0))])
        if found := _COUNT.match(statement):
            table = f"{found[1]}.{found[2]}"
            self._need(user, table, write=False)
            return _one_cell("COUNT", str(min(self._tenant.rows.get(table, 0), int(found[3]))))
        raise Refused(257, "sql syntax error", "42000")

    def _need(self, user: DbUser, table: str, *, write: bool) -> None:
        owner = self._tenant.tables.get(table)
        if owner is None:
            raise Refused(259, "invalid table name", "42S02")
        if owner != user.space or (write and not user.can_write):
            raise Refused(258, "insufficient privilege: Not authorized")

    def _read(self, wanted: int) -> bytes:
        data = b""
        while len(data) < wanted:
            piece = self._peer.recv(wanted - len(data))
            if not piece:
                raise OSError("the client is gone")
            data += piece
        return data


def _certified() -> tuple[ssl.SSLContext, str]:
    """A server's context with a certificate that signs itself, and that certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Keyturn lab, not SAP")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(guard.LOOPBACK))]
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = signed.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(private + public)
        file.flush()
        context.load_cert_chain(file.name)
    return context, public.decode()


def _request(data: bytes) -> tuple[int, dict[int, bytes]]:
    _, _, count, _, _, kind = struct.unpack_from("<iihhbb", data)
    parts, at = {}, 24
    for _ in range(count):
        part, _, _, _, length, _ = struct.unpack_from("<bbhiii", data, at)
        parts[part] = data[at + 16 : at + 16 + length]
        at += 16 + (length + 7) // 8 * 8
    return kind, parts


def _message(kind: int, function: int, parts: list[tuple[int, int, int, bytes]]) -> bytes:
    body = b"".join(
        struct.pack("<bbhiii", part, attributes, count, 0, len(data), 0) + data + b"\0" * (-len(data) % 8)
        for part, count, attributes, data in parts
    )
    return struct.pack("<iihhbxh8x", 24 + len(body), 0, len(parts), 1, kind, function) + body


def _error(refusal: Refused) -> bytes:
    text = refusal.text.encode()
    return struct.pack("<iiib5s", refusal.code, 0, len(text), 1, refusal.state.encode()) + text


def _one_cell(name: str, value: str) -> bytes:
    column = struct.pack("<bbhhhiiii", 2, 9, 0, 256, 0, -1, -1, 0, 0) + bytes([len(name)]) + name.encode()
    cell = bytes([len(value)]) + value.encode()
    return _message(
        2,
        5,
        [
            (COLUMNS, 1, 0, column),
            (RESULT_ID, 1, 0, struct.pack("<q", 1)),
            (RESULT, 1, LAST_AND_CLOSED, cell),
        ],
    )


def _fields(*values: bytes) -> bytes:
    return struct.pack("<H", len(values)) + b"".join(bytes([len(each)]) + each for each in values)


def _unfields(data: bytes) -> list[bytes]:
    (count,) = struct.unpack_from("<H", data)
    found, at = [], 2
    for _ in range(count):
        size, at = data[at], at + 1
        if size == 246:
            (size,) = struct.unpack_from("<H", data, at)
            at += 2
        elif size > 246:
            raise ValueError("a longer field than any login has")
        found.append(data[at : at + size])
        at += size
    return found

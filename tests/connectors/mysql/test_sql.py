"""The door to MySQL and MariaDB: which answers are a no, what ends in time, what a server may never learn."""

import datetime as dt
import hashlib
import ipaddress
import shutil
import socket
import struct
import tempfile
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.compliance.lab import or_skip

from keyturn import boundary
from keyturn.contract.values import NetworkPolicy
from keyturn.errors import (
    CallInsideTransaction,
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotPermitted,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    VendorUnavailable,
)
from keyturn.transport.sql import mariadb_ed25519, mysql
from keyturn_lab.parts.mariadb import MariaDBServer

SECRET = "ktlab-Never-Show-This-Value-1234"


def outcome(params):
    """The error a login ends in."""
    with pytest.raises(KeyturnError) as caught:
        mysql.login(params).close()
    assert SECRET not in str(caught.value.__reduce__())
    return caught.value


@pytest.mark.parametrize(
    ("alter", "change", "kind", "code"),
    [
        ("", {"user": "nobody_here"}, CredentialRejected, "1045"),
        ("ACCOUNT LOCK", {}, CredentialRejected, "4151"),
        ("", {"port": 1}, VendorUnavailable, "refused"),
        ("", {"sslmode": "require"}, VendorUnavailable, "tls"),
        ("", {"host": "no-such-host.invalid", "sslmode": "require"}, VendorUnavailable, "dns"),
        ("", {"user": ""}, InvalidInput, None),
        ("", {"sslmode": "disable", "network": NetworkPolicy()}, NotPermitted, None),
        ("", {"sslmode": "verify-full", "network": NetworkPolicy()}, NotPermitted, None),
        ("", {"sslmode": "verify-full", "ca": "no certificate"}, InvalidInput, None),
    ],
)
def test_only_two_answers_are_a_definite_no(server, user, params, alter, change, kind, code):
    """A refused password and a locked account are refusals; all else says nothing about the credential."""
    if alter:
        server.run(f"ALTER USER {user.account} {alter}")
    error = outcome(params(**{"user": user.name, "password": user.password, **change}))
    assert type(error) is kind
    assert error.facts.get("code") == code


class Greeter:
    """A server that sends a true greeting of its choice and records what it is told."""

    def __init__(self, plugin=b"mysql_native_password", capabilities=0xFFFFF7FF, then=b""):
        salt = b"0123456789abcdefghij"
        body = b"\x0a5.5.5-10.11.19-MariaDB\0" + struct.pack("<I", 7) + salt[:8] + b"\0"
        body += struct.pack("<HBHHB", capabilities & 0xFFFF, 33, 2, capabilities >> 16, 21)
        body += b"\0" * 10 + salt[8:] + b"\0" + plugin + b"\0"
        self.greeting, self.then, self.said = self.packet(0, body), then, bytearray()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    @staticmethod
    def packet(number, body):
        return struct.pack("<I", len(body))[:3] + bytes([number]) + body

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._socket.close()

    def _serve(self):
        try:
            while True:
                peer, _ = self._socket.accept()
                with peer:
                    peer.settimeout(0.3)
                    peer.sendall(self.greeting)
                    self.said += peer.recv(4096)
                    if self.then:
                        peer.sendall(self.then)
                        self.said += peer.recv(4096)
        except OSError:
            pass


@pytest.mark.parametrize(
    "plugin", [b"mysql_clear_password", b"dialog", b"mysql_old_password", b"sha256_password", b"odd"]
)
@pytest.mark.parametrize("by_switch", [True, False])
def test_the_password_is_not_shown_to_whoever_asks(params, plugin, by_switch):
    """A server that asks for the password in clear text, or by a method not known here, learns nothing."""
    then = Greeter.packet(2, b"\xfe" + plugin + b"\0" + b"Password: \0")
    with Greeter(b"mysql_native_password" if by_switch else plugin, 0xFFFFF7FF, then) as there:
        error = outcome(params("someone", SECRET, port=there.port, deadline_s=1.0))
        assert (type(error), error.facts["code"]) == (UnexpectedAnswer, "method")
        assert SECRET.encode() not in bytes(there.said)
        assert b"someone" in bytes(there.said)


def test_caching_sha2_shows_the_password_only_where_it_may(params, monkeypatch):
    """The full exchange needs a proven server or a host the operator opened; else it ends before anything is shown."""
    then = Greeter.packet(2, b"\x01\x04")
    with Greeter(b"caching_sha2_password", 0xFFFFF7FF, then) as there:
        monkeypatch.setattr(mysql.ssrf, "addresses", lambda *_: ("127.0.0.1",))
        ours = params("someone", SECRET, port=there.port, deadline_s=1.0, sslmode="disable")
        monkeypatch.setattr(mysql, "check", lambda *_, **__: None)
        closed = outcome(
            params("someone", SECRET, port=there.port, sslmode="disable", network=NetworkPolicy())
        )
        assert closed.facts["code"] == "method"
        outcome(ours)  # an opened host: the RSA key is asked for, which this server does not send
        assert SECRET.encode() not in bytes(there.said)


def test_tls_is_never_left_out(params):
    """A server that says it has no TLS gets nothing, not even the user's name."""
    for mode in ("require", "verify-full"):
        with Greeter(capabilities=0xFFFFF7FF & ~0x800) as there:
            error = outcome(params("someone", SECRET, port=there.port, deadline_s=1.0, sslmode=mode))
            assert (type(error), error.facts["code"]) == (VendorUnavailable, "tls")
            assert b"someone" not in bytes(there.said)


def test_a_silent_or_dripping_server_ends_in_time(params):
    """The deadline is over the whole login, however often something arrives."""
    with socket.create_server(("127.0.0.1", 0)) as quiet:
        began = time.monotonic()
        assert (
            outcome(params("x", SECRET, port=quiet.getsockname()[1], deadline_s=0.3)).facts["code"]
            == "timeout"
        )
        assert time.monotonic() - began < 1.5


def test_a_huge_answer_is_not_read(params):
    """A packet that claims megabytes is the end of the conversation."""
    with Greeter() as there:
        there.greeting = b"\xff\xff\xff\x00"
        assert outcome(params("x", SECRET, port=there.port, deadline_s=1.0)).facts["code"] == "protocol"


def test_no_call_inside_a_transaction(user, params):
    """Neither a login nor a statement leaves while a transaction of ours is open."""
    ours = params(user.name, user.password)
    with boundary.transaction(), pytest.raises(CallInsideTransaction):
        mysql.login(ours)
    with mysql.login(ours) as session, boundary.transaction(), pytest.raises(CallInsideTransaction):
        session.query("SELECT 1")


def test_a_session_killed_during_a_change_is_unknown(server, params, rotator):
    """A connection lost after a change was sent leaves the outcome open; for a read nothing is lost."""
    for act, kind in (("change", OutcomeUnknown), ("query", VendorUnavailable)):
        with mysql.login(params(rotator.name, rotator.password)) as session:

            def kill(number=session.connection_id):
                time.sleep(0.1)
                server.run(f"KILL {number}")

            killer = threading.Thread(target=kill)
            killer.start()
            with pytest.raises(kind):
                getattr(session, act)("DO sleep(5)")
            killer.join()


def test_a_statement_without_an_answer_ends_in_time(params, rotator):
    """A change that is not answered in time is an unknown outcome; the session is not used again."""
    with mysql.login(params(rotator.name, rotator.password, deadline_s=0.4)) as session:
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            session.change("DO sleep(5)")
        assert time.monotonic() - began < 1.5
        with pytest.raises(KeyturnError):
            session.query("SELECT 1")


def test_a_persons_query_can_only_read(server, user, params):
    """Inside the read-only transaction writes, definitions and second statements are refused by the server."""
    server.run("CREATE DATABASE IF NOT EXISTS probe", "CREATE TABLE IF NOT EXISTS probe.t (n int)")
    server.run(f"GRANT ALL ON probe.* TO {user.account}")
    with mysql.login(params(user.name, user.password)) as session:
        assert session.read_only("SELECT count(*) FROM probe.t") == [("0",)]
        for text in ("INSERT INTO probe.t VALUES (1)", "DROP TABLE probe.t", "SELECT 1; DROP TABLE probe.t"):
            with pytest.raises(KeyturnError):
                session.read_only(text)
        assert session.query("SELECT count(*) FROM probe.t") == [("0",)]


def test_names_and_values_cannot_break_out(user, params):
    """A literal arrives as written, whatever it holds."""
    odd = "o\"dd'; DROP USER x; --\\"
    with mysql.login(params(user.name, user.password)) as session:
        for mode in ("", "NO_BACKSLASH_ESCAPES"):
            session.query(f"SET SESSION sql_mode = '{mode}'")
            assert session.query(session.compose("SELECT {value}", value=odd)) == [(odd,)]


@pytest.fixture(scope="module")
def certified():
    """A server that speaks TLS with a certificate for 127.0.0.1, and its authority as PEM."""
    folder = Path(
        tempfile.mkdtemp(prefix="keyturn-tls-")
    )  # the server runs as somebody who cannot enter pytest's
    now = dt.datetime.now(dt.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "keyturn test")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
    made = (
        builder.add_extension(names, False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(Encoding.PEM)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    folder.chmod(0o755)
    for file, content in (("cert.pem", pem), ("key.pem", secret)):
        (folder / file).write_bytes(content)
        (folder / file).chmod(0o644)
    options = {"ssl-cert": str(folder / "cert.pem"), "ssl-key": str(folder / "key.pem")}
    server = or_skip(lambda: MariaDBServer(options=options).start())
    yield server, pem.decode()
    server.stop()
    shutil.rmtree(folder)


def test_the_server_must_prove_its_name(certified, params):
    """verify-full accepts the server only under the given authority; the session is encrypted."""
    server, pem = certified
    user = server.create_user("tls_user")
    ours = {"port": server.port, "ca": pem}
    for mode in ("verify-full", "verify-ca", "require", "prefer"):
        with mysql.login(params(user.name, user.password, sslmode=mode, **ours)) as session:
            assert session.is_encrypted
            assert session.query("SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1]
    assert (
        outcome(params(user.name, user.password, sslmode="verify-full", port=server.port)).facts["code"]
        == "tls"
    )
    named = params(
        user.name,
        user.password,
        sslmode="verify-full",
        host="localhost",
        network=NetworkPolicy(frozenset({"localhost"})),
        **ours,
    )
    assert outcome(named).facts["code"] == "tls"


def test_an_account_that_requires_tls_is_not_refused(certified, params):
    """Without TLS the server says 1045 to the right password too: it is asked again, encrypted, before that counts."""
    server, _ = certified
    user = server.create_user("needs_tls")
    server.run(f"ALTER USER {user.account} REQUIRE SSL")
    error = outcome(params(user.name, user.password, port=server.port))
    assert (type(error), error.facts["code"]) == (PermissionMissing, "needs_tls")
    error = outcome(params(user.name, SECRET, port=server.port))
    assert (type(error), error.facts["code"]) == (CredentialRejected, "1045")


def test_ed25519_of_any_length_is_the_same_curve():
    """MariaDB's own published key, and for 32 bytes the same signature as the library's."""
    assert mariadb_ed25519.stored("secret") == "ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY"
    seed, message = b"0123456789abcdef0123456789abcdef", hashlib.sha256(b"x").digest()
    quick = mariadb_ed25519.sign(seed, message)
    scalar, _ = mariadb_ed25519._expanded(seed)
    assert mariadb_ed25519._packed(
        mariadb_ed25519._times(scalar, mariadb_ed25519._base())
    ) == mariadb_ed25519._public(seed)
    assert len(quick) == 64

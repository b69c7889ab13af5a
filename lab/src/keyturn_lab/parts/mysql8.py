"""MySQL 8's dual passwords in front of a real MariaDB: a proxy that rewrites statements, as no MySQL server can be had.

What is real: logins, privileges, locks, sessions, statement errors. What the proxy turns into MariaDB's words: RETAIN CURRENT
PASSWORD, DISCARD OLD PASSWORD, IDENTIFIED WITH ... AS 0x..., RANDOM PASSWORD, mysql.user with User_attributes; and 4151 into
MySQL's 3118. Accounts are mysql_native_password ones: a caching_sha2_password login is not covered here.
Source: https://dev.mysql.com/doc/refman/8.4/en/alter-user.html and WL#11540, checked 2026-11-23; unconfirmed on a real server.
"""

import json
import re
import secrets
import socket
import struct
import threading
from contextlib import suppress
from typing import Any, Self

from keyturn_lab.guard import LOOPBACK

from .mariadb import MariaDBServer, native_hash

VERSION = b"8.4.3"
_ALTER = re.compile(r"(?is)^ALTER USER (?P<who>'(?:[^'\\]|''|\\.)*'@'(?:[^'\\]|''|\\.)*') (?P<rest>.*)$")
_BY = re.compile(r"(?is)^IDENTIFIED WITH (?P<plugin>\w+) BY '(?P<password>(?:[^'\\]|''|\\.)*)'(?P<tail>.*)$")
_AS = re.compile(r"(?is)^IDENTIFIED WITH (?P<plugin>\w+) AS 0x(?P<hex>[0-9a-f]+)(?P<tail>.*)$")
_USERS = """
SELECT user, host, 'mysql_native_password', hex(JSON_VALUE(priv,'$.authentication_string')),
 if(coalesce(JSON_VALUE(priv,'$.account_locked'), 0) = 0, 'N', 'Y'),
 if(coalesce(JSON_VALUE(priv,'$.password_last_changed'), 1) = 0, 'Y', 'N'),
 hex(coalesce(JSON_VALUE(priv,'$.auth_or[1].authentication_string'), '')), coalesce(JSON_VALUE(priv,'$.default_role'), ''),
 (SELECT count(*) FROM information_schema.processlist p WHERE p.user = u.user),
 coalesce(JSON_VALUE(priv,'$.ssl_type'), '')
FROM mysql.global_priv u WHERE """


class Refused(Exception):
    """What MySQL would refuse: its number and words."""


class MySQL8Proxy:
    """`with MySQL8Proxy(mariadb) as mysql: pymysql.connect(host=mysql.host, port=mysql.port, ...)`."""

    def __init__(self, server: MariaDBServer):
        self.server = server
        self.host = LOOPBACK
        self.statements: list[str] = []
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def entries(self, user: str) -> list[str]:
        """The stored passwords of a user, first and second."""
        with self.server.connect() as cursor:
            cursor.execute(
                "SELECT JSON_VALUE(priv,'$.authentication_string'), JSON_QUERY(priv,'$.auth_or')"
                " FROM mysql.global_priv WHERE user = %s",
                [user],
            )
            first, others = cursor.fetchone()
        return [first, *(each["authentication_string"] for each in json.loads(others or "[]") if each)]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._quietly, args=(client,), daemon=True).start()

    def _quietly(self, client: socket.socket) -> None:
        upstream = socket.create_connection((self.server.host, self.server.port), 10)
        upstream.settimeout(None)
        self._open |= {client, upstream}
        try:
            with client, upstream, suppress(OSError, EOFError, struct.error):
                self._serve(client, upstream)
        finally:
            self._open -= {client, upstream}

    def _serve(self, client: socket.socket, upstream: socket.socket) -> None:
        number, greeting = _packet(upstream)
        if greeting[:1] == b"\x0a":
            _, _, rest = greeting[1:].partition(b"\0")
            greeting = b"\x0a" + VERSION + b"\0" + rest
        _send(client, number, greeting)
        threading.Thread(target=self._back, args=(upstream, client), daemon=True).start()
        while True:
            number, said = _packet(client)
            if number == 0 and said[:1] == b"\x03":
                sql = said[1:].decode()
                self.statements.append(sql)
                try:
                    said = b"\x03" + self._rewritten(sql).encode()
                except Refused as refusal:
                    code, words = refusal.args
                    _send(client, 1, b"\xff" + struct.pack("<H", code) + b"#HY000" + words.encode())
                    continue
            _send(upstream, number, said)

    def _back(self, upstream: socket.socket, client: socket.socket) -> None:
        with suppress(OSError, EOFError):
            while True:
                number, said = _packet(upstream)
                if said[:3] == b"\xff" + struct.pack("<H", 4151):
                    said = b"\xff" + struct.pack("<H", 3118) + said[3:]
                _send(client, number, said)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _rewritten(self, sql: str) -> str:
        if " FROM mysql.user u WHERE " in sql:
            return _USERS + sql.rpartition(" WHERE ")[2]
        found = _ALTER.match(sql)
        if not found:
            return sql
        who, rest = found["who"], found["rest"].strip()
        if "IDENTIFIED VIA" in rest.upper() or " OR " in rest.upper():
            raise Refused(1064, "You have an error in your SQL syntax")
        user = who.split("'@'")[0][1:].replace("''", "'").replace("\\\\", "\\")
        if rest.upper() == "DISCARD OLD PASSWORD":
            return self._alter(who, self.entries(user)[:1], "")
        if "BY RANDOM PASSWORD" in rest.upper():
            return self._alter(who, [native_hash(secrets.token_hex(16))], "PASSWORD EXPIRE ACCOUNT LOCK")
        if given := _AS.match(rest):
            return self._alter(
                who, [bytes.fromhex(given["hex"]).decode(), *self.entries(user)[1:]], given["tail"]
            )
        if given := _BY.match(rest):
            return self._by(who, self.entries(user), given)
        return sql

    def _by(self, who: str, kept: list[str], given: re.Match[str]) -> str:
        new, tail = native_hash(given["password"].replace("''", "'").replace("\\\\", "\\")), given["tail"]
        if "RETAIN CURRENT PASSWORD" not in tail.upper():
            return self._alter(who, [new, *kept[1:]], tail)  # a second password stays as it is
        if not given["password"]:
            raise Refused(3895, "Current password can not be retained when the new password is empty")
        return self._alter(who, [new, kept[0]], re.sub("(?i)RETAIN CURRENT PASSWORD", "", tail))

    def _alter(self, who: str, hashes: list[str], tail: str) -> str:
        ways = " OR ".join(f"mysql_native_password USING '{each}'" for each in hashes)
        return f"ALTER USER {who} IDENTIFIED VIA {ways} {tail}"


def _packet(peer: socket.socket) -> tuple[int, bytes]:
    head = _exactly(peer, 4)
    return head[3], _exactly(peer, int.from_bytes(head[:3], "little"))


def _send(peer: socket.socket, number: int, body: bytes) -> None:
    peer.sendall(struct.pack("<I", len(body))[:3] + bytes([number]) + body)


def _exactly(peer: socket.socket, size: int) -> bytes:
    data: Any = bytearray()
    while len(data) < size:
        more = peer.recv(min(size - len(data), 65_536))
        if not more:
            raise EOFError
        data += more
    return bytes(data)

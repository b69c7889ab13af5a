"""The best bare loop for the same work: no vault, no journal, no leases, nothing to resume after a crash.

Per rotation: a random password, its SCRAM verifier made here, ALTER ROLE on an administrator's session that is kept,
then one fresh login with the new password. Two ways to log in are tried: with the client key the verifier was made
from (no second PBKDF2), and plainly with the password; two drivers for the first. The fastest one is the ceiling.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from psycopg import pq

from bench.world import LOOPBACK
from keyturn.model.secret import Secret
from keyturn.transport import sql
from keyturn_lab.parts.postgres import PostgresCluster, Role

Keys = tuple[bytes, bytes]
LoginAs = Callable[[PostgresCluster, str, str, Keys], None]


@dataclass(frozen=True)
class Loop:
    """One round: how long it took altogether and each rotation."""

    seconds: float
    each_s: tuple[float, ...]


def scram_keys(password: str, salt: bytes) -> Keys:
    """The client's and the server's key. `cryptography` brings an OpenSSL of its own, twice as fast at this as ours."""
    salted = PBKDF2HMAC(SHA256(), 32, salt, 4096).derive(password.encode())
    return hmac.digest(salted, b"Client Key", "sha256"), hmac.digest(salted, b"Server Key", "sha256")


def verifier(password: str) -> tuple[str, Keys]:
    """PostgreSQL's text for a password, and the client's and the server's key."""
    salt = os.urandom(16)
    client, server = scram_keys(password, salt)
    stored = hashlib.sha256(client).digest()
    words = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256$4096:{words[0]}${words[1]}:{words[2]}", (client, server)


def login_lean(target: PostgresCluster, user: str, password: str, keys: Keys) -> None:
    """Our own transport, with the keys."""
    sql.login(
        sql.Login(
            target.host,
            target.port,
            "postgres",
            user,
            Secret(password),
            sslmode="disable",
            network=LOOPBACK,
            keys=keys,
        )
    ).close()


def login_keys(target: PostgresCluster, user: str, password: str, keys: Keys) -> None:
    """psycopg, with the keys."""
    client, server = (base64.b64encode(key).decode() for key in keys)
    psycopg.connect(
        host=target.host,
        port=target.port,
        dbname="postgres",
        user=user,
        password=password,
        sslmode="disable",
        gssencmode="disable",
        scram_client_key=client,
        scram_server_key=server,
    ).close()


def login_plain(target: PostgresCluster, user: str, password: str, keys: Keys) -> None:  # noqa: ARG001 - one shape
    """psycopg, with the password alone: it hashes once more."""
    psycopg.connect(
        host=target.host,
        port=target.port,
        dbname="postgres",
        user=user,
        password=password,
        sslmode="disable",
        gssencmode="disable",
    ).close()


VARIANTS: dict[str, LoginAs] = {
    "keys, lean client": login_lean,
    "keys, psycopg": login_keys,
    "plain, psycopg": login_plain,
}


def run(
    target: PostgresCluster, admin: Role, roles: list[Role], order: list[int], in_flight: int, login: LoginAs
) -> Loop:
    """Rotates `order` once, `in_flight` at a time in threads, each with its own administrator's session."""
    todo = iter(order)
    lock = threading.Lock()
    each: list[float] = []
    failures: list[BaseException] = []
    sessions = [psycopg.connect(target.dsn(role=admin), autocommit=True) for _ in range(in_flight)]

    def work(session: psycopg.Connection) -> None:
        bare = session.pgconn
        try:
            while True:
                with lock:
                    index = next(todo, None)
                if index is None:
                    return
                began = time.perf_counter()
                password = secrets.token_urlsafe(24)
                text, keys = verifier(password)
                done = bare.exec_(f"ALTER ROLE {roles[index].name} PASSWORD '{text}'".encode())
                if done.status != pq.ExecStatus.COMMAND_OK:
                    raise RuntimeError(bare.error_message.decode())
                login(target, roles[index].name, password, keys)
                each.append(time.perf_counter() - began)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(session,)) for session in sessions]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    for session in sessions:
        session.close()
    if failures:
        raise failures[0]
    return Loop(seconds, tuple(each))

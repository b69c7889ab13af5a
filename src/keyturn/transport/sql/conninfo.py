"""Where and how we log in, as a connection string for libpq in which nothing else has a say."""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import shutil
import ssl
import stat
import tempfile
import threading
from base64 import b64encode
from dataclasses import dataclass, field

from psycopg import pq

from keyturn.contract.values import NetworkPolicy
from keyturn.errors import InvalidInput, NotPermitted, UnexpectedAnswer
from keyturn.model.secret import Secret

SSLMODES = ("verify-full", "verify-ca", "require", "prefer", "disable")


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


def check(params: Login, needed: tuple[str, ...] = ("host", "database", "user")) -> None:
    """Raises: InvalidInput, NotPermitted, UnexpectedAnswer for what no server needs to be asked about."""
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
    for name in needed:
        if not getattr(params, name):
            raise InvalidInput(f"{name} is missing", field=name)
    if "\0" in params.host + params.database + params.user + params.password.reveal():
        raise InvalidInput("a NUL character cannot be part of a login", field="user")


def conninfo(params: Login, address: str) -> bytes:
    """The connection string for one address of the host. It holds the password."""
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

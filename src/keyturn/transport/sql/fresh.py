"""Fresh logins, never pooled ones: what they prove, they prove now."""

from __future__ import annotations

import ctypes
import functools
import select
import sys
import time
from typing import Any

from psycopg import pq

from keyturn import boundary
from keyturn.errors import VendorUnavailable
from keyturn.transport import ssrf
from keyturn.transport.sql import words
from keyturn.transport.sql.conninfo import Login, check, conninfo
from keyturn.transport.sql.session import Session

_OK, _FAILED, _READING = pq.PollingStatus.OK, pq.PollingStatus.FAILED, pq.PollingStatus.READING
_VERBOSE = 2  # PQERRORS_VERBOSE


def login(params: Login) -> Session:
    """A fresh session, never a pooled one: what it proves, it proves now.

    Raises: CredentialRejected only for 28P01 and for a role without LOGIN, with the SQLSTATE in `facts['code']`;
    VendorUnavailable, VendorThrottled, PermissionMissing, InvalidInput, UnexpectedAnswer for everything that says
    nothing about the password. All carry `facts['code']`.
    """
    boundary.leaving(params.host)
    until = time.monotonic() + params.deadline_s
    check(params)
    target = ssrf.Target("postgresql", params.host, params.port, "")
    try:
        found = ssrf.addresses(target, params.network)
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
    conn = pq.PGconn.connect_start(conninfo(params, address))
    if conn.status == pq.ConnStatus.BAD:  # nothing was sent
        raise words.login_error(conn, params)
    _tell_sqlstate(conn)
    waiting: int = pq.PollingStatus.WRITING
    poll = select.poll()
    while True:
        socket = conn.socket
        poll.register(socket, select.POLLIN if waiting == _READING else select.POLLOUT)
        left = share - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            conn.finish()
            raise VendorUnavailable(
                f"{params.host} did not answer in time",
                hint="Check the address and the firewall in between.",
                host=params.host,
                code="timeout",
            )
        poll.unregister(socket)  # libpq may go on with another socket
        waiting = conn.connect_poll()
        if waiting == _OK:
            return Session(conn, params.host, until)
        if waiting == _FAILED:
            raise words.login_error(conn, params)


@functools.cache
def _library() -> Any:
    """The libpq that psycopg loaded, found through psycopg's own extension; None where that is not possible.

    psycopg does not expose PQsetErrorVerbosity, and without it a refused login has no SQLSTATE, only a text in the
    server's language. `lc_messages` does not help: only superusers may set it, and it would apply after the login.
    """
    try:
        library = ctypes.PyDLL(sys.modules[pq.PGconn.__module__].__file__)
        library.PQsetErrorVerbosity.argtypes = [ctypes.c_void_p, ctypes.c_int]
        library.PQsetErrorVerbosity.restype = ctypes.c_int
    except (OSError, AttributeError, TypeError, KeyError):
        return None
    return library


def _tell_sqlstate(conn: Any) -> None:
    library = _library()
    if library is not None:
        library.PQsetErrorVerbosity(conn.pgconn_ptr, _VERBOSE)

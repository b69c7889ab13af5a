"""What a MySQL or MariaDB server says, in our words: nothing of theirs that could hold a secret comes through.

Sources: https://mariadb.com/kb/en/mariadb-error-codes/ and
https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html, checked 2026-11-23; most seen on MariaDB 10.11.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keyturn.errors import (
    Conflict,
    CredentialRejected,
    KeyturnError,
    NotFound,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.transport.sql import refusals
from keyturn.transport.sql.conninfo import Login

LOCKED = frozenset({4151, 3118})  # MariaDB, MySQL: told only to the right password
CUT_OFF = frozenset({1053, 1317, 1927, 3024, 1969})  # shutdown, interrupted, killed, out of time
_THROTTLED = frozenset({1040, 1203, 1226, 3955, 4150, 1129})
_NO_RIGHT = frozenset({1044, 1142, 1227, 1370, 1410, 1131, 1095})
_ABSENT = frozenset({1049, 1054, 1094, 1133, 1146, 1396, 3523})
_IN_USE = frozenset({3878, 3890, 3891, 3892, 3893, 3894, 3895, 4006})
_POLICY = frozenset({1372, 1819, 3638, 4055})
_BUSY = frozenset({1205, 1213, 1028, 1041, 1135, 1180, 1223})
_CLIENT = range(2000, 3000)  # numbers the client library gives, not the server


class Broken(Exception):
    """The conversation ended in the middle; `code` says how. Never leaves `transport`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def code_of(error: BaseException) -> int | None:
    """The server's own number; None for the driver's complaints."""
    said: Any = error.args[0] if error.args else None
    return said if isinstance(said, int) and said > 0 and said not in _CLIENT else None


def login_error(code: int | None, params: Login) -> KeyturnError:
    """Why the server refused a login."""
    if code is None:
        return broken_login("protocol", params)
    facts = {"code": str(code), "host": params.host}
    if code == 1045:
        return CredentialRejected(
            f"access denied for user {params.user}",
            hint="The server does not tell a wrong password, an unknown user and a client address without an account "
            "apart.",
            **facts,
        )
    if code in LOCKED:
        return CredentialRejected(
            f"account {params.user} is locked", hint="ALTER USER ... ACCOUNT UNLOCK.", **facts
        )
    if code in {1820, 1862}:
        return PermissionMissing(
            f"the password of {params.user} has expired: the server allows nothing but setting another",
            hint="An administrator sets a new one; a rotation by an administrator does.",
            right="a password that has not expired",
            **facts,
        )
    if code in {1130, 1044}:
        where = "log in from this address" if code == 1130 else f"use database {params.database}"
        return PermissionMissing(
            f"user {params.user} may not {where}",
            hint="Check the host part of the account and its grants.",
            right="an account for this address" if code == 1130 else "a privilege on the database",
            **facts,
        )
    if code == 1049:
        return refusals.no_database(str(code), params)
    if code in _THROTTLED:
        hints = {
            1129: "This machine is blocked after failed connections: FLUSH HOSTS.",
            3955: "The account is locked after failed logins: ALTER USER ... ACCOUNT UNLOCK.",
            4150: "The account is blocked after wrong passwords: FLUSH PRIVILEGES.",
        }
        return VendorThrottled(
            f"{params.host} takes no more connections of user {params.user} now",
            hint=hints.get(code, "Close unused sessions, or raise the account's or the server's limit."),
            **facts,
        )
    if code in CUT_OFF:
        return VendorUnavailable(f"{params.host} is shutting down", **facts)
    return UnexpectedAnswer(f"{params.host} did not let user {params.user} in ({code})", **facts)


def broken_login(code: str, params: Login) -> KeyturnError:
    """Why a login came to nothing before the server had judged it."""
    make = _BROKEN.get(code, _unreachable)
    return make(code, params)


def _unreachable(code: str, params: Login) -> KeyturnError:
    said = {
        "refused": "refused the connection",
        "lost": "closed the connection",
        "timeout": "did not answer in time",
        "protocol": "does not speak the MySQL protocol as documented",
    }.get(code, "could not be reached")
    return refusals.unreachable(code, params, said)


def _tls(code: str, params: Login) -> KeyturnError:
    return refusals.no_tls(code, params, "TLS mode")


def _needs_tls(code: str, params: Login) -> KeyturnError:
    return PermissionMissing(
        f"account {params.user} requires TLS",
        hint="Choose the TLS mode verify-full.",
        right="a TLS connection",
        code=code,
        host=params.host,
    )


def _method(code: str, params: Login) -> KeyturnError:
    used = (
        "mysql_native_password, ed25519 and caching_sha2_password are used; the password itself is shown only under "
        "verify-full and verify-ca."
    )
    return refusals.unsafe_method(code, params, used)


_BROKEN: dict[str, Callable[[str, Login], KeyturnError]] = {
    "tls": _tls,
    "needs_tls": _needs_tls,
    "method": _method,
}


def statement_error(code: int, said: str, host: str, right: str) -> KeyturnError:
    """A refused statement: nothing changed.

    The server's words are read for two option names and never shown: a syntax error could quote a hash.
    """
    facts = {"code": str(code), "host": host}
    if code in _NO_RIGHT or code == 1045:
        needed = right or "a privilege"
        return PermissionMissing(
            f"{host} denied the statement ({code})", hint=f"Needed: {needed}.", right=needed, **facts
        )
    if code in _ABSENT:
        return NotFound(f"{host} knows no such account or object ({code})", **facts)
    if code in _IN_USE:
        return Conflict(f"{host} cannot do this in the account's present state ({code})", **facts)
    if code in _POLICY:
        return ValueRefused(
            "the server refused the value", hint="A password policy or history may be at work.", **facts
        )
    if code == 1290 and "strict_password_validation" in said.replace("-", "_"):
        return PermissionMissing(
            f"{host} takes no hashes, only passwords in clear text, which would be in its log",
            hint="Set strict_password_validation=OFF: the generated password is stronger than any check.",
            right="strict_password_validation=OFF",
            **facts,
        )
    if code in {1290, 1836} and "read_only" in said.replace("-", "_"):
        return refusals.replica(host, str(code))
    if code in _THROTTLED:
        return VendorThrottled(f"{host} takes no more of this account now ({code})", **facts)
    if code == 1820:
        return PermissionMissing("the password has expired", right="a password that has not expired", **facts)
    if code in _BUSY:
        return VendorUnavailable(f"{host} did not carry the statement out ({code})", **facts)
    return UnexpectedAnswer(f"{host} refused the statement ({code})", **facts)

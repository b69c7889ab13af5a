"""Snowflake sessions through the official driver: guarded address, bounded time, one attempt, nothing kept or read.

A session proves that its login worked and nothing else: it outlives the credential. So each is opened for one task and
closed after it. The driver's texts may quote a statement and never leave; its codes do.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from keyturn import boundary
from keyturn.contract.values import NetworkPolicy
from keyturn.errors import (
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.transport import ssrf

# The driver logs statements at DEBUG, and an ALTER USER may hold a password.
for _name in ("snowflake", "snowflake.connector", "sf_core"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

# Source: docs.snowflake.com key-pair-auth-troubleshooting; driver 5.2.0 run against the stand-in, checked 2026-11-23.
REJECTED = frozenset({"390100", "390144"})
LOCKED = "390102"
_HINTS = {
    "390101": "The user is disabled; that says nothing about its key. Let an administrator enable it.",
    LOCKED: "The user is locked after failed logins; it opens by itself after 15 minutes.",
    "390106": "The password has expired and must be changed by hand.",
    "390189": "The user may not use this role; grant it or name another.",
    "390197": "The account asks for a second factor; use a service user with a key pair.",
    "390303": "Snowflake does not take the access token it has just given; ask again later.",
    "390304": "The security integration is disabled; let an administrator enable it.",
    "390318": "The access token has run out; ask for another.",
    "390202": "An authentication policy forbids this kind of login.",
    "390422": "A network policy refuses this machine's address; add it to the policy.",
}
_SESSION_GONE = frozenset({"390110", "390111", "390112", "390113", "390114", "390115", "390400"})
_UNFINISHED = frozenset({"603", "604", "630"})  # the server gave up on a statement it had begun
_BAD_KEY = frozenset({"251007", "251008"})
_STATUS = re.compile(r"last status (\d{3})")
_REASON = re.compile(r"reason: '([a-z0-9_ ]{1,60})'")
_OLDEST_DRIVER = 5
_SHARE = 3  # login and two slow statements fit into a deadline


@dataclass(frozen=True)
class Login:
    """Who logs in where: by key pair (unencrypted PKCS#8 DER), by OAuth access token (which names its user itself) or by
    password. Prints without any of them."""

    account: str
    user: str
    host: str
    port: int = 443
    protocol: str = "https"
    role: str = ""
    warehouse: str = ""
    database: str = ""
    schema: str = ""
    private_key: bytes = field(default=b"", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


class Session:
    """One open session. Statements run one by one; each has its own bound inside the deadline of all."""

    def __init__(self, connection: Any, host: str, deadline: float, patience_s: int) -> None:
        self._connection = connection
        self._host = host
        self._deadline = deadline
        self._patience_s = patience_s

    def run(self, sql: str, *, changes: bool = False, right: str = "") -> list[dict[str, Any]]:
        """Runs one statement and returns its rows, keyed by lower-case column name.

        `changes` marks one that alters something; `right` is the privilege it needs, for the error. The driver sends it
        once. Raises: PermissionMissing, NotFound, ValueRefused (definite, nothing changed); VendorThrottled and
        VendorUnavailable (nothing changed); OutcomeUnknown (a change without a clear answer); UnexpectedAnswer.
        """
        boundary.leaving(self._host)
        if self._deadline - time.monotonic() < self._patience_s:
            raise VendorUnavailable(
                f"{self._host} left no time for the next statement",
                hint="The statement was not sent; the call is made again later.",
                host=self._host,
                network="timeout",
            )
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql)
                names = [str(column[0]).strip('"').lower() for column in cursor.description]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        except Exception as error:  # the driver also lets bare ValueError, TypeError and RuntimeError out
            raise _refused(error, self._host, changes=changes, right=right) from None


@contextmanager
def session(login: Login, network: NetworkPolicy, deadline_s: float) -> Iterator[Session]:
    """A fresh login, closed with a log-out that may fail in silence.

    Raises: CredentialRejected (the documented no: key or password), VendorThrottled, VendorUnavailable (anything that
    says nothing about the credential, with the vendor's code in `facts`; `facts['locked']` for a lock-out),
    InvalidInput, NotPermitted.
    """
    literal = f"[{login.host}]" if ":" in login.host else login.host
    target = ssrf.target(f"{login.protocol}://{literal}:{login.port}/", network)
    boundary.leaving(target.host)
    deadline = time.monotonic() + deadline_s
    # The driver resolves again by itself, so this check is not a pin; TLS against the name is what binds the two.
    ssrf.addresses(target, network)
    patience_s = max(int(deadline_s / _SHARE), 1)
    connection = _connect(login, target, patience_s)
    try:
        yield Session(connection, target.host, deadline, patience_s)
    finally:
        _close(connection)


def _connect(login: Login, target: ssrf.Target, patience_s: int) -> Any:
    # The driver asks cloud metadata addresses and ~/.aws where it runs, to tell the vendor; nobody asked for that.
    os.environ.setdefault("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true")
    connect = _driver()
    where = {
        name: value for name in ("role", "warehouse", "database", "schema") if (value := getattr(login, name))
    }
    try:
        return connect(
            account=login.account,
            host=target.host,
            port=target.port,
            protocol=target.scheme,
            **_who(login),
            **where,
            **_bounds(patience_s),
        )
    except Exception as error:  # see Session.run
        raise _not_let_in(error, target.host) from None


def _who(login: Login) -> dict[str, Any]:
    if login.token:
        return {"authenticator": "oauth", "token": login.token}
    if login.private_key:
        return {"user": login.user, "authenticator": "SNOWFLAKE_JWT", "private_key": login.private_key}
    return {"user": login.user, "password": login.password}


def _driver() -> Any:
    """The driver's `connect`. Before 5 it sends a statement again by itself, three times and more, whatever it is told.

    Raises: InvalidInput.
    """
    connector: Any
    try:
        connector = importlib.import_module("snowflake.connector")
    except ImportError:
        connector = None
    if connector is None or int(connector.__version__.split(".")[0]) < _OLDEST_DRIVER:
        raise InvalidInput(
            f"the Snowflake driver is missing or older than {_OLDEST_DRIVER}",
            hint="Install keyturn[snowflake].",
            field="method",
        )
    return connector.connect


def _bounds(patience_s: int) -> dict[str, Any]:
    """Time-outs, no second attempt, and nothing taken from or left on this machine."""
    return {
        "login_timeout": patience_s,
        "request_timeout": patience_s,
        "query_timeout": patience_s,
        "connect_timeout": max(patience_s // 2, 1),
        "retry_timeout": patience_s,
        "retry_max_attempts": 1,
        "logout_max_attempts": 1,
        "logout_total_timeout_seconds": 2,
        "server_session_keep_alive": False,
        "enable_server_session_keep_alive_auto_detection": False,
        "client_session_keep_alive": False,
        # A login that failed would close itself when the collector finds it, in any thread, with context variables: where
        # that thread is changing its own, Python 3.11 crashes (a collection runs in the middle of that; not from 3.12 on).
        "auto_cleanup": False,
        "use_proxy_env": False,
        "client_store_temporary_credential": False,
        "client_out_of_band_telemetry_enabled": False,
        "crl_enable_disk_caching": False,
        "session_parameters": {"CLIENT_TELEMETRY_ENABLED": False, "TIMEZONE": "UTC"},
    }


def _close(connection: Any) -> None:
    try:
        connection.close(retry=False)
    except Exception:
        pass  # the session dies by itself; what it was opened for is done and known


def _not_let_in(error: Exception, host: str) -> KeyturnError:
    code = _code(error)
    facts = {"host": host, "operation": "login", "code": code}
    if code in REJECTED:
        return CredentialRejected(
            f"Snowflake refuses the login ({code})",
            hint="The key or password is not this user's any more.",
            **facts,
        )
    if code in _BAD_KEY:
        return InvalidInput(
            "the driver cannot use this private key", hint="Give an RSA key in PKCS#8.", field="private_key"
        )
    if code in _HINTS:
        locked = {"locked": True} if code == LOCKED else {}
        return VendorUnavailable(
            f"Snowflake did not let the user in ({code})", hint=_HINTS[code], **facts, **locked
        )
    return _lost(error, host, "login", changes=False)


def _refused(error: Exception, host: str, *, changes: bool, right: str) -> KeyturnError:
    code, text = _code(error), _text(error)
    facts = {"host": host, "operation": right or "statement", "code": code}
    if code in _SESSION_GONE:
        return VendorUnavailable(
            "Snowflake ended the session", hint="The statement did not run; log in again.", **facts
        )
    if not _is_definite(error, code):
        return _lost(error, host, right or "statement", changes=changes)
    if code == "3001":
        return PermissionMissing(
            "the role lacks a privilege",
            hint="Grant it, or act with an administrator's user.",
            right=right,
            **facts,
        )
    if code == "2003":
        return NotFound(
            "Snowflake knows no such object, or hides it from this role",
            hint="Check the name and the role.",
            **facts,
        )
    if code == "3002" or "rejected by current" in text:
        reason = _REASON.search(text)
        return ValueRefused(
            "a policy of the account refuses the value",
            hint="Nothing was changed.",
            reason=reason[1].upper() if reason else "",
            **facts,
        )
    return UnexpectedAnswer(
        f"Snowflake refused the statement with {code}",
        hint="The code is not one that is documented for it.",
        sqlstate=str(getattr(error, "sqlstate", "") or ""),
        **facts,
    )


def _is_definite(error: Exception, code: str) -> bool:
    """Whether the server itself refused the statement, so that nothing of it happened."""
    sqlstate = str(getattr(error, "sqlstate", "") or "")
    return bool(sqlstate) and not sqlstate.startswith("08") and bool(code) and code not in _UNFINISHED


def _lost(error: Exception, host: str, operation: str, *, changes: bool) -> KeyturnError:
    """The meaning of a missing answer."""
    text = _text(error)
    found = _STATUS.search(text)
    status = int(found[1]) if found else 0
    facts: dict[str, Any] = {
        "host": host,
        "operation": operation,
        "code": _code(error),
        "network": _kind(text),
    }
    if status:
        facts["status"] = status
    if status == 429:
        return VendorThrottled("Snowflake asks to slow down", hint="Nothing was changed; try later.", **facts)
    if changes:
        return OutcomeUnknown(
            f"{host} gave no clear answer",
            hint="The change may have happened; the user is looked at first.",
            **facts,
        )
    return VendorUnavailable(
        f"{host} gave no clear answer", hint="Nothing was changed; the call is made again later.", **facts
    )


def _kind(text: str) -> str:
    words = {
        "timed out": "timeout",
        "refused": "refused",
        "closed": "reset",
        "certificate": "tls",
        "dns": "dns",
    }
    return next((kind for word, kind in words.items() if word in text), "protocol")


def _text(error: Exception) -> str:
    """The driver's text, lower case, to look for words in; never to show."""
    return str(getattr(error, "raw_msg", "") or error).lower()


def _code(error: Exception) -> str:
    """The vendor's number without leading zeros; empty when there is none."""
    number = getattr(error, "errno", None)
    return str(number) if isinstance(number, int) and number > 0 else ""

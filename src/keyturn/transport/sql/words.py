"""What a PostgreSQL server and libpq say, in our words: nothing of theirs that could hold a secret comes through."""

from __future__ import annotations

import re
from collections.abc import Callable

from psycopg import pq

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

_STATE = re.compile(r"failed: [^\n]*?:  ([0-9A-Z]{5}): ")
# Without a SQLSTATE (an old libpq): the English texts, which PostgreSQL has not changed since version 8.
_TEXTS = (
    ("password authentication failed", "28P01"),
    ("is not permitted to log in", "28000"),
    ("no pg_hba.conf entry", "28000"),
    ("permission denied for database", "42501"),
    ("too many connections", "53300"),
    ("too many clients", "53300"),
    ("remaining connection slots", "53300"),
    ("the database system is starting", "57P03"),
    ("the database system is shutting", "57P03"),
    ("the database system is not accepting", "57P03"),
)
_NO_DATABASE = re.compile(r'database "[^\n]*" does not exist')
_LOCAL = (  # libpq's own words, before or instead of an answer
    ("did not complete authentication", "trust"),
    ("authentication method requirement", "method"),
    ("Connection refused", "refused"),
    ("timeout expired", "timeout"),
    ("Connection timed out", "timeout"),
    ("certificate", "tls"),
    ("SSL", "tls"),
    ("server closed the connection", "lost"),
    ("Connection reset", "lost"),
)


def login_error(conn: pq.abc.PGconn, params: Login) -> KeyturnError:
    """Why a login failed; ends the connection."""
    text = conn.error_message.decode("utf-8", "replace")
    conn.finish()
    code = _code(text)
    # LOCATION names the C function that refused, in no language: the role exists and the password fits, but no LOGIN.
    if code == "28000" and ("InitializeSessionUserId" in text or "is not permitted to log in" in text):
        return CredentialRejected(
            f"role {params.user} is not permitted to log in",
            hint=f"ALTER ROLE {params.user} LOGIN.",
            code=code,
            host=params.host,
        )
    # Redshift, which took this wire from PostgreSQL 8, says 28000 to a wrong password; PostgreSQL itself never does.
    if code == "28000" and "password authentication failed" in text:
        return _wrong_password(code, params)
    return _LOGIN_ERRORS.get(code, _unreachable)(code, params)


def _code(text: str) -> str:
    if found := _STATE.search(text):
        return found[1]
    for words, code in _TEXTS:
        if words in text:
            return code
    if _NO_DATABASE.search(text):
        return "3D000"
    return next((code for words, code in _LOCAL if words in text), "unreachable")


def _wrong_password(code: str, params: Login) -> KeyturnError:
    return CredentialRejected(
        f"password authentication failed for role {params.user}",
        hint="PostgreSQL does not tell a wrong password, an unknown role, a passed VALID UNTIL and no password apart.",
        code=code,
        host=params.host,
    )


def _not_let_in(code: str, params: Login) -> KeyturnError:
    return PermissionMissing(
        f"{params.host} has no pg_hba.conf entry that lets role {params.user} into {params.database} from here",
        hint="Add a `hostssl ... scram-sha-256` line for this machine's address and reload the server.",
        right="pg_hba.conf entry",
        code=code,
        host=params.host,
    )


def _no_connect(code: str, params: Login) -> KeyturnError:
    return PermissionMissing(
        f"role {params.user} may not connect to database {params.database}",
        hint=f"GRANT CONNECT ON DATABASE {params.database} TO {params.user};",
        right="CONNECT",
        code=code,
        host=params.host,
    )


def _full(code: str, params: Login) -> KeyturnError:
    return VendorThrottled(
        f"{params.host} has no free connection for role {params.user}",
        hint="Raise the role's CONNECTION LIMIT or the server's max_connections, or close unused sessions.",
        code=code,
        host=params.host,
    )


def _not_ready(code: str, params: Login) -> KeyturnError:
    return VendorUnavailable(f"{params.host} is starting or shutting down", code=code, host=params.host)


def _asks_nothing(code: str, params: Login) -> KeyturnError:
    return UnexpectedAnswer(
        f"{params.host} lets role {params.user} in without asking for the password, so no test means anything",
        hint="A line in pg_hba.conf says trust (or peer, cert) for this login: make it scram-sha-256.",
        code=code,
        host=params.host,
    )


def _other_method(code: str, params: Login) -> KeyturnError:
    used = "scram-sha-256 and md5 are used; a clear password is sent only under sslmode verify-full."
    return refusals.unsafe_method(code, params, used)


def _tls(code: str, params: Login) -> KeyturnError:
    return refusals.no_tls(code, params, "sslmode")


def _unreachable(code: str, params: Login) -> KeyturnError:
    words = {"refused": "refused the connection", "lost": "closed the connection"}
    return refusals.unreachable(code, params, words.get(code, "could not be reached"))


_LOGIN_ERRORS: dict[str, Callable[[str, Login], KeyturnError]] = {
    "28P01": _wrong_password,
    "28000": _not_let_in,
    "42501": _no_connect,
    "3D000": refusals.no_database,
    "53300": _full,
    "57P01": _not_ready,
    "57P03": _not_ready,
    "trust": _asks_nothing,
    "method": _other_method,
    "tls": _tls,
}


def statement_error(state: str, said: str, detail: str, host: str, right: str) -> KeyturnError:
    """A refused statement: its transaction was undone, so nothing changed.

    The server's words are shown only for states whose text holds names; a syntax error could quote a verifier.
    """
    facts = {"code": state, "host": host}
    if state == "42501":
        needed = right or "a privilege"
        return PermissionMissing(
            f"{said or 'permission denied'}", hint=f"Needed: {needed}.", right=needed, **facts
        )
    if state in {"42704", "3D000", "42P01", "42883"}:
        return NotFound(said or "the object does not exist", **facts)
    if state in {"42710", "2BP01"}:
        return Conflict(said or "it is in use", hint=detail, **facts)
    if state in {"22023", "28P01"}:
        return ValueRefused("the server refused the value", hint="A password policy may be at work.", **facts)
    if state == "25006":
        return refusals.replica(host, state)
    if state == "53300":
        return VendorThrottled(f"{host} has no free connection", **facts)
    # 57014: our statement_timeout or a cancel. XX000 with ALTER ROLE is "tuple concurrently updated": a race, lost.
    if state[:2] in {"40", "53", "55", "57"} or state == "XX000":
        return VendorUnavailable(f"{host} did not carry the statement out ({state})", **facts)
    return UnexpectedAnswer(f"{host} refused the statement ({state})", **facts)

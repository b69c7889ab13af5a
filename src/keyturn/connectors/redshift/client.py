"""The statements, nothing else. Identifiers and literals are escaped by libpq; the password itself is never in one.

Redshift keeps the text of statements (STL_DDLTEXT, SYS_QUERY_HISTORY, the audit log), so only a digest is sent.
Sources: https://docs.aws.amazon.com/redshift/latest/dg/r_ALTER_USER.html and r_CREATE_USER.html, checked 2026-11-23.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from keyturn.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    PermissionMissing,
    VendorUnavailable,
)
from keyturn.transport.sql import Row, Session

SET_RIGHT = "superuser, or the system privilege ALTER USER"
END_RIGHT = "superuser (pg_terminate_backend of other users' sessions)"
DROP_RIGHT = "superuser, or the system privilege DROP USER"
OFF, EMPTIED = (
    "2000-01-01",
    "1971-01-01",
)  # passed dates of our own: switched off with its value, and without one
_LOOKS = 40


@dataclass(frozen=True)
class User:
    """One row of pg_user. Whether it holds a password is told to nobody; `emptied` and `off` are our own dates."""

    name: str
    superuser: bool
    emptied: bool
    expired: bool
    sessions: int
    in_group: bool


def digest(user: str, password: str) -> str:
    """What Redshift stores for a password: salted with the user's name, in the lower case in which it is kept."""
    return "md5" + hashlib.md5((password + user.lower()).encode(), usedforsecurity=False).hexdigest()


def read_identity(session: Session, group: str, sample_query: str) -> tuple[str, str, bool]:
    """User, database, and whether the user is in `group`; the sample query runs read-only in the same trip."""
    text = session.compose(
        "SELECT current_user, current_database(), (SELECT count(*) FROM pg_group g, pg_user u"
        " WHERE u.usesysid = ANY (g.grolist) AND u.usename = current_user AND g.groname = {group})",
        group=group,
    )
    row = session.read_only(text, sample_query)[0][0] if sample_query else session.query(text)[0]
    return str(row[0]), str(row[1]), row[2] != "0"


def count_sample(session: Session, table: Sequence[str], query: str, limit: int) -> int:
    """How many rows there are to see, at most `limit`: counted by the cluster, none leaves it.

    `table` is one name or schema and name; without one the operator's own query is counted. In a transaction that may
    only read and is rolled back.
    """
    if table:
        inner = session.compose("SELECT 1 FROM " + ".".join(f"{{{n}}}" for n in range(len(table))), *table)
    else:
        inner = f"SELECT 1 FROM ({query}\n) keyturn_query"
    counted = f"SELECT count(*) FROM ({inner} LIMIT {limit:d}) keyturn_sample"
    return int(session.read_only(counted)[0][0][0] or 0)


def set_password(session: Session, user: str, password: str, *, options: str = "") -> None:
    """Writes the digest. `options` is one of our own constants.

    Raises: InvalidInput when there is no such user, which is definite.
    """
    template = f"ALTER USER {{0}} PASSWORD {{digest}}{options}"
    try:
        session.change(session.compose(template, user, digest=digest(user, password)), right=SET_RIGHT)
    except NotFound as error:
        hint = "Somebody dropped it. Create it again with what it may do, then start again."
        raise InvalidInput(error.message, hint=hint, field="user") from None


def alter(session: Session, user: str, options: str) -> None:
    """Changes a user; `options` is one of our own constants."""
    session.change(session.compose(f"ALTER USER {{0}} {options}", user), right=SET_RIGHT)


def check_ending(session: Session) -> None:
    """Looks, before anything is changed, whether sessions can be seen and ended. Raises: PermissionMissing."""
    if not session.is_superuser:
        raise PermissionMissing(
            "only a superuser sees and ends other users' sessions",
            hint="ALTER USER ... CREATEUSER.",
            right=END_RIGHT,
        )


def end_sessions(session: Session, user: str) -> None:
    """Ends the user's sessions and waits until they are gone; they outlive every change of the user otherwise.

    Names in stv_sessions are padded. The change that keeps the user out must be committed before.
    Raises: PermissionMissing, OutcomeUnknown when some are still there after a while.
    """
    check_ending(session)
    own = "trim(user_name) = {user} AND process <> pg_backend_pid()"
    session.change(
        session.compose(f"SELECT pg_terminate_backend(process) FROM stv_sessions WHERE {own}", user=user),
        right=END_RIGHT,
    )
    live = session.compose(f"SELECT count(*) FROM stv_sessions WHERE {own}", user=user)
    for _ in range(_LOOKS):
        if session.query(live)[0][0] == "0":
            return
    raise OutcomeUnknown(f"sessions of user {user} have not ended yet", code="sessions")


def read_users(session: Session, names: Sequence[str], group: str = "") -> dict[str, User]:
    """The users by name; absent ones are left out. Sessions of others are seen by superusers only."""
    wanted = ", ".join(session.compose("{name}", name=name) for name in names)
    statement = (
        "SELECT u.usename, u.usesuper, coalesce(u.valuntil <= {emptied}, false), coalesce(u.valuntil <= now(), false),"
        " (SELECT count(*) FROM stv_sessions s WHERE trim(s.user_name) = u.usename AND s.process <> pg_backend_pid()),"
        " (SELECT count(*) FROM pg_group g WHERE g.groname = {group} AND u.usesysid = ANY (g.grolist))"
    )
    rows = session.query(
        session.compose(statement, emptied=EMPTIED, group=group)
        + f" FROM pg_user u WHERE u.usename IN ({wanted})"
    )
    return {
        str(row[0]): User(
            str(row[0]), row[1] == "t", row[2] == "t", row[3] == "t", int(row[4] or 0), row[5] != "0"
        )
        for row in rows
    }


def list_all(session: Session) -> list[Row]:
    """Every user there is. Redshift keeps no age of a password; logins are in stl_connection_log for a few days."""
    return session.query(
        "SELECT usename, usesuper, usecreatedb, coalesce(valuntil <= now(), false),"
        " (SELECT count(*) FROM stv_sessions s WHERE trim(s.user_name) = usename) FROM pg_user ORDER BY 1"
    )


def drop_user(session: Session, user: str) -> None:
    """Drops the user. There is no REASSIGN OWNED: what it owns must be given away before, in each database.

    Raises: Conflict when it still owns or may use something here.
    """
    try:
        session.change(session.compose("DROP USER IF EXISTS {0}", user), right=DROP_RIGHT)
    except (VendorUnavailable, Conflict) as error:
        if error.facts.get("code") not in {"55006", "2BP01"}:
            raise
        raise Conflict(
            f"user {user} cannot be dropped: it owns something or has privileges",
            hint="In each database ALTER ... OWNER TO somebody else and REVOKE its privileges, then drop again.",
            **error.facts,
        ) from None

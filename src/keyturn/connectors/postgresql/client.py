"""The statements, nothing else. Identifiers and literals are escaped by libpq; the password itself is never in one."""

from __future__ import annotations

from collections.abc import Sequence

from keyturn.connectors.postgresql.types import Role
from keyturn.errors import Conflict, InvalidInput, NotFound, OutcomeUnknown, PermissionMissing
from keyturn.keymaking.scram import ScramKeys
from keyturn.transport.sql import Row, Session

IDENTITY = "SELECT session_user, current_user"
SET_RIGHT = "CREATEROLE (PostgreSQL 16 and later: and ADMIN OPTION on the role)"
END_RIGHT = "pg_signal_backend"
DROP_RIGHT = "CREATEROLE and membership in the role"

_LOOKS = 20

# A role's own `role` setting for this database wins over the one for all databases.
_ROLES = """
SELECT r.rolname, r.rolcanlogin, coalesce(r.rolvaliduntil <= now(), false), coalesce(r.rolvaliduntil > now(), false),
  r.rolconnlimit,
  (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid AND a.pid <> pg_backend_pid()),
  (SELECT split_part(c, '=', 2) FROM pg_db_role_setting s, unnest(s.setconfig) c
    WHERE s.setrole = r.oid AND c LIKE 'role=%%'
      AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    ORDER BY s.setdatabase DESC LIMIT 1),
  EXISTS (SELECT 1 FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
    WHERE m.member = r.oid AND g.rolname = $1)
FROM pg_roles r WHERE r.rolname = ANY (ARRAY[$2, $3])
""".replace("%%", "%")


def read_identity(session: Session, sample_query: str) -> tuple[str, str]:
    """Who the server says we are: session user and acting user; with the sample query in the same trip."""
    row = (session.read_only(IDENTITY, sample_query)[0] if sample_query else session.query(IDENTITY))[0]
    return str(row[0]), str(row[1])


def count_sample(session: Session, table: Sequence[str], query: str, limit: int) -> int:
    """How many rows there are to see, at most `limit`: counted by the server, none leaves it.

    `table` is one name or schema and name, spelled exactly; without one the operator's own query is counted. In a
    transaction that may only read and is rolled back.
    """
    if table:
        inner = session.compose("SELECT 1 FROM " + ".".join(f"{{{n}}}" for n in range(len(table))), *table)
    else:
        inner = f"SELECT 1 FROM ({query}\n) keyturn_query"
    counted = f"SELECT count(*) FROM ({inner} LIMIT {limit:d}) keyturn_sample"
    return int(session.read_only(counted)[0][0][0] or 0)


def set_password(session: Session, role: str, keys: ScramKeys, *, options: str) -> None:
    """Writes the verifier. `options` is one of our own constants: what comes before and after the password.

    Raises: InvalidInput when there is no such role, which is definite.
    """
    before, _, after = options.partition("PASSWORD")
    template = f"ALTER ROLE {{0}} {before}PASSWORD {{verifier}}{after}"
    try:
        session.change(session.compose(template, role, verifier=keys.verifier()), right=SET_RIGHT)
    except NotFound as error:
        hint = "Somebody dropped it. Create it again with what it may do, then start again."
        raise InvalidInput(error.message, hint=hint, field="user") from None


def alter(session: Session, role: str, options: str) -> None:
    """Changes a role; `options` is one of our own constants."""
    session.change(session.compose(f"ALTER ROLE {{0}} {options}", role), right=SET_RIGHT)


def check_ending(session: Session, role: str) -> None:
    """Looks, before anything is changed, whether the role's sessions can be ended. Raises: PermissionMissing.

    Source: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-SIGNAL (checked 2026-11-29):
    a member of the role or of pg_signal_backend may; so may the role itself.
    """
    may = "SELECT pg_has_role(current_user, $1, 'USAGE') OR pg_has_role(current_user, 'pg_signal_backend', 'USAGE')"
    if not session.is_superuser and session.query(may, role)[0][0] != "t":
        raise PermissionMissing(
            f"may not end the sessions of role {role}",
            hint="GRANT pg_signal_backend to the administrator, or leave end_sessions off.",
            right=END_RIGHT,
        )


def end_sessions(session: Session, role: str) -> None:
    """Ends the role's sessions and waits until they are gone; they outlive every change of the role otherwise.

    The change that keeps the role out must be committed before, or a client simply comes back.
    Raises: OutcomeUnknown when some are still there after a second more.
    """
    ask = (
        "pg_terminate_backend(pid, 3000)" if session.server_version >= 140000 else "pg_terminate_backend(pid)"
    )
    statement = f"SELECT {ask} FROM pg_stat_activity WHERE usename = {{role}} AND pid <> pg_backend_pid()"
    session.change(session.compose(statement, role=role), right=END_RIGHT)
    for _ in range(_LOOKS):
        live = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND pid <> pg_backend_pid()"
        if session.query(live, role)[0][0] == "0":
            return
        session.query("SELECT pg_sleep(0.05)")
    raise OutcomeUnknown(f"sessions of role {role} have not ended yet", code="sessions")


def read_roles(session: Session, roles: Sequence[str], group_role: str = "") -> dict[str, Role]:
    """The roles by name; absent ones are left out. The verifier only where pg_authid can be read."""
    first, last = roles[0], roles[-1]
    rows = session.query(_ROLES, group_role, first, last)
    stored: dict[str, str | None] = {}
    if session.is_superuser:
        passwords = session.query(
            "SELECT rolname, coalesce(rolpassword, '') FROM pg_authid WHERE rolname = ANY (ARRAY[$1, $2])",
            first,
            last,
        )
        stored = {str(name): text for name, text in passwords}
    return {
        str(name): Role(
            name=str(name),
            can_login=login == "t",
            expired=expired == "t",
            runs_on=runs_on == "t",
            limit=int(limit or "-1"),
            sessions=int(sessions or 0),
            acts_as=(acts_as or "").strip('"'),
            in_group=in_group == "t",
            verifier=stored.get(str(name)),
        )
        for name, login, expired, runs_on, limit, sessions, acts_as, in_group in rows
    }


def read_slot(session: Session, role: str) -> tuple[bool, str | None] | None:
    """Whether one role may log in now, and its verifier where it can be read; None when there is no such role.

    A tenth of the price of `read_roles`: every rotation by an administrator looks here first.
    """
    table, verifier = (
        ("pg_authid", "coalesce(rolpassword, '')") if session.is_superuser else ("pg_roles", "NULL")
    )
    usable = "rolcanlogin AND coalesce(rolvaliduntil > now(), true)"
    rows = session.query(f"SELECT {usable}, {verifier} FROM {table} WHERE rolname = $1", role, again=True)
    return (rows[0][0] == "t", rows[0][1]) if rows else None


def drop_role(session: Session, role: str, heir: str) -> None:
    """Gives what the role owns in this database to `heir` and drops the role, all or nothing.

    Raises: Conflict naming what in other databases still depends on it.
    """
    try:
        session.change(
            session.compose("REASSIGN OWNED BY {0} TO {1}", role, heir),
            session.compose("DROP OWNED BY {0}", role),  # grants only: nothing is owned any more
            session.compose("DROP ROLE {0}", role),
            right=DROP_RIGHT,
        )
    except Conflict as error:
        raise Conflict(
            f"role {role} cannot be dropped: objects depend on it",
            hint=f"{error.hint} In each database run REASSIGN OWNED BY and DROP OWNED BY, then drop again.".strip(),
            **error.facts,
        ) from None
    except PermissionMissing as error:
        raise PermissionMissing(
            error.message, hint=f"GRANT {role} TO the administrator; drop again.", **error.facts
        ) from None


def list_all(session: Session) -> list[Row]:
    """Every role that is not PostgreSQL's own. `rolvaliduntil` as epoch seconds: the raw value may be 'infinity'."""
    return session.query(
        "SELECT rolname, rolsuper, rolcreaterole, rolcanlogin, rolreplication, rolconnlimit,"
        " CASE WHEN isfinite(rolvaliduntil) THEN extract(epoch FROM rolvaliduntil)::bigint END,"
        " (SELECT string_agg(g.rolname, ',' ORDER BY 1) FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
        "   WHERE m.member = r.oid),"
        " (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid)"
        " FROM pg_roles r WHERE rolname !~ '^pg_' ORDER BY 1"
    )

"""The statements about programmatic access tokens: ADD, ROTATE, MODIFY, REMOVE and SHOW. A secret is shown once.

Source: docs.snowflake.com sql-reference/sql/alter-user-add/rotate/modify/remove-programmatic-access-token,
show-user-programmatic-access-tokens; user-guide/programmatic-access-tokens (limits).
"""

from datetime import timedelta

from .lexer import Cursor, syntax_error
from .rights import keyed_user, refused
from .state import Account, Pat, Session, User
from .wire import Table, columns, status

MOST_PER_USER = 15
DEFAULT_DAYS = 15
LONGEST_DAYS = 365
DEFAULT_OVERLAP_HOURS = 24  # unconfirmed


def add_pat(account: Account, session: Session, name: str, cursor: Cursor) -> Table:
    user, token_name = _target(account, session, name, cursor)
    options = _options(cursor)
    if token_name in user.pats:
        raise refused(f"Programmatic access token {token_name} already exists.")
    if sum(pat.expires_at > account.now() for pat in user.pats.values()) >= MOST_PER_USER:
        raise refused(f"A user can have at most {MOST_PER_USER} programmatic access tokens.")
    if user.is_service and "ROLE_RESTRICTION" not in options:
        raise refused("ROLE_RESTRICTION is required for service users.")
    pat = _new(account, session, token_name, options)
    user.pats[token_name] = pat
    return Table(columns("token_name,token_secret"), ((token_name, pat.secret),))


def rotate_pat(account: Account, session: Session, name: str, cursor: Cursor) -> Table:
    """The old token is renamed and lives on for the overlap; zero hours ends it at once."""
    user, token_name = _target(account, session, name, cursor)
    hours = int(_options(cursor).get("EXPIRE_ROTATED_TOKEN_AFTER_HOURS", DEFAULT_OVERLAP_HOURS))
    old = _find(user, token_name)
    now = account.now()
    old.name = f"{token_name}_ROTATED_{int(now.timestamp() * 1000)}"
    old.rotated_to = token_name
    old.expires_at = min(old.expires_at, now + timedelta(hours=hours))
    user.pats[old.name] = old
    options = {"ROLE_RESTRICTION": old.role_restriction} if old.role_restriction else {}
    new = _new(account, session, token_name, options)
    user.pats[token_name] = new
    return Table(columns("token_name,token_secret,rotated_token_name"), ((token_name, new.secret, old.name),))


def modify_pat(account: Account, session: Session, name: str, cursor: Cursor) -> Table:
    user, token_name = _target(account, session, name, cursor)
    pat = _find(user, token_name)
    if cursor.accept("RENAME", "TO"):
        pat.name = cursor.name()
        user.pats[pat.name] = user.pats.pop(token_name)
        cursor.end()
        return status()
    cursor.expect("SET")
    for key, value in _options(cursor).items():
        if key == "DISABLED":
            pat.is_off = value.upper() == "TRUE"
        elif key == "COMMENT":
            pat.comment = value
    return status()


def remove_pat(account: Account, session: Session, name: str, cursor: Cursor) -> Table:
    user, token_name = _target(account, session, name, cursor)
    cursor.end()
    _find(user, token_name)
    del user.pats[token_name]
    return status(f"Programmatic access token {token_name} successfully removed.")


def show_pats(account: Account, session: Session, cursor: Cursor) -> Table:
    name = session.user
    if cursor.accept("FOR", "USER"):
        name = cursor.name()
    cursor.end()
    user = account.users[name] if name == session.user else keyed_user(account, session, name)
    rows = tuple(
        (
            pat.name,
            user.name,
            pat.role_restriction,
            pat.expires_at,
            _state(account, pat),
            pat.comment,
            pat.created_on,
            pat.created_by,
            pat.bypass_minutes,
            pat.rotated_to,
        )
        for pat in user.pats.values()
    )
    shown = columns(
        "name,user_name,role_restriction,expires_at:t,status,comment,created_on:t,created_by,"
        "mins_to_bypass_network_policy_requirement:n,rotated_to"
    )
    return Table(shown, rows)


def accept_pat(cursor: Cursor) -> bool:
    return cursor.accept("PAT") or cursor.accept("PROGRAMMATIC", "ACCESS", "TOKEN")


def _target(account: Account, session: Session, name: str, cursor: Cursor) -> tuple[User, str]:
    """The user and the token's name. A session opened with a user's token may not touch that user's tokens."""
    user = keyed_user(account, session, name)
    if session.pat is not None and session.user == name:
        raise refused("This session was opened with a programmatic access token and cannot change tokens.")
    return user, cursor.name()


def _find(user: User, token_name: str) -> Pat:
    if token_name not in user.pats:
        raise refused(f"Programmatic access token {token_name} does not exist or not authorized.")
    return user.pats[token_name]


def _new(account: Account, session: Session, token_name: str, options: dict[str, str]) -> Pat:
    days = int(options.get("DAYS_TO_EXPIRY", DEFAULT_DAYS))
    if not 1 <= days <= LONGEST_DAYS:
        raise refused(f"DAYS_TO_EXPIRY must lie between 1 and {LONGEST_DAYS}.")
    now = account.now()
    return Pat(
        name=token_name,
        secret=account.mint("pat"),
        expires_at=now + timedelta(days=days),
        created_on=now,
        created_by=session.user,
        role_restriction=options.get("ROLE_RESTRICTION"),
        comment=options.get("COMMENT"),
    )


def _options(cursor: Cursor) -> dict[str, str]:
    known = (
        "ROLE_RESTRICTION",
        "DAYS_TO_EXPIRY",
        "MINS_TO_BYPASS_NETWORK_POLICY_REQUIREMENT",
        "COMMENT",
        "EXPIRE_ROTATED_TOKEN_AFTER_HOURS",
        "DISABLED",
    )
    found: dict[str, str] = {}
    while cursor.token.text:
        token = cursor.token
        key = cursor.word()
        if key not in known:
            raise syntax_error(token)
        cursor.expect("=")
        found[key] = cursor.value()
        cursor.accept(",")
    cursor.end()
    return found


def _state(account: Account, pat: Pat) -> str:
    if pat.expires_at <= account.now():
        return "EXPIRED"
    return "DISABLED" if pat.is_off else "ACTIVE"

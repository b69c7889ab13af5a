"""How a user is shown: the rows of SHOW USERS and of DESC USER.

Source: docs.snowflake.com sql-reference/sql/show-users, desc-user;
snowflakedb/terraform-provider-snowflake pkg/sdk/users_gen.go (columns and their types).
"""

from datetime import UTC, datetime, timedelta

from .keys import SLOTS
from .lexer import Cursor
from .listing import listing
from .rights import find_user, forbidden, owns
from .state import Account, Session, User
from .wire import Cell, Table, columns

_NEVER = datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)
_SHOWN = columns(
    "name,created_on:t,login_name,display_name,first_name,last_name,email,mins_to_unlock,days_to_expiry,comment,"
    "disabled,must_change_password,snowflake_lock,default_warehouse,default_namespace,default_role,"
    "default_secondary_roles,ext_authn_duo,ext_authn_uid,mins_to_bypass_mfa,owner,last_success_login:t,"
    "expires_at_time:t,locked_until_time:t,has_password:b,has_rsa_public_key:b,type,has_mfa:b,has_pat:b,"
    "has_workload_identity:b,is_from_organization_user:b"
)


def show_users(account: Account, session: Session, cursor: Cursor) -> Table:
    """Everyone may list names; the other columns are null without ownership."""
    select = listing(cursor)
    rows = [
        _shown(account, user) if owns(account, session, user) else (user.name, *[None] * (len(_SHOWN) - 1))
        for user in sorted(account.users.values(), key=lambda each: each.name)
    ]
    return Table(_SHOWN, select(rows))


def desc_user(account: Account, session: Session, cursor: Cursor) -> Table:
    name = cursor.name()
    cursor.end()
    user = find_user(account, name)
    if session.user != name and not owns(account, session, user):
        raise forbidden("user", name)
    rows = tuple((key, _described(value), "null", "") for key, value in _description(account, user).items())
    return Table(columns("property,value,default,description"), rows)


def _lock_minutes(account: Account, user: User) -> str | None:
    if user.locked_until is None or user.locked_until <= account.now():
        return None
    return str(-(-(user.locked_until - account.now()) // timedelta(minutes=1)))


def _word(value: bool) -> str:
    return "true" if value else "false"


def _shown(account: Account, user: User) -> tuple[Cell, ...]:
    texts = user.texts
    return (
        user.name,
        user.created_on,
        user.login_name,
        texts.get("DISPLAY_NAME", user.name),
        texts.get("FIRST_NAME"),
        texts.get("LAST_NAME"),
        texts.get("EMAIL"),
        _lock_minutes(account, user),
        texts.get("DAYS_TO_EXPIRY"),
        texts.get("COMMENT"),
        _word(user.disabled),
        _word(user.must_change_password),
        "false",
        texts.get("DEFAULT_WAREHOUSE"),
        texts.get("DEFAULT_NAMESPACE"),
        user.default_role,
        texts.get("DEFAULT_SECONDARY_ROLES", '["ALL"]'),
        "false",
        None,
        texts.get("MINS_TO_BYPASS_MFA"),
        user.owner,
        user.last_success_login,
        None,
        user.locked_until if _lock_minutes(account, user) else None,
        user.password is not None,
        bool(user.keys),
        user.type,
        False,
        any(pat.expires_at > account.now() for pat in user.pats.values()),
        False,
        False,
    )


def _description(account: Account, user: User) -> dict[str, Cell]:
    facts: dict[str, Cell] = {
        "NAME": user.name,
        "COMMENT": user.texts.get("COMMENT"),
        "DISPLAY_NAME": user.texts.get("DISPLAY_NAME", user.name),
        "TYPE": user.type,
        "LOGIN_NAME": user.login_name,
        "FIRST_NAME": user.texts.get("FIRST_NAME"),
        "MIDDLE_NAME": user.texts.get("MIDDLE_NAME"),
        "LAST_NAME": user.texts.get("LAST_NAME"),
        "EMAIL": user.texts.get("EMAIL"),
        "PASSWORD": "********" if user.password is not None else None,
        "MUST_CHANGE_PASSWORD": user.must_change_password,
        "DISABLED": user.disabled,
        "SNOWFLAKE_LOCK": False,
        "SNOWFLAKE_SUPPORT": False,
        "DAYS_TO_EXPIRY": user.texts.get("DAYS_TO_EXPIRY"),
        "MINS_TO_UNLOCK": _lock_minutes(account, user),
        "DEFAULT_WAREHOUSE": user.texts.get("DEFAULT_WAREHOUSE"),
        "DEFAULT_NAMESPACE": user.texts.get("DEFAULT_NAMESPACE"),
        "DEFAULT_ROLE": user.default_role,
        "DEFAULT_SECONDARY_ROLES": user.texts.get("DEFAULT_SECONDARY_ROLES", '["ALL"]'),
        "EXT_AUTHN_DUO": False,
        "EXT_AUTHN_UID": None,
        "HAS_MFA": False,
        "HAS_PAT": any(pat.expires_at > account.now() for pat in user.pats.values()),
        "HAS_WORKLOAD_IDENTITY": False,
        "MINS_TO_BYPASS_MFA": user.texts.get("MINS_TO_BYPASS_MFA"),
        "MINS_TO_BYPASS_NETWORK_POLICY": None,
    }
    for slot in SLOTS:
        key = user.keys.get(slot)
        facts[slot] = key.body if key else None
        facts[f"{slot}_FP"] = key.fingerprint if key else None
        facts[f"{slot}_LAST_SET_TIME"] = key.set_at if key else None
    return facts | {
        "PASSWORD_LAST_SET_TIME": user.password_set_at or _NEVER,
        "CUSTOM_LANDING_PAGE_URL": None,
        "DEFAULT_MFA_METHOD": None,
        "IS_FROM_ORGANIZATION_USER": False,
    }


def _described(value: Cell) -> str:
    """DESC USER has only text: null is the word `null`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return _word(value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.") + f"{value.microsecond // 1000:03d}"
    return str(value)

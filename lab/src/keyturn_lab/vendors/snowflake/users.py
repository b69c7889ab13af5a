"""The statements that change users: CREATE, ALTER SET, UNSET, RESET and ABORT, DROP.

A list of properties is read and judged whole before any of it is applied: a refused ALTER changes nothing.

Source: docs.snowflake.com sql-reference/sql/alter-user; user-guide (password policies).
"""

from collections.abc import Iterable

from .keys import SLOTS, BadPublicKey, read_key
from .lexer import Cursor
from .rights import (
    keyed_user,
    missing,
    must_be_admin,
    owned_user,
    refused,
)
from .state import Account, Session, User
from .wire import SqlRefusal, Table, status

PLAIN = (
    "COMMENT",
    "DISPLAY_NAME",
    "FIRST_NAME",
    "MIDDLE_NAME",
    "LAST_NAME",
    "EMAIL",
    "DEFAULT_WAREHOUSE",
    "DEFAULT_NAMESPACE",
    "DEFAULT_SECONDARY_ROLES",
    "DAYS_TO_EXPIRY",
    "MINS_TO_BYPASS_MFA",
)
_OWN_KINDS = ("PASSWORD", "MUST_CHANGE_PASSWORD", "DISABLED", "TYPE", "NETWORK_POLICY", "LOGIN_NAME")
_PROPERTIES = (*PLAIN, *SLOTS, *_OWN_KINDS, "DEFAULT_ROLE", "MINS_TO_UNLOCK")
_NAMES = ("FIRST_NAME", "MIDDLE_NAME", "LAST_NAME", "MINS_TO_BYPASS_MFA")
_REFUSED_BY_TYPE = {
    "SERVICE": ("PASSWORD", "MUST_CHANGE_PASSWORD", *_NAMES),
    "SERVICE_AGENT": ("PASSWORD", "MUST_CHANGE_PASSWORD", *_NAMES),
    "LEGACY_SERVICE": _NAMES,
}


def create_user(account: Account, session: Session, cursor: Cursor) -> Table:
    must_be_admin(account, session, "USERADMIN")
    is_quiet = cursor.accept("IF", "NOT", "EXISTS")
    name = cursor.name()
    if name in account.users:
        if is_quiet:
            return status(f"{name} already exists, statement succeeded.")
        raise SqlRefusal("002002", "42710", f"SQL compilation error:\nObject '{name}' already exists.")
    user = User(name=name, login_name=name, created_on=account.now(), owner=session.role)
    _change(account, user, _assignments(cursor))
    account.users[name] = user
    return status(f"User {name} successfully created.")


def alter_user_set(
    account: Account, session: Session, name: str, cursor: Cursor, *, refuses: bool = False
) -> Table:
    """`refuses` is the lab's own hand: the account's policy says no to this value."""
    changes = _assignments(cursor)
    user = _changeable(account, session, name, changes)
    if refuses:
        raise _bad_key() if set(changes) & set(SLOTS) else _bad_password("PASSWORD_TOO_COMMON")
    _change(account, user, changes)
    return status()


def alter_user_unset(account: Account, session: Session, name: str, cursor: Cursor) -> Table:
    wanted = [cursor.word()]
    while cursor.accept(","):
        wanted.append(cursor.word())
    cursor.end()
    for key in wanted:
        _must_be_property(key)
    user = _changeable(account, session, name, wanted)
    for key in wanted:
        if key in SLOTS:
            account.set_key(user, key, None)
        elif key == "PASSWORD":
            account.set_password(user, None)
        elif key == "NETWORK_POLICY":
            user.network_policy = None
        elif key == "DISABLED":
            user.disabled = False
        elif key == "TYPE":
            user.type = None
        else:
            user.texts.pop(key, None)
    return status()


def alter_user_reset(account: Account, session: Session, name: str, cursor: Cursor) -> Table:
    """RESET PASSWORD hands out a one-time address; the present password keeps working."""
    cursor.expect("PASSWORD")
    cursor.end()
    user = owned_user(account, session, name)
    if user.is_service:
        raise refused(f"Cannot reset PASSWORD on users with TYPE={user.type}.")
    return status(
        f"https://{account.settings.account.lower()}.invalid/console/reset?token={account.mint('reset')}"
    )


def alter_user_abort(account: Account, session: Session, name: str, cursor: Cursor) -> Table:
    cursor.expect("ALL", "QUERIES")
    cursor.end()
    owned_user(account, session, name)
    return status()


def drop_user(account: Account, session: Session, cursor: Cursor) -> Table:
    is_quiet = cursor.accept("IF", "EXISTS")
    name = cursor.name()
    cursor.end()
    if is_quiet and name not in account.users:  # the wording is unconfirmed
        return status(f"Drop statement executed successfully ({name} already dropped).")
    owned_user(account, session, name)
    del account.users[name]
    account.grants = {token: grant for token, grant in account.grants.items() if grant.user != name}
    account.consents = {consent for consent in account.consents if consent[0] != name}
    account.close_sessions("DROP_USER", user=name)
    return status(f"{name} successfully dropped.")


def _assignments(cursor: Cursor) -> dict[str, str]:
    """`A = x, B = y` to the end; blanks, commas and line ends all separate."""
    found: dict[str, str] = {}
    while cursor.token.text or not found:
        key = cursor.word()
        cursor.expect("=")
        if key == "DEFAULT_SECONDARY_ROLES":
            found[key] = str(cursor.strings_in_parentheses())
        else:
            found[key] = cursor.value()
        _must_be_property(key)
        cursor.accept(",")
    cursor.end()
    return found


def _must_be_property(key: str) -> None:
    if key not in _PROPERTIES:  # fingerprints among them: they are derived
        raise refused(f"SQL compilation error:\ninvalid property '{key}' for 'USER'")


def _changeable(account: Account, session: Session, name: str, keys: Iterable[str]) -> User:
    """Keys alone need a smaller right than everything else."""
    only_keys = set(keys) <= set(SLOTS)
    return (keyed_user if only_keys else owned_user)(account, session, name)


def _change(account: Account, user: User, changes: dict[str, str]) -> None:
    """Judges all, then applies all."""
    kind = changes.get("TYPE", user.type or "PERSON").upper()
    for key in changes:
        if key in _REFUSED_BY_TYPE.get(kind, ()):
            raise refused(f"Cannot set {key} on users with TYPE={kind}.")
    slots = {key: changes[key] for key in SLOTS if key in changes}
    try:
        keys = {slot: read_key(body, account.now()) for slot, body in slots.items()}
    except BadPublicKey as problem:
        raise _bad_key() from problem
    flags = {key: _flag(changes[key]) for key in ("DISABLED", "MUST_CHANGE_PASSWORD") if key in changes}
    policy = changes.get("NETWORK_POLICY")
    if policy is not None and policy not in account.policies:
        raise missing("Network policy", policy)
    if "PASSWORD" in changes:
        _judge_password(account, user, changes["PASSWORD"])
        account.set_password(user, changes["PASSWORD"])
    for slot, held in keys.items():
        account.set_key(user, slot, held)
    user.must_change_password = flags.get("MUST_CHANGE_PASSWORD", user.must_change_password)
    if "DISABLED" in flags:
        set_disabled(account, user, flags["DISABLED"])
    if "TYPE" in changes:
        user.type = kind
    if changes.get("MINS_TO_UNLOCK") == "0":
        user.locked_until, user.bad_passwords = None, 0
    user.network_policy = policy or user.network_policy
    user.login_name = changes.get("LOGIN_NAME", user.login_name)
    user.default_role = changes.get("DEFAULT_ROLE", user.default_role)
    user.texts.update({key: changes[key] for key in PLAIN if key in changes})


def set_disabled(account: Account, user: User, disabled: bool) -> None:
    """Disabling ends sessions and switches tokens off; enabling leaves the tokens off."""
    user.disabled = disabled
    if disabled:
        account.close_sessions("FORCED_LOGOUT", user=user.name)
        for pat in user.pats.values():
            pat.is_off = True


def _judge_password(account: Account, user: User, password: str) -> None:
    """The default password policy. The present one counts as a prior one, so setting it twice is refused.

    Only PRIOR_USE is a confirmed reason; the other words are ours.
    """
    past = [*user.past_passwords, user.password]
    if account.settings.password_history and password in past[-account.settings.password_history :]:
        raise _bad_password("PRIOR_USE")
    if not 14 <= len(password) <= 256:
        raise _bad_password("LENGTH")
    for rule in (str.isupper, str.islower, str.isdigit):
        if not any(rule(char) for char in password):
            raise _bad_password("COMPLEXITY")


def _bad_password(reason: str) -> SqlRefusal:
    return SqlRefusal(
        "003002", "28P01", f"New password rejected by current password policy. Reason: '{reason}'"
    )


def _bad_key() -> SqlRefusal:
    return refused("New public key rejected by current policy. Reason: 'Invalid Public key'")


def _flag(value: str) -> bool:
    if value.upper() not in ("TRUE", "FALSE"):
        raise refused(f"SQL compilation error:\ninvalid value '{value}' for a boolean property")
    return value.upper() == "TRUE"

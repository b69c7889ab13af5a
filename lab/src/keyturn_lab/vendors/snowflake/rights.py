"""Who may do what, and the three ways Snowflake says no. Every statement asks here.

Source: docs.snowflake.com sql-reference/sql/alter-user and alter-security-integration-oauth-snowflake (access control);
refusal texts from snowflakedb/terraform-provider-snowflake issues 677 and littleK0i/SnowDDL issue 337.
"""

from .state import Account, Integration, Session, User
from .wire import SqlRefusal

# The sheet of known errors has no number for these refusals; this one matches no documented code by accident.
UNCONFIRMED_CODE = "099999"


def missing(kind: str, name: str) -> SqlRefusal:
    return SqlRefusal(
        "002003", "02000", f"SQL compilation error:\n{kind} '{name}' does not exist or not authorized."
    )


def forbidden(kind: str, name: str) -> SqlRefusal:
    return SqlRefusal(
        "003001",
        "42501",
        f"SQL access control error:\nInsufficient privileges to operate on {kind} '{name}'.",
    )


def refused(message: str) -> SqlRefusal:
    return SqlRefusal(UNCONFIRMED_CODE, "42601", message)


def must_be_admin(account: Account, session: Session, role: str = "ACCOUNTADMIN") -> None:
    if not account.holds_role(session.role, role):
        raise forbidden("account", account.settings.account)


def owns(account: Account, session: Session, user: User) -> bool:
    return account.holds_role(session.role, user.owner)


def find_user(account: Account, name: str) -> User:
    user = account.users.get(name)
    if user is None:
        raise missing("User", name)
    return user


def owned_user(account: Account, session: Session, name: str) -> User:
    user = find_user(account, name)
    if not owns(account, session, user):
        raise forbidden("user", name)
    return user


def keyed_user(account: Account, session: Session, name: str) -> User:
    """The user, when the session may change its keys and tokens.

    That is its owner, or who holds MODIFY PROGRAMMATIC AUTHENTICATION METHODS on it.
    """
    user = find_user(account, name)
    granted = session.role in user.key_manager_roles
    own = account.settings.self_keys and session.user == name
    if not (granted or own or owns(account, session, user)):
        raise forbidden("user", name)
    return user


def owned_integration(account: Account, session: Session, name: str) -> Integration:
    integration = account.integrations.get(name)
    if integration is None:
        raise missing("Integration", name)
    if not account.holds_role(session.role, integration.owner):
        raise forbidden("integration", name)
    return integration

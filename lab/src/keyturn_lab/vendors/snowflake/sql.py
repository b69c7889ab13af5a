"""Names a statement and runs it. The names are also what a fault is aimed at: `alter_user_unset`, `desc_user` ...

Source: the reference page of each statement, named in the module that carries it out.
"""

from collections.abc import Callable, Mapping

from . import integrations, policies, selects, tokens, users, userviews
from .lexer import Cursor, syntax_error
from .rights import find_user, missing, must_be_admin
from .state import Account, Session
from .wire import SqlRefusal, Table, status

Statement = Callable[[Account, Session, Cursor], Table]
UserStatement = Callable[[Account, Session, str, Cursor], Table]

_ALTER_USER = "alter_user"
_SPECIAL_SELECTS = {
    "SYSTEM$SHOW_OAUTH_CLIENT_SECRETS": "show_client_secrets",
    "SYSTEM$GET_LOGIN_FAILURE_DETAILS": "login_failure_details",
    "LOGIN_HISTORY": "login_history",
}
_USER_VERBS = ("SET", "UNSET", "RESET", "ABORT", "ADD", "ROTATE", "MODIFY", "REMOVE")


def use(account: Account, session: Session, cursor: Cursor) -> Table:
    """USE ROLE changes the session; USE WAREHOUSE and the rest are taken and mean nothing here."""
    if cursor.accept("ROLE"):
        role = cursor.name()
        cursor.end()
        if not account.may_take(account.users[session.user], role):
            raise missing("Role", role)
        session.role = role
    return status()


def alter_session(account: Account, session: Session, cursor: Cursor) -> Table:
    return status()


def grant(account: Account, session: Session, cursor: Cursor) -> Table:
    """GRANT ROLE r TO USER u, and GRANT MODIFY PROGRAMMATIC AUTHENTICATION METHODS ON USER u TO ROLE r."""
    must_be_admin(account, session, "SECURITYADMIN")
    if cursor.accept("ROLE"):
        role = cursor.name()
        cursor.expect("TO", "USER")
        find_user(account, cursor.name()).roles.add(role)
    else:
        cursor.expect("MODIFY", "PROGRAMMATIC", "AUTHENTICATION", "METHODS", "ON", "USER")
        user = find_user(account, cursor.name())
        cursor.expect("TO", "ROLE")
        user.key_manager_roles.add(cursor.name())
    cursor.end()
    return status()


# The words a statement begins with -> its name and what runs it. Longer beginnings come first.
_STATEMENTS: tuple[tuple[str, str, Statement], ...] = (
    ("SELECT", "select", selects.select),
    ("SHOW TERSE USERS", "show_users", userviews.show_users),
    ("SHOW USERS", "show_users", userviews.show_users),
    ("SHOW USER PROGRAMMATIC ACCESS TOKENS", "show_pats", tokens.show_pats),
    ("SHOW USER PATS", "show_pats", tokens.show_pats),
    ("DESC USER", "desc_user", userviews.desc_user),
    ("DESCRIBE USER", "desc_user", userviews.desc_user),
    ("CREATE USER", "create_user", users.create_user),
    ("DROP USER", "drop_user", users.drop_user),
    ("SHOW SECURITY INTEGRATIONS", "show_integrations", integrations.show_integrations),
    ("SHOW INTEGRATIONS", "show_integrations", integrations.show_integrations),
    ("DESC SECURITY INTEGRATION", "desc_integration", integrations.desc_integration),
    ("DESC INTEGRATION", "desc_integration", integrations.desc_integration),
    ("DESCRIBE SECURITY INTEGRATION", "desc_integration", integrations.desc_integration),
    ("DESCRIBE INTEGRATION", "desc_integration", integrations.desc_integration),
    ("CREATE SECURITY INTEGRATION", "create_integration", integrations.create_integration),
    ("ALTER SECURITY INTEGRATION", "alter_integration", integrations.alter_integration),
    ("ALTER INTEGRATION", "alter_integration", integrations.alter_integration),
    ("DROP SECURITY INTEGRATION", "drop_integration", integrations.drop_integration),
    ("DROP INTEGRATION", "drop_integration", integrations.drop_integration),
    ("CREATE NETWORK POLICY", "create_policy", policies.create_policy),
    ("ALTER NETWORK POLICY", "alter_policy", policies.alter_policy),
    ("DROP NETWORK POLICY", "drop_policy", policies.drop_policy),
    ("SHOW NETWORK POLICIES", "show_policies", policies.show_policies),
    ("DESC NETWORK POLICY", "desc_policy", policies.desc_policy),
    ("ALTER ACCOUNT", "alter_account", policies.alter_account),
    ("ALTER SESSION", "alter_session", alter_session),
    ("USE", "use", use),
    ("GRANT", "grant", grant),
)
OPERATIONS = (
    "query",
    *_SPECIAL_SELECTS.values(),
    *dict.fromkeys(name for _, name, _ in _STATEMENTS),
    *(f"{_ALTER_USER}_{verb.lower()}" for verb in _USER_VERBS),
)


def operation_of(text: str) -> str:
    """The name of a statement; `query` for what is not one of ours. Refuses nothing."""
    try:
        cursor = Cursor(text)
        if cursor.accept("ALTER", "USER"):
            return f"{_ALTER_USER}_{_user_and_verb(cursor)[1].lower()}"
    except SqlRefusal:
        return "query"
    if cursor.token.text == "SELECT":
        return next((name for word, name in _SPECIAL_SELECTS.items() if word in text.upper()), "select")
    return next((name for words, name, _ in _STATEMENTS if cursor.accept(*words.split())), "query")


def execute(
    account: Account,
    session: Session,
    text: str,
    bindings: Mapping[str, str | None],
    *,
    refuses: bool = False,
    poses_as: str | None = None,
) -> Table:
    """Runs one statement. `refuses` and `poses_as` are the lab's faults.

    Raises: SqlRefusal.
    """
    may_bind = account.settings.binds_in_alter or text.lstrip().upper().startswith("SELECT")
    cursor = Cursor(text, bindings if may_bind else {})
    if cursor.accept("ALTER", "USER"):
        return _alter_user(account, session, cursor, refuses=refuses)
    for words, name, run in _STATEMENTS:
        if cursor.accept(*words.split()):
            if name == "select":
                return selects.select(account, session, cursor, poses_as=poses_as)
            return run(account, session, cursor)
    raise syntax_error(cursor.token)


def _alter_user(account: Account, session: Session, cursor: Cursor, *, refuses: bool) -> Table:
    name, verb, is_quiet = _user_and_verb(cursor)
    if is_quiet and name not in account.users:
        return status()
    if verb == "SET":
        return users.alter_user_set(account, session, name, cursor, refuses=refuses)
    plain: dict[str, UserStatement] = {
        "UNSET": users.alter_user_unset,
        "RESET": users.alter_user_reset,
        "ABORT": users.alter_user_abort,
    }
    of_tokens: dict[str, UserStatement] = {
        "ADD": tokens.add_pat,
        "ROTATE": tokens.rotate_pat,
        "MODIFY": tokens.modify_pat,
        "REMOVE": tokens.remove_pat,
    }
    if verb in plain:
        return plain[verb](account, session, name, cursor)
    if tokens.accept_pat(cursor):
        return of_tokens[verb](account, session, name, cursor)
    if verb == "ADD":
        return integrations.add_authorization(account, session, name, cursor)
    if verb == "REMOVE":
        return integrations.remove_authorizations(account, session, name, cursor)
    raise syntax_error(cursor.token)


def _user_and_verb(cursor: Cursor) -> tuple[str, str, bool]:
    is_quiet = cursor.accept("IF", "EXISTS")
    name = cursor.name()
    token = cursor.token
    verb = cursor.word()
    if verb not in _USER_VERBS:
        raise syntax_error(token)
    return name, verb, is_quiet

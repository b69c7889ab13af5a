"""The statements about OAuth security integrations and the consents given through them.

There is no SET OAUTH_CLIENT_SECRET for TYPE=OAUTH, whatever some guides say: REFRESH makes a new secret in one slot.

Source: docs.snowflake.com sql-reference/sql/alter-security-integration-oauth-snowflake,
create-security-integration-oauth-snowflake, show-integrations; functions/system_show_oauth_client_secrets.
"""

import json

from .lexer import Cursor, syntax_error
from .listing import listing
from .rights import missing, must_be_admin, owned_integration, owned_user, refused
from .state import Account, Integration, Session
from .wire import SqlRefusal, Table, columns, status

SECRET_SLOTS = ("OAUTH_CLIENT_SECRET", "OAUTH_CLIENT_SECRET_2")
BLOCKED_ROLES = ("ACCOUNTADMIN", "ORGADMIN", "GLOBALORGADMIN", "SECURITYADMIN")
_TYPES = {  # property -> (type, default) as DESC shows them
    "ENABLED": ("Boolean", "false"),
    "OAUTH_CLIENT_ID": ("String", ""),
    "OAUTH_REDIRECT_URI": ("String", ""),
    "OAUTH_CLIENT_TYPE": ("String", "CONFIDENTIAL"),
    "OAUTH_ISSUE_REFRESH_TOKENS": ("Boolean", "true"),
    "OAUTH_REFRESH_TOKEN_VALIDITY": ("Long", "7776000"),
    "OAUTH_USE_SECONDARY_ROLES": ("String", "NONE"),
    "OAUTH_ENFORCE_PKCE": ("Boolean", "false"),
    "OAUTH_ALLOW_NON_TLS_REDIRECT_URI": ("Boolean", "false"),
    "PRE_AUTHORIZED_ROLES_LIST": ("List", "[]"),
    "ALLOWED_ROLES_LIST": ("List", "[]"),
    "BLOCKED_ROLES_LIST": ("List", ",".join(BLOCKED_ROLES)),
    "NETWORK_POLICY": ("String", ""),
    "OAUTH_CLIENT_RSA_PUBLIC_KEY_FP": ("String", ""),
    "OAUTH_CLIENT_RSA_PUBLIC_KEY_2_FP": ("String", ""),
    "OAUTH_AUTHORIZATION_ENDPOINT": ("String", ""),
    "OAUTH_TOKEN_ENDPOINT": ("String", ""),
    "OAUTH_ALLOWED_AUTHORIZATION_ENDPOINTS": ("List", ""),
    "OAUTH_ALLOWED_TOKEN_ENDPOINTS": ("List", ""),
    "COMMENT": ("String", ""),
}
_SETTABLE = (
    "ENABLED",
    "OAUTH_REDIRECT_URI",
    "OAUTH_ALLOW_NON_TLS_REDIRECT_URI",
    "OAUTH_ENFORCE_PKCE",
    "PRE_AUTHORIZED_ROLES_LIST",
    "ALLOWED_ROLES_LIST",
    "BLOCKED_ROLES_LIST",
    "OAUTH_ISSUE_REFRESH_TOKENS",
    "OAUTH_REFRESH_TOKEN_VALIDITY",
    "OAUTH_SINGLE_USE_REFRESH_TOKENS_REQUIRED",
    "OAUTH_ACCESS_TOKEN_VALIDITY",
    "OAUTH_USE_SECONDARY_ROLES",
    "NETWORK_POLICY",
    "COMMENT",
)
_AT_CREATION = (*_SETTABLE, "TYPE", "OAUTH_CLIENT", "OAUTH_CLIENT_TYPE")
_UNSETTABLE = ("ENABLED", "NETWORK_POLICY", "OAUTH_USE_SECONDARY_ROLES", "COMMENT")


def new_secret(account: Account) -> str:
    """Real ones hold `+`, `/` and `=`, which is what breaks unencoded HTTP Basic."""
    return account.mint("oauth_client_secret") + "+/="


def add_integration(account: Account, name: str, owner: str = "ACCOUNTADMIN") -> Integration:
    integration = Integration(
        name=name,
        client_id=account.mint("oauth_client_id") + "=",
        secrets=[new_secret(account), new_secret(account)],
        created_on=account.now(),
        owner=owner,
    )
    account.integrations[name] = integration
    return integration


def create_integration(account: Account, session: Session, cursor: Cursor) -> Table:
    must_be_admin(account, session)
    is_quiet = cursor.accept("IF", "NOT", "EXISTS")
    name = cursor.name()
    changes = _assignments(cursor, _AT_CREATION)
    if name in account.integrations:
        if is_quiet:
            return status(f"{name} already exists, statement succeeded.")
        raise SqlRefusal("002002", "42710", f"SQL compilation error:\nObject '{name}' already exists.")
    if changes.pop("TYPE", "").upper() != "OAUTH":
        raise refused("The lab only makes integrations of TYPE = OAUTH.")
    changes.pop("OAUTH_CLIENT", None)
    _change(add_integration(account, name, session.role), changes)
    return status(f"Integration {name} successfully created.")


def alter_integration(account: Account, session: Session, cursor: Cursor) -> Table:
    is_quiet = cursor.accept("IF", "EXISTS")
    name = cursor.name()
    if is_quiet and name not in account.integrations:
        return status()
    integration = owned_integration(account, session, name)
    if cursor.accept("REFRESH"):
        token = cursor.token
        slot = cursor.word()
        if slot not in SECRET_SLOTS:
            raise syntax_error(token)
        cursor.end()
        integration.secrets[SECRET_SLOTS.index(slot)] = new_secret(account)
    elif cursor.accept("UNSET"):
        wanted = [cursor.word()]
        while cursor.accept(","):
            wanted.append(cursor.word())
        cursor.end()
        for key in wanted:
            _must_be(key, _UNSETTABLE)
        for key in wanted:
            integration.properties.pop(key, None)
            integration.enabled = integration.enabled and key != "ENABLED"
    else:
        cursor.expect("SET")
        _change(integration, _assignments(cursor, _SETTABLE))
    if not integration.enabled:
        account.close_sessions("OAUTH_CRITICAL_CHANGE_INTEGRATION", integration=name)
    return status()


def drop_integration(account: Account, session: Session, cursor: Cursor) -> Table:
    is_quiet = cursor.accept("IF", "EXISTS")
    name = cursor.name()
    cursor.end()
    if is_quiet and name not in account.integrations:
        return status(f"Drop statement executed successfully ({name} already dropped).")
    owned_integration(account, session, name)
    for user in list(account.users):
        account.drop_consent(user, name)
    del account.integrations[name]
    return status(f"{name} successfully dropped.")


def show_integrations(account: Account, session: Session, cursor: Cursor) -> Table:
    choose = listing(cursor)
    rows = [
        (i.name, "OAUTH - CUSTOM", "SECURITY", i.enabled, i.properties.get("COMMENT"), i.created_on)
        for i in account.integrations.values()
        if account.holds_role(session.role, i.owner)
    ]
    return Table(columns("name,type,category,enabled:b,comment,created_on:t"), choose(rows))


def desc_integration(account: Account, session: Session, cursor: Cursor) -> Table:
    """Everything but the secrets."""
    name = cursor.name()
    cursor.end()
    integration = owned_integration(account, session, name)
    home = f"https://{account.settings.account.lower()}.snowflakecomputing.com/oauth"
    facts = integration.properties | {
        "ENABLED": "true" if integration.enabled else "false",
        "OAUTH_CLIENT_ID": integration.client_id,
        "OAUTH_AUTHORIZATION_ENDPOINT": f"{home}/authorize",
        "OAUTH_TOKEN_ENDPOINT": f"{home}/token-request",
    }
    rows = tuple((key, kind, facts.get(key, start), start) for key, (kind, start) in _TYPES.items())
    return Table(columns("property,property_type,property_value,property_default"), rows)


def show_client_secrets(account: Account, session: Session, name: str) -> str:
    """The JSON text of SYSTEM$SHOW_OAUTH_CLIENT_SECRETS; the name is case-sensitive."""
    integration = owned_integration(account, session, name)
    return json.dumps(
        {
            "OAUTH_CLIENT_SECRET_2": integration.secrets[1],
            "OAUTH_CLIENT_SECRET": integration.secrets[0],
            "OAUTH_CLIENT_ID": integration.client_id,
        }
    )


def remove_authorizations(account: Account, session: Session, user: str, cursor: Cursor) -> Table:
    """Takes a user's consent back, with its tokens and sessions. The user must consent again."""
    if cursor.accept("DELEGATED", "AUTHORIZATION"):
        cursor.expect("OF", "ROLE")
        cursor.name()
    else:
        cursor.expect("DELEGATED", "AUTHORIZATIONS")
    cursor.expect("FROM", "SECURITY", "INTEGRATION")
    name = cursor.name()
    cursor.end()
    owned_user(account, session, user)
    if name not in account.integrations:
        raise missing("Integration", name)
    account.drop_consent(user, name)
    return status()


def add_authorization(account: Account, session: Session, user: str, cursor: Cursor) -> Table:
    cursor.expect("DELEGATED", "AUTHORIZATION", "OF", "ROLE")
    role = cursor.name()
    cursor.expect("TO", "SECURITY", "INTEGRATION")
    name = cursor.name()
    cursor.end()
    owned_user(account, session, user)
    if name not in account.integrations:
        raise missing("Integration", name)
    account.consents.add((user, name, role))
    return status()


def _assignments(cursor: Cursor, allowed: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    while cursor.token.text or not found:
        key = cursor.word()
        cursor.expect("=")
        if cursor.token.text == "(":
            found[key] = ",".join(cursor.strings_in_parentheses())
        else:
            found[key] = cursor.value()
        _must_be(key, allowed)
        cursor.accept(",")
    cursor.end()
    return found


def _must_be(key: str, allowed: tuple[str, ...]) -> None:
    if key not in allowed:
        raise refused(f"SQL compilation error:\ninvalid property '{key}' for 'INTEGRATION'")


def _change(integration: Integration, changes: dict[str, str]) -> None:
    validity = changes.get("OAUTH_REFRESH_TOKEN_VALIDITY")
    if validity is not None and not (validity.isdigit() and 86_400 <= int(validity) <= 7_776_000):
        raise refused("OAUTH_REFRESH_TOKEN_VALIDITY must lie between 86400 and 7776000.")
    if "ENABLED" in changes:
        integration.enabled = changes.pop("ENABLED").upper() == "TRUE"
    integration.properties.update(changes)

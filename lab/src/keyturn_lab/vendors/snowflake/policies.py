"""Network policies, as little as a rotation meets: IP lists, bound to a user or to the account. No network rules.

Source: docs.snowflake.com sql-reference/sql/create-network-policy.
"""

from .lexer import Cursor
from .rights import missing, must_be_admin
from .state import Account, NetworkPolicy, Session
from .wire import Table, columns, status


def create_policy(account: Account, session: Session, cursor: Cursor) -> Table:
    must_be_admin(account, session, "SECURITYADMIN")
    name = cursor.name()
    allowed, blocked = _lists(cursor)
    account.policies[name] = NetworkPolicy(name, account.now(), allowed or [], blocked or [])
    return status(f"Network policy {name} successfully created.")


def alter_policy(account: Account, session: Session, cursor: Cursor) -> Table:
    must_be_admin(account, session, "SECURITYADMIN")
    policy = _find(account, cursor.name())
    cursor.expect("SET")
    allowed, blocked = _lists(cursor)
    policy.allowed = policy.allowed if allowed is None else allowed
    policy.blocked = policy.blocked if blocked is None else blocked
    return status()


def drop_policy(account: Account, session: Session, cursor: Cursor) -> Table:
    must_be_admin(account, session, "SECURITYADMIN")
    policy = _find(account, cursor.name())
    cursor.end()
    del account.policies[policy.name]
    return status(f"{policy.name} successfully dropped.")


def show_policies(account: Account, session: Session, cursor: Cursor) -> Table:
    cursor.end()
    shown = columns(
        "created_on:t,name,comment,entries_in_allowed_ip_list:n,entries_in_blocked_ip_list:n,"
        "entries_in_allowed_network_rules:n,entries_in_blocked_network_rules:n"
    )
    rows = [
        (each.created_on, each.name, "", len(each.allowed), len(each.blocked), 0, 0)
        for each in account.policies.values()
    ]
    return Table(shown, tuple(rows))


def desc_policy(account: Account, session: Session, cursor: Cursor) -> Table:
    policy = _find(account, cursor.name())
    cursor.end()
    rows = (("ALLOWED_IP_LIST", ",".join(policy.allowed)), ("BLOCKED_IP_LIST", ",".join(policy.blocked)))
    return Table(columns("name,value"), rows)


def alter_account(account: Account, session: Session, cursor: Cursor) -> Table:
    must_be_admin(account, session)
    if cursor.accept("UNSET", "NETWORK_POLICY"):
        account.account_policy = None
    else:
        cursor.expect("SET", "NETWORK_POLICY", "=")
        account.account_policy = _find(account, cursor.value()).name
    cursor.end()
    return status()


def _lists(cursor: Cursor) -> tuple[list[str] | None, list[str] | None]:
    found: dict[str, list[str]] = {}
    while cursor.token.text:
        key = cursor.word()
        cursor.expect("=")
        found[key] = cursor.strings_in_parentheses()
    return found.get("ALLOWED_IP_LIST"), found.get("BLOCKED_IP_LIST")


def _find(account: Account, name: str) -> NetworkPolicy:
    if name not in account.policies:
        raise missing("Network policy", name)
    return account.policies[name]

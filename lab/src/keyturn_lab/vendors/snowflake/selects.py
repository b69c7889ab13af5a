"""The few SELECTs a rotation needs: who am I, the SYSTEM$ functions, and login history. No query engine.

Source: docs.snowflake.com functions/login_history, system_get_login_failure_details, system_show_oauth_client_secrets.
"""

import json
from datetime import UTC, datetime, timedelta

from .integrations import show_client_secrets
from .lexer import Cursor, Kind, syntax_error
from .rights import forbidden, missing
from .state import Account, LoginEvent, Session
from .wire import Cell, Column, ColumnType, Row, Table, columns

HISTORY = columns(
    "EVENT_TIMESTAMP:t,EVENT_ID:n,EVENT_TYPE,USER_NAME,CLIENT_IP,REPORTED_CLIENT_TYPE,REPORTED_CLIENT_VERSION,"
    "FIRST_AUTHENTICATION_FACTOR,SECOND_AUTHENTICATION_FACTOR,IS_SUCCESS,ERROR_CODE:n,ERROR_MESSAGE,"
    "RELATED_EVENT_ID:n,CONNECTION,CLIENT_PRIVATE_LINK_ID,FIRST_AUTHENTICATION_FACTOR_ID,"
    "SECOND_AUTHENTICATION_FACTOR_ID,LOGIN_DETAILS,AUTHORIZING_INTEGRATION_NAME,AUTHENTICATING_INTEGRATION_NAME"
)
KEPT = timedelta(days=7)


def select(account: Account, session: Session, cursor: Cursor, *, poses_as: str | None = None) -> Table:
    """`SELECT <expressions>` or `SELECT .. FROM TABLE(LOGIN_HISTORY..)`; the latter begins after FROM."""
    if cursor.accept("COUNT", "(", "*", ")"):
        return _count(cursor)
    wanted: list[tuple[Column, Cell]] = []
    names: list[str] = []
    while True:
        if cursor.accept("*"):
            names = [column.name for column in HISTORY]
        elif cursor.token.text in {column.name for column in HISTORY}:
            names.append(_alias(cursor, cursor.word()))
        else:
            wanted.append(_expression(account, session, cursor, poses_as))
        if not cursor.accept(","):
            break
    if names and not wanted:
        cursor.expect("FROM")
        return _history(account, session, cursor, names)
    cursor.end()
    return Table(tuple(c for c, _ in wanted), (tuple(v for _, v in wanted),), is_select=True)


# The tables there are, with how many rows each has; every role may read them but the locked one.
TABLES = {("SALES", "PUBLIC", "ORDERS"): 3, ("SALES", "PUBLIC", "EMPTY"): 0}
LOCKED = ("SALES", "PUBLIC", "SALARIES")


def _count(cursor: Cursor) -> Table:
    """`SELECT COUNT(*) AS N FROM (SELECT 1 FROM db.schema.table LIMIT n)`, and no other count."""
    title = _alias(cursor, "COUNT(*)")
    cursor.expect("FROM", "(", "SELECT")
    cursor.value()
    cursor.expect("FROM")
    named = [cursor.name()]
    while cursor.accept("."):
        named.append(cursor.name())
    table = (*("SALES", "PUBLIC")[: 3 - len(named)], *named)
    cursor.expect("LIMIT")
    limit = int(cursor.value())
    cursor.expect(")")
    cursor.end()
    if table == LOCKED:
        raise forbidden("table", named[-1])
    if table not in TABLES:
        raise missing("Object", ".".join(named))
    return Table((Column(title, ColumnType.NUMBER),), ((min(TABLES[table], limit),),), is_select=True)


def _expression(
    account: Account, session: Session, cursor: Cursor, poses_as: str | None
) -> tuple[Column, Cell]:
    token = cursor.next()
    value: Cell
    kind = ColumnType.TEXT
    title = token.text
    if token.kind is Kind.NUMBER:
        value, kind = int(float(token.text)), ColumnType.NUMBER
    elif token.kind is Kind.STRING:
        value = token.text
    elif token.kind is Kind.WORD and token.text.startswith("SYSTEM$"):
        cursor.expect("(")
        argument = cursor.string()
        cursor.expect(")")
        value, title = _system(account, session, token.text, argument), f"{token.text}('{argument}')"
    elif token.kind is Kind.WORD and token.text in _CONTEXT:
        if cursor.accept("("):
            cursor.expect(")")
            title = f"{token.text}()"
        value = _context(account, session, token.text)
        if token.text == "CURRENT_USER" and poses_as is not None:
            value = poses_as
        if isinstance(value, datetime):
            kind = ColumnType.TIMESTAMP
    else:
        raise syntax_error(token)
    return Column(_alias(cursor, title), kind), value


def _alias(cursor: Cursor, name: str) -> str:
    if cursor.accept("AS"):
        return cursor.name()
    return name


_CONTEXT = (
    "CURRENT_USER",
    "CURRENT_ROLE",
    "CURRENT_ACCOUNT",
    "CURRENT_ACCOUNT_NAME",
    "CURRENT_SESSION",
    "CURRENT_VERSION",
    "CURRENT_TIMESTAMP",
    "CURRENT_WAREHOUSE",
    "CURRENT_DATABASE",
    "CURRENT_SCHEMA",
    "CURRENT_IP_ADDRESS",
)


def _context(account: Account, session: Session, function: str) -> Cell:
    facts: dict[str, Cell] = {
        "CURRENT_USER": session.user,
        "CURRENT_ROLE": session.role,
        "CURRENT_ACCOUNT": account.settings.account.upper(),
        "CURRENT_ACCOUNT_NAME": account.settings.account.upper(),
        "CURRENT_SESSION": str(session.id),
        "CURRENT_VERSION": "9.30.2",
        "CURRENT_TIMESTAMP": account.now(),
        "CURRENT_IP_ADDRESS": "127.0.0.1",
    }
    return facts.get(function)


def _system(account: Account, session: Session, function: str, argument: str) -> str:
    if function == "SYSTEM$SHOW_OAUTH_CLIENT_SECRETS":
        return show_client_secrets(account, session, argument)
    if function == "SYSTEM$GET_LOGIN_FAILURE_DETAILS":
        return _failure_details(account, session, argument)
    raise missing("Function", function)


def _failure_details(account: Account, session: Session, failure_id: str) -> str:
    """What the id in brackets stands for; needs MONITOR on the account."""
    if not account.holds_role(session.role, "ACCOUNTADMIN"):
        raise forbidden("account", account.settings.account)
    event = next((e for e in account.logins if e.failure_id == failure_id and e.symbol), None)
    if event is None:
        return json.dumps({"errorCode": None})
    return json.dumps(
        {
            "clientIP": event.client_ip,
            "clientType": event.client_type,
            "clientVersion": event.client_version,
            "username": event.user,
            "errorCode": event.symbol,
            "timestamp": int(event.at.timestamp()),
        }
    )


def _history(account: Account, session: Session, cursor: Cursor, names: list[str]) -> Table:
    """Newest last in memory, any order asked for; rows appear after the setting's delay."""
    by_user = _open_table_function(cursor)
    arguments = _arguments(account, cursor)
    cursor.expect(")")
    user = str(arguments.get("USER_NAME", session.user)) if by_user else None
    may_see_all = account.holds_role(session.role, "ACCOUNTADMIN")
    if user is not None and user != session.user and not may_see_all:
        raise forbidden("user", user)
    visible = account.now() - timedelta(seconds=account.settings.login_history_delay_s)
    start, end = arguments.get("TIME_RANGE_START"), arguments.get("TIME_RANGE_END")
    events = [
        event
        for event in account.logins
        if account.now() - KEPT <= event.at <= visible
        and (event.user == user if by_user else may_see_all or event.user == session.user)
        and (not isinstance(start, datetime) or event.at >= start)
        and (not isinstance(end, datetime) or event.at <= end)
    ]
    newest = events[::-1][: int(str(arguments.get("RESULT_LIMIT", 100)))]
    rows: list[Row] = [_event_row(event) for event in newest]
    all_names = [column.name for column in HISTORY]
    rows = _clauses(account, cursor, rows, all_names)
    picked = [all_names.index(name) for name in names]
    return Table(
        tuple(HISTORY[i] for i in picked),
        tuple(tuple(row[i] for i in picked) for row in rows),
        is_select=True,
    )


def _open_table_function(cursor: Cursor) -> bool:
    """Reads `TABLE([db.]INFORMATION_SCHEMA.LOGIN_HISTORY[_BY_USER](`; true for the form by user."""
    cursor.expect("TABLE", "(")
    while True:
        token = cursor.token
        name = cursor.name()
        if cursor.accept("."):
            continue
        if name not in ("LOGIN_HISTORY", "LOGIN_HISTORY_BY_USER"):
            raise syntax_error(token)
        cursor.expect("(")
        return name == "LOGIN_HISTORY_BY_USER"


def _arguments(account: Account, cursor: Cursor) -> dict[str, Cell]:
    found: dict[str, Cell] = {}
    while not cursor.accept(")"):
        key = cursor.word()
        cursor.expect("=>")
        found[key] = _instant(account, cursor) if key.startswith("TIME_RANGE") else cursor.value()
        cursor.accept(",")
    return found


def _instant(account: Account, cursor: Cursor) -> datetime:
    """A time literal, CURRENT_TIMESTAMP, DATEADD or TO_TIMESTAMP_LTZ: what people write in this place."""
    if cursor.accept("DATEADD", "("):
        unit = cursor.value().lower().rstrip("s")
        cursor.expect(",")
        sign = -1 if cursor.accept("-") else 1
        amount = sign * int(cursor.value())
        cursor.expect(",")
        start = _instant(account, cursor)
        cursor.expect(")")
        return start + amount * timedelta(**{f"{unit}s": 1})
    if cursor.accept("CURRENT_TIMESTAMP"):
        if cursor.accept("("):
            cursor.expect(")")
        return account.now()
    if cursor.accept("TO_TIMESTAMP_LTZ", "("):
        value = _instant(account, cursor)
        cursor.expect(")")
        return value
    token = cursor.token
    try:
        at = datetime.fromisoformat(cursor.string())
    except ValueError:
        raise syntax_error(token) from None
    # A literal without an offset is in the session's time zone, which the login sets to UTC.
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _clauses(account: Account, cursor: Cursor, rows: list[Row], names: list[str]) -> list[Row]:
    """WHERE with AND, ORDER BY one column, LIMIT."""
    if cursor.accept("WHERE"):
        rows = _where(account, cursor, rows, names)
        while cursor.accept("AND"):
            rows = _where(account, cursor, rows, names)
    if cursor.accept("ORDER", "BY"):
        at = _column(cursor, names)
        is_falling = cursor.accept("DESC") or (cursor.accept("ASC") and False)
        rows = sorted(rows, key=lambda row: (row[at] is None, str(row[at])), reverse=is_falling)
    if cursor.accept("LIMIT"):
        rows = rows[: int(cursor.value())]
    cursor.end()
    return rows


def _where(account: Account, cursor: Cursor, rows: list[Row], names: list[str]) -> list[Row]:
    at = _column(cursor, names)
    token = cursor.next()
    if names[at] == "EVENT_TIMESTAMP" and token.text in (">", ">="):
        since = _instant(account, cursor)
        return [row for row in rows if isinstance(row[at], datetime) and row[at] >= since]  # type: ignore[operator]
    if token.text != "=":
        raise syntax_error(token)
    wanted = cursor.value()
    return [row for row in rows if str(row[at]) == wanted]


def _column(cursor: Cursor, names: list[str]) -> int:
    token = cursor.token
    if cursor.name() not in names:
        raise syntax_error(token)
    return names.index(token.text)


def _event_row(event: LoginEvent) -> tuple[Cell, ...]:
    return (
        event.at,
        event.id,
        "LOGIN",
        event.user,
        event.client_ip,
        event.client_type,
        event.client_version,
        event.factor,
        None,
        "YES" if event.code is None else "NO",
        int(event.code) if event.code else None,
        event.symbol,
        0,
        None,
        None,
        None,
        None,
        None,
        event.integration,
        None,
    )

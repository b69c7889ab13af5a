"""The shapes Snowflake puts on the wire: cells, row types, envelopes. Knows no user and no statement.

Source: wire protocol read in snowflakedb/snowflake-connector-python `src/snowflake/connector/network.py` and seen by
running the driver 3.18.1, 4.8.1 and 5.2.0 against a throw-away server.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

Json = dict[str, Any]
Cell = str | int | bool | datetime | None
Row = Sequence[Cell]


class ColumnType(StrEnum):
    """The column types our statements produce; the value is the wire name."""

    TEXT = "text"
    NUMBER = "fixed"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp_ltz"


@dataclass(frozen=True)
class Column:
    name: str
    type: ColumnType = ColumnType.TEXT

    def describe(self) -> Json:
        """One `rowtype` entry; the driver reads name, type, scale, precision and nullable."""
        return {
            "name": self.name,
            "type": self.type.value,
            "nullable": True,
            "length": 16777216 if self.type is ColumnType.TEXT else None,
            "byteLength": 16777216 if self.type is ColumnType.TEXT else None,
            "precision": {ColumnType.NUMBER: 38, ColumnType.TIMESTAMP: 0}.get(self.type),
            "scale": {ColumnType.NUMBER: 0, ColumnType.TIMESTAMP: 3}.get(self.type),
            "database": "",
            "schema": "",
            "table": "",
            "collation": None,
        }


@dataclass(frozen=True)
class Table:
    """What a statement answers."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...] = ()
    is_select: bool = False


class SqlRefusal(Exception):
    """A statement answered with `success: false`."""

    def __init__(self, code: str, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.code, self.sqlstate, self.message = code, sqlstate, message


def columns(spec: str) -> tuple[Column, ...]:
    """Columns from a comma list; `:b`, `:t` and `:n` mark a boolean, a timestamp and a number."""
    marks = {"b": ColumnType.BOOLEAN, "t": ColumnType.TIMESTAMP, "n": ColumnType.NUMBER}
    parts = (item.strip().partition(":") for item in spec.split(","))
    return tuple(Column(name, marks.get(mark, ColumnType.TEXT)) for name, _, mark in parts)


def status(text: str = "Statement executed successfully.") -> Table:
    """The one-row answer of every ALTER, CREATE, DROP and GRANT."""
    return Table((Column("status"),), ((text,),))


def encode_cell(value: Cell) -> str | None:
    """A cell as the driver wants it: always text or null.

    Booleans are "1" and "0": drivers 3.x and 4.x read the word "true" as False.
    A time has exactly as many decimals as its scale says, or 4.x reads days instead of milliseconds.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, datetime):
        return f"{value.timestamp():.3f}"
    return str(value)


def login_answer(*, user: str, token: str, master: str, number: int, role: str) -> Json:
    """The keys three driver generations are happy with. Telemetry is off, JSON results are on."""
    parameters = {
        "CLIENT_TELEMETRY_ENABLED": False,
        "TIMEZONE": "Etc/UTC",
        "AUTOCOMMIT": True,
        "PYTHON_CONNECTOR_QUERY_RESULT_FORMAT": "JSON",
        "QUERY_CONTEXT_CACHE_SIZE": 5,
        "CLIENT_PREFETCH_THREADS": 4,
        "CLIENT_SESSION_KEEP_ALIVE": False,
        "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY": 3600,
    }
    return success(
        {
            "masterToken": master,
            "token": token,
            "validityInSeconds": 3600,
            "masterValidityInSeconds": 14400,
            "displayUserName": user,
            "serverVersion": "9.30.2",
            "firstLogin": False,
            "remMeToken": None,
            "remMeValidityInSeconds": 0,
            "healthCheckInterval": 45,
            "newClientForUpgrade": None,
            "sessionId": number,
            "parameters": [{"name": name, "value": value} for name, value in parameters.items()],
            "sessionInfo": {
                "databaseName": None,
                "schemaName": None,
                "warehouseName": None,
                "roleName": role,
            },
            "idToken": None,
            "idTokenValidityInSeconds": 0,
            "responseData": None,
            "mfaToken": None,
            "mfaTokenValidityInSeconds": 0,
        }
    )


def query_answer(table: Table, *, role: str, at: datetime) -> Json:
    """A finished statement. 4096 marks a SELECT; 0x4000 keeps the driver from reading DML row counts."""
    rowset = [[encode_cell(cell) for cell in row] for row in table.rows]
    return success(
        {
            "parameters": [],
            "rowtype": [column.describe() for column in table.columns],
            "rowset": rowset,
            "total": len(rowset),
            "returned": len(rowset),
            "queryId": str(uuid.uuid4()),
            "databaseProvider": None,
            "finalDatabaseName": None,
            "finalSchemaName": None,
            "finalWarehouseName": None,
            "finalRoleName": role,
            "numberOfBinds": 0,
            "arrayBindSupported": False,
            "statementTypeId": 4096 if table.is_select else 0x4000,
            "version": 1,
            "sendResultTime": int(at.timestamp() * 1000),
            "queryResultFormat": "json",
        }
    )


def query_refusal(refusal: SqlRefusal) -> Json:
    """A statement's refusal: HTTP 200, the code is text, `data` stays."""
    data = {
        "internalError": False,
        "errorCode": refusal.code,
        "age": 0,
        "sqlState": refusal.sqlstate,
        "queryId": str(uuid.uuid4()),
        "line": -1,
        "pos": -1,
        "type": "COMPILATION",
    }
    return failure(refusal.code, refusal.message, data)


def success(data: Any) -> Json:
    return {"data": data, "code": None, "message": None, "success": True}


def failure(code: str, message: str, data: Any = None) -> Json:
    """Snowflake's own no: HTTP 200 with `success: false`. The `data` key is there even when empty."""
    return {"data": data, "code": code, "message": message, "success": False, "headers": None}

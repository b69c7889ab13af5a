"""What a job reads of a workspace: rows of a table by a SQL warehouse, the tables of a schema, or the catalogs.

Source: databricks-sdk 0.156.0 (service/sql.py StatementExecutionAPI, service/catalog.py CatalogsAPI and TablesAPI) and
https://docs.databricks.com/aws/en/error-messages/sqlstates (checked 2026-11-29).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keyturn.connectors.databricks import client
from keyturn.connectors.databricks.client import Line
from keyturn.connectors.databricks.oauth_secrets import TOKEN
from keyturn.contract.values import Access, Sample
from keyturn.errors import (
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorUnavailable,
)
from keyturn.model.secret import Material

_CATALOG = "/api/2.1/unity-catalog"
# No period, space, slash or control character may stand in a name of Unity Catalog.
_NAME = re.compile(r"[^\x00-\x20./\x7f]{1,255}")
_WAREHOUSE = re.compile(r"/sql/(?:1\.0|protocolv1)/(?:warehouses|endpoints)/([0-9a-zA-Z]{1,64})/?")
_WAIT_S = 10  # the API takes 5 to 50; a warehouse that is asleep needs longer, and the job is tried again
_ABSENT, _FORBIDDEN = frozenset({"42P01", "42704", "42P02"}), frozenset({"42501"})


def with_secret(access: Access, material: Material) -> Line:
    """A line with a fresh token of the client. Raises: CredentialRejected."""
    return client.login(Line.to(access, client.workspace(access)), TOKEN, material)


def with_token(access: Access, material: Material) -> Line:
    """A line with the token itself, once the workspace has said whose it is. Raises: CredentialRejected."""
    line = Line.to(access, client.workspace(access), material.get("token", ""))
    client.me(line)
    return line


@dataclass(frozen=True)
class Rows:
    """Reads over the line that `enter` opens by a fresh login."""

    enter: Callable[[Access, Material], Line]

    def read_sample(self, access: Access, material: Material, what: str, limit: int) -> Sample:
        """Counts rows of `catalog.schema.table`, tables of `catalog.schema`, or the catalogs when nothing is named.

        Rows are counted by the warehouse of the connection's `http_path`; none leaves it.
        Raises: NotFound and PermissionMissing as Databricks says; VendorUnavailable while the warehouse wakes up.
        """
        names = what.split(".") if what else []
        if len(names) not in {0, 2, 3} or not all(_NAME.fullmatch(name) for name in names):
            raise InvalidInput(
                "a table is named as catalog.schema.table, a list of tables as catalog.schema",
                hint="For example main.sales.orders.",
                field="what",
            )
        warehouse = _warehouse(access) if len(names) == 3 else ""
        line = self.enter(access, material)
        try:
            if warehouse:
                return Sample(_rows(line, warehouse, names, limit), what)
            if names:
                query = {"catalog_name": names[0], "schema_name": names[1], "omit_columns": "true"}
                return Sample(_listed(line, "tables", limit, what, **query), f"tables of {what}")
            return Sample(_listed(line, "catalogs", limit, "list of catalogs"), "catalogs")
        except CredentialRejected:
            # The login just before was fine: this says nothing of the credential.
            raise VendorUnavailable(
                "Databricks refuses a token it has just accepted", host=line.base
            ) from None


def _warehouse(access: Access) -> str:
    found = _WAREHOUSE.fullmatch(str(access.settings.get("http_path") or ""))
    if found is None:
        raise InvalidInput(
            "rows are read by a SQL warehouse, and the connection names none",
            hint="Give it an http_path such as /sql/1.0/warehouses/a1b234c567d8e9fa, or name catalog.schema.",
            field="http_path",
        )
    return found[1]


def _rows(line: Line, warehouse: str, names: list[str], limit: int) -> int:
    # Backticks quote, and a backtick in a name is doubled: sql-ref-identifiers.
    table = ".".join("`" + name.replace("`", "``") + "`" for name in names)
    body = {
        "warehouse_id": warehouse,
        "statement": f"SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT {limit:d})",
        "wait_timeout": f"{_WAIT_S}s",
        "on_wait_timeout": "CANCEL",
        "format": "JSON_ARRAY",
        "disposition": "INLINE",
    }
    answer = line.call("POST", "/api/2.0/sql/statements", body)
    if answer.status != 200:
        raise _refused(client.refusal(answer, "use of the SQL warehouse"), "the SQL warehouse of http_path")
    said = client.object_in(answer)
    status = said.get("status")
    state = str(status.get("state")) if isinstance(status, dict) else ""
    if state in {"PENDING", "RUNNING", "CANCELED"}:
        raise VendorUnavailable(
            f"the SQL warehouse did not answer within {_WAIT_S} s",
            hint="It may be waking up; the job is tried again.",
            host=answer.host,
        )
    if state == "FAILED" and isinstance(status, dict):
        raise _failed(status, ".".join(names), answer.host)
    try:
        ((cell,),) = said["result"]["data_array"]
    except (KeyError, TypeError, ValueError):
        cell = None
    if state != "SUCCEEDED" or not (isinstance(cell, str) and cell.isascii() and cell.isdigit()):
        raise UnexpectedAnswer(
            f"{answer.host} answered without a count", status=answer.status, host=answer.host
        )
    return min(int(cell), limit)


def _failed(status: dict[str, Any], what: str, host: str) -> KeyturnError:
    """A statement that did not run. Its message may quote names and is not read; the SQLSTATE is."""
    state = str(status.get("sql_state") or "")
    facts: dict[str, Any] = {"host": host, **({"code": state} if re.fullmatch(r"[0-9A-Z]{5}", state) else {})}
    if state in _ABSENT:
        return NotFound(f"{host} has no {what}", hint="Check how it is spelled.", field="what", **facts)
    if state in _FORBIDDEN:
        right = "SELECT on the table, USE CATALOG and USE SCHEMA above it"
        return PermissionMissing(f"Databricks does not permit reading {what}", right=right, **facts)
    if state.startswith("42"):  # syntax error or access rule violation
        return ValueRefused(f"Databricks cannot read {what} ({state})", **facts)
    return VendorUnavailable("the SQL warehouse could not run the statement", **facts)


def _listed(line: Line, kind: str, limit: int, what: str, **query: str) -> int:
    """How many there are, at most `limit`. A page may be empty and still not be the last."""
    found, page = 0, ""
    for _ in range(client.MOST_PAGES):
        asked: dict[str, Any] = {**query, "max_results": str(limit), **({"page_token": page} if page else {})}
        answer = line.call("GET", f"{_CATALOG}/{kind}", **asked)
        if answer.status != 200:
            raise _refused(client.refusal(answer, "USE CATALOG and USE SCHEMA"), what)
        said = client.object_in(answer)
        rows = said.get(kind, [])
        # An empty object is an empty list; who logged in is known by now, so it is Databricks that says so.
        known = kind in said or "next_page_token" in said or (not said and client.is_object(answer))
        if not isinstance(rows, list) or not known or not all(isinstance(row, dict) for row in rows):
            raise UnexpectedAnswer(f"{answer.host} answered without a list of {kind}", status=answer.status)
        found, page = found + len(rows), str(said.get("next_page_token") or "")
        if found >= limit or not page:
            return min(found, limit)
    raise UnexpectedAnswer(f"the list goes on after {client.MOST_PAGES} pages", host=line.base)


def _refused(error: KeyturnError, what: str) -> KeyturnError:
    """The same, said of what was named."""
    if isinstance(error, NotFound):
        return NotFound(f"there is no {what}", hint="Check how it is spelled.", field="what", **error.facts)
    return error

"""As much of BigQuery v2 and of the Analytics Admin and Data APIs as a test login asks for.

Source: their published descriptions; google-cloud-bigquery 3.47.0 (checked 2026-11-23).
"""

import re
from typing import Any
from uuid import uuid4

from flask import Blueprint, Response, jsonify, request

from keyturn_lab.quirks import Kind
from keyturn_lab.standin import meets
from keyturn_lab.vendors.google.state import DATASET, OTHER, PROJECT, World
from keyturn_lab.vendors.google.wire import ANALYTICS, BIGQUERY, CLOUD, caller, info, refuse

# Rows by table; a view has none that could be listed.
TABLES: dict[str, int | None] = {"orders": 3, "empty": 0, "orders_view": None}
METRICS = {"activeUsers", "sessions"}
DIMENSIONS = {
    "date": [f"202611{day}" for day in range(21, 28)],
    "country": ["Iceland", "Kenya"],
    "cityId": [],
}
_ANSWERS = {"select 1": "1", "select session_user()": None}
_NO_PROPERTY = (
    "User does not have sufficient permissions for this property. To learn more about Property ID, see"
    " https://developers.google.com/analytics/devguides/reporting/data/v1/property-id."
)


def bigquery(world: World) -> Blueprint:
    """BigQuery of the one project."""
    api = Blueprint("bigquery", __name__, url_prefix="/bigquery/v2")

    def asks(permission: str = "", project: str = PROJECT) -> str | Response:
        """Who asks; in BigQuery a project that is not there and one that is closed are refused alike."""
        token = caller(world, BIGQUERY, CLOUD)
        if isinstance(token, Response):
            return token
        if world.settings.api_disabled:
            return _disabled("BigQuery API")
        if permission and (permission not in world.rights_of(token.holder) or project != PROJECT):
            message = f"Access Denied: Project {project}: User does not have {permission} permission in project {project}."
            return refuse(403, message, "accessDenied")
        return token.holder

    @api.get("/projects")
    def projects() -> Response:
        who = asks()
        if isinstance(who, Response):
            return who
        row = {
            "id": PROJECT,
            "numericId": "730000000000",
            "projectReference": {"projectId": PROJECT},
            "friendlyName": "Lab",
        }
        return jsonify(kind="bigquery#projectList", projects=[row], totalItems=1)

    @api.get("/projects/<project>/datasets")
    def datasets(project: str) -> Response:
        who = asks("bigquery.datasets.get", project)
        if isinstance(who, Response):
            return who
        row = {
            "id": f"{PROJECT}:{DATASET}",
            "datasetReference": {"projectId": PROJECT, "datasetId": DATASET},
            "location": "US",
        }
        return jsonify(kind="bigquery#datasetList", datasets=[row])

    @api.get("/projects/<project>/datasets/<dataset>")
    def dataset(project: str, dataset: str) -> Response:
        who = asks("bigquery.datasets.get", project)
        if isinstance(who, Response):
            return who
        if dataset != DATASET:
            return refuse(404, f"Not found: Dataset {project}:{dataset}", "notFound")
        named = {"projectId": project, "datasetId": dataset}
        return jsonify(
            kind="bigquery#dataset", id=f"{project}:{dataset}", datasetReference=named, location="US"
        )

    @api.get("/projects/<project>/datasets/<dataset>/tables/<table>/data")
    def table_data(project: str, dataset: str, table: str) -> Response:
        who = asks("bigquery.tables.getData", project)
        if isinstance(who, Response):
            return who
        if dataset != DATASET or table not in TABLES:
            return refuse(404, f"Not found: Table {project}:{dataset}.{table}", "notFound")
        rows = TABLES[table]
        if rows is None:
            return refuse(400, f"Cannot list a table of type VIEW: {table}", "invalid")
        page = [{"f": [{"v": str(n)}]} for n in range(rows)][: request.args.get("maxResults", rows, type=int)]
        shape: dict[str, Any] = {"kind": "bigquery#tableDataList", "etag": "x", "totalRows": str(rows)}
        return jsonify(shape | ({"rows": page} if page else {}))

    @api.get("/projects/<project>/datasets/<dataset>/tables/<table>")
    def table_shape(project: str, dataset: str, table: str) -> Response:
        who = asks("bigquery.tables.get", project)
        if isinstance(who, Response):
            return who
        if dataset != DATASET or TABLES.get(table) is None:
            return refuse(404, f"Not found: Table {project}:{dataset}.{table}", "notFound")
        named = {"projectId": project, "datasetId": dataset, "tableId": table}
        fields = [{"name": "n", "type": "INTEGER", "mode": "NULLABLE"}]
        return jsonify(
            kind="bigquery#table", tableReference=named, schema={"fields": fields}, numRows=str(TABLES[table])
        )

    @api.post("/projects/<project>/queries")
    def query(project: str) -> Response:
        who = asks("bigquery.jobs.create", project)
        if isinstance(who, Response):
            return who
        body = request.get_json(silent=True) or {}
        said = " ".join(str(body.get("query", "")).lower().split()).rstrip(";")
        if said not in _ANSWERS or body.get("useLegacySql") is not False:
            return refuse(400, "Syntax error: Unexpected identifier at [1:1]", "invalidQuery")
        if meets(Kind.WRONG_IDENTITY):
            who = OTHER
        value = _ANSWERS[said]
        kind = "INTEGER" if value else "STRING"
        shape: dict[str, Any] = {
            "kind": "bigquery#queryResponse",
            "jobReference": {
                "projectId": project,
                "jobId": f"job_{uuid4().hex}",
                "location": body.get("location", "US"),
            },
            "jobComplete": not world.settings.job_is_slow,
            "totalBytesProcessed": "0",
            "cacheHit": False,
        }
        if body.get("dryRun") or world.settings.job_is_slow:
            return jsonify(shape)
        fields = [{"name": "f0_", "type": kind, "mode": "NULLABLE"}]
        return jsonify(
            shape | {"schema": {"fields": fields}, "totalRows": "1", "rows": [{"f": [{"v": value or who}]}]}
        )

    return api


def analytics(world: World) -> Blueprint:
    """Admin API and Data API under one address; the vendor has them under two."""
    api = Blueprint("analytics", __name__)

    def asks(property_id: str = "") -> dict[str, str] | Response:
        """The properties of whoever asks."""
        token = caller(world, ANALYTICS, "https://www.googleapis.com/auth/analytics.edit")
        if isinstance(token, Response):
            return token
        if world.settings.api_disabled:
            return _disabled("Google Analytics Data API")
        mine = token.grant.person.properties if token.grant else {}
        if property_id and property_id not in mine:
            return refuse(403, _NO_PROPERTY, "forbidden")
        return mine

    @api.get("/v1beta/accountSummaries")
    def account_summaries() -> Response:
        mine = asks()
        if isinstance(mine, Response):
            return mine
        size = min(int(request.args.get("pageSize") or world.settings.page_size), 200)
        start = int(request.args.get("pageToken") or 0)
        every = [_summary(number, title) for number, title in mine.items()]
        shape: dict[str, Any] = {"accountSummaries": every[start : start + size]}
        if start + size < len(every):
            shape["nextPageToken"] = str(start + size)
        return jsonify(shape)

    @api.get("/v1beta/properties/<int:number>/metadata")
    def metadata(number: int) -> Response:
        mine = asks(str(number))
        if isinstance(mine, Response):
            return mine
        metric = {"apiName": "activeUsers", "uiName": "Active users", "type": "TYPE_INTEGER"}
        return jsonify(
            name=f"properties/{number}/metadata",
            dimensions=[{"apiName": "date", "uiName": "Date"}],
            metrics=[metric],
        )

    @api.post("/v1beta/properties/<tail>")
    def run_report(tail: str) -> Response:
        found = re.fullmatch(r"([0-9]+):runReport", tail)
        if found is None:
            return refuse(404, "Method not found.", "notFound")
        mine = asks(found.group(1))
        if isinstance(mine, Response):
            return mine
        body = request.get_json(silent=True) or {}
        metrics = [str(each.get("name")) for each in body.get("metrics", [])]
        dimensions = [str(each.get("name")) for each in body.get("dimensions", [])]
        if not metrics or not set(metrics) <= METRICS or not body.get("dateRanges"):
            return refuse(400, "Field metrics is not a valid metric.", "badRequest")
        if not set(dimensions) <= set(DIMENSIONS):
            return refuse(400, "Field dimensions is not a valid dimension.", "badRequest")
        values = DIMENSIONS[dimensions[0]] if dimensions else [""]
        rows: list[dict[str, Any]] = [
            ({"dimensionValues": [{"value": value}]} if dimensions else {})
            | {"metricValues": [{"value": "7"}]}
            for value in values[: int(body.get("limit") or 10_000)]
        ]
        shape: dict[str, Any] = {
            "kind": "analyticsData#runReport",
            "metricHeaders": [{"name": name, "type": "TYPE_INTEGER"} for name in metrics],
            "metadata": {"currencyCode": "EUR", "timeZone": "Etc/UTC"},
        }
        return jsonify(shape | ({"rows": rows, "rowCount": len(values)} if rows else {}))

    return api


def _summary(number: str, title: str) -> dict[str, Any]:
    row = {
        "property": f"properties/{number}",
        "displayName": title,
        "propertyType": "PROPERTY_TYPE_ORDINARY",
        "parent": f"accounts/{number[:3]}",
        "canEdit": False,
    }
    return {
        "name": f"accountSummaries/{number}",
        "account": f"accounts/{number[:3]}",
        "displayName": "Acme",
        "propertySummaries": [row],
    }


def _disabled(name: str) -> Response:
    message = f"{name} has not been used in project {PROJECT} before or it is disabled."
    return refuse(403, message, "accessNotConfigured", details=info("SERVICE_DISABLED"))

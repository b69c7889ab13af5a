"""The Table API of the tables that a rotation touches, with its silences: hidden rows, dropped filters, masked secrets.

Source: https://github.com/ServiceNow/ServiceNowDocs (Table API), checked 2026-11-23.
"""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, g, jsonify, request

from keyturn_lab import guard
from keyturn_lab.quirks import Kind
from keyturn_lab.standin import meets
from keyturn_lab.vendors.servicenow.state import Entry, Instance, Token, User, stamp

Row = dict[str, str]
COLUMNS = {
    "oauth_entity": [
        "sys_id",
        "name",
        "client_id",
        "client_secret",
        "type",
        "active",
        "redirect_url",
        "access_token_lifespan",
        "refresh_token_lifespan",
        "sys_created_by",
        "sys_updated_on",
    ],
    "oauth_credential": ["sys_id", "peer", "user", "type", "expires", "token", "sys_created_on"],
    "sys_user": ["sys_id", "user_name", "name", "email", "active"],
    "sys_user_role": ["sys_id", "name"],
    "incident": ["sys_id", "number", "short_description"],
    "problem": ["sys_id", "number"],
}
REFERENCES = {"peer": "oauth_entity", "user": "sys_user"}


def refuse(status: int, message: str, detail: str | None = None) -> Response:
    answer = jsonify(error={"message": message, "detail": detail}, status="failure")
    answer.status_code = status
    return answer


def tables(instance: Instance, who: Callable[[], User | None]) -> Blueprint:
    """The blueprint over one instance; `who` says who is calling."""
    routes = Blueprint("tables", __name__, url_prefix="/api/now/table")

    @routes.before_request
    def enter() -> Response | None:
        user = who()
        if user is None:
            return refuse(401, "User Not Authenticated", "Required to provide Auth information")
        g.user = user
        return None

    @routes.after_request
    def negotiated(answer: Response) -> Response:
        if "json" not in request.headers.get("Accept", "") and answer.mimetype == "application/json":
            answer.set_data(f'<?xml version="1.0"?><response>{len(answer.get_data())}</response>')
            answer.mimetype = "application/xml"
        return answer

    @routes.get("/<table>")
    def rows(table: str) -> Response:
        if table not in COLUMNS:
            return refuse(400, f"Invalid table {table}")
        if (no := _forbidden(instance, table)) is not None:
            return no
        found = _filtered(instance, table, _visible(instance, table), request.args.get("sysparm_query", ""))
        limit, offset = (
            int(request.args.get(f"sysparm_{n}", d)) for n, d in (("limit", 10000), ("offset", 0))
        )
        part = found[offset : offset + limit]
        answer = jsonify(result=[_shown(instance, table, row) for row in part])
        answer.headers["X-Total-Count"] = str(len(found))
        if offset + limit < len(found):
            more = {**request.args.to_dict(), "sysparm_offset": str(offset + limit)}
            answer.headers["Link"] = f'<{request.base_url}?{urlencode(more)}>;rel="next"'
        return answer

    @routes.post("/<table>")
    def add(table: str) -> Response:
        if table != "oauth_entity":
            return refuse(403, "Insufficient rights to create new records")
        if (no := _no_write(instance)) is not None:
            return no
        body = _body()
        if meets(Kind.REFUSE_VALUE) or not body.get("name"):
            return refuse(400, "Operation Failed", "Data Policy Exception")
        entry = instance.add(
            body["name"],
            redirect_url=body.get("redirect_url", ""),
            client_id=body.get("client_id", ""),
            secret=body.get("client_secret", ""),
        )
        entry.created_by = g.user.user_name
        instance.change(entry, {k: v for k, v in body.items() if k.endswith("_lifespan") or k == "active"})
        answer = jsonify(result=_shown(instance, table, _entry_row(entry)))
        answer.status_code = 201
        return answer

    @routes.route("/<table>/<sys_id>", methods=["GET", "PATCH", "PUT", "DELETE"])
    def row(table: str, sys_id: str) -> Response:
        if table not in COLUMNS:
            return refuse(400, f"Invalid table {table}")
        found = next((each for each in _visible(instance, table) if each["sys_id"] == sys_id), None)
        if found is None:
            return refuse(
                404, "No Record found", "Record doesn't exist or ACL restricts the record retrieval"
            )
        if request.method == "GET":
            return jsonify(result=_shown(instance, table, found))
        if table not in {"oauth_entity", "oauth_credential"}:
            return refuse(403, "Insufficient rights to update records")
        if (no := _no_write(instance)) is not None:
            return no
        if table == "oauth_credential":
            token = next(each for each in instance.tokens if each.sys_id == sys_id)
            if request.method != "DELETE":
                return refuse(403, "Insufficient rights to update records")
            instance.remove_token(token)
            return Response(status=204)
        entry = instance.entries[sys_id]
        if request.method == "DELETE":
            instance.delete(entry)
            return Response(status=204)
        instance.change(entry, _body())
        return jsonify(result=_shown(instance, table, _entry_row(entry)))

    return routes


def _body() -> dict[str, str]:
    body = request.get_json(silent=True)
    return {str(k): str(v) for k, v in body.items()} if isinstance(body, dict) else {}


def _forbidden(instance: Instance, table: str) -> Response | None:
    if not table.startswith("oauth_"):
        return None
    closed = instance.settings.entries_acl == "closed"
    if closed or (not g.user.is_admin and instance.settings.plain_user_sees == "forbidden"):
        return refuse(
            403,
            "Insufficient rights to query records",
            "Field(s) present in the query do not have permission",
        )
    return None


def _no_write(instance: Instance) -> Response | None:
    if g.user.is_admin and instance.settings.entries_acl == "admin":
        return None
    return refuse(
        403,
        "Insufficient rights to update records",
        "ACL Exception Update Failed due to security constraints",
    )


def _visible(instance: Instance, table: str) -> list[Row]:
    """What the caller may see: the rest is not refused, it is simply not there."""
    if table == "sys_user":
        return [_user_row(each) for each in instance.users.values()]
    if table == "sys_user_role":
        return [{"sys_id": "1" * 32, "name": "oauth_admin"}, {"sys_id": "2" * 32, "name": "itil"}]
    if table == "incident":
        return [
            {"sys_id": f"{n}" * 32, "number": f"INC000{n}", "short_description": "ktlab-private"}
            for n in (3, 4, 5)
        ]
    if table == "problem":
        return []
    if not g.user.is_admin or instance.settings.entries_acl != "admin":
        return []
    if table == "oauth_entity":
        return [_entry_row(each) for each in instance.listed()]
    return [_token_row(each) for each in instance.tokens]


def _filtered(instance: Instance, table: str, rows: list[Row], query: str) -> list[Row]:
    """Conditions joined by `^`. One on a column that does not exist is dropped, which matches every row."""
    for piece in filter(None, query.split("^")):
        if piece.startswith("ORDERBY"):
            rows = _ordered(rows, piece.removeprefix("ORDERBY"))
            continue
        name, _, wanted = piece.partition("=")
        if wanted == "javascript:gs.getUserName()" and instance.settings.script_in_query:
            wanted = g.user.user_name
            if meets(Kind.WRONG_IDENTITY):
                wanted = next(each for each in instance.users if each != g.user.user_name)
        elif wanted.startswith("javascript:"):
            name = "not a column"
        if name not in COLUMNS[table]:
            rows = [] if instance.settings.invalid_query_returns_no_rows else rows
            continue
        rows = [row for row in rows if row[name] == wanted]
    return rows


def _ordered(rows: list[Row], by: str) -> list[Row]:
    return sorted(rows, key=lambda row: row.get(by, ""))


def _shown(instance: Instance, table: str, row: Mapping[str, str]) -> dict[str, Any]:
    """The asked-for columns; references as link and value, secrets never as themselves, unknown columns left out."""
    asked = [each for each in request.args.get("sysparm_fields", "").split(",") if each] or COLUMNS[table]
    shown: dict[str, Any] = {}
    for name in asked:
        head, _, tail = name.partition(".")
        if tail and head in REFERENCES and head in row:
            target = next((each for each in _targets(instance, head) if each["sys_id"] == row[head]), {})
            shown[name] = target.get(tail, "")
        elif name in REFERENCES and name in row:
            link = f"{request.host_url}api/now/table/{REFERENCES[name]}/{row[name]}"
            shown[name] = {"link": link, "value": row[name]}
        elif name in {"client_secret", "token"} and name in row:
            shown[name] = guard.mint("servicenow_masked", 20)
        elif name in row:
            shown[name] = row[name]
    return shown


def _targets(instance: Instance, head: str) -> list[Row]:
    if head == "user":
        return [_user_row(each) for each in instance.users.values()]
    return [_entry_row(each) for each in instance.entries.values()]


def _entry_row(entry: Entry) -> Row:
    return {
        "sys_id": entry.sys_id,
        "name": entry.name,
        "client_id": entry.client_id,
        "client_secret": "",
        "type": entry.type,
        "active": str(entry.active).lower(),
        "redirect_url": entry.redirect_url,
        "access_token_lifespan": str(entry.access_token_lifespan),
        "refresh_token_lifespan": str(entry.refresh_token_lifespan),
        "sys_created_by": entry.created_by,
        "sys_updated_on": stamp(entry.updated_at),
    }


def _token_row(token: Token) -> Row:
    return {
        "sys_id": token.sys_id,
        "peer": token.entry.sys_id,
        "user": token.user.sys_id,
        "type": token.type,
        "expires": stamp(token.life.until_at),
        "token": "",
        "sys_created_on": stamp(token.created_at),
    }


def _user_row(user: User) -> Row:
    email = user.user_name if "@" in user.user_name else f"{user.user_name}@acme.example"
    return {
        "sys_id": user.sys_id,
        "user_name": user.user_name,
        "name": user.name,
        "email": email,
        "active": "true",
    }

"""Mixpanel's app, query, import and ingestion endpoints as far as a rotation meets them; pages live in `pages`.

Source: mixpanel/docs, openapi/service-accounts.openapi.yaml and reference pages (checked 2026-11-23).
"""

import base64
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Flask, Response, abort, g, jsonify, request

from keyturn_lab.clock import Clock
from keyturn_lab.quirks import Kind, Quirks
from keyturn_lab.standin import Stage, add_settings, build_app, meets
from keyturn_lab.vendors.mixpanel.pages import pages
from keyturn_lab.vendors.mixpanel.state import PERMISSIONS, ROLES, Analytics, Member, Project, ServiceAccount

APP = {"mixpanel.com": "us", "eu.mixpanel.com": "eu", "in.mixpanel.com": "in"}
INGESTION = {"api.mixpanel.com": "us", "api-eu.mixpanel.com": "eu", "api-in.mixpanel.com": "in"}
EXPORT = {"data.mixpanel.com": "us", "data-eu.mixpanel.com": "eu", "data-in.mixpanel.com": "in"}


def create_app(seed: int = 1, clock: Clock | None = None) -> Flask:
    """Fresh organizations without service accounts. Changes are documented as immediate, so no delay is the default."""
    clock = clock or Clock()
    quirks = Quirks(seed)
    world = Analytics(clock, quirks)
    app = build_app(Stage("mixpanel", world, throttled=_throttled, quirks=quirks, clock=clock))
    add_settings(app, lambda: world.settings)
    app.register_blueprint(pages(world))
    app.register_blueprint(_app_api(world))
    app.register_blueprint(_data(world))

    @app.get("/_lab/world")
    def whole() -> Response:
        return jsonify(
            organizations=world.organizations,
            projects={str(p.id): vars(p) for p in world.projects.values()},
            audit=world.audit,
        )

    @app.post("/_lab/make")
    def make() -> Response:
        """A service account as a person makes it in the browser."""
        body = request.get_json()
        account = world.add(
            body["organization"],
            body["name"],
            body.get("role", "consumer"),
            {int(number): role for number, role in body.get("projects", {}).items()},
            body.get("expires_at"),
        )
        return jsonify(id=account.id, username=account.username, secret=account.value)

    @app.post("/_lab/members")
    def members() -> Response:
        """A membership that the API cannot make: through a team, with a role of one's own, with classified data."""
        body = request.get_json()
        account = next(a for a in world.accounts if a.id == body["id"])
        account.members[int(body["project"])] = Member(
            body["role"], body.get("target_type", "individual"), body.get("is_sensitive", False)
        )
        return jsonify({})

    return app


def _throttled() -> Response:
    """Says nothing of how long to wait: no header is documented."""
    answer = jsonify(status="error", error="Project exceeded rate limits. Please retry the request later.")
    answer.status_code = 429
    return answer


def _refuse(status: int, error: str) -> Response:
    answer = jsonify(status="error", error=error)
    answer.status_code = status
    return answer


def _host() -> str:
    return request.host.rsplit(":", 1)[0]


def _region(world: Analytics, names: dict[str, str]) -> str:
    """The region of the host that is called; another kind of host serves nothing of this kind."""
    everything = APP | INGESTION | EXPORT
    if _host() in everything and _host() not in names:
        abort(404)
    return names.get(_host(), world.settings.region)


def _pair() -> tuple[str, str] | None:
    """User and secret: in base64, or as plain text, which is accepted as well."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(value, validate=True).decode()
    except ValueError:
        text = value
    name, colon, secret = text.partition(":")
    return (name, secret) if colon else None


def _time(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _shape(account: ServiceAccount) -> dict[str, Any]:
    return {
        "id": account.id,
        "username": account.username,
        "last_used": _time(account.last_used_at),
        "expires": _time(account.expires_at),
        "creator": account.creator,
        "created": _time(account.created_at),
        "user": account.id + 900_000,
    }


def _app_api(world: Analytics) -> Blueprint:
    api = Blueprint("app", __name__, url_prefix="/api/app")

    @api.before_request
    def admit() -> Response | None:
        region = _region(world, APP)
        pair = _pair()
        account = world.sign_in(*pair, region) if pair else None
        if account is None:
            return _refuse(401, "Invalid service account credentials")
        g.me, g.region = account, region
        return None

    def is_admin(organization: int) -> bool:
        me: ServiceAccount = g.me
        return me.organization == organization and me.role in {"owner", "admin"}

    def forbidden() -> Response:
        return _refuse(403, "You do not have permission to manage service accounts")

    @api.get("/me", endpoint="me")
    def me() -> Response:
        account: ServiceAccount = g.me
        organization = account.organization
        if meets(Kind.WRONG_IDENTITY):
            organization = next(number for number in world.organizations if number != organization)
        projects = {
            str(number): {
                "name": world.projects[number].name,
                "permissions": PERMISSIONS.get(member.role, []),
            }
            for number, member in world.projects_of(account, g.region).items()
        }
        name = world.organizations[organization]
        return jsonify(
            status="ok",
            results={
                "user_id": account.id + 900_000,
                "user_name": account.username,
                "user_email": f"{account.username}@serviceaccount.mixpanel.com",
                "organizations": {
                    str(organization): {"id": organization, "name": name, "role": account.role}
                },
                "projects": projects,
                "workspaces": {},
            },
        )

    @api.get("/organizations/<int:org>/service-accounts", endpoint="list_accounts")
    def listed(org: int) -> Response:
        if not is_admin(org):
            return forbidden()
        return jsonify(status="ok", results=[_shape(a) for a in world.listed(org)])

    @api.post("/organizations/<int:org>/service-accounts", endpoint="create_account")
    def create(org: int) -> Response:
        if not is_admin(org):
            return forbidden()
        body = request.get_json(silent=True)
        projects = _projects(world, org, body.get("projects", [])) if isinstance(body, dict) else None
        if projects is None or meets(Kind.REFUSE_VALUE):
            return _refuse(400, "projects: every project needs an id of this organization and a role")
        assert isinstance(body, dict)
        name, role = body.get("username"), body.get("role", "consumer")
        if not isinstance(name, str) or not name or role not in ROLES:
            return _refuse(
                400, "username is required and role must be one of owner, admin, analyst, consumer"
            )
        try:
            expires_at = _instant(body.get("expires"))
        except ValueError:
            return _refuse(400, "expires must be a date-time")
        account = world.add(org, name, role, projects, expires_at, creator=g.me.id)
        answer = jsonify(status="ok", results=_shape(account) | {"token": account.value})
        answer.status_code = 201
        return answer

    @api.get("/organizations/<int:org>/service-accounts/<int:number>", endpoint="get_account")
    def one(org: int, number: int) -> Response:
        if not is_admin(org):
            return forbidden()
        account = world.find(org, number)
        return (
            _refuse(404, "Service account not found")
            if account is None
            else jsonify(status="ok", results=_shape(account))
        )

    @api.delete("/organizations/<int:org>/service-accounts/<int:number>", endpoint="delete_account")
    def delete(org: int, number: int) -> Response:
        if not is_admin(org):
            return forbidden()
        account = world.find(org, number)
        if account is None:
            return _refuse(404, "Service account not found")
        world.delete(account)
        return jsonify(status="ok")

    @api.get("/projects/<int:number>/service-accounts", endpoint="list_members")
    def in_project(number: int) -> Response:
        mine = world.projects_of(g.me, g.region).get(number)
        if mine is None:
            return _refuse(404, "Project not found")
        if mine.role not in {"owner", "admin"} and not is_admin(world.projects[number].organization):
            return forbidden()
        rows = []
        for account in world.listed(world.projects[number].organization):
            member = world.projects_of(account, g.region).get(number)
            if member is not None:
                more = {
                    "role": member.role,
                    "role_order": ROLES.index(member.role) if member.role in ROLES else 9,
                    "hasSensitiveAccess": member.is_sensitive,
                    "target_type": member.target_type,
                    "email": f"{account.username}@serviceaccount.mixpanel.com",
                }
                rows.append(_shape(account) | more)
        return jsonify(status="ok", results=rows)

    @api.post("/organizations/<int:org>/service-accounts/add-to-project", endpoint="add_to_project")
    def add(org: int) -> Response:
        if not is_admin(org):
            return forbidden()
        body = request.get_json(silent=True) or {}
        projects = _projects(world, org, body.get("projects"))
        accounts = [world.find(org, each) for each in body.get("service_account_ids", [])]
        if not projects or not accounts or None in accounts:
            return _refuse(400, "projects and service_account_ids are required")
        for account in accounts:
            for number, role in projects.items():
                assert account is not None
                world.join(account, number, role)
        return jsonify(status="ok")

    @api.post("/organizations/<int:org>/service-accounts/remove-from-project", endpoint="remove_from_project")
    def remove(org: int) -> Response:
        if not is_admin(org):
            return forbidden()
        for each in (request.get_json(silent=True) or {}).get("projects", []):
            for number in each["service_account_ids"]:
                account = world.find(org, number)
                if account is None:
                    return _refuse(404, "Service account not found")
                world.leave(account, int(each["id"]))
        return jsonify(status="ok")

    return api


def _projects(world: Analytics, org: int, rows: object) -> dict[int, str] | None:
    """The wanted memberships; None when one is no project of the organization or no role."""
    if not isinstance(rows, list):
        return None
    found = {}
    for row in rows:
        project = world.projects.get(row.get("id")) if isinstance(row, dict) else None
        if project is None or project.organization != org or row.get("role") not in ROLES:
            return None
        found[project.id] = str(row["role"])
    return found


def _instant(text: object) -> float | None:
    if text is None:
        return None
    at = datetime.fromisoformat(str(text))
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


EVENT_NAMES = ["signup", "login", "purchase"]


def _data(world: Analytics) -> Blueprint:
    """What consumers call: import, ingestion, query and export."""
    data = Blueprint("data", __name__)

    def project_of(region: str) -> Project | None:
        """By `project_id` and a service account in it, or by the project's own secret as the user name."""
        pair = _pair()
        if pair is None:
            return None
        number = request.args.get("project_id", type=int)
        if number is None or pair[1] == "":
            project = world.by_secret(pair[0])
            return project if project is not None and project.region == region else None
        account = world.sign_in(*pair, region)
        if account is None or number not in world.projects_of(account, region):
            return None
        return world.projects[number]

    @data.post("/import", endpoint="import")
    def take() -> Response:
        if project_of(_region(world, INGESTION)) is not None:
            return jsonify(code=200, num_records_imported=1, status="OK")
        words = "Invalid credentials"
        if "project_id" not in request.args:  # a service account is taken for a project secret then
            words = "Unauthorized, invalid project secret. See docs for more information."
        answer = jsonify(code=401, error=words, status="Unauthorized")
        answer.status_code = 401
        return answer

    @data.post("/track", endpoint="track")
    def track() -> str:
        """Accepts whatever comes: it proves nothing."""
        _region(world, INGESTION)
        return "1"

    @data.get("/api/query/events/names", endpoint="query")
    def query() -> Response:
        project = project_of(_region(world, APP))
        if project is None:
            return _refuse(401, "Unable to authenticate request")
        if request.args.get("type") not in {"general", "unique", "average"}:
            return _refuse(400, "type must be one of general, unique, average")
        names = EVENT_NAMES[: request.args.get("limit", 255, type=int)]
        return jsonify(names) if world.count_query(project) else _throttled()

    @data.get("/api/2.0/export", endpoint="export")
    def export() -> Response:
        project = project_of(_region(world, EXPORT))
        if project is None:
            return _refuse(401, "Unable to authenticate request")
        return Response('{"event":"signup","properties":{}}\n', mimetype="application/json")

    return data

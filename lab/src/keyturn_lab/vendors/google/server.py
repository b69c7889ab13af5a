"""Google as one address: token endpoint, IAM, BigQuery, Analytics, pages for people, and the lab's own doors.

The vendor has a host for each; every client and connector here takes each host's address by itself. Not modelled, as nothing
of ours calls them: Policy Analyzer, workforce `oauthClients`, Analytics' access bindings, the Directory's list of tokens.
"""

from flask import Blueprint, Flask, Response, abort, jsonify, request

from keyturn_lab.clock import Clock
from keyturn_lab.quirks import Quirks
from keyturn_lab.standin import Stage, add_settings, build_app
from keyturn_lab.vendors.google import iam, oauth
from keyturn_lab.vendors.google.pages import pages
from keyturn_lab.vendors.google.products import analytics, bigquery
from keyturn_lab.vendors.google.state import World
from keyturn_lab.vendors.google.wire import throttled


def create_app(seed: int = 1, clock: Clock | None = None) -> Flask:
    """A fresh project with four service accounts, two people and one OAuth client.

    Ops: `assert`, `exchange` and `refresh` at the token endpoint; `create_key`, `list_keys`, `disable_key`, ... at IAM; else
    the endpoint's name.
    """
    clock = clock or Clock()
    quirks = Quirks(seed)
    world = World(clock, quirks)
    app = build_app(
        Stage(
            "google",
            world,
            throttled=throttled,
            quirks=quirks,
            clock=clock,
            op_of=lambda: oauth.op() or iam.op(),
        )
    )

    @app.before_request
    def _remember_address() -> None:
        world.url = request.host_url.rstrip("/")

    add_settings(app, lambda: world.settings)
    for made in (
        pages(world),
        oauth.oauth(world),
        iam.iam(world),
        bigquery(world),
        analytics(world),
        _steering(world),
    ):
        app.register_blueprint(made)
    return app


def _steering(world: World) -> Blueprint:
    """The admin endpoints that only this vendor needs."""
    steering = Blueprint("steering", __name__, url_prefix="/_lab")

    @steering.get("/accounts")
    def accounts() -> Response:
        """The service accounts with a working key file each, as a customer would hand it over."""
        return jsonify(
            [
                {"email": each.email, "project": each.project, "key_file": world.first_key(each)}
                for each in world.accounts.values()
            ]
        )

    @steering.post("/fresh-key")
    def fresh_key() -> Response:
        account = world.accounts.get(request.get_json()["email"]) or abort(404)
        return jsonify(key_file=world.fresh_key(account))

    @steering.post("/console-key")
    def console_key() -> Response:
        """A person makes a key in the console, beside those that are there."""
        account = world.accounts.get(request.get_json()["email"]) or abort(404)
        return jsonify(key_file=world.create_key(account)[0].file)

    @steering.post("/account")
    def set_account() -> Response:
        """Turns a service account off or on, or gives it exactly these permissions on the project."""
        body = request.get_json()
        account = world.accounts.get(body["email"]) or abort(404)
        if "is_off" in body:
            account.is_off = bool(body["is_off"])
        if "rights" in body:
            account.rights[""] = set(body["rights"])
        return jsonify(account.email)

    @steering.post("/person")
    def set_person() -> Response:
        """Gives a person exactly these Analytics properties."""
        body = request.get_json()
        person = world.people.get(body["email"]) or abort(404)
        person.properties = dict(body["properties"])
        return jsonify(person.email)

    @steering.get("/clients")
    def clients() -> Response:
        return jsonify(
            [
                {
                    "client_id": each.client_id,
                    "name": each.name,
                    "callbacks": each.callbacks,
                    "state": each.state,
                    "client_secret": next((s.value for s in each.secrets if s.is_on), ""),
                }
                for each in world.clients.values()
            ]
        )

    @steering.post("/clients")
    def set_client() -> Response:
        """Changes the client of this `client_id`, or adds one."""
        body = dict(request.get_json())
        client = world.clients.get(body.get("client_id", "")) or world.add_client(
            body.get("name", "Another app"), body["callback"]
        )
        if "callback" in body:
            client.callbacks = [*client.callbacks, body["callback"]]
        client.state = body.get("state", client.state)
        client.is_testing = bool(body.get("is_testing", client.is_testing))
        return jsonify(
            client_id=client.client_id, client_secret=next((s.value for s in client.secrets if s.is_on), "")
        )

    return steering

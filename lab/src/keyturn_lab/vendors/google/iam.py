"""IAM API v1: service accounts and their keys.

Source: https://iam.googleapis.com/$discovery/rest?version=v1, revision 20261023 (checked 2026-11-23).
"""

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, jsonify, request

from keyturn_lab.quirks import Kind
from keyturn_lab.standin import meets
from keyturn_lab.vendors.google.keys import MOST_KEYS, Account, Key
from keyturn_lab.vendors.google.state import World
from keyturn_lab.vendors.google.wire import CLOUD, caller, denied, info, refuse

_POLICY = "constraints/iam.disableServiceAccountKeyCreation"


def op() -> str | None:
    """The finer op of an IAM call: `create_key`, `disable_key`, `disable_account` and so on."""
    _, _, tail = request.path.partition("/serviceAccounts")
    if not request.path.startswith("/v1/projects/") or not tail.strip("/"):
        return None
    verb = tail.rpartition(":")[2] if ":" in tail else ""
    what = "key" if "/keys" in tail else "account"
    if verb in {"disable", "enable", "undelete", "upload"}:
        return f"{verb}_{what}"
    if tail.endswith("/keys"):
        return "create_key" if request.method == "POST" else "list_keys"
    return {"DELETE": f"delete_{what}", "GET": f"get_{what}"}.get(request.method)


def iam(world: World) -> Blueprint:
    """The blueprint over one world."""
    api = Blueprint("iam", __name__, url_prefix="/v1/projects/<project>/serviceAccounts")

    def may(permission: str, project: str, who: str) -> tuple[Account | None, Response | None]:
        """The account meant, or why the call is not served: token, scope, permission, existence, in that order."""
        token = caller(world, CLOUD)
        if isinstance(token, Response):
            return None, token
        actor, found = world.accounts.get(token.holder), world.find(who) if who else None
        if actor is None or not actor.may(permission, found.email if found else ""):
            return None, denied(permission)
        if who and (found is None or project not in {"-", found.project}):
            # With the wildcard nobody is told whether it exists.
            missing = (
                denied(permission) if project == "-" else _missing(f"Service account {who} does not exist.")
            )
            return None, missing
        return found, None

    @api.get("")
    def list_accounts(project: str) -> Response:
        _, no = may("iam.serviceAccounts.list", project, "")
        if no is not None:
            return no
        size = min(int(request.args.get("pageSize") or 20), 100)
        start = int(request.args.get("pageToken") or 0)
        every = list(world.accounts.values())
        shape: dict[str, Any] = {"accounts": [_account(each) for each in every[start : start + size]]}
        if start + size < len(every):
            shape["nextPageToken"] = str(start + size)
        return jsonify(shape)

    @api.route("/<path:tail>", methods=["GET", "POST", "DELETE"])
    def one(project: str, tail: str) -> Response:
        name, _, verb = tail.partition(":")
        who, _, rest = name.partition("/")
        if not rest:
            return account_call(project, who, verb)
        key_id = rest.removeprefix("keys").strip("/")
        if not rest.startswith("keys"):
            return _missing("No such resource.")
        return key_call(project, who, key_id, verb) if key_id else keys_call(project, who, verb)

    def account_call(project: str, who: str, verb: str) -> Response:
        act = verb or {"GET": "get", "DELETE": "delete"}.get(request.method, "")
        if act not in {"get", "disable", "enable"} or (act != "get") is not (request.method == "POST"):
            return _missing("No such method.")
        account, no = may(f"iam.serviceAccounts.{act}", project, who)
        if no is not None or account is None:
            return no or _missing("")
        if act == "get":
            return jsonify(_account(account))
        account.is_off = act == "disable"
        return jsonify({})

    def keys_call(project: str, who: str, verb: str) -> Response:
        create = request.method == "POST"
        if verb or request.method == "DELETE":
            return _missing("No such method.")
        account, no = may(f"iam.serviceAccountKeys.{'create' if create else 'list'}", project, who)
        if no is not None or account is None:
            return no or _missing("")
        if create:
            return create_key(account)
        now = world.clock.now()
        at = now - world.settings.list_lag_s
        wanted = request.args.getlist("keyTypes")
        # A list that is behind shows what was; with no lag, everything set until this very moment.
        shown = [k for k in account.keys.values() if k.is_listed(at) and (not wanted or k.type in wanted)]
        return jsonify({"keys": [_key(account, key, at) for key in shown]} if shown else {})

    def create_key(account: Account) -> Response:
        body = request.get_json(silent=True) or {}
        if body.get("privateKeyType", "TYPE_GOOGLE_CREDENTIALS_FILE") != "TYPE_GOOGLE_CREDENTIALS_FILE":
            return refuse(400, "Invalid private key type.", "badRequest")
        if body.get("keyAlgorithm", "KEY_ALG_RSA_2048") not in {"KEY_ALG_RSA_2048", "KEY_ALG_UNSPECIFIED"}:
            return refuse(400, "Invalid key algorithm.", "badRequest")
        if world.settings.keys_forbidden or meets(Kind.REFUSE_VALUE):
            return _forbidden(account, told=world.settings.policy_is_told)
        with world.lock:
            if sum(1 for _ in account.own_keys()) >= MOST_KEYS:
                return _full(as_429=world.settings.full_is_429)
            key, data = world.create_key(account)
        return jsonify(_key(account, key, world.clock.now()) | {"privateKeyData": data})

    def key_call(project: str, who: str, key_id: str, verb: str) -> Response:
        act = verb or {"GET": "get", "DELETE": "delete"}.get(request.method, "")
        if act not in {"get", "delete", "disable", "enable"} or bool(verb) is not (request.method == "POST"):
            return _missing("No such method.")
        account, no = may(f"iam.serviceAccountKeys.{act}", project, who)
        if no is not None or account is None:
            return no or _missing("")
        key = account.keys.get(key_id)
        if key is None or key.deleted_at is not None:
            missing = f"Service account key {key_id} does not exist."
            return denied(f"iam.serviceAccountKeys.{act}") if project == "-" else _missing(missing)
        if act == "get":
            return jsonify(_key(account, key, world.clock.now()))
        if key.type != "USER_MANAGED":
            return refuse(
                400,
                "System managed keys cannot be changed.",
                "failedPrecondition",
                state="FAILED_PRECONDITION",
            )
        if act == "delete":
            world.delete_key(key)
        else:
            world.switch_key(key, is_on=act == "enable")
        return jsonify({})

    return api


def _missing(message: str) -> Response:
    return refuse(404, message, "notFound")


def _full(*, as_429: bool) -> Response:
    if as_429:
        retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "86401s"}
        message = "Maximum number of keys on account reached."
        return refuse(429, message, "rateLimitExceeded", details=[retry])
    return refuse(400, "Precondition check failed.", "failedPrecondition", state="FAILED_PRECONDITION")


def _forbidden(account: Account, *, told: bool) -> Response:
    message = "Key creation is not allowed on this service account."
    subject = f"projects/{account.project}/serviceAccounts/{account.email}?configvalue={account.email}"
    violation = {
        "@type": "type.googleapis.com/google.rpc.PreconditionFailure",
        "violations": [{"type": _POLICY, "subject": subject, "description": message}],
    }
    details = [violation, *info("ORG_POLICY")] if told else None
    return refuse(400, message, "failedPrecondition", state="FAILED_PRECONDITION", details=details)


def _account(account: Account) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "name": f"projects/{account.project}/serviceAccounts/{account.email}",
        "projectId": account.project,
        "uniqueId": account.unique_id,
        "email": account.email,
        "displayName": account.title,
        "etag": "MDEwMjE5MjA=",
        "oauth2ClientId": account.unique_id,
    }
    return shape | {"disabled": True} if account.is_off else shape


def _key(account: Account, key: Key, at: float) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "name": f"projects/{account.project}/serviceAccounts/{account.email}/keys/{key.id}",
        "validAfterTime": _time(key.created_at),
        "validBeforeTime": "9999-12-31T23:59:59Z",
        "keyAlgorithm": "KEY_ALG_RSA_2048",
        "keyOrigin": key.origin,
        "keyType": key.type,
    }
    if key.is_off(at):
        shape |= {"disabled": True, "disableReason": "SERVICE_ACCOUNT_KEY_DISABLE_REASON_USER_INITIATED"}
    return shape


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

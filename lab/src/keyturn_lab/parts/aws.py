"""moto's AWS server with what it lacks: status is looked at, changes take time to spread, answers can be lost.

`AwsServer` is what tests use; the rest runs in the server's own process (`python -m keyturn_lab.parts.aws`).
moto unpatched accepts any credential, and after that any Inactive key.
Source: providers sheet AWS section 8, run on moto 5.2.5, checked 2026-11-23.
"""

import fnmatch
import hashlib
import io
import json
import os
import shutil
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from keyturn_lab.guard import LOOPBACK, MARKER

from .child import Child, answers, call_json, free_port, scratch_directory

ACCOUNT = "123456789012"
REGION = "us-east-1"
ROTATOR, APP, BUCKET = "keyturn-rotator", "keyturn-app", "customer-bucket"
STEWARD, HUB_BUCKET = "keyturn-steward", "hub-bucket"
KEY_ACTIONS = (
    "CreateAccessKey",
    "DeleteAccessKey",
    "GetAccessKeyLastUsed",
    "GetUser",
    "ListAccessKeys",
    "UpdateAccessKey",
)
FAULTS = ("answer_lost", "error_not_applied", "throttle")


@dataclass(frozen=True)
class Key:
    user: str
    access_key_id: str
    secret_access_key: str = field(repr=False)


@dataclass(frozen=True)
class AwsAccount:
    """The account as a customer hands it over: a central rotator, one application user, one bucket. Beside them the hub's
    own bucket, and a steward that may make users for those who use it."""

    rotator: Key
    app: Key
    bucket: str
    region: str
    steward: Key
    hub_bucket: str


class AwsServer:
    """`with AwsServer() as aws: aws.client("iam", aws.account.rotator)`."""

    def __init__(self, *, port: int | None = None, create_lag_s: float = 0.0, dead_lag_s: float = 0.0):
        self.port = port or free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._dials = {"create_lag_s": create_lag_s, "dead_lag_s": dead_lag_s}
        self._child: Child | None = None

    def start(self) -> Self:
        self._base = scratch_directory("aws")
        argv = [sys.executable, "-m", "keyturn_lab.parts.aws", "--port", str(self.port)]
        self._child = Child(argv, log_path=self._base / "log", remove=self._base)
        self._child.wait_until(lambda: answers(f"{self.url}/_lab/dials"))
        self.account = self._bootstrap()
        self.set_dials(**self._dials)
        return self

    def stop(self) -> None:
        if self._child:
            self._child.stop()
            shutil.rmtree(self._base, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _bootstrap(self) -> AwsAccount:
        made = call_json(f"{self.url}/_lab/bootstrap", {})
        keys = {name: Key(**made[name]) for name in ("rotator", "app", "steward")}
        return AwsAccount(bucket=made["bucket"], region=made["region"], hub_bucket=made["hub_bucket"], **keys)

    def set_dials(self, **dials: float) -> None:
        """Seconds a new key stays unknown (`create_lag_s`) and an ended one still works (`dead_lag_s`).

        Applies to keys made or ended from now on.
        """
        call_json(f"{self.url}/_lab/dials", dials)

    def arm(self, op: str, kind: str, times: int = 1) -> None:
        """The next `times` calls of `op` fail: `answer_lost`, `error_not_applied` or `throttle`.

        `op` is an API action (`CreateAccessKey`) or, for S3, `s3:` and the HTTP method (`s3:GET`).
        """
        call_json(f"{self.url}/_lab/faults", [{"op": op, "kind": kind, "times": times}])

    def alive(self) -> list[dict[str, Any]]:
        """The oracle: every key a request would succeed with right now, ended ones that linger included."""
        return call_json(f"{self.url}/_lab/alive")

    def records(self) -> list[dict[str, Any]]:
        """Every key IAM holds, whatever its status, and whether it is accepted right now."""
        return call_json(f"{self.url}/_lab/records")

    def client(self, service: str, key: Key, **config: Any) -> Any:
        """An unmodified boto3 client; `config` goes to botocore's Config."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=key.access_key_id,
            aws_secret_access_key=key.secret_access_key,
            config=Config(proxies={}, s3={"addressing_style": "path"}, **config),
        )


# ---- the server's own process ------------------------------------------------------------------------------------


class Clockwork:
    """When each key becomes known and when it stops working, whatever IAM's own records already say."""

    def __init__(self) -> None:
        self.create_lag_s = 0.0
        self.dead_lag_s = 0.0
        self._known_at: dict[str, float] = {}
        self._dead_at: dict[str, float] = {}
        self._buried: dict[str, Any] = {}
        self._lock = threading.Lock()

    def created(self, key: Any) -> None:
        with self._lock:
            self._known_at[key.access_key_id] = time.monotonic() + self.create_lag_s

    def ended(self, key: Any) -> None:
        """Deactivated or deleted; a key already ended keeps its first hour of death."""
        with self._lock:
            self._dead_at.setdefault(key.access_key_id, time.monotonic() + self.dead_lag_s)
            self._buried[key.access_key_id] = key

    def revived(self, key: Any) -> None:
        with self._lock:
            self._dead_at.pop(key.access_key_id, None)
            self._buried.pop(key.access_key_id, None)

    def all_buried(self) -> dict[str, Any]:
        with self._lock:
            return dict(self._buried)

    def buried(self, access_key_id: str) -> Any:
        return self._buried.get(access_key_id)

    def accepts(self, access_key_id: str) -> bool:
        now = time.monotonic()
        dead_at = self._dead_at.get(access_key_id)
        return self._known_at.get(access_key_id, 0.0) <= now and (dead_at is None or now < dead_at)


_asked = threading.local()


def patch_moto(clockwork: Clockwork) -> None:
    """Makes moto's door ask the clockwork; the IAM records themselves stay moto's."""
    from moto.iam import access_control, models

    door = access_control.IAMUserAccessKey
    backend = models.IAMBackend
    create, update, delete = backend.create_access_key, backend.update_access_key, backend.delete_access_key
    let_in = door.__init__
    check = access_control.IAMRequestBase.check_action_permitted

    def create_access_key(self: Any, *args: Any, **kwargs: Any) -> Any:
        key = create(self, *args, **kwargs)
        key.secret_access_key = MARKER + key.secret_access_key[len(MARKER) :]
        clockwork.created(key)
        return key

    def update_access_key(self: Any, user_name: str, access_key_id: str, status: str | None = None) -> Any:
        key = update(self, user_name, access_key_id, status)
        (clockwork.revived if key.status == "Active" else clockwork.ended)(key)
        return key

    def delete_access_key(self: Any, access_key_id: str, user_name: str) -> None:
        key = self.get_user(user_name).get_access_key_by_id(access_key_id)
        delete(self, access_key_id, user_name)
        clockwork.ended(key)

    def check_action_permitted(self: Any, resource: str) -> None:
        # moto asks about `*` for every IAM action, so that a policy on one's own user would never match.
        if self._service == "iam" and self._action.removeprefix("iam:") in KEY_ACTIONS:
            named = self._data.get("UserName")
            named = named[0] if isinstance(named, list) else named
            resource = f"arn:aws:iam::{ACCOUNT}:user/{named}" if named else self._access_key.arn
        check(self, resource)

    def init(self: Any, account_id: str, partition: str, access_key_id: str, headers: dict[str, str]) -> None:
        if not clockwork.accepts(access_key_id):
            raise access_control.CreateAccessKeyFailure(reason="InvalidId")
        if (key := clockwork.buried(access_key_id)) is None:
            let_in(self, account_id, partition, access_key_id, headers)
            return
        # Ended in the records, not yet everywhere: let in with what it was.
        self.account_id, self.partition = account_id, partition
        self._owner_user_name = key.user_name
        self._access_key_id, self._secret_access_key = access_key_id, key.secret_access_key

    conditions = access_control.IAMPolicyStatement._check_conditions  # noqa: SLF001 - moto has no other door

    def check_conditions(self: Any, values: Any) -> bool:
        # moto knows no s3:prefix: the one that the request in hand asks for
        wanted = self._statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix")
        if wanted is None:
            return conditions(self, values)
        return any(fnmatch.fnmatchcase(getattr(_asked, "prefix", ""), each) for each in wanted)

    access_control.IAMPolicyStatement._check_conditions = check_conditions  # noqa: SLF001
    backend.create_access_key = create_access_key
    backend.update_access_key = update_access_key
    backend.delete_access_key = delete_access_key
    door.__init__ = init
    access_control.IAMRequestBase.check_action_permitted = check_action_permitted


def _iam() -> Any:
    from moto.iam.models import iam_backends

    return iam_backends[ACCOUNT]["aws"]


def _allow(actions: list[str], *resources: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": list(resources)}


def make_account() -> dict[str, Any]:
    """The users, rights and bucket of the sheet's section 2. Called once per server."""
    from moto.s3.models import s3_backends

    keys = [f"iam:{name}" for name in KEY_ACTIONS]
    survey = ["ListUsers", "GenerateCredentialReport", "GetCredentialReport", "SimulatePrincipalPolicy"]
    rights = {
        ROTATOR: [_allow(keys + [f"iam:{name}" for name in survey], "*")],
        APP: [
            _allow(["s3:ListBucket"], f"arn:aws:s3:::{BUCKET}"),
            _allow(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], f"arn:aws:s3:::{BUCKET}/*"),
            # moto does not fill in policy variables, so the sheet's `user/${aws:username}` is spelt out.
            _allow(keys, f"arn:aws:iam::{ACCOUNT}:user/{APP}"),
        ],
    }
    users = ["CreateUser", "PutUserPolicy", "DeleteUserPolicy", "DeleteUser"]
    rights[STEWARD] = [_allow(keys + [f"iam:{name}" for name in users], "*")]
    made: dict[str, Any] = {"bucket": BUCKET, "region": REGION, "hub_bucket": HUB_BUCKET}
    for bucket in (BUCKET, HUB_BUCKET):
        s3_backends[ACCOUNT]["aws"].create_bucket(bucket, REGION)
    for name, (user, statements) in zip(("rotator", "app", "steward"), rights.items(), strict=True):
        _iam().create_user(REGION, user)
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        _iam().put_user_policy(user, "keyturn", policy)
        key = _iam().create_access_key(user)
        made[name] = {
            "user": user,
            "access_key_id": key.access_key_id,
            "secret_access_key": key.secret_access_key,
        }
    return made


class Lab:
    """WSGI: the admin paths below `/_lab/` and the armed faults; everything else goes to moto unchanged."""

    def __init__(self, moto: Callable[..., Iterable[bytes]], clockwork: Clockwork):
        self._moto = moto
        self._clockwork = clockwork
        self._armed: list[dict[str, Any]] = []
        self._account: dict[str, Any] | None = None
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/_lab/"):
            return self._admin(path.removeprefix("/_lab/"), environ, start)
        _asked.prefix = urllib.parse.parse_qs(environ.get("QUERY_STRING", "")).get("prefix", [""])[0]
        service = _service(environ)
        action = f"s3:{environ['REQUEST_METHOD']}" if service == "s3" else _action(environ)
        fault = self._take(action)
        if fault == "throttle":
            if service == "s3":
                return _refuse(
                    start, "503 Slow Down", "SlowDown", "Please reduce your request rate.", service
                )
            return _refuse(start, "400 Bad Request", "Throttling", "Rate exceeded", service)
        if fault == "error_not_applied":
            message = "The request processing has failed because of an unknown error."
            return _refuse(start, "500 Internal Server Error", "ServiceFailure", message, service)
        if not service and not path.startswith("/moto-api/"):
            # moto would crash on the missing header.
            return _refuse(
                start, "403 Forbidden", "MissingAuthenticationToken", "Request is missing a token", ""
            )
        if fault == "answer_lost":
            b"".join(self._moto(environ, lambda *_args, **_kwargs: lambda _data: None))
            _drop(environ)
            start("500 Internal Server Error", [])
            return []
        return self._moto(environ, start)

    def _take(self, op: str) -> str | None:
        with self._lock:
            for fault in self._armed:
                if fault["op"] == op:
                    fault["times"] -= 1
                    if fault["times"] <= 0:
                        self._armed.remove(fault)
                    return fault["kind"]
        return None

    def _admin(self, name: str, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        body = json.loads(_read(environ) or b"null")
        clockwork = self._clockwork
        answer: Any = {}
        status = "200 OK"
        if name == "dials":
            for dial in (body or {}).keys() & {"create_lag_s", "dead_lag_s"}:
                setattr(clockwork, dial, float(body[dial]))
            answer = {"create_lag_s": clockwork.create_lag_s, "dead_lag_s": clockwork.dead_lag_s}
        elif name == "bootstrap":
            with self._lock:
                self._account = self._account or make_account()
            answer = self._account
        elif name == "faults" and environ["REQUEST_METHOD"] == "DELETE":
            self._armed.clear()
        elif name == "faults":
            if not all(fault.get("op") and fault.get("kind") in FAULTS for fault in body or []):
                status, answer = "422 Unprocessable Content", {"kinds": FAULTS}
            else:
                self._armed += [{"times": 1, **fault} for fault in body or []]
        elif name == "alive":
            answer = [record for record in _records(clockwork) if record["facts"]["accepted"]]
        elif name == "records":
            answer = [record for record in _records(clockwork) if record["facts"]["status"] != "Deleted"]
        else:
            status = "404 Not Found"
        start(status, [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]


def _records(clockwork: Clockwork) -> list[dict[str, Any]]:
    """Every key, in the shape all stand-ins list what is alive; deleted ones too."""
    kept = {key.access_key_id: key for user in list(_iam().users.values()) for key in list(user.access_keys)}
    return [
        {
            "id": key.access_key_id,
            "kind": "access_key",
            "owner": key.user_name,
            "value": key.secret_access_key,
            "sha256": hashlib.sha256(key.secret_access_key.encode()).hexdigest(),
            "facts": {
                "status": key.status if key.access_key_id in kept else "Deleted",
                "accepted": clockwork.accepts(key.access_key_id),
            },
        }
        for key in {**clockwork.all_buried(), **kept}.values()
    ]


def _read(environ: dict[str, Any]) -> bytes:
    """The request body, put back for whoever reads next."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _action(environ: dict[str, Any]) -> str:
    text = environ.get("QUERY_STRING", "")
    if "x-www-form-urlencoded" in environ.get("CONTENT_TYPE", ""):
        text = f"{text}&{_read(environ).decode()}"
    return urllib.parse.parse_qs(text).get("Action", [""])[0]


def _service(environ: dict[str, Any]) -> str:
    """The service a signed request names in its credential scope; empty for an unsigned one."""
    scope = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split(",")[0].split("/")
    return scope[3] if len(scope) > 3 else ""


def _refuse(start: Callable[..., Any], status: str, code: str, message: str, service: str) -> list[bytes]:
    error = f"<Code>{code}</Code><Message>{message}</Message>"
    if service == "s3":
        body = f"<Error>{error}<RequestId>lab</RequestId></Error>"
    else:
        body = f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error><RequestId>lab</RequestId></ErrorResponse>"
    start(status, [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
    return [body.encode()]


def _drop(environ: dict[str, Any]) -> None:
    """Ends the connection with nothing said, as a network does; werkzeug takes the failing write quietly."""
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)


def serve(port: int) -> None:
    os.environ["MOTO_PORT"] = str(port)  # moto writes it into addresses it answers with
    from moto import settings
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    class Handler(MotoRequestHandler):
        def log(self, *_: Any, **__: Any) -> None:
            """Nothing: query strings carry Action parameters, bodies carry keys."""

    # From the first request on; the account is made inside the process, not over the wire.
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0.0
    clockwork = Clockwork()
    patch_moto(clockwork)
    application = Lab(DomainDispatcherApplication(create_backend_app), clockwork)
    make_server(LOOPBACK, port, application, threaded=True, request_handler=Handler).serve_forever()


def main() -> None:
    import argparse

    parser = argparse.ArgumentParser(prog="keyturn_lab.parts.aws")
    parser.add_argument("--port", type=int, required=True)
    serve(parser.parse_args().port)


if __name__ == "__main__":
    main()

"""The lab's real parts behave as their providers do, and end with the process that started them."""

import base64
import hashlib
import importlib.util
import json
import os
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import boto3
import psycopg
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from click.testing import CliRunner
from tests.compliance.lab import or_skip

from keyturn_lab import main as cli
from keyturn_lab.parts import PartMissing, aws, oidc, postgres
from keyturn_lab.parts.child import Child, PartFailed

NO_RETRY = {"retries": {"max_attempts": 0}}


# ---- PostgreSQL ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    or_skip(postgres.find_binaries)
    with postgres.PostgresCluster() as running:
        yield running


@pytest.mark.postgres
def test_only_the_right_password_opens_a_role(cluster):
    """A wrong password is refused, so that a right one proves something."""
    role = cluster.create_role("door")
    assert cluster.accepts(role)
    assert not cluster.accepts(postgres.Role("door", "wrong"))


@pytest.mark.postgres
def test_password_never_reaches_the_log(cluster):
    """Roles are made with verifiers, so a log of all statements holds no password."""
    role = cluster.create_role("quiet")
    assert "quiet" in cluster.read_log()
    assert role.password not in cluster.read_log()
    assert cluster.password not in cluster.read_log()


@pytest.mark.postgres
def test_pair_writes_as_its_owner(cluster):
    """The active role of a pair acts as the owner, and the idle one cannot log in."""
    pair = cluster.two_role_setup("shop")
    with psycopg.connect(cluster.dsn(role=pair.active)) as session:
        row = session.execute("SELECT session_user, current_user").fetchone()
    assert row == ("shop_a", "shop_owner")
    assert pair.idle not in [live["id"] for live in cluster.alive()]


@pytest.mark.postgres
def test_rotator_changes_the_pair_without_being_superuser(cluster):
    """The rotator's rights are enough to wake the idle role and to end the sessions of the other."""
    rotator, pair = cluster.create_rotator("turner"), cluster.two_role_setup("desk")
    woken = postgres.Role(pair.idle, "woken-password")
    with psycopg.connect(cluster.dsn(role=rotator), autocommit=True) as session:
        verifier = postgres.scram_verifier(woken.password)
        session.execute(f"ALTER ROLE {pair.idle} LOGIN PASSWORD '{verifier}'")
        session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", ("desk_a",)
        )
        assert session.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (
            False,
        )
    assert cluster.accepts(woken)


@pytest.mark.postgres
def test_many_roles_are_made_quickly(cluster):
    """Bulk roles log in with the passwords handed out, without a round trip for each."""
    roles = cluster.provision_roles(40, "many")
    assert len(roles) == 40
    assert cluster.accepts(roles[0])
    assert cluster.accepts(roles[39])


def test_a_part_that_ends_at_once_says_why(tmp_path):
    """Its status and the end of its log, although the folder with the log is gone."""
    folder = tmp_path / "part"
    folder.mkdir()
    dies = [sys.executable, "-c", "print('the port is taken'); raise SystemExit(3)"]
    part = Child(dies, log_path=folder / "log", remove=folder)
    with pytest.raises(PartFailed, match=r"ended \(3\); the end of its log:\nthe port is taken"):
        part.wait_until(lambda: False)
    assert not folder.exists()


@pytest.mark.postgres
def test_cluster_ends_with_a_killed_parent(cluster):
    """A parent ended by kill -9 leaves neither a server nor its directory."""
    code = (
        "import time; from keyturn_lab.parts.postgres import PostgresCluster as P\n"
        "p = P().start(); print(p.port, p.log_path.parent, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        port, directory = parent.stdout.readline().split()
        assert Path(directory).exists()
        parent.send_signal(signal.SIGKILL)
    assert _soon(lambda: not Path(directory).exists())
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(f"postgresql://x:y@127.0.0.1:{port}/postgres")


def test_missing_server_names_the_package(monkeypatch):
    """Without server binaries the error names the Debian package to install."""
    monkeypatch.setattr(postgres.shutil, "which", lambda _name: None)
    monkeypatch.setattr(postgres, "glob", lambda _pattern: [])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(PartMissing, match="Debian package `postgresql`"):
        postgres.find_binaries()


# ---- AWS ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server():
    with aws.AwsServer() as running:
        yield running


@pytest.fixture
def spare(server):
    """A second key of the application user, gone after the test, with the dials back at nought."""
    iam = server.client("iam", server.account.rotator)
    made = iam.create_access_key(UserName=aws.APP)["AccessKey"]
    yield aws.Key(aws.APP, made["AccessKeyId"], made["SecretAccessKey"])
    server.set_dials(create_lag_s=0, dead_lag_s=0)
    for key in iam.list_access_keys(UserName=aws.APP)["AccessKeyMetadata"]:
        if key["AccessKeyId"] != server.account.app.access_key_id:
            iam.delete_access_key(UserName=aws.APP, AccessKeyId=key["AccessKeyId"])


def _unmodified(server, service, key):
    return boto3.client(
        service,
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=key.access_key_id,
        aws_secret_access_key=key.secret_access_key,
        config=Config(proxies={}),
    )


def _code(call, **params):
    try:
        call(**params)
    except ClientError as refusal:
        return refusal.response["Error"]["Code"]
    return "ok"


def _knock(server, key):
    """What STS and S3 say to a key."""
    sts, s3 = _unmodified(server, "sts", key), _unmodified(server, "s3", key)
    return _code(sts.get_caller_identity), _code(s3.list_objects_v2, Bucket=aws.BUCKET)


def test_inactive_key_is_refused_until_active_again(server, spare):
    """Inactive is refused by STS and S3 in their own words, and Active brings the key back."""
    iam = _unmodified(server, "iam", server.account.rotator)
    iam.update_access_key(UserName=aws.APP, AccessKeyId=spare.access_key_id, Status="Inactive")
    assert _knock(server, spare) == ("InvalidClientTokenId", "InvalidAccessKeyId")
    iam.update_access_key(UserName=aws.APP, AccessKeyId=spare.access_key_id, Status="Active")
    assert _knock(server, spare) == ("ok", "ok")


def test_deleted_key_is_refused(server, spare):
    """A deleted key is as unknown as one that never was."""
    iam = _unmodified(server, "iam", server.account.rotator)
    iam.delete_access_key(UserName=aws.APP, AccessKeyId=spare.access_key_id)
    assert _knock(server, spare) == ("InvalidClientTokenId", "InvalidAccessKeyId")
    assert spare.access_key_id not in [live["id"] for live in server.alive()]


def test_wrong_secret_is_told_apart_from_an_unknown_key(server, spare):
    """A known id with a wrong secret fails by its signature."""
    wrong = aws.Key(aws.APP, spare.access_key_id, "x" * 40)
    assert _knock(server, wrong) == ("SignatureDoesNotMatch", "SignatureDoesNotMatch")


def test_third_key_exceeds_the_quota(server, spare):
    """A user holds two keys at most, as in AWS."""
    iam = _unmodified(server, "iam", server.account.rotator)
    assert _code(iam.create_access_key, UserName=aws.APP) == "LimitExceeded"


def test_user_rotates_itself_and_nobody_else(server, spare):
    """The application user may touch its own keys and not the rotator's; denied is not dead."""
    iam = _unmodified(server, "iam", server.account.app)
    assert _code(iam.list_access_keys) == "ok"
    assert _code(iam.create_access_key, UserName=aws.ROTATOR) == "AccessDenied"
    assert _code(_unmodified(server, "s3", spare).list_objects_v2, Bucket="elsewhere") == "AccessDenied"


def test_changes_take_time_to_spread(server, spare):
    """With the dials up, a deleted key works for a while and a new one does not yet."""
    iam = _unmodified(server, "iam", server.account.rotator)
    server.set_dials(create_lag_s=2.0, dead_lag_s=2.0)
    iam.delete_access_key(UserName=aws.APP, AccessKeyId=spare.access_key_id)
    made = iam.create_access_key(UserName=aws.APP)["AccessKey"]
    fresh = aws.Key(aws.APP, made["AccessKeyId"], made["SecretAccessKey"])
    assert _knock(server, spare)[0] == "ok"
    assert _knock(server, fresh)[0] == "InvalidClientTokenId"
    time.sleep(2.05)
    assert _knock(server, spare)[0] == "InvalidClientTokenId"
    assert _knock(server, fresh) == ("ok", "ok")


def test_lost_answer_leaves_an_orphan(server, spare):
    """A lost answer drops the connection after the key was made; an error that was not applied makes none."""
    iam = server.client("iam", server.account.rotator, **NO_RETRY)
    iam.delete_access_key(UserName=aws.APP, AccessKeyId=spare.access_key_id)
    server.arm("CreateAccessKey", "error_not_applied")
    assert _code(iam.create_access_key, UserName=aws.APP) == "ServiceFailure"
    server.arm("CreateAccessKey", "throttle")
    assert _code(iam.create_access_key, UserName=aws.APP) == "Throttling"
    assert len([key for key in server.records() if key["owner"] == aws.APP]) == 1
    server.arm("CreateAccessKey", "answer_lost")
    with pytest.raises(ConnectionClosedError):
        iam.create_access_key(UserName=aws.APP)
    assert len([key for key in server.records() if key["owner"] == aws.APP]) == 2


def test_a_request_without_a_signature_is_refused(server):
    """An anonymous request is denied instead of crashing the server."""
    with pytest.raises(urllib.error.HTTPError) as refusal:
        _open(f"{server.url}/{aws.BUCKET}/x")
    assert refusal.value.code == 403
    refusal.value.close()


# ---- OAuth --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def op():
    if not shutil.which("node"):
        pytest.skip("no Node.js")
    with oidc.OidcServer() as running:
        yield running


def _open(url, data=None, *, headers=None, method=None):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    body = urllib.parse.urlencode(data).encode() if data else None
    with opener.open(urllib.request.Request(url, body, headers or {}, method=method), timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text else {}


def _status(url, data=None, **kwargs):
    try:
        _open(url, data, **kwargs)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return refusal.code
    return 200


def _basic(client):
    pair = f"{client.client_id}:{client.client_secret}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def _bearer(token):
    return {"Authorization": f"Bearer {token}"}


def _token(op, client, **form):
    return _open(f"{op.url}/token", form, headers=_basic(client))


def _ask(op):
    """An authorization address and the verifier that belongs to it."""
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "client_id": op.web.client_id,
        "response_type": "code",
        "redirect_uri": "http://127.0.0.1:8765/callback",
        "scope": "openid offline_access records.read",
        "state": "s1",
        "prompt": "consent",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    return f"{op.url}/auth?{urllib.parse.urlencode(query)}", verifier


def _query(url):
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))


def _sign_in(op, login):
    url, verifier = _ask(op)
    back = _query(op.consent(url, login))
    assert back["state"] == "s1"
    return _token(
        op,
        op.web,
        grant_type="authorization_code",
        code=back["code"],
        redirect_uri="http://127.0.0.1:8765/callback",
        code_verifier=verifier,
    )


@pytest.mark.node
def test_person_consents_and_the_resource_knows_who(op):
    """A code becomes tokens, and the resource names the person and their tenant."""
    tokens = _sign_in(op, "ana@acme")
    me = _open(f"{op.url}/me-api", headers=_bearer(tokens["access_token"]))
    assert (me["sub"], me["tenant"]) == ("ana@acme", "acme")
    assert "records.read" in me["scope"]


@pytest.mark.node
def test_person_declines(op):
    """A person who declines comes back with access_denied and no code."""
    back = _query(op.consent(_ask(op)[0], "bob", decline=True))
    assert back["error"] == "access_denied"
    assert "code" not in back


@pytest.mark.node
def test_reused_refresh_token_ends_the_whole_grant(op):
    """A refresh token works once; using it again ends what was made from it."""
    first = _sign_in(op, "eve")
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = _token(op, op.web, **form)
    assert second["refresh_token"] != first["refresh_token"]
    assert _status(f"{op.url}/token", form, headers=_basic(op.web)) == 400
    assert _status(f"{op.url}/me-api", headers=_bearer(second["access_token"])) == 401
    assert "eve" not in [live["owner"] for live in op.alive() if live["kind"] != "Grant"]


@pytest.mark.node
def test_revoked_refresh_token_is_dead(op):
    """Revocation ends the refresh token and the access token beside it; introspection agrees."""
    tokens = _sign_in(op, "kim")
    assert _open(f"{op.url}/token/introspection", {"token": tokens["refresh_token"]}, headers=_basic(op.web))[
        "active"
    ]
    _open(f"{op.url}/token/revocation", {"token": tokens["refresh_token"]}, headers=_basic(op.web))
    seen = _open(f"{op.url}/token/introspection", {"token": tokens["refresh_token"]}, headers=_basic(op.web))
    assert seen == {"active": False}
    assert _status(f"{op.url}/me-api", headers=_bearer(tokens["access_token"])) == 401


@pytest.mark.node
def test_client_is_made_beside_another_and_deleted(op):
    """Two machine clients work side by side; deleting one kills its secret and its tokens, not the other's."""
    old, new = op.register("old"), op.register("new")
    before = _token(op, old, grant_type="client_credentials", scope="records.read")["access_token"]
    after = _token(op, new, grant_type="client_credentials", scope="records.read")["access_token"]
    assert _open(f"{op.url}/me-api", headers=_bearer(before))["client_id"] == old.client_id
    uri, key = old.registration_client_uri, old.registration_access_token
    assert _status(uri, headers=_bearer(key), method="DELETE") == 200
    assert _status(f"{op.url}/me-api", headers=_bearer(before)) == 401
    assert _status(f"{op.url}/token", {"grant_type": "client_credentials"}, headers=_basic(old)) == 401
    assert _open(f"{op.url}/me-api", headers=_bearer(after))["client_id"] == new.client_id
    clients = [live["id"] for live in op.alive() if live["kind"] == "client"]
    assert new.client_id in clients
    assert old.client_id not in clients


@pytest.mark.node
def test_registration_needs_the_initial_token(op):
    """Nobody registers a client without the initial access token."""
    headers = {"Content-Type": "application/json", **_bearer("wrong")}
    assert _status(f"{op.url}/reg", {"client_name": "x"}, headers=headers) in (400, 401)


@pytest.mark.node
def test_lost_registration_answer_leaves_a_client(op):
    """A lost answer drops the connection after the client was made."""
    before = len([live for live in op.alive() if live["kind"] == "client"])
    op.arm("register", "answer_lost")
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        op.register("orphan")
    assert len([live for live in op.alive() if live["kind"] == "client"]) == before + 1


def test_missing_node_names_the_package(monkeypatch):
    """Without Node.js the error says what to install."""
    monkeypatch.setattr(oidc.shutil, "which", lambda _name: None)
    with pytest.raises(PartMissing, match="nodejs npm"):
        oidc.install()


# ---- The command --------------------------------------------------------------------------------------------------


def test_up_writes_a_private_state_and_cleans_up(tmp_path):
    """`up` answers with addresses and credentials, keeps them in a private file, and ends on SIGTERM without a trace."""
    state = tmp_path / "lab" / "state.json"
    argv = [sys.executable, "-m", "keyturn_lab.main", "up", "--json", "--only", "aws", "--state", str(state)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as lab, _ended(lab):
        world = json.loads(lab.stdout.readline())
        assert json.loads(state.read_text()) == world
        assert stat.S_IMODE(os.stat(state).st_mode) == 0o600
        assert world["parts"]["aws"]["app"]["user"] == aws.APP
        shown = CliRunner().invoke(cli.main, ["oracle", "--json", "--state", str(state)])
        owners = {each["owner"] for each in json.loads(shown.stdout)["aws"]}
        assert aws.APP in owners
        assert world["parts"]["aws"]["rotator"]["user"] in owners
        armed = CliRunner().invoke(
            cli.main, ["fault", "aws", "CreateAccessKey", "throttle", "--state", str(state)]
        )
        assert armed.exit_code == 0
        refused = CliRunner().invoke(
            cli.main, ["fault", "aws", "CreateAccessKey", "nonsense", "--state", str(state)]
        )
        assert refused.exit_code == 2
        lab.terminate()
        assert lab.wait(timeout=20) == 0
    assert not state.exists()


@contextmanager
def _ended(child):
    """A test that fails must not wait for the child for ever."""
    try:
        yield
    finally:
        child.terminate()


def _soon(is_true, within_s=5.0):
    deadline = time.monotonic() + within_s
    while not is_true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True

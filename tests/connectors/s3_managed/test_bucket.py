"""Row 20: a consumer's key to the hub's bucket, on a store that enforces its policies, from making to deleting."""

import html
import json
import re
import time

import pytest
from botocore.exceptions import ClientError
from tests import stores
from tests.waiting import wait_for
from tests.web.conftest import PASSWORD, Browser

from keyturn.api.app import create_app
from keyturn.bootstrap import open_hub
from keyturn.contract.values import NetworkPolicy
from keyturn.errors import Conflict, InvalidInput, NotDone, NotFound
from keyturn.issued import kinds
from keyturn.model.credential import State
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.operations import buckets, connections, editing, issued, people, register, rights, runs, tasks
from keyturn.settings import Settings
from keyturn_lab.parts.aws import AwsServer, Key

FAST = {"settle_create_s": 0.0, "settle_revoke_s": 0.0, "drain_min_s": 0.0, "soak_s": 0.0}


@pytest.fixture(scope="module")
def aws():
    with AwsServer() as running:
        yield running


@pytest.fixture
def hub(tmp_path, aws):
    home = tmp_path / "home"
    hub = open_hub(
        Settings(
            home=home,
            database=stores.url(home),
            kek=f"file:{tmp_path / 'kek'}",
            network=NetworkPolicy(frozenset({"127.0.0.1"})),
            patience=0.02,
            workers=2,
            actor="ada",
        ),
        create=True,
    )
    hub.engine.start()
    yield hub
    hub.close()


def values(aws, **more):
    steward = aws.account.steward
    return {
        "bucket": aws.account.hub_bucket,
        "prefix": "partners/acme/",
        "contact": "data@acme.example",
        "admin_access_key_id": steward.access_key_id,
        "admin_secret_access_key": steward.secret_access_key,
        "iam_endpoint": aws.url,
        "sts_endpoint": aws.url,
        "s3_endpoint": aws.url,
        **more,
    }


@pytest.fixture
def acme(hub, aws):
    handed = issued.issue(hub, "hub-bucket", "acme-drop", values(aws), policy=FAST)
    yield handed
    user = str(handed.connection.settings["user_name"])
    iam = aws.client("iam", aws.account.rotator)
    for key in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]:
        iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])


def pair(handed):
    return json.loads(handed.value.reveal())


def s3(aws, found):
    return aws.client("s3", Key("x", found["access_key_id"], found["secret_access_key"]))


def refused(call, **params):
    with pytest.raises(ClientError) as caught:
        call(**params)
    return caught.value.response["Error"]["Code"]


def records(aws, handed):
    user = handed.connection.settings["user_name"]
    return {each["id"]: each["facts"]["status"] for each in aws.records() if each["owner"] == user}


def test_a_key_opens_its_prefix_and_nothing_else(aws, hub, acme):
    """Put, list, get and delete inside; the same outside is refused, and so is every word to IAM."""
    bucket, found = aws.account.hub_bucket, pair(acme)
    client = s3(aws, found)
    client.put_object(Bucket=bucket, Key="partners/acme/in.csv", Body=b"1")
    assert client.list_objects_v2(Bucket=bucket, Prefix="partners/acme/")["KeyCount"] == 1
    assert client.get_object(Bucket=bucket, Key="partners/acme/in.csv")["Body"].read() == b"1"
    client.delete_object(Bucket=bucket, Key="partners/acme/in.csv")
    for key in ("partners/other/x", "partners/acme", "x"):
        assert refused(client.put_object, Bucket=bucket, Key=key, Body=b"1") == "AccessDenied"
        assert refused(client.get_object, Bucket=bucket, Key=key) == "AccessDenied"
        assert refused(client.delete_object, Bucket=bucket, Key=key) == "AccessDenied"
    for prefix in ("", "partners/", "partners/other/"):
        assert refused(client.list_objects_v2, Bucket=bucket, Prefix=prefix) == "AccessDenied"
    assert (
        refused(client.list_objects_v2, Bucket=aws.account.bucket, Prefix="partners/acme/") == "AccessDenied"
    )
    iam = aws.client("iam", Key("x", found["access_key_id"], found["secret_access_key"]))
    user = acme.connection.settings["user_name"]
    assert refused(iam.create_access_key, UserName=user) == "AccessDenied"
    assert refused(iam.delete_access_key, UserName=user, AccessKeyId=found["access_key_id"]) == "AccessDenied"


def test_rights(aws, hub):
    """A reader cannot write."""
    more = values(aws, rights="read", prefix="partners/reader/")
    handed = issued.issue(hub, "s3-managed/access_key", "reader", more, policy=FAST)
    client = s3(aws, pair(handed))
    key = {"Bucket": aws.account.hub_bucket, "Key": "partners/reader/a"}
    assert refused(client.put_object, **key, Body=b"1") == "AccessDenied"
    assert refused(client.get_object, **key) == "NoSuchKey"


def test_row_20_end_to_end(aws, hub, acme):
    """Second key, handed over by a link, their word, the old one off and then deleted, dead at both services."""
    old = pair(acme)
    kinds = [s.kind.value for s in runs.plan(hub, "acme-drop", Goal.ROTATE).steps]
    order = ("issue", "prove", "cutover", "handover", "drain", "disable", "revoke", "prove_dead")
    assert [kinds.index(kind) for kind in order] == sorted(kinds.index(kind) for kind in order)
    run = runs.start(hub, "acme-drop", Goal.ROTATE)
    task = wait_for(lambda: next((t for t in tasks.waiting(hub) if t.kind == "handover"), None), 30)
    assert old["secret_access_key"] not in json.dumps([dict(each) for each in task.instructions])
    assert sorted(records(aws, acme).values()) == ["Active", "Active"]
    s3(aws, old).list_objects_v2(Bucket=aws.account.hub_bucket, Prefix="partners/acme/")
    made = register.link(hub, "acme-drop", "Acme")
    new = dict(register.open_link(hub, made.code.reveal()).values)
    assert new["access_key_id"] != old["access_key_id"]
    s3(aws, new).list_objects_v2(Bucket=aws.account.hub_bucket, Prefix="partners/acme/")
    assert runs.get(hub, run.id).ended_at is None
    register.acknowledge(hub, made.code.reveal())
    done = wait_for(lambda: (r := runs.get(hub, run.id)).ended_at and r, 60)
    assert (done.state, done.proof) == (RunState.COMPLETE, "D2")
    assert records(aws, acme) == {new["access_key_id"]: "Active"}
    assert (
        refused(s3(aws, old).list_objects_v2, Bucket=aws.account.hub_bucket, Prefix="partners/acme/")
        == "InvalidAccessKeyId"
    )
    assert [h.state for h in register.where_used(hub, "acme-drop").holders] == ["confirmed"]


def test_it_is_reissued_like_every_other_key(aws, hub, acme, monkeypatch):
    """The answer shows the second pair; both work until the other side says that the new one is in place; then the old
    one is gone. The hub lists both, and shows a pair again for ten minutes alone."""
    old = pair(acme)
    handed = issued.reissue(hub, "acme-drop", 0.5)
    new = pair(handed)
    for each in (old, new):
        s3(aws, each).list_objects_v2(Bucket=aws.account.hub_bucket, Prefix="partners/acme/")
    listed = issued.get(hub, "acme-drop")
    assert [(s.hint, s.state.value) for s in listed.secrets] == [
        (new["access_key_id"][-4:], "live"),
        (old["access_key_id"][-4:], "retiring"),
    ]
    assert [each.kind for each in issued.every(hub)] == ["hub-bucket"]
    assert json.loads(issued.reveal(hub, handed.version_id).reveal()) == new
    task = wait_for(lambda: next((t for t in tasks.waiting(hub) if t.kind == "handover"), None), 30)
    time.sleep(0.7)
    assert sorted(records(aws, acme).values()) == ["Active", "Active"]
    tasks.submit(hub, task.id, {})
    done = wait_for(lambda: (r := runs.get(hub, handed.run.id)).ended_at and r, 60)
    assert done.state is RunState.COMPLETE
    assert records(aws, acme) == {new["access_key_id"]: "Active"}
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 700)
    with pytest.raises(Conflict, match="ten minutes"):
        issued.reveal(hub, handed.version_id)


def test_told_so_in_words_it_waits_for_nobodys_word(aws, hub, acme):
    """`force`: the plan has no hand-over, and the old one goes after the overlap."""
    handed = issued.reissue(hub, "acme-drop", 0.2, force=True)
    assert "handover" not in [step.kind.value for step in handed.run.plan.steps]
    done = wait_for(lambda: (r := runs.get(hub, handed.run.id)).ended_at and r, 60)
    assert done.state is RunState.COMPLETE
    assert list(records(aws, acme)) == [pair(handed)["access_key_id"]]


def test_a_reissue_can_be_taken_back(aws, hub, acme):
    """Until the old one is ended: it serves on, and the new one is deleted and proven dead."""
    old, handed = pair(acme), issued.reissue(hub, "acme-drop", 0.5)
    wait_for(lambda: next((t for t in tasks.waiting(hub) if t.kind == "handover"), None), 30)
    wait_for(lambda: runs.get(hub, handed.run.id).state is RunState.WAITING_HUMAN)
    runs.rollback(hub, handed.run.id)
    done = wait_for(lambda: (r := runs.get(hub, handed.run.id)).ended_at and r, 60)
    assert done.state is RunState.ABORTED_CLEAN
    assert records(aws, acme) == {old["access_key_id"]: "Active"}
    assert [t for t in tasks.waiting(hub) if t.kind == "handover"] == []


def test_it_is_ended_and_issued_again(aws, hub, acme):
    """By a run at the store; a slot it has not. What is issued anew is another pair of the same user."""
    with pytest.raises(InvalidInput, match="no slots"):
        issued.revoke(hub, "acme-drop", "A")
    run = issued.revoke(hub, "acme-drop", reason="partner left")
    done = wait_for(lambda: (r := runs.get(hub, run.id)).ended_at and r, 60)
    assert done.state is RunState.COMPLETE
    assert records(aws, acme) == {}
    handed = issued.reissue(hub, "acme-drop")
    assert records(aws, acme) == {pair(handed)["access_key_id"]: "Active"}


def test_who_has_it_and_what_is_odd(hub, acme):
    """Holders are owed the newest key; its age is told, its use is not guessed."""
    register.hold(hub, "acme-drop", "Acme")
    assert [h.name for h in register.where_used(hub, "acme-drop").owed()] == ["Acme"]
    register.confirm(hub, "acme-drop", "Acme")
    assert register.where_used(hub, "acme-drop").owed() == ()
    old = register.findings(hub, time.time() + 91 * 86400)["acme-drop"]
    assert old == (f"key ...{pair(acme)['access_key_id'][-4:]} is 91 days old",)


def test_nobody_brings_a_key_when_it_is_issued(aws, hub):
    """The store makes both parts."""
    with pytest.raises(InvalidInput, match="made by the store"):
        issued.issue(hub, "hub-bucket", "x", values(aws, access_key_id="AKIAAAAAAAAAAAAAAAAA"), policy=FAST)


def test_where_it_is_shown_to_is_not_edited(hub, acme):
    """Whoever may edit could have the store's answers come from a place of their own."""
    editable = {field.name for field in editing.fields(hub, acme.connection)}
    assert "contact" in editable
    assert not editable & {"s3_endpoint", "sts_endpoint", "iam_endpoint", "user_name", "secret_access_key"}


def test_both_slots_taken_stops_without_deleting(aws, hub, acme):
    """Acceptance 10: a key somebody made by hand is nobody's guess."""
    iam = aws.client("iam", aws.account.rotator)
    user = str(acme.connection.settings["user_name"])
    stranger = iam.create_access_key(UserName=user)["AccessKey"]["AccessKeyId"]
    before = records(aws, acme)
    run = runs.start(hub, "acme-drop", Goal.ROTATE)
    wait_for(
        lambda: (
            (r := runs.get(hub, run.id)).ended_at or r.state in {RunState.BLOCKED, RunState.WAITING_HUMAN}
        ),
        30,
    )
    time.sleep(0.2)
    assert records(aws, acme) == before == {pair(acme)["access_key_id"]: "Active", stranger: "Active"}
    said = runs.get(hub, run.id)
    assert stranger in said.waiting_for
    assert pair(acme)["access_key_id"] in said.waiting_for
    assert "never used" in said.waiting_for
    client = s3(aws, pair(acme))
    client.list_objects_v2(Bucket=aws.account.hub_bucket, Prefix="partners/acme/")


def test_a_user_that_is_not_ours_is_never_touched(aws, hub):
    """Neither its policy nor its keys; the name must be another."""
    before = aws.records()
    with pytest.raises(NotDone):
        buckets.issue(
            hub, kinds.BUCKET, "taken", values(aws, user_name=aws.account.app.user), policy=FAST, wait_s=5.0
        )
    assert aws.records() == before


def test_two_credentials_never_share_a_user(aws, hub, acme):
    """The second would be cut off by the first one's rotation."""
    user = str(acme.connection.settings["user_name"])
    with pytest.raises(Conflict, match="user"):
        issued.issue(hub, "hub-bucket", "again", values(aws, user_name=user), policy=FAST)


@pytest.mark.parametrize("prefix", ["", "/", "a", "../b/", "a//b/", "*/", "a/*/", "a b/", "${aws:username}/"])
def test_a_prefix_is_a_folder(aws, hub, prefix):
    """Never the whole bucket, never a wildcard."""
    with pytest.raises(InvalidInput):
        issued.issue(hub, "hub-bucket", "x", values(aws, prefix=prefix), policy=FAST)
    with pytest.raises(NotFound):
        connections.find(hub, "x")


@pytest.mark.slow
def test_a_lost_answer_leaves_one_key(aws, hub):
    """The key nobody has the secret of is found and ended."""
    aws.arm("CreateAccessKey", "answer_lost")
    handed = issued.issue(hub, "hub-bucket", "lost", values(aws, prefix="partners/lost/"), policy=FAST)
    assert list(records(aws, handed)) == [pair(handed)["access_key_id"]]
    version = handed.connection.current_version_id
    assert version is not None
    states = {v.state for v in runs.situation(hub, connections.find(hub, "lost")).versions}
    assert State.CURRENT in states


def test_disconnecting_removes_user_and_keys(aws, hub, acme):
    """When asked to drop the identity; the policy goes first."""
    run = runs.start(hub, "acme-drop", Goal.DISCONNECT, drop=True)
    done = wait_for(lambda: (r := runs.get(hub, run.id)).ended_at and r, 60)
    assert done.state is RunState.COMPLETE
    assert records(aws, acme) == {}
    iam = aws.client("iam", aws.account.steward)
    assert refused(iam.get_user, UserName=str(acme.connection.settings["user_name"])) == "NoSuchEntity"
    iam = aws.client("iam", aws.account.steward)
    iam.create_user(UserName=str(acme.connection.settings["user_name"]))  # so that the fixture finds it


def test_a_leaked_key_is_contained(aws, hub, acme):
    """Found by its fingerprint; replaced at once, and the task to tell its holder comes last."""
    from keyturn.operations import leaks

    found = leaks.report(hub, f"aws_secret_access_key = {pair(acme)['secret_access_key']}\n")
    assert [each.name for each in found.known] == ["acme-drop"]
    task = wait_for(lambda: next((t for t in tasks.waiting(hub) if t.kind == "handover"), None), 60)
    assert pair(acme)["access_key_id"] not in records(aws, acme)
    tasks.submit(hub, task.id, {})
    done = wait_for(lambda: (r := runs.get(hub, found.known[0].run_id)).ended_at and r, 60)
    assert done.state is RunState.COMPLETE


def test_by_clicks(hub, aws):
    """Issued from the form, listed with what this hub gives to others, rotated like a connection, handed over by a link."""
    link = people.invite(hub, rights.local("ada"), "ada", "Ada", [("admin", "")]).code.reveal()
    people.accept(hub, link, PASSWORD)
    it = Browser(create_app(hub)).sign_in("ada")
    form = {f"field-{name}": value for name, value in values(aws, prefix="partners/clicks/").items()}
    made = it.post("/issued/new/hub-bucket", {"name": "clicks-drop", "owner": "Partner team", **form})
    assert made.status_code == 200
    shown = json.loads(html.unescape(re.search(r'id="value" readonly value="([^"]+)"', made.text)[1]))
    connection = connections.find(hub, "clicks-drop")
    try:
        assert f"/connections/{connection.id}" in it.get("/issued").text
        page = it.get(f"/connections/{connection.id}")
        assert "plan/rotate" in page.text
        assert shown["secret_access_key"] not in page.text
        plan = it.get(f"/connections/{connection.id}/plan/rotate")
        assert "Rotate now" in plan.text
        handed = it.post(f"/issued/{connection.id}/link", {"for": "3600"}, on=f"/connections/{connection.id}")
        assert "/handover#" in handed.text
    finally:
        iam = aws.client("iam", aws.account.rotator)
        user = str(connection.settings["user_name"])
        for key in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]:
            iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])

"""The customer-managed bucket's connector against moto's AWS with enforced credentials (lab/parts/aws)."""

import dataclasses
import json
import logging
import secrets
import time
import traceback
from collections.abc import Iterator
from importlib import resources

import pytest

from keyturn import boundary
from keyturn.connectors.s3_customer.connector import capabilities
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.definitions.system import read_system
from keyturn.errors import (
    CallInsideTransaction,
    CapReached,
    Conflict,
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    NotPermitted,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.card import Strategy
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict, mismatch
from keyturn.transport import aws_keys
from keyturn.transport.aws import Answer, Client
from keyturn_lab.parts.aws import AwsServer, Key

CAN = capabilities("access_key", {})


@pytest.fixture(scope="module")
def server() -> Iterator[AwsServer]:
    with AwsServer() as running:
        yield running


@pytest.fixture(scope="module")
def other() -> Iterator[AwsServer]:
    """An account of the same shape that knows none of the first one's keys."""
    with AwsServer() as running:
        yield running


@pytest.fixture
def aws(server: AwsServer) -> AwsServer:
    """The account with one application key, no lag and no armed fault."""
    server.set_dials(create_lag_s=0.0, dead_lag_s=0.0)
    iam = server.client("iam", server.account.rotator)
    for record in server.records():
        if record["owner"] == server.account.app.user and record["id"] != server.account.app.access_key_id:
            iam.delete_access_key(UserName=record["owner"], AccessKeyId=record["id"])
    iam.close()
    return server


def material(key: Key, prefix: str = "") -> Material:
    parts = {f"{prefix}access_key_id": key.access_key_id, f"{prefix}secret_access_key": key.secret_access_key}
    return Material(parts, frozenset({f"{prefix}access_key_id"}))


def access(aws: AwsServer, *, own: bool = False, **settings: str) -> Access:
    """The rotator's access, or the application's own."""
    here = aws.url.removeprefix("http://")
    return Access(
        settings={
            "bucket": aws.account.bucket,
            "region": aws.account.region,
            "user_name": aws.account.app.user,
            "iam_endpoint": aws.url,
            "sts_endpoint": aws.url,
            "s3_endpoint": aws.url,
            **settings,
        },
        acting=material(aws.account.app),
        admin=None if own else material(aws.account.rotator, "admin_"),
        deadline_s=10.0,
        network=NetworkPolicy(frozenset({here})),
    )


def issue(aws: AwsServer, *, own: bool = False) -> tuple[Ref, Material]:
    by = access(aws, own=own)
    made = CAN.issuer.read(by, CAN.issuer.issue(by, Ref()))
    return made.ref, made.material


def ids(aws: AwsServer) -> set[str]:
    return {remote.ref.id for remote in CAN.lister.list(access(aws))}


def test_the_definition_reads_and_says_two_keys_by_id():
    """The card is S2 with a cap of two, three proofs in a row and an off switch."""
    text = (resources.files("keyturn.connectors.s3_customer") / "definition.yaml").read_text()
    row = read_system(text, "s3-customer").method("access_key")
    assert (row.card.strategy, row.card.slots, row.card.cap) == (Strategy.MANY_IDS, None, 2)
    assert row.card.prove_times == 3
    assert row.card.disable_first
    assert {f.name for f in row.fields if f.group == "admin"} == {
        "admin_access_key_id",
        "admin_secret_access_key",
    }
    assert row.field("access_key_id").part
    assert not row.field("access_key_id").secret


def test_a_good_key_is_accepted_with_its_identity(aws):
    """STS names the user and the account; S3 adds the right to list."""
    probe = CAN.verifier.verify(access(aws), material(aws.account.app))
    assert probe.verdict is Verdict.ACCEPTED
    assert probe.identity == {
        "principal": "arn:aws:iam::123456789012:user/keyturn-app",
        "tenant": "123456789012",
    }
    assert probe.rights == {"s3:ListBucket"}


def test_another_users_key_is_accepted_as_somebody_else(aws):
    """A working key of another user shows in the identity, so the pin catches it."""
    pin = CAN.verifier.verify(access(aws), material(aws.account.app)).identity
    probe = CAN.verifier.verify(access(aws), material(aws.account.rotator))
    assert mismatch(pin, probe.identity) == ("principal",)


def test_the_bucket_is_looked_at_under_the_prefix(aws):
    """A key whose policy ends at a prefix has the right there, and nowhere else: it is asked where jobs read."""
    iam, user = aws.client("iam", aws.account.steward), f"reader-{secrets.token_hex(4)}"
    iam.create_user(UserName=user)
    statement = {
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": f"arn:aws:s3:::{aws.account.bucket}",
        "Condition": {"StringLike": {"s3:prefix": ["exports/*"]}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=user, PolicyName="reads", PolicyDocument=policy)
    made = iam.create_access_key(UserName=user)["AccessKey"]
    key = Material({"access_key_id": made["AccessKeyId"], "secret_access_key": made["SecretAccessKey"]})
    inside = CAN.verifier.verify(access(aws, prefix="exports/"), key)
    assert (inside.verdict, inside.rights) == (Verdict.ACCEPTED, {"s3:ListBucket"})
    for prefix in ("", "other/"):
        outside = CAN.verifier.verify(access(aws, prefix=prefix), key)
        assert (outside.verdict, outside.rights) == (Verdict.ACCEPTED, frozenset())
    iam.delete_access_key(UserName=user, AccessKeyId=made["AccessKeyId"])
    iam.close()


def test_access_denied_is_not_a_dead_key(aws):
    """The rotator may not list the bucket: it is accepted, without the right, and with S3's code."""
    probe = CAN.verifier.verify(access(aws), material(aws.account.rotator))
    assert probe.verdict is Verdict.ACCEPTED
    assert probe.rights == frozenset()
    assert probe.code == "AccessDenied"


@pytest.mark.parametrize(
    ("part", "value", "code"),
    [
        ("secret_access_key", "x" * 40, "SignatureDoesNotMatch"),
        ("access_key_id", "AKIAAAAAAAAAAAAAAAAA", "InvalidClientTokenId"),
    ],
)
def test_a_wrong_secret_and_an_unknown_id_are_told_apart(aws, part, value, code):
    """Both are rejected, each with AWS's own code."""
    probe = CAN.verifier.verify(access(aws), material(aws.account.app).replacing(**{part: value}))
    assert (probe.verdict, probe.code) == (Verdict.REJECTED, code)


def test_the_bogus_key_is_rejected_like_an_unknown_one(aws):
    """The negative control has the shape of a key, is new each time and gets the code of a deleted key."""
    bogus = CAN.verifier.bogus(material(aws.account.app))
    assert bogus != CAN.verifier.bogus(material(aws.account.app))
    assert (len(bogus["access_key_id"]), len(bogus["secret_access_key"])) == (20, 40)
    probe = CAN.verifier.verify(access(aws), bogus)
    assert (probe.verdict, probe.code) == (Verdict.REJECTED, "InvalidClientTokenId")


@pytest.mark.parametrize("op", ["GetCallerIdentity", "s3:GET"])
@pytest.mark.parametrize(
    ("kind", "code"), [("throttle", None), ("error_not_applied", None), ("answer_lost", "reset")]
)
def test_trouble_at_either_service_is_unknown(aws, op, kind, code):
    """A throttle, a server error or a lost answer says nothing about the key."""
    aws.arm(op, kind)
    probe = CAN.verifier.verify(access(aws), material(aws.account.app))
    assert probe.verdict is Verdict.UNKNOWN
    assert code is None or probe.code == code
    assert CAN.verifier.verify(access(aws), material(aws.account.app)).verdict is Verdict.ACCEPTED


def test_a_refused_connection_is_unknown(aws):
    """Nobody listening is no verdict."""
    nowhere = access(aws, sts_endpoint="http://127.0.0.1:9")
    nowhere = dataclasses.replace(nowhere, network=NetworkPolicy(frozenset({"127.0.0.1"})))
    probe = CAN.verifier.verify(nowhere, material(aws.account.app))
    assert (probe.verdict, probe.code) == (Verdict.UNKNOWN, "refused")


@pytest.mark.parametrize("service", ["sts", "s3"])
def test_services_that_disagree_are_unknown(aws, other, service):
    """STS and S3 learn of a change at different times; only both together accept or reject."""
    split = access(aws, **{f"{service}_endpoint": other.url})
    split = dataclasses.replace(split, network=NetworkPolicy(frozenset({"127.0.0.1"})))
    probe = CAN.verifier.verify(split, material(aws.account.app))
    assert probe.verdict is Verdict.UNKNOWN
    assert probe.code == {"sts": "InvalidClientTokenId", "s3": "InvalidAccessKeyId"}[service]


def test_a_new_key_is_unknown_to_aws_for_a_while(aws):
    """Within the settle time a good new key is refused; a moment later it works."""
    aws.set_dials(create_lag_s=2.0)
    _, new = issue(aws)
    assert CAN.verifier.verify(access(aws), new).verdict is Verdict.REJECTED
    aws.set_dials(create_lag_s=0.0)
    time.sleep(2.0)
    assert CAN.verifier.verify(access(aws), new).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("own", [False, True])
def test_a_whole_life_of_a_key(aws, own):
    """Rotator or self: made, listed, accepted, switched off and on, deleted; each step may be repeated."""
    ref, new = issue(aws, own=own)
    by = dataclasses.replace(access(aws, own=own))
    assert CAN.locator.locate(by, new) == ref
    assert new.public == {"access_key_id"}
    listed = {r.ref.id: r for r in CAN.lister.list(by)}
    assert set(listed) == {ref.id, aws.account.app.access_key_id}
    assert listed[ref.id].active
    assert listed[ref.id].created_at is not None
    assert listed[ref.id].last_used_at is None
    assert CAN.verifier.verify(by, new).verdict is Verdict.ACCEPTED
    assert {r.ref.id: r.last_used_at for r in CAN.lister.list(by)}[ref.id] is not None
    for _ in range(2):
        CAN.disabler.disable(by, ref)
    assert CAN.verifier.verify(by, new).verdict is Verdict.REJECTED
    assert not {r.ref.id: r for r in CAN.lister.list(by)}[ref.id].active
    for _ in range(2):
        CAN.disabler.enable(by, ref)
    assert CAN.verifier.verify(by, new).verdict is Verdict.ACCEPTED
    for _ in range(2):
        CAN.revoker.revoke(by, ref, new)
    assert CAN.verifier.verify(by, new).verdict is Verdict.REJECTED
    assert ids(aws) == {aws.account.app.access_key_id}
    CAN.disabler.disable(by, ref)  # gone is off as well
    with pytest.raises(NotFound):
        CAN.disabler.enable(by, ref)


def test_a_third_key_reaches_the_cap(aws):
    """IAM holds two keys; the third is a definite no that changes nothing."""
    issue(aws)
    with pytest.raises(CapReached) as raised:
        CAN.issuer.issue(access(aws), Ref())
    assert raised.value.facts["code"] == "LimitExceeded"
    assert len(ids(aws)) == 2


@pytest.mark.parametrize("kind", ["answer_lost", "error_not_applied"])
def test_an_unclear_answer_to_create_is_unknown_and_sent_once(aws, kind):
    """No retry of the SDK's own; the list shows the orphan exactly when there is one."""
    before = ids(aws)
    aws.arm("CreateAccessKey", kind)
    with pytest.raises(OutcomeUnknown):
        CAN.issuer.issue(access(aws), Ref())
    assert len(ids(aws) - before) == (1 if kind == "answer_lost" else 0)


@pytest.mark.parametrize(
    ("op", "call"),
    [
        ("CreateAccessKey", lambda by, ref: CAN.issuer.issue(by, Ref())),
        ("UpdateAccessKey", CAN.disabler.disable),
        ("DeleteAccessKey", lambda by, ref: CAN.revoker.revoke(by, ref, None)),
    ],
)
def test_a_throttled_change_changed_nothing(aws, op, call):
    """A throttle is told apart from an unclear answer: the same call may simply be made again."""
    aws.arm(op, "throttle")
    before = aws.records()
    with pytest.raises(VendorThrottled):
        call(access(aws), Ref(id=aws.account.app.access_key_id))
    assert aws.records() == before


@pytest.mark.parametrize("op", ["UpdateAccessKey", "DeleteAccessKey"])
def test_a_lost_answer_to_a_change_is_unknown(aws, op):
    """Switching off and deleting may be repeated once somebody has looked."""
    ref, new = issue(aws)
    aws.arm(op, "answer_lost")
    with pytest.raises(OutcomeUnknown):
        CAN.disabler.disable(access(aws), ref) if op == "UpdateAccessKey" else CAN.revoker.revoke(
            access(aws), ref, new
        )


def test_a_lost_answer_to_a_list_is_only_an_outage(aws):
    """A read that got no answer changed nothing."""
    aws.arm("ListAccessKeys", "answer_lost")
    with pytest.raises(VendorUnavailable):
        CAN.lister.list(access(aws))


def test_a_missing_right_is_named(aws):
    """The application may manage its own keys and nobody else's; AWS's name of the right is told."""
    by = dataclasses.replace(access(aws, own=True, user_name=aws.account.rotator.user))
    with pytest.raises(PermissionMissing) as raised:
        CAN.lister.list(by)
    assert raised.value.facts["right"] == "iam:ListAccessKeys"


def test_a_dead_rotator_is_rejected_not_unavailable(aws):
    """A refused signing key stops the change for good instead of retrying for ever."""
    by = dataclasses.replace(
        access(aws), admin=material(aws.account.rotator, "admin_").replacing(admin_secret_access_key="x" * 40)
    )
    with pytest.raises(CredentialRejected):
        CAN.issuer.issue(by, Ref())


def test_a_key_is_located_only_under_the_user_that_owns_it(aws):
    """A mistyped user name is found at once, or another user's keys would be rotated."""
    mine = material(aws.account.app)
    assert CAN.locator.locate(access(aws), mine) == Ref(id=aws.account.app.access_key_id)
    for user in (aws.account.rotator.user, "nobody"):
        with pytest.raises(InvalidInput):
            CAN.locator.locate(access(aws, user_name=user), mine)


def test_an_unknown_user_is_not_found(aws):
    """A mistyped user name is told as such."""
    with pytest.raises(NotFound):
        CAN.lister.list(access(aws, user_name="nobody"))


def test_a_key_of_another_user_is_not_deleted(aws):
    """IAM is told whose key it must be: revoking the rotator's id on the application's row leaves it alive."""
    CAN.revoker.revoke(access(aws), Ref(id=aws.account.rotator.access_key_id), None)
    assert any(r["id"] == aws.account.rotator.access_key_id for r in aws.alive())


def test_lists_follow_every_page(aws, monkeypatch):
    """The second key is seen although the first page holds one."""
    issue(aws)
    call = Client.call

    def one_per_page(self, operation, **params):
        if operation == "list_access_keys":
            params["MaxItems"] = 1
        return call(self, operation, **params)

    monkeypatch.setattr(Client, "call", one_per_page)
    assert len(CAN.lister.list(access(aws))) == 2


def test_discovery_shows_every_users_keys(aws):
    """Each key comes with its age and flags; it needs the rotator."""
    issue(aws)
    found = {f.name: f for f in CAN.discoverer.discover(access(aws))}
    assert len(found) == 4
    mine = found[f"keyturn-app/{aws.account.app.access_key_id}"]
    assert mine.kind == "access_key"
    assert "one of two active keys" in mine.facts["flags"]
    assert mine.facts["age_days"] == 0
    json.dumps({name: dict(f.facts) for name, f in found.items()})
    with pytest.raises(InvalidInput):
        CAN.discoverer.discover(access(aws, own=True))


def test_dropping_the_user_takes_its_keys_and_needs_a_right_of_its_own(aws, other):
    """The lab's rotator may not delete users: the keys are gone, the right is named, and no user drops itself."""
    with pytest.raises(PermissionMissing) as raised:
        CAN.dropper.drop(access(other))
    assert raised.value.facts["right"] == "iam:DeleteUser"
    left = {other.account.rotator.user, other.account.steward.user}
    assert {r["owner"] for r in other.records()} == left
    CAN.dropper.drop(access(aws, user_name="nobody"))  # already gone
    with pytest.raises(InvalidInput):
        CAN.dropper.drop(access(aws, own=True))


def test_a_user_that_still_holds_a_policy_is_not_dropped():
    """IAM's DeleteConflict becomes a conflict that tells what must go first."""
    error = aws_keys.refusal(Answer(code="DeleteConflict", status=409), "iam:DeleteUser")
    assert isinstance(error, Conflict)
    assert "policies" in error.hint


@pytest.mark.parametrize(
    "receipt",
    [
        b"null",
        b"{}",
        b"<html>",
        b'{"AccessKeyId":"AKIAX","SecretAccessKey":"ktlabsecret","UserName":"somebody-else"}',
    ],
)
def test_a_strange_receipt_is_not_taken(aws, receipt):
    """An answer without a key, or about another user, is for a person to look at; its text is not quoted."""
    with pytest.raises(UnexpectedAnswer) as raised:
        CAN.issuer.read(access(aws), receipt)
    assert "ktlabsecret" not in f"{raised.value} {raised.value.facts} {raised.value.hint}"


def test_no_call_is_made_inside_a_transaction(aws):
    """The door refuses before anything is sent, for reads and changes, and the verifier does not swallow it."""
    by = access(aws)
    with boundary.transaction():
        for call in (
            lambda: CAN.verifier.verify(by, material(aws.account.app)),
            lambda: CAN.lister.list(by),
            lambda: CAN.issuer.issue(by, Ref()),
            lambda: CAN.revoker.revoke(by, Ref(id=aws.account.app.access_key_id), None),
            lambda: CAN.discoverer.discover(by),
        ):
            with pytest.raises(CallInsideTransaction):
                call()
    assert ids(aws) == {aws.account.app.access_key_id}


def test_plain_http_needs_the_operators_word(aws):
    """Without an entry in the network policy the lab's http address is refused before anything is sent."""
    with pytest.raises(InvalidInput):
        CAN.lister.list(dataclasses.replace(access(aws), network=NetworkPolicy()))


def test_a_private_address_needs_the_operators_word(aws):
    """With https as well: an endpoint on loopback is not called."""
    by = dataclasses.replace(access(aws, iam_endpoint="https://127.0.0.1:9"), network=NetworkPolicy())
    with pytest.raises(NotPermitted):
        CAN.lister.list(by)


def test_secrets_stay_out_of_errors_and_logs(aws, caplog):
    """With every logger at DEBUG neither a signing secret nor a new one is in a record, a message or a traceback."""
    caplog.set_level(logging.DEBUG)
    texts = []
    _, new = issue(aws)
    for op, kind in (("CreateAccessKey", "answer_lost"), ("CreateAccessKey", "error_not_applied")):
        aws.arm(op, kind)
        try:
            CAN.issuer.issue(access(aws), Ref())
        except KeyturnError as error:
            texts.append(f"{error} {error.hint} {error.facts} {''.join(traceback.format_exception(error))}")
    CAN.verifier.verify(access(aws), new)
    seen = "".join(texts) + caplog.text
    assert texts
    for secret in (
        new["secret_access_key"],
        aws.account.app.secret_access_key,
        aws.account.rotator.secret_access_key,
    ):
        assert secret not in seen


def test_the_machines_own_aws_settings_are_not_used(aws, monkeypatch, tmp_path):
    """Profiles, endpoints, proxies and certificates of the environment change nothing."""
    (tmp_path / "config").write_text("[profile broken\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert CAN.verifier.verify(access(aws), material(aws.account.app)).verdict is Verdict.ACCEPTED

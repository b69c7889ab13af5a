"""Every call to AWS is one of botocore's models, as the pages of the rows say, and moto answers in the model's shape."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from keyturn.connectors.s3_managed.connector import capabilities
from keyturn.contract.values import Access
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict
from keyturn.transport import aws_keys
from tests.compliance.case import NETWORK, under_test
from tests.compliance.rows import ROWS
from tests.published import aws
from tests.published.recorded import Recorded, recording, said_to_be_sent
from tests.published.tap import Exchange, TappedLab


@pytest.fixture(scope="module")
def recorded() -> Iterator[Recorded]:
    also = {"s3-customer/a steward": _dropped, "s3-managed/access_key": _managed}
    with recording("aws", ("s3-customer",), ("s3_customer", "s3_managed"), (aws_keys,), also) as made:
        yield made


def _dropped(lab: TappedLab) -> None:
    """The lab's rotator may delete no user; its steward may."""
    row = under_test("s3", ROWS["s3-customer/access_key"](lab))
    steward = lab.aws.account.steward
    assert row.can.dropper is not None
    keys = {"access_key_id": steward.access_key_id, "secret_access_key": steward.secret_access_key}
    lab.aws.client("iam", lab.aws.account.steward).delete_user_policy(
        UserName=lab.aws.account.app.user, PolicyName="keyturn"
    )
    row.can.dropper.drop(replace(row.access, admin=Material(keys, frozenset({"access_key_id"}))))


def _managed(lab: TappedLab) -> None:
    """The hub's own bucket: a user is made for a consumer, its key turned off and on, all of it deleted."""
    steward = lab.aws.account.steward
    settings = {
        "bucket": lab.aws.account.hub_bucket,
        "region": lab.aws.account.region,
        "prefix": "partners/acme/",
        "user_name": "hub-acme",
        "iam_endpoint": lab.aws.url,
        "sts_endpoint": lab.aws.url,
        "s3_endpoint": lab.aws.url,
    }
    admin = Material(
        {"access_key_id": steward.access_key_id, "secret_access_key": steward.secret_access_key},
        frozenset({"access_key_id"}),
    )
    access = Access(settings, None, admin, 10.0, NETWORK)
    can = capabilities("access_key", settings)
    assert can.issuer is not None
    assert can.disabler is not None
    assert can.revoker is not None
    assert can.dropper is not None
    assert can.lister is not None
    assert can.lister.list(access) == ()
    made = can.issuer.read(access, can.issuer.issue(access, Ref()))
    assert can.verifier.verify(access, made.material).verdict is Verdict.ACCEPTED
    assert [each.ref.id for each in can.lister.list(access)] == [made.ref.id]
    can.disabler.disable(access, made.ref)
    can.disabler.enable(access, made.ref)
    can.revoker.revoke(access, made.ref, made.material)
    can.dropper.drop(access)


def test_every_request_and_answer_is_in_the_model(recorded: Recorded) -> None:
    """Operation, version, parameters, their types and patterns; of the answers each element."""
    assert recorded.of("s3-customer")
    assert recorded.of("s3-managed")
    for exchange in _ours(recorded):
        aws.judge(exchange)


@pytest.mark.parametrize("system", ["s3-customer", "s3-managed"])
def test_the_page_names_every_call(recorded: Recorded, system: str) -> None:
    """What `keyturn systems` says is sent is what is sent and goes well, no more and no less."""
    named = set(re.findall(r"\b(?:iam|sts|s3):[A-Z][A-Za-z0-9]+", said_to_be_sent(system, "access_key")))
    assert named == {aws.judge(each) for each in _ours(recorded, system) if each.status < 300}


def test_every_line_that_calls_aws_ran(recorded: Recorded) -> None:
    """Nothing is sent that was not looked at here."""
    assert recorded.sites.silent() == []


def _ours(recorded: Recorded, system: str = "") -> list[Exchange]:
    """Without what the tests' own clients did, which are boto3's."""
    return [each for each in recorded.of(system) if "Boto3/" not in each.header("user-agent")]

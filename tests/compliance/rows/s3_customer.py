"""A customer's bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext

from keyturn.contract.values import Access
from keyturn.model.secret import Material
from keyturn.testing import Reads
from keyturn_lab.parts.aws import Key
from tests.compliance.case import Case, undone
from tests.compliance.lab import Lab


def _reads(lab: Lab, key: Key) -> Reads:
    """A prefix is a mere beginning of names: one that fits nothing has none."""
    with closing(lab.aws.client("s3", key)) as s3:
        for number in range(3):
            s3.put_object(Bucket=lab.aws.account.bucket, Key=f"contract/{number}", Body=b"ktlab-private")
    return Reads("contract/", 3, empty="nowhere/", more={"contract/1": 1}, any_name=True)


def s3_customer(lab: Lab) -> Case:
    aws, account = lab.aws, lab.aws.account
    app = _fresh_key(lab)
    values = {
        "bucket": account.bucket,
        "region": account.region,
        "user_name": app.user,
        "access_key_id": app.access_key_id,
        "secret_access_key": app.secret_access_key,
        "admin_access_key_id": account.rotator.access_key_id,
        "admin_secret_access_key": account.rotator.secret_access_key,
        "iam_endpoint": aws.url,
        "sts_endpoint": aws.url,
        "s3_endpoint": aws.url,
    }
    ops = {"issue": "CreateAccessKey", "disable": "UpdateAccessKey", "revoke": "DeleteAccessKey"}

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        aws.arm(ops[call], "answer_lost")
        yield access

    rotator = Material(
        {
            "access_key_id": account.rotator.access_key_id,
            "secret_access_key": account.rotator.secret_access_key,
        },
        frozenset({"access_key_id"}),
    )
    return Case(
        "s3-customer",
        "access_key",
        values,
        alive=lambda: {each["id"] for each in aws.alive() if each["owner"] == app.user},
        of=lambda material: material["access_key_id"],
        wrong_values={**values, "secret_access_key": "ktlab" + "x" * 35},
        wrong=lambda good: [
            good.replacing(secret_access_key="ktlab" + "x" * 35),
            good.replacing(access_key_id="AKIAAAAAAAAAAAAAAAAA"),
        ],
        codes=frozenset({"SignatureDoesNotMatch", "InvalidClientTokenId"}),
        aim=lambda aim: dict.fromkeys(("iam_endpoint", "sts_endpoint", "s3_endpoint"), aim.url),
        reads=_reads(lab, app),
        throttled=lambda: undone(lambda: aws.arm("GetCallerIdentity", "throttle"), lambda: None),
        throttle_says_wait=False,  # AWS names no time
        elsewhere=lambda access: nullcontext((access, rotator)),
        lost=lost,
        deadline_s=2.0,
    )


def _fresh_key(lab: Lab) -> Key:
    """The application user with one key."""
    iam = lab.aws.client("iam", lab.aws.account.rotator)
    user = lab.aws.account.app.user
    for record in lab.aws.records():
        if record["owner"] == user:
            iam.delete_access_key(UserName=user, AccessKeyId=record["id"])
    made = iam.create_access_key(UserName=user)["AccessKey"]
    iam.close()
    key = Key(user, made["AccessKeyId"], made["SecretAccessKey"])
    lab.app_keys.append(key)
    return key


ROWS = {
    "s3-customer/access_key": s3_customer,
}

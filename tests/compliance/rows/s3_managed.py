"""A folder of the hub's own bucket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from keyturn.connectors.s3_managed.connector import PATH, POLICY, policy
from keyturn.contract.values import Access
from keyturn.model.secret import Material
from keyturn_lab.parts.aws import Key
from tests.compliance.case import Case, undone
from tests.compliance.lab import Lab

WRONG = "ktlab" + "x" * 35


def s3_managed(lab: Lab) -> Case:
    aws, account = lab.aws, lab.aws.account
    key, settings = _consumer(lab)
    values = {
        **settings,
        "access_key_id": key.access_key_id,
        "secret_access_key": key.secret_access_key,
        "admin_access_key_id": account.steward.access_key_id,
        "admin_secret_access_key": account.steward.secret_access_key,
        "iam_endpoint": aws.url,
        "sts_endpoint": aws.url,
        "s3_endpoint": aws.url,
    }
    ops = {"issue": "CreateAccessKey", "disable": "UpdateAccessKey", "revoke": "DeleteAccessKey"}

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        aws.arm(ops[call], "answer_lost")
        yield access

    steward = {
        "access_key_id": account.steward.access_key_id,
        "secret_access_key": account.steward.secret_access_key,
    }
    return Case(
        "s3-managed",
        "access_key",
        values,
        alive=lambda: {each["id"] for each in aws.alive() if each["owner"] == key.user},
        of=lambda material: material["access_key_id"],
        wrong_values={**values, "secret_access_key": WRONG},
        wrong=lambda good: [
            good.replacing(secret_access_key=WRONG),
            good.replacing(access_key_id="AKIAAAAAAAAAAAAAAAAA"),
        ],
        codes=frozenset({"SignatureDoesNotMatch", "InvalidClientTokenId"}),
        aim=lambda aim: dict.fromkeys(("iam_endpoint", "sts_endpoint", "s3_endpoint"), aim.url),
        throttled=lambda: undone(lambda: aws.arm("GetCallerIdentity", "throttle"), lambda: None),
        throttle_says_wait=False,  # AWS names no time
        elsewhere=lambda access: nullcontext((access, Material(steward, frozenset({"access_key_id"})))),
        lost=lost,
        deadline_s=2.0,
    )


def _consumer(lab: Lab) -> tuple[Key, dict[str, str]]:
    """A user of its own with its first key, as the hub would have made it."""
    number = lab.number()
    user, account = f"keyturn-consumer-{number}", lab.aws.account
    settings = {
        "bucket": account.hub_bucket,
        "prefix": f"partners/{number}/",
        "region": account.region,
        "user_name": user,
    }
    iam = lab.aws.client("iam", account.steward)
    iam.create_user(UserName=user, Path=PATH)
    iam.put_user_policy(UserName=user, PolicyName=POLICY, PolicyDocument=json.dumps(policy(settings)))
    made = iam.create_access_key(UserName=user)["AccessKey"]
    iam.close()
    key = Key(user, made["AccessKeyId"], made["SecretAccessKey"])
    lab.app_keys.append(key)
    return key, settings


ROWS = {"s3-managed/access_key": s3_managed}

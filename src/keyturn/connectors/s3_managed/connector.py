"""What a key to the hub's own bucket can do: its user is made where it is missing, and limited to one prefix."""

from __future__ import annotations

import dataclasses
import json
import secrets
import string
from collections.abc import Mapping
from typing import Any

from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Candidate, Remote
from keyturn.errors import (
    Conflict,
    InvalidInput,
    KeyturnError,
    NotFound,
    UnexpectedAnswer,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, accepted, rejected, unknown
from keyturn.transport import aws_keys
from keyturn.transport.aws import Client

PATH = "/keyturn/"  # users below it are ours; no other is touched
POLICY = "keyturn-prefix"
_PUBLIC = frozenset({"access_key_id"})
_OBJECTS = {
    "read": ["s3:GetObject"],
    "write": ["s3:PutObject", "s3:AbortMultipartUpload"],
    "both": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
}


def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
    """The capabilities of `access_key`. Raises: NotFound."""
    del settings
    if method != "access_key":
        raise NotFound(f"s3-managed has no method {method!r}", hint="Use access_key.")
    keys = Keys()
    return Capabilities(
        verifier=Prober(),
        lister=keys,
        issuer=keys,
        disabler=keys,
        revoker=keys,
        dropper=keys,
        locator=keys,
    )


def policy(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the user may do: list below its prefix, and its rights on the objects there.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/example-policies-s3.html, checked 2026-11-23.
    """
    bucket, prefix = str(settings["bucket"]), str(settings["prefix"])
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket"],
                "Resource": [f"arn:aws:s3:::{bucket}"],
                "Condition": {"StringLike": {"s3:prefix": [f"{prefix}*"]}},
            },
            {
                "Effect": "Allow",
                "Action": _OBJECTS[str(settings.get("rights") or "both")],
                "Resource": [f"arn:aws:s3:::{bucket}/{prefix}*"],
            },
        ],
    }


class Prober:
    """Asks STS who a key is and S3 whether it opens the prefix; each learns of a change at its own time."""

    def verify(self, access: Access, material: Material) -> Probe:
        """Accepted and rejected need both services: one that disagrees means that a change is still spreading."""
        key = aws_keys.signer(material)
        try:
            who, bucket = aws_keys.whoami(access, key), aws_keys.look_inside(access, key)
        except (VendorUnavailable, VendorThrottled, UnexpectedAnswer) as error:
            return unknown(_code(error), error.message, float(error.facts.get("wait_s", 0)))
        if who.code in aws_keys.REJECTED:
            if bucket.code in aws_keys.REJECTED:
                return rejected(who.code, "STS and S3 both refuse the key")
            return unknown(who.code, "STS refuses the key and S3 does not: a change is still spreading")
        if not who.ok:
            return unknown(who.code, "STS does not say whose key this is")
        if not who.data.get("Arn") or not who.data.get("Account"):
            return unknown("protocol", "STS answered without an identity")
        if bucket.code in aws_keys.REJECTED:
            return unknown(bucket.code, "STS accepts the key and S3 does not: a change is still spreading")
        known = accepted(str(who.data["Arn"]), tenant=str(who.data["Account"]))
        if bucket.ok:
            return dataclasses.replace(known, rights=frozenset({"s3:ListBucket"}))
        if bucket.code in aws_keys.KNOWN_TO_S3:
            return dataclasses.replace(
                known, code=bucket.code, detail="the key works, but it may not list its prefix"
            )
        return unknown(bucket.code, "S3 does not say whether the key opens the bucket")

    def bogus(self, material: Material) -> Material:
        """A key id nobody has: the real user is not touched."""
        del material
        letters = string.ascii_uppercase + "234567"
        return Material(
            {
                "access_key_id": "AKIA" + "".join(secrets.choice(letters) for _ in range(16)),
                "secret_access_key": "".join(
                    secrets.choice(string.ascii_letters + string.digits) for _ in range(40)
                ),
            },
            _PUBLIC,
        )


class Keys:
    """The keys of one consumer's user: list, make, switch off and on, delete; and the user itself."""

    def list(self, access: Access) -> tuple[Remote, ...]:
        """Both keys with their dates; none for a user that is not there yet. Last use lags by minutes at AWS."""
        user = aws_keys.user_name(access)
        with aws_keys.iam(access) as iam:
            try:
                keys = aws_keys.keys_of(iam, user)
            except NotFound:
                return ()
            return tuple(
                Remote(
                    Ref(id=str(key["AccessKeyId"])),
                    active=key.get("Status") == "Active",
                    created_at=aws_keys.instant(key.get("CreateDate")),
                    last_used_at=aws_keys.last_used(iam, str(key["AccessKeyId"])),
                )
                for key in keys
            )

    def locate(self, access: Access, material: Material) -> Ref:
        """The place of a key that a person brought: its own id, as `aws_keys.locate` says."""
        return aws_keys.locate(access, material)

    def issue(self, access: Access, slot: Ref) -> bytes:
        """A new key; the answer holds its secret, once. The user is made and limited first where it is missing, which may
        be done twice without harm. Raises: Conflict for a user that the hub did not make."""
        del slot
        user = aws_keys.user_name(access)
        with aws_keys.iam(access) as iam:
            _provide(iam, access, user)
            answer = iam.call("create_access_key", changes=True, UserName=user)
        if not answer.ok:
            raise aws_keys.refusal(answer, "iam:CreateAccessKey")
        return json.dumps(answer.data.get("AccessKey"), default=str, sort_keys=True).encode()

    def read(self, access: Access, receipt: bytes) -> Candidate:
        """The key inside a sealed answer; an answer about another user is not taken."""
        try:
            key = json.loads(receipt)
            key_id, secret, user = key["AccessKeyId"], key["SecretAccessKey"], key["UserName"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise UnexpectedAnswer(
                "the answer holds no access key", operation="iam:CreateAccessKey"
            ) from None
        whole = all(isinstance(text, str) and text for text in (key_id, secret))
        if not whole or user != aws_keys.user_name(access):
            raise UnexpectedAnswer("the answer is not about this user's key", operation="iam:CreateAccessKey")
        return Candidate(
            Ref(id=key_id), Material({"access_key_id": key_id, "secret_access_key": secret}, _PUBLIC)
        )

    def disable(self, access: Access, ref: Ref) -> None:
        """Inactive; a key that is gone is off as well."""
        self._switch(access, ref, "Inactive", gone_is_done=True)

    def enable(self, access: Access, ref: Ref) -> None:
        """Active again. Raises: NotFound when the key was deleted meanwhile."""
        self._switch(access, ref, "Active", gone_is_done=False)

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Deletes the key for good. The store is told whose it must be, so another user's is never touched."""
        del material
        with aws_keys.iam(access) as iam:
            answer = iam.call(
                "delete_access_key",
                changes=True,
                UserName=aws_keys.user_name(access),
                AccessKeyId=_id_of(ref),
            )
        if not answer.ok and answer.code != "NoSuchEntity":
            raise aws_keys.refusal(answer, "iam:DeleteAccessKey")

    def drop(self, access: Access) -> None:
        """Deletes the user with its keys and its policy, if the hub made it. Raises: Conflict for any other."""
        user = aws_keys.user_name(access)
        with aws_keys.iam(access) as iam:
            if not _is_ours(iam, user):
                return
            calls: list[tuple[str, dict[str, str]]] = [
                ("delete_access_key", {"AccessKeyId": str(key["AccessKeyId"])})
                for key in aws_keys.keys_of(iam, user)
            ]
            for operation, said in (
                *calls,
                ("delete_user_policy", {"PolicyName": POLICY}),
                ("delete_user", {}),
            ):
                answer = iam.call(operation, changes=True, UserName=user, **said)
                if not answer.ok and answer.code != "NoSuchEntity":
                    raise aws_keys.refusal(answer, f"iam:{operation}")

    def _switch(self, access: Access, ref: Ref, status: str, *, gone_is_done: bool) -> None:
        user, key_id = aws_keys.user_name(access), _id_of(ref)
        with aws_keys.iam(access) as iam:
            answer = iam.call(
                "update_access_key", changes=True, UserName=user, AccessKeyId=key_id, Status=status
            )
        if not answer.ok and not (gone_is_done and answer.code == "NoSuchEntity"):
            raise aws_keys.refusal(answer, "iam:UpdateAccessKey")


def _is_ours(iam: Client, user: str) -> bool:
    """Whether the user is there. Raises: Conflict for one that the hub did not make."""
    answer = iam.call("get_user", UserName=user)
    if answer.code == "NoSuchEntity":
        return False
    if not answer.ok:
        raise aws_keys.refusal(answer, "iam:GetUser")
    if (answer.data.get("User") or {}).get("Path") != PATH:
        raise Conflict(
            f"the store has a user {user} that this hub did not make",
            hint="Choose another user name; nothing was changed.",
        )
    return True


def _provide(iam: Client, access: Access, user: str) -> None:
    """The user, where it is missing, and its policy, always: nobody widens it from outside for long."""
    if not _is_ours(iam, user):
        answer = iam.call("create_user", changes=True, UserName=user, Path=PATH)
        if not answer.ok and answer.code != "EntityAlreadyExists":
            raise aws_keys.refusal(answer, "iam:CreateUser")
        if not answer.ok:
            _is_ours(iam, user)
    answer = iam.call(
        "put_user_policy",
        changes=True,
        UserName=user,
        PolicyName=POLICY,
        PolicyDocument=json.dumps(policy(access.settings)),
    )
    if not answer.ok:
        raise aws_keys.refusal(answer, "iam:PutUserPolicy")


def _id_of(ref: Ref) -> str:
    if not ref.id:
        raise InvalidInput(
            "the access key id is not known", hint="List the keys and name one.", field="access_key_id"
        )
    return ref.id


def _code(error: KeyturnError) -> str:
    return str(error.facts.get("code") or error.facts.get("network") or "unavailable")

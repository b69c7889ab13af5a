"""What a customer-managed bucket's access key can do: two at once, made by IAM, switched off before they are deleted."""

from __future__ import annotations

import dataclasses
import json
import secrets
import string
import time
from collections.abc import Mapping
from typing import Any

from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Candidate, Found, Remote, Sample
from keyturn.errors import (
    InvalidInput,
    KeyturnError,
    NotFound,
    UnexpectedAnswer,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.credential import Ref
from keyturn.model.moment import iso
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, accepted, rejected, unknown
from keyturn.transport import aws_keys
from keyturn.transport.aws import Client

_DAY_S = 86_400.0
_OLD_DAYS, _IDLE_DAYS = 90, 30
_PUBLIC = frozenset({"access_key_id"})


def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
    """The capabilities of `access_key`; whose key signs is decided call by call. Raises: NotFound."""
    del settings
    if method != "access_key":
        raise NotFound(f"s3-customer has no method {method!r}", hint="Use access_key.")
    keys = AccessKeys()
    return Capabilities(
        verifier=Prober(),
        lister=keys,
        issuer=keys,
        disabler=keys,
        revoker=keys,
        dropper=User(),
        discoverer=User(),
        locator=keys,
        reader=Objects(),
    )


class Prober:
    """Asks STS who a key is and S3 whether it opens the bucket; each learns of a change at its own time."""

    def verify(self, access: Access, material: Material) -> Probe:
        """Accepted and rejected need both services: one that disagrees means that a change is still spreading.

        AccessDenied is never a rejection: it is said to a key that AWS knows.
        """
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
                known, code=bucket.code, detail="the key works, but it may not list the bucket"
            )
        return unknown(bucket.code, "S3 does not say whether the key opens the bucket")

    def bogus(self, material: Material) -> Material:
        """A key id nobody has: IAM has no lock-out, and the real user is not touched."""
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


class Objects:
    """The objects in the bucket, as far as they are counted."""

    def read_sample(self, access: Access, material: Material, what: str, limit: int) -> Sample:
        """Lists objects whose names begin with the connection's prefix and `what`, and counts them."""
        count = aws_keys.count_inside(access, aws_keys.signer(material), what, limit)
        return Sample(count, f"{access.settings['bucket']}/{access.settings.get('prefix') or ''}{what}")


class AccessKeys:
    """The access keys of one IAM user: list, make, switch off and on, delete."""

    def list(self, access: Access) -> tuple[Remote, ...]:
        """Both keys with their dates. Last use is best effort at AWS and lags by minutes."""
        user = aws_keys.user_name(access)
        with aws_keys.iam(access) as iam:
            return tuple(
                Remote(
                    Ref(id=str(key["AccessKeyId"])),
                    active=key.get("Status") == "Active",
                    created_at=aws_keys.instant(key.get("CreateDate")),
                    last_used_at=aws_keys.last_used(iam, str(key["AccessKeyId"])),
                )
                for key in aws_keys.keys_of(iam, user)
            )

    def locate(self, access: Access, material: Material) -> Ref:
        """Its own id, as `aws_keys.locate` says."""
        return aws_keys.locate(access, material)

    def issue(self, access: Access, slot: Ref) -> bytes:
        """A new key; the answer holds its secret, once. Twice means two keys: a lost answer is looked up first."""
        del slot
        user = aws_keys.user_name(access)
        with aws_keys.iam(access) as iam:
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
                "IAM's answer holds no access key", operation="iam:CreateAccessKey"
            ) from None
        if not all(isinstance(text, str) and text for text in (key_id, secret)) or user != aws_keys.user_name(
            access
        ):
            raise UnexpectedAnswer(
                "IAM's answer is not about this user's key", operation="iam:CreateAccessKey"
            )
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
        """Deletes the key for good. A key of another user is never touched: IAM is told whose it must be."""
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

    def _switch(self, access: Access, ref: Ref, status: str, *, gone_is_done: bool) -> None:
        user, key_id = aws_keys.user_name(access), _id_of(ref)
        with aws_keys.iam(access) as iam:
            answer = iam.call(
                "update_access_key", changes=True, UserName=user, AccessKeyId=key_id, Status=status
            )
        if not answer.ok and not (gone_is_done and answer.code == "NoSuchEntity"):
            raise aws_keys.refusal(answer, "iam:UpdateAccessKey")


class User:
    """The IAM user itself, and its neighbours. Needs an administrator: no user may list or delete users by itself."""

    def drop(self, access: Access) -> None:
        """Deletes the user with the keys it has left.

        Policies, groups and console logins are not taken away: they may be the only record of what the user could do.
        Raises: Conflict, telling that they must go first; the keys are gone by then.
        """
        user = aws_keys.user_name(access)
        _need_admin(access)
        with aws_keys.iam(access) as iam:
            for operation, right, key in self._deletions(iam, user):
                answer = iam.call(operation, changes=True, UserName=user, **key)
                if not answer.ok and answer.code != "NoSuchEntity":
                    raise aws_keys.refusal(answer, right)

    def _deletions(self, iam: Client, user: str) -> list[tuple[str, str, dict[str, str]]]:
        try:
            keys = aws_keys.keys_of(iam, user)
        except NotFound:
            return []
        return [
            *(
                ("delete_access_key", "iam:DeleteAccessKey", {"AccessKeyId": str(k["AccessKeyId"])})
                for k in keys
            ),
            ("delete_user", "iam:DeleteUser", {}),
        ]

    def discover(self, access: Access) -> tuple[Found, ...]:
        """Every access key of every user, with what is wrong with it. Ends early, and says so, when time runs out."""
        _need_admin(access)
        found: list[Found] = []
        now = time.time()
        with aws_keys.iam(access) as iam:
            everybody = aws_keys.users(iam)
            for number, user in enumerate(everybody):
                if iam.left() < min(2.0, access.deadline_s / 4):
                    left_out = {
                        "users": len(everybody) - number,
                        "reason": "the time for one call is used up",
                    }
                    return (*found, Found("users not looked at", "incomplete", left_out))
                keys = aws_keys.keys_of(iam, str(user["UserName"]))
                found += [
                    _found(user, key, aws_keys.last_used(iam, str(key["AccessKeyId"])), keys, now)
                    for key in keys
                ]
        return tuple(found)


def _found(
    user: Mapping[str, Any],
    key: Mapping[str, Any],
    used_at: float | None,
    all_keys: list[dict[str, Any]],
    now: float,
) -> Found:
    created_at = aws_keys.instant(key.get("CreateDate")) or now
    is_active = key.get("Status") == "Active"
    age_days = int((now - created_at) / _DAY_S)
    idle_days = int((now - max(created_at, used_at or 0.0)) / _DAY_S)
    flags = {
        "older than 90 days": age_days > _OLD_DAYS,
        "one of two active keys": is_active and sum(k.get("Status") == "Active" for k in all_keys) > 1,
        "active but never used": is_active and used_at is None,
        "inactive for more than 30 days": not is_active and idle_days > _IDLE_DAYS,
        "its user has used a console password": bool(user.get("PasswordLastUsed")),
    }
    return Found(
        f"{user['UserName']}/{key['AccessKeyId']}",
        "access_key",
        {
            "user": str(user["UserName"]),
            "arn": str(user.get("Arn", "")),
            "status": str(key.get("Status", "")),
            "age_days": age_days,
            "last_used_at": iso(used_at),
            "flags": [words for words, holds in flags.items() if holds],
        },
    )


def _id_of(ref: Ref) -> str:
    if not ref.id:
        raise InvalidInput(
            "the access key id is not known", hint="List the keys and name one.", field="access_key_id"
        )
    return ref.id


def _need_admin(access: Access) -> None:
    if access.admin is None:
        raise InvalidInput(
            "this needs an administrator's key",
            hint="Add one to the connection.",
            field="admin_access_key_id",
        )


def _code(error: KeyturnError) -> str:
    return str(error.facts.get("code") or error.facts.get("network") or "unavailable")

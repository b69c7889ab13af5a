"""The IAM, STS and S3 calls that access keys of IAM users need, and what AWS's error codes mean for a credential."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from keyturn.contract.values import Access
from keyturn.errors import (
    CapReached,
    Conflict,
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    PermissionMissing,
    UnexpectedAnswer,
    VendorUnavailable,
)
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.transport import aws
from keyturn.transport.aws import CLOCK_SKEW, Answer, Client, Signer

# Unknown, deleted, inactive or not yet known key; the same at S3; wrong secret. Nothing else is a no.
# Source: IAM and S3 error references, and run against moto 5.2.5 with enforcement, checked 2026-11-23.
REJECTED = frozenset({"InvalidClientTokenId", "InvalidAccessKeyId", "SignatureDoesNotMatch"})

# S3 says these only to somebody it knows: the key works and the bucket is the problem.
KNOWN_TO_S3 = frozenset({"AccessDenied", "AllAccessDisabled", "NoSuchBucket"})


def signer(material: Material) -> Signer:
    """The key pair in a credential's or an administrator's material. Raises: InvalidInput naming the missing part."""
    prefix = "admin_" if "admin_access_key_id" in material else ""
    for name in (f"{prefix}access_key_id", f"{prefix}secret_access_key"):
        if not material.get(name):
            raise InvalidInput(f"the {name.replace('_', ' ')} is missing", hint="Enter it.", field=name)
    return Signer(material[f"{prefix}access_key_id"], material[f"{prefix}secret_access_key"])


def user_name(access: Access) -> str:
    """The IAM user whose keys are rotated. Raises: InvalidInput."""
    name = str(access.settings.get("user_name") or "")
    if not name:
        raise InvalidInput(
            "the IAM user name is missing", hint="Enter the user the key belongs to.", field="user_name"
        )
    return name


@contextmanager
def iam(access: Access) -> Iterator[Client]:
    """IAM, signed by the administrator where there is one, else by the key itself."""
    with _connect("iam", access, signer(access.actor)) as client:
        yield client


def whoami(access: Access, key: Signer) -> Answer:
    """STS GetCallerIdentity: needs no right at all, so a refusal is about the key."""
    with _connect("sts", access, key, share=0.5) as client:
        return client.call("get_caller_identity")


def look_inside(access: Access, key: Signer) -> Answer:
    """At most one object name under the prefix. A GET: a refused HEAD has no body and would hide the code."""
    settings = access.settings
    with _connect("s3", access, key, share=0.5) as client:
        prefix = str(settings.get("prefix") or "")
        return client.call("list_objects_v2", Bucket=str(settings["bucket"]), MaxKeys=1, Prefix=prefix)


def count_inside(access: Access, key: Signer, below: str, limit: int) -> int:
    """How many objects there are below the connection's prefix and `below`, at most `limit`; their names are dropped.

    Raises: CredentialRejected, PermissionMissing, NotFound (no such bucket) and what `refusal` says.
    Source: S3 API, ListObjectsV2: `MaxKeys` up to 1,000, `KeyCount`, checked 2026-11-23.
    """
    settings = access.settings
    bucket, prefix = str(settings["bucket"]), f"{settings.get('prefix') or ''}{below}"
    with _connect("s3", access, key) as client:
        answer = client.call("list_objects_v2", Bucket=bucket, MaxKeys=limit, Prefix=prefix)
    if not answer.ok and answer.code == "NoSuchBucket":
        raise NotFound(
            "S3 knows no such bucket", hint="Check the bucket's name and region.", code=answer.code
        )
    if not answer.ok:
        raise refusal(answer, "s3:ListBucket")
    return int(answer.data.get("KeyCount") or 0)


def keys_of(client: Client, user: str) -> list[dict[str, Any]]:
    """Every access key of `user`, all pages. Raises: NotFound (no such user), PermissionMissing, CredentialRejected."""
    return _listed(client, "list_access_keys", "AccessKeyMetadata", "iam:ListAccessKeys", UserName=user)


def locate(access: Access, material: Material) -> Ref:
    """The key's own id, once the user is seen to own it: a mistyped user name would be rotated instead.

    Raises: InvalidInput. Whoever may not list keys is believed; nothing can be rotated without that right anyway.
    """
    user, key_id = user_name(access), material["access_key_id"]
    try:
        with iam(access) as client:
            known = {str(key["AccessKeyId"]) for key in keys_of(client, user)}
    except PermissionMissing:
        known = {key_id}
    except NotFound:
        known = set()
    if key_id not in known:
        raise InvalidInput(f"the key is not one of {user}'s", hint="Check the user name.", field="user_name")
    return Ref(id=key_id)


def users(client: Client) -> list[dict[str, Any]]:
    """Every IAM user of the account, all pages."""
    return _listed(client, "list_users", "Users", "iam:ListUsers")


def last_used(client: Client, key_id: str) -> float | None:
    """When IAM last saw the key, in epoch seconds; None when never, or when the key is gone meanwhile."""
    answer = client.call("get_access_key_last_used", AccessKeyId=key_id)
    if answer.code == "NoSuchEntity":
        return None
    if not answer.ok:
        raise refusal(answer, "iam:GetAccessKeyLastUsed")
    return instant((answer.data.get("AccessKeyLastUsed") or {}).get("LastUsedDate"))


def instant(value: Any) -> float | None:
    """A date of the SDK as epoch seconds."""
    return value.timestamp() if isinstance(value, datetime) else None


def refusal(answer: Answer, right: str) -> KeyturnError:
    """What an error answer of IAM means for a call that needs `right`. In every case nothing was changed."""
    code = answer.code
    facts = {"code": code, "status": answer.status, "operation": right}
    if code in REJECTED:
        return CredentialRejected(
            f"AWS refuses the key that signs {right} ({code})",
            hint="It is deleted, inactive or mistyped.",
            **facts,
        )
    if code == "AccessDenied":
        return PermissionMissing(
            f"the signing key may not use {right}",
            hint="Allow the action on this user; a permission boundary or organization policy can deny it too.",
            right=right,
            **facts,
        )
    if code == "LimitExceeded":
        return CapReached(
            "the user has two access keys already",
            hint="Delete one that nobody uses, then try again.",
            **facts,
        )
    if code == "NoSuchEntity":
        return NotFound("AWS knows no such user or key", hint="Check the user name.", **facts)
    if code == "DeleteConflict":
        return Conflict(
            "the user still holds something that must be removed first",
            hint="Detach its policies, groups, login profile and MFA devices in the IAM console, then drop it again.",
            **facts,
        )
    if code == CLOCK_SKEW:
        return VendorUnavailable(
            "AWS refuses the time of this machine's clock",
            hint="Synchronize the clock; nothing was changed.",
            **facts,
        )
    return UnexpectedAnswer(
        f"AWS answered {right} with {code}", hint="The code is not a documented one.", **facts
    )


def _connect(service: str, access: Access, key: Signer, share: float = 1.0) -> Client:
    """`share` is the part of the deadline it may use: a probe asks two services."""
    return aws.connect(
        service,
        key,
        region=str(access.settings.get("region") or "us-east-1"),
        network=access.network,
        deadline_s=access.deadline_s * share,
        endpoint=str(access.settings.get(f"{service}_endpoint") or ""),
    )


def _listed(client: Client, operation: str, wanted: str, right: str, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for page in client.pages(operation, wanted, **params):
        if not page.ok:
            raise refusal(page, right)
        found += page.data[wanted]
    return found

"""What a BigQuery service account key can do: up to ten at once, made by IAM, switched off before they are deleted."""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from keyturn.connectors.bigquery import client
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Candidate, Found, Remote, Sample
from keyturn.errors import (
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    PermissionMissing,
    UnexpectedAnswer,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.keymaking import rsa
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, accepted, rejected, unknown

_DAY_S = 86_400.0
_OLD_DAYS, _SOON_DAYS = 90, 30
_DATASET = re.compile(r"[A-Za-z0-9_]{1,1024}")
# Letters, marks, numbers, connectors, dashes and spaces may stand in a table's name: no other sign of ASCII.
# Source: https://docs.cloud.google.com/bigquery/docs/tables#table_naming (checked 2026-11-29).
_TABLE = re.compile(r"[^\x00-\x1f!-,./:-@\[-^`{-\x7f]{1,1024}")


def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
    """The capabilities of `service_account`; whose key signs is decided call by call. Raises: NotFound."""
    del settings
    if method != "service_account":
        raise NotFound(f"bigquery has no method {method!r} in code", hint="Use service_account.")
    keys, account = Keys(), Account()
    return Capabilities(
        verifier=Prober(),
        lister=keys,
        issuer=keys,
        disabler=keys,
        revoker=keys,
        dropper=account,
        discoverer=account,
        locator=keys,
        reader=Rows(),
    )


def extend(method: str, settings: Mapping[str, Any], declared: Capabilities) -> Capabilities:
    """`oauth` is declared as a whole."""
    del method, settings
    return declared


class Prober:
    """Trades a fresh assertion for a token and asks BigQuery who that is."""

    def verify(self, access: Access, material: Material) -> Probe:
        """Only the refused signature is a rejection; a new key is refused in the same words until it is known everywhere.

        A disabled service account is unknown: its keys work again when it is enabled. A missing role is told to somebody
        whom Google knows, so the key works.
        """
        key = client.key_of(material)
        session = client.bigquery(access, key)
        try:
            session.authenticate()
            seen = client.whoami(access, session)
        except CredentialRejected as error:
            return rejected(str(error.facts["code"]), "Google refuses the key's signature")
        except (VendorUnavailable, VendorThrottled, UnexpectedAnswer, PermissionMissing, NotFound) as error:
            return unknown(_code(error), error.message, float(error.facts.get("wait_s", 0)))
        known = accepted(seen.email, tenant=seen.project, rights=seen.rights)
        if not seen.code:
            return known
        return dataclasses.replace(
            known, code=seen.code, detail="the key works, but the service account lacks a right in BigQuery"
        )

    def bogus(self, material: Material) -> Material:
        """A throwaway key with an id nobody has, under the same account: refused as a deleted one is, and nobody is locked out."""
        found = json.loads(material["key_file"])
        pem = rsa.generate().private_pem.reveal()
        return Material(
            {"key_file": json.dumps({**found, "private_key_id": secrets.token_hex(20), "private_key": pem})}
        )


class Rows:
    """The rows of a table, as far as they are counted."""

    def read_sample(self, access: Access, material: Material, what: str, limit: int) -> Sample:
        """Counts rows of `dataset.table`, spelled exactly; of `table` where the connection names a dataset."""
        first, dot, rest = what.partition(".")
        dataset, table = (first, rest) if dot else (str(access.settings.get("dataset") or ""), what)
        if not _DATASET.fullmatch(dataset) or not _TABLE.fullmatch(table):
            raise InvalidInput(
                "a table is named as DATASET.TABLE", hint="For example sales.orders.", field="what"
            )
        session = client.bigquery(access, client.key_of(material))
        return Sample(client.count_rows(access, session, dataset, table, limit), f"{dataset}.{table}")


class Keys:
    """The keys of one service account: list, make, switch off and on, delete."""

    def list(self, access: Access) -> tuple[Remote, ...]:
        """The keys that people and programs made. IAM does not tell when one was last used."""
        now = time.time()
        return tuple(
            Remote(
                Ref(id=client.key_id(key)),
                active=not key.get("disabled") and not _has_expired(key, now),
                created_at=client.instant(key.get("validAfterTime")),
            )
            for key in client.keys_of(access, client.iam(access), client.email_of(access))
        )

    def locate(self, access: Access, material: Material) -> Ref:
        """The key's own id, once the service account is seen to have it. Raises: InvalidInput.

        Whoever may not list keys is believed; nothing can be rotated without that right anyway. So is a key that is not
        known everywhere yet: its id is in the file, and its test decides.
        """
        key = client.key_of(material)
        if access.admin is None and access.acting is None:
            access = dataclasses.replace(access, acting=material)
        if key.email != client.email_of(access):
            raise InvalidInput(
                "the key file belongs to another service account",
                hint="Enter the client_email of the file.",
                field="service_account",
            )
        try:
            known = {remote.ref.id for remote in self.list(access)}
        except (PermissionMissing, CredentialRejected):
            known = {key.key_id}
        if key.key_id not in known:
            raise InvalidInput(
                "the service account has no such key", hint="Check the key file.", field="key_file"
            )
        return Ref(id=key.key_id)

    def issue(self, access: Access, slot: Ref) -> bytes:
        """A new key; the answer holds its private part, once. Twice means two keys: a lost answer is looked up first."""
        del slot
        return client.create_key(access)

    def read(self, access: Access, receipt: bytes) -> Candidate:
        """The key file inside a sealed answer; an answer about another account is not taken."""
        key_id, text = client.read_key(access, receipt)
        return Candidate(Ref(id=key_id), Material({"key_file": text}))

    def disable(self, access: Access, ref: Ref) -> None:
        """Off: no new token is given. Tokens in hand run out within the hour. A key that is gone is off as well."""
        found = client.switch_key(access, _id_of(ref), "disable")
        if found is not None and found.status != 404:
            raise client.refused(found, "iam.serviceAccountKeys.disable")

    def enable(self, access: Access, ref: Ref) -> None:
        """On again. Raises: NotFound when the key was deleted meanwhile."""
        found = client.switch_key(access, _id_of(ref), "enable")
        if found is not None:
            raise client.refused(found, "iam.serviceAccountKeys.enable")

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Deletes the key for good; its account is named in the call, so a key of another one is never touched."""
        del material
        found = client.delete_key(access, _id_of(ref))
        if found is not None and found.status != 404:
            raise client.refused(found, "iam.serviceAccountKeys.delete")


class Account:
    """The service account itself, and its neighbours."""

    def drop(self, access: Access) -> None:
        """Turns the service account off, on disconnect and only when asked. Needs an administrator.

        It is not deleted: off can be undone, and a deleted account's role bindings do not come back with its name.
        """
        if access.admin is None:
            raise InvalidInput(
                "this needs an administrator's key", hint="Add one to the connection.", field="admin_key_file"
            )
        found = client.disable_account(access)
        if found is not None and found.status != 404:
            raise client.refused(found, "iam.serviceAccounts.disable")

    def discover(self, access: Access) -> tuple[Found, ...]:
        """Every key of every service account of the project, with what is wrong with it; without an administrator the own ones.

        Ends early, and says so, when time runs out.
        """
        session, now = client.iam(access), time.time()
        own = {"email": client.email_of(access)}
        everybody = client.accounts(access, session) if access.admin is not None else [own]
        found: list[Found] = []
        for number, account in enumerate(everybody):
            if session.left() < min(2.0, access.deadline_s / 4):
                left_out = {
                    "service_accounts": len(everybody) - number,
                    "reason": "the time for one call is used up",
                }
                return (*found, Found("service accounts not looked at", "incomplete", left_out))
            keys = client.keys_of(access, session, str(account["email"]))
            found += [_found(account, key, keys, now) for key in keys]
        return tuple(found)


def _found(
    account: Mapping[str, Any], key: Mapping[str, Any], keys: list[Mapping[str, Any]], now: float
) -> Found:
    created_at, ends_at = (
        client.instant(key.get("validAfterTime")),
        client.instant(key.get("validBeforeTime")),
    )
    age_days = int((now - (created_at or now)) / _DAY_S)
    off = bool(key.get("disabled"))
    flags = {
        "older than 90 days": age_days > _OLD_DAYS,
        "one of several keys that are on": not off and sum(not each.get("disabled") for each in keys) > 1,
        "disabled and never deleted": off,
        "switched off by Google": key.get("disableReason")
        in {
            "SERVICE_ACCOUNT_KEY_DISABLE_REASON_EXPOSED",
            "SERVICE_ACCOUNT_KEY_DISABLE_REASON_COMPROMISE_DETECTED",
        },
        "uploaded from outside": key.get("keyOrigin") == "USER_PROVIDED",
        "runs out within 30 days": ends_at is not None and ends_at - now < _SOON_DAYS * _DAY_S,
        "its service account is disabled": bool(account.get("disabled")),
    }
    return Found(
        f"{account['email']}/{client.key_id(key)}",
        "service_account_key",
        {
            "service_account": str(account["email"]),
            "unique_id": str(account.get("uniqueId", "")),
            "age_days": age_days,
            "flags": [words for words, holds in flags.items() if holds],
        },
    )


def _has_expired(key: Mapping[str, Any], now: float) -> bool:
    """By a policy of the organization; most keys never do."""
    ends_at = client.instant(key.get("validBeforeTime"))
    return ends_at is not None and ends_at <= now


def _id_of(ref: Ref) -> str:
    if not ref.id:
        raise InvalidInput("the key's id is not known", hint="List the keys and name one.", field="key_file")
    return ref.id


def _code(error: KeyturnError) -> str:
    return str(error.facts.get("code") or error.facts.get("network") or "unavailable")

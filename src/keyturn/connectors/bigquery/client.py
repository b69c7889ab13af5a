"""The key file, and the IAM and BigQuery calls that rotating it needs, written exactly as Google documents them."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from keyturn.contract.values import Access
from keyturn.errors import (
    CapReached,
    InvalidInput,
    KeyturnError,
    NotFound,
    PermissionMissing,
    UnexpectedAnswer,
)
from keyturn.keymaking import rsa
from keyturn.model.secret import Material
from keyturn.transport import google
from keyturn.transport.google import Refusal, Session

MOST_KEYS = 10
IAM, BIGQUERY = "https://iam.googleapis.com", "https://bigquery.googleapis.com"
JOBS, DATASET, GET_DATA = "bigquery.jobs.create", "bigquery.datasets.get", "bigquery.tables.getData"
_KEYS = "iam.serviceAccountKeys"
_HOME = re.compile(r"@([a-z][a-z0-9-]{4,28}[a-z0-9])\.iam\.gserviceaccount\.com$")
_KEY_ID = re.compile(r"^[A-Za-z0-9_-]{8,128}$")
_PAGES = 20


@dataclass(frozen=True)
class KeyFile:
    """What a JSON key file says, its key readable."""

    email: str
    key_id: str
    pair: rsa.KeyPair = field(repr=False)

    def signer(self) -> google.Signer:
        """The key as transport takes it."""
        return google.Signer(self.email, self.key_id, self.pair.sign)


@dataclass(frozen=True)
class Seen:
    """What BigQuery said of a key: who asked, in which project, with what right; `code` where a right was missing."""

    email: str
    project: str
    rights: frozenset[str] = frozenset()
    code: str = ""


def key_of(material: Material) -> KeyFile:
    """The key file in a credential's or an administrator's material. Raises: InvalidInput naming its field."""
    name = "admin_key_file" if "admin_key_file" in material else "key_file"
    if not material.get(name):
        raise InvalidInput("the key file is missing", hint="Give the JSON file.", field=name)
    return read_key_file(material[name], field=name)


def read_key_file(text: str, *, field: str = "key_file") -> KeyFile:
    """The key in the JSON text that the console or IAM hands out. Its addresses are not believed: they could be anybody's.

    Raises: InvalidInput naming `field`.
    """
    hint = "Give the whole JSON file that Google made with the key."
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput("the key file is not JSON", hint=hint, field=field) from None
    if not isinstance(found, dict) or found.get("type") != "service_account":
        raise InvalidInput("the key file is not a service account's", hint=hint, field=field)
    if found.get("universe_domain", "googleapis.com") != "googleapis.com":
        raise InvalidInput(
            "the key file belongs to another cloud than Google's public one",
            hint="Other universe domains are not supported.",
            field=field,
        )
    parts = [found.get(name) for name in ("client_email", "private_key_id", "private_key")]
    if not all(isinstance(part, str) and part for part in parts):
        raise InvalidInput(
            "the key file lacks client_email, private_key_id or private_key", hint=hint, field=field
        )
    email, key_id, pem = (str(part) for part in parts)
    if not _KEY_ID.match(key_id) or "@" not in email:
        raise InvalidInput(
            "the key file's private_key_id or client_email is malformed", hint=hint, field=field
        )
    return KeyFile(email, key_id, rsa.load(pem, field=field))


def email_of(access: Access) -> str:
    """The service account whose keys are rotated. Raises: InvalidInput."""
    email = str(access.settings.get("service_account") or "")
    if not email:
        raise InvalidInput(
            "the service account is missing", hint="Enter its e-mail.", field="service_account"
        )
    return email


def project_of(access: Access) -> str:
    """The project whose BigQuery is used."""
    return str(access.settings.get("project_id") or "")


def iam(access: Access) -> Session:
    """IAM, signed by the administrator where there is one, else by the key itself."""
    return _session(access, key_of(access.actor), google.CLOUD)


def bigquery(access: Access, key: KeyFile) -> Session:
    """BigQuery and nothing else, signed by the key under test."""
    return _session(access, key, google.BIGQUERY)


def whoami(access: Access, session: Session) -> Seen:
    """Asks BigQuery who runs the query, in the connection's own project; reads no table and costs nothing.

    Raises what transport raises. A refusal for lack of a right is an answer: it is said to an account that Google knows.
    """
    project, asked = project_of(access), session.email
    url = f"{_bigquery_url(access)}/projects/{google.segment(project)}/queries"
    body: dict[str, Any] = {
        "query": "SELECT SESSION_USER()",
        "useLegacySql": False,
        "maxResults": 1,
        "timeoutMs": 10_000,
    }
    if access.settings.get("location"):
        body["location"] = str(access.settings["location"])
    found = session.call("POST", url, body)
    if isinstance(found, Refusal):
        error = google.error_of(found, JOBS, "bigquery.googleapis.com")
        if isinstance(error, PermissionMissing):
            return Seen(asked, project, code=found.code or "PERMISSION_DENIED")
        raise error
    return _with_dataset(access, session, _read_who(found))


def count_rows(access: Access, session: Session, dataset: str, table: str, limit: int) -> int:
    """How many rows a table shows, at most `limit`. A view has none to list, which Google says with 400.

    Source: BigQuery REST, tabledata.list; an empty table's answer has no `rows`; checked 2026-11-29.
    """
    path = "/".join(
        f"{kind}/{google.segment(name)}"
        for kind, name in (("projects", project_of(access)), ("datasets", dataset), ("tables", table))
    )
    found = session.call("GET", f"{_bigquery_url(access)}/{path}/data?{urlencode({'maxResults': limit})}")
    if isinstance(found, Refusal):
        if found.status == 404:
            raise NotFound(
                f"there is no table {dataset}.{table} in the project",
                hint="Spell it exactly: DATASET.TABLE.",
                field="what",
                code=found.code,
            )
        if found.status == 400:
            raise InvalidInput(
                f"{dataset}.{table} cannot be listed", hint="Name a table, not a view.", field="what"
            )
        raise google.error_of(found, GET_DATA, "bigquery.googleapis.com")
    rows = found.get("rows", [])
    if found.get("kind") != "bigquery#tableDataList" or not isinstance(rows, list):
        raise UnexpectedAnswer("BigQuery's answer lists no rows", operation="bigquery.tabledata.list")
    return min(len(rows), limit)


def keys_of(access: Access, session: Session, email: str) -> list[Mapping[str, Any]]:
    """The keys that people and programs made; those that Google manages for itself are never asked for."""
    query = urlencode({"keyTypes": "USER_MANAGED"})
    found = session.call("GET", f"{_account_url(access, email)}/keys?{query}")
    if isinstance(found, Refusal):
        raise google.error_of(found, f"{_KEYS}.list", "iam.googleapis.com")
    keys = found.get("keys", [])
    if not isinstance(keys, list) or not all(isinstance(key, dict) and key_id(key) for key in keys):
        raise UnexpectedAnswer("IAM listed a key without a name", operation=f"{_KEYS}.list")
    return [key for key in keys if key.get("keyType", "USER_MANAGED") == "USER_MANAGED"]


def create_key(access: Access) -> bytes:
    """IAM's raw answer, which holds the private key, once. Raises: CapReached, PermissionMissing, OutcomeUnknown."""
    session, email = iam(access), email_of(access)
    body = {"privateKeyType": "TYPE_GOOGLE_CREDENTIALS_FILE", "keyAlgorithm": "KEY_ALG_RSA_2048"}
    answer = session.send("POST", f"{_account_url(access, email)}/keys", body, changes=True)
    if answer.status == 200:
        return answer.body
    refused = google.refusal(answer, changes=True)
    if refused.is_full or refused.code == "FAILED_PRECONDITION":
        raise _why_not(access, session, email, refused)
    raise google.error_of(refused, f"{_KEYS}.create", "iam.googleapis.com")


def read_key(access: Access, receipt: bytes) -> tuple[str, str]:
    """Id and file text of the key inside a sealed answer. Raises: UnexpectedAnswer without quoting it."""
    operation = f"{_KEYS}.create"
    try:
        answer = json.loads(receipt)
        text = base64.b64decode(answer["privateKeyData"], validate=True).decode()
        name = key_id(answer)
        found = read_key_file(text)
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error, InvalidInput):
        raise UnexpectedAnswer("IAM's answer holds no key file", operation=operation) from None
    if found.key_id != name or found.email != email_of(access):
        raise UnexpectedAnswer("IAM's answer is not about this service account's key", operation=operation)
    return name, text


def switch_key(access: Access, name: str, verb: str) -> Refusal | None:
    """Turns a key `disable` or `enable`; None when it is so now."""
    return _change(access, "POST", f"/keys/{google.segment(name)}:{verb}", {})


def delete_key(access: Access, name: str) -> Refusal | None:
    """Deletes a key for good; None when that is done."""
    return _change(access, "DELETE", f"/keys/{google.segment(name)}", None)


def disable_account(access: Access) -> Refusal | None:
    """Turns the whole service account off; what was issued to it stops as well."""
    return _change(access, "POST", ":disable", {})


def refused(found: Refusal, right: str) -> KeyturnError:
    """The error that a refusal of IAM is."""
    return google.error_of(found, right, "iam.googleapis.com")


def accounts(access: Access, session: Session) -> list[Mapping[str, Any]]:
    """Every service account of the rotated one's own project, all pages."""
    base = f"{_iam_url(access)}/projects/{_home(email_of(access)) or project_of(access)}/serviceAccounts"
    found: list[Mapping[str, Any]] = []
    page = ""
    for _ in range(_PAGES):
        query = {"pageSize": "100", **({"pageToken": page} if page else {})}
        answer = session.call("GET", f"{base}?{urlencode(query)}")
        if isinstance(answer, Refusal):
            raise refused(answer, "iam.serviceAccounts.list")
        listed = answer.get("accounts", [])
        found += [each for each in listed if isinstance(each, dict) and each.get("email")]
        page = str(answer.get("nextPageToken") or "")
        if not page:
            return found
    raise UnexpectedAnswer(
        "IAM's list of service accounts does not end", operation="iam.serviceAccounts.list"
    )


def key_id(key: Mapping[str, Any]) -> str:
    """The last part of a key's resource name; empty when that is not one."""
    name = str(key.get("name", "")).rpartition("/keys/")[2]
    return name if _KEY_ID.match(name) else ""


def instant(value: Any) -> float | None:
    """An RFC 3339 time as epoch seconds; the year 9999 stands for never."""
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return at.timestamp() if at.tzinfo is not None and at.year < 9999 else None


def _session(access: Access, key: KeyFile, scope: str) -> Session:
    url = str(access.settings.get("token_url") or "")
    return Session(key.signer(), scope, access.network, access.deadline_s, url)


def _change(access: Access, method: str, tail: str, body: Mapping[str, Any] | None) -> Refusal | None:
    url = _account_url(access, email_of(access)) + tail
    found = iam(access).call(method, url, body, changes=True)
    return found if isinstance(found, Refusal) else None


def _why_not(access: Access, session: Session, email: str, refused_: Refusal) -> KeyturnError:
    """Google answers a full account and a forbidding policy alike; the details or the list tell them apart."""
    if not refused_.is_full and not refused_.violation:
        refused_full = len(keys_of(access, session, email)) >= MOST_KEYS
    else:
        refused_full = refused_.is_full
    facts = {"code": refused_.code, "status": refused_.status, "operation": f"{_KEYS}.create"}
    if refused_full:
        return CapReached(
            f"the service account has {MOST_KEYS} keys already",
            hint="Delete one that nobody uses, then try again.",
            **facts,
        )
    right = refused_.violation or "constraints/iam.disableServiceAccountKeyCreation"
    return PermissionMissing(
        "an organization policy forbids new keys for this service account",
        hint="Ask for an exception of the policy for this project.",
        right=right,
        **facts,
    )


def _read_who(found: Mapping[str, Any]) -> Seen:
    try:
        if found["jobComplete"] is not True:
            raise UnexpectedAnswer("BigQuery did not finish in time", operation="bigquery.jobs.query")
        (row,) = found["rows"]
        (cell,) = row["f"]
        email, project = cell["v"], found["jobReference"]["projectId"]
    except (KeyError, TypeError, ValueError):
        raise UnexpectedAnswer("BigQuery does not say who asked", operation="bigquery.jobs.query") from None
    if not isinstance(email, str) or "@" not in email or not isinstance(project, str) or not project:
        raise UnexpectedAnswer("BigQuery does not say who asked", operation="bigquery.jobs.query")
    return Seen(email, project, frozenset({JOBS}))


def _with_dataset(access: Access, session: Session, seen: Seen) -> Seen:
    """The right to the connection's dataset, where it names one."""
    dataset = str(access.settings.get("dataset") or "")
    if not dataset:
        return seen
    url = f"{_bigquery_url(access)}/projects/{google.segment(project_of(access))}/datasets/{google.segment(dataset)}"
    found = session.call("GET", url)
    if not isinstance(found, Refusal):
        return Seen(seen.email, seen.project, seen.rights | {DATASET})
    error = google.error_of(found, DATASET, "bigquery.googleapis.com")
    if isinstance(error, PermissionMissing | NotFound):
        return Seen(seen.email, seen.project, seen.rights, found.code or str(found.status))
    raise error


def _home(email: str) -> str:
    """The project that owns the account, as its address tells; Google's own default accounts do not tell it."""
    found = _HOME.search(email)
    return found.group(1) if found else ""


def _account_url(access: Access, email: str) -> str:
    return f"{_iam_url(access)}/projects/{_home(email) or '-'}/serviceAccounts/{google.segment(email)}"


def _iam_url(access: Access) -> str:
    return f"{str(access.settings.get('iam_url') or IAM).rstrip('/')}/v1"


def _bigquery_url(access: Access) -> str:
    return f"{str(access.settings.get('bigquery_url') or BIGQUERY).rstrip('/')}/bigquery/v2"

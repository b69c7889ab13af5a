"""Everything that must never be seen: what the lab made, what people typed, what the hub made itself."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.contract.manifest import Method
from keyturn.model.credential import Connection
from keyturn.model.secret import Material
from keyturn.operations import connections
from keyturn_lab import guard
from tests.compliance.lab import Lab

_PUBLIC_KINDS = ("client_id",)  # the lab marks ids of its apps too; those are no secrets
_SECRET_NAMES = ("secret", "token", "password", "key", "verifier", "callback", "passphrase")
_PUBLIC_NAMES = (
    "access_key_id",
    "accesskeyid",
    "key_id",
    "key_name",
    "token_type",
    "public_key",
    "registration_client_uri",
)

_DIGEST = "digest"  # of a key we issued: what the hub keeps instead of the key, and looks it up by

Named = tuple[str, str]


def of_lab(lab: Lab) -> Iterator[Named]:
    """What this process's lab made, and what its parts in other processes hold."""
    for minted in guard.minted():
        if not minted.kind.endswith(_PUBLIC_KINDS):
            yield f"lab {minted.kind}", minted.value
    if "aws" in vars(lab):
        for key in (lab.aws.account.rotator, lab.aws.account.app, *lab.app_keys):
            yield "lab aws key", key.secret_access_key
        for record in (*lab.aws.alive(), *lab.aws.records()):
            yield "lab aws key", record["value"]
    if "oidc" in vars(lab):
        yield "lab initial access token", lab.oidc.initial_access_token
        for client in (lab.oidc.web, lab.oidc.service, lab.oidc.machine):
            yield "lab oidc client", client.client_secret
            yield "lab oidc registration", client.registration_access_token or ""
        for each in lab.oidc.alive():
            if each["kind"] != "Grant":
                yield f"lab oidc {each['kind']}", each["value"]


def of_hub(hub: Keyturn) -> Iterator[Named]:
    """Everything in the vault, opened: versions, administrators, receipts, tasks, what was revealed, the roots."""
    every: dict[str, Connection] = {connection.id: connection for connection in connections.every(hub)}
    rows = [str(row[0]) for row in hub.store.read(lambda tx: tx.all("SELECT id FROM sealed"))]
    for row in rows:
        kind, _, rest = row.partition(":")
        plain = hub.secrets.get(row)
        if kind in {"version", "admin"}:
            material = Material.from_bytes(plain)
            method = _method_of(hub, every.get(rest)) if kind == "admin" else None
            for name, value in material.items():
                if name not in material.public and name != _DIGEST and _is_secret(method, name):
                    yield f"a value of {kind}", value
        else:
            yield from ((f"{kind} row", value) for value in _texts(plain))


def _method_of(hub: Keyturn, connection: Connection | None) -> Method | None:
    return hub.catalog.row_of(connection).method if connection is not None else None


def _is_secret(method: Method | None, name: str) -> bool:
    """What the form says; whatever it does not know is one."""
    field = (method.field(name) or method.field(f"admin_{name}")) if method is not None else None
    return field is None or field.secret


def _texts(plain: bytes) -> Iterator[str]:
    """The secret texts in a raw answer or submission: JSON fields by name, else the whole."""
    try:
        data = json.loads(plain)
    except ValueError:
        try:
            yield plain.decode()
        except UnicodeDecodeError:  # raw key bytes: as a log or a table would write them
            yield from (plain.hex(), base64.b64encode(plain).decode())
        return
    if not isinstance(data, dict | list):
        yield str(data)
        return
    yield from _leaves(data)


def _leaves(data: Any, name: str = "") -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _leaves(value, str(key).lower())
    elif isinstance(data, list):
        for value in data:
            yield from _leaves(value, name)
    elif isinstance(data, str) and any(word in name for word in _SECRET_NAMES) and name not in _PUBLIC_NAMES:
        yield data


def of_key(path: Path) -> Iterator[Named]:
    """The master keys in a key file, line by line."""
    for line in path.read_text().splitlines():
        for word in line.replace('"', " ").replace(":", " ").replace(",", " ").split():
            if len(word) >= 32:
                yield "a master key", word


def of_state(path: Path) -> Iterator[Named]:
    """What a lab that runs beside us wrote down for its own callers."""
    for value in _leaves(json.loads(path.read_text())):
        yield "a lab's state", value

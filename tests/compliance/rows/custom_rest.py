"""Custom REST: OAuth against a certified server; a password and keys of a system that only its definition describes.

The definitions of the latter are what `keyturn definitions new` writes from answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from keyturn.contract.values import Access
from keyturn.model.run import Task
from keyturn.model.secret import Material
from keyturn.operations import drafting
from keyturn.testing import Reads
from keyturn_lab.vendors.notes import people
from tests.compliance.case import (
    DEFINITIONS,
    NETWORK,
    Case,
    granted,
    granted_elsewhere,
    spoiled,
    undone,
    url_of,
)
from tests.compliance.lab import Lab


def oidc_client(lab: Lab) -> Case:
    """Client credentials with dynamic registration: each rotation is a client of its own."""
    op = lab.oidc
    made = op.register(f"row-{lab.number()}")
    values = {
        "issuer": op.url,
        "client_id": made.client_id,
        "client_secret": made.client_secret,
        "registration_access_token": made.registration_access_token or "",
        "initial_access_token": op.initial_access_token,
    }
    known = {each["id"] for each in op.alive()}

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        op.arm({"issue": "register", "revoke": "unregister"}[call], "answer_lost")
        yield access

    def alive() -> set[str]:
        now = {each["id"] for each in op.alive() if each["kind"] == "client"}
        return {each for each in now if each not in known or each == made.client_id}

    return Case(
        "custom-rest",
        "oauth2",
        values,
        alive=alive,
        of=lambda material: material["client_id"],
        wrong_values={**values, "client_secret": "ktlab-not-the-secret"},
        definition=(DEFINITIONS / "oidc-client.yaml").read_text(),
        wrong=lambda good: [
            good.replacing(client_secret="ktlab-not-the-secret"),
            good.replacing(client_id="lab-nobody"),
        ],
        codes=frozenset({"401 invalid_client", "invalid_client", "client_invalid", "401"}),
        aim=lambda aim: {"issuer": aim.url},
        reads=Reads("records", 3, ("everything",), more={"": 3}),
        throttled=lambda: undone(lambda: op.arm("me", "throttle"), lambda: None),
        lost=lost,
        nameless="each rotation makes a new client, and the provider names no owner",
    )


def oidc_grant(lab: Lab) -> Case:
    """A person's consent with rotated refresh tokens."""
    op = lab.oidc
    login = f"ana{lab.number()}@acme"
    values = {"issuer": op.url, "client_id": op.web.client_id, "client_secret": op.web.client_secret}

    def consent(url: str) -> str:
        return str(op.consent(url, login))

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        op.arm({"revoke": "revocation"}.get(call, "token"), "answer_lost")
        yield access

    def alive() -> set[str]:
        return {
            each["value"] for each in op.alive() if each["owner"] == login and each["kind"] == "RefreshToken"
        }

    case = Case(
        "custom-rest",
        "oauth2",
        values,
        alive=alive,
        of=lambda material: material["refresh_token"],
        wrong_values={**values, "client_secret": "ktlab-not-the-secret"},
        definition=(DEFINITIONS / "oidc-grant.yaml").read_text(),
        person=lambda task: {"callback_url": consent(url_of(task))} if task.kind == "consent" else {},
        wrong=lambda good: [good.replacing(access_token="ktlab-wrong-token")],
        codes=frozenset({"401", "invalid_token", "401 invalid_token", "credential_invalid"}),
        aim=lambda aim: {"issuer": aim.url},
        reads=Reads("records", 3, ("everything",), more={"": 3}),
        throttled=lambda: undone(lambda: op.arm("me", "throttle"), lambda: None),
        lost=lost,
        consent=consent,
    )
    case.first = lambda: granted(case, consent)
    case.other_consent = lambda url: str(op.consent(url, "eve@elsewhere"))
    case.elsewhere = partial(granted_elsewhere, case, case.other_consent)
    return case


ACCOUNT, ELSEWHERE = "acme", "globex"
_ASKS = {"test_path": "/me", "who": "$.account", "settles": "1"}
_READS = {"sample_path": "/notes", "sample_items": "$.notes", "sample_limit": "per_page"}
PUBLIC = {
    "auth": "none",
    "test_path": "/status",
    "always": "$.service",
    "sample_path": "/incidents",
    "sample_items": "$.incidents",
    "sample_limit": "per_page",
}
PASSWORD = {
    **_ASKS,
    **_READS,
    "auth": "basic",
    "together": "no",
    "how_made": "Open the users' page of Acme Notes, set a new password for the user and copy it",
    "how_ended": "Open the users' page of Acme Notes and block the user",
}
KEYS = {
    **_ASKS,
    **_READS,
    "auth": "header",
    "carrier": "X-Api-Key",
    "made_by": "hub",
    "together": "yes",
    "create_path": "/keys",
    "value": "$.secret",
    "handle": "$.id",
    "delete_path": "/keys/{id}",
    "list_path": "/keys",
    "list_items": "$.keys",
    "list_id": "$.id",
    "list_name": "$.name",
}


def drafted(url: str, said: dict[str, str]) -> str:
    """The definition that the wizard writes for Acme Notes; its address is made a setting, for a liar's to take its place."""
    text, _ = drafting.draft({"title": "Acme Notes", "address": f"{url}/v1", **said}, NETWORK)
    setting = f"inputs: {{address: {{title: Address, help: Without a path., default: '{url}'}}}}"
    return text.replace(f"base_url: {url}/v1", f"{setting}\nbase_url: ${{input.address}}/v1")


def notes_status(lab: Lab) -> Case:
    """None: a public address. Nothing is made, refused or ended; it is tested and read."""
    there = lab.vendor("notes")
    there.post("reset", {})
    return Case(
        "custom-rest",
        "none",
        {},
        alive=set,
        of=lambda _material: "",
        wrong_values={},
        definition=drafted(there.url, PUBLIC),
        aim=lambda aim: {"address": aim.url},
        reads=Reads("list", 3, ("everything",), more={"": 3}, spoil=spoiled(there, "incidents")),
        throttled=lambda: undone(lambda: there.arm("*", "throttle"), there.disarm),
        nameless="a public address knows nobody",
    )


def notes_password(lab: Lab) -> Case:
    """Basic: one user, whose new password ends the old one; a person sets it."""
    there = lab.vendor("notes")
    there.post("reset", {})
    values = {"user": f"robot@{ACCOUNT}", "password": people.set_password(there.url, ACCOUNT)}

    def person(task: Task) -> dict[str, str]:
        if task.kind == "supply":
            return {"user": f"robot@{ACCOUNT}", "password": people.set_password(there.url, ACCOUNT)}
        people.block(there.url, ACCOUNT)
        return {}

    def elsewhere(access: Access) -> AbstractContextManager[tuple[Access, Material]]:
        other = {"user": f"robot@{ELSEWHERE}", "password": people.set_password(there.url, ELSEWHERE)}
        return nullcontext((access, Material(other, frozenset({"user"}))))

    return Case(
        "custom-rest",
        "basic",
        values,
        alive=lambda: _alive(lab, "password"),
        of=lambda material: material["password"],
        wrong_values={**values, "password": "ktlab-not-the-password"},
        definition=drafted(there.url, PASSWORD),
        person=person,
        wrong=lambda good: [good.replacing(password="ktlab-not-the-password")],
        codes=frozenset({"credential_invalid"}),
        aim=lambda aim: {"address": aim.url},
        reads=Reads("list", 3, ("everything",), more={"": 3}, spoil=spoiled(there, "notes")),
        throttled=lambda: undone(lambda: there.arm("*", "throttle"), there.disarm),
        elsewhere=elsewhere,
    )


def notes_keys(lab: Lab) -> Case:
    """A key in a header: the API makes, lists and ends them, signed with the one in use."""
    there = lab.vendor("notes")
    there.post("reset", {})
    first = _key(lab, ACCOUNT)
    values = {"api_key": first["value"], "key_id": first["id"]}

    def person(task: Task) -> dict[str, str]:
        del task  # only when no key works any more
        made = people.make_key(there.url, ACCOUNT)
        return {"api_key": made["secret"], "key_id": made["id"]}

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        there.arm({"issue": "make_key", "revoke": "end_key"}[call], "answer_lost")
        yield access

    return Case(
        "custom-rest",
        "token",
        values,
        alive=lambda: _alive(lab, "key"),
        of=lambda material: material["api_key"],
        wrong_values={**values, "api_key": "ktlab-not-the-key"},
        definition=drafted(there.url, KEYS),
        person=person,
        wrong=lambda good: [good.replacing(api_key="ktlab-not-the-key")],
        codes=frozenset({"credential_invalid"}),
        aim=lambda aim: {"address": aim.url},
        reads=Reads("list", 3, ("everything",), more={"": 3}, spoil=spoiled(there, "notes")),
        throttled=lambda: undone(lambda: there.arm("*", "throttle"), there.disarm),
        lost=lost,
        elsewhere=lambda access: nullcontext(
            (access, Material({"api_key": _key(lab, ELSEWHERE)["value"]}, frozenset({"key_id"})))
        ),
    )


def _alive(lab: Lab, kind: str) -> set[str]:
    found = lab.vendor("notes").alive()
    return {each["value"] for each in found if each["kind"] == kind and each["owner"] == ACCOUNT}


def _key(lab: Lab, account: str) -> dict[str, str]:
    found = lab.vendor("notes").alive()
    return next(each for each in found if each["kind"] == "key" and each["owner"] == account)


ROWS = {
    "custom-rest/none": notes_status,
    "custom-rest/basic": notes_password,
    "custom-rest/token": notes_keys,
    "custom-rest/oauth2 client": oidc_client,
    "custom-rest/oauth2 consent": oidc_grant,
}

"""Custom REST against a certified OAuth server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from keyturn.contract.values import Access
from keyturn.testing import Reads
from tests.compliance.case import DEFINITIONS, Case, granted, granted_elsewhere, undone, url_of
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


ROWS = {
    "custom-rest/oauth2 client": oidc_client,
    "custom-rest/oauth2 consent": oidc_grant,
}

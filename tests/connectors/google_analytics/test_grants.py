"""Google's two consent rows against the stand-in: a test proves the grant itself, and what each refusal means."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.compliance.lab import StandIn

from keyturn.contract.values import Access, NetworkPolicy
from keyturn.definitions import calls
from keyturn.definitions.check import check
from keyturn.definitions.interpreter import capabilities
from keyturn.definitions.system import read_system
from keyturn.errors import CredentialRejected, InvalidInput, PermissionMissing
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict
from keyturn_lab.standin import running
from keyturn_lab.vendors.google import STANDIN, people
from keyturn_lab.vendors.google.state import ME, OTHER, PROJECT

CALLBACK = "http://127.0.0.1:8425/oauth/callback"
CONNECTORS = Path(__file__).parents[3] / "src/keyturn/connectors"
SESSION = {"state": "st", "code_verifier": "v" * 43, "redirect_uri": CALLBACK}
ROWS = ("google_analytics", "bigquery")


@pytest.fixture(scope="module")
def served() -> Iterator[StandIn]:
    with running(STANDIN.create_app()) as url:
        yield StandIn(url)


class Row:
    """One of the two rows with a client, and the ways to get a grant."""

    def __init__(self, folder: str, there: StandIn) -> None:
        text = (CONNECTORS / folder / "definition.yaml").read_text()
        self.definition = read_system(text, folder).method("oauth").rest
        self.can = capabilities(self.definition)
        self.there = there
        self.client = there.post("clients", {"name": folder, "callback": CALLBACK})
        self.client_parts = Material(self.client, frozenset({"client_id"}))
        hosts = ("accounts_url", "token_url", "api_url", "data_url", "bigquery_url")
        self.settings = {
            "property": "310001",
            "project_id": PROJECT,
            "account": ME,
            **dict.fromkeys(hosts, there.url),
        }
        self.folder = folder

    def access(self) -> Access:
        network = NetworkPolicy(frozenset({"127.0.0.1"}))
        if self.folder == "bigquery":
            return Access(self.settings, self.client_parts, None, 10.0, network)
        return Access(self.settings, None, self.client_parts, 10.0, network)

    def grant(self, email: str = ME, *, without: str = "") -> Material:
        url = self.can.authorizer.begin(self.access(), SESSION)
        callback = people.consent(url, email, without=without)
        return self.can.authorizer.read(
            self.access(), self.can.authorizer.exchange(self.access(), SESSION, callback), None
        ).material


@pytest.fixture(params=ROWS)
def row(request: pytest.FixtureRequest, served: StandIn) -> Row:
    served.post("reset", {})
    served.post("dials", {"latency_s": 0})
    return Row(request.param, served)


def test_a_test_proves_the_grant_and_not_a_kept_token(row: Row) -> None:
    """An access token that has run out does not matter; a grant that was removed does, at once."""
    held = row.grant()
    row.there.post("clock", {"advance_s": 4000})
    assert row.can.verifier.verify(row.access(), held).verdict is Verdict.ACCEPTED
    fresh = row.grant()
    people.remove_grant(row.there.url, ME, row.client["client_id"])
    for each in (held, fresh):
        found = row.can.verifier.verify(row.access(), each)
        assert (found.verdict, found.code) == (Verdict.REJECTED, "reauth_required")


def test_the_identity_and_the_scopes_are_what_google_says(row: Row) -> None:
    """Who consented, to what, and with which scopes; another person is another identity."""
    mine, theirs = (row.can.verifier.verify(row.access(), row.grant(email)) for email in (ME, OTHER))
    assert mine.identity["principal"] != theirs.identity["principal"]
    assert mine.identity["tenant"] == theirs.identity["tenant"]
    assert mine.rights == theirs.rights
    assert any("/auth/" in right for right in mine.rights)


def test_a_grant_without_its_scope_does_not_count_as_working(row: Row) -> None:
    """A box that was unticked is a missing scope, not a dead grant."""
    wanted = "analytics" if row.folder == "google_analytics" else "bigquery"
    found = row.can.verifier.verify(row.access(), row.grant(without=wanted))
    assert (found.verdict, found.code) == (Verdict.UNKNOWN, "scope_missing")


def test_a_grant_without_a_refresh_token_is_not_tested(row: Row) -> None:
    """It would end within the hour."""
    held = row.grant()
    without = Material({k: v for k, v in held.items() if k != "refresh_token"}, held.public)
    with pytest.raises(InvalidInput, match="refresh_token"):
        row.can.verifier.verify(row.access(), without)


def test_a_wish_for_a_fresh_login_is_no_death(row: Row) -> None:
    """invalid_rapt is a policy's word; the grant lives."""
    held = row.grant()
    row.there.post("settings", {"invalid_rapt": True})
    assert row.can.verifier.verify(row.access(), held).verdict is Verdict.UNKNOWN
    with pytest.raises(PermissionMissing):
        row.can.authorizer.refresh(row.access(), held)


def test_a_disabled_client_is_no_death_and_a_deleted_one_is_its_own(row: Row) -> None:
    """Where each grant has a client of its own, deleting that client ends the credential; a shared one says nothing."""
    held = row.grant()
    for state, verdict in (
        ("disabled", Verdict.UNKNOWN),
        ("deleted", Verdict.REJECTED if row.folder == "bigquery" else Verdict.UNKNOWN),
    ):
        row.there.post("clients", {"client_id": row.client["client_id"], "state": state})
        assert row.can.verifier.verify(row.access(), held).verdict is verdict


def test_revoking_ends_the_grant_of_one_person_and_one_client(row: Row) -> None:
    """Both consents to this client die; another person's, and one to another client, live on. Twice is once."""
    first, second, others = row.grant(), row.grant(), row.grant(OTHER)
    elsewhere = Row(row.folder, row.there)
    kept = elsewhere.grant()
    for _ in range(2):
        row.can.revoker.revoke(row.access(), Ref(), first)
    for dead in (first, second):
        assert row.can.verifier.verify(row.access(), dead).verdict is Verdict.REJECTED
        with pytest.raises(CredentialRejected):
            row.can.authorizer.refresh(row.access(), dead)
    assert row.can.verifier.verify(row.access(), others).verdict is Verdict.ACCEPTED
    assert elsewhere.can.verifier.verify(elsewhere.access(), kept).verdict is Verdict.ACCEPTED


def test_nothing_secret_is_in_an_address(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the revocation carries the token alone."""
    sent: list[calls.Request] = []
    real = calls.send

    def noting(request: calls.Request, network: NetworkPolicy) -> Any:
        sent.append(request)
        return real(request, network)

    monkeypatch.setattr(calls, "send", noting)
    held = row.grant()
    row.can.verifier.verify(row.access(), held)
    whats = {"google_analytics": ("report", "sessions by country"), "bigquery": ("usage_data.orders",)}
    for what in whats[row.folder]:
        assert row.can.reader.read_sample(row.access(), held, what, 2).count == 2
    row.can.revoker.revoke(row.access(), Ref(), held)
    secrets = [*held.secrets(), row.client["client_secret"]]
    assert not any(secret in request.url for request in sent for secret in secrets)
    assert sent[-1].url == f"{row.there.url}/revoke"
    assert sent[-1].body.startswith(b"token=1%2F%2F0")
    assert b"&" not in sent[-1].body


def test_a_test_never_uses_up_a_refresh_token(tmp_path: Path) -> None:
    """`before_test` is refused for a vendor that rotates them, or does not say."""
    text = (CONNECTORS.parents[2] / "demo/definitions/oidc-grant.yaml").read_text()
    path = tmp_path / "grant.yaml"
    path.write_text(
        text.replace("refresh: {rotates: always,", "refresh: {rotates: always, before_test: true,")
    )
    report = check(path.read_text(), str(path))
    assert any("use up a refresh token" in f"{finding}" for finding in report.findings)

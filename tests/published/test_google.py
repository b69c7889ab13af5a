"""Every call to Google is one of its discovery documents, as the page of the row says, and is answered as described."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from google.auth import credentials as google_credentials
from google.auth.transport.requests import AuthorizedSession, Request
from google.cloud import bigquery
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials

from keyturn.errors import CapReached
from keyturn.transport import google
from keyturn_lab.vendors.google.state import APP, PROJECT, address
from keyturn_lab.vendors.google.wire import BIGQUERY
from tests.compliance.case import under_test
from tests.compliance.rows import ROWS
from tests.published.description import Description
from tests.published.oauth import JWT_BEARER, endpoint
from tests.published.recorded import Recorded, recording, said_to_be_sent
from tests.published.tap import Exchange, TappedLab

# The pages that a person's browser opens are not ours to send.
BY_PEOPLE = ("/o/oauth2/v2/auth", "/signin", "/connections")
# Source: developers.google.com/identity/protocols/oauth2/web-server and /openid-connect, checked 2026-11-29.
ADDS = {"id_token": "string", "refresh_token_expires_in": "integer"}
PUBLISHED = Description.read("google") | endpoint(
    "google",
    "/token",
    ("authorization_code", "refresh_token", JWT_BEARER),
    proofs=("client_id", "client_secret"),
    adds=ADDS,
    revoke="/revoke",
)


@pytest.fixture(scope="module")
def recorded() -> Iterator[Recorded]:
    systems = ("bigquery", "google-analytics")
    with recording("google", systems, ("bigquery",), (google,), {"bigquery/full": _fill}) as made:
        yield made


def _fill(lab: TappedLab) -> None:
    """An account with all its keys: the eleventh is refused, and the list tells why."""
    lab.vendor("google").post("reset", {})
    row = under_test("bigquery", ROWS["bigquery/service_account"](lab))
    assert row.can.issuer is not None
    with pytest.raises(CapReached):
        for _ in range(11):
            row.can.issuer.issue(row.access, row.slot)


@pytest.fixture(scope="module")
def sent(recorded: Recorded) -> tuple[Exchange, ...]:
    return tuple(each for each in recorded.of() if each.path not in BY_PEOPLE)


def test_every_request_and_answer_is_published(sent: tuple[Exchange, ...]) -> None:
    """Path, method, parameters, fields and their types; of the stand-in's answers too."""
    for exchange in sent:
        PUBLISHED.judge(exchange)


def test_every_published_call_that_is_kept_was_sent(sent: tuple[Exchange, ...]) -> None:
    """Each of them went well at least once; a call that is not sent any more is not described any more."""
    assert {PUBLISHED.name(each) for each in sent if each.status < 300} == set(PUBLISHED.calls)


def test_every_line_that_calls_google_ran(recorded: Recorded) -> None:
    """Nothing is sent that was not looked at here."""
    assert recorded.sites.silent() == []


def test_the_page_names_every_call(sent: tuple[Exchange, ...]) -> None:
    """What `keyturn systems` says is sent with a key is what is sent, no more and no less."""
    said = said_to_be_sent("bigquery", "service_account")
    named = set(re.findall(r"\b(?:iam|bigquery)\.[A-Za-z.]+[A-Za-z]\b", said))
    assert named == {name for name in PUBLISHED.calls if name.startswith(("iam.", "bigquery."))}


@pytest.fixture
def _stay_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """google-auth looks up a regional boundary at an address that cannot be changed."""
    owner = google_credentials.CredentialsWithRegionalAccessBoundary
    monkeypatch.setattr(owner, "_is_regional_access_boundary_lookup_required", lambda _: False)


@pytest.mark.usefixtures("_stay_at_home")
def test_a_key_is_used_as_the_official_clients_use_it(recorded: Recorded, sent: tuple[Exchange, ...]) -> None:
    """google-auth and google-cloud-bigquery, unchanged, send the same calls with the same fields and claims."""
    there = recorded.lab.vendor("google")
    before = len(recorded.tap.seen)
    key_file = json.loads(there.post("fresh-key", {"email": address(APP)})["key_file"])
    there.post("clock", {"advance_s": 1})
    robot = service_account.Credentials.from_service_account_info(
        {**key_file, "token_uri": f"{there.url}/token"}, scopes=[BIGQUERY]
    )
    options = {"api_endpoint": there.url}
    with bigquery.Client(PROJECT, _http=AuthorizedSession(robot), client_options=options) as client:
        rows = client.query_and_wait("SELECT SESSION_USER()", max_results=1, api_timeout=10)
        assert next(iter(rows))[0] == address(APP)
        client.get_dataset("usage_data")
        shape = [bigquery.SchemaField("n", "INTEGER")]
        assert len(list(client.list_rows(f"{PROJECT}.usage_data.orders", shape, max_results=2))) == 2
    theirs = recorded.tap.seen[before:]
    assert {PUBLISHED.judge(each) for each in theirs} == {
        "google.token.jwt-bearer",
        "bigquery.jobs.query",
        "bigquery.datasets.get",
        "bigquery.tabledata.list",
    }
    for name in ("google.token.jwt-bearer", "bigquery.jobs.query", "bigquery.tabledata.list"):
        (their,) = [each for each in theirs if PUBLISHED.name(each) == name]
        our = next(each for each in sent if PUBLISHED.name(each) == name and each.status == 200)
        assert (our.method, our.path, our.kind.split(";")[0]) == (
            their.method,
            their.path,
            their.kind.split(";")[0],
        )
        if name == "bigquery.jobs.query":
            # Ours asks for less: one row, and no more than ten seconds.
            assert set(our.json()) - {"maxResults", "timeoutMs"} <= set(their.json())
        elif name == "bigquery.tabledata.list":
            assert set(dict(our.query)) <= set(dict(their.query))
        else:
            assert set(our.form()) == set(their.form())
            assert [set(part) for part in _jwt(our)] == [set(part) for part in _jwt(their)]


def test_a_grant_is_refreshed_as_the_official_client_does(
    recorded: Recorded, sent: tuple[Exchange, ...]
) -> None:
    """google-auth sends the same fields with a refresh token."""
    there = recorded.lab.vendor("google")
    before = len(recorded.tap.seen)
    person = Credentials(
        None,
        refresh_token="1//0ktlab-nobodys",
        token_uri=f"{there.url}/token",
        client_id="nobody",
        client_secret="GOCSPX-ktlab-nobodys",
    )
    with pytest.raises(Exception, match="invalid_client"):
        person.refresh(Request())
    (their,) = recorded.tap.seen[before:]
    ours = [each for each in sent if PUBLISHED.name(each) == PUBLISHED.name(their)]
    assert {frozenset(each.form()) for each in ours} == {frozenset(their.form())}


def _jwt(exchange: Exchange) -> tuple[dict[str, object], dict[str, object]]:
    """Header and claims of the assertion in a form."""
    import base64

    head, claims, _ = exchange.form()["assertion"].split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(part + "==")) for part in (head, claims))

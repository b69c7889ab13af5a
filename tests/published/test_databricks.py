"""Every call to Databricks is one of its SDK's, as the pages of the rows say, and is answered as the SDK reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from databricks.sdk import WorkspaceClient, core, environments
from databricks.sdk.core import Config

from keyturn.connectors.databricks import client
from keyturn.model.secret import Material
from keyturn.transport.ssrf import matches
from tests.compliance.case import OTHER, under_test
from tests.compliance.rows import ROWS
from tests.published.databricks import published
from tests.published.description import Description
from tests.published.oauth import endpoint
from tests.published.recorded import Recorded, recording, said_to_be_sent
from tests.published.tap import TappedLab

# The client says who it is in a Basic header. Source: databricks/sdk/oauth.py, ClientCredentials.
ACCOUNT_TOKEN = "/oidc/accounts/{account_id}/v1/token"


@pytest.fixture(scope="module")
def sdk() -> Description:
    """Read here and not on import, which every process of the tests does."""
    return (
        published()
        | endpoint("workspace", core.OIDC_TOKEN_PATH, ("client_credentials",), proofs=())
        | endpoint("account", ACCOUNT_TOKEN, ("client_credentials",), proofs=())
    )


@pytest.fixture(scope="module")
def recorded() -> Iterator[Recorded]:
    also = {"databricks/user, a person by an admin": _person}
    with recording("databricks", ("databricks",), ("databricks",), (), also) as made:
        yield made


def _person(lab: TappedLab) -> None:
    """An administrator looks at a person's tokens; the lab's other rows are about service principals."""
    row = under_test("databricks", ROWS["databricks/user"](lab))
    assert row.can.lister is not None
    lab.vendor("databricks").post("dials", {"settle_s": 0.0})
    made = lab.vendor("databricks").post("make", {"kind": "token", "principal": OTHER})
    row.can.lister.list(replace(row.access, admin=Material({"token": made["token_value"]})))


def test_every_request_and_answer_is_the_sdks(recorded: Recorded, sdk: Description) -> None:
    """Path, method, parameters, fields and their types; of the stand-in's answers too."""
    for exchange in recorded.of():
        sdk.judge(exchange)


@pytest.mark.parametrize("method", ["oauth", "user"])
def test_the_page_names_every_call(recorded: Recorded, sdk: Description, method: str) -> None:
    """What `keyturn systems` says is sent is what is sent and goes well, no more and no less."""
    said = re.findall(r"\b(GET|POST|DELETE) (/[^\s,;]+)", said_to_be_sent("databricks", method))
    ours = [each for each in recorded.of(f"databricks/{method}") if each.status == 200]
    calls = [sdk.calls[sdk.judge(each)] for each in ours]
    assert {(verb, _nameless(path)) for verb, path in said} == {(c.method, _nameless(c.path)) for c in calls}


def test_every_line_that_calls_databricks_ran(recorded: Recorded) -> None:
    """Nothing is sent that was not looked at here."""
    assert recorded.sites.silent() == []


def test_the_login_is_the_sdks(recorded: Recorded, sdk: Description, monkeypatch: pytest.MonkeyPatch) -> None:
    """databricks-sdk, unchanged and with the credential as we hold it, logs in by the same request."""
    row = under_test("databricks", ROWS["databricks/oauth"](recorded.lab))
    before = len(recorded.tap.seen)
    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN", "DATABRICKS_CONFIG_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    config = Config(
        host=recorded.lab.vendor("databricks").url,
        client_id=row.good["client_id"],
        client_secret=row.good["client_secret"],
        auth_type="oauth-m2m",
    )
    assert WorkspaceClient(config=config).current_user.me().user_name == row.identity["principal"]
    theirs = recorded.tap.seen[before:]
    (their,) = [each for each in theirs if each.path == core.OIDC_TOKEN_PATH]
    our = next(each for each in recorded.of("databricks/oauth") if each.path == core.OIDC_TOKEN_PATH)
    assert our.form() == their.form()
    assert our.header("authorization").split()[0] == their.header("authorization").split()[0] == "Basic"
    assert {"iam.CurrentUserAPI.me"} <= {sdk.judge(e) for e in theirs if "/.well-known/" not in e.path}


def test_no_secret_is_in_an_address(recorded: Recorded) -> None:
    """Neither path nor query ever holds a value."""
    for exchange in recorded.of():
        assert not re.search("dose|dapi", f"{exchange.path}{exchange.query}")


def test_the_hosts_are_the_sdks() -> None:
    """A secret goes to the zones that the SDK knows, and to no look-alike."""
    zones = {env.dns_zone for env in environments.ALL_ENVS}
    public = {zone for zone in zones if not any(w in zone for w in ("dev", "staging"))}
    assert all(any(matches(p, f"x{zone}") for p in client.HOSTS) for zone in public)
    for pattern in client.HOSTS:
        assert not matches(pattern, "databricks.com.evil.example")


def _nameless(path: str) -> str:
    """A path with its parameters' names left out: the page has shorter ones."""
    return re.sub(r"\{[^}]*\}", "{}", path)

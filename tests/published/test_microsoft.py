"""Every call to Graph is one of its SDK's request builders, those to Dataverse its CSDL's, the login MSAL's."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from keyturn.model.verdict import Verdict
from tests.compliance import entra
from tests.compliance.case import under_test
from tests.compliance.rows import ROWS
from tests.published.description import Description
from tests.published.oauth import endpoint
from tests.published.recorded import Recorded, recording, said_to_be_sent
from tests.published.tap import Exchange, TappedLab

ODATA = r"@odata\..+|[a-zA-Z]+@odata\..+"


def _by_app_id(graph: Description) -> Description:
    """What can be asked of an application by its object id can be asked by its alternate key, the client id.

    Source: learn.microsoft.com/graph/api/application-addpassword, -addkey, -removekey (HTTP request), checked 2026-11-29.
    """
    key = {"appId": graph.calls["applications_with_app_id.get"].where["appId"]}
    calls = {
        name: replace(
            call,
            path=call.path.replace("/applications/{application-id}", "/applications(appId='{appId}')"),
            where={**call.where, **key},
        )
        for name, call in graph.calls.items()
    }
    # An update says nothing back, where an upsert of a new one would: learn.microsoft.com/graph/api/application-update.
    calls["applications_with_app_id.patch"] = replace(
        calls["applications_with_app_id.patch"], may_be_empty=True
    )
    return replace(graph, calls=calls)


# Source: learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow, checked 2026-11-29.
ADDS = {"ext_expires_in": "integer"}
PUBLISHED = (
    _by_app_id(Description.read("graph", annotations=ODATA, nulls=True))
    | Description.read("dataverse")
    | endpoint("entra", "/{tenant}/oauth2/v2.0/token", ("client_credentials",), adds=ADDS)
)


@pytest.fixture(scope="module")
def recorded() -> Iterator[Recorded]:
    also = {"dynamics/client_secret, a table": _table, "dynamics/certificate, the first": _first}
    with recording("dynamics", ("dynamics",), ("dynamics",), (), also) as made:
        yield made


def _first(lab: TappedLab) -> None:
    """The first certificate on an application: nothing there can sign for it."""
    row = under_test("dynamics", ROWS["dynamics/certificate"](lab))
    assert row.can.revoker is not None
    assert row.can.locator is not None
    row.can.revoker.revoke(row.access, row.can.locator.locate(row.access, row.good), row.good)
    row.stage()


def _table(lab: TappedLab) -> None:
    """A connection that names the table its jobs read."""
    row = under_test("dynamics", ROWS["dynamics/client_secret"](lab))
    row.can.verifier.verify(
        replace(row.access, settings={**row.access.settings, "table": "accounts"}), row.good
    )


def judged(exchange: Exchange) -> str:
    """The stand-in has all of Microsoft behind one address: Graph lies below a folder of its own."""
    return PUBLISHED.judge(replace(exchange, path=exchange.path.removeprefix("/graph")))


def test_every_request_and_answer_is_published(recorded: Recorded) -> None:
    """Path, method, parameters, fields and their types; of the stand-in's answers too."""
    for exchange in recorded.of():
        judged(exchange)


def test_every_published_call_that_is_kept_was_sent(recorded: Recorded) -> None:
    """Each of them went well at least once; a call that is not sent any more is not described any more."""
    assert {judged(each) for each in recorded.of() if each.status < 300} == set(PUBLISHED.calls)


@pytest.mark.parametrize("method", ["client_secret", "certificate"])
def test_the_page_names_every_call(recorded: Recorded, method: str) -> None:
    """What `keyturn systems` says is sent is what is sent and goes well, no more and no less."""
    said = re.findall(r"\b(GET|POST|PATCH|DELETE) (/[^\s,;]+)", said_to_be_sent("dynamics", method))
    ours = [each for each in recorded.of(f"dynamics/{method}") if each.status < 300]
    calls = [PUBLISHED.calls[judged(each)] for each in ours]
    assert {(verb, _nameless(path)) for verb, path in said} == {(c.method, _nameless(c.path)) for c in calls}


def test_every_line_that_calls_microsoft_ran(recorded: Recorded) -> None:
    """Nothing is sent that was not looked at here."""
    assert recorded.sites.silent() == []


@pytest.mark.parametrize("method", ["client_secret", "certificate"])
def test_the_login_is_msals(recorded: Recorded, method: str) -> None:
    """MSAL, unchanged and with a credential that Keyturn made, sends the same form and the same claims."""
    row = under_test("dynamics", ROWS[f"dynamics/{method}"](recorded.lab))
    held = row.stage().material
    row.becomes(held, Verdict.ACCEPTED)
    settings, before = row.access.settings, len(recorded.tap.seen)
    got = entra.sign_in(settings, held)
    assert got.get("access_token"), got.get("error_codes")
    (their,) = [each for each in recorded.tap.seen[before:] if each.method == "POST"]
    our = next(
        each
        for each in recorded.of(f"dynamics/{method}")
        if each.path == their.path
        and each.status == 200
        and ("client_assertion" in each.form()) == (method == "certificate")
    )
    extra = {"client_info"}  # asks for an identity of a person, who is not there
    assert set(our.form()) == set(their.form()) - extra
    assert our.form()["grant_type"] == their.form()["grant_type"]
    if method == "certificate":
        assert our.form()["client_assertion_type"] == their.form()["client_assertion_type"]
        (head, claims), (their_head, their_claims) = _jwt(our), _jwt(their)
        assert head["alg"] == their_head["alg"]
        assert set(head) <= set(their_head)  # MSAL may add the whole certificate
        assert set(claims) - {"nbf"} == set(their_claims) - {"nbf"}
        assert urlsplit(claims["aud"]).path == urlsplit(their_claims["aud"]).path


def _jwt(exchange: Exchange) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of the assertion in a form."""
    head, claims, _ = exchange.form()["client_assertion"].split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(part + "==")) for part in (head, claims))


def _nameless(path: str) -> str:
    """A path with its parameters' names and its options left out: the page has shorter ones."""
    return re.sub(r"\{[^}]*\}", "{}", path).partition("?")[0]

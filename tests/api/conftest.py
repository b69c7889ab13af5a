"""The application of a hub with an issued key, a static outside system to lease from, and one with a consent page."""

import json
from types import SimpleNamespace
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from fastapi.testclient import TestClient
from tests.issued.conftest import open_test_hub

from keyturn.api.app import create_app
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.manifest import Field, GuideStep, Method, System
from keyturn.contract.values import Candidate
from keyturn.errors import InvalidInput
from keyturn.model.card import Card, GapClass, Hands, Proof, Strategy
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import accepted, rejected
from keyturn.operations import connections, issued

SECRET = "outside-secret-5Qw8"


class Outside:
    """Accepts anything but made-up values."""

    def verify(self, access, material):
        return rejected("401") if "bogus" in str(dict(material)) else accepted("acct-1")

    def bogus(self, material):
        return Material(dict.fromkeys(material, "bogus"))

    def begin(self, access, session):
        return "https://consent.invalid/authorize?" + urlencode({"state": session["state"]})

    def exchange(self, access, session, callback):
        asked = parse_qs(urlsplit(callback).query)
        if "error" in asked or asked["state"] != [session["state"]]:
            raise InvalidInput("the vendor says no")
        assert callback.startswith(session["redirect_uri"] + "?")
        return json.dumps({"refresh_token": f"rt-{asked['code'][0]}"}).encode()

    def refresh(self, access, material):
        raise NotImplementedError

    def read(self, access, receipt, previous):
        return Candidate(Ref(), Material(json.loads(receipt)))


def outside():
    def card(strategy, hands):
        return Card(strategy, hands, GapClass.Z0, Proof.D0)

    def method(name, fields, strategy, hands):
        steps = (GuideStep("make one"),)
        return Method(
            name, name, "outbound", "", fields, card(strategy, hands), ("account",), create_steps=steps
        )

    account = Field("account", "Account")
    key = Field("api_key", "Key", secret=True, part=True)
    methods = (
        method("api_key", (account, key), Strategy.SUPPLIED, Hands.GUIDED),
        method("oauth", (account,), Strategy.CONSENT, Hands.AUTOMATIC),
    )
    system = System("outside", "Outside", "", (), methods)

    def capabilities(name, settings):
        own = Outside()
        return Capabilities(own, authorizer=own if name == "oauth" else None)

    return SimpleNamespace(system=lambda: system, capabilities=capabilities)


@pytest.fixture
def hub(tmp_path):
    hub = open_test_hub(tmp_path, outside=outside())
    connections.connect(hub, "outside", "api_key", "warehouse", {"account": "a", "api_key": SECRET})
    connections.connect(hub, "outside", "oauth", "tracker", {"account": "b"})
    hub.engine.start()
    yield hub
    hub.close()


@pytest.fixture
def client(hub):
    with TestClient(create_app(hub), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def key(hub):
    """`key(scopes)` issues a key and gives its header."""

    def make(scopes="read", name="caller", **values):
        handed = issued.issue(hub, "api-key", name, {"scopes": scopes, **values})
        return {"AccessKey": handed.value.reveal()}

    return make

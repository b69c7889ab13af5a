"""The application of a hub, served in this process, with keys and publishers."""

import pytest
from fastapi.testclient import TestClient
from tests.datasets.app import intake_app
from tests.issued.conftest import open_test_hub

from keyturn.operations import issued


@pytest.fixture
def hub(tmp_path):
    hub = open_test_hub(tmp_path)
    hub.engine.start()
    yield hub
    hub.close()


@pytest.fixture
def client(hub):
    with TestClient(intake_app(hub), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def key(hub):
    """`key(scopes)` issues a key and gives its header."""

    def make(scopes="events:write", name="crm", **values):
        handed = issued.issue(hub, "api-key", name, {"scopes": scopes, **values})
        return {"AccessKey": handed.value.reveal()}

    return make


@pytest.fixture
def publisher(hub):
    """`publisher()` issues a signing secret; its connection and value."""

    def make(name="orders", **values):
        handed = issued.issue(hub, "webhook", name, values)
        return handed.connection, handed.value.reveal()

    return make

"""The application of a hub, served in this process, and keys to call it with."""

import time

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

    def make(scopes="bulk read", name="etl", **values):
        handed = issued.issue(hub, "api-key", name, {"scopes": scopes, **values})
        return {"AccessKey": handed.value.reveal()}

    return make


def settled(client, headers, load_id, timeout_s=20.0):
    """The load once it has ended."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        page = client.get(f"/api/v1/bulk/loads/{load_id}", headers=headers).json()
        if page["ended_at"]:
            return page
        time.sleep(0.02)
    raise AssertionError(page)


def send(client, headers, dataset, text, kind="text/csv", **params):
    data = text.encode() if isinstance(text, str) else text
    return client.post(
        f"/api/v1/bulk/{dataset}", content=data, params=params, headers={**headers, "Content-Type": kind}
    )


def records(client, headers, dataset):
    found, after = [], 0
    while True:
        page = client.get(
            f"/api/v1/datasets/{dataset}/records", params={"after": after, "limit": 1000}, headers=headers
        ).json()
        found += page["items"]
        if "next" not in page:
            return found
        after = page["next"]

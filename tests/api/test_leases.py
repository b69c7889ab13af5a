"""Leases and reads over HTTP."""

import pytest
from tests.api.conftest import SECRET
from tests.api.test_door import is_problem

from keyturn.model.plan import Goal
from keyturn.operations import runs


def test_lease_extend_give_back(client, key):
    """The value comes with the lease; an ended lease is not extended."""
    headers = key("lease")
    taken = client.post(
        "/api/v1/leases", json={"connection": "warehouse", "consumer": "etl"}, headers=headers
    )
    assert taken.status_code == 201
    assert taken.headers["cache-control"] == "no-store"
    assert taken.json()["values"] == {"api_key": SECRET}
    path = f"/api/v1/leases/{taken.json()['id']}"
    assert client.post(f"{path}/extend", json={"ttl_s": 60}, headers=headers).status_code == 200
    assert client.delete(path, headers=headers).status_code == 204
    assert client.delete(path, headers=headers).status_code == 204
    is_problem(client.post(f"{path}/extend", json={}, headers=headers), 409, "conflict")


def test_a_key_for_one_connection_leases_no_other(client, key):
    """`lease:NAME` is just that."""
    headers = key("lease:tracker")
    wanted = {"connection": "warehouse", "consumer": "etl"}
    answer = is_problem(client.post("/api/v1/leases", json=wanted, headers=headers), 403, "cred.scope")
    assert SECRET not in answer.text


def test_a_key_for_one_connection_has_no_say_in_anothers_leases(client, key):
    """Neither prolonging nor giving back, whoever took it."""
    wanted = {"connection": "warehouse", "consumer": "etl"}
    taken = client.post("/api/v1/leases", json=wanted, headers=key("lease:warehouse")).json()
    other, path = key("lease:tracker", "other"), f"/api/v1/leases/{taken['id']}"
    is_problem(client.post(f"{path}/extend", json={}, headers=other), 403, "cred.scope")
    is_problem(client.delete(path, headers=other), 403, "cred.scope")
    assert client.post(f"{path}/extend", json={}, headers=key("lease", "third")).status_code == 200


def test_no_key_no_value(client):
    """Leases are guarded."""
    wanted = {"connection": "warehouse", "consumer": "etl"}
    is_problem(client.post("/api/v1/leases", json=wanted), 401, "cred.missing")


@pytest.mark.parametrize(("name", "status"), [("nowhere", 404), ("tracker", 409), ("caller", 409)])
def test_what_cannot_be_leased(client, key, name, status):
    """Unknown, not authorized yet, and issued by the hub itself."""
    wanted = {"connection": name, "consumer": "etl"}
    answer = client.post("/api/v1/leases", json=wanted, headers=key("lease"))
    assert answer.status_code == status
    assert answer.json()["hint"]


def test_connections_in_pages(client, key):
    """Names in order, one page after the other, without settings or values."""
    headers = key()
    first = client.get("/api/v1/connections?limit=2", headers=headers).json()
    assert [c["name"] for c in first["items"]] == ["caller", "tracker"]
    rest = client.get("/api/v1/connections", params={"after": first["next"]}, headers=headers).json()
    assert [c["name"] for c in rest["items"]] == ["warehouse"]
    assert "next" not in rest
    assert SECRET not in str(first) + str(rest)
    is_problem(client.get("/api/v1/connections"), 401, "cred.missing")


def test_a_run(client, key, hub):
    """Its plan and journal."""
    run = runs.start(hub, "warehouse", Goal.ROTATE)
    found = client.get(f"/api/v1/runs/{run.id}", headers=key()).json()
    assert (found["connection"], found["goal"]) == ("warehouse", "rotate")
    assert found["lines"][0]["facts"]["decision"] == "started"
    is_problem(client.get("/api/v1/runs/run_none", headers={"AccessKey": "x"}), 401, "cred.malformed")


def test_a_run_that_is_not(client, key):
    """404 in our words."""
    is_problem(client.get("/api/v1/runs/run_none", headers=key()), 404, "not_found")


def test_systems(client, key):
    """Every row with its card."""
    rows = client.get("/api/v1/systems", headers=key()).json()["items"]
    assert {"hub-api/access_key", "outside/oauth"} <= {f"{r['system']}/{r['method']}" for r in rows}

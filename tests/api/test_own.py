"""A credential that has itself reissued: only where somebody allowed it, never with more rights, never in a hurry."""

import pytest
from tests.api.test_door import is_problem
from tests.waiting import wait_for

from keyturn.keymaking import passwords
from keyturn.operations import issued, people, rights, runs

PATH = "/api/v1/whoami/reissue"


def test_a_key_has_itself_reissued(client, key, hub):
    """The answer has the new value, once; both work; the rights are the same; the journal names the key."""
    old = key("read self:rotate")
    answer = client.post(PATH, headers=old)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    new = {"AccessKey": made["value"]}
    assert passwords.parse(made["value"]).kind == "k"
    pages = [client.get("/api/v1/whoami", headers=each).json() for each in (old, new)]
    assert [page["scopes"] for page in pages] == [["read", "self:rotate"]] * 2
    assert [page["slot"] for page in pages] == ["A", "B"]
    run = runs.get(hub, made["run"])
    assert any(step.params.get("overlap_s") == 86400 for step in run.plan.steps)
    assert made["value"] not in repr(run)


@pytest.mark.parametrize("scopes", ["read", "write", "issue", "read:self", "rotate"])
def test_only_with_the_scope(client, key, hub, scopes):
    """No other right gives it."""
    answer = is_problem(client.post(PATH, headers=key(scopes)), 403, "cred.scope")
    assert 'scope="self:rotate"' in answer.headers["www-authenticate"]
    assert len(issued.get(hub, "caller").secrets) == 1


def test_a_third_one_is_refused(client, key):
    """Of two that work neither makes another, while the rotation is open."""
    old = key("self:rotate")
    new = {"AccessKey": client.post(PATH, headers=old).json()["value"]}
    for each in (old, new):
        is_problem(client.post(PATH, headers=each), 409, "conflict")


def test_a_lost_answer_is_given_again(client, key, hub):
    """Under the same idempotency key; another one is another call."""
    headers = {**key("self:rotate"), "Idempotency-Key": "k-1"}
    first = client.post(PATH, headers=headers).json()
    again = client.post(PATH, headers=headers).json()
    assert again["value"] == first["value"]
    assert len(issued.get(hub, "caller").secrets) == 2
    is_problem(client.post(PATH, headers={**headers, "Idempotency-Key": "k-2"}), 409, "conflict")


def test_a_thief_cannot_hurry(client, key, hub):
    """The overlap is an hour at least, and nothing but it can be asked for."""
    old = key("self:rotate")
    for body in (
        {"overlap_s": 0},
        {"overlap_s": 60},
        {"overlap_s": 1e9},
        {"force": True},
        {"scopes": "write"},
    ):
        is_problem(client.post(PATH, json=body, headers=old), 422, "invalid_input")
    assert len(issued.get(hub, "caller").secrets) == 1
    assert client.post(PATH, json={"overlap_s": 3600, "reason": "monthly"}, headers=old).status_code == 201
    assert runs.recent(hub, "caller", 1)[0].reason == "monthly"


def test_the_old_one_ends_once_the_new_one_is_used(client, key, hub):
    """As after any reissue."""
    old = key("self:rotate")
    new = {"AccessKey": client.post(PATH, headers=old).json()["value"]}
    client.get("/api/v1/whoami", headers=new)
    assert client.get("/api/v1/whoami", headers=old).headers["keyturn-credential-state"] == "retiring"
    issued.revoke(hub, "caller", "A")
    wait_for(lambda: client.get("/api/v1/whoami", headers=old).status_code == 401)
    assert client.get("/api/v1/whoami", headers=new).status_code == 200


def test_a_service_identity_is_nobody_issued(client, hub):
    """Its tokens are made by an administrator."""
    local = rights.local("ada")
    robot = people.add_service(hub, local, "robot", "", [("admin", "")])
    _, value = people.make_token(hub, local, robot.id, "x", rights.SCOPES)
    is_problem(client.post(PATH, headers={"Authorization": f"Bearer {value.reveal()}"}), 403, "cred.scope")

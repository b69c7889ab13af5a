"""Several workers on one database, and a worker that dies: they agree, and nothing is lost or doubled."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from tests.issued.conftest import open_test_hub
from tests.issued.oauth_world import Registered, World, _quick_hashes, person, register  # noqa: F401 - fixtures
from tests.issued.test_oauth_apps import is_ok, live
from tests.issued.test_oauth_clients import ended, is_error
from tests.waiting import wait_for

from keyturn.api.app import create_app
from keyturn.errors import NotDone
from keyturn.executor.executor import Executor
from keyturn.model.run import RunState
from keyturn.operations import issued


@pytest.fixture
def workers(tmp_path):
    """Two hubs with their own servers over one database; only the first has an engine."""
    hubs = [open_test_hub(tmp_path), open_test_hub(tmp_path)]
    hubs[0].engine.start()
    base = hubs[0].settings.public_url
    with (
        TestClient(create_app(hubs[0]), base_url=base, raise_server_exceptions=False) as one,
        TestClient(create_app(hubs[1]), base_url=base, raise_server_exceptions=False) as two,
    ):
        yield World(hubs[0], one, base), World(hubs[1], two, base)
    for hub in hubs:
        hub.close()


def test_a_hundred_refreshes_on_two_workers(workers):
    """Both give the same successors: one family, one living refresh token."""
    person(workers[0].hub)
    app = register(workers[0].hub, "oauth-app", "portal")
    body = workers[0].signed_up(app)
    start = threading.Barrier(50, timeout=60)

    def refresh(number):
        start.wait()
        return [workers[(number + n) % 2].refresh(app, body["refresh_token"]) for n in range(2)]

    with ThreadPoolExecutor(50) as pool:
        answers = [answer for pair in pool.map(refresh, range(50)) for answer in pair]
    assert [a.status_code for a in answers] == [200] * 100
    assert len({(a.json()["access_token"], a.json()["refresh_token"]) for a in answers}) == 1
    assert live(workers[0]) == (2, 1)
    fresh = answers[0].json()
    for world in workers:
        assert world.whoami(fresh["access_token"]).status_code == 200
    is_ok(workers[1].refresh(app, fresh["refresh_token"]))


def test_a_retired_secret_is_refused_by_the_other_worker_within_a_second(workers):
    """With its tokens; a token that one worker made opens the other's door; a revocation at one is seen at the other."""
    one, two = workers
    client = register(one.hub)
    old = one.token(client).json()["access_token"]
    assert two.whoami(old).status_code == 200
    handed = issued.reissue(one.hub, "etl", 0.5)
    fresh = Registered(client.id, handed.value.reveal(), "etl")
    new = two.token(fresh).json()["access_token"]  # its first use is seen by the engine of the other
    wait_for(lambda: one.token(client).status_code == 401)
    at = time.monotonic()
    is_error(two.token(client), 401, "invalid_client")
    assert two.whoami(old).status_code == 401
    assert two.introspect(fresh, old).json() == {"active": False}
    assert time.monotonic() - at < 1.0
    assert one.whoami(new).status_code == 200
    two.revoke(fresh, new)
    assert one.whoami(new).status_code == 401
    assert ended(one.hub, handed.run).state is RunState.COMPLETE


@pytest.mark.parametrize("anew", [False, True])
def test_a_worker_that_dies_before_the_secret_is_made(tmp_path, monkeypatch, anew):
    """The run goes on elsewhere from its frozen plan: the id is the one the plan has, and it is handed over then."""
    hub = open_test_hub(tmp_path)
    client = register(hub)
    call = issued.recreate if anew else issued.reissue
    with monkeypatch.context() as patch:
        patch.setattr(Executor, "advance", lambda *_: None)
        with pytest.raises(NotDone):
            call(hub, "etl", wait_s=0.1, trigger="t-1")
    assert [s.client_id for s in issued.get(hub, "etl").secrets] == [client.id]
    hub.close()
    hub = open_test_hub(tmp_path)
    hub.engine.start()
    handed = (
        issued.recreate(hub, "etl", trigger="t-1") if anew else issued.reissue(hub, "etl", 60, trigger="t-1")
    )
    planned = [s.params.get("client_id") for s in handed.run.plan.steps if s.params.get("client_id")]
    assert (handed.client_id != client.id) is anew
    assert planned == ([handed.client_id] if anew else [])
    with TestClient(create_app(hub), base_url=hub.settings.public_url) as http:
        world = World(hub, http, hub.settings.public_url)
        fresh = Registered(handed.client_id, handed.value.reveal(), "etl")
        assert world.token(fresh).status_code == 200
        if anew:
            assert ended(hub, handed.run).state is RunState.COMPLETE
            is_error(world.token(client), 401, "invalid_client")
        else:
            assert world.token(client).status_code == 200
    hub.close()


def test_a_lost_answer_after_a_restart_is_repeated(tmp_path):
    """The hub dies after the commit and before the answer: the same refresh on the next start gives the same tokens."""
    hub = open_test_hub(tmp_path)
    person(hub)
    app = register(hub, "oauth-app", "portal")
    with TestClient(create_app(hub), base_url=hub.settings.public_url) as http:
        body = World(hub, http, hub.settings.public_url).signed_up(app)
        lost = is_ok(World(hub, http, hub.settings.public_url).refresh(app, body["refresh_token"]))
    hub.close()
    hub = open_test_hub(tmp_path)
    with TestClient(create_app(hub), base_url=hub.settings.public_url) as http:
        world = World(hub, http, hub.settings.public_url)
        again = is_ok(world.refresh(app, body["refresh_token"]))
        assert {**again, "expires_in": 0} == {**lost, "expires_in": 0}
        assert live(world) == (2, 1)
    hub.close()

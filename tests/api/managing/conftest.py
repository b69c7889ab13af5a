"""A hub with the vendor of every shape, its API in a client, and service identities of every role."""

from __future__ import annotations

import threading

import pytest
import uvicorn
from fastapi.testclient import TestClient
from tests.faults import world
from tests.issued.conftest import open_test_hub
from tests.waiting import wait_for

from keyturn.api.app import create_app
from keyturn.model.run import TERMINAL, RunState
from keyturn.operations import connections, people, projects, rights, runs
from keyturn_lab.vendors.shapes.running import Shapes

LOCAL = rights.local("ada")


@pytest.fixture(scope="session")
def vendor():
    with Shapes.in_thread() as running:
        yield running


@pytest.fixture
def idle(tmp_path):
    """A hub whose engine does not run."""
    hub = open_test_hub(tmp_path, shapes=world.external())
    yield hub
    hub.close()


@pytest.fixture
def hub(idle):
    idle.engine.start()
    return idle


@pytest.fixture
def app(idle):
    return create_app(idle)


@pytest.fixture
def client(app):
    with TestClient(app, base_url="http://hub.test/api/v1/", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def connect(idle, vendor, request):
    """`connect(method, name, project)` makes a connection to an account of this test's own."""

    def make(method="two_slots", name="orders", project="", **options):
        login = make.logins[name] = f"{name}-{abs(hash(request.node.nodeid)) % 10**8}"
        world.connect(idle, vendor.client, method, login, **options)
        made = connections.find(idle, login)
        idle.store.write(lambda tx: tx.run("UPDATE connection SET name = ? WHERE id = ?", name, made.id))
        if project:
            projects.move(idle, made.id, project)
        return connections.find(idle, made.id)

    make.logins = {}  # what the vendor calls each
    return make


@pytest.fixture
def token(idle):
    """`token(role, project, scopes)` is the header of a service identity."""
    made = {}

    def make(role="admin", project="", scopes=rights.SCOPES, login=""):
        name = login or f"{role}-{project}-robot"
        if name not in made:
            made[name] = people.add_service(idle, LOCAL, name, "", [(role, project)]).id
        _, value = people.make_token(idle, LOCAL, made[name], "x", scopes)
        return {"Authorization": f"Bearer {value.reveal()}"}

    return make


@pytest.fixture
def ended(idle):
    """`ended(run_id)` waits for the end of a run."""

    def wait(run_id):
        def look():
            found = runs.get(idle, run_id)
            return found if found.state in TERMINAL or found.state is RunState.BLOCKED else None

        try:
            return wait_for(look, 20)
        except AssertionError:
            found = runs.get(idle, run_id)
            raise AssertionError(f"{found.goal.value}: {found.state.value}, {found.waiting_for}") from None

    return wait


@pytest.fixture
def served(app, hub):
    """The application behind a real server on the loopback interface; its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", access_log=False)
    server = uvicorn.Server(config)
    app.state.streams.stopping = lambda: server.should_exit
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(15)


def is_problem(answer, status, code=""):
    """The answer is a problem as the standard wants it."""
    body = answer.json()
    assert answer.status_code == status, body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert body["status"] == status
    assert not code or body["code"] == code, body
    assert {"type", "title", "detail", "request_id"} <= set(body)
    return body

"""Moving to another method by clicks: the methods, the plan for what was typed, and a whole move at a real row's stand-in."""

import re

import pytest
from tests.compliance.lab import or_skip, the_lab
from tests.compliance.rows import ROWS
from tests.operations.test_rows_end_to_end import open_world
from tests.web.conftest import LOCAL, PASSWORD, Browser, hidden, text

from keyturn.api.app import create_app
from keyturn.model.run import RunState
from keyturn.operations import connections, people, runs
from keyturn.operations.rights import Role


@pytest.fixture
def it(browser, person):
    """An administrator's browser."""
    return browser(person())


def test_the_methods_there_are(it, connect):
    """Each other one with what it means; the one in use is not among them."""
    connection = connect()
    path = f"/connections/{connection.id}/migrate"
    assert path in it.get(f"/connections/{connection.id}").text
    page = it.get(path)
    assert f'href="{path}/many_ids"' in page.text
    assert f'href="{path}/two_slots"' not in page.text
    for wrong in ("two_slots", "made-up"):
        assert it.get(f"{path}/{wrong}").status_code == 404


def test_who_may_move(browser, person, connect):
    """Administrators, as for every end of a credential."""
    path = f"/connections/{connect().id}/migrate"
    operator = browser(person(Role.OPERATOR))
    assert path not in operator.get(path.removesuffix("/migrate")).text
    assert operator.get(path).status_code == 403
    assert operator.post(f"{path}/many_ids", on="/account").status_code == 403


@pytest.fixture
def world(tmp_path):
    """A hub with a Snowflake connection that signs in by password."""
    made = open_world(or_skip(lambda: ROWS["snowflake/password by an administrator"](the_lab())), tmp_path)
    made.connect()
    yield made
    made.hub.engine.stop()
    made.hub.close()


@pytest.fixture
def signed_in(world):
    """`signed_in(login, role)` is somebody's browser at that hub."""
    app = create_app(world.hub)

    def make(login, role):
        link = people.invite(world.hub, LOCAL, login, login.title(), [(role, "")]).code.reveal()
        people.accept(world.hub, link, PASSWORD)
        return Browser(app).sign_in(login)

    return make


@pytest.fixture
def admin(signed_in):
    return signed_in("ada", "admin")


def test_a_password_becomes_a_key_pair_by_clicks(world, admin, signed_in):
    """The plan is there at once where nothing has to be typed; started as shown, once; approved by somebody else; then
    it signs in by key pair."""
    connection = connections.find(world.hub, world.name)
    path = f"/connections/{connection.id}/migrate/key_pair"
    page = admin.get(path)
    assert "Point of no return" in page.text
    assert "until a second person approves it" in text(page)
    stale = admin.post(path, {"digest": "0" * 64, "trigger": "web-1"})
    assert stale.status_code == 409
    assert "has changed since the plan was shown" in stale.text
    assert runs.recent(world.hub, connection.id) == []
    form = {"digest": hidden(page, "digest"), "trigger": hidden(page, "trigger"), "reason": "passwords end"}
    first, second = admin.post(path, form), admin.post(path, form)
    run_id = first.headers["location"].removeprefix("/runs/")
    assert re.fullmatch(r"run_\w+", run_id)
    assert second.headers.get("location", f"/runs/{run_id}") == f"/runs/{run_id}"
    approver = signed_in("cleo", "approver")
    approver.post(f"/runs/{run_id}/approve", on=f"/runs/{run_id}")
    run = world.follow(run_id, timeout_s=60)
    assert run.state is RunState.COMPLETE, world.why(run)
    assert len(runs.recent(world.hub, connection.id)) == 1
    assert connections.find(world.hub, world.name).method == "key_pair"
    assert "Migrate" in admin.get(f"/runs/{run_id}").text


def test_what_is_missing_is_named_before_anything_starts(world, admin):
    """The other method needs a client: its fields are open, the plan waits for them, and a typed secret is not drawn again."""
    connection = connections.find(world.hub, world.name)
    path = f"/connections/{connection.id}/migrate/oauth"
    page = admin.get(path)
    assert "What is not known yet" in page.text
    assert "Point of no return" not in page.text
    answer = admin.post(
        f"{path}/plan", {"field-client_id": "", "field-admin_password": "s3cret-4711"}, on=path
    )
    assert answer.status_code == 422
    assert "This is needed." in answer.text
    assert "s3cret-4711" not in answer.text
    quiet = admin.post(f"{path}/plan", {}, on=path, headers={"hx-request": "true"})
    assert quiet.status_code == 200
    assert runs.recent(world.hub, connection.id) == []

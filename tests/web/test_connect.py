"""Connecting by clicks: systems, methods, forms from the definition, tested before anything is kept."""

import re

import pytest
from tests.compliance.lab import or_skip, the_lab
from tests.compliance.rows.custom_rest import notes_status
from tests.faults import shapes_connector as shapes
from tests.operations.test_rows_end_to_end import open_world
from tests.web.conftest import LOCAL, PASSWORD, Browser, text

from keyturn.api.app import create_app
from keyturn.catalog import Catalog
from keyturn.operations import connections, events, leases, people, projects, systems
from keyturn.operations.rights import Role
from keyturn.web import words

WRONG = "made-up-value-4711"


@pytest.fixture
def it(browser, person):
    """An administrator's browser."""
    return browser(person())


@pytest.fixture
def provisioned(vendor, request):
    """A principal at the vendor that this hub does not know yet: its settings, and what is secret of it."""
    made = shapes.provision(vendor.client, "two_slots", f"new-{abs(hash(request.node.name)) % 10**8}")
    known = {f.name: f for f in shapes.system().method("two_slots").fields}
    values = {k: str(v) for k, v in {**made.settings, **dict(made.material)}.items() if k in known}
    return values, values["secret"]


def send(it, values, name="orders", system="shapes", method="two_slots", **more):
    """The form as a browser sends it."""
    path = f"/connect/{system}/{method}"
    form = {"name": name, "owner": "Data team", **{f"field-{k}": v for k, v in values.items()}, **more}
    return it.post(path, form)


def test_every_system_can_be_chosen(it):
    """All outbound ones by category, found by name, category and method; what this hub issues is not among them."""
    page = it.get("/connect")
    offered = set(re.findall(r'href="/connect/([\w-]+)"', page.text))
    catalog = Catalog()
    wanted = {s.name for s in catalog.systems() if any(m.direction == "outbound" for m in s.methods)}
    assert wanted <= offered
    assert "hub-api" not in offered
    assert {s.category for s in catalog.systems() if s.name in wanted} <= set(
        re.findall(r'class="group">([^<]+)<', page.text)
    )
    assert re.findall(r'href="/connect/([\w-]+)"', it.get("/connect?q=snow key").text) == ["snowflake"]
    assert "Nothing fits" in it.get("/connect?q=zzz").text
    for name in wanted:
        for method in catalog.system(name).methods:
            if method.direction == "outbound":
                form = it.get(f"/connect/{name}/{method.name}")
                assert form.status_code == 200, (name, method.name)
                drawn = set(re.findall(r'name="field-(\w+)"', form.text))
                fields = {f.name for f in method.fields}
                assert drawn == (fields if "definition" not in fields else set()), (name, method.name)
                for grant in (p.grant for p in method.permissions if p.grant):
                    assert grant.split()[0] in form.text


def test_a_connection_by_clicks(it, idle, provisioned):
    """It is tested, kept, in its project, and the answer says as whom; the secret is on no page."""
    values, secret = provisioned
    answer = send(it, values, project="billing")
    assert answer.status_code == 303, text(answer)
    made = connections.find(idle, "orders")
    assert answer.headers["location"] == f"/connections/{made.id}"
    page = it.get(answer.headers["location"])
    assert "orders is connected" in page.text
    assert secret not in page.text
    assert (made.owner, projects.of(idle, made.id)) == ("Data team", "billing")
    assert leases.resolve(idle, "orders").material["secret"] == secret
    line = events.latest(idle, 1)[0].facts
    assert (line["operation"], line["on"], line["by"]) == ("connection.change", "orders", "admin")


def test_what_the_vendor_refuses_is_not_kept(it, idle, provisioned):
    """The form comes back: plain fields as typed, no secret, and why on top."""
    values, _ = provisioned
    answer = send(it, {**values, "secret": WRONG})
    assert answer.status_code == 502
    assert "refused the credential" in text(answer)
    assert "Nothing was kept" in text(answer)
    assert WRONG not in answer.text
    assert f'value="{values["principal"]}"' in answer.text
    assert 'value="orders"' in answer.text
    assert connections.every(idle) == []


@pytest.mark.parametrize(
    ("change", "field", "words_"),
    [
        ({"principal": ""}, "principal", "This is needed."),
        ({"secret": ""}, "secret", "This is needed."),
        ({"principal": "a\x07b"}, "principal", "control characters"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(it, idle, provisioned, change, field, words_):
    values, secret = provisioned
    answer = send(it, {**values, **change})
    assert answer.status_code == 422
    told = re.search(rf'id="e-f-field-{field}">([^<]+)<', answer.text)
    assert words_ in told[1]
    assert re.search(rf'id="f-field-{field}"[^>]*aria-invalid="true"', answer.text)
    assert secret not in answer.text
    assert connections.every(idle) == []


def test_a_taken_or_odd_name_is_said_at_the_name(it, connect, provisioned):
    connect(name="orders")
    values, _ = provisioned
    assert "already" in re.search(r'id="e-name">([^<]+)', send(it, values).text)[1]
    assert re.search(r'id="e-name">', send(it, values, name="<b>").text)


def test_a_vendor_that_does_not_answer(it, idle, provisioned, monkeypatch):
    """Nothing is kept, and that is said."""
    values, _ = provisioned
    answer = send(it, {**values, "address": "127.0.0.1:1"})
    assert answer.status_code == 503
    assert "Nothing was kept" in text(answer)
    assert connections.every(idle) == []


def test_a_grant_goes_on_to_authorize(it, idle, provisioned, vendor):
    """Saved without a credential; the next page is the plan of its authorization."""
    values, _ = provisioned
    page = it.get("/connect/shapes/grant").text
    assert "http://127.0.0.1:8425/oauth/callback" in page
    answer = send(it, {k: values[k] for k in ("address", "principal")}, name="site", method="grant")
    made = connections.find(idle, "site")
    assert answer.headers["location"] == f"/connections/{made.id}/plan/reauthorize"
    page = it.get(answer.headers["location"])
    assert "authorize it next" in page.text
    assert "Authorize now" in page.text


def test_a_file_is_uploaded(it, idle, monkeypatch):
    """Its text counts, in place of the area; one that is no text is refused at its field; none is ever large."""
    seen = {}
    real = connections.connect
    monkeypatch.setattr(
        connections,
        "connect",
        lambda hub, s, m, n, values, **k: seen.update(values) or real(hub, s, m, n, values, **k),
    )
    path = "/connect/snowflake/key_pair"
    form = {"name": "dwh", "field-account": "org-acct", "field-user": "ETL", "field-private_key": "typed"}
    page = it.get(path).text
    assert 'type="file" name="file-private_key"' in page
    csrf = re.search(r'name="csrf" value="(\w+)"', page)[1]

    def upload(data):
        files = {"file-private_key": ("key.p8", data)}
        return it.client.post(path, data={"csrf": csrf, **form}, files=files)

    key = b"-----BEGIN PRIVATE KEY-----\r\nnot a key at all\r\n-----END PRIVATE KEY-----\r\n"
    answer = upload(key)
    assert answer.status_code in {422, 502, 503}
    assert seen["private_key"] == key.decode().replace("\r\n", "\n")
    assert "not a key at all" not in answer.text
    odd = upload(b"\xff\xfe\x00binary")
    assert "not text" in re.search(r'id="e-f-field-private_key">([^<]+)', odd.text)[1]
    assert upload(b"x" * 600_000).status_code == 413
    assert connections.every(idle) == []


def test_a_definition_of_ones_own(it, idle):
    """Pasted, checked with the finding at its line, kept, and its form follows."""
    page = it.get("/connect/custom-rest/token")
    assert "Which system is it?" in page.text
    bad = it.post(
        "/connect/custom-rest/token/definition", {"text": "schema: nope"}, on="/connect/custom-rest/token"
    )
    assert bad.status_code == 422
    assert "schema: nope" in bad.text
    assert systems.own_definitions(idle) == []


def test_a_public_address_is_offered_nothing_that_it_has_not(tmp_path):
    """No rotation, no leak to contain, no grade of proof; what it is, is said, before and after it is connected."""
    world = open_world(or_skip(lambda: notes_status(the_lab())), tmp_path)
    world.hub.engine.stop()
    world.connect()
    made = people.invite(world.hub, LOCAL, "ada", "Ada", [(Role.ADMIN.value, "")])
    it = Browser(create_app(world.hub)).sign_in(people.accept(world.hub, made.code.reveal(), PASSWORD).login)
    words = "There is no credential: nothing to rotate."
    assert f"{words}</span>" in it.get("/connect/custom-rest").text
    page = it.get(f"/connections/{connections.find(world.hub, world.name).id}").text
    assert words in page
    assert "Proof of death" not in page
    for act in ("plan/rotate", "plan/contain"):
        assert act not in page
    for act in ("/test", "plan/disconnect"):
        assert act in page
    assert "Nothing to rotate" in it.get("/systems").text
    world.hub.close()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.APPROVER])
def test_only_administrators_connect(browser, person, role, provisioned, idle):
    it = browser(person(role))
    assert '/connect"' not in it.get("/connections").text
    assert it.get("/connect/shapes/two_slots").status_code == 403
    assert it.post("/connect/shapes/two_slots", {"name": "x"}, on="/account").status_code == 403
    assert connections.every(idle) == []


def test_an_administrator_of_a_project_connects_into_it(browser, person, provisioned, idle):
    """Never into another one, and never into none."""
    it = browser(person(Role.ADMIN, "lead", "billing"))
    values, _ = provisioned
    assert send(it, values).status_code == 422
    assert send(it, values, project="other").status_code == 403
    assert connections.every(idle) == []
    assert send(it, values, project="billing").status_code == 303
    assert projects.of(idle, connections.find(idle, "orders").id) == "billing"


def test_unknown_systems_and_methods(it):
    for path in ("/connect/none", "/connect/hub-api", "/connect/hub-api/access_key", "/connect/jira/none"):
        assert it.get(path).status_code == 404


def test_initials():
    titles = ["PostgreSQL", "Amazon S3", "Jira Cloud", "aha", "SAP Datasphere", "42"]
    assert [words.badge(each)["initials"] for each in titles] == ["PS", "AS", "JC", "Ah", "SD", "42"]


def test_the_account_is_named_before_a_consent(it, connect, idle):
    """A task says which account it must be; a wrong one is returned with both names."""
    from tests.waiting import wait_for
    from tests.web.test_work import start

    from keyturn.operations import tasks

    connection = connect("supplied")
    start(it, connection)
    idle.engine.start()
    found = wait_for(lambda: next(iter(tasks.waiting(idle)), None))
    assert connection.identity["principal"] in text(it.get(f"/tasks/{found.id}"))

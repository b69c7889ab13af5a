"""Settings by clicks: who is told by webhook or mail, the signing secret shown once, and what became of deliveries."""

import json
import re
from dataclasses import replace

import pytest
from tests.api.managing.test_notices import Receiver
from tests.waiting import wait_for
from tests.web.conftest import LOCAL, Browser, text

from keyturn.api.app import create_app
from keyturn.contract.values import NetworkPolicy
from keyturn.model.plan import Goal
from keyturn.model.post import Post
from keyturn.operations import events, notices, runs
from keyturn.operations.rights import Role
from keyturn.web.pages import settings

TOPICS = ["run.done", "task.waiting"]


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def hub(idle, receiver):
    """A hub that may call the receiver, and writes mails."""
    network = NetworkPolicy(frozenset({receiver.url.partition("//")[2].partition("/")[0]}))
    post = Post("127.0.0.1", 25, "keyturn@example.com", "none")
    return replace(idle, settings=replace(idle.settings, network=network, post=post))


@pytest.fixture
def it(hub, person):
    return Browser(create_app(hub)).sign_in(person().login)


def webhook(it, receiver, **more):
    form = {"name": "ops channel", "address": receiver.url, "topic": TOPICS, **more}
    return it.post("/settings/tell/webhook", form)


def test_a_webhook_by_clicks(it, hub, connect, receiver):
    """Added with its secret on this one page; told of a run; its answer is listed; another secret, pause, remove."""
    assert "Nobody is told yet" in it.get("/settings").text
    answer = webhook(it, receiver)
    secret = re.search(r'id="value" readonly value="(whsec_[^"]+)"', answer.text)[1]
    assert answer.headers["cache-control"] == "no-store"
    told = notices.recipients(hub)[0]
    path = f"/settings/told/{told.id}"
    assert path in it.get("/settings").text
    assert "a run has ended; a person should do something" in text(it.get("/settings"))
    notices.look(hub)
    connection = connect()
    hub.engine.start()
    run = runs.start(hub, connection.name, Goal.ROTATE)
    wait_for(lambda: runs.get(hub, run.id).ended_at)
    notices.look(hub)
    assert "On its way" in it.get(path).text
    assert notices.deliver(hub) == 1
    head, body = receiver.got[0]
    at = int(head["webhook-timestamp"])
    assert head["webhook-signature"] == notices.sign(secret, head["webhook-id"], at, body)
    assert "Delivered" in it.get(path).text
    pages = it.get(path).text + it.get("/settings").text + it.get("/audit").text
    assert secret not in pages
    again = it.post(f"{path}/secret", on=path)
    assert re.search(r'value="(whsec_[^"]+)"', again.text)[1] != secret
    it.post(f"{path}/switch", {"paused": "yes"}, on=path)
    assert notices.recipient(hub, told.id).paused_at
    assert "Paused" in it.get("/settings").text
    it.post(f"{path}/switch", {"paused": "no"}, on=path)
    it.post(path, {"address": receiver.url, "topic": ["debt.open"]})
    assert notices.recipient(hub, told.id).topics == "debt.open"
    it.post(f"{path}/remove", on=path)
    assert notices.recipients(hub) == []
    decided = [line.facts["decision"] for line in events.latest(hub) if "recipient" in line.facts["decision"]]
    assert decided == [
        "recipient_dropped",
        *["recipient_changed"] * 3,
        "recipient_secret_made",
        "recipient_added",
    ]


def test_what_was_given_up_is_tried_again(it, hub, connect, receiver, monkeypatch):
    """With what the other end said; one button makes it due again."""
    monkeypatch.setattr(notices, "LADDER_S", ())
    webhook(it, receiver)
    told = notices.recipients(hub)[0]
    path = f"/settings/told/{told.id}"
    notices.look(hub)
    connection = connect()
    hub.engine.start()
    run = runs.start(hub, connection.name, Goal.ROTATE)
    wait_for(lambda: runs.get(hub, run.id).ended_at)
    notices.look(hub)
    receiver.answers.append((500, {}))
    notices.deliver(hub)
    page = it.get(path)
    assert "Given up" in page.text
    assert "it answered 500" in page.text
    delivery = re.search(r'name="delivery" value="([^"]+)"', page.text)[1]
    it.post(f"{path}/try", {"delivery": delivery}, on=path)
    notices.deliver(hub)
    assert "Delivered" in it.get(path).text


def test_a_mail_address_by_clicks(it, hub):
    """No secret to show: straight back to the list."""
    answer = it.post(
        "/settings/tell/mail", {"name": "on call", "address": "ops@example.com", "topic": TOPICS}
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/settings")
    assert "Mail to ops@example.com" in text(it.get("/settings"))
    told = notices.recipients(hub)[0]
    assert "Signing secret" not in it.get(f"/settings/told/{told.id}").text


def test_a_test_message(it, hub, receiver):
    """Sent at once, signed, also while paused; what the other end says is shown, and on record. Nothing waits for later."""
    secret = re.search(r'value="(whsec_[^"]+)"', webhook(it, receiver).text)[1]
    told = notices.recipients(hub)[0]
    path = f"/settings/told/{told.id}"
    it.post(f"{path}/switch", {"paused": "yes"}, on=path)
    receiver.answers += [(204, {}), (404, {}), (410, {})]
    seen = []
    for _ in range(3):
        it.post(f"{path}/test", on=path)
        seen.append(text(it.get(path)))
    assert "ops channel took the test message: 204." in seen[0]
    assert "ops channel did not take it: it answered 404." in seen[1]
    assert "410: nobody listens there any more." in seen[2]
    head, body = receiver.got[0]
    assert head["webhook-signature"] == notices.sign(
        secret, head["webhook-id"], int(head["webhook-timestamp"]), body
    )
    said = json.loads(body)
    assert (said["type"], said["data"]["by"]) == ("test.message", "admin")
    assert len(receiver.got) == 3
    assert notices.deliveries(hub, told.id) == []
    lines = [line.facts for line in events.latest(hub) if line.facts["decision"] == "recipient_tested"]
    assert [(line["by"], line["on"], line["delivered"], line["said"]) for line in reversed(lines)] == [
        ("admin", "ops channel", True, "204"),
        ("admin", "ops channel", False, "it answered 404"),
        ("admin", "ops channel", False, "410: nobody listens there any more"),
    ]


def test_a_test_message_goes_nowhere_else(idle, browser, person, receiver):
    """The guard of every call holds for it as well: an address of this machine is not called."""
    port = receiver.server_address[1]
    to, _ = notices.add_recipient(idle, LOCAL, "webhook", "x", f"https://127.0.0.1:{port}/", TOPICS)
    it = browser(person())
    it.post(f"/settings/told/{to.id}/test", on=f"/settings/told/{to.id}")
    assert "x did not take it: 127.0.0.1 leads to a loopback address." in text(
        it.get(f"/settings/told/{to.id}")
    )
    assert receiver.got == []


@pytest.mark.parametrize(
    ("kind", "wrong", "said"),
    [
        ("webhook", {"address": "http://hooks.example.com/x"}, "https"),
        ("webhook", {"address": "ftp://example.com"}, "http"),
        ("webhook", {"name": "<script>"}, "1 to 80 letters"),
        ("webhook", {"topic": []}, "Choose at least one topic"),
        ("webhook", {"topic": ["made.up"]}, "no such topic"),
        ("mail", {"address": "nobody"}, "no e-mail address"),
    ],
)
def test_settings_asked_wrongly(it, hub, receiver, kind, wrong, said):
    """At its field, with what was typed still there; nothing is kept."""
    address = receiver.url if kind == "webhook" else "ops@example.com"
    form = {"name": "ops", "address": address, "topic": TOPICS, **wrong}
    answer = it.post(f"/settings/tell/{kind}", form)
    assert answer.status_code == 422
    assert said in text(answer)
    assert notices.recipients(hub) == []
    assert answer.text.count(" checked") == len([t for t in form["topic"] if t in notices.TOPICS])


def test_without_a_mail_server_it_says_so(browser, person):
    """Before somebody types, and when they do."""
    it = browser(person())
    assert "KEYTURN_SMTP_URL" in it.get("/settings/tell/mail").text
    answer = it.post("/settings/tell/mail", {"name": "x", "address": "ops@example.com", "topic": TOPICS})
    assert "sends no mail" in answer.text


def test_the_setup_shows_no_secret(it, hub, browser, person):
    """And is for administrators of the whole hub."""
    page = text(it.get("/settings"))
    assert hub.settings.public_url in page
    assert "SQLite, one file on this machine" in page or "PostgreSQL at" in page
    assert str(hub.settings.kek).partition(":")[2] not in page
    assert "/health" in it.get("/settings").text
    for role in (Role.VIEWER, Role.OPERATOR, Role.APPROVER):
        other = browser(person(role))
        assert 'href="/settings"' not in other.get("/").text
        assert other.get("/settings").status_code == 403


def test_the_store_is_named_without_its_password():
    assert settings.store("postgresql://hub:s3cret@db.example/keyturn") == "PostgreSQL at db.example"

"""Issuing by clicks: a value shown once, a second one beside the first, ending, and the register of who has it."""

import re

import pytest
from tests.waiting import wait_for
from tests.web.conftest import hidden, text

from keyturn.errors import NotFound
from keyturn.issued import kinds
from keyturn.operations import events, issued, projects, register, runs
from keyturn.operations.rights import Role
from keyturn.web.pages import issued as issued_pages


@pytest.fixture
def it(browser, person):
    """An administrator's browser."""
    return browser(person())


def issue(it, kind="api-key", name="partner", **fields):
    path = f"/issued/new/{kind}"
    form = {"name": name, "owner": "Partner team", **{f"field-{k}": v for k, v in fields.items()}}
    return it.post(path, form)


def value_of(answer):
    """The value that a page shows."""
    return re.search(r'id="value" readonly value="([^"]+)"', answer.text)[1]


VALUES = {
    "scopes": "read",
    "callback_urls": "https://portal.example.com/back",
    "contact": "ops@example.com",
    "workspace": "acme",
}


@pytest.mark.parametrize("kind", [k.name for k in kinds.KINDS if k.is_ours_to_check])
def test_every_kind_is_issued(it, idle, kind):
    """From the form that its page describes; the value is on the answer and on no later page."""
    page = it.get(f"/issued/new/{kind}")
    drawn = re.findall(r'name="field-(\w+)"', page.text)
    method = idle.catalog.method(kinds.named(kind).system, kinds.named(kind).method)
    assert drawn == [f.name for f in method.fields]
    needed = {f.name: VALUES[f.name] for f in method.fields if f.required and f.default is None}
    answer = issue(it, kind, **needed)
    assert answer.status_code == 200, text(answer)
    assert answer.headers["cache-control"] == "no-store"
    value, made = value_of(answer), issued.get(idle, "partner")
    if not kinds.named(kind).signs and not kinds.named(kind).flows and kind == "api-key":
        assert issued.book(idle).check(value).accepted
    assert made.connection.owner == "Partner team"
    pages = [it.get(p) for p in ("/issued", f"/issued/{made.connection.id}", "/audit", "/connections")]
    assert {page.status_code for page in pages} == {200}
    later = "".join(page.text for page in pages)
    assert value not in later
    assert f"...{value[-4:]}" in later
    assert events.latest(idle, 1)[0].facts["verb"] == "issue"


def test_what_is_wrong_is_said_at_its_field(it, idle):
    answer = issue(it, scopes="READ everything!")
    assert answer.status_code == 422
    assert re.search(r'id="e-f-field-scopes">([^<]+)', answer.text)
    assert 'value="READ everything!"' in answer.text
    assert issued.every(idle) == []
    issue(it)
    assert "already" in re.search(r'id="e-name">([^<]+)', issue(it).text)[1]
    assert it.get("/issued/new/none").status_code == 404


def test_a_second_one_beside_the_first(it, idle):
    """Both work during the overlap that was chosen; sent twice, it is one run, and its value is not shown twice."""
    idle.engine.start()
    first = value_of(issue(it))
    made = issued.get(idle, "partner").connection
    path = f"/issued/{made.id}"
    page = it.get(path)
    form = {"trigger": hidden(page, "trigger"), "overlap": "604800", "reason": "quarterly"}
    answer = it.post(f"{path}/reissue", form, on=path)
    assert answer.status_code == 200, text(answer)
    second, ledger = value_of(answer), issued.book(idle)
    assert second != first
    assert ledger.check(first).accepted
    assert ledger.check(second).accepted
    run = runs.recent(idle, "partner", 1)[0]
    assert run.reason == "quarterly"
    assert any("604800" in step.title for step in run.plan.steps)
    assert "Two work" in it.get(path).text
    other = it.post(f"{path}/reissue", {"trigger": "another", "overlap": "3600"}, on=path)
    assert other.status_code == 409
    assert second not in other.text
    assert len(runs.recent(idle, "partner")) == 1


def test_one_made_for_later(it, idle):
    """Chosen on both forms; the page says that it does not work yet, from when on, and lets one end it."""
    idle.engine.start()
    path = "/issued/new/api-key"
    first = value_of(it.post(path, {"name": "partner", "owner": "x", "starts": "86400"}))
    made, ledger = issued.get(idle, "partner").connection, issued.book(idle)
    assert not ledger.check(first).accepted
    page = it.get(f"/issued/{made.id}")
    assert "Works later" in page.text
    assert "Works later" in it.get("/issued").text
    assert re.search(r"from\s+<time", page.text)
    idle.store.write(lambda tx: tx.run("UPDATE issued_secret SET starts_at = 1"))
    assert ledger.check(first).accepted
    form = {"overlap": "3600", "starts": "604800"}
    second = value_of(it.post(f"/issued/{made.id}/reissue", form, on=f"/issued/{made.id}"))
    assert not ledger.check(second).accepted
    assert "Two work" not in it.get("/issued").text
    sure = {"sure": "yes", "slot": "B"}
    assert it.post(f"/issued/{made.id}/revoke", sure, on=f"/issued/{made.id}").status_code == 303
    assert [s.state.value for s in issued.get(idle, "partner").secrets] == ["revoked", "live"]
    ledger.close()


def test_the_button_says_that_tokens_end_too(it, idle):
    """For an OAuth client, on the button itself; a key has none to end."""
    for kind, says in (("m2m", True), ("api-key", False)):
        issue(it, kind, f"a-{kind}", scopes="read")
        page = it.get(f"/issued/{issued.get(idle, f'a-{kind}').connection.id}").text
        button = re.search(r'class="danger" type="submit">(End it now[^<]*)<', page)[1]
        assert ("with its tokens" in button) is says


def test_ending_it(it, idle):
    """Asked twice, refused at once, named who is cut off; one slot alone leaves the other."""
    idle.engine.start()
    first = value_of(issue(it, contact="ops@example.com"))
    made = issued.get(idle, "partner").connection
    register.hold(idle, made.id, "Acme", contact="sam@acme.example")
    path, ledger = f"/issued/{made.id}", issued.book(idle)
    assert "sam@acme.example" in text(it.get(path)).partition("Cut off are")[2]
    assert it.post(f"{path}/revoke", {}, on=path).status_code == 422
    assert ledger.check(first).accepted
    second = value_of(it.post(f"{path}/reissue", {"overlap": "86400"}, on=path))
    slot = next(s.slot for s in issued.get(idle, made.id).secrets if s.hint == first[-4:])
    assert it.post(f"{path}/revoke", {"sure": "yes", "slot": slot}, on=path).status_code == 303
    assert not ledger.check(first).accepted
    assert ledger.check(second).accepted
    assert it.post(f"{path}/revoke", {"sure": "yes", "slot": "Z"}, on=path).status_code == 409
    assert it.post(f"{path}/revoke", {"sure": "yes"}, on=path).status_code == 303
    assert not ledger.check(second).accepted
    wait_for(lambda: "Ended" in it.get(path).text)


def test_ending_many(it, idle, browser, person):
    """Shown first with whom it hits; asked twice; then refused at once, what was not chosen goes on."""
    idle.engine.start()
    values = {name: value_of(issue(it, "api-key", name)) for name in ("a", "b")}
    other, ledger = value_of(issue(it, "bulk-key", "c")), issued.book(idle)
    register.hold(idle, issued.get(idle, "a").connection.id, "Acme", contact="sam@acme.example")
    page = it.post("/issued/end", {"kind": "api-key"}, on="/issued/end")
    assert "2 would end" in page.text
    assert "sam@acme.example" in text(page)
    assert it.post("/issued/end", {"kind": "api-key", "end": "yes"}, on="/issued/end").status_code == 422
    assert it.post("/issued/end", {}, on="/issued/end").status_code == 422
    assert it.post("/issued/end", {"before": "soon"}, on="/issued/end").status_code == 422
    early = it.post("/issued/end", {"before": "2020-01-01T00:00"}, on="/issued/end")
    assert "Nothing of that is alive" in early.text
    assert all(ledger.check(each).accepted for each in values.values())
    viewer = browser(person(Role.VIEWER, "eve"))
    assert viewer.get("/issued/end").status_code == 403
    sure = {"kind": "api-key", "end": "yes", "sure": "yes", "reason": "incident 7"}
    answer = it.post("/issued/end", sure, on="/issued/end")
    assert (answer.status_code, answer.headers["location"]) == (303, "/issued")
    assert not any(ledger.check(each).accepted for each in values.values())
    assert ledger.check(other).accepted
    assert events.latest(idle, 1)[0].facts["verb"] == "revoke_many"
    ledger.close()


def test_a_value_once_more(it, idle, browser, person):
    """To the same person within ten minutes; to nobody else, and not afterwards."""
    value = value_of(issue(it))
    made = issued.get(idle, "partner")
    path, form = f"/issued/{made.connection.id}", {"version": made.secrets[0].version_id}
    assert value_of(it.post(f"{path}/reveal", form, on=path)) == value
    other = browser(person(Role.ADMIN, "other"))
    refused = other.post(f"{path}/reveal", form, on=path)
    assert refused.status_code == 403
    assert value not in refused.text
    assert it.post(f"{path}/reveal", {"version": "ver_none"}, on=path).status_code == 404
    idle.store.write(lambda tx: tx.run("UPDATE issued_secret SET created_at = created_at - 700"))
    assert "Show the value once more" not in it.get(path).text


def test_a_client_made_anew(it, idle):
    """Another id and secret, asked twice; the old ones end."""
    idle.engine.start()
    issue(it, "m2m")
    before = issued.get(idle, "partner")
    path = f"/issued/{before.connection.id}"
    assert it.post(f"{path}/reissue", {"anew": "yes"}, on=path).status_code == 422
    answer = it.post(f"{path}/reissue", {"anew": "yes", "sure": "yes"}, on=path)
    assert answer.status_code == 200, text(answer)
    now = re.search(r'id="client-id" readonly value="([^"]+)"', answer.text)[1]
    assert now != before.client_id
    assert issued.get(idle, "partner").client_id == now


def test_the_register(it, idle):
    """Somebody is put on it, confirmed, taken off; a link shows the value once."""
    value = value_of(issue(it))
    made = issued.get(idle, "partner").connection
    path = f"/issued/{made.id}"
    it.post(
        f"{path}/holders", {"holder": "Acme <b>", "contact": "sam@acme.example", "place": "vault"}, on=path
    )
    page = it.get(path)
    assert "Acme &lt;b&gt;" in page.text
    assert "Not confirmed" in page.text
    assert it.post(f"{path}/holders", {"holder": " "}, on=path).status_code == 422
    it.post(f"{path}/holder", {"holder": "Acme <b>", "what": "confirm"}, on=path)
    assert "Has the newest" in it.get(path).text
    answer = it.post(f"{path}/link", {"holder": "Acme <b>", "for": "3600"}, on=path)
    url = re.search(r'id="link" readonly value="([^"]+)"', answer.text)[1]
    assert value not in answer.text
    code = url.partition("#")[2]
    assert register.open_link(idle, code).values == {"value": value}
    with pytest.raises(NotFound):
        register.open_link(idle, code)
    it.post(f"{path}/holder", {"holder": "Acme <b>", "what": "remove"}, on=path)
    assert "Acme &lt;b&gt;" not in it.get(path).text.partition('id="holders"')[2].partition("Runs")[0]


def test_who_may_issue(browser, person, idle, connect):
    """Viewers look; a project's administrator issues into it, and finds nothing of others."""
    root = browser(person(Role.ADMIN, "root"))
    issue(root)
    made = issued.get(idle, "partner").connection
    viewer = browser(person(Role.VIEWER))
    page = viewer.get(f"/issued/{made.id}")
    assert page.status_code == 200
    assert '<form method="post" action="/issued' not in page.text
    for path in ("reissue", "revoke", "reveal", "link", "holders", "holder"):
        answer = viewer.post(f"/issued/{made.id}/{path}", {"sure": "yes"}, on="/account")
        assert answer.status_code == 403, path
    assert viewer.get("/issued/new").status_code == 403
    lead = browser(person(Role.ADMIN, "lead", "billing"))
    assert lead.get(f"/issued/{made.id}").status_code == 404
    assert made.id not in lead.get("/issued").text
    assert issue(lead, name="mine").status_code == 422
    answer = lead.post("/issued/new/api-key", {"name": "mine", "project": "billing"})
    assert answer.status_code == 200
    assert projects.of(idle, issued.get(idle, "mine").connection.id) == "billing"
    outbound = connect(name="orders")
    assert root.get(f"/issued/{outbound.id}").status_code == 404


def test_they_stand_where_people_look_for_them(it):
    """Under the headings that the guide uses."""
    issue(it, "api-key", "partner", scopes="read")
    issue(it, "oauth-app", "portal", callback_urls="https://portal.example.com/back", scopes="read")
    issue(it, "hub-segment", "segment", contact="ops@example.com")
    page = text(it.get("/issued"))
    for heading in ("API", "User Management: Authentication", "Segment"):
        assert heading in page
    assert "Bulk" not in page.partition("Issue one")[2]
    every = {kind for group in issued_pages.GROUPS for kind in group.kinds}
    assert every == {
        kind.name for kind in kinds.KINDS if kind.is_ours_to_check
    }  # buckets have a list of their own


def test_a_buckets_key_is_asked_for(it):
    """It is offered with the others; its form names what is missing."""
    assert "/issued/new/hub-bucket" in it.get("/issued/new").text
    answer = issue(it, "hub-bucket", "drop")
    assert answer.status_code == 422
    assert "This is needed." in answer.text

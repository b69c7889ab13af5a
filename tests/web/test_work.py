"""Connections, plans, runs, tasks and home, against a vendor of every shape."""

import asyncio
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.faults import shapes_connector as shapes
from tests.waiting import wait_for
from tests.web.conftest import hidden, text

from keyturn.model.run import RunState
from keyturn.operations import connections, debts, events, leases, projects, runs, tasks
from keyturn.operations.rights import Role


@pytest.fixture
def it(browser, person):
    """An administrator's browser."""
    return browser(person())


def start(it, connection, goal="rotate", verb="start", **more):
    plan = it.get(f"/connections/{connection.id}/plan/{goal}")
    form = {"trigger": hidden(plan, "trigger"), "digest": hidden(plan, "digest"), **more}
    path = f"/connections/{connection.id}"
    return it.post(f"{path}/{verb}/{goal}", form, on=f"{path}/plan/{goal}")


# -- the list ------------------------------------------------------------------------------------------------------------


def many(idle, connection, count):
    """Copies of a connection's row: the list needs no more."""
    row = idle.store.read(lambda tx: tx.one("SELECT * FROM connection WHERE id = ?", connection.id))
    marks = ",".join("?" for _ in row)

    def work(tx):
        tx.many(
            f"INSERT INTO connection VALUES ({marks})",
            [(f"con_{n:05}", f"copy {n:05}", *row[2:]) for n in range(count)],
        )

    idle.store.write(work)


def test_thousands_are_searched_sorted_and_paged(it, connect, idle):
    """Every one is found by going through the pages, quickly; a search narrows them down."""
    many(idle, connect(name="orders"), 3000)
    seen, path = [], "/connections?q=copy"
    began = time.monotonic()
    for _ in range(5):
        page = it.get(path)
        seen += re.findall(r'class="name" id="c-(con_\d+)"', page.text)
        path = re.search(r'href="(/connections\?[^"]*after=[^"]*)">Next', page.text)[1].replace("&amp;", "&")
    assert time.monotonic() - began < 5
    assert len(seen) == len(set(seen)) == 250
    assert "201 to 250 of 3000" in text(page)
    assert re.findall(r'id="c-(\w+)"', it.get("/connections?q=copy 00042").text) == ["con_00042"]
    down = re.findall(r'id="c-(\w+)"', it.get("/connections?q=copy&sort=name&down=1").text)
    assert down[0] == "con_02999"
    assert "Nothing fits" in it.get("/connections?q=zzz").text


def test_states_and_systems_filter(it, connect, idle):
    """What is overdue, expires, runs or is well is said and can be chosen."""
    old, soon, well = connect(name="old"), connect(name="soon"), connect(name="well")
    month = 86400 * 30
    idle.store.write(
        lambda tx: tx.run(
            "UPDATE version SET changed_at = changed_at - ? WHERE connection_id = ?", 4 * month, old.id
        )
    )
    idle.store.write(
        lambda tx: tx.run(
            "UPDATE version SET expires_at = ? WHERE connection_id = ?", time.time() + 86400, soon.id
        )
    )
    shown = {
        each: re.findall(r'id="c-(\w+)"', it.get(f"/connections?state={each}").text)
        for each in ("overdue", "expiring", "good")
    }
    assert shown == {"overdue": [old.id], "expiring": [soon.id], "good": [well.id]}
    home = text(it.get("/"))
    assert "Rotation overdue" in home
    assert "Expires within 30 days" in home
    assert len(re.findall(r'id="c-', it.get("/connections?system=shapes").text)) == 3


def entries(page, connection):
    """The titles in a connection's menu."""
    menu = re.search(rf'Actions for {connection.name}".*?</details>', page.text, re.DOTALL)[0]
    return re.findall(r"<(?:a|button)[^>]*>([^<]+)</", menu)


def test_menus_offer_what_can_be_done(it, connect, browser, person):
    """By method, state and role."""
    plain, grant = connect(name="plain"), connect("grant", name="grant")
    page = it.get("/connections")
    assert entries(page, plain) == [
        "Test",
        "Plan",
        "Rotate",
        "Move to another method",
        "Disconnect",
        "Contain a leak",
        "Edit connection",
        "History",
    ]
    assert entries(page, grant) == [
        "Test",
        "Plan",
        "Rotate",
        "Authorize",
        "Refresh now",
        "Revoke authorization",
        "Move to another method",
        "Disconnect",
        "Contain a leak",
        "Edit connection",
        "History",
    ]
    viewer = browser(person(Role.VIEWER))
    assert entries(viewer.get("/connections"), plain) == ["Plan", "History"]
    operator = browser(person(Role.OPERATOR))
    assert entries(operator.get("/connections"), plain) == [
        "Test",
        "Plan",
        "Rotate",
        "Contain a leak",
        "History",
    ]


def test_a_test_says_what_came_of_it(it, connect, idle):
    """And names who tested, in both journals."""
    connection = connect()
    answer = it.post(f"/connections/{connection.id}/test", on="/connections")
    assert "works" in text(it.get(answer.headers["location"]))
    history = text(it.get(f"/connections/{connection.id}/history"))
    assert "by admin" in history
    assert events.latest(idle, 1)[0].facts["operation"] == "connection.test"


# -- plans and runs ------------------------------------------------------------------------------------------------------


def test_a_rotation_by_clicks(it, connect, idle):
    """The plan first, with steps, gap and point of no return; then a run that shows the same steps done."""
    connection = connect()
    plan = text(it.get(f"/connections/{connection.id}/plan/rotate"))
    for words in (
        "What will happen",
        "Point of no return",
        "Nobody notices",
        "How it is undone",
        "Rotate now",
    ):
        assert words in plan
    answer = start(it, connection, reason="quarterly")
    path = answer.headers["location"]
    assert "0 of 7 done" in text(it.get(path))
    idle.engine.start()
    run = wait_for(lambda: (r := runs.get(idle, path.rpartition("/")[2])).ended_at and r)
    assert run.state is RunState.COMPLETE
    page = text(it.get(path))
    assert "7 of 7 done" in page
    assert "quarterly" in page
    assert "As a control, a made-up one: refused" in page
    line = next(each for each in runs.lines(idle, run.id) if each.facts.get("decision") == "started")
    assert (line.facts["by"], line.facts["address"], line.facts["reason"]) == (
        "admin",
        "testclient",
        "quarterly",
    )
    shown = it.get(f"/connections/{connection.id}")
    assert "v2 serves" in shown.text


def test_a_double_click_is_one_run(it, connect, idle):
    """The same form sent twice leads to the same run."""
    connection = connect()
    plan = it.get(f"/connections/{connection.id}/plan/rotate")
    form = {"trigger": hidden(plan, "trigger"), "digest": hidden(plan, "digest")}
    path = f"/connections/{connection.id}/start/rotate"
    first, second = (
        it.post(path, form, on=f"/connections/{connection.id}/plan/rotate").headers["location"]
        for _ in range(2)
    )
    assert first == second
    assert len(runs.recent(idle, connection.name)) == 1


def test_only_the_plan_that_was_shown_is_started(it, connect, idle):
    """When it is another one by now nothing starts, and the new one is shown."""
    connection = connect()
    plan = it.get(f"/connections/{connection.id}/plan/rotate")
    connections_policy = '{"drain_min_s": 0.02, "proof": "D1", "retention_s": 0.0}'
    idle.store.write(
        lambda tx: tx.run("UPDATE connection SET policy = ? WHERE id = ?", connections_policy, connection.id)
    )
    form = {"trigger": hidden(plan, "trigger"), "digest": hidden(plan, "digest")}
    answer = it.post(
        f"/connections/{connection.id}/start/rotate", form, on=f"/connections/{connection.id}/plan/rotate"
    )
    assert answer.status_code == 409
    assert "Look at the plan again" in answer.text
    assert runs.recent(idle, connection.name) == []


def test_ending_needs_a_second_word(it, connect, idle, browser, person):
    """A disconnect asks whether one is sure, and is for administrators."""
    connection = connect()
    assert start(it, connection, "disconnect", "end").status_code == 422
    operator = browser(person(Role.OPERATOR))
    assert "lets you see this plan" in operator.get(f"/connections/{connection.id}/plan/disconnect").text
    refused = operator.post(f"/connections/{connection.id}/end/disconnect", {"sure": "yes"}, on="/account")
    assert refused.status_code == 403
    crossed = operator.post(f"/connections/{connection.id}/start/disconnect", {"sure": "yes"}, on="/account")
    assert crossed.status_code == 404
    assert start(it, connection, "disconnect", "end", sure="yes").status_code == 303
    idle.engine.start()
    wait_for(lambda: connections.find(idle, connection.id).state.value == "disconnected")
    assert "Reconnect" in entries(it.get("/connections"), connection)


def test_a_second_run_waits_its_turn(it, connect):
    """The plan says which run is under way; starting another is refused with a way to it."""
    connection = connect()
    path = start(it, connection).headers["location"]
    plan = it.get(f"/connections/{connection.id}/plan/rotate")
    assert path in plan.text
    assert "Rotate now" not in plan.text


def test_cancel_and_roll_back(it, connect, idle):
    """A run that changed nothing is cancelled; the page offers only what is possible."""
    connection = connect()
    path = start(it, connection).headers["location"]
    page = it.get(path)
    assert f"{path}/cancel" in page.text
    assert f"{path}/rollback" not in page.text
    answer = it.post(f"{path}/cancel", on=path)
    assert "cancelled" in text(it.get(answer.headers["location"]))
    assert runs.get(idle, path.rpartition("/")[2]).state is RunState.ABORTED_CLEAN
    assert it.post(f"{path}/cancel", on="/account").status_code == 409


def test_a_run_is_rolled_back(it, connect, idle):
    """After the switch and before the point of no return: the old one serves again."""
    connection = connect()
    leases.declare(idle, connection.name, "slow consumer", "outside")
    path = start(it, connection).headers["location"]
    idle.engine.start()
    wait_for(lambda: f"{path}/rollback" in it.get(path).text and "v2 serves" in it.get(path).text)
    assert it.post(f"{path}/rollback", on=path).status_code == 303
    run = wait_for(lambda: (r := runs.get(idle, path.rpartition("/")[2])).ended_at and r)
    assert run.state is RunState.ABORTED_CLEAN
    assert "v1 serves" in it.get(f"/connections/{connection.id}").text


def test_hints_name_buttons_not_commands(it, connect):
    """Whoever clicks is not told to type."""
    connection = connect()
    start(it, connection)
    for path in (
        f"/connections/{connection.id}/plan/reconnect",
        f"/connections/{connection.id}/plan/reauthorize",
    ):
        page = text(it.get(path))
        assert "Not possible now" in page
        assert "keyturn " not in page


def test_no_value_is_on_any_page(it, connect, idle, vendor):
    """What the hub holds is on no page of the connection, its run or its history."""
    connection = connect()
    path = start(it, connection).headers["location"]
    idle.engine.start()
    before = leases.resolve(idle, connection.name).material.secrets()
    wait_for(lambda: runs.get(idle, path.rpartition("/")[2]).ended_at)
    values = {*before, *leases.resolve(idle, connection.name).material.secrets()}
    pages = "".join(
        it.get(p).text
        for p in (
            "/",
            "/connections",
            f"/connections/{connection.id}",
            f"/connections/{connection.id}/history",
            path,
        )
    )
    assert values
    assert not [value for value in values if value in pages]


# -- tasks ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def task(it, connect, idle):
    """A connection whose rotation asks a person for a value."""
    connection = connect("supplied")
    path = start(it, connection).headers["location"]
    idle.engine.start()
    found = wait_for(lambda: next(iter(tasks.waiting(idle)), None))
    return connection, path, found


def test_a_task_by_clicks(it, task, vendor, idle):
    """Seen on home, claimed, handed in, checked: the run completes."""
    connection, path, found = task
    assert f"/tasks/{found.id}" in it.get("/").text
    assert f"/tasks/{found.id}" in it.get(path).text
    page = it.get(f"/tasks/{found.id}")
    assert "Create a key" in page.text
    assert it.post(f"/tasks/{found.id}/claim", on=f"/tasks/{found.id}").status_code == 303
    assert "You work on it" in text(it.get(f"/tasks/{found.id}"))
    principal = connection.settings["principal"]
    values = shapes.pasted(shapes.person_supplies(vendor.client, principal))
    answer = it.post(f"/tasks/{found.id}", {f"field-{k}": v for k, v in values.items()})
    assert answer.headers["location"] == path
    wait_for(lambda: "v2 serves" in it.get(path).text)
    pages = "".join(it.get(p).text for p in (path, f"/tasks/{found.id}", f"/connections/{connection.id}"))
    assert values["secret" if "secret" in values else list(values)[-1]] not in pages


def test_a_wrong_value_comes_back_with_its_reason(it, task, idle):
    """Nothing of it is drawn again; a field that is missing is named."""
    _, _, found = task
    path = f"/tasks/{found.id}"
    names = [f["name"] for f in found.fields]
    secret = next(f["name"] for f in found.fields if f["secret"])
    missing = it.post(path, {f"field-{secret}": "made-up-value-4711"})
    if len(names) > 1:
        assert missing.status_code == 422
        assert "is missing" in missing.text
        assert "made-up-value" not in missing.text
    assert it.post(path, {f"field-{n}": "made-up-value-4711" for n in names}).status_code == 303
    wait_for(lambda: tasks.get(idle, found.id).state.value == "returned")
    page = it.get(path)
    assert "It was returned" in page.text
    assert "made-up-value" not in page.text


def test_a_task_of_somebody_else(it, task, browser, person):
    """It says who works on it; a viewer may look and not do."""
    _, _, found = task
    path = f"/tasks/{found.id}"
    it.post(f"{path}/claim", on=path)
    other = browser(person(Role.OPERATOR))
    assert "admin works" in text(other.get(path))
    assert other.post(f"{path}/claim", on=path).status_code == 409
    viewer = browser(person(Role.VIEWER))
    assert "not do it" in viewer.get(path).text
    assert viewer.post(path, {}, on="/account").status_code == 403


def test_whose_tasks(it, task, browser, person, idle):
    """Mine are those of what I own or work on; my team's those of my projects; each list says so when it is empty."""
    connection, _, found = task
    path = f"/tasks/{found.id}"
    assert path in it.get("/tasks").text
    assert path not in it.get("/tasks?whose=mine").text
    assert "Nothing to do for you" in it.get("/tasks?whose=mine").text
    it.post(f"{path}/claim", on=path)
    assert path in it.get("/tasks?whose=mine").text
    member = browser(person(Role.OPERATOR, "member", "billing"))
    assert path not in member.get("/tasks?whose=all").text
    projects.move(idle, connection.id, "billing")
    assert path in member.get("/tasks?whose=team").text
    assert path not in member.get("/tasks?whose=mine").text
    assert path in it.get("/tasks?whose=made-up").text


def test_a_consent_by_clicks(it, connect, idle):
    """The task links to the vendor; the browser comes back by the callback, and the run goes on."""
    connection = connect("grant")
    path = start(it, connection, "reauthorize").headers["location"]
    idle.engine.start()
    found = wait_for(lambda: next(iter(tasks.waiting(idle)), None))
    page = it.get(f"/tasks/{found.id}")
    url = str(found.instructions[0]["url"])
    if url.startswith("http"):
        assert "Open the consent page" in page.text
    back = shapes.person_consents(url)
    query = back.partition("?")[2]
    assert it.client.get(f"/oauth/callback?{query}").status_code == 200
    wait_for(lambda: "v2 serves" in it.get(path).text)
    assert "code=" not in it.get(path).text


# -- home ----------------------------------------------------------------------------------------------------------------


def test_home_says_when_all_is_well(it, connect):
    connect()
    assert "All is well" in it.get("/").text


def test_home_shows_what_failed_until_it_is_mended(it, connect, idle):
    """A run that ended without doing it is shown until a later one of the connection goes well."""
    connection = connect()
    path = start(it, connection).headers["location"]
    it.post(f"{path}/cancel", on=path)
    assert "Ended without doing it" in it.get("/").text
    start(it, connection)
    assert "Ended without doing it" not in it.get("/").text


def test_debts_are_on_home_and_on_the_connection(it, connect, idle):
    from keyturn.model.ids import DebtId, RunId
    from keyturn.model.run import Debt
    from keyturn.storage import debts as rows

    connection = connect()
    debt = Debt(
        DebtId("dbt_1"),
        connection.id,
        None,
        RunId("run_1"),
        "alive",
        "the old one is still accepted",
        {},
        "ada",
        1,
        time.time() + 60,
        time.time(),
        None,
        "",
        "",
    )
    idle.store.write(lambda tx: rows.add(tx, debt))
    assert debts.every(idle)
    assert "still accepted" in it.get("/").text
    assert "still accepted" in it.get(f"/connections/{connection.id}").text


# -- live ----------------------------------------------------------------------------------------------------------------


def stream(app, it, path, count, do=lambda: None):
    """The first events of a stream, read as the server makes them."""

    async def read():
        from starlette.requests import Request

        cookie = f"keyturn={it.client.cookies['keyturn']}"
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "headers": [(b"cookie", cookie.encode())],
            "client": ("t", 1),
            "app": app,
        }
        pages = app.state.pages
        page = next(p for p in pages.map if p.path == re.sub(r"run_\w+", "{run_id}", path))
        scope["path_params"] = {"run_id": path.rpartition("/")[2]} if "run_id" in page.path else {}
        answer = await pages.site.route(page).endpoint(Request(scope))
        assert answer.status_code == 200, answer.body
        found, events_ = [], answer.body_iterator
        async for each in events_:
            found.append(each)
            if len(found) == 2:
                do()
            if len(found) == count:
                break
        await events_.aclose()
        return found

    with ThreadPoolExecutor(1) as thread:  # a loop of its own, whatever the tests of the browser have running
        return thread.submit(lambda: asyncio.run(asyncio.wait_for(read(), 10))).result()


def test_a_stream_says_that_something_changed(app, it, connect, idle):
    """And nothing else: no name, no fact, no value."""
    connection = connect()
    path = start(it, connection).headers["location"]
    run_id = path.rpartition("/")[2]
    found = stream(app, it, f"/live/runs/{run_id}", 3, lambda: runs.cancel(idle, run_id))
    assert found[0] == "retry: 2000\n\n"
    assert all(re.fullmatch(r"id: \w{16}\nevent: changed\ndata: \w{16}\n\n", each) for each in found[1:])
    assert found[1] != found[2]
    assert app.state.pages.live._open == {}


def test_a_stream_ends_with_its_session(app, it, idle, monkeypatch):
    from keyturn.operations import sessions
    from keyturn.web import live

    monkeypatch.setattr(live, "CHECK_S", 0.0)
    value = it.client.cookies["keyturn"]
    found = stream(app, it, "/live", 3, lambda: sessions.sign_out(idle, value, by="x"))
    assert found[2].startswith("event: over")


def test_streams_are_limited(app, it, monkeypatch):
    from keyturn.web import live

    monkeypatch.setattr(live, "_MOST_EACH", 0)
    assert it.get("/live").status_code == 409


def test_what_a_page_shows_is_not_sent_again(app, it, connect, idle):
    """A page carries what it shows, so that its stream tells only what came after."""
    connect()
    seen = re.search(r"/live\?seen=(\w+)", it.get("/").text)[1]
    assert app.state.pages.live.pulse() == seen


# -- a risk ----------------------------------------------------------------------------------------------------------------


def test_a_risk_is_accepted_in_words_on_its_own_page(it, connect, idle):
    """The page names the words; others start nothing; among several it is left out."""
    made = connect("regenerate")
    page = text(it.get(f"/connections/{made.id}/plan/rotate"))
    assert "answer is lost" in page
    assert "Type: orders may be lost" in page
    wrong = start(it, made, accept="yes, go on")
    assert wrong.status_code == 422
    assert "nothing was started" in text(wrong)
    assert not runs.recent(idle)
    assert "start it from its own page" in text(it.get(f"/bulk/rotate?id={made.id}"))
    assert start(it, made, accept="Orders may be lost").status_code == 303
    (run,) = runs.recent(idle)
    assert runs.lines(idle, run.id)[0].facts["accepted"] == "orders may be lost"

"""The browser comes back from a consent."""

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.waiting import wait_for

from keyturn.model.credential import ConnectionState
from keyturn.model.plan import Goal
from keyturn.model.run import RunState, TaskState
from keyturn.operations import connections, leases, runs, tasks
from keyturn.storage import tasks as rows
from keyturn.storage.tasks import OPEN_STATES


@pytest.fixture
def consent(hub):
    """An open consent: its run, its task and its state."""
    run = runs.start(hub, "tracker", Goal.REAUTHORIZE)
    task = wait_for(lambda: next(iter(tasks.waiting(hub)), None))
    state = parse_qs(urlsplit(task.instructions[0]["url"]).query)["state"][0]
    return run, task, state


def test_the_callback_finds_its_task(client, hub, consent):
    """The consent is answered, the run goes on to its end, and the page repeats nothing."""
    run, _, state = consent
    answer = client.get("/oauth/callback", params={"code": "c0de-4711", "state": state})
    assert answer.status_code == 200
    assert "Keyturn received your consent" in answer.text
    assert "c0de-4711" not in answer.text
    assert state not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    wait_for(lambda: runs.get(hub, run.id).ended_at)
    assert runs.get(hub, run.id).state is RunState.COMPLETE
    assert connections.find(hub, "tracker").state is ConnectionState.ACTIVE
    assert leases.resolve(hub, "tracker").material["refresh_token"] == "rt-c0de-4711"


def test_a_second_time_nobody_waits(client, consent):
    """A state works once."""
    params = {"code": "c0de", "state": consent[2]}
    assert client.get("/oauth/callback", params=params).status_code == 200
    assert client.get("/oauth/callback", params=params).status_code == 404


@pytest.mark.parametrize(
    "params", [{}, {"state": "guess", "code": "x"}, {"state": "<script>alert(1)</script>"}, {"code": "x"}]
)
def test_a_wrong_state_finds_nothing(client, consent, params):
    """And says so in plain words, without repeating the state."""
    answer = client.get("/oauth/callback", params=params)
    assert answer.status_code == 404
    assert "Nobody waits for this answer" in answer.text
    assert "script" not in answer.text


def test_a_consent_that_was_not_given(client, hub, consent):
    """The vendor's refusal goes to the run, which asks again; its words are not shown."""
    answer = client.get(
        "/oauth/callback",
        params={"error": "access_denied", "error_description": "<b>no</b>", "state": consent[2]},
    )
    assert answer.status_code == 200
    assert "not given" in answer.text
    assert "<b>no" not in answer.text
    again = wait_for(lambda: next((t for t in tasks.waiting(hub) if t.id != consent[1].id), None))
    assert again.why


def test_guesses_are_limited(client, hub, consent):
    """After twenty wrong states the address waits, also with the right one: nothing is looked up, the task stays open."""
    codes = [client.get("/oauth/callback", params={"state": f"g{n}"}).status_code for n in range(21)]
    assert codes == [404] * 20 + [429]
    answer = client.get("/oauth/callback", params={"state": consent[2], "code": "c0de"})
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 300
    assert "c0de" not in answer.text
    assert tasks.get(hub, consent[1].id).state is TaskState.OPEN


def test_a_used_state_counts_as_a_guess(client, consent):
    """Loading an answered page again and again is limited like any other guessing."""
    params = {"code": "c0de", "state": consent[2]}
    codes = [client.get("/oauth/callback", params=params).status_code for _ in range(22)]
    assert codes == [200] + [404] * 20 + [429]


def test_the_api_and_the_callback_limit_apart(client, consent):
    """Failed API calls from an address do not stop the consents of people behind it."""
    codes = [client.get("/api/v1/whoami", headers={"AccessKey": "x"}).status_code for _ in range(21)]
    assert codes[-1] == 429
    assert client.get("/oauth/callback", params={"state": consent[2], "code": "c"}).status_code == 200


def test_a_lookup_opens_no_session(client, hub, consent):
    """A state is found by a keyed fingerprint: with every sealed session unreadable, guesses and the right one find
    the same as before."""
    hub.store.write(lambda tx: tx.run("UPDATE sealed SET body = ? WHERE id LIKE 'task:%:session'", b"spoilt"))
    assert client.get("/oauth/callback", params={"state": "guess", "code": "x"}).status_code == 404
    assert tasks.by_state(hub, consent[2]).id == consent[1].id
    assert client.get("/oauth/callback", params={"state": consent[2], "code": "x"}).status_code == 200


def test_the_database_does_not_tell_the_state(hub, consent):
    """The column is an HMAC of the state, empty for tasks without one, and an empty state finds nothing."""
    _, task, state = consent
    assert task.lookup == hub.roots.fingerprint("state:" + state)
    assert state not in task.lookup
    runs.start(hub, "warehouse", Goal.ROTATE)
    other = wait_for(lambda: next((t for t in tasks.waiting(hub) if t.kind != "consent"), None))
    assert other.lookup == ""
    assert tasks.by_state(hub, "") is None


@pytest.mark.sqlite
def test_the_state_is_found_in_an_index(hub):
    """However many tasks there are, a guess reads none of them."""
    sql = "EXPLAIN QUERY PLAN SELECT id FROM task WHERE lookup = ? AND lookup <> '' AND state IN ('open')"
    said = hub.store.read(lambda tx: tx.one(sql, "fp_x"))[3]
    assert "task_lookup" in said


@pytest.mark.parametrize("state", [s for s in TaskState if s not in OPEN_STATES])
def test_a_task_that_is_not_open_is_found_by_nobody(client, hub, consent, state):
    """Submitted, done, expired or cancelled: the same neutral page as for a guess."""
    hub.engine.stop()
    hub.store.write(lambda tx: rows.change(tx, consent[1].id, state=state.value))
    answer = client.get("/oauth/callback", params={"state": consent[2], "code": "x"})
    guess = client.get("/oauth/callback", params={"state": "guess", "code": "x"})
    assert (answer.status_code, answer.text) == (guess.status_code, guess.text)
    assert answer.status_code == 404


def test_of_two_answers_at_once_one_is_taken(client, hub, consent):
    """Both find the task; the one that commits later gets the neutral page."""
    hub.engine.stop()
    params = {"state": consent[2], "code": "x"}
    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(lambda _: client.get("/oauth/callback", params=params).status_code, range(4)))
    assert sorted(codes) == [200, 404, 404, 404]

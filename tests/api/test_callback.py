"""The browser comes back from a consent."""

from urllib.parse import parse_qs, urlsplit

import pytest
from tests.issued.conftest import wait_for

from keyturn.model.credential import ConnectionState
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.operations import connections, leases, runs, tasks


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


def test_guesses_are_limited(client, consent):
    """Twenty wrong states, then 429; the right one still works."""
    codes = [client.get("/oauth/callback", params={"state": f"g{n}"}).status_code for n in range(21)]
    assert codes == [404] * 20 + [429]
    assert client.get("/oauth/callback", params={"state": consent[2], "code": "c"}).status_code == 200

"""Jobs by clicks: read before they are kept, run, paused, removed; and who uses a connection, put down on its page."""

import pytest
from tests.waiting import wait_for
from tests.web.conftest import text

from keyturn.model.job import JobState
from keyturn.model.plan import Goal
from keyturn.operations import events, jobs, leases, runs
from keyturn.operations.rights import Role


@pytest.fixture
def it(browser, person):
    """An administrator's browser."""
    return browser(person())


def add(it, of, **more):
    form = {"connection": of.name, "name": "nightly", "most": "5", "after_rotation": "yes", **more}
    return it.post("/jobs", form, on=f"/jobs/new?connection={of.id}")


def test_a_job_by_clicks(it, connect, idle):
    """From its connection's page to a job that was read once, is run, paused, let go on and removed."""
    connection = connect()
    assert f"/jobs/new?connection={connection.id}" in it.get(f"/connections/{connection.id}").text
    assert f'value="{connection.name}"' in it.get(f"/jobs/new?connection={connection.id}").text
    answer = add(it, connection, reads="sales.orders", schedule="daily at 6:30")
    job = jobs.get(idle, "nightly")
    path = f"/jobs/{job.id}"
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    page = text(it.get(path))
    assert "It read 5 just now" in page
    assert "daily at 06:30 (UTC)" in page
    assert path in it.get("/jobs").text
    assert path in it.get("/jobs?q=sales").text
    assert "Nothing fits" in it.get("/jobs?q=elsewhere").text
    assert path in it.get(f"/connections/{connection.id}").text
    it.post(f"{path}/run", on=path)
    assert "It read 5, in" in text(it.get(path))
    it.post(f"{path}/switch", {"paused": "yes"}, on=path)
    assert jobs.get(idle, "nightly").paused_by == "admin"
    assert "Paused" in text(it.get("/jobs"))
    it.post(f"{path}/switch", {"paused": "no"}, on=path)
    assert jobs.get(idle, "nightly").paused_at is None
    it.post(f"{path}/remove", on=path)
    assert jobs.every(idle) == []
    assert "No jobs yet" in it.get("/jobs").text
    assert [line.facts["verb"] for line in events.latest(idle) if line.facts.get("verb")][:5] == [
        "remove job",
        "resume job",
        "pause job",
        "run job",
        "add job",
    ]


def test_what_cannot_be_read_is_not_kept_unless_somebody_says_so(it, connect, idle):
    """The form comes back as typed with the reason; only then is there a box to keep it all the same."""
    connection = connect()
    assert "although" not in it.get("/jobs/new").text
    answer = add(it, connection, reads="missing")
    assert answer.status_code == 422
    assert "there is no table missing" in answer.text
    assert 'value="missing"' in answer.text
    assert "although it could not be read" in answer.text
    assert jobs.every(idle) == []
    assert add(it, connection, reads="missing", untested="yes").status_code == 303
    job = jobs.get(idle, "nightly")
    it.post(f"/jobs/{job.id}/run", on=f"/jobs/{job.id}")
    assert "Cannot read: there is no table" in text(it.get(f"/jobs/{job.id}"))
    assert "1 job, 1 fails" in text(it.get("/connections"))
    assert jobs.get(idle, "nightly").state is JobState.FAILED


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": "no spaces please"}, "letters, digits"),
        ({"schedule": "sometimes"}, "schedule is not understood"),
        ({"most": "5000"}, "between 1 and 1000"),
        ({"most": "a few"}, "between 1 and 1000"),
        ({"connection": "nobody"}, "Choose one of your connections"),
    ],
)
def test_jobs_asked_wrongly(it, connect, idle, wrong, said):
    """Each at its field, and nothing is kept."""
    answer = add(it, connect(), **wrong)
    assert answer.status_code == 422
    assert said in text(answer)
    assert 'aria-invalid="true"' in answer.text
    assert "keyturn job" not in text(answer)
    assert jobs.every(idle) == []


def test_a_name_that_is_taken(it, connect):
    connection = connect()
    add(it, connection)
    answer = add(it, connection)
    assert answer.status_code == 409
    assert "There is a job named nightly already" in text(answer)


def test_a_rotation_leads_to_the_job_and_back(it, connect, idle):
    """The job that was run in a rotation names its run."""
    connection = connect()
    add(it, connection)
    idle.engine.start()
    run = runs.start(idle, connection.name, Goal.ROTATE)
    wait_for(lambda: runs.get(idle, run.id).ended_at)
    job = jobs.get(idle, "nightly")
    page = it.get(f"/jobs/{job.id}")
    assert f"/runs/{run.id}" in page.text
    assert "a rotation" in text(page)


def test_who_may_do_what_with_jobs(browser, person, connect, it, idle):
    """Operators run them, administrators change them, others' jobs are not there."""
    connection = connect(project="billing")
    add(it, connection)
    path = f"/jobs/{jobs.get(idle, 'nightly').id}"
    operator = browser(person(Role.OPERATOR))
    page = operator.get(path).text
    assert "Run it now" in page
    assert "Pause" not in page
    assert operator.post(f"{path}/run", on=path).status_code == 303
    assert operator.post(f"{path}/remove", on=path).status_code == 403
    other = browser(person(Role.ADMIN, "other", "elsewhere"))
    assert other.get(path).status_code == 404
    assert "No jobs yet" in other.get("/jobs").text
    assert other.post(f"{path}/remove", on="/jobs/new").status_code == 404
    assert add(other, connection, name="mine").status_code == 422
    viewer = browser(person(Role.VIEWER))
    assert "Run it now" not in viewer.get(path).text


def test_who_uses_it_is_put_down(it, connect, idle):
    """On the connection's page: how they get it, whether a rotation waits; who holds it now is there by itself."""
    connection = connect()
    path = f"/connections/{connection.id}"
    it.post(f"{path}/users", {"user": "billing", "kind": "cached", "minutes": "5", "waited": "yes"}, on=path)
    it.post(f"{path}/users", {"user": "partner", "kind": "outside"}, on=path)
    found = {c.name: c for c in leases.users(idle, connection.name)}
    assert (found["billing"].ttl_s, found["billing"].required) == (300.0, True)
    assert not found["partner"].required
    leases.take(idle, connection.name, "export on host 7", ttl_s=300)
    page = text(it.get(path))
    assert "keeps it for a while, 5 minutes; a rotation waits for it" in page
    assert "export on host 7 holds v1" in page
    assert "1 holds it now" in page


@pytest.mark.parametrize(
    "wrong", [{"user": ""}, {"kind": "made-up"}, {"kind": "cached"}, {"kind": "cached", "minutes": "-1"}]
)
def test_who_uses_it_asked_wrongly(it, connect, idle, wrong):
    connection = connect()
    form = {"user": "billing", "kind": "live", "waited": "yes", **wrong}
    answer = it.post(f"/connections/{connection.id}/users", form, on=f"/connections/{connection.id}")
    assert answer.status_code == 422
    assert leases.users(idle, connection.name) == []


def test_a_look_at_the_vendor(it, connect, browser, person):
    """What the credential sees there, for whoever may test; nothing of a value is in it."""
    connection = connect("many_ids")
    path = f"/connections/{connection.id}"
    assert "Look at the vendor" in it.get(path).text
    answer = it.post(f"{path}/look", on=path)
    assert answer.status_code == 200
    assert "credential" in text(answer)
    assert "Look at the vendor" not in browser(person(Role.VIEWER)).get(path).text

"""One-time links for outside helpers: what opens them, how often, and what they leave in the journal."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput, KeyturnError, NotFound, NotPermitted
from keyturn.model.plan import Goal
from keyturn.model.run import Run, RunState, Task, TaskState
from keyturn.operations import connections, events, links, people, projects, runs, tasks
from keyturn.operations.rights import Who
from keyturn.storage import connections as connection_rows
from keyturn.storage import people as account_rows
from keyturn_lab.vendors.shapes import Client
from tests.faults import shapes_connector as shapes
from tests.faults import world

NUMBERS = itertools.count(1)
ADA = Who("ada", address="192.0.2.7", is_local=True)
OUT = {"address": "198.51.100.9", "agent": "Browser/1.0"}


@pytest.fixture
def name() -> str:
    return f"lnk{next(NUMBERS)}"


def asked(hub: Keyturn, run: Run) -> Task:
    """Goes on until somebody is asked, and what they are asked."""
    world.drive(hub, run.id, lambda _: None, stop=lambda r: r.state is RunState.WAITING_HUMAN)
    return next(task for task in tasks.waiting(hub) if task.run_id == run.id)


@pytest.fixture
def task(hub: Keyturn, client: Client, name: str) -> Task:
    """Somebody is to bring a key."""
    world.connect(hub, client, "supplied", name)
    return asked(hub, runs.start(hub, name, Goal.ROTATE))


def code_of(made: links.Made) -> str:
    url, _, code = made.url.reveal().partition("#")
    assert url == "http://127.0.0.1:8425/help"
    return code


def opened(hub: Keyturn, task: Task) -> str:
    return links.open_(hub, code_of(links.make(hub, ADA, task.id, "ann")), **OUT).reveal()


def refused(hub: Keyturn, what: object) -> str:
    """Runs what must be refused in the neutral words; the reason that is on record."""
    with pytest.raises(NotPermitted) as error:
        what()  # type: ignore[operator]
    assert (error.value.message, error.value.facts) == ("this link opens nothing", {"field": "code"})
    line = events.latest(hub, 1)[0].facts
    assert (line["decision"], line["what"], line["from"], line["agent"]) == (
        "link_refused",
        "task",
        OUT["address"],
        OUT["agent"],
    )
    return str(line["why"])


def test_a_key_from_outside(hub: Keyturn, client: Client, name: str, task: Task) -> None:
    """Opened once, answered once; the run completes; who, from where and with what is in the journal, the code nowhere."""
    made = links.make(hub, ADA, task.id, "ann of the vendor")
    code = code_of(made)
    assert made.ends_at == pytest.approx(time.time() + 86400, abs=5)
    ticket = links.open_(hub, code, **OUT).reveal()
    shown = links.task_of(hub, ticket)
    assert shown is not None
    assert (shown[0].id, shown[0].state, shown[0].claimed_by) == (
        task.id,
        TaskState.CLAIMED,
        "ann of the vendor, by a link of ada",
    )
    values = shapes.pasted(shapes.person_supplies(client, name))
    links.hand_in(hub, ticket, task.id, values, **OUT)
    run = world.drive(hub, task.run_id, world.person(client, hub, name))
    assert run.state is RunState.COMPLETE
    said = [dict(line.facts) for line in runs.lines(hub, task.run_id) if line.facts.get("task") == task.id]
    by = {each["decision"]: each for each in said if "decision" in each}
    assert (by["link_made"]["by"], by["link_made"]["from"], by["link_made"]["for"]) == (
        "ada",
        "192.0.2.7",
        "ann of the vendor",
    )
    for step in ("link_opened", "link_used"):
        assert (by[step]["from"], by[step]["agent"]) == (OUT["address"], OUT["agent"])
    assert by["submitted"]["by"] == "ann of the vendor, by a link of ada"
    whole = hub.store.read(
        lambda tx: [tx.all(f"SELECT * FROM {each}") for each in ("journal", "task", "task_link")]
    )
    for secret in (code, ticket, values["secret"]):
        assert secret not in repr(whole)
    assert links.task_of(hub, ticket) is None
    assert "no such task" in refused(hub, lambda: links.hand_in(hub, ticket, task.id, values, **OUT))


def test_it_opens_once(hub: Keyturn, task: Task) -> None:
    """Whoever comes second is refused, and the first goes on."""
    code = code_of(links.make(hub, ADA, task.id))
    ticket = links.open_(hub, code, **OUT).reveal()
    assert refused(hub, lambda: links.open_(hub, code, **OUT)) == "it was opened already"
    assert links.task_of(hub, ticket) is not None
    assert links.task_of(hub, code) is None
    assert links.task_of(hub, "") is None
    assert "no such link" in refused(hub, lambda: links.open_(hub, ticket, **OUT))


def test_two_at_the_same_moment(hub: Keyturn, task: Task) -> None:
    """One opens it."""
    code = code_of(links.make(hub, ADA, task.id))

    def go(_: int) -> bool:
        try:
            links.open_(hub, code, **OUT)
        except KeyturnError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(go, range(4))) == 1


def test_after_it_was_used_it_opens_nothing(hub: Keyturn, client: Client, name: str, task: Task) -> None:
    """Also when the value was wrong and the task came back: a new link is needed."""
    ticket = opened(hub, task)
    wrong = {str(f["name"]): "made-up-value-4711" for f in task.fields}
    links.hand_in(hub, ticket, task.id, wrong, **OUT)
    world.drive(
        hub, task.run_id, lambda _: None, stop=lambda _: tasks.get(hub, task.id).state is TaskState.RETURNED
    )
    assert links.task_of(hub, ticket) is None
    values = shapes.pasted(shapes.person_supplies(client, name))
    refused(hub, lambda: links.hand_in(hub, ticket, task.id, values, **OUT))
    assert tasks.get(hub, task.id).state is TaskState.RETURNED
    again = opened(hub, task)
    links.hand_in(hub, again, task.id, values, **OUT)
    ended = world.drive(hub, task.run_id, world.person(client, hub, name))
    assert ended.state is RunState.COMPLETE_WITH_DEBT  # the value that was turned down may exist


def test_what_does_not_fit_the_fields_uses_nothing_up(hub: Keyturn, task: Task) -> None:
    """A missing field is named; then it can be typed again."""
    ticket = opened(hub, task)
    with pytest.raises(InvalidInput) as error:
        links.hand_in(hub, ticket, task.id, {}, **OUT)
    assert error.value.facts["field"] in {f["name"] for f in task.fields}
    assert links.task_of(hub, ticket) is not None
    assert tasks.get(hub, task.id).state is TaskState.CLAIMED


def test_too_late(hub: Keyturn, task: Task) -> None:
    """Unopened, and opened: a day is a day."""
    first = code_of(links.make(hub, ADA, task.id))

    def age() -> None:
        hub.store.write(lambda tx: tx.run("UPDATE task_link SET ends_at = ?", time.time() - 1))

    age()
    assert refused(hub, lambda: links.open_(hub, first, **OUT)) == "it is too old"
    ticket = opened(hub, task)
    age()
    assert links.task_of(hub, ticket) is None
    refused(hub, lambda: links.hand_in(hub, ticket, task.id, {}, **OUT))


def test_another_link_ends_the_one_before(hub: Keyturn, task: Task) -> None:
    """Unopened or opened."""
    first = code_of(links.make(hub, ADA, task.id))
    ticket = opened(hub, task)
    refused(hub, lambda: links.open_(hub, first, **OUT))
    links.make(hub, ADA, task.id)
    assert links.task_of(hub, ticket) is None


def test_it_is_for_its_task_alone(hub: Keyturn, client: Client, name: str, task: Task) -> None:
    """Another task's page takes nothing with this ticket, and nothing is used up."""
    other_name = f"{name}b"
    world.connect(hub, client, "supplied", other_name)
    other = asked(hub, runs.start(hub, other_name, Goal.ROTATE))
    ticket = opened(hub, task)
    values = shapes.pasted(shapes.person_supplies(client, other_name))
    assert "no such task" in refused(hub, lambda: links.hand_in(hub, ticket, other.id, values, **OUT))
    assert tasks.get(hub, other.id).state is TaskState.OPEN
    assert links.task_of(hub, ticket) is not None


def test_a_task_that_nobody_has_to_do(hub: Keyturn, client: Client, name: str, task: Task) -> None:
    """Answered by somebody here, or its run cancelled: the link opens nothing, and none is made."""
    code = code_of(links.make(hub, ADA, task.id))
    tasks.submit(hub, task.id, shapes.pasted(shapes.person_supplies(client, name)))
    assert "nobody has to do" in refused(hub, lambda: links.open_(hub, code, **OUT))
    with pytest.raises(Conflict, match="submitted"):
        links.make(hub, ADA, task.id)
    with pytest.raises(NotFound):
        links.make(hub, ADA, "tsk_none")
    hub.store.write(
        lambda tx: tx.run("UPDATE task SET kind = 'handover', state = 'open' WHERE id = ?", task.id)
    )
    with pytest.raises(Conflict, match="has an account here"):
        links.make(hub, ADA, task.id)
    hub.store.write(lambda tx: tx.run("UPDATE task SET kind = 'supply' WHERE id = ?", task.id))
    with pytest.raises(InvalidInput):
        links.make(hub, ADA, task.id, "x" * 61)


def test_whoever_made_it_was_switched_off(hub: Keyturn, task: Task) -> None:
    """With their account what they handed out ends too."""
    made = people.invite(hub, ADA, "ada", "Ada", [("operator", "")])
    code = code_of(links.make(hub, ADA, task.id))
    hub.store.write(lambda tx: account_rows.change(tx, made.account.id, disabled_at=time.time()))
    assert "switched off" in refused(hub, lambda: links.open_(hub, code, **OUT))


def test_guessing_is_slowed_down(hub: Keyturn, task: Task) -> None:
    """After five wrong codes the address waits, for the right one too; another address does not."""
    code = code_of(links.make(hub, ADA, task.id))
    for n in range(5):
        refused(hub, lambda n=n: links.open_(hub, f"guess-{n}", **OUT))  # type: ignore[misc]
    with pytest.raises(NotPermitted, match="too many") as error:
        links.open_(hub, code, **OUT)
    assert error.value.facts["wait_s"] > 0
    assert links.open_(hub, code, address="198.51.100.10").reveal()


@pytest.mark.parametrize("junk", ["", " ", "x" * 5000, "\x00", "' OR 1=1 --", "ü€"])
def test_junk_opens_nothing(hub: Keyturn, task: Task, junk: str) -> None:
    """And is never an error of ours."""
    links.make(hub, ADA, task.id)
    refused(hub, lambda: links.open_(hub, junk, **OUT))
    assert links.task_of(hub, junk) is None
    refused(hub, lambda: links.hand_in(hub, junk, task.id, {}, **OUT))


def test_a_consent_and_a_deletion(hub: Keyturn, client: Client, name: str) -> None:
    """Both kinds work by a link: the consent by the address the browser came back to, the deletion by a word."""
    world.connect(hub, client, "grant", name)
    consent = asked(hub, runs.start(hub, name, Goal.REAUTHORIZE))
    assert consent.kind == "consent"
    ticket = opened(hub, consent)
    url = next(str(each["url"]) for each in consent.instructions if "url" in each)
    back = {"callback_url": shapes.person_consents(url)}
    links.hand_in(hub, ticket, consent.id, back, **OUT)
    assert world.drive(hub, consent.run_id, world.person(client, hub, name)).state in {
        RunState.COMPLETE,
        RunState.COMPLETE_WITH_DEBT,
    }
    other = f"{name}b"
    world.connect(hub, client, "supplied", other)
    first = asked(hub, runs.start(hub, other, Goal.ROTATE))
    tasks.submit(hub, first.id, shapes.pasted(shapes.person_supplies(client, other)))
    done: list[str] = []

    def helper(task: Task) -> None:
        assert task.kind == "delete"
        text = " ".join(str(i["text"]) for i in task.instructions)
        shapes.person_deletes(client, other, text.split("Delete the key ")[1].split(" of ")[0])
        links.hand_in(hub, opened(hub, task), task.id, {}, **OUT)
        done.append(task.kind)

    assert world.drive(hub, first.run_id, helper).state is RunState.COMPLETE
    assert done == ["delete"]


def test_a_day_later_the_rows_go(hub: Keyturn, task: Task) -> None:
    """The journal keeps who had them."""
    links.make(hub, ADA, task.id)
    hub.store.write(lambda tx: tx.run("UPDATE task_link SET ends_at = ?", time.time() - 31 * 86400))
    links.make(hub, ADA, task.id)
    assert hub.store.read(lambda tx: tx.one("SELECT COUNT(*) FROM task_link"))[0] == 1  # type: ignore[index]


# -- whose tasks -------------------------------------------------------------------------------------------------------


def test_whose_tasks(hub: Keyturn, client: Client, name: str, task: Task) -> None:
    """Mine by owner or because I work on it, my team's by project, and all, by owner."""
    other_name = f"{name}b"
    world.connect(hub, client, "supplied", other_name)
    other = asked(hub, runs.start(hub, other_name, Goal.ROTATE))
    mine, theirs = connections.find(hub, name), connections.find(hub, other_name)
    hub.store.write(lambda tx: connection_rows.change(tx, mine.id, owner="Ada"))
    hub.store.write(lambda tx: connection_rows.change(tx, theirs.id, owner="bob"))

    def seen(whose: str, who: str = "ada") -> list[str]:
        return [each.task.id for each in tasks.owned(hub, whose, who)]

    assert seen("all") == [task.id, other.id]
    assert [each.owner for each in tasks.owned(hub)] == ["Ada", "bob"]
    assert seen("mine") == seen("team") == [task.id]
    assert seen("mine", "eve") == seen("team", "eve") == []
    projects.move(hub, mine.id, "billing")
    projects.move(hub, theirs.id, "billing")
    assert seen("mine") == [task.id]
    assert seen("team") == [task.id, other.id]
    people.invite(hub, ADA, "eve", "Eve", [("viewer", "billing")])
    assert seen("team", "Eve") == [task.id, other.id]
    tasks.claim(hub, other.id, "ada")
    assert seen("mine") == [task.id, other.id]
    with pytest.raises(InvalidInput):
        tasks.owned(hub, "nobody's")

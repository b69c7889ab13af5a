"""What the hub does by itself about what it issued: reminders, the week's letter, and the end of what nobody uses."""

import threading
import time

import pytest
from tests.waiting import wait_for

from keyturn.issued.book import Code, IssuedBook
from keyturn.operations import issued, notices, people, register, rights, runs, schedule, upkeep
from keyturn.storage import versions

DAY = 86400.0


def make(hub, name="crm", **values):
    policy = values.pop("policy", None)
    return issued.issue(hub, "api-key", name, {"scopes": "read", **values}, policy=policy)


def use(hub, value, at, address="192.0.2.7", agent="etl/1"):
    """One call at some moment."""
    book = IssuedBook(hub.store, hub.roots, lambda: at)
    assert book.check(value, address=address, agent=agent).accepted
    book.close()


def of(told, topic):
    return [facts for each, facts in told() if each == topic]


# -- reminders -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def overlapping(hub):
    """(old, new, since): a rotation with an overlap of ten hours, whose new one is in use."""
    old = make(hub, contact="ops@example.com").value.reveal()
    use(hub, old, time.time())
    handed = issued.reissue(hub, "crm", 36000)
    new = handed.value.reveal()
    use(hub, new, time.time(), address="192.0.2.8", agent="crm/9")
    version = issued.get(hub, "crm").secrets[1].version_id
    since = hub.store.read(lambda tx: versions.by_id(tx, version)).changed_at
    return old, new, since


def test_who_still_uses_the_old_one_is_named_at_50_80_and_95_percent(hub, told, overlapping):
    """Once at each, with who called since the one before, until when, and whom to tell; never the value."""
    old, new, since = overlapping
    use(hub, old, since + 60)
    assert [upkeep.remind(hub, since + 36000 * part) for part in (0.1, 0.49, 0.51, 0.6)] == [0, 0, 1, 0]
    use(hub, old, since + 36000 * 0.7, address="192.0.2.9", agent="nightly")
    assert [upkeep.remind(hub, since + 36000 * part) for part in (0.79, 0.81, 0.9)] == [0, 1, 0]
    use(hub, old, since + 36000 * 0.9)
    assert [upkeep.remind(hub, since + 36000 * part) for part in (0.96, 0.99, 1.2)] == [1, 0, 0]
    said = of(told, "credential.late")
    assert [(each["over"], each["items"]) for each in said] == [
        ("50 %", ["192.0.2.7 (etl/1)"]),
        ("80 %", ["192.0.2.9 (nightly)"]),
        ("95 %", ["192.0.2.7 (etl/1)"]),
    ]
    assert {(each["connection"], each["contact"], each["slot"]) for each in said} == {
        ("crm", "ops@example.com", "A")
    }
    assert old not in repr(said)
    assert new not in repr(said)


def test_nobody_is_named_who_took_the_new_one(hub, told, overlapping):
    """Silence on the old one since the switch: no reminder; and none for an overlap that is over in minutes."""
    _, _, since = overlapping
    assert upkeep.remind(hub, since + 36000 * 0.99) == 0
    value = make(hub, "quick").value.reveal()
    use(hub, value, time.time())
    use(hub, issued.reissue(hub, "quick", 600).value.reveal(), time.time())
    use(hub, value, time.time() + 300)
    assert upkeep.remind(hub, time.time() + 500) == 0
    assert told() == [] or "credential.late" not in dict(told())


def test_several_workers_remind_once(hub, told, overlapping):
    """Whoever is first."""
    old, _, since = overlapping
    use(hub, old, since + 60)
    threads = [threading.Thread(target=upkeep.remind, args=(hub, since + 18100)) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(of(told, "credential.late")) == 1


# -- the week's letter ---------------------------------------------------------------------------------------------------


def test_one_letter_a_week_for_each_owner(idle, told):
    """Not one for each key: what is odd, by owner; nothing for who has nothing to look at; the first week is silent."""
    for name, owner in (("a", "kim"), ("b", "kim"), ("c", "sam"), ("d", "eve")):
        contact = {"contact": "ops@example.com"} if owner == "eve" else {}
        issued.issue(idle, "api-key", name, contact, owner)
    monday = 1_800_000_000.0
    assert upkeep.sum_up(idle, monday) == 0
    assert upkeep.sum_up(idle, monday + DAY) == 0
    idle.store.write(lambda tx: tx.run("UPDATE issued_secret SET created_at = ?", monday + 6 * DAY))
    assert upkeep.sum_up(idle, monday + 7 * DAY) == 2
    assert upkeep.sum_up(idle, monday + 7 * DAY) == 0
    said = of(told, "issued.digest")
    assert [(each["owner"], each["items"]) for each in said] == [
        ("kim", ["a: nobody to tell: it has no contact", "b: nobody to tell: it has no contact"]),
        ("sam", ["c: nobody to tell: it has no contact"]),
    ]
    assert upkeep.sum_up(idle, monday + 14 * DAY) == 3, "by now nobody ever used any of them"


def test_the_letter_reads_as_one(idle, told):
    """A line for each credential, and where to look; a long list is cut and says so."""
    for n in range(45):
        issued.issue(idle, "api-key", f"key-{n:02}", {}, "kim")
    upkeep.sum_up(idle, 1_800_000_000.0)
    upkeep.sum_up(idle, 1_800_000_000.0 + 7 * DAY)
    notice = next(n for n in notices.after(idle, 0, None)[0] if n.topic == "issued.digest")
    subject, text = notices._letter(idle, notice)
    assert subject == "[keyturn] what is odd about issued credentials, once a week for each owner"
    assert "Owner: kim\n" in text
    assert "\n- key-00: " in text
    assert "\n- and 5 more\n" in text
    assert f"{idle.settings.public_url}/issued\n" in text


def test_an_owner_who_left_is_in_the_letter(idle, told):
    """Acceptance 11: the key works on, and somebody is asked to take it over."""
    local = rights.local("ada")
    kim = people.accept(
        idle,
        people.invite(idle, local, "kim", "Kim", [("admin", "")]).code.reveal(),
        "correct horse battery 9",
    )
    value = issued.issue(idle, "api-key", "a", {}, "kim", who="kim").value.reveal()
    people.invite(idle, local, "sam", "Sam", [("admin", "")])
    people.switch(idle, local, kim.id, on=False)
    upkeep.sum_up(idle, 1_800_000_000.0)
    upkeep.sum_up(idle, 1_800_000_000.0 + 7 * DAY)
    assert "its owner kim has left: name another one" in of(told, "issued.digest")[0]["items"][0]
    assert IssuedBook(idle.store, idle.roots).look(value).accepted


# -- what nobody uses ----------------------------------------------------------------------------------------------------


def used_at(hub, name="crm"):
    secret = issued.get(hub, name).secrets[0]
    return secret.last_used_at or secret.created_at


def test_what_nobody_uses_is_warned_of_and_ended_a_month_later(hub, told):
    """180 days by default, from its last use: a month before, its owner is told when it ends; then it ends, and that is told
    too. Flagged long before."""
    value = make(hub).value.reveal()
    use(hub, value, time.time())
    at = used_at(hub)
    assert any("was not used for 90 days" in f for f in register.findings(hub, at + 90 * DAY)["crm"])
    assert not any("is ended" in f for f in register.findings(hub, at + 149 * DAY)["crm"])
    assert any("is ended after 180 days" in f for f in register.findings(hub, at + 151 * DAY)["crm"])
    assert [upkeep.end_unused(hub, at + days * DAY) for days in (100, 149, 151, 152, 179)] == [0, 0, 1, 0, 0]
    book = IssuedBook(hub.store, hub.roots)
    assert book.look(value).accepted
    assert upkeep.end_unused(hub, at + 182 * DAY) == 1
    assert book.look(value).code is Code.REVOKED
    run = wait_for(lambda: (found := runs.recent(hub, "crm", 1)) and found[0].ended_at and found[0])
    assert (run.reason, run.state.value) == ("not used for 180 days", "complete")
    warned, ended = of(told, "credential.unused")
    assert warned["connection"] == ended["connection"] == "crm"
    assert set(warned) - set(ended) == {"ends"}
    assert upkeep.end_unused(hub, at + 400 * DAY) == 0


def test_nothing_ends_without_its_month(hub, told):
    """A hub that was off for a year warns first, and ends it 30 days later, not at once."""
    value = make(hub).value.reveal()
    at = used_at(hub)
    assert upkeep.end_unused(hub, at + 400 * DAY) == 1
    assert [upkeep.end_unused(hub, at + days * DAY) for days in (401, 429)] == [0, 0]
    assert IssuedBook(hub.store, hub.roots).look(value).accepted
    assert upkeep.end_unused(hub, at + 431 * DAY) == 1
    assert not IssuedBook(hub.store, hub.roots).look(value).accepted


def test_a_use_in_the_month_saves_it(hub, told):
    """And the days are counted from there."""
    value = make(hub).value.reveal()
    at = used_at(hub)
    assert upkeep.end_unused(hub, at + 151 * DAY) == 1
    use(hub, value, at + 160 * DAY)
    assert [upkeep.end_unused(hub, at + days * DAY) for days in (182, 300)] == [0, 0]
    assert upkeep.end_unused(hub, at + 311 * DAY) == 1, "warned anew"
    assert IssuedBook(hub.store, hub.roots).look(value).accepted


@pytest.mark.parametrize(
    ("days", "when"),
    [(0, ()), (20, (11, 22)), (400, (371, 402))],
)
def test_the_policy_says_after_how_many_days(hub, told, days, when):
    """0: never; a short one is warned of half-way."""
    value = make(hub, policy={"unused_days": days}).value.reveal()
    at = used_at(hub)
    ended = [upkeep.end_unused(hub, at + day * DAY) for day in (*when, 1000)]
    assert ended == [*(1 for _ in when), 0]
    assert IssuedBook(hub.store, hub.roots).look(value).accepted is (not when)


def test_what_is_in_a_run_or_made_for_later_is_left_alone(hub, told):
    """Nothing is ended under somebody's hands, and what has not begun is not unused."""
    value = make(hub).value.reveal()
    use(hub, value, time.time())
    later = issued.issue(hub, "api-key", "later", {}, starts_in_s=300 * DAY)
    issued.reissue(hub, "crm", 30 * DAY)
    assert upkeep.end_unused(hub, used_at(hub) + 400 * DAY) == 0
    assert upkeep.end_unused(hub, later.until + 310 * DAY) == 0
    assert IssuedBook(hub.store, hub.roots).look(value).accepted


def test_the_clock_does_all_of_it(idle, told, monkeypatch):
    """With what it looks at anyway; what nobody uses once an hour."""
    asked = []
    monkeypatch.setattr(upkeep, "remind", lambda hub: asked.append("remind"))
    monkeypatch.setattr(upkeep, "sum_up", lambda hub: asked.append("sum_up"))
    monkeypatch.setattr(upkeep, "end_unused", lambda hub, now: asked.append("end_unused"))
    schedule.start_due(idle)
    schedule.start_due(idle)
    assert asked == ["remind", "sum_up", "end_unused", "remind", "sum_up"]

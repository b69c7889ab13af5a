"""Systems, debts, audit and health."""

import json
import re
import time

import pytest
from tests.web.conftest import text
from tests.web.test_work import start

from keyturn.model.ids import DebtId, RunId
from keyturn.model.run import Debt
from keyturn.operations import audit, debts, events, systems
from keyturn.operations.rights import Role
from keyturn.storage import debts as rows
from keyturn.web import words


@pytest.fixture
def it(browser, person):
    """An administrator's browser."""
    return browser(person())


# -- systems -------------------------------------------------------------------------------------------------------------


def test_every_system_has_its_page(it, idle):
    """With each method's card, rights, steps and sources, as the definition has them."""
    offered = set(re.findall(r'href="/systems/([\w-]+)#', it.get("/systems").text))
    assert offered == set(idle.catalog.names())
    for name in offered:
        page = it.get(f"/systems/{name}")
        assert page.status_code == 200, name
        shown = text(page)
        for method in systems.page(idle.catalog, name)["methods"]:
            assert f'id="{method["method"]}"' in page.text
            for answer in method["card"].values():
                assert " ".join(answer.split()) in shown
            for permission in method["permissions"]:
                assert " ".join(permission["grant"].split()) in shown
            for source in method["sources"]:
                assert source["checked"] in shown
    assert "2026-10-31" in it.get("/systems/snowflake").text
    assert it.get("/systems/none").status_code == 404
    assert re.findall(r'href="/systems/([\w-]+)#(\w+)', it.get("/systems?q=jira").text) == [("jira", "oauth")]


def test_viewers_see_systems_and_connect_nothing(browser, person):
    it = browser(person(Role.VIEWER))
    assert 'href="/connect/' not in it.get("/systems/jira").text


# -- debts ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def owed(idle, connect):
    """`owed(kind)` is an open debt of a connection."""

    def make(kind="orphan", name="orders", project=""):
        connection = connect(name=name, project=project)
        debt = Debt(
            DebtId(f"dbt_{name}"),
            connection.id,
            None,
            RunId("run_none"),
            kind,
            "a key is at the vendor",
            {"ref": {"id": "k-77"}, "last": "the vendor gives no answer"},
            "ada",
            1,
            time.time() + 60,
            time.time(),
            None,
            "",
            "",
        )
        idle.store.write(lambda tx: rows.add(tx, debt))
        return debt

    return make


def test_a_debt_in_words(it, owed, idle):
    """What is owed, where, what was seen last; on home, the list and its own page."""
    debt = owed()
    for path in ("/", "/debts"):
        assert f"/debts/{debt.id}" in it.get(path).text
    page = text(it.get(f"/debts/{debt.id}"))
    for said in ("Nobody's: orders", "A key is at the vendor.", "k-77", "the vendor gives no answer"):
        assert said in page


def test_a_debt_is_tried_again(it, owed, idle):
    """What came of it is said, and on record."""
    debt = owed("unrevocable_grant")
    answer = it.post(f"/debts/{debt.id}/try", on=f"/debts/{debt.id}")
    assert "Still owed: a person decides" in text(it.get(answer.headers["location"]))
    assert debts.get(idle, debt.id).tries == 2
    assert events.latest(idle, 1)[0].facts["operation"] == "debt.try"


def test_a_debt_is_closed_with_a_reason(it, owed, idle):
    debt = owed()
    path = f"/debts/{debt.id}"
    assert it.post(f"{path}/close", {"reason": "  "}, on=path).status_code == 422
    assert debts.get(idle, debt.id).closed_at is None
    assert it.post(f"{path}/close", {"reason": "deleted by hand"}, on=path).status_code == 303
    closed = debts.get(idle, debt.id)
    assert (closed.closed_by, closed.closed_why) == ("admin", "deleted by hand")
    page = it.get(path)
    assert "Closed by admin" in page.text
    assert "Try again" not in page.text
    assert path not in it.get("/debts").text


def test_who_may_settle_debts(browser, person, owed, idle):
    """An operator tries, an approver closes, a viewer looks; another project's is not there."""
    debt = owed(project="billing")
    path = f"/debts/{debt.id}"
    for role, buttons in (
        (Role.VIEWER, (0, 0)),
        (Role.OPERATOR, (1, 0)),
        (Role.APPROVER, (0, 1)),
        (Role.ADMIN, (1, 1)),
    ):
        page = browser(person(role)).get(path).text
        assert (page.count(f'action="{path}/try"'), page.count(f'action="{path}/close"')) == buttons
    stranger = browser(person(Role.ADMIN, "stranger", "other"))
    assert stranger.get(path).status_code == 404
    assert debt.id not in stranger.get("/debts").text
    assert stranger.post(f"{path}/close", {"reason": "x"}, on="/account").status_code == 404
    assert debts.get(idle, debt.id).closed_at is None


def test_every_kind_of_debt_is_said_in_words():
    """Each kind that the product makes."""
    from pathlib import Path

    import keyturn.executor

    made = set()
    for path in Path(keyturn.executor.__file__).parent.rglob("*.py"):
        made |= set(re.findall(r'owe\(\s*"([a-z_]+)"', path.read_text()))
    assert len(made) >= 8
    assert made <= set(words.DEBTS)


# -- audit ---------------------------------------------------------------------------------------------------------------


def seen(page):
    """The facts column of each line."""
    return re.findall(r'<td class="wide small">(.*?)</td></tr>', page.text, re.DOTALL)


def test_the_trail_is_searched(it, connect, idle):
    """By connection, person, kind, day and words."""
    one, two = connect(name="one"), connect(name="two")
    start(it, one, reason="quarterly-7")
    assert len(seen(it.get(f"/audit?on={two.id}"))) < len(seen(it.get(f"/audit?on={one.id}")))
    found = it.get("/audit?q=quarterly-7")
    assert "quarterly-7" in found.text
    assert f'href="/connections/{one.id}"' in found.text
    assert len(seen(found)) <= 2
    assert seen(it.get("/audit?by=admin"))
    assert not seen(it.get("/audit?by=nobody"))
    assert not seen(it.get("/audit?kind=INTENT"))
    assert "signed" in text(it.get("/audit?on=hub")).lower()
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert seen(it.get(f"/audit?since={today}&until={today}"))
    assert not seen(it.get("/audit?until=2020-01-01"))
    assert "A day is written like" in it.get("/audit?since=soon").text
    assert it.get("/audit?after=forged.00&q=%27%22%3Cscript%3E").status_code == 200


def test_the_trail_in_pages(it, connect, idle):
    """Going through them shows every line once, whatever is written meanwhile."""
    connection = connect()
    for number in range(120):
        events.note(idle, "counted", by="ada", number=number)
    path, found = "/audit?by=ada&q=counted", []
    for turn in range(10):
        page = it.get(path)
        found += [int(n) for n in re.findall(r">number</span> (\d+)", page.text)]
        events.note(idle, "counted", by="ada", number=1000 + turn)
        older = re.search(r'href="(/audit\?[^"]*after=[^"]*)">Older', page.text)
        if older is None:
            break
        path = older[1].replace("&amp;", "&")
    assert found == list(range(119, -1, -1))
    assert connection


def test_the_trail_is_checked_and_taken_away(it, connect, idle, tmp_path):
    """An export verifies without the hub; a chain that was changed by hand is named."""
    connection = connect()
    page = it.post("/audit/check", on="/audit")
    assert "Every chain holds" in text(page)
    answer = it.post("/audit/export", on="/audit")
    assert answer.status_code == 200
    assert "attachment" in answer.headers["content-disposition"]
    path = tmp_path / "audit.jsonl"
    path.write_bytes(answer.content)
    assert audit.verify(path).is_whole
    assert json.loads(answer.text.splitlines()[0])["format"] == audit.FORMAT
    assert events.latest(idle, 1)[0].facts["verb"] == "export"
    idle.store.write(
        lambda tx: tx.run("UPDATE journal SET facts = '{}' WHERE connection_id = ?", connection.id)
    )
    page = it.post("/audit/check", on="/audit")
    assert "The trail is broken" in text(page)
    assert connection.name in text(page)


def test_who_reads_the_trail(browser, person, connect, idle):
    """Viewers and operators do not, nor whoever is an approver of one project: the trail is of the whole hub."""
    mine, other = connect(name="mine", project="billing"), connect(name="other")
    for role in (Role.VIEWER, Role.OPERATOR):
        it = browser(person(role))
        assert it.get("/audit").status_code == 403
        assert 'href="/audit"' not in it.get("/").text
    lead = browser(person(Role.APPROVER, "lead", "billing"))
    for path in ("/audit", f"/audit?on={mine.id}"):
        assert lead.get(path).status_code == 403
    for path in ("/audit/export", "/audit/check"):
        assert lead.post(path, on="/account").status_code == 403
    whole = browser(person(Role.APPROVER))
    assert seen(whole.get(f"/audit?on={other.id}"))


# -- health --------------------------------------------------------------------------------------------------------------


def test_health(it, browser, person, idle):
    """Checks and settings, for administrators; no key, password or secret of the machine."""
    page = it.get("/health")
    shown = text(page)
    for said in ("Master key", "Audit trail", "every chain holds", "Keyturn", idle.secrets.keyring.newest.id):
        assert said in shown
    key = (idle.settings.home.parent / "kek").read_text()
    assert re.findall(r"[\w+/=-]{32,}", key)
    assert not [word for word in re.findall(r"[\w+/=-]{32,}", key) if word in page.text]
    assert browser(person(Role.OPERATOR)).get("/health").status_code == 403

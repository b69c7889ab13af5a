"""The audit trail: what a hand in the database leaves behind, and what an older export shows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keyturn.bootstrap import Keyturn
from keyturn.errors import InvalidInput
from keyturn.model.run import Line, LineKind
from keyturn.operations import audit, issued
from keyturn.operations.doctor import doctor
from keyturn.storage import connections, journal
from tests.issued.conftest import open_test_hub

LINES = 12


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Keyturn]:
    """Two connections, `crm` and `erp`, with twelve lines each."""
    found = open_test_hub(tmp_path)
    for name in ("crm", "erp"):
        issued.issue(found, "api-key", name, {"scopes": "read"})
        grow(found, name, LINES)
    yield found
    found.close()


def id_of(hub: Keyturn, name: str) -> str:
    found = hub.store.read(lambda tx: connections.by_name(tx, name))
    assert found
    return found.id


def grow(hub: Keyturn, name: str, to: int, said: str = "seen") -> None:
    """Appends lines until there are as many."""
    one = id_of(hub, name)
    have = len(hub.store.read(lambda tx: journal.of_connection(tx, one)))
    entries = [
        journal.Entry(float(n), "", "", LineKind.OBSERVED, 0, {"what": f"{said} {n}"})
        for n in range(have, to)
    ]
    hub.store.write(lambda tx: journal.append(tx, one, entries))


def by_hand(hub: Keyturn, sql: str, *params: Any) -> None:
    hub.store.write(lambda tx: tx.run(sql, *params))


def rebuild(hub: Keyturn, name: str, number: int) -> None:
    """What somebody does who knows how: changes a line and builds the unkeyed chain and its head anew."""
    one = id_of(hub, name)
    lines = hub.store.read(lambda tx: journal.of_connection(tx, one))
    by_hand(hub, "DELETE FROM journal WHERE connection_id = ?", one)
    by_hand(hub, "UPDATE connection SET journal_count = 0, journal_hash = '' WHERE id = ?", one)
    entries = [
        journal.Entry(
            each.at,
            each.run_id,
            each.step,
            each.kind,
            each.epoch,
            {"what": "nothing happened"} if each.number == number else each.facts,
        )
        for each in lines
    ]
    hub.store.write(lambda tx: journal.append(tx, one, entries))


@pytest.fixture
def exported(hub: Keyturn, tmp_path: Path) -> Callable[[str], Path]:
    """Exports into a file of this name."""

    def make(name: str) -> Path:
        audit.export(hub, tmp_path / name)
        return tmp_path / name

    return make


def of_doctor(hub: Keyturn) -> tuple[str, str]:
    found = next(f for f in doctor(hub.settings, hub.catalog) if f.name == "audit trail")
    return found.state, found.said


def test_a_chain_that_holds_is_whole_everywhere(hub, exported):
    """Nothing is reported; all lines are written, also over several pages; the signed heads are the stored ones."""
    grow(hub, "crm", 2 * audit._PAGE + 1)
    path = exported("trail")
    found = audit.verify(path)
    assert found == audit.Checked(2, 2 * audit._PAGE + 1 + LINES, (), signed=True)
    assert audit.check(hub) == []
    assert of_doctor(hub)[0] == "ok"
    heads = json.loads(json.loads(path.read_text().splitlines()[-1])["heads"])
    stored = hub.store.read(lambda tx: tx.all("SELECT id, journal_count, journal_hash, name FROM connection"))
    assert heads == {row[0]: list(row[1:]) for row in stored}


@pytest.mark.parametrize(("left", "words"), [(11, "1 line is"), (9, "3 lines are"), (0, "12 lines are")])
def test_a_cut_end_shows_in_the_database_and_in_the_export(hub, tmp_path, left, words):
    """The lines that are left chain well: the stored head says how many are missing, to doctor, export and verify."""
    one = id_of(hub, "crm")
    by_hand(hub, "DELETE FROM journal WHERE connection_id = ? AND number > ?", one, left)
    said = f"is cut off: {words} missing at the end"
    assert audit.check(hub) == [f"crm {said}"]
    state, text = of_doctor(hub)
    assert state == "fail"
    assert f"crm {said}" in text
    assert "erp" not in text
    assert audit.export(hub, tmp_path / "trail") == audit.Exported(LINES + left, (f"crm {said}",))
    found = audit.verify(tmp_path / "trail")
    assert found.signed
    assert found.broken == (f"{one} {said}",)


def test_lines_after_the_head_show(hub, tmp_path):
    """A head that was set back leaves lines behind it, which are exported and named."""
    one = id_of(hub, "crm")
    lines = hub.store.read(lambda tx: journal.of_connection(tx, one))
    by_hand(
        hub,
        "UPDATE connection SET journal_count = 10, journal_hash = ? WHERE name = 'crm'",
        lines[9].hash,
    )
    assert audit.check(hub) == ["crm goes on after its head, line 10"]
    assert audit.export(hub, tmp_path / "trail").lines == 2 * LINES
    assert not audit.verify(tmp_path / "trail").is_whole


def test_a_changed_a_missing_and_an_unreadable_line_show(hub):
    """Each is named with the connection it is in."""
    by_hand(hub, "UPDATE journal SET facts = '{}' WHERE number = 4 AND connection_id = ?", id_of(hub, "crm"))
    by_hand(hub, "DELETE FROM journal WHERE number = 5 AND connection_id = ?", id_of(hub, "erp"))
    assert audit.check(hub) == ["crm line 4 does not follow", "erp line 5 does not follow"]
    by_hand(hub, "UPDATE journal SET kind = 'x' WHERE number = 4 AND connection_id = ?", id_of(hub, "crm"))
    assert audit.check(hub)[0] == "crm cannot be read after line 0"
    assert of_doctor(hub)[0] == "fail"


def test_another_head_hash_shows(hub):
    """The number alone is not enough."""
    by_hand(hub, "UPDATE connection SET journal_hash = 'x' WHERE name = 'erp'")
    assert audit.check(hub) == ["erp has another head than its last line, 12"]


def test_lines_of_a_connection_that_is_gone_show(hub, tmp_path):
    """Taking the connection away does not take its lines out of sight."""
    by_hand(hub, "UPDATE journal SET connection_id = 'con_gone' WHERE connection_id = ?", id_of(hub, "crm"))
    found = audit.check(hub)
    assert "con_gone goes on after its head, line 0" in found
    assert "crm is cut off: 12 lines are missing at the end" in found
    audit.export(hub, tmp_path / "trail")
    assert any(each.startswith("con_gone") for each in audit.verify(tmp_path / "trail").broken)


def test_an_older_export_is_the_beginning_of_a_newer_one(hub, exported):
    """More lines, more connections and no change at all are fine; the other way round is not."""
    old = exported("old")
    assert audit.verify(old, earlier=old).is_whole
    grow(hub, "crm", LINES + 5)
    issued.issue(hub, "api-key", "new", {"scopes": "read"})
    new = exported("new")
    assert audit.verify(new, hub.roots.public_key_pem, old).is_whole
    backwards = audit.verify(old, earlier=new)
    assert f"{id_of(hub, 'crm')} lacks line {LINES + 5}, which the earlier export has" in backwards.broken
    assert f"{id_of(hub, 'erp')}" not in "".join(backwards.broken)


def test_a_chain_built_anew_shows_against_an_older_export(hub, exported):
    """By itself the new export is whole and signed by the hub; the one kept elsewhere gives the rewriting away."""
    old = exported("old")
    rebuild(hub, "crm", 3)
    grow(hub, "crm", LINES + 4)
    new = exported("new")
    assert audit.check(hub) == []
    assert audit.verify(new).is_whole
    found = audit.verify(new, earlier=old)
    assert found.signed
    assert found.broken == (
        f"{id_of(hub, 'crm')} was rewritten: line {LINES} is another one in the earlier export",
    )


def test_an_end_cut_off_with_its_head_shows_against_an_older_export(hub, exported):
    """Lines and head moved back together: only the older export still has the end. So for a whole connection."""
    old = exported("old")
    one, other = id_of(hub, "crm"), id_of(hub, "erp")
    kept = hub.store.read(lambda tx: journal.of_connection(tx, one))[6]
    by_hand(hub, "DELETE FROM journal WHERE connection_id = ? AND number > 7", one)
    by_hand(hub, "UPDATE connection SET journal_count = 7, journal_hash = ? WHERE id = ?", kept.hash, one)
    by_hand(hub, "DELETE FROM journal WHERE connection_id = ?", other)
    by_hand(hub, "UPDATE connection SET journal_count = 0, journal_hash = '' WHERE id = ?", other)
    new = exported("new")
    assert audit.verify(new).is_whole
    assert set(audit.verify(new, earlier=old).broken) == {
        f"{one} lacks line 12, which the earlier export has",
        f"{other} lacks line 12, which the earlier export has",
    }


def test_an_older_export_counts_only_when_it_is_whole_and_of_the_same_hub(hub, exported, tmp_path):
    """An altered one, another hub's and a file that is no export vouch for nothing."""
    old, new = exported("old"), exported("new")
    lines = old.read_text().split("\n")
    altered = tmp_path / "altered"
    altered.write_text("\n".join([*lines[:3], *lines[4:]]))
    assert "the earlier export: " in audit.verify(new, earlier=altered).broken[0]
    torn = tmp_path / "torn"
    torn.write_text("\n".join([*lines[:3], "{", *lines[4:]]))
    assert "the earlier export: line 4 of the file cannot be read" in audit.verify(new, earlier=torn).broken
    strange = open_test_hub(tmp_path / "other")
    audit.export(strange, tmp_path / "strange")
    strange.close()
    assert (
        "the earlier export is not signed with the same key"
        in audit.verify(new, earlier=tmp_path / "strange").broken
    )
    (tmp_path / "text").write_text("hello\n")
    for path in (tmp_path / "text", tmp_path / "nowhere"):
        with pytest.raises(InvalidInput) as caught:
            audit.verify(new, earlier=path)
        assert caught.value.facts["field"] == "earlier"


def test_text_with_every_kind_of_line_break_survives_an_export(hub, exported):
    """Only a newline ends a line of an export."""
    grow(hub, "crm", LINES + 1, said="a\u2028b\u0085c\rd\ne\x1cf")
    assert audit.verify(exported("trail")).is_whole


@pytest.mark.parametrize("more", ["{}", "[]", "1", '{"format": "keyturn-audit/1"}', ""])
def test_nothing_may_follow_the_signed_heads(exported, more):
    """A line behind the end is damage, whatever it says."""
    path = exported("trail")
    count = len(path.read_text().splitlines())
    with path.open("a") as out:
        out.write(more + "\n")
    assert audit.verify(path).broken == (f"line {count + 1} of the file cannot be read",)


def test_an_export_without_its_end_is_not_whole(exported, tmp_path):
    """Without the signed heads nothing says how long a chain should be."""
    path = exported("trail")
    shutil.copy(path, tmp_path / "cut")
    (tmp_path / "cut").write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    found = audit.verify(tmp_path / "cut")
    assert not found.signed
    assert found.broken == ("the signed list of heads is missing or damaged",)


def test_lines_appended_meanwhile_are_left_for_the_next_export(hub):
    """A chain is read up to the head that was read before, so that a busy hub is not called broken."""
    heads = hub.store.read(journal.heads)
    grow(hub, "crm", LINES + 3)
    taken: list[Line] = []
    assert [each for head in heads for each in audit._follow(hub, head, taken.append)] == []
    assert len(taken) == 2 * LINES

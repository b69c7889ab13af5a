"""The hub's own commands: init, doctor, backup, restore, vault, audit, help."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from keyturn.cli import terminal
from keyturn.cli.main import COMMANDS, cli
from keyturn.storage import copies
from keyturn_lab.vendors.shapes.running import Shapes
from tests.faces.conftest import Line

PROGRAM = Path(sys.executable).with_name("keyturn")


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    """`keyturn --help` answers in less than 200 ms and loads no library that only some commands need."""
    script = "import sys\nsys.argv=['keyturn','--help']\nfrom keyturn.cli.main import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert not loaded & {
        "rich",
        "yaml",
        "psycopg",
        "httpx2",
        "cryptography",
        "re2",
        "keyturn.bootstrap",
        "sqlite3",
    }
    times = []
    for _ in range(7):
        with subprocess.Popen([PROGRAM, "--help"], stdout=subprocess.DEVNULL) as running:
            used = os.wait4(running.pid, 0)[2]
            running.returncode = 0
        times.append(used.ru_utime + used.ru_stime)
    assert min(times) < 0.2, times  # processor time: other programs on the machine do not count


def test_every_command_has_help_and_its_one_liner() -> None:
    """Each command can be imported, explains itself, and shows examples or options."""
    for section in COMMANDS.values():
        for name in section:
            done = CliRunner().invoke(cli, [name, "--help"])
            assert done.exit_code == 0, name
            assert "Usage:" in done.stdout
            assert "Examples:" in done.stdout, name


def test_a_mistyped_command_names_the_nearest() -> None:
    """`rotat` is answered with `rotate`, not with a traceback."""
    done = CliRunner().invoke(cli, ["rotat"])
    assert done.exit_code == 2
    assert "Did you mean rotate" in done.stderr


def test_version() -> None:
    """`--version` says which one is installed."""
    assert re.match(r"keyturn \d", CliRunner().invoke(cli, ["--version"]).stdout)


@pytest.mark.sqlite
def test_init_says_where_the_key_is_and_that_it_must_be_backed_up(bare: Line) -> None:
    """The first run makes home, key and database, all private."""
    said = bare("init").stdout
    assert str(bare.kek) in said
    assert "Back up the master key" in said
    for path in (bare.kek, bare.database):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_init_twice_changes_nothing(keyturn: Line) -> None:
    """The second run says so; key and rows are the same."""
    key, rows = keyturn.kek.read_bytes(), keyturn.rows("SELECT * FROM sealed")
    assert "nothing was changed" in keyturn("init").stdout
    assert keyturn.kek.read_bytes() == key
    assert keyturn.rows("SELECT * FROM sealed") == rows


def test_init_never_makes_a_second_key_for_a_hub_that_lost_its_own(keyturn: Line) -> None:
    """A database whose key is gone is refused, and no new key appears."""
    keyturn.kek.unlink()
    said = keyturn("init", code=1).stderr
    assert "sealed under kek_" in said
    assert "Restore that key" in said
    assert not keyturn.kek.exists()


@pytest.mark.sqlite
def test_before_init_every_command_says_what_to_do(bare: Line) -> None:
    """No command makes an empty database by accident."""
    assert "keyturn init" in bare("list", code=2).stderr
    assert not bare.database.exists()


@pytest.mark.sqlite
def test_doctor_is_green_on_a_fresh_hub_and_red_without_key(keyturn: Line) -> None:
    """What does not work is named, with the fix, and the exit code is 1."""
    found = keyturn.json("doctor")
    assert found["ok"]
    assert {"python", "master key", "database", "clock", "audit trail"} <= {
        c["name"] for c in found["checks"]
    }
    keyturn.kek.unlink()
    found = keyturn.json("doctor", code=1)
    broken = {c["name"]: c for c in found["checks"] if c["state"] == "fail"}
    assert "restore the key" in broken["master key"]["fix"]


def test_doctor_before_init_points_to_init(bare: Line) -> None:
    """It changes nothing, and raises nothing."""
    assert "keyturn init" in bare("doctor", code=1).stdout
    assert not bare.database.exists()


@pytest.mark.sqlite
def test_backup_is_private_and_never_overwrites(keyturn: Line) -> None:
    """One file at 0600; the same name again is refused and the file is untouched."""
    target = keyturn.folder / "copy.db"
    made = keyturn.json("backup", str(target))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert made["key_ids"][0] in keyturn.kek.read_text()
    assert sorted(p.name for p in keyturn.folder.glob("copy*")) == ["copy.db"]
    before = target.read_bytes()
    assert "there already" in keyturn("backup", str(target), code=2).stderr
    assert target.read_bytes() == before


@pytest.mark.sqlite
def test_restore_brings_back_what_was_saved(keyturn: Line, vendor: Shapes) -> None:
    """A hub with connections is replaced only on purpose, and what it held is kept beside it."""
    target = keyturn.folder / "copy.db"
    keyturn.connect(vendor, "two_slots", "restore-a")
    keyturn("backup", str(target))
    keyturn.connect(vendor, "two_slots", "restore-b")
    said = keyturn("restore", str(target), code=2).stderr
    assert "--yes" in said
    assert len(keyturn.json("list")) == 2
    kept = keyturn.json("restore", str(target), "--yes")["kept"]
    assert [c["name"] for c in keyturn.json("list")] == ["restore-a"]
    assert Path(kept).exists()
    keyturn("test", "restore-a")


@pytest.mark.sqlite
def test_restores_within_one_second_keep_what_each_replaced(keyturn: Line, vendor: Shapes) -> None:
    """None takes the other's name."""
    target = keyturn.folder / "copy.db"
    keyturn("backup", str(target))
    kept = [keyturn.json("restore", str(target))["kept"] for _ in range(3)]
    assert len(set(kept)) == 3
    assert all(Path(each).exists() for each in kept)


@pytest.mark.sqlite
def test_restore_gives_up_on_a_database_that_stays_locked(
    keyturn: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a bounded wait it says so; nothing was changed and no copy is left behind."""
    target = keyturn.folder / "copy.db"
    keyturn("backup", str(target))
    monkeypatch.setattr(copies, "BUSY_S", 0.3)
    before = sorted(p.name for p in keyturn.database.parent.iterdir() if "restore" in p.name)
    holder = sqlite3.connect(keyturn.database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    said = keyturn("restore", str(target), code=1).stderr
    holder.execute("ROLLBACK")
    holder.close()
    assert "another program has held the database" in said
    assert "nothing was changed" in said
    assert "Stop serve and worker" in said
    assert before == sorted(p.name for p in keyturn.database.parent.iterdir() if "restore" in p.name)
    keyturn("restore", str(target))


@pytest.mark.sqlite
def test_restore_refuses_what_is_not_a_backup(keyturn: Line) -> None:
    """A file that is no hub changes nothing."""
    wrong = keyturn.folder / "wrong.db"
    wrong.write_text("hello")
    before = keyturn.counts()
    assert "not a backup" in keyturn("restore", str(wrong), "--yes", code=2).stderr
    assert "there is no file" in keyturn("restore", str(wrong) + "x", code=2).stderr
    assert keyturn.counts() == before


@pytest.mark.sqlite
def test_restore_needs_the_key_the_backup_was_sealed_under(keyturn: Line, tmp_path: Path) -> None:
    """Another hub's backup is refused before anything is replaced."""
    target = keyturn.folder / "copy.db"
    keyturn("backup", str(target))
    other = Line(tmp_path / "other")
    other("init")
    before = other.database.read_bytes()
    assert "kek_" in other("restore", str(target), "--yes", code=1).stderr
    assert other.database.read_bytes() == before


def test_the_master_key_is_rotated_without_touching_values(keyturn: Line, vendor: Shapes) -> None:
    """Every row is under the newest key afterwards and every credential still opens."""
    keyturn.connect(vendor, "two_slots", "kek-a")
    old = keyturn.json("vault", "status")["keys"]
    made = keyturn.json("vault", "rotate-kek")
    now = keyturn.json("vault", "status")
    assert [k["rows"] for k in now["keys"]] == [made["rewrapped"], 0]
    assert now["keys"][1]["id"] == old[0]["id"]
    keyturn("test", "kek-a")
    assert keyturn.json("vault", "rotate-kek", "--rewrap-only")["rewrapped"] == 0


def test_an_export_is_whole_until_a_line_is_changed(keyturn: Line, vendor: Shapes) -> None:
    """An altered line is named; a line cut off is noticed; the pinned key must be the signer's."""
    keyturn.connect(vendor, "two_slots", "audit-a")
    keyturn("test", "audit-a")
    trail, pem = keyturn.folder / "trail", keyturn.folder / "pem"
    keyturn("audit", "export", str(trail), "--public-key", str(pem))
    keyturn("audit", "verify", str(trail), "--public-key", str(pem))
    assert "there already" in keyturn("audit", "export", str(trail), code=2).stderr
    lines = trail.read_text().splitlines()
    changed = keyturn.folder / "changed"
    changed.write_text("\n".join(lines).replace('"what": "test"', '"what": "tes7"'))
    said = keyturn("audit", "verify", str(changed), code=1).stdout
    assert re.search(r"BROKEN con_\w+ line 3", said)
    cut = keyturn.folder / "cut"
    cut.write_text("\n".join([*lines[:-2], lines[-1]]))
    assert "cut off: 1 line is missing at the end" in keyturn("audit", "verify", str(cut), code=1).stdout
    assert not keyturn.json("audit", "verify", str(cut), code=1)["ok"]
    for number, line in ((2, '{"broken'), (3, "{}"), (len(lines), '{"heads": "{}"}')):
        spoilt = keyturn.folder / f"spoilt{number}"
        spoilt.write_text("\n".join([*lines[: number - 1], line, *lines[number:]]))
        assert f"line {number} of the file" in keyturn("audit", "verify", str(spoilt), code=1).stdout


def test_a_journal_that_lost_its_end_is_said_by_every_command(keyturn: Line, vendor: Shapes) -> None:
    """Doctor, export and verify name the connection and how many lines are gone; an older export shows a new head."""
    keyturn.connect(vendor, "two_slots", "audit-b")
    keyturn("test", "audit-b")
    old, new, late = (keyturn.folder / name for name in ("old", "new", "late"))
    keyturn("audit", "export", str(old))
    assert "is the beginning" in keyturn("audit", "verify", str(old), "--earlier", str(old)).stdout
    last, digest = keyturn.rows("SELECT number, hash FROM journal ORDER BY number DESC LIMIT 2")[1]
    keyturn.rows("DELETE FROM journal WHERE number > ?", last)
    said = "audit-b is cut off: 1 line is missing at the end"
    assert said in keyturn("doctor", code=1).stdout
    assert keyturn.json("audit", "export", str(new), code=1)["broken"] == [said]
    assert "1 line is missing at the end" in keyturn("audit", "verify", str(new), code=1).stdout
    keyturn.rows("UPDATE connection SET journal_count = ?, journal_hash = ?", last, digest)
    assert f"BROKEN {said}" not in keyturn("audit", "export", str(late)).stdout
    keyturn("audit", "verify", str(late))
    shown = keyturn("audit", "verify", str(late), "--earlier", str(old), code=1).stdout
    assert f"lacks line {last + 1}, which the earlier export has" in shown
    assert "/nowhere" in keyturn("audit", "verify", str(late), "--earlier", "/nowhere", code=2).stderr


def test_systems_json_has_the_names_the_outside_relies_on(bare: Line) -> None:
    """Objects with at least these keys, before any hub exists."""
    rows = bare.json("systems")
    for row in rows:
        assert {"system", "method", "direction", "strategy", "gap_class", "proof", "hands"} <= set(row)
    assert ("postgresql", "password") in {(r["system"], r["method"]) for r in rows}
    assert not bare.database.exists()


def test_a_systems_page_is_enough_to_work_from(bare: Line) -> None:
    """Fields, card in words, permissions and dated sources."""
    said = bare("systems", "postgresql").stdout
    for word in (
        "--secret password=",
        "Fields",
        "What consumers notice",
        "Permissions",
        "Sources",
        "checked 20",
    ):
        assert word in said
    assert "Did you mean postgresql" in bare("systems", "postgres", code=2).stderr


def test_a_page_says_what_will_happen_and_how_to_begin(bare: Line) -> None:
    """The real plan with the vendor's calls, when a grant ends by itself, a command with all that must be given."""
    dynamics = bare("systems", "dynamics").stdout
    assert "removePassword by keyId" in dynamics.split("From here on nothing is undone:")[1]
    assert "--set tenant_id=3f2504e0" in dynamics.split("keyturn connect dynamics client_secret")[1]
    assert "365 days after the consent" in bare("systems", "jira").stdout
    freshdesk = bare("systems", "freshdesk").stdout
    assert "Not as <current agent>" in freshdesk, "a variant's own instructions, before there is a connection"
    assert "${" not in freshdesk


def test_a_page_names_the_addresses_a_vendor_must_let_in(bare: Line) -> None:
    """What KEYTURN_EGRESS_ADDRESSES says stands beside the permission it is about; a typing error is named."""
    assert "203.0.113.7" not in bare("systems", "snowflake").stdout
    bare.environment["KEYTURN_EGRESS_ADDRESSES"] = "203.0.113.7, 198.51.100.0/28"
    assert "this hub's addresses: 203.0.113.7, 198.51.100.0/28" in bare("systems", "snowflake").stdout
    assert "203.0.113.7" not in bare("systems", "aha").stdout
    bare.environment["KEYTURN_EGRESS_ADDRESSES"] = "203.0.113.7, office"
    assert "office" in bare("systems", "snowflake", code=2).stderr


@pytest.mark.parametrize(
    ("system", "words"),
    [
        ("snowflake", "The vendor withdraws this method by 2026-10-31."),
        ("databricks", "A password is refused by Databricks since 10 July 2024"),
        ("mixpanel", "project API secrets, which Mixpanel retires on 3 March 2027"),
    ],
)
def test_a_page_says_when_an_older_method_ends(bare: Line, system: str, words: str) -> None:
    """Whoever still has one learns it where the way out is."""
    assert words in " ".join(bare("systems", system).stdout.split())


def test_a_public_address_has_nothing_to_rotate_in_words(bare: Line) -> None:
    """In the table of rows, on the page, and no strategy of another row in its place."""
    page = bare("systems", "custom-rest").stdout.partition("custom-rest/basic")[0]
    assert "S0: There is no credential: nothing to rotate." in page
    assert "What consumers notice" not in page
    (row,) = (
        line for line in bare("systems").stdout.splitlines() if "custom-rest" in line and "none" in line
    )
    assert row.split()[-4:] == ["S0", "none", "none", "none"]


def test_no_colour_reaches_a_pipe() -> None:
    """Escape codes are for terminals."""
    done = subprocess.run([PROGRAM, "systems"], capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout


def test_what_a_vendor_says_cannot_move_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control characters are dropped; on a terminal only colours stay."""
    said = "\x1b[31mred\x1b[0m \x1b[2Jgone\rback\x07"
    assert terminal.clean(said) == "red gone" + "back"
    monkeypatch.setattr(terminal, "has_colours", lambda: True)
    assert terminal.clean(said) == "\x1b[31mred\x1b[0m [2Jgoneback"


def test_a_real_process_reports_errors_as_json(bare: Line) -> None:
    """With --json an error is an object on stderr, and stdout stays empty."""
    bare.environment.pop("KEYTURN_DATABASE", None)
    env = {**os.environ, **bare.environment}
    done = subprocess.run([PROGRAM, "list", "--json"], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    said = json.loads(done.stderr)
    assert said["error"] == "NotFound"
    assert "keyturn init" in said["hint"]


@pytest.mark.parametrize(
    "command",
    [
        ("rotate", "--json"),
        ("lst", "--json"),
        ("vault", "status", "--json", "--no-such"),
        ("show", "--json", "a", "b"),
    ],
)
def test_a_command_that_cannot_be_read_is_refused_in_json_too(bare: Line, command: tuple[str, ...]) -> None:
    """Whoever asks for JSON gets it, also where an argument is missing, unknown or too many."""
    done = bare(*command, code=2)
    assert done.stdout == ""
    assert json.loads(done.stderr)["error"] == "InvalidInput"


def test_what_follows_two_dashes_is_not_for_us(bare: Line) -> None:
    """A program's own --json does not make our words JSON."""
    assert bare("lease", "--ttl", "soon", "orders", "--", "jq", "--json", code=2).stderr.startswith("Usage: ")


@pytest.mark.parametrize("variable", ["KEYTURN_WORKERS", "KEYTURN_PATIENCE"])
def test_a_wrong_setting_is_named(keyturn: Line, variable: str) -> None:
    """The variable, not a traceback."""
    keyturn.environment[variable] = "many"
    assert variable in keyturn("list", code=2).stderr


def test_shell_completion_comes_with_it() -> None:
    """click's completion answers for commands without importing them."""
    env = {**os.environ, "_KEYTURN_COMPLETE": "bash_complete", "COMP_WORDS": "keyturn rot", "COMP_CWORD": "1"}
    done = subprocess.run([PROGRAM], capture_output=True, text=True, env=env, check=False)
    assert "rotate" in done.stdout


def test_one_line_descriptions_fit_beside_their_commands() -> None:
    """The help page is for 80 columns."""
    for section in COMMANDS.values():
        assert all(len(said) <= 60 for _, said in section.values())
    assert isinstance(cli, click.Group)

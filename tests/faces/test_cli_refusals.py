"""What is typed wrongly, and what is broken: the field and the fix are named, the exit code tells, nothing is half-saved."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from keyturn.cli.session import Session
from keyturn.operations import connections, systems
from keyturn.storage.database import SqliteStore
from keyturn_lab.parts.postgres import PostgresCluster, Role
from keyturn_lab.vendors.shapes.running import Shapes
from tests.compliance.lab import or_skip, the_lab
from tests.faces.conftest import Line

Name = Callable[[str], str]
PG = ("connect", "postgresql", "password", "--name", "db")
GOOD = (
    "--set",
    "host=127.0.0.1",
    "--set",
    "database=app",
    "--set",
    "user=app",
    "--secret",
    "password=env:PW",
)

# what is wrong, the command, words of the message
BAD: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "unknown system": (
        ("connect", "postgres", "password", "--name", "db"),
        ("no system postgres", "postgresql"),
    ),
    "unknown method": (
        ("connect", "postgresql", "pasword", "--name", "db"),
        ("no method pasword", "password"),
    ),
    "missing field": ((*PG, *GOOD[2:]), ("host", "missing", "db.example.com")),
    "missing secret": ((*PG, *GOOD[:-2]), ("password", "missing")),
    "unknown field": ((*PG, *GOOD, "--set", "hots=x"), ("no field hots", "host")),
    "malformed number": ((*PG, *GOOD, "--set", "port=54x"), ("port", "whole number")),
    "digits of a kind": ((*PG, *GOOD, "--set", "port=²"), ("port", "whole number")),
    "no such port": ((*PG, *GOOD, "--set", "port=65536"), ("port", "65535")),
    "address for a host": (
        (*PG, *GOOD[2:], "--set", "host=https://db.example.com"),
        ("host", "form", "db.example.com"),
    ),
    "administrator without password": (
        (*PG, *GOOD, "--set", "admin_user=dba"),
        ("admin_user", "admin_password is missing"),
    ),
    "administrator without name": (
        (*PG, *GOOD, "--secret", "admin_password=env:PW"),
        ("admin_password", "admin_user is missing"),
    ),
    "wrong choice": ((*PG, *GOOD, "--set", "sslmode=maybe"), ("sslmode", "verify-full")),
    "spaces at the ends": ((*PG, *GOOD[2:], "--set", "host= db "), ("host", "spaces")),
    "given twice": ((*PG, *GOOD, "--set", "host=b"), ("host", "twice")),
    "no pair": ((*PG, *GOOD, "--set", "host"), ("--set", "name=value")),
    "missing name": (("connect", "postgresql", "password", *GOOD), ("--name",)),
    "bad name": (("connect", "postgresql", "password", "--name", "-x!", *GOOD), ("name", "letters")),
    "unreadable file": (
        (*PG, *GOOD[:-1], "password=@/nowhere/key"),
        ("password", "/nowhere/key", "No such file"),
    ),
    "folder for a file": ((*PG, *GOOD[:-1], "password=@/tmp"), ("password", "/tmp", "directory")),
    "unset variable": (
        (*PG, *GOOD[:-1], "password=env:NOTHING_HERE"),
        ("password", "NOTHING_HERE", "not set"),
    ),
    "empty stdin": ((*PG, *GOOD[:-1], "password=-"), ("password", "empty")),
    "two from stdin": (
        (*PG, *GOOD[:-1], "password=-", "--secret", "admin_password=-"),
        ("stdin", "env:NAME"),
    ),
    "unknown policy": ((*PG, *GOOD, "--policy", "max_age=3"), ("max_age", "max_age_days")),
    "wrong policy": ((*PG, *GOOD, "--policy", "max_age_days=soon"), ("max_age_days", "number")),
    "wrong proof": ((*PG, *GOOD, "--policy", "proof=D9"), ("proof", "D0")),
    "missing definition": ((*PG, *GOOD, "--definition", "/nowhere.yaml"), ("/nowhere.yaml",)),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_names_the_field_and_the_fix(keyturn: Line, what: str) -> None:
    """Exit code 2, before anybody is called; no table has a row more."""
    keyturn.environment["PW"] = "hunter2-hunter2"
    before = keyturn.counts()
    command, words = BAD[what]
    done = keyturn(*command, code=2)
    for word in words:
        assert word in done.stderr
    assert done.stdout == ""
    assert keyturn.counts() == before
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("option", [("--secret", "password=hunter2"), ("--set", "password=hunter2")])
def test_a_secret_on_the_command_line_is_refused_with_the_reason(
    keyturn: Line, option: tuple[str, str]
) -> None:
    """It would be in the shell's history; it is not repeated."""
    before = keyturn.counts()
    said = keyturn(*PG, *GOOD[:-2], *option, code=2).stderr
    assert "history" in said
    assert "password=@FILE" in said
    assert "hunter2" not in said
    assert keyturn.counts() == before


def test_a_file_that_is_not_text_is_refused(keyturn: Line) -> None:
    """The field and the file are named."""
    (keyturn.folder / "der").write_bytes(b"\x30\x82\xff\xfe")
    said = keyturn(*PG, *GOOD[:-1], f"password=@{keyturn.folder / 'der'}", code=2).stderr
    assert "not text" in said
    assert "password" in said


def test_a_duplicate_name_is_refused_before_the_vendor_is_asked(
    keyturn: Line, vendor: Shapes, fresh_name: Name
) -> None:
    """The first connection stays as it was."""
    name = fresh_name("twice")
    keyturn.connect(vendor, "two_slots", name)
    _, args = keyturn.arguments(vendor, "two_slots", name + "-other")
    before = keyturn.counts()
    said = keyturn("connect", "shapes", "two_slots", "--name", name, *args, code=2).stderr
    assert f"a connection named {name} already" in said
    assert "another name" in said
    assert keyturn.counts() == before


def test_a_host_that_does_not_answer_saves_nothing(keyturn: Line) -> None:
    """It is not a wrong credential: exit code 1 and where to look."""
    keyturn.environment["PW"] = "x" * 12
    keyturn.environment["KEYTURN_ALLOWED_HOSTS"] = "127.0.0.1"
    before = keyturn.counts()
    said = keyturn(*PG, *GOOD, "--set", "port=1", "--set", "sslmode=disable", code=1).stderr
    assert "no clear answer" in said
    assert "host, port" in said
    assert keyturn.counts() == before


def test_a_refused_credential_saves_nothing(keyturn: Line, vendor: Shapes, fresh_name: Name) -> None:
    """The vendor's no is said as such."""
    _, args = keyturn.arguments(vendor, "two_slots", fresh_name("refused"))
    variable = args[-1].partition("env:")[2]
    keyturn.environment[variable] = "wrong"
    before = keyturn.counts()
    said = keyturn("connect", "shapes", "two_slots", "--name", "refused", *args, code=1).stderr
    assert "refused the credential" in said
    assert "Nothing was saved" in said
    assert keyturn.counts() == before


KEY = (
    "connect",
    "snowflake",
    "key_pair",
    "--name",
    "dwh",
    "--set",
    "account=myorg-acct",
    "--set",
    "user=SVC",
)


@pytest.mark.parametrize(
    ("file", "passphrase", "field", "words"),
    [
        ("locked", "wrong", "passphrase", "does not open"),
        ("locked", None, "passphrase", "encrypted"),
        ("certificate", None, "private_key", "private key"),
        ("short", None, "private_key", "2048"),
        ("torn", None, "private_key", "private key"),
        ("absent", None, "private_key", "No such file"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_refused(
    keyturn: Line, file: str, passphrase: str | None, field: str, words: str
) -> None:
    """Before anybody is called: the field and what is wrong with the file, exit code 2, nothing saved or repeated."""
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

    long, short = generate_private_key(65537, 2048), generate_private_key(65537, 1024)
    pem, pkcs8, plain = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    whole = long.private_bytes(pem, pkcs8, plain)
    files = {
        "locked": long.private_bytes(pem, pkcs8, BestAvailableEncryption(b"right-passphrase")),
        "certificate": long.public_key().public_bytes(pem, PublicFormat.SubjectPublicKeyInfo),
        "short": short.private_bytes(pem, pkcs8, plain),
        "torn": whole[: len(whole) // 2],
    }
    path = keyturn.folder / "rsa.pem"
    if file in files:
        path.write_bytes(files[file])
        path.chmod(0o600)
    more = ("--secret", f"private_key=@{path}")
    if passphrase:
        keyturn.environment["PASSPHRASE"] = passphrase
        more += ("--secret", "passphrase=env:PASSPHRASE")
    before = keyturn.counts()
    said = keyturn(*KEY, *more, code=2).stderr
    assert field in said
    assert words in said
    assert "BEGIN" not in said
    assert keyturn.counts() == before


@pytest.mark.postgres
def test_an_administrator_who_is_refused_saves_nothing(keyturn: Line) -> None:
    """Found when connecting, not at the first rotation: whose access it is, and the server's word."""
    server = or_skip(lambda: the_lab().postgres)
    role, deputy = (server.create_role(f"{who}_{the_lab().number()}") for who in ("app", "dba"))
    keyturn.environment |= {"PW": role.password, "WRONG": "x" * 12, "ADMIN": deputy.password}
    keyturn.environment["KEYTURN_ALLOWED_HOSTS"] = "127.0.0.1"
    where = (
        f"--set=port={server.port}",
        "--set=sslmode=disable",
        "--set=host=127.0.0.1",
        "--set=database=postgres",
    )
    who = (f"--set=user={role.name}", "--secret=password=env:PW", f"--set=admin_user={deputy.name}")
    before = keyturn.counts()
    said = keyturn(*PG, *where, *who, "--secret=admin_password=env:WRONG", code=1).stderr
    assert "administrator" in said
    assert deputy.name in said
    assert "Nothing was saved" in said
    assert keyturn.counts() == before
    keyturn(*PG, *where, *who, "--secret=admin_password=env:ADMIN")


def _of_an_administrator(keyturn: Line) -> tuple[PostgresCluster, Role]:
    """A role of its own, connected as db with the superuser as its administrator."""
    server = or_skip(lambda: the_lab().postgres)
    role = server.create_role(f"gone_{the_lab().number()}")
    keyturn.environment |= {"PW": role.password, "ADMIN": server.password}
    keyturn.environment["KEYTURN_ALLOWED_HOSTS"] = "127.0.0.1"
    where = (
        f"--set=port={server.port}",
        "--set=sslmode=disable",
        "--set=host=127.0.0.1",
        "--set=database=postgres",
    )
    who = (f"--set=user={role.name}", "--secret=password=env:PW", f"--set=admin_user={server.superuser}")
    keyturn(*PG, *where, *who, "--secret=admin_password=env:ADMIN")
    return server, role


@pytest.mark.postgres
def test_a_role_that_somebody_dropped_is_named_and_the_run_ends(keyturn: Line) -> None:
    """The server's no is definite: nothing is tried for ever, nothing is owed, and what to do is said."""
    server, role = _of_an_administrator(keyturn)
    with server.connect() as session:
        session.execute(f"DROP ROLE {role.name}")
    run = keyturn.json("rotate", "db", "--timeout", "20s", code=None)
    said = f"{run['waiting_for']} {run['outcome']}"
    assert f'role "{role.name}" does not exist' in said
    assert "Create it again" in said
    assert (run["state"], run["debts"]) == ("aborted_clean", [])


@pytest.mark.postgres
def test_what_to_do_when_nothing_works_names_this_connections_account(keyturn: Line) -> None:
    """The vendor's recovery steps, filled in."""
    _, role = _of_an_administrator(keyturn)
    with Session(keyturn.environment).hub() as hub:
        (step,) = systems.recovery(hub, connections.find(hub, "db"))
    assert f"\\password {role.name} in psql" in step


@pytest.mark.postgres
def test_a_missing_privilege_is_named_and_the_old_one_serves(keyturn: Line) -> None:
    """The run is blocked with the right that the server asks for: exit code 4. It can be called off, as nothing was
    changed; granted, it goes on."""
    with PostgresCluster(options={"log_statement": "none"}) as server:
        role, deputy = server.create_role("app_single"), server.create_role("deputy")
        keyturn.environment |= {"PW": role.password, "ADMIN": deputy.password}
        keyturn.environment["KEYTURN_ALLOWED_HOSTS"] = "127.0.0.1"
        where = ("--set", f"port={server.port}", "--set", "sslmode=disable", "--set", "database=postgres")
        who = ("--set", f"user={role.name}", "--secret", "password=env:PW")
        by = ("--set", f"admin_user={deputy.name}", "--secret", "admin_password=env:ADMIN")
        keyturn(*PG, "--set", "host=127.0.0.1", *where, *who, *by)
        run = keyturn.json("rotate", "db", code=4)
        assert run["state"] == "blocked"
        assert "CREATEROLE" in run["waiting_for"]
        assert run["serving"].startswith("v1 serves")
        assert server.accepts(role)
        off = keyturn.json("cancel", run["id"])
        assert (off["state"], off["serving"], off["debts"]) == ("aborted_clean", "v1 serves", [])
        run = keyturn.json("rotate", "db", code=4)
        with server.connect() as session:
            session.execute("ALTER ROLE deputy CREATEROLE")
            session.execute("GRANT app_single TO deputy WITH ADMIN OPTION")
        keyturn("retry", run["id"])
        assert keyturn.json("run", run["id"], "--follow")["state"] == "complete"
        assert not server.accepts(role)


def test_missing_fields_are_asked_for_on_a_terminal(
    keyturn: Line, vendor: Shapes, fresh_name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets are not echoed; a value of the wrong form is asked for again."""
    from keyturn.cli import terminal

    made, args = keyturn.arguments(vendor, "two_slots", fresh_name("asked"))
    monkeypatch.setattr(terminal, "is_interactive", lambda: True)
    done = keyturn(
        "connect", "shapes", "two_slots", "--name", "asked", *args[:-2], typed=f"{made.material['secret']}\n"
    )
    assert "Secret" in done.stderr
    assert made.material["secret"] not in done.output


def test_a_missing_master_key_is_named_with_its_place(keyturn: Line) -> None:
    """Exit code 1: restore it; a new one opens nothing."""
    keyturn.kek.unlink()
    said = keyturn("list", code=1).stderr
    assert str(keyturn.kek) in said
    assert "restore the key" in said


def test_a_wrong_master_key_is_named_by_its_id(keyturn: Line, tmp_path: Path) -> None:
    """The key that is needed and the one that is there are both named."""
    other = Line(tmp_path / "other")
    other("init")
    keyturn.kek.write_bytes(other.kek.read_bytes())
    before = keyturn.counts()
    said = keyturn("list", code=1).stderr
    assert said.count("kek_") >= 2
    assert keyturn.counts() == before


def test_a_master_key_others_can_read_is_refused(keyturn: Line) -> None:
    """With the command that helps."""
    keyturn.kek.chmod(0o644)
    assert "chmod 600" in keyturn("list", code=1).stderr


def test_a_tampered_row_does_not_open(keyturn: Line, vendor: Shapes, fresh_name: Name) -> None:
    """Exit code 1, the row is named, no plaintext and no rotation of it."""
    name = fresh_name("tampered")
    keyturn.connect(vendor, "two_slots", name)
    ((row, body),) = keyturn.rows("SELECT id, body FROM sealed WHERE id >= 'version:' AND id < 'version;'")
    keyturn.rows("UPDATE sealed SET body = ? WHERE id = ?", body[:-1] + bytes([body[-1] ^ 1]), row)
    done = keyturn("test", name, code=1)
    assert row in done.stderr
    keyturn("lease", name, "--", "true", code=1)
    assert keyturn.json("rotate", name, "--timeout", "5s", code=None)["state"] != "complete"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite gives up waiting for a lock at once."""
    plain = SqliteStore._connect

    def connect(self: SqliteStore) -> sqlite3.Connection:
        connection = plain(self)
        connection.execute("PRAGMA busy_timeout=100")
        return connection

    monkeypatch.setattr(SqliteStore, "_connect", connect)


@pytest.fixture
def held(keyturn: Line) -> Iterator[None]:
    """Another program holds the database."""
    holder = sqlite3.connect(keyturn.database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    yield
    holder.execute("ROLLBACK")
    holder.close()


@pytest.mark.sqlite
def test_a_locked_database_is_said_so(keyturn: Line, impatient: None, held: None) -> None:
    """Exit code 1, which file, and that nothing was changed."""
    said = keyturn("issue", "api-key", "--name", "x", code=1).stderr
    assert "locked" in said
    assert str(keyturn.database) in said or "holds the database" in said
    assert "other program holds" in said
    assert "Nothing was changed" in said


@pytest.mark.sqlite
def test_a_full_disk_saves_nothing(
    keyturn: Line, vendor: Shapes, fresh_name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is refused as a whole."""
    plain = SqliteStore._connect

    def connect(self: SqliteStore) -> sqlite3.Connection:
        connection = plain(self)
        connection.execute("PRAGMA max_page_count=1")  # SQLite takes the present size: not one page more
        return connection

    name = fresh_name("full")
    _, args = keyturn.arguments(vendor, "two_slots", name)
    big = "x" * 60_000
    before = keyturn.counts()
    monkeypatch.setattr(SqliteStore, "_connect", connect)
    said = keyturn(
        "connect", "shapes", "two_slots", "--name", name, *args, "--set", f"reviewable={big}", code=1
    ).stderr
    assert "full" in said
    assert "Nothing was changed" in said
    monkeypatch.undo()
    assert keyturn.counts() == before


@pytest.mark.sqlite
@pytest.mark.parametrize("ill", ["locked", "full"])
def test_a_rotation_on_an_ill_database_changes_nothing_anywhere(
    keyturn: Line,
    vendor: Shapes,
    fresh_name: Name,
    monkeypatch: pytest.MonkeyPatch,
    impatient: None,
    ill: str,
) -> None:
    """It is not begun: no run is half there, the vendor hears nothing, and the same command works afterwards."""
    name = fresh_name(ill)
    made = keyturn.connect(vendor, "two_slots", name)
    before, heard = keyturn.counts(), len(vendor.client.call("calls", principal=name))
    plain, holder = SqliteStore._connect, sqlite3.connect(keyturn.database, isolation_level=None)
    if ill == "locked":
        holder.execute("BEGIN EXCLUSIVE")
    else:

        def connect(self: SqliteStore) -> sqlite3.Connection:
            connection = plain(self)
            connection.execute("PRAGMA max_page_count=1")
            return connection

        monkeypatch.setattr(SqliteStore, "_connect", connect)
    said = keyturn("rotate", name, "--reason", "x" * 60_000, code=1).stderr
    monkeypatch.undo()
    if ill == "locked":
        holder.execute("ROLLBACK")
    holder.close()
    assert ill in said
    assert str(keyturn.database) in said or "Nothing was changed" in said
    assert keyturn.counts() == before
    assert len(vendor.client.call("calls", principal=name)) == heard
    assert made.material["secret"] not in said
    assert keyturn.json("rotate", name)["state"] == "complete"


@pytest.mark.sqlite
def test_something_that_is_no_database_is_named(keyturn: Line) -> None:
    """The path, and no traceback."""
    keyturn.database.write_bytes(b"this is not a database, however long it may be" * 100)
    for leftover in keyturn.database.parent.glob("keyturn.db-*"):
        leftover.unlink()
    assert str(keyturn.database) in keyturn("list", code=1).stderr


@pytest.mark.sqlite
def test_a_folder_that_cannot_be_written_is_named(bare: Line) -> None:
    """Exit code 1 and the path. Not even root makes a file in the kernel's."""
    bare.environment["KEYTURN_HOME"] = "/sys"
    assert "/sys/keyturn.db" in bare("init", code=1).stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("show", "nothing"), ("no connection named nothing", "keyturn list")),
        (("task", "tsk_none"), ("no task", "keyturn tasks")),
        (("debt", "dbt_none"), ("no debt", "keyturn debts")),
        (("run", "run_none"), ("no run", "keyturn runs")),
        (("plan", "x", "explode"), ("explode", "rotate")),
        (("lease", "x", "--ttl", "soon", "--", "true"), ("soon", "5m")),
        (("audit", "verify", "/nowhere"), ("/nowhere",)),
        (("definitions", "check", "/nowhere.yaml"), ("/nowhere.yaml",)),
        pytest.param(("backup", "/nowhere/x/y"), ("/nowhere/x/y",), marks=pytest.mark.sqlite),
    ],
)
def test_what_is_not_there_is_said_with_where_to_look(
    keyturn: Line, command: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """Exit code 2 for everything that was asked wrongly."""
    said = keyturn(*command, code=2).stderr
    for word in words:
        assert word in said


def test_a_definition_is_checked_and_a_bad_one_is_not_kept(keyturn: Line) -> None:
    """Every finding has a line; nothing is stored."""
    bad = keyturn.folder / "bad.yaml"
    bad.write_text("schema: rest-credential/v1\nname: x\nbogus: 1\n")
    found = keyturn.json("definitions", "check", str(bad), code=2)
    assert not found["usable"]
    assert all(f["line"] for f in found["findings"])
    before = keyturn.counts()
    assert "bad.yaml" in keyturn("definitions", "add", str(bad), code=2).stderr
    assert keyturn.counts() == before


def test_an_error_of_ours_shows_its_place_and_not_its_text(
    keyturn: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect must not print what it was working on."""
    from keyturn.operations import systems

    def broken(_: object) -> None:
        raise ValueError("hunter2")

    monkeypatch.setattr(systems, "overview", broken)
    said = keyturn("list", code=1).stderr
    assert "internal error (ValueError" in said
    assert "hunter2" not in said

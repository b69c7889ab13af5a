"""What whoever runs the hub does by clicks: backups, the master key, and the datasets that others loaded."""

import sqlite3
from dataclasses import replace

import pytest
from tests.web import furnished
from tests.web.conftest import Browser, text

from keyturn.api.app import create_app
from keyturn.errors import Conflict
from keyturn.operations import backups, datasets, events, issued, vault
from keyturn.operations.rights import Role


@pytest.fixture
def it(browser, person):
    return browser(person())


@pytest.mark.sqlite
def test_a_backup_by_clicks(it, idle, connect):
    """Made while the hub serves, listed, on record, whole, and readable by nobody else; it is not to be had by browser."""
    connect()
    assert "No backup was made here yet" in it.get("/backups").text
    it.post("/backups", on="/backups")
    (made,) = backups.kept(idle.settings)
    page = text(it.get("/backups"))
    assert f"{made.path.name} is whole, with 1 connections" in page
    assert str(backups.folder(idle.settings)) in page
    assert (made.path.stat().st_mode & 0o777, made.path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert sqlite3.connect(made.path).execute("SELECT name FROM connection").fetchall() == [("orders",)]
    line = events.latest(idle, 1)[0].facts
    assert (line["decision"], line["by"], line["file"]) == ("backup_made", "admin", made.path.name)
    assert it.get(f"/backups/{made.path.name}").status_code == 404


@pytest.mark.sqlite
def test_backups_do_not_fill_the_disk(it, idle, monkeypatch):
    """None is deleted for another; neither too many nor what does not fit is begun."""
    for _ in range(backups.MOST_KEPT):
        backups.make(idle)
    assert len({each.path for each in backups.kept(idle.settings)}) == backups.MOST_KEPT
    it.post("/backups", on="/backups")
    assert "Move them to another machine" in text(it.get("/backups"))
    assert len(backups.kept(idle.settings)) == backups.MOST_KEPT
    monkeypatch.setattr(backups, "MOST_KEPT", 100)
    monkeypatch.setattr(backups.shutil, "disk_usage", lambda _: type("", (), {"free": 10})())
    with pytest.raises(Conflict, match="no room"):
        backups.make(idle)


def test_a_newer_master_key_by_clicks(it, idle, connect):
    """Only when they say that they can back it up; every value is under it then, and still opens."""
    connection = connect()
    before = vault.status(idle).keys
    it.post("/vault/rotate", on="/vault")
    assert vault.status(idle).keys == before
    assert "Say first that you can back the new key up" in text(it.get("/vault"))
    it.post("/vault/rotate", {"sure": "yes"}, on="/vault")
    (newest, rows), (older, none) = vault.status(idle).keys
    assert (older, none) == (before[0][0], 0)
    assert rows >= before[0][1]
    page = text(it.get("/vault"))
    assert f"rows are now under {newest}." in page
    assert "Back file:" in page
    tested = it.post(f"/connections/{connection.id}/test", on="/account")
    assert "orders works" in text(it.get(tested.headers["location"]))


def test_what_an_older_key_wraps_is_wrapped_anew(it, idle, connect):
    """A key that was added by hand, as with a source that cannot be written."""
    connect()
    vault.kek_source(idle.settings).add()
    idle.secrets.keyring = idle.secrets.reload()
    assert "still under an older key" in it.get("/vault").text
    it.post("/vault/rewrap", on="/vault")
    assert vault.status(idle).keys[1][1] == 0
    assert "still under an older key" not in it.get("/vault").text


def test_a_source_that_cannot_be_written_says_how(idle, person):
    """In its own words; nothing is changed."""
    given = {"HUB_KEK": bytes(range(32)).hex()}
    hub = replace(idle, settings=replace(idle.settings, kek="env:HUB_KEK", environment=given))
    it = Browser(create_app(hub)).sign_in(person().login)
    it.post("/vault/rotate", {"sure": "yes"}, on="/vault")
    assert "cannot write the environment variable HUB_KEK. Set HUB_KEK yourself: a new key" in text(
        it.get("/vault")
    )


@pytest.fixture
def customers(idle):
    furnished.load(idle, "customers", "id,name\n1,=cmd()\n2,<b>Contoso</b>\n")


def test_a_dataset_by_clicks(it, idle, customers):
    """Looked into, taken away in both forms, deleted once its name is typed."""
    assert 'href="/datasets/customers"' in it.get("/received").text
    page = it.get("/datasets/customers")
    assert "2 records" in text(page)
    assert "<b>Contoso</b>" not in page.text
    there = "/datasets/customers"
    csv = it.post(f"{there}/export", {"format": "csv"}, on=there)
    assert csv.headers["content-disposition"] == 'attachment; filename="customers.csv"'
    assert csv.text == "id,name\n1,'=cmd()\n2,<b>Contoso</b>\n"
    lines = it.post(f"{there}/export", {"format": "ndjson"}, on=there)
    assert lines.text.count("\n") == 2
    assert it.post(f"{there}/export", {"format": "exe"}, on=there).status_code == 422
    assert it.get("/datasets/nothing").status_code == 404
    assert it.get("/datasets/..%2f..%2fkeyturn").status_code in {404, 422}
    it.post(f"{there}/drop", {"name": "customer"}, on=there)
    assert "Nothing was deleted" in text(it.get(there))
    it.post(f"{there}/drop", {"name": "customers"}, on=there)
    assert datasets.every(idle) == []
    assert [line.facts["decision"] for line in events.latest(idle, 3)] == [
        "dataset_dropped",
        "dataset_exported",
        "dataset_exported",
    ]


def test_who_takes_a_dataset_away(idle, browser, person, customers):
    """Operators look into it and take it away, administrators delete it; viewers see that it is there."""
    viewer = browser(person(Role.VIEWER))
    assert "customers" in viewer.get("/received").text
    assert "/datasets/customers" not in viewer.get("/received").text
    assert viewer.get("/datasets/customers").status_code == 403
    operator = browser(person(Role.OPERATOR))
    assert "Delete this dataset" not in operator.get("/datasets/customers").text
    refused = operator.post("/datasets/customers/drop", {"name": "customers"}, on="/datasets/customers")
    assert refused.status_code == 403
    other = browser(person(Role.ADMIN, "other", "elsewhere"))
    assert other.get("/datasets/customers").status_code == 403
    assert issued.get(idle, "Export of customers")

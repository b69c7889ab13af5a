"""The intake's commands, as a person types them."""

import json

import pytest
from click.testing import CliRunner
from tests.issued.conftest import open_test_hub

from keyturn.cli.main import cli
from keyturn.cli.session import Session
from keyturn.operations import intake, issued, register


@pytest.fixture
def run(tmp_path):
    hub = open_test_hub(tmp_path)
    environment = {
        "KEYTURN_HOME": str(tmp_path / "home"),
        "KEYTURN_DATABASE": hub.settings.database,
        "KEYTURN_KEK": f"file:{tmp_path / 'kek'}",
        "KEYTURN_PATIENCE": "0.02",
    }

    def call(*argv, code=0, text=None):
        result = CliRunner().invoke(cli, list(argv), obj=Session(environment), input=text)
        assert result.exit_code == code, result.output + result.stderr
        return result

    call.hub = hub
    yield call
    hub.close()


def test_holders(run):
    """Added, shown, confirmed."""
    issued.issue(run.hub, "api-key", "partner", {})
    said = run("holders", "partner", "--add", "Acme", "--contact", "ops@acme.example", "--json").stdout
    assert json.loads(said)["holders"][0]["owed"] is True
    run("holders", "partner", "--confirm", "Acme")
    assert "in place" in run("holders", "partner").stdout


def test_handover(run):
    """The link alone is on stdout, and opens once."""
    issued.issue(run.hub, "api-key", "partner", {})
    url = run("handover", "partner", "--to", "Acme").stdout.strip()
    opened = register.open_link(run.hub, url.partition("#")[2])
    assert opened.name == "partner"
    assert opened.holder == "Acme"


def test_leaked(run, tmp_path):
    """Shown first, stopped only with a yes, and never printed."""
    value = issued.issue(run.hub, "api-key", "partner", {}).value.reveal()
    file = tmp_path / "log.txt"
    file.write_text(f"KEY={value}\n")
    dry = run("leaked", str(file), "--dry-run", "--json")
    assert json.loads(dry.stdout)["known"][0]["name"] == "partner"
    assert issued.book(run.hub).look(value).accepted
    run("leaked", str(file), code=2)
    assert issued.book(run.hub).look(value).accepted
    done = run("leaked", "-", "--yes", "--source", "CI", text=file.read_text())
    assert not issued.book(run.hub).look(value).accepted
    for result in (dry, done):
        assert value not in result.output + result.stderr
    assert "Nothing that this hub knows" in run("leaked", "-", text="hello\n").stdout


def test_datasets_and_events(run):
    """Empty at first; what was refused is shown and replayed."""
    assert "No datasets" in run("datasets").output + run("datasets").stderr
    issued.issue(run.hub, "api-key", "partner", {"scopes": "events:write"})
    found = issued.book(run.hub).list(issued.get(run.hub, "partner").connection.id)[0]
    from keyturn.issued.book import CheckResult, Code

    who = CheckResult(Code.REVOKED, found, "partner")
    intake.refuse(run.hub, who, "cred.revoked", b'{"id":"e1","type":"t"}', intake.Origin("192.0.2.1"))
    row = json.loads(run("events", "--refused", "--json").stdout)[0]
    assert (row["code"], row["can_be_replayed"]) == ("cred.revoked", "yes")
    assert json.loads(run("events", "--replay", row["refused"], "--json").stdout)["status"] == "accepted"
    assert "e1" in run("events").stdout
    assert "0 replayed" in run("events", "--replay-all", "partner").stdout


def test_help_needs_nothing():
    """Each command explains itself without a hub."""
    for name in ("holders", "handover", "leaked", "datasets", "events"):
        result = CliRunner().invoke(cli, [name, "--help"], obj=Session({}))
        assert result.exit_code == 0
        assert "Examples" in result.output or "keyturn " + name in result.output

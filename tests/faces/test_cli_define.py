"""definitions new: the questions by options, and asked of a person."""

import json

from keyturn.definitions.check import check

BASE = {
    "title": "Acme Notes",
    "address": "https://{subdomain}.acme.example/api",
    "test_path": "/me",
    "who": "$.user.id",
    "together": "yes",
    "made_by": "hub",
    "create_path": "/keys",
    "value": "$.secret",
    "handle": "$.id",
    "delete_path": "/keys/{id}",
}


def options(said):
    return [each for name, value in said.items() for each in (f"--{name.replace('_', '-')}", value)]


def test_the_command_takes_everything_by_options(bare, tmp_path):
    path = tmp_path / "notes.yaml"
    said = json.loads(bare("definitions", "new", str(path), *options(BASE), "--json").stdout)
    assert (said["file"], said["id"]) == (str(path), "acme-notes")
    bare("definitions", "check", str(path))
    again = bare("definitions", "new", str(path), *options(BASE), code=2)
    assert "there already" in again.stderr
    bare("definitions", "new", str(path), *options(BASE), "--force")


def test_without_a_terminal_nothing_is_asked(bare, tmp_path):
    refused = bare("definitions", "new", str(tmp_path / "x.yaml"), "--title", "Acme", code=2)
    assert "--address" in refused.stderr
    assert list(tmp_path.glob("*.yaml")) == []


def test_a_person_is_asked_and_a_wrong_answer_is_asked_again(bare, tmp_path, monkeypatch):
    """Enter takes the default; what an option answers is not asked."""
    monkeypatch.setattr("keyturn.cli.terminal.is_interactive", lambda: True)
    path = tmp_path / "notes.yaml"
    typed = [
        "",
        "",
        "acme.example",
        "https://api.acme.example",
        "",
        "header",
        "X-Key",
        "/me",
        "$.id",
        "",
        "",
        "",
        "person",
        "no",
    ]
    typed += ["Press reset", "Block the user", "", ""]
    said = bare("definitions", "new", str(path), "--title", "Acme Notes", typed="\n".join(typed) + "\n")
    assert "What is the system called" not in said.stderr
    assert "an absolute address is needed" in said.stderr
    assert "connect custom-rest token" in said.stdout
    assert check(path.read_text(), "x").usable

"""The canary finds what is planted, in every form, and nothing in a short life of a hub."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from keyturn.keymaking import rsa
from tests.canary.__main__ import PLANT, _finds_what_is_planted
from tests.canary.scan import Scanner, files_below
from tests.canary.scenario import play
from tests.compliance.lab import or_skip, the_lab

SHORT = ("postgresql/password by an administrator", "freshdesk/api_key", "shapes/grant", "shapes/many_ids")


def _base64(lead: bytes) -> bytes:
    return base64.b64encode(lead + PLANT.encode() + b"tail")


@pytest.mark.parametrize(
    "hidden",
    [
        PLANT.encode(),
        _base64(b""),
        _base64(b"1"),
        _base64(b"12"),
        base64.urlsafe_b64encode(b"user:" + PLANT.encode()),
        quote(PLANT, safe="").encode(),
        PLANT.encode().hex().encode(),
        PLANT.encode().hex().upper().encode(),
        json.dumps({"k": PLANT}).encode(),
        json.dumps(json.dumps({"k": PLANT})).encode(),
        PLANT[::-1].encode(),
        repr({"k": PLANT}).encode(),
    ],
)
def test_a_secret_is_found_in_every_form(hidden):
    """Plain, encoded at any alignment, escaped once or twice, turned round."""
    assert list(Scanner([("planted", PLANT)]).bytes("here", b"before " + hidden + b" after"))


@pytest.mark.parametrize(
    "hide",
    [
        lambda pem: pem,
        json.dumps,
        lambda pem: "".join(pem.splitlines()[1:-1]),
        lambda pem: "".join(pem.splitlines()[1:-1])[::-1],
        lambda pem: pem.splitlines()[7],
        lambda pem: "\r\n".join(pem.splitlines()),
        lambda pem: base64.b64encode(pem.encode()).decode(),
    ],
)
def test_a_private_key_is_found_in_pieces_too(hide):
    """One line of it, its lines joined, the same reversed, its DER bytes."""
    pem = rsa.generate().private_pem.reveal()
    scanner = Scanner([("key", pem)])
    assert list(scanner.bytes("here", hide(pem).encode()))
    assert list(scanner.bytes("here", base64.b64decode("".join(pem.splitlines()[1:-1]))))
    other = rsa.generate().private_pem.reveal()
    assert not list(scanner.bytes("here", other.encode()))


def test_the_self_test_finds_its_plant(tmp_path: Path) -> None:
    """Also where it lies across two pieces of a large file."""
    assert _finds_what_is_planted(tmp_path)


def test_nothing_lies_around_after_a_short_life(tmp_path: Path) -> None:
    """Refused, throttled, rotated, shown, exported, backed up: the home, the tables, the logs and the output are clean."""
    or_skip(lambda: the_lab().postgres)
    told = play(the_lab(), tmp_path, only=SHORT, brief=True)
    assert told.rotated == len(SHORT) + 2, told.trouble
    assert not told.trouble
    scanner = Scanner(told.secrets)
    assert scanner.secrets > 20
    files = files_below(tmp_path, leave_out=[tmp_path / "key", tmp_path / "second" / "key"])
    names = {path.name for path in files}
    assert {"keyturn.db", "debug.log", "cli.txt", "tables.bin", "postgresql.log", "audit.jsonl"} <= names
    assert "Freshdesk" in (tmp_path / "out" / "pages.txt").read_text()
    assert '"freshdesk api_key"' in (tmp_path / "out" / "answers.txt").read_text()
    assert "run.done" in (tmp_path / "out" / "webhooks.bin").read_text()
    assert "Subject: " in (tmp_path / "out" / "mails.bin").read_text()
    hits = [hit for path in files for hit in scanner.file(path)]
    assert not hits
    assert [hit.what for hit in scanner.file(tmp_path / "key" / "kek")], (
        "the master key is not even in its file"
    )

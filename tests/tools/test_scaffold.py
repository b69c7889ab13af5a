"""A throw-away connector: it passes everything as it is made, and touches nothing that was there."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("src", "lab", "tests", "demo", "tools", "changelog.d", "docs", "pyproject.toml")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "node_modules", ".*cache", "*.pyc")
OWN = (
    "src/keyturn/connectors/acme_notes/",
    "lab/src/keyturn_lab/vendors/acme_notes/",
    "tests/connectors/acme_notes/",
    "tests/compliance/rows/acme_notes.py",
    "demo/rows/acme_notes.py",
    "changelog.d/acme-notes.md",
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project without its caches, as somebody would clone it."""
    root = tmp_path_factory.mktemp("clone")
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=LEFT_OUT)
        else:
            shutil.copy(source, root / name)
    return root


def state(root):
    """Every file with its digest."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.endswith(".pyc")
    }


def scaffold(root, *args):
    return run(root, "tools/scaffold.py", *args)


def run(root, *args):
    """A program of the copy: what it imports is the copy's too."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(root / each) for each in ("src", "lab/src", ".")),
    }
    return subprocess.run(
        [sys.executable, *args],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture(scope="module")
def made(copy):
    """(before, after) of making one."""
    before = state(copy)
    done = scaffold(copy, "acme-notes", "--title", "Acme Notes")
    assert done.returncode == 0, done.stderr
    return before, state(copy)


def test_a_new_connector_touches_only_its_own_folders(made):
    before, after = made
    assert {name: after.get(name) for name in before} == before
    new = sorted(set(after) - set(before))
    assert len(new) == 11
    assert [name for name in new if not name.startswith(OWN)] == []
    assert all(any(name.startswith(own) for name in new) for own in OWN)


def test_it_passes_the_contract_suite_and_its_own_tests_as_it_is_made(copy, made):
    """Against its own stand-in; the row is found by its file alone. What it does not claim is skipped."""
    selected = ["tests/compliance/test_rows.py", "tests/connectors/acme_notes", "-k", "acme"]
    done = run(copy, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *selected)
    assert done.returncode == 0, done.stdout[-3000:]
    assert done.stdout.count(".") > 50
    probe = "import keyturn; print(keyturn.__file__)"
    assert str(copy) in run(copy, "-c", probe).stdout


def test_it_is_formatted_linted_and_typed(copy, made):
    """As all that is there."""
    new = [name for name in set(made[1]) - set(made[0]) if name.endswith(".py")]
    for check in (["format", "--check"], ["check"]):
        done = run(copy, "-m", "ruff", *check, "--no-cache", *new)
        assert done.returncode == 0, done.stdout + done.stderr
    done = run(copy, "-m", "mypy", "-p", "keyturn.connectors.acme_notes", "--cache-dir", os.devnull)
    assert "connectors/acme_notes" not in done.stdout, done.stdout


def test_the_definition_passes_the_check(copy, made):
    done = run(
        copy,
        "-c",
        "from keyturn.cli.main import main; main()",
        "definitions",
        "check",
        "src/keyturn/connectors/acme_notes/definition.yaml",
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_there_is_never_overwritten(copy, made):
    again = scaffold(copy, "acme-notes")
    assert again.returncode != 0
    assert "there already" in again.stderr
    assert state(copy) == made[1]


@pytest.mark.parametrize(
    "args", [("Acme",), ("../x",), ("a/b",), ("x", "--method", "../y"), ("x", "--title", 'a"b')]
)
def test_a_name_that_is_none_makes_nothing(tmp_path, args):
    spec = importlib.util.spec_from_file_location("scaffold", ROOT / "tools/scaffold.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    named = dict(zip(("--method", "--title"), ("method", "title"), strict=True))
    options = {named[args[1]]: args[2]} if len(args) > 1 else {}
    with pytest.raises(ValueError, match=r"name|title"):
        module.scaffold(tmp_path, args[0], **options)
    assert list(tmp_path.iterdir()) == []

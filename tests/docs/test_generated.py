"""Generated pages are those of this code."""

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, generator, text


def test_generated_files_are_current():
    """`make generate` would change nothing."""
    assert generator().stale(generator().pages()) == []


def test_the_same_input_gives_the_same_bytes():
    """No clock and no order of a set is in them."""
    assert generator().pages() == generator().pages()


def test_check_names_what_is_stale(monkeypatch, capsys):
    """`--check` exits 1 and says which file; it writes nothing."""
    made = generator()
    pages = {**made.pages(), "docs/errors.md": "another text\n"}
    monkeypatch.setattr(made, "pages", lambda: pages)
    monkeypatch.setattr("sys.argv", ["generate.py", "--check"])
    before = text("docs/errors.md")
    assert made.main() == 1
    assert "stale: docs/errors.md" in capsys.readouterr().out
    assert text("docs/errors.md") == before


def test_a_page_of_a_system_that_is_gone_is_stale(tmp_path, monkeypatch):
    """Pages of removed systems do not stay behind."""
    made = generator()
    gone = tmp_path / "docs" / "systems" / "gone.md"
    gone.parent.mkdir(parents=True)
    gone.write_text("# Gone\n")
    monkeypatch.setattr(made, "ROOT", tmp_path)
    assert made.stale({}) == ["docs/systems/gone.md"]


def test_markers_must_be_there():
    """A README without its markers is an error, not a README without a table."""
    with pytest.raises(SystemExit):
        generator().put("no markers", "rows", "table")


def test_the_page_of_commands_is_there():
    """docs/cli.md exists as soon as the commands do."""
    assert Path(ROOT / "docs/cli.md").is_file()

"""What the pages say is there: links, commands, files, and nothing of the machine they were written on."""

import re

import click
import pytest

from tests.docs.pages import ROOT, anchors, commands, links, name_of, text, written

PAGES = [name_of(path) for path in written()]
_TOP = r"src|tests|docs|tools|lab|demo|bench|changelog\.d"
_INNER = r"api|cli|connectors|consumers|contract|definitions|engine|executor|issued|model|operations|planner|storage|transport|vault"
_FILE = re.compile(rf"`((?:{_TOP}|{_INNER})/[\w./*<>-]+)(?:: (\w+))?`")


@pytest.mark.parametrize("name", PAGES)
def test_every_relative_link_resolves(name):
    """The file is there, and so is the heading."""
    for link in links(text(name)):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        if name_of(target.resolve()) == "docs/faults.md" and not target.exists():
            continue  # written by `make faults`
        assert target.exists(), f"{name}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{name}: {link}"


@pytest.mark.parametrize("name", PAGES)
def test_every_file_named_exists(name):
    """A path in code is a path of this project or below src/keyturn; a name after it is in that file."""
    for found, inside in _FILE.findall(text(name)):
        if found in {"docs/faults.md", "docs/cli.md"}:
            continue
        pattern = re.sub(r"<[^>]+>", "*", found).rstrip("/")
        there = [*ROOT.glob(pattern), *(ROOT / "src/keyturn").glob(pattern)]
        assert there, f"{name}: {found}"
        if inside:
            assert re.search(rf"\b{inside}\b", there[0].read_text(encoding="utf-8")), (
                f"{name}: {found}: {inside}"
            )


@pytest.mark.parametrize("name", PAGES)
def test_every_make_target_exists(name):
    """`make x` on a page is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    for command in commands(text(name)):
        if command[0] == "make":
            assert command[1] in targets, f"{name}: make {command[1]}"


@pytest.mark.parametrize("name", PAGES)
def test_every_command_exists(name):
    """`keyturn x` on a page is a command, listed without importing it."""
    from keyturn.cli.main import cli

    known = set(cli.list_commands(click.Context(cli)))
    for command in commands(text(name)):
        if command[0] == "keyturn" and command[1:] and not command[1].startswith("-"):
            assert command[1] in known or not re.fullmatch(r"[a-z-]+", command[1]), f"{name}: {command}"


@pytest.mark.parametrize("name", PAGES)
def test_every_option_exists(name):
    """Each option of a command on a page is one that the command takes."""
    from keyturn.cli.main import cli

    for typed in commands(text(name)):
        if (
            typed[0] != "keyturn"
            or "[OPTIONS]" in typed
            or not re.fullmatch(r"[a-z][a-z-]+", " ".join(typed[1:2]))
        ):
            continue
        options, inner = known_options(cli, typed[1:])
        own = typed[: typed.index("--")] if "--" in typed else typed
        for word in own:
            if word.startswith("--"):
                assert word.partition("=")[0] in options, f"{name}: {' '.join(typed)} ({inner})"


def known_options(group: click.Group, words: list[str]) -> tuple[set[str], str]:
    """The options of the command these words call."""
    context = click.Context(group)
    command = group.get_command(context, words[0])
    assert command is not None, words
    if isinstance(command, click.Group) and len(words) > 1:
        return known_options(command, words[1:])
    found = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    return {*found, "--help"}, command.name or ""


@pytest.mark.parametrize("name", [*PAGES, "Makefile", "pyproject.toml"])
def test_nothing_of_the_machine_is_left(name):
    """No path of the machine a page was written on, and no name of a tool outside the project."""
    page = text(name)
    for word in ("/work/", "/root/", "farm", "/tmp/", "semantics.md", "style.md", "design.md"):
        assert word not in page.lower(), f"{name}: {word}"


@pytest.mark.parametrize("name", PAGES)
def test_no_badges_and_no_promises_of_a_brochure(name):
    """Plain words."""
    page = text(name).lower()
    assert "![" not in page
    for word in (
        "seamless",
        "blazing",
        "enterprise-grade",
        "world-class",
        "powerful",
        "cutting-edge",
        "effortless",
    ):
        assert word not in page, f"{name}: {word}"


def test_what_a_make_target_runs_is_there():
    """A target that calls `python -m x` would otherwise be documented and fail."""
    called = set(re.findall(r"\$\(PY\) -m ([a-z.]+)", text("Makefile"))) - {"pytest"}
    missing = [each for each in sorted(called) if not runnable(each.replace(".", "/"))]
    assert missing == []
    assert called


def runnable(path: str) -> bool:
    """Whether `python -m` would find it."""
    return (ROOT / f"{path}.py").is_file() or (ROOT / path / "__main__.py").is_file()


def test_the_quick_start_is_two_commands():
    """`make demo` and `make test`, nothing else."""
    section = text("README.md").partition("## Quick start")[2].partition("\n## ")[0]
    block = section.split("```")[1]
    assert block.split("\n") == ["", "make demo", "make test", ""]


def test_each_promise_names_its_proof():
    """P1 to P8 each stand in the README with an invariant that the fault matrix knows."""
    page = text("README.md")
    rows = re.findall(r"^\| (P[1-8]) .*\| ([^|]+) \|$", page, re.MULTILINE)
    assert [row[0] for row in rows] == [f"P{n}" for n in range(1, 9)]
    known = set(re.findall(r'"(I\d+|END)":', text("tests/faults/invariants.py")))
    for promise, proof in rows:
        named = set(re.findall(r"\bI\d+\b|\bEND\b", proof))
        assert named, promise
        assert named <= known, promise


def test_decisions_say_what_was_rejected():
    """An ADR has status, context, decision, rejected alternatives and consequences, on about one page."""
    for path in sorted((ROOT / "docs/adr").glob("*.md")):
        page = path.read_text(encoding="utf-8")
        assert re.match(rf"# {int(path.name[:4])}\. ", page), path.name
        assert page.splitlines()[2].startswith("Status: "), path.name
        for part in ("## Context", "## Decision", "## Rejected", "## Consequences"):
            assert part in page, f"{path.name}: {part}"
        assert len(page.splitlines()) <= 80, path.name

"""Whatever a user can set, see or type is documented."""

import ast
import dataclasses
import inspect
import re

import click
import pytest

from keyturn import settings as settings_module
from keyturn.catalog import Catalog
from keyturn.contract import manifest
from keyturn.contract.capabilities import Capabilities
from keyturn.definitions import expressions, model, read_auth, read_rotation
from keyturn.definitions.cards import CARD_KEYS
from keyturn.definitions.check import check
from keyturn.model import card, plan, policy, run
from tests.docs.pages import ROOT, fences, generator, text

DEFINITIONS = ROOT / "src/keyturn/definitions"


def words(page: str) -> set[str]:
    """The words that stand as code on a page."""
    return set(re.findall(r"[\w.$@-]+", " ".join(re.findall(r"`([^`\n]+)`", page))))


def test_every_setting_is_documented():
    """A variable that is read is on the page of settings and in the README."""
    read = set(re.findall(r'"(KEYTURN_[A-Z_]+)"', inspect.getsource(settings_module)))
    assert read
    for page in ("docs/settings.md", "README.md"):
        assert read <= words(text(page)), page


def test_every_policy_key_is_documented():
    """A policy key has its words and its default."""
    assert {f.name for f in dataclasses.fields(policy.Policy)} <= words(text("docs/settings.md"))


def test_every_error_is_documented():
    """An error class is on the page of errors."""
    names = {each.__name__ for each in generator().error_classes()}
    assert len(names) > 10
    assert names <= words(text("docs/errors.md"))


def test_every_card_key_is_documented():
    """A key of the capability card has its question."""
    keys = {f.name for f in dataclasses.fields(card.Card)}
    assert keys == set(CARD_KEYS)
    assert keys <= words(text("docs/writing-a-connector.md"))


def test_every_card_key_is_said_on_the_pages():
    """A key that the pages of systems never speak of would be a fact nobody sees."""
    made = generator()
    full = card.Card(
        card.Strategy.TWO_SLOTS,
        card.Hands.AUTOMATIC,
        card.GapClass.Z0,
        card.Proof.D2,
        slots=2,
        slot_names=("x",),
    )
    changes = {
        "gap_class": card.GapClass.Z1,
        "proof": card.Proof.D1,
        "slots": None,
        "slot_names": ("y",),
        "revoke_scope": card.RevokeScope.GRANT,
        "label_field": "name",
        "prove_times": 2,
        "lockout": card.Lockout(3, 60.0),
        "cap": 5,
    }
    silent = {"strategy", "hands", "dies_on"}  # said above the table
    for each in dataclasses.fields(card.Card):
        if each.name in silent:
            continue
        old = getattr(full, each.name)
        new = changes.get(
            each.name, not old if isinstance(old, bool) else old + 7.5 if isinstance(old, float) else old
        )
        base = full
        if each.name == "cap":
            base = dataclasses.replace(full, slots=None, slot_names=())
        if each.name == "old_counts":
            base = dataclasses.replace(full, lockout=card.Lockout(3, 60.0))
        changed = dataclasses.replace(base, **{each.name: new})
        assert made.card_rows(changed) != made.card_rows(base), each.name


def test_every_key_of_a_definition_is_documented():
    """Each key that a reader accepts stands on one of the two pages about definitions."""
    found = words(text("docs/definitions.md")) | words(text("docs/writing-a-connector.md"))
    keys = accepted_keys()
    assert len(keys) > 100
    assert sorted(keys - found) == []


def accepted_keys() -> set[str]:
    """Every name passed to `Cursor.keys` in the readers, and those in the tuples passed with a star."""
    found: set[str] = set()
    for path in sorted(DEFINITIONS.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        tuples = {
            target.id: {e.value for e in node.value.elts if isinstance(e, ast.Constant)}
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "keys"
            ):
                found |= {
                    a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
                }
                stars = [a.value for a in node.args if isinstance(a, ast.Starred)]
                found |= {n for s in stars if isinstance(s, ast.Name) for n in tuples.get(s.id, ())}
                if any(not isinstance(s, ast.Name) for s in stars):  # *(_CODE if code else ())
                    found |= tuples.get("_CODE", set())
    return found


def test_every_choice_of_a_definition_is_documented():
    """Kinds, modes, classes, phases, scopes and filters."""
    found = words(text("docs/definitions.md"))
    every = {
        *read_auth.KINDS,
        *read_rotation.MODES,
        *model.CLASSES,
        *model.PHASES,
        *expressions.SCOPES,
        *(f.partition("(")[0] for f in expressions.FILTERS),
    }
    assert sorted(every - found) == []


@pytest.mark.parametrize("kind", [manifest.Field, manifest.Source, manifest.Permission, manifest.GuideStep])
def test_every_field_of_the_manifest_is_documented(kind):
    """What a system's file can say of fields, sources, permissions and steps; the name is the key itself."""
    names = {f.name for f in dataclasses.fields(kind)} - {"name"}
    assert sorted(names - words(text("docs/writing-a-connector.md"))) == []


def test_every_field_of_a_method_is_documented():
    """The manifest's names, by the keys they are written under."""
    written = {
        "create_steps": "create",
        "revoke_steps": "revoke",
        "recovery_steps": "recovery",
        "name": "methods",
    }
    found = words(text("docs/writing-a-connector.md"))
    for kind in (manifest.Method, manifest.System, manifest.Variant):
        names = {written.get(f.name, f.name) for f in dataclasses.fields(kind)}
        assert sorted(names - found) == [], kind.__name__


def test_every_capability_is_documented():
    """A Protocol that a connector may implement."""
    names = {f.name for f in dataclasses.fields(Capabilities)}
    assert sorted(names - words(text("docs/writing-a-connector.md"))) == []


def test_every_strategy_gap_and_grade_is_explained():
    """S0 to S8 each have their section; Z and D classes their line."""
    for each in card.Strategy:
        assert f"\n## {each.value}\n" in text("docs/strategies.md")
    for each in (*card.GapClass, *card.Proof):
        assert f"| {each.value} |" in text("docs/glossary.md")


def test_every_goal_is_in_the_glossary():
    """What a run can be for."""
    assert all(each.value in text("docs/glossary.md") for each in plan.Goal)


def test_every_kind_of_debt_has_advice():
    """An operator who sees a kind of debt finds what to do."""
    source = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "src/keyturn/executor").rglob("*.py"))
    kinds = set(re.findall(r'\.owe\(\s*"([a-z_]+)"', source))
    assert len(kinds) > 5
    assert sorted(kinds - words(text("docs/operations.md"))) == []


def test_the_states_that_need_somebody_have_advice():
    """BLOCKED and LOST have a section each."""
    for each in (run.RunState.BLOCKED, run.RunState.LOST):
        assert f"\n## {each.name}\n" in text("docs/operations.md")


def test_every_system_has_a_page_that_says_all_of_it():
    """Rows, fields, variables and what is unconfirmed."""
    for system in Catalog().systems():
        page = text(f"docs/systems/{system.name}.md")
        for method in system.methods:
            assert f"## {system.name}/{method.name}\n" in page
            assert {f.name for f in method.fields} | set(method.env) <= words(page)
            assert not any(s.unconfirmed for s in method.sources) or "### UNCONFIRMED" in page
            assert f"`{system.name}/{method.name}`" in text("README.md")


def test_rows_named_as_missing_are_missing():
    """The README's list of gaps and the catalogue never hold the same row."""
    limits = text("README.md").partition("## Limits")[2]
    missing = set(re.findall(r"`([a-z0-9-]+/[a-z0-9_]+)`", limits))
    there = {f"{system.name}/{method.name}" for system in Catalog().systems() for method in system.methods}
    assert sorted(missing & there) == []


def test_every_make_target_is_documented():
    """A target is named in the README, CONTRIBUTING or SECURITY."""
    targets = set(re.search(r"^\.PHONY: (.+)$", text("Makefile"), re.MULTILINE)[1].split())
    pages = " ".join(text(name) for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"))
    assert sorted(t for t in targets if f"make {t}" not in pages) == []


def test_definitions_on_the_page_are_accepted():
    """The example a user copies passes `keyturn definitions check` without a refusal."""
    blocks = [b for language, b in fences(text("docs/definitions.md")) if language == "yaml"]
    whole = [b for b in blocks if b.startswith("schema:")]
    assert len(whole) == 1
    assert check(whole[0], "docs/definitions.md").findings == ()


def test_the_second_example_fits_into_the_first():
    """The blocks with calls take the place of `rotation`, as the page says."""
    blocks = [b for language, b in fences(text("docs/definitions.md")) if language == "yaml"]
    first, second = blocks
    head, _, tail = first.partition("rotation:\n")
    whole = head.replace("  parts:\n", "  parts:\n    key_id: {secret: false}\n") + second
    whole += "manual:\n" + tail.partition("manual:\n")[2]
    report = check(whole, "docs/definitions.md")
    assert report.usable, report.findings


def test_every_command_and_option_is_documented():
    """The page of commands has each command, group member and option."""
    from keyturn.cli.main import cli

    page = text("docs/cli.md")

    def look(command: click.Command, path: str, parent: click.Context | None) -> None:
        context = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent)
        if parent is not None:
            assert re.search(rf"^#+ {re.escape(path)}$", page, re.MULTILINE), path
            for each in command.params:
                if isinstance(each, click.Option) and not each.hidden:
                    assert each.opts[0] in page, f"{path} {each.opts[0]}"
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                look(found, f"{path} {name}", context)

    look(cli, "keyturn", None)

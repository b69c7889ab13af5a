"""Reading: every mistake with its line, its field and the fix."""

import pytest

from keyturn.definitions.check import accept, check
from keyturn.definitions.derive import card, fields, ref_of, row_of
from keyturn.definitions.reader import read_definition
from keyturn.errors import InvalidInput
from keyturn.model.card import GapClass, Hands, Lockout, Proof, Strategy

SMALL = """\
schema: rest-credential/v1
id: small
title: Small
hosts: [api.acme.example]
base_url: https://api.acme.example
auth: {kind: bearer, token: "${secret.token}"}
test:
  request: {method: GET, path: /me}
  identity: {principal: "$.id"}
manual: {effect: overlap, paste_fields: [token], create_steps: [Make a token], revoke_steps: [Delete it]}
"""


def _first(text):
    with pytest.raises(InvalidInput) as caught:
        read_definition(text, "my.yaml")
    return caught.value


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "words"),
    [
        ("title: Small", "titel: Small", 3, "titel", "not a known key"),
        (
            'auth: {kind: bearer, token: "${secret.token}"}',
            "auth: {kind: none}\ncredential: {parts: {token: {secret: true, title: Token}}}",
            7,
            "credential",
            "sends no credential",
        ),
        ("title: Small\n", "", 1, "title", "is missing"),
        ("kind: bearer", "kind: baerer", 6, "auth.kind", "not one of the choices"),
        ("kind: bearer, token", "kind: bearer, tokken", 6, "auth.tokken", "not a known key"),
        ("hosts: [api.acme.example]", "hosts: api.acme.example", 4, "hosts", "must be a list"),
        ("path: /me", "path: /me?x=1", 8, "test.request", "holds a query"),
        ("path: /me", "path: /me, url: https://a.example", 8, "test.request", "exactly one"),
        ("method: GET", "method: get", 8, "test.request.method", "not one of the choices"),
        ("${secret.token}", "${secret.token|rot13}", 6, "auth.token", "filter"),
        ('"$.id"', '"$..id"', 9, "test.identity.principal", "not understood"),
        (
            "effect: overlap",
            "effect: overlap, requires_pause: maybe",
            10,
            "manual.requires_pause",
            "true or false",
        ),
        (
            "create_steps: [Make a token]",
            "create_steps: [{txt: x}]",
            10,
            "manual.create_steps[0].txt",
            "not a known key",
        ),
        ("[Make a token]", '["${secret.token}"]', 10, "manual.create_steps[0]", "for people"),
        ("id: small", "id: Small One", 2, "id", "not an id"),
        ("schema: rest-credential/v1", "schema: rest-credential/v2", 1, "schema", "not one of the choices"),
        ("title: Small", "title: {a: b}", 3, "title", "must be text"),
        ("title: Small", "title: Small\ntitle: Twice", 4, "", "given twice"),
        ("title: Small", "title: !!python/object:os.system x", 3, "", "tags"),
        ("title: Small", "title: [", 5, "", "not valid YAML"),
        (
            "title: Small",
            "title: Small\ninputs: {token: {title: T}}\ncredential: {parts: {token: {}}}",
            5,
            "credential.parts.token",
            "used twice",
        ),
        (
            "title: Small",
            'title: Small\ncredential: {parts: {token: {pattern: "(a"}}}',
            4,
            "credential.parts.token",
            "regular expression",
        ),
        ("title: Small", "title: Small\nhttp: {timeout_s: fast}", 4, "http.timeout_s", "must be a number"),
    ],
)
def test_a_mistake_is_named_with_file_line_field_and_fix(old, new, line, field, words):
    """The first in the message, all in the facts."""
    assert old in SMALL
    error = _first(SMALL.replace(old, new, 1))
    assert error.message.startswith(f"my.yaml:{line}:")
    assert error.facts["field"] == field
    assert words in error.message
    assert error.hint


def test_a_misspelled_key_gets_a_suggestion():
    """The nearest known word."""
    assert "'title'" in _first(SMALL.replace("title: Small", "titel: Small")).hint


def test_all_mistakes_are_found_in_one_reading():
    """Nobody fixes one line at a time."""
    error = _first(SMALL.replace("title", "titel").replace("kind: bearer", "kind: nope"))
    assert len(error.facts["findings"]) >= 3


def test_alias_bombs_and_large_documents_cost_nothing():
    """Bounded before anything is built."""
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
    )
    assert "nested too deeply" in _first(bomb).message
    assert "larger than" in _first("# " + "x" * 300_000).message
    assert "nested" in _first("a: &a [*a]").message
    assert "not valid" in _first("[" * 3000).message or "nested" in _first("[" * 3000).message


def test_words_of_yaml_1_1_stay_text():
    """`off`, `no` and dates are what was written."""
    found = read_definition(SMALL.replace("title: Small", "title: 2026-11-23\ndocs: no"), "x")
    assert (found.title, found.docs) == ("2026-11-23", "no")


def test_the_hash_covers_content_and_not_layout():
    """Comments and order of keys do not count; every value does."""
    one = read_definition(SMALL, "x")
    same = read_definition(
        "# note\n" + SMALL.replace("id: small\ntitle: Small", "title: Small\nid: small"), "y"
    )
    other = read_definition(SMALL.replace("/me", "/you"), "x")
    assert one.hash == same.hash != other.hash


def test_json_with_tabs_is_read(sample):
    """JSON is YAML but for its tabs."""
    found = accept(sample("legacy-password.json"), "legacy.json")
    assert found.auth.kind == "basic"
    derived = card(found)
    assert (derived.strategy, derived.hands, derived.gap_class) == (
        Strategy.SET_ONE,
        Hands.AUTOMATIC,
        GapClass.Z1,
    )
    assert derived.proof is Proof.DA  # a wrong old password would count against the live account
    assert derived.lockout == Lockout(5, 300)
    assert derived.set_is_absolute
    assert derived.admin_path
    assert [(f.name, f.group) for f in fields(found) if f.group] == [
        ("admin_user", "admin"),
        ("admin_password", "admin"),
    ]


def test_the_complete_example_makes_fields_and_a_card(sample):
    """Strategy, proof and settle follow from the blocks."""
    found = accept(sample("acme.yaml"), "acme.yaml")
    derived = card(found)
    assert (derived.strategy, derived.gap_class, derived.proof) == (Strategy.MANY_IDS, GapClass.Z0, Proof.D2)
    assert (derived.slots, derived.cap, derived.inventory, derived.last_used) == (None, 2, True, True)
    assert (derived.label_field, derived.settle_create_s, derived.prove_times) == ("name", 4, 2)
    named = {f.name: f for f in fields(found)}
    assert named["api_key"].secret
    assert named["key_id"].part
    assert not named["key_id"].secret
    assert named["base_url"].default is None  # a template default is filled at each call, not stored
    assert not named["base_url"].required
    assert ref_of(found, {"key_id": "k1"}).id == "k1"
    assert row_of(found) == "token"


def test_manual_effects_decide_the_strategy():
    """Beside the old: S6. In its place: S5, with a pause."""
    assert card(read_definition(SMALL, "x")).strategy is Strategy.SUPPLIED
    killing = SMALL.replace("effect: overlap", "effect: old_dies_immediately, requires_pause: true")
    derived = card(read_definition(killing, "x"))
    assert (derived.strategy, derived.gap_class, derived.new_kills_old) == (
        Strategy.REGENERATE,
        GapClass.Z2,
        True,
    )


def test_check_reports_without_raising():
    """For the command line: findings in the order of lines."""
    report = check(SMALL.replace("titl", "tilt"), "x")
    assert not report.usable
    assert report.definition is None
    assert [f.line for f in report.findings] == sorted(f.line for f in report.findings)
    assert check(SMALL, "x").usable

"""The closed expression set."""

import pytest

from keyturn.definitions.expressions import ExpressionRefused, ValueMissing, compile_template, fill, shown
from keyturn.model.secret import Material

SCOPES = {
    "input": {"name": "A b/ü", "empty": ""},
    "secret": {"key": "k"},
    "job": {"marker": "m1"},
    "step": {"a.b": "x"},
}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain $ { } text", "plain $ { } text"),
        ("${input.name}", "A b/ü"),
        ("x${secret.key}y${job.marker}", "xkym1"),
        ("${input.name|urlencode}", "A%20b%2F%C3%BC"),
        ("${input.name|lower}", "a b/ü"),
        ("${input.name|upper}", "A B/Ü"),
        ("${secret.key|base64}", "aw=="),
        ("${secret.key|base64url}", "aw"),
        ("${secret.key|hex}", "6b"),
        ("${input.name|json}", '"A b/ü"'),
        ("${secret.key|sha256hex}", "8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a"),
        ("${input.absent|default('d')}", "d"),
        ("${input.empty|default('d')|upper}", "D"),
        ("${input.absent|default('a}b|c')}", "a}b|c"),
        ("${step.a.b}", "x"),
        ("${ input.name }", "A b/ü"),
    ],
)
def test_values_are_filled_in(text, filled):
    """Through their filters, in order."""
    assert fill(text, SCOPES) == filled


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${input.${secret.key}}", "nested"),
        ("${input.name", "not closed"),
        ("${env.HOME}", "scope 'env'"),
        ("${input}", "scope.name"),
        ("${input.name|eval}", "filter 'eval'"),
        ("${input.name|default(1)}", "filter"),
        ("${input.a+1}", "scope.name"),
        ("${input.__class__.__mro__[0]}", "scope.name"),
        ("${input['a']}", "scope.name"),
        ("${}", "scope.name"),
        ("x" * 9000, "longer"),
    ],
)
def test_everything_else_is_refused(text, words):
    """With words about what to write instead."""
    with pytest.raises(ExpressionRefused, match=words) as caught:
        compile_template(text)
    assert caught.value.fix


def test_values_are_never_evaluated_again():
    """What a setting or an answer says is data."""
    assert (
        fill("${input.name}", {"input": {"name": "${secret.key}"}, "secret": {"key": "k"}}) == "${secret.key}"
    )


def test_a_missing_value_is_named():
    """Its name, so that a person can fill it in; a guide text may show a stand-in instead."""
    with pytest.raises(ValueMissing) as caught:
        fill("${pending.key}", SCOPES, missing=None)
    assert caught.value.name == "pending.key"
    assert fill("a ${pending.key} b", SCOPES) == "a … b"


def test_texts_for_people_hold_public_parts_only():
    """`shown` is what guides are filled with."""
    assert shown(Material({"id": "1", "key": "s"}, frozenset({"id"}))) == {"id": "1"}
    assert shown(None) == {}

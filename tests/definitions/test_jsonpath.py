"""The JSONPath subset."""

import pytest

from keyturn.definitions.jsonpath import PathRefused, compile_path

BODY = {
    "a": {"b-c": [1, 2, 3], "d e": None},
    "keys": [{"id": "x", "m": {"n": 1}}, {"id": "y", "m": {"n": 2}}],
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", [BODY]),
        ("$.a.b-c[0]", [1]),
        ("$.a.b-c[-1]", [3]),
        ("$.a.b-c[9]", []),
        ("$.a['d e']", [None]),
        ("$.keys[*].id", ["x", "y"]),
        ("$.keys.*.id", ["x", "y"]),
        ("$.keys[?@.id=='y'].m.n", [2]),
        ("$.keys[?(@.m.n == 1)].id", ["x"]),
        ("$.keys[?@.id=='z']", []),
        ("$.absent.deep[0]", []),
    ],
)
def test_paths_select(path, found):
    """In document order; what is absent is an empty list."""
    assert compile_path(path).select(BODY) == found


@pytest.mark.parametrize(
    "path", ["a.b", "$..a", "$.a[1:2]", "$.a[?@.x>1]", "$.a[?@.x=='1'][?@.y=='2']", "$[", "$.a()"]
)
def test_the_rest_of_the_language_is_refused(path):
    """Slices, recursion, functions and comparisons."""
    with pytest.raises(PathRefused):
        compile_path(path)

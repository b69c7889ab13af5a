"""Secrets and material: never shown by accident, never pickled, whole again from the vault's bytes."""

import copy
import json
import logging
import pickle
import traceback

import pytest

from keyturn.model.secret import MASK, Material, Secret

VALUE = "ktlab-s3cret-value"
GRANT = Material({"user": "ann", "password": VALUE, "empty": ""}, frozenset({"user"}))


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        "{}".format,
        "{!r:>40}".format,
        "%s".__mod__,
        "%r".__mod__,
        lambda each: f"{each}",
        lambda each: f"{each!r}",
        lambda each: f"{[each]} { {'k': each} }",
        lambda each: json.dumps({"k": each}, default=str),
        lambda each: logging.LogRecord("n", 10, "p", 1, "saw %s", (each,), None).getMessage(),
    ],
)
@pytest.mark.parametrize("hidden", [Secret(VALUE), Material({"password": VALUE})], ids=["secret", "material"])
def test_whatever_is_done_to_show_it_shows_the_mask(hidden, show):
    """The value has one way out, which is easy to find by its name."""
    try:
        shown = show(hidden)
    except TypeError:
        return  # a Material is no argument for one %s: nothing is shown at all
    assert VALUE not in shown


def test_a_secret_in_an_error_stays_masked():
    """An exception that carries one prints the mask, traceback included."""
    try:
        raise ValueError(Secret(VALUE), GRANT)
    except ValueError as error:
        said = "".join(traceback.format_exception(error)) + repr(error.args)
    assert VALUE not in said
    assert MASK in said


@pytest.mark.parametrize("hidden", [Secret(VALUE), GRANT], ids=["secret", "material"])
@pytest.mark.parametrize("keep", [pickle.dumps, copy.deepcopy, copy.copy])
def test_it_refuses_to_be_pickled_or_copied(hidden, keep):
    """Only the vault stores it."""
    with pytest.raises(TypeError, match="vault"):
        keep(hidden)


def test_public_parts_are_shown_and_the_rest_is_not():
    """A user name helps; which parts there are is no secret."""
    assert repr(GRANT) == f"Material({ {'user': 'ann', 'password': MASK, 'empty': MASK} })"
    assert GRANT.secrets() == (VALUE,)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"a": ""},
        {"key": "line\nbreak\ttab\x00nul"},
        {"k": "日本語🔑\u202e"},
        {"pem": "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"},
        {"q": "'\"\\`${x}{{y}}%s"},
    ],
)
@pytest.mark.parametrize("public", [frozenset(), frozenset({"a", "key"})])
def test_every_material_reads_back_whole(parts, public):
    """What the vault keeps is all of it, in bytes that are the same each time (I11)."""
    material = Material(parts, public)
    again = Material.from_bytes(material.to_bytes())
    assert (dict(again), again.public) == (parts, public)
    assert again.to_bytes() == material.to_bytes()


def test_the_longest_secret_comes_first():
    """Masking in this order leaves no tail of a longer value behind."""
    assert Material({"a": "short", "b": "the longer one"}).secrets() == ("the longer one", "short")


def test_replacing_changes_a_copy():
    """The original stays as it is, and so does what is public."""
    other = GRANT.replacing(password="another")
    assert (other["password"], GRANT["password"], other.public) == ("another", VALUE, GRANT.public)


def test_equal_values_are_equal_secrets():
    """Comparing reveals nothing but the answer."""
    assert Secret(VALUE) == Secret(VALUE) != Secret("other")
    assert Secret(VALUE) != VALUE
    assert len({Secret(VALUE), Secret(VALUE)}) == 1

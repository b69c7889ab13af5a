"""Passwords and tokens: their classes, their evenness, their checksum."""

from collections import Counter
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.errors import InvalidInput
from keyturn.keymaking import passwords
from keyturn.keymaking.passwords import (
    BASE62,
    CLASSES,
    KINDS,
    checksum,
    client_id,
    parse,
    password,
    pattern,
    token,
)

VECTORS = (  # hub-issued.md, section 3.2
    (
        "hubk_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg",
        "hubk_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1UTyZL",
    ),
    (
        "hubs_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg",
        "hubs_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg287xaI",
    ),
    (
        "hubk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA0000169",
        "hubk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000016900xVfD",
    ),
)


def test_password_has_every_class():
    """Every password has all classes, starts with a letter, and needs no quoting anywhere."""
    for _ in range(300):
        made = password(12)
        assert len(made) == 12
        assert all(set(each) & set(made) for each in CLASSES)
        assert made[0].isalpha()
        assert not set(made) & set("'\"\\`$ ;&|<>@:/?#%")


@settings(max_examples=30, deadline=None)
@given(st.integers(8, 64), st.lists(st.sampled_from(CLASSES), max_size=4))
def test_password_options(length, classes):
    """Any length and choice of classes is met."""
    made = password(length, classes=classes)
    assert len(made) == length
    assert all(set(each) & set(made) for each in classes)


def test_password_without_letters():
    """An alphabet without letters works, without the rule about the first character."""
    assert set(password(20, "0123456789", ["0123456789"])) <= set("0123456789")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"length": 7}, "length"),
        ({"alphabet": "a"}, "alphabet"),
        ({"alphabet": "aab", "classes": []}, "alphabet"),
        ({"alphabet": "abc"}, "classes"),
    ],
)
def test_impossible_password(options, field):
    """What cannot be made is refused instead of being searched for ever."""
    with pytest.raises(InvalidInput) as caught:
        password(**options)
    assert caught.value.facts["field"] == field


def test_drawing_is_even():
    """Each byte value counts for exactly one character or for none: no remainder favours the first letters."""
    with patch.object(passwords.os, "urandom", lambda count: bytes(range(256)) * (count // 256)):
        counts = Counter(passwords._draw(BASE62, 496))
    assert set(counts.values()) == {8}


@pytest.mark.parametrize(("body", "value"), VECTORS)
def test_token_vectors(body, value):
    """The published test vectors hold, padding included."""
    assert body + checksum(body) == value
    shape = parse(value, "hub")
    assert (shape.prefix, shape.kind, shape.hint) == ("hub", value[3], value[-4:])
    assert pattern("hub").fullmatch(value)


@pytest.mark.parametrize("kind", KINDS)
def test_token_round_trip(kind):
    """Every kind has its own letter, 54 characters and a checksum that reads back."""
    made = token(kind)
    assert len(made) == 54
    assert parse(made).kind == kind
    assert made != token(kind)


def test_any_changed_character_is_noticed():
    """A wrong character anywhere, kind included, is refused without quoting the token."""
    made = token("k")
    for at in range(len(made)):
        changed = made[:at] + ("1" if made[at] != "1" else "2") + made[at + 1 :]
        with pytest.raises(InvalidInput) as caught:
            parse(changed)
        assert changed[8:40] not in caught.value.message + caught.value.hint
    with pytest.raises(InvalidInput):
        parse("ktns" + made[4:])
    for text in ("", made[:-1], made + "0", made + "\n", token("k", "abc")):
        with pytest.raises(InvalidInput):
            parse(text)


def test_tokens_are_found_in_text():
    """The pattern finds a token inside a log line."""
    made = token("t")
    assert pattern().findall(f"Authorization: Bearer {made}, next") == [made]


def test_unknown_kind():
    """A kind or prefix outside the format is our bug."""
    for kind, prefix in (("x", "hub"), ("k", "HUB"), ("k", "hubs")):
        with pytest.raises(ValueError, match="token kind"):
            token(kind, prefix)


def test_client_id():
    """A client id is public, 22 random characters behind its prefix."""
    assert len(client_id("hub")) == 27
    assert client_id("hub").startswith("hubc_")

"""JSON in columns."""

from __future__ import annotations

import json

import pytest

from keyturn.model.run import Line, LineKind
from keyturn.storage import journal
from keyturn.storage.database import Store
from keyturn.storage.rows import dump, load
from tests.storage.test_rows import connected

VALUES = (
    "",
    "plain",
    'Bücher "quoted" \\ \n\t\x00\x1f\x7f   🔑',
    0,
    -(10**30),
    1764518000.123,
    1e-05,
    1e16,
    True,
    None,
    LineKind.INTENT,
    [],
    {},
    [1, [2, {"b": 1, "a": [None, ()]}]],
    {"ü": 1, "a": {"z": 1.5, "y": "x"}},
    {7: "seven"},
)


@pytest.mark.parametrize("value", VALUES)
def test_the_text_is_that_of_the_standard_library(value: object) -> None:
    """Chains that were written years ago hash the same."""
    assert dump(value) == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert load(dump(value)) == json.loads(json.dumps(value))


def test_what_has_no_form_is_refused() -> None:
    """Silence would lose it."""
    with pytest.raises(TypeError, match="set has no JSON form"):
        dump({"a": {1, 2}})


def test_half_a_character_cannot_stop_a_commit(store: Store) -> None:
    """A vendor's answer may hold what UTF-8 cannot; the line is written, and the chain holds."""
    connected(store, "one")
    entry = journal.Entry(1.0, "run_1", "prove", LineKind.OBSERVED, 1, {"why": "said \ud800 half"})
    store.write(lambda tx: journal.append(tx, "con_one", [entry]))
    lines: list[Line] = store.read(lambda tx: journal.of_connection(tx, "con_one"))
    assert lines[0].facts == {"why": "said ? half"}
    assert journal.verify(lines) is None

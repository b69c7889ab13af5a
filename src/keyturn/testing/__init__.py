"""The contract suite: one set of facts that every connector must keep, importable by authors of external connectors.

A row is described once, as a `RowUnderTest`; which facts apply follows from the capabilities it claims, never from the
person who tests it. With pytest:

    @pytest.mark.parametrize("fact", applicable(make), ids=str)
    def test_my_row(fact): fact.check(make())

where `make` returns a fresh row: facts change and end credentials. Without pytest: `check_row(make)`.
Needs no third-party library; nothing in the product imports it.
"""

from keyturn.testing.liar import Liar, Relay
from keyturn.testing.row import Aim, Reads, RowUnderTest
from keyturn.testing.suite import FACTS, Fact, applicable, check_row
from keyturn.testing.traces import forms, traces
from keyturn.testing.witness import Witness

__all__ = [
    "FACTS",
    "Aim",
    "Fact",
    "Liar",
    "Reads",
    "Relay",
    "RowUnderTest",
    "Witness",
    "applicable",
    "check_row",
    "forms",
    "traces",
]

"""Every row keeps every fact of the contract that its manifest claims, against a real part or the lab's stand-in."""

from dataclasses import replace
from functools import cache

import pytest

from keyturn.testing import FACTS, Fact, RowUnderTest, Witness
from tests.compliance.case import under_test
from tests.compliance.lab import or_skip, the_lab
from tests.compliance.rows import ROWS
from tests.skips import NotOffered

# The fault matrix's vendor is a test's own: no page describes it, and the lab's own client speaks to it.
NOT_OF_SHAPES = ("page: fields", "page: sources", "lie: ")


def _cases():
    for name in ROWS:
        group = pytest.mark.xdist_group(f"rows-{name.split('/', maxsplit=1)[0]}")
        for fact in FACTS:
            if name.startswith("shapes/") and fact.name.startswith(NOT_OF_SHAPES):
                continue
            yield pytest.param(name, fact, id=f"{name}-{fact}", marks=group)


@cache
def shared(name: str) -> RowUnderTest:
    """One row for all facts that change nothing; they come first."""
    return under_test(name, or_skip(lambda: ROWS[name](the_lab())))


@pytest.mark.parametrize(("name", "fact"), list(_cases()))
def test_row(name: str, fact: Fact) -> None:
    """Left out is only what the manifest says the vendor does not offer."""
    why_not = fact.why_not(shared(name))
    if why_not:
        raise NotOffered(why_not)
    row = (
        under_test(name, ROWS[name](the_lab())) if fact.changes else replace(shared(name), witness=Witness())
    )
    fact.check(row)

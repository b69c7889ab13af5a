"""Nobody can add an outbound row that jobs cannot read through, or read through untested."""

from __future__ import annotations

import pytest

from keyturn.catalog import Catalog
from tests.compliance.rows import ROWS

CATALOG = Catalog()
OUTBOUND = [
    (system.name, method)
    for system in CATALOG.systems()
    for method in system.methods
    if method.direction == "outbound"
]
IDS = [f"{system}/{method.name}" for system, method in OUTBOUND]


@pytest.mark.parametrize(("system", "method"), OUTBOUND, ids=IDS)
def test_every_outbound_row_says_what_a_job_reads(system, method):
    """On its page: what to name, what is counted, and an example that can be typed. A user's own row says it itself."""
    if method.rest == "user":
        return
    assert method.reads, f"{system}/{method.name} says nothing of what a job can read"
    assert method.calls.get("read"), f"{system}/{method.name}: plans cannot show how a job reads"
    for each in method.reads:
        assert each.counts
        assert each.example or each.name == each.name.lower(), f"{each.name} needs an example"


@pytest.mark.parametrize(("system", "method"), OUTBOUND, ids=IDS)
def test_every_outbound_row_reads_in_every_variant(system, method):
    """Whatever variant the settings choose, the row has a reader."""
    if method.rest == "user":
        return
    for settings in ({}, *({v.field: v.equals, "admin_user": "somebody"} for v in method.variants)):
        assert CATALOG.row(system, method.name, settings).can.reader is not None, settings


@pytest.mark.parametrize(("system", "method"), OUTBOUND, ids=IDS)
def test_every_outbound_row_is_read_by_the_contract_suite(system, method):
    """Against its stand-in or a real server. The suite itself fails a row that claims a reader and names nothing to read."""
    assert any(name.split(" ")[0] == f"{system}/{method.name}" for name in ROWS)

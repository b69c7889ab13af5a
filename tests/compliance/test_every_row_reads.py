"""Nobody can add an outbound row that jobs cannot read through, or read through untested."""

from __future__ import annotations

import pytest

from keyturn.catalog import Catalog
from keyturn.contract.values import Access
from keyturn.definitions.check import accept
from keyturn.definitions.interpreter import capabilities
from keyturn.model.secret import Material
from tests.compliance.case import NETWORK
from tests.compliance.lab import or_skip, the_lab
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
    if method.name == "none":
        return  # there is no credential to test: below
    assert any(name.split(" ")[0] == f"{system}/{method.name}" for name in ROWS)


# -- the row without a credential -------------------------------------------------------------------------------------

NONE = """
schema: rest-credential/v1
id: open-data
title: Open data
docs: https://openid.net/specs/openid-connect-discovery-1_0.html
hosts: [127.0.0.1]
inputs:
  address: {{title: Address, pattern: "^http://127.0.0.1:[0-9]{{1,5}}$", default: "{url}"}}
base_url: "${{input.address}}"
auth: {{kind: none}}
test:
  request: {{method: GET, path: /.well-known/openid-configuration}}
  identity: {{none: It is open to everybody}}
  negative_control: {{mode: unsupported, reason: there is no credential, approver: nobody}}
sample:
  scopes:
    request: {{method: GET, path: /.well-known/openid-configuration}}
    items: "$.scopes_supported"
    limit_param: none
"""


def _reader(text):
    return capabilities(accept(text, "own.yaml", NETWORK)).reader


def _access(material):
    return Access({}, material, None, 5.0, NETWORK)


def test_custom_rest_without_a_credential_reads():
    op = or_skip(lambda: the_lab().oidc)
    read = _reader(NONE.format(url=op.url)).read_sample
    nothing = Material({})
    assert read(_access(nothing), nothing, "scopes", 10).count > 1
    assert read(_access(nothing), nothing, "", 1).count == 1

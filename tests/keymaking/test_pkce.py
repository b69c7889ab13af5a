"""PKCE: the RFC's example, and freshness."""

import re

from keyturn.keymaking import pkce


def test_rfc_7636():
    """The example of RFC 7636, appendix B."""
    assert (
        pkce.challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
        == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )


def test_fresh_and_well_formed():
    """Verifiers and states are 43 unreserved characters and never repeat."""
    made = [make() for make in (pkce.verifier, pkce.state) for _ in range(20)]
    assert len(set(made)) == 40
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", each) for each in made)

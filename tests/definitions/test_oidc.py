"""The sample for an OpenID provider, against a certified one."""

import shutil

import pytest

from keyturn.contract.values import Access, NetworkPolicy
from keyturn.definitions.check import accept
from keyturn.definitions.interpreter import capabilities
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Verdict

pytestmark = [pytest.mark.node, pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")]


def test_a_machine_client_lives_and_dies_by_declared_calls(sample):
    """Register beside, prove, delete with its own registration token, see it refused."""
    oidc = pytest.importorskip("keyturn_lab.parts.oidc")
    can = capabilities(accept(sample("oidc-client.yaml"), "oidc-client.yaml"))
    with oidc.OidcServer() as op:
        access = Access(
            {"issuer": f"http://127.0.0.1:{op.port}"},
            admin=Material({"initial_access_token": op.initial_access_token}),
            network=NetworkPolicy(frozenset({f"127.0.0.1:{op.port}"})),
            marker="kt-oidc-1",
        )
        candidate = can.issuer.read(access, can.issuer.issue(access, Ref()))
        assert (
            candidate.ref == can.locator.locate(access, candidate.material)
            or candidate.ref.label == "kt-oidc-1"
        )
        assert candidate.expires_at is None
        probe = can.verifier.verify(access, candidate.material)
        assert probe.identity["tenant"] == "lab"
        assert probe.rights == {"records.read", "records.write"}
        bogus = can.verifier.verify(access, can.verifier.bogus(candidate.material))
        assert (bogus.verdict, bogus.code) == (Verdict.REJECTED, "client_invalid")
        can.revoker.revoke(access, candidate.ref, candidate.material)
        can.revoker.revoke(access, candidate.ref, candidate.material)
        dead = can.verifier.verify(access, candidate.material)
        assert (dead.verdict, dead.code) == (Verdict.REJECTED, "client_invalid")

"""The vendor of every shape, with something to read: jobs on it count what its credential is let in to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from tests.faults import shapes_connector as shapes
from tests.faults import world

from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Sample
from keyturn.errors import CredentialRejected, InvalidInput
from keyturn.model.verdict import Verdict


class Reader:
    """Lets in whoever the vendor lets in; there is everything but a table called `missing`."""

    def read_sample(self, access: Any, material: Any, what: str, limit: int) -> Sample:
        """As many as were asked for."""
        if shapes.Login().verify(access, material).verdict is not Verdict.ACCEPTED:
            raise CredentialRejected("the vendor refused the credential", code="401")
        if what == "missing":
            raise InvalidInput("there is no table missing", code="no_table")
        return Sample(limit, what)


def external() -> SimpleNamespace:
    """The shapes connector as an entry point would give it, with its reader."""
    found = world.external()

    def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
        return replace(found.capabilities(method, settings), reader=Reader())

    return SimpleNamespace(system=found.system, capabilities=capabilities)

"""What the declared calls cannot say of Freshdesk: two agents that take turns are one account of this hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from keyturn.contract.capabilities import Capabilities, Verifier
from keyturn.contract.values import Access
from keyturn.errors import InvalidInput
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, Verdict


def extend(method: str, settings: Mapping[str, Any], declared: Capabilities) -> Capabilities:
    """The declared capabilities; with two agents a test knows the pair, and a key's place is its agent."""
    del method
    if str(settings.get("agents", "")) != "two":
        return declared
    pair = Pair(declared.verifier)
    return replace(declared, verifier=pair, locator=pair)


@dataclass(frozen=True)
class Pair:
    """Tests a key as one of two agents. Each has its own single key, so a key of the one never ends the other's."""

    inner: Verifier

    def verify(self, access: Access, material: Material) -> Probe:
        """Accepted as the pair only when the agent who answers is the one it was said to be."""
        found = self.inner.verify(access, material)
        if found.verdict is not Verdict.ACCEPTED:
            return found
        pair = _pair(access)
        answered = _name(found.identity.get("principal_label", ""))
        said = _name(material.get("agent", ""))
        if answered in pair and answered == said:
            both = " or ".join(pair)
            return replace(found, identity={**found.identity, "principal": both, "principal_label": both})
        label = answered if answered not in pair else f"{answered} (not {said or 'named'})"
        return replace(found, identity={**found.identity, "principal_label": label})

    def bogus(self, material: Material) -> Material:
        """A made-up key; it names nobody."""
        return self.inner.bogus(material)

    def locate(self, access: Access, material: Material) -> Ref:
        """The agent, as a slot that holds one key. Raises: InvalidInput when the key is seen to be somebody else's."""
        pair, said = _pair(access), _name(material.get("agent", ""))
        if len(set(pair)) != 2 or "" in pair:
            raise InvalidInput(
                "first_agent and second_agent must be two agents", hint="Name both.", field="second_agent"
            )
        if said not in pair:
            raise InvalidInput(
                "agent is neither the first nor the second agent",
                hint=f"One of {', '.join(pair)}.",
                field="agent",
            )
        found = self.verify(access, material)
        if found.verdict is Verdict.ACCEPTED and found.identity.get("principal") != " or ".join(pair):
            raise InvalidInput(
                f"the key belongs to {found.identity.get('principal_label', 'another agent')}",
                field="api_key",
            )
        return Ref(slot=said)


def _pair(access: Access) -> tuple[str, ...]:
    return tuple(sorted(_name(access.settings.get(each, "")) for each in ("first_agent", "second_agent")))


def _name(text: object) -> str:
    """An email address as Freshdesk compares it."""
    return str(text or "").strip().casefold()

"""Two registry entries that follow each other: what the declared OAuth of ServiceNow cannot say."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from keyturn.connectors.servicenow import client
from keyturn.contract.capabilities import Authorizer, Capabilities
from keyturn.contract.values import Access, Candidate, Found, Remote
from keyturn.errors import Conflict, InvalidInput, ValueRefused
from keyturn.model.credential import Ref
from keyturn.model.secret import Material


def extend(method: str, settings: Mapping[str, Any], declared: Capabilities) -> Capabilities:
    """The declared grant, placed at its registry entry; with an administrator the hub also makes and deletes entries."""
    del method
    if declared.authorizer is None:  # unreachable: the definition's auth is oauth2_code
        return declared
    found = replace(declared, authorizer=Placed(declared.authorizer), locator=ByClientId())
    if settings.get("registry") != "hub":
        return found
    registry = Registry()
    return replace(
        found, lister=registry, maker=registry, setter=registry, revoker=registry, discoverer=registry
    )


@dataclass(frozen=True)
class Placed:
    """The declared authorizer; a grant sits at its client's entry."""

    inner: Authorizer

    def begin(self, access: Access, session: Mapping[str, str]) -> str:
        """The consent page of the client that acts. Raises: InvalidInput when the instance would send the code elsewhere."""
        wanted = str(access.settings.get("callback") or "")
        if wanted and wanted != session["redirect_uri"]:
            raise InvalidInput(
                "the redirect URL of this connection is not this hub's callback",
                hint=f"This hub is reached at {session['redirect_uri']}. ServiceNow would send the code to another one.",
                field="callback",
            )
        return self.inner.begin(access, session)

    def exchange(self, access: Access, session: Mapping[str, str], callback: str) -> bytes:
        """As declared."""
        return self.inner.exchange(access, session, callback)

    def refresh(self, access: Access, material: Material) -> bytes:
        """As declared: the same refresh token comes back, and its end stays where it was."""
        return self.inner.refresh(access, material)

    def read(self, access: Access, receipt: bytes, previous: Material | None) -> Candidate:
        """The grant, with the client's id as its place."""
        found = self.inner.read(access, receipt, previous)
        return replace(found, ref=Ref(id=found.material.get("client_id", "")))


class ByClientId:
    """The client id names the entry."""

    def locate(self, access: Access, material: Material) -> Ref:
        """No call is made."""
        del access
        return Ref(id=material.get("client_id", ""))


class Registry:
    """The application registry, by the Table API and an administrator."""

    def list(self, access: Access) -> tuple[Remote, ...]:
        """All entries for external clients."""
        return tuple(
            Remote(Ref(id=each.client_id, label=each.name), active=each.is_active)
            for each in client.entries(access)
            if each.client_id
        )

    def make(self, access: Access, slot: Ref) -> Candidate:
        """A client id and secret of our own, so that a lost answer can be looked up by what was sent."""
        del access, slot
        parts = {"client_id": secrets.token_hex(16), "client_secret": secrets.token_urlsafe(36)}
        return Candidate(Ref(id=parts["client_id"]), Material(parts, frozenset({"client_id"})))

    def set(self, access: Access, ref: Ref, material: Material) -> None:
        """Registers the entry, or writes the same secret again. What can be copied is taken from the entry in use."""
        wanted = material["client_id"]
        if ref.id != wanted:
            raise InvalidInput("the client was made for another entry", field="client_id")
        there = client.entry_of(access, wanted)
        if there is not None:
            client.change(access, there, {"client_secret": material["client_secret"], "active": "true"})
            return
        made = client.create(access, _values(access, material))
        if made.client_id != wanted:
            client.delete(access, client.ENTRIES, made.sys_id)  # ours: this very answer names it
            raise ValueRefused(
                "the instance does not take a client id of our choice",
                hint="Set registry to person and let somebody register the entries.",
            )

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Revokes our tokens by value, then deletes the entry. Raises: Conflict when somebody else's tokens are on it."""
        entry = client.entry_of(access, ref.id)
        if entry is None:
            return
        tokens = client.tokens_of(access, entry)
        ours = str(access.settings["user"])
        strangers = sorted({each.user or "unknown" for each in tokens if each.user != ours})
        if strangers:
            raise Conflict(
                f"the registry entry {entry.name} also holds tokens of {', '.join(strangers)[:200]}",
                hint="Ask them first; deleting the entry would cut them off.",
            )
        for name in ("refresh_token", "access_token"):
            if material is not None and material.get(name):
                client.end_token(access, material[name])
        for each in client.tokens_of(access, entry):
            client.delete(access, client.TOKENS, each.sys_id)
        client.delete(access, client.ENTRIES, entry.sys_id)

    def discover(self, access: Access) -> tuple[Found, ...]:
        """Each entry with its related tokens: how many, of whom, until when."""
        found = []
        for each in client.entries(access):
            tokens = client.tokens_of(access, each)
            facts: dict[str, Any] = {
                "client_id": each.client_id,
                "active": each.is_active,
                "updated": each.updated,
                "tokens": len(tokens),
                "users": tuple(sorted({token.user for token in tokens})),
                "last_expiry": max((token.expires for token in tokens), default=""),
            }
            found.append(Found(each.name, "registry entry", facts))
        return tuple(found)


def _values(access: Access, material: Material) -> dict[str, str]:
    """The new entry's fields. Lives and redirect URLs are the present entry's, so that nothing else changes."""
    acting = access.acting.get("client_id", "") if access.acting is not None else ""
    present = client.entry_of(access, acting) if acting else None
    callback = str(access.settings.get("callback") or "")
    known = [url.strip() for url in present.redirect_url.split(",")] if present is not None else []
    # The hub's own comes first: a request that matches none is sent to the first.
    urls = [callback, *(url for url in known if url and url != callback)]
    values = {
        "name": f"keyturn {datetime.now(UTC).date().isoformat()} {material['client_id'][:8]}",
        "type": "client",
        "client_id": material["client_id"],
        "client_secret": material["client_secret"],
        "redirect_url": ",".join(url for url in urls if url),
        "active": "true",
    }
    if present is not None and present.access_token_lifespan:
        values["access_token_lifespan"] = present.access_token_lifespan
    if present is not None and present.refresh_token_lifespan:
        values["refresh_token_lifespan"] = present.refresh_token_lifespan
    return values

"""Client secrets of an application: many at once, made by Entra, shown once, ended by their id."""

from __future__ import annotations

import json
import secrets
import string
import time
from dataclasses import replace
from typing import Any

from keyturn.connectors.dynamics import client, identity
from keyturn.connectors.dynamics.application import Registration
from keyturn.connectors.dynamics.client import Entries, Session
from keyturn.connectors.dynamics.prober import Prober
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Candidate, Remote
from keyturn.errors import CredentialRejected, InvalidInput, NotFound, PermissionMissing, UnexpectedAnswer
from keyturn.model.credential import Ref
from keyturn.model.secret import Material

OWNED = "Application.ReadWrite.OwnedBy"
_DAY_S = 86_400.0
_PUBLIC = frozenset({"secret_id"})
_HINT = 3  # Graph keeps the first three characters of a secret; those made before Graph have none


def capabilities() -> Capabilities:
    """Everything a client secret can do."""
    keys = Secrets()
    registration = Registration(identity.by_secret)
    prober = Prober(identity.by_secret, bogus)
    return Capabilities(
        verifier=prober,
        lister=keys,
        issuer=keys,
        revoker=keys,
        dropper=registration,
        discoverer=registration,
        locator=keys,
        reader=prober,
    )


def bogus(material: Material) -> Material:
    """A secret of the right shape that nobody made."""
    del material
    letters = string.ascii_letters + string.digits
    return Material({"client_secret": "kt08Q~" + "".join(secrets.choice(letters) for _ in range(34))})


class Secrets:
    """The secrets of one application: list, add, remove. Strangers' secrets are listed and never touched."""

    def list(self, access: Access) -> tuple[Remote, ...]:
        """Every secret on the application, with its dates. An expired one is shown as not active."""
        session = Session(access)
        return tuple(_remote(each) for each in self._entries(session, self._token(session)))

    def locate(self, access: Access, material: Material) -> Ref:
        """The secret's id, found by its first characters, which Graph shows; the id a person gave decides a tie.

        Raises: InvalidInput when no secret fits, or several do; PermissionMissing.
        """
        value, named = material.get("client_secret", ""), material.get("secret_id", "").lower()
        session = Session(replace(access, acting=material))
        try:
            there = self._entries(session, self._token(session))
        except PermissionMissing:
            if named:
                return Ref(id=named)  # believed: without the right nothing can be rotated anyway
            raise
        fitting = [each for each in there if each.get("hint") == value[:_HINT]]
        fitting = fitting or [each for each in there if not each.get("hint")]
        if len(fitting) > 1:
            fitting = [each for each in fitting if str(each["keyId"]).lower() == named]
        if len(fitting) != 1:
            raise InvalidInput(
                "it cannot be told which of the application's secrets this is",
                hint="Enter the secret's id. A secret kept on the enterprise application instead is not rotated.",
                field="secret_id",
            )
        return _remote(fitting[0]).ref

    def issue(self, access: Access, slot: Ref) -> bytes:
        """A new secret; the answer holds its value, once. Twice means two: a lost answer is looked up by our label."""
        del slot
        session = Session(access)
        ends_at = time.time() + float(access.settings.get("secret_days") or 180) * _DAY_S
        asked = {"displayName": access.marker or "keyturn", "endDateTime": client.written(ends_at)}
        path = f"{client.application_path(session.client_id)}/addPassword"
        body = {"passwordCredential": asked}
        answer = session.ask(self._token(session), "POST", path, body, right=OWNED, changes=True)
        if answer.status != 200 or "json" not in answer.header("content-type").lower():
            raise UnexpectedAnswer("Graph did not answer addPassword as documented", operation=OWNED)
        return answer.body  # unread: it is sealed first

    def read(self, access: Access, receipt: bytes) -> Candidate:
        """The secret inside a sealed answer, with the end Graph gave it."""
        del access
        try:
            made: dict[str, Any] = json.loads(receipt)
            key_id, value, ends = made["keyId"], made["secretText"], client.instant(made["endDateTime"])
            label = made.get("displayName")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise UnexpectedAnswer("Graph's answer holds no secret", operation="addPassword") from None
        if not all(isinstance(each, str) and each for each in (key_id, value)) or ends is None:
            raise UnexpectedAnswer("Graph's answer holds no secret", operation="addPassword")
        ref = Ref(id=key_id.lower(), label=label if isinstance(label, str) else "")
        return Candidate(ref, Material({"client_secret": value, "secret_id": ref.id}, _PUBLIC), ends)

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Removes the secret of this id for good; there is no way to get it back.

        How Graph refuses an id that is gone is not documented, so the list decides.
        """
        if not ref.id:
            raise InvalidInput("the secret's id is not known", hint="List the secrets.", field="secret_id")
        session = Session(access)
        try:
            token = self._token(session)
        except CredentialRejected:
            if access.admin is None and material is not None and _same(access.acting, material):
                return  # it signs its own end and Entra knows it no more
            raise
        path = f"{client.application_path(session.client_id)}/removePassword"
        try:
            answer = session.ask(token, "POST", path, {"keyId": ref.id}, right=OWNED, changes=True)
        except (NotFound, UnexpectedAnswer):
            if any(str(each["keyId"]).lower() == ref.id for each in self._entries(session, token)):
                raise
            return
        if answer.status != 204:
            raise UnexpectedAnswer(f"Graph answered removePassword with {answer.status}", operation=OWNED)

    def _token(self, session: Session) -> str:
        return session.token(identity.acting(session, identity.by_secret), session.graph)

    def _entries(self, session: Session, token: str) -> Entries:
        path = f"{client.application_path(session.client_id)}?$select=id,passwordCredentials"
        return client.entries(session.read(token, path, right=OWNED), "passwordCredentials")


def _remote(entry: dict[str, Any]) -> Remote:
    starts, ends = client.instant(entry.get("startDateTime")), client.instant(entry.get("endDateTime"))
    more = {"ends_at": str(ends)} if ends is not None else {}
    label = entry.get("displayName")
    return Remote(
        Ref(id=str(entry["keyId"]).lower(), label=label if isinstance(label, str) else "", more=more),
        active=ends is None or time.time() < ends,
        created_at=starts,
    )


def _same(one: Material | None, other: Material) -> bool:
    return one is not None and one.get("client_secret") == other.get("client_secret")

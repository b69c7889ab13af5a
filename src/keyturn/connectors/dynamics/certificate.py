"""Certificates of an application: the pair is made here, Entra gets its public half; known by thumbprint, never by memory.

Two ways lead to the application. `addKey` and `removeKey` touch one entry and ask for a proof made with a certificate that
is on it already; they are taken whenever our current one is. Replacing the whole list is the other way, for an application
on which nothing of ours is left: whatever is not sent along is deleted, so the list is read twice before and once after.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from keyturn.connectors.dynamics import client, identity
from keyturn.connectors.dynamics.application import Registration
from keyturn.connectors.dynamics.client import Entries, Session
from keyturn.connectors.dynamics.prober import Prober
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Candidate, Remote
from keyturn.errors import (
    Conflict,
    CredentialRejected,
    InvalidInput,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    VendorUnavailable,
)
from keyturn.keymaking import certificates, rsa
from keyturn.keymaking.certificates import Certified
from keyturn.model.credential import Ref
from keyturn.model.secret import Material

OWNED = "Application.ReadWrite.OwnedBy"
_POOL = rsa.KeyPool()  # starts no thread before the first key is asked for
_KIND = {"type": "AsymmetricX509Cert", "usage": "Verify"}


def capabilities() -> Capabilities:
    """Everything a certificate can do; whose login makes a change is decided call by call."""
    keys = Certificates()
    registration = Registration(identity.by_certificate)
    prober = Prober(identity.by_certificate, bogus)
    return Capabilities(
        verifier=prober,
        lister=keys,
        maker=keys,
        setter=keys,
        revoker=keys,
        dropper=registration,
        discoverer=registration,
        locator=keys,
        reader=prober,
    )


def bogus(material: Material) -> Material:
    """A throwaway pair: its refusal has the code of a certificate that was removed."""
    del material
    return Material({"certificate": certificates.self_signed(rsa.generate(), "bogus", 1).pem.reveal()})


class Certificates:
    """The certificates of one application: list, make, add, remove. Strangers' certificates are never touched."""

    def list(self, access: Access) -> tuple[Remote, ...]:
        """Every certificate on the application, by thumbprint. An expired one is shown as not active."""
        session = Session(access)
        return tuple(_remote(each) for each in self._look(session, self._token(session))[1])

    def locate(self, access: Access, material: Material) -> Ref:
        """The certificate's own thumbprint, once the application is seen to hold it. Raises: InvalidInput.

        Whoever may not look is believed; nothing can be rotated without that right anyway.
        """
        pair, session = identity.pair_of(material), Session(replace(access, acting=material))
        try:
            _, there = self._look(session, self._token(session))
        except PermissionMissing:
            return _ref(pair)
        if _entry_of(there, _ref(pair)) is None:
            raise InvalidInput(
                "the application holds no such certificate",
                hint="A certificate kept on the enterprise application instead is not rotated.",
                field="certificate",
            )
        return _ref(pair)

    def make(self, access: Access, slot: Ref) -> Candidate:
        """A fresh 2048-bit pair and a self-signed certificate; the private key leaves this machine in no call."""
        del slot
        days = float(access.settings.get("certificate_days") or 180)
        name = f"keyturn {access.settings.get('client_id', '')}".strip()
        pair = certificates.self_signed(_POOL.take(), name, days)
        return Candidate(_ref(pair), Material({"certificate": pair.pem.reveal()}), pair.ends_at)

    def set(self, access: Access, ref: Ref, material: Material) -> None:
        """Puts the certificate onto the application; one that is there already is left as it is.

        Raises: OutcomeUnknown when it is not there afterwards: somebody may have replaced the list meanwhile.
        """
        pair = identity.pair_of(material)
        if ref.fingerprint not in {"", pair.fingerprint}:
            raise InvalidInput("the certificate is not the one that was promised", field="certificate")
        session = Session(access)
        token = self._token(session)
        object_id, there = self._look(session, token)
        if _entry_of(there, _ref(pair)) is not None:
            return
        key = {**_KIND, "key": base64.b64encode(pair.der).decode()}
        signer = self._signer(access, there)
        if signer is not None:
            body = {
                "keyCredential": key,
                "passwordCredential": None,
                "proof": identity.proof_of_possession(signer, object_id),
            }
            self._change(session, token, "addKey", body, 200)
            return
        named = {
            **key,
            "displayName": pair.subject,
            "startDateTime": client.written(pair.starts_at),
            "endDateTime": client.written(pair.ends_at),
        }
        self._replace(session, token, there, [*there, named])
        _, after = self._look(session, token)
        if _entry_of(after, _ref(pair)) is None:
            raise OutcomeUnknown(
                "the certificate is not on the application after it was written",
                hint="Something else may manage its certificates; the vendor is looked at again.",
                operation=OWNED,
            )

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Takes the certificate of this thumbprint off the application, and nothing else."""
        if not ref.id and material is not None:
            ref = _ref(identity.pair_of(material))
        if not ref.id:
            raise InvalidInput("the certificate's thumbprint is not known", field="certificate")
        session = Session(access)
        try:
            token = self._token(session)
        except CredentialRejected:
            if access.admin is None and material is not None and _same(access.acting, material):
                return None  # it signs its own end and Entra knows it no more
            raise
        object_id, there = self._look(session, token)
        entry = _entry_of(there, ref)
        if entry is None:
            return None
        signer = self._signer(access, there)
        if signer is not None:
            proof = identity.proof_of_possession(signer, object_id)
            body = {"keyId": str(entry["keyId"]), "proof": proof}
            try:
                return self._change(session, token, "removeKey", body, 204)
            except VendorUnavailable as error:
                # Whether a certificate may prove its own removal is not documented; where it may not, the list is written.
                if signer.thumbprint != ref.id or error.facts.get("code") != client.BAD_PROOF:
                    raise
        return self._replace(session, token, there, [each for each in there if each is not entry])

    def _signer(self, access: Access, there: Entries) -> Certified | None:
        """Our own certificate where it is on the application and valid: only such a one may prove possession."""
        if access.acting is None or not access.acting.get("certificate"):
            return None
        pair = identity.pair_of(access.acting)
        now = time.time()
        valid = pair.starts_at <= now < pair.ends_at
        return pair if valid and _entry_of(there, _ref(pair)) is not None else None

    def _change(self, session: Session, token: str, verb: str, body: Mapping[str, Any], good: int) -> None:
        path = f"{client.application_path(session.client_id)}/{verb}"
        answer = session.ask(token, "POST", path, body, right=OWNED, changes=True)
        if answer.status != good or (good == 200 and not client.is_object(answer)):
            raise UnexpectedAnswer(f"Graph did not answer {verb} as documented", operation=OWNED)

    def _replace(self, session: Session, token: str, seen: Entries, wanted: Entries) -> None:
        """Writes the whole list, if it still is what was seen: Graph has no condition for it, so time is kept short.

        Raises: Conflict when somebody changed it in between; nothing was changed then.
        """
        _, again = self._look(session, token)
        if {str(e["keyId"]) for e in again} != {str(e["keyId"]) for e in seen}:
            raise Conflict(
                "somebody else is changing the application's certificates",
                hint="Nothing was changed. Try again when they are done.",
            )
        path = client.application_path(session.client_id)
        answer = session.ask(token, "PATCH", path, {"keyCredentials": wanted}, right=OWNED, changes=True)
        if answer.status != 204:
            raise UnexpectedAnswer(f"Graph answered PATCH with {answer.status}", operation=OWNED)

    def _token(self, session: Session) -> str:
        return session.token(identity.acting(session, identity.by_certificate), session.graph)

    def _look(self, session: Session, token: str) -> tuple[str, Entries]:
        """The application's object id and its certificates; asked for one object, Graph tells the keys too."""
        path = f"{client.application_path(session.client_id)}?$select=id,keyCredentials"
        body = session.read(token, path, right=OWNED)
        object_id = body.get("id")
        if not isinstance(object_id, str) or not object_id:
            raise UnexpectedAnswer("Graph does not tell the application's object id", operation=OWNED)
        return object_id, client.entries(body, "keyCredentials")


def _ref(pair: Certified) -> Ref:
    return Ref(id=pair.thumbprint, fingerprint=pair.fingerprint, more={"ends_at": str(pair.ends_at)})


def _remote(entry: Mapping[str, Any]) -> Remote:
    """What is no certificate with a thumbprint (a stranger's oddity) is known by Graph's own id."""
    thumbprint, fingerprint = _names(entry)
    ends = client.instant(entry.get("endDateTime"))
    label = entry.get("displayName")
    return Remote(
        Ref(
            id=thumbprint or str(entry["keyId"]),
            fingerprint=fingerprint,
            label=label if isinstance(label, str) else "",
        ),
        active=ends is None or time.time() < ends,
        created_at=client.instant(entry.get("startDateTime")),
    )


def _entry_of(there: Entries, ref: Ref) -> dict[str, Any] | None:
    """The entry that holds the certificate of `ref`. Where the key itself is shown it must be the very same."""
    for each in there:
        thumbprint, fingerprint = _names(each)
        if thumbprint == ref.id and (
            not fingerprint or not ref.fingerprint or fingerprint == ref.fingerprint
        ):
            return each
    return None


def _names(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Thumbprint and fingerprint: of the key where it is shown, else the thumbprint that Graph keeps beside it."""
    key, kept = _bytes(entry.get("key")), _bytes(entry.get("customKeyIdentifier"))
    if key:
        fingerprint = "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode()
        return hashlib.sha1(key, usedforsecurity=False).hexdigest().upper(), fingerprint
    return kept.hex().upper(), ""


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        return b""


def _same(one: Material | None, other: Material) -> bool:
    return one is not None and one.get("certificate") == other.get("certificate")

"""Making, setting and ending credentials by declared calls: `Issuer`, `Maker`, `Setter`, `Revoker`."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from keyturn.contract.values import Access, Candidate
from keyturn.definitions.auth import OAuth, TokenRevoke
from keyturn.definitions.calls import Caller, build, resource_rules, whole_url
from keyturn.definitions.classify import Refused, holds, instant, read, succeeded
from keyturn.definitions.extraction import one
from keyturn.definitions.model import Create, Definition, Generate, Revoke
from keyturn.definitions.receipts import pack, unpack
from keyturn.definitions.scopes import Values, complete, parts_of, retiring, signer, values
from keyturn.definitions.tokens import client_request, sign, token_reading
from keyturn.errors import CapReached, InvalidInput, UnexpectedAnswer
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.transport.http import Answer

_KINDS = (str.islower, str.isupper, str.isdigit)


def _changed(caller: Caller, create: Create, scopes: Values, phase: str) -> Answer:
    """Sends the changing call and reads its refusals; the signing before it changes nothing."""
    definition = caller.definition
    placed = sign(caller, scopes, create.request)
    answer = caller.send(build(definition, create.request, scopes, placed), changes=True)
    if any(holds(rule, answer, phase) for rule in create.cap_reached):
        raise CapReached(
            f"{answer.host} holds no more credentials for this account",
            hint="End one that is not used.",
            host=answer.host,
            status=answer.status,
        )
    if not succeeded(answer, create.success):
        raise Refused(read(answer, resource_rules(definition, phase), phase), changes=True)
    return answer


@dataclass(frozen=True)
class DeclaredIssuer:
    """`create_then_revoke` and `in_place`: the vendor makes the value."""

    definition: Definition
    create: Create

    def issue(self, access: Access, slot: Ref) -> bytes:
        """The raw answer with its headers and time. `slot` says nothing: the vendor numbers credentials itself."""
        del slot
        caller = Caller(self.definition, access)
        try:
            with complete():
                scopes = values(self.definition, access, signer(access, self.definition.rotation.actor))
                return pack(_changed(caller, self.create, scopes, "create"))
        except Refused as refused:
            raise refused.error() from None

    def read(self, access: Access, receipt: bytes) -> Candidate:
        """Extracted parts over those of the acting credential that the answer does not carry (a user name)."""
        opened = unpack(receipt)
        with complete():
            scopes = values(self.definition, access, access.acting)
            found = {k: one(e, opened.answer, scopes, k) for k, e in self.create.extract.items()}
        names = {p.name: p for p in self.definition.parts}
        parts = {k: v for k, v in found.items() if k in names and v}
        for name, part in names.items():
            kept = parts_of(self.definition, access.acting).get(name)
            if name not in self.create.extract and part.required and kept:
                parts[name] = kept
        missing = [p.title for p in names.values() if p.required and p.name not in parts]
        if missing:
            raise UnexpectedAnswer(f"the vendor's answer holds no {missing[0]}", status=opened.answer.status)
        public = frozenset(p.name for p in names.values() if not p.secret)
        label = access.marker if self.create.marker_field else ""
        handle = found.get(self.create.handle, "") if self.create.handle else ""
        return Candidate(
            Ref(id=handle, label=label), Material(parts, public), _expiry(found.get("expires_at", ""))
        )


def _expiry(text: str) -> float | None:
    """RFC 7591 writes 0 for never."""
    try:
        at = instant(text) if text else 0.0
    except (ValueError, OverflowError):
        return None
    return at or None


@dataclass(frozen=True)
class DeclaredMaker:
    """`set_value`: we make the value."""

    definition: Definition
    generate: Generate

    def make(self, access: Access, slot: Ref) -> Candidate:
        """A fresh value of the declared alphabet; the other parts are those of the acting credential."""
        wanted = self.generate
        kept = parts_of(self.definition, access.acting)
        name = wanted.part or next((p.name for p in self.definition.parts if p.secret), "")
        text = ""
        while not text or _classes(text) < wanted.min_classes:
            text = "".join(secrets.choice(wanted.alphabet) for _ in range(wanted.length))
        public = frozenset(p.name for p in self.definition.parts if not p.secret)
        ref = Ref(id=slot.id, slot=slot.slot, label=access.marker)
        return Candidate(ref, Material({**kept, name: text}, public))


def _classes(text: str) -> int:
    found = sum(any(kind(c) for c in text) for kind in _KINDS)
    return found + any(not c.isalnum() for c in text)


@dataclass(frozen=True)
class DeclaredSetter:
    """`set_value`: the value is written by a call."""

    definition: Definition
    create: Create

    def set(self, access: Access, ref: Ref, material: Material) -> None:
        """Absolute where a manager signs; on the self path a repetition is signed by a value that may be dead."""
        caller = Caller(self.definition, access)
        try:
            with complete():
                scopes = values(self.definition, access, signer(access, self.definition.rotation.actor))
                scopes["pending"] = {**parts_of(self.definition, material), "handle": ref.id or ref.slot}
                _changed(caller, self.create, scopes, "set")
        except Refused as refused:
            raise refused.error() from None


@dataclass(frozen=True)
class DeclaredRevoker:
    """Ends a credential by handle or by value."""

    definition: Definition
    block: Revoke

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """A status listed as `already_gone` counts as done."""
        caller = Caller(self.definition, access)
        try:
            with complete():
                scopes = values(self.definition, access, signer(access, self.block.actor))
                scopes["retiring"] = retiring(self.definition, ref, material)
                request = self.block.request
                placed = sign(caller, scopes, request)
                answer = caller.send(build(self.definition, request, scopes, placed), changes=True)
                if answer.status in self.block.already_gone or succeeded(answer, self.block.success):
                    return
                raise Refused(read(answer, resource_rules(self.definition, "revoke"), "revoke"), changes=True)
        except Refused as refused:
            raise refused.error() from None


@dataclass(frozen=True)
class TokenRevoker:
    """RFC 7009: 200 even for unknown tokens, so an accepted call proves nothing by itself."""

    definition: Definition
    auth: OAuth
    block: TokenRevoke

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Ends the token by its value. Raises: InvalidInput when the value is no longer held."""
        del ref
        caller = Caller(self.definition, access)
        token = parts_of(self.definition, material).get(self.block.token)
        if not token:
            raise InvalidInput(
                "a token can be ended only by its value, which is not held here",
                hint="Let a person remove the grant at the vendor.",
                field=self.block.token,
            )
        try:
            with complete():
                scopes = values(self.definition, access, material)
                fields = [("token", token), ("token_type_hint", self.block.token)]
                url = whole_url(self.block.url, scopes)
                answer = caller.send(client_request(self.auth, scopes, url, fields), changes=True)
                if not 200 <= answer.status < 300:
                    reading = token_reading(caller, self.auth, answer, "revoke")
                    raise Refused(reading, changes=True, own_client=self.auth.own_client())
        except Refused as refused:
            raise refused.error() from None

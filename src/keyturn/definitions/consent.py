"""OAuth authorization code as an `Authorizer`: consent URL, exchange, refresh, and reading what came of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from keyturn.contract.values import Access, Candidate
from keyturn.definitions.auth import OAuth, TokenAnswer
from keyturn.definitions.calls import Caller, whole_url
from keyturn.definitions.classify import Refused, instant
from keyturn.definitions.jsonpath import JsonPath
from keyturn.definitions.model import Definition
from keyturn.definitions.receipts import Receipt, pack, unpack
from keyturn.definitions.scopes import Values, complete, parts_of, values
from keyturn.definitions.tokens import token_call
from keyturn.errors import CredentialRejected, InvalidInput, KeyturnError, UnexpectedAnswer
from keyturn.model.credential import Ref
from keyturn.model.secret import Material

_DAY_S = 86_400.0
_TOKENS = frozenset({"access_token", "refresh_token", "expires_at", "scope", "grant_ends_at"})


@dataclass(frozen=True)
class DeclaredAuthorizer:
    """One grant of one person to our client."""

    definition: Definition
    auth: OAuth

    def begin(self, access: Access, session: Mapping[str, str]) -> str:
        """The consent URL. Uses the session's state, redirect_uri and, with PKCE, its code_verifier."""
        with complete():
            scopes = values(self.definition, access, access.acting)
            pairs = [
                ("response_type", "code"),
                ("client_id", self.auth.client_id.render(scopes)),
                ("redirect_uri", session["redirect_uri"]),
                ("state", session["state"]),
            ]
            if self.auth.scope:
                pairs.append(("scope", self.auth.scope_separator.join(self.auth.scope)))
            if self.auth.pkce == "S256":
                pairs += [
                    ("code_challenge", challenge(session["code_verifier"])),
                    ("code_challenge_method", "S256"),
                ]
            pairs += [(k, t.render(scopes)) for k, t in self.auth.authorize_params]
            if self.auth.authorize_url is None:  # unreachable: the reader requires it
                raise InvalidInput("the definition has no authorize_url", field="auth.authorize_url")
            url = whole_url(self.auth.authorize_url, scopes)
        return f"{url}{'&' if '?' in url else '?'}{urlencode(pairs, quote_via=quote)}"

    def exchange(self, access: Access, session: Mapping[str, str], callback: str) -> bytes:
        """The raw token answer with its time. Calling twice fails at the vendor: a code works once."""
        code = _code(callback, session, self.auth.verify_iss)
        fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", session["redirect_uri"]),
        ]
        if self.auth.pkce == "S256":
            fields.append(("code_verifier", session["code_verifier"]))
        try:
            return self._token(access, access.acting, fields, "token")
        except CredentialRejected as error:
            raise CredentialRejected(
                "the vendor refused the code of this consent",
                hint="Codes work once and for minutes: start the consent again.",
                **error.facts,
            ) from None

    def refresh(self, access: Access, material: Material) -> bytes:
        """The raw answer to a refresh with `material`'s own refresh token; nothing is kept here."""
        token = parts_of(self.definition, material).get("refresh_token")
        if not token:
            raise InvalidInput(
                "this grant holds no refresh token",
                hint="Authorize again; the vendor may need a scope such as offline_access.",
                field="refresh_token",
            )
        return self._token(
            access, material, [("grant_type", "refresh_token"), ("refresh_token", token)], "refresh"
        )

    def read(self, access: Access, receipt: bytes, previous: Material | None) -> Candidate:
        """The grant; parts that are the client's own are kept from `previous`, or from what acts at a first consent."""
        opened = unpack(receipt)
        where = self.auth.response
        body = opened.answer.json()
        token = _text(where.access_token, body)
        if not token:
            raise UnexpectedAnswer("the token answer holds no access token", status=opened.answer.status)
        kept = dict(parts_of(self.definition, previous if previous is not None else access.acting))
        if previous is None:
            kept = {k: v for k, v in kept.items() if k not in _TOKENS}
        parts = {**kept, "access_token": token}
        refresh = _text(where.refresh_token, body)
        if refresh:
            parts["refresh_token"] = refresh
        elif not self.auth.refresh.keep_old_if_absent:
            parts.pop("refresh_token", None)
        scope = _text(where.scope, body) or kept.get("scope", "") or " ".join(self.auth.scope)
        if scope:
            parts["scope"] = scope
        access_ends = _access_ends(self.auth, where, body, opened)
        parts["expires_at"] = str(int(access_ends))
        absolute = self.auth.refresh.absolute_days
        if previous is None and absolute and "refresh_token" in parts:
            parts["grant_ends_at"] = str(int(opened.at + absolute * _DAY_S))  # no refresh moves it
        public = frozenset({"scope", "expires_at", "grant_ends_at"} & set(parts))
        public |= {p.name for p in self.definition.parts if not p.secret}
        ends = self._grant_ends(opened.at, parts) if "refresh_token" in parts else access_ends
        return Candidate(Ref(), Material(parts, public), ends)

    def _token(
        self, access: Access, material: Material | None, fields: list[tuple[str, str]], phase: str
    ) -> bytes:
        caller = Caller(self.definition, access)
        try:
            with complete():
                scopes: Values = values(self.definition, access, material)
                return pack(token_call(caller, self.auth, scopes, fields, phase, changes=True))
        except Refused as refused:
            raise _named(refused, phase) from None

    def _grant_ends(self, at: float, parts: Mapping[str, str]) -> float | None:
        """When a grant ends that is not used again: idle days from now, or its absolute life counted from the consent."""
        ends = [float(parts["grant_ends_at"])] if "grant_ends_at" in parts else []
        if self.auth.refresh.idle_days:
            ends.append(at + self.auth.refresh.idle_days * _DAY_S)
        return min(ends, default=None)


def challenge(verifier: str) -> str:
    """PKCE's S256 (RFC 7636 section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _code(callback: str, session: Mapping[str, str], issuer: str) -> str:
    """The code in a callback URL. Raises: InvalidInput for an error, another state or another issuer."""
    found = parse_qs(urlsplit(callback).query, keep_blank_values=True)

    def single(name: str) -> str:
        given = found.get(name, [])
        return given[0] if len(given) == 1 else ""

    # The state is compared before anything else is believed, the error included.
    if not hmac.compare_digest(single("state").encode(), session["state"].encode()) or not session["state"]:
        raise InvalidInput(
            "this callback belongs to another or an older consent",
            hint="Start the consent again.",
            field="state",
        )
    error = single("error")
    if error == "access_denied":
        raise InvalidInput(
            "the person declined", hint="Start the consent again when they agree.", field="callback"
        )
    if error:
        known = (
            error if error.isascii() and error.replace("_", "").isalnum() and len(error) < 60 else "an error"
        )
        raise InvalidInput(f"the vendor answered the consent with {known}", field="callback")
    if issuer and single("iss") != issuer:
        raise InvalidInput("the callback names another issuer", hint="Start the consent again.", field="iss")
    code = single("code")
    if not code:
        raise InvalidInput(
            "the callback holds no code", hint="Paste the whole address of the page.", field="callback"
        )
    return code


def _named(refused: Refused, phase: str) -> KeyturnError:
    error = refused.error()
    if phase == "refresh" and isinstance(error, CredentialRejected):
        hint = "A person authorizes again; a changed password is a frequent cause."
        return CredentialRejected("the vendor says the grant is dead", hint=error.hint or hint, **error.facts)
    return error


def _text(path: JsonPath, body: Any) -> str:
    found = path.select(body)
    return found[0] if found and isinstance(found[0], str) else ""


def _access_ends(auth: OAuth, where: TokenAnswer, body: Any, opened: Receipt) -> float:
    """When the access token ends, by the vendor's word in whatever form, else by the declared default."""
    absolute = where.expires_at.select(body) if where.expires_at is not None else []
    for value in absolute[:1]:
        try:
            return instant(value) - auth.expiry_skew_s
        except (ValueError, OverflowError):
            break
    ttl = auth.default_ttl_s
    found = where.expires_in.select(body)
    try:
        if found and not isinstance(found[0], bool):
            ttl = float(found[0]) / (1000 if where.expires_unit == "ms" else 1)
    except (ValueError, TypeError):
        pass  # some vendors write nothing, some write words
    return opened.at + max(ttl, 0.0) - auth.expiry_skew_s

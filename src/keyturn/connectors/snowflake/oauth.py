"""The OAuth method: a grant of one user, used with one of the two client secrets of a security integration.

The credential is the pair of client secret and refresh token: neither opens anything without the other. A rotation has
Snowflake make the other secret anew and later the old one, which ends the old pair; the user's consent stays. A new
consent is taken with the other secret as well, so that it can be proven, switched to and rolled back like any rotation.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from urllib.parse import parse_qs, urlencode, urlsplit

from keyturn.connectors.snowflake import account, client, tokens
from keyturn.connectors.snowflake.client import SECRET_SLOTS
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Candidate
from keyturn.errors import (
    Conflict,
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, rejected, unknown
from keyturn.transport.snowflake import Session

_SLOT = "client_secret_slot"
_PUBLIC = frozenset({"client_id", _SLOT, "refresh_token_ends"})


def capabilities() -> Capabilities:
    """Both ways to a new pair: a new client secret by an administrator, a new grant by a person's consent."""
    slots = ClientSecrets()
    return Capabilities(
        verifier=Prober(),
        issuer=slots,
        revoker=slots,
        dropper=Integration(),
        authorizer=Consent(),
        discoverer=account.Account(),
        locator=slots,
        reader=account.Rows(),
    )


class Prober:
    """Asks for an access token and logs in with it."""

    def verify(self, access: Access, material: Material) -> Probe:
        """Only invalid_client and invalid_grant are rejections.

        A refresh token stays as it is when it is used. Where the integration makes them single-use, this test would
        use it up; such an integration is told apart by its answer and not taken.
        """
        until = time.monotonic() + access.deadline_s
        try:
            granted = tokens.read(tokens.refresh(access, material))
        except CredentialRejected as error:
            return _refused(access, str(error.facts["code"]))
        except (VendorUnavailable, VendorThrottled, UnexpectedAnswer) as error:
            return account.unclear(error)
        if granted.refresh_token not in {"", material["refresh_token"]}:
            return unknown(
                "single_use", "the integration gives single-use refresh tokens, which a test uses up"
            )
        left = max(until - time.monotonic(), 0.05)
        return account.look(
            client.token_session(access, granted.access_token, left), "Snowflake refuses the access token"
        )

    def bogus(self, material: Material) -> Material:
        """The same client with a made-up secret: refused like one that was replaced. No user is touched."""
        return Material(
            {
                "client_id": material.get("client_id", "") or secrets.token_urlsafe(16),
                "client_secret": base64.b64encode(secrets.token_bytes(32)).decode(),
                "refresh_token": secrets.token_urlsafe(48),
            },
            _PUBLIC,
        )


class ClientSecrets:
    """The two client secrets of the integration: both work, Snowflake makes them and shows them again."""

    def locate(self, access: Access, material: Material) -> Ref:
        """The slot that holds this very secret: the one in use is never assumed. Raises: InvalidInput when none does."""
        with client.acting_session(client.by_itself(access, material)) as session:
            held = _secrets(session, client.integration_of(access))
        if (material.get("client_id") or _client_id(access)) != held.client_id:
            raise InvalidInput("the integration has another client id", field="client_id")
        for slot, secret in held.values.items():
            if hmac.compare_digest(secret.encode(), material.get("client_secret", "").encode()):
                return _ref(slot, secret)
        raise InvalidInput("the integration holds another client secret", field="client_secret")

    def issue(self, access: Access, slot: Ref) -> bytes:
        """Has Snowflake make a new secret in the slot that is not in use; the answer is both, as Snowflake shows them.

        Raises: Conflict when the slot is in use or somebody else's, or the integration is off; nothing was changed then.
        """
        name, integration = _named(slot), client.integration_of(access)
        with client.acting_session(access) as session:
            before = _secrets(session, integration)
            _must_be_enabled(session, integration)
            _must_be_spare(access, name, before)
            client.refresh_secret(session, integration, name)
            try:
                shown = client.client_secrets(session, integration)
            except KeyturnError as error:
                raise OutcomeUnknown(
                    f"a new {name} was made and could not be read",
                    hint="The slot is not in use: it is made anew.",
                    operation="show secrets",
                    code=str(error.facts.get("code", "")),
                ) from None
        used = access.acting.get("client_secret") if access.acting else None
        receipt = {
            "slot": name,
            "before": client.fingerprint(before.values[name]),
            # Empty when the secret in use was gone already: then this mends the pair.
            "in_use": next((s for s, v in before.values.items() if v == used), ""),
            "secrets": shown,
        }
        return json.dumps(receipt).encode()

    def read(self, access: Access, receipt: bytes) -> Candidate:
        """The new secret with the grant in use. Raises: UnexpectedAnswer when nothing new is there, or more changed."""
        opened = _opened(receipt, "slot", "before", "in_use", "secrets")
        slot, now = opened["slot"], client.parse_secrets(opened["secrets"])
        acting = access.acting or Material({})
        secret = now.values.get(slot, "")
        if not secret or client.fingerprint(secret) == opened["before"]:
            raise UnexpectedAnswer("the slot holds the secret it held before", operation="refresh secret")
        if (acting.get("client_id") or _client_id(access)) != now.client_id:
            raise UnexpectedAnswer("the integration has another client id", operation="refresh secret")
        if opened["in_use"] and now.values.get(opened["in_use"]) != acting.get("client_secret"):
            raise UnexpectedAnswer(
                "the secret in use is not where it was",
                hint="Somebody made it anew. Authorize again.",
                operation="refresh secret",
            )
        kept = {k: v for k, v in acting.items() if k in {"refresh_token", "refresh_token_ends"}}
        return Candidate(
            _ref(slot, secret),
            Material({**kept, "client_id": now.client_id, "client_secret": secret, _SLOT: slot}, _PUBLIC),
            _instant(acting.get("refresh_token_ends")),
        )

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Has Snowflake replace the secret where it still is, which ends every pair it belongs to; nobody is told the
        new one.

        Raises: Conflict when the pair in use has the same secret: ending one would end both.
        """
        access = client.ending(access, material)
        integration, acting = client.integration_of(access), access.acting
        secret = material.get("client_secret") if material else None
        if secret and acting and acting.get("client_secret") == secret and acting != material:
            raise Conflict(
                "the pair in use has the same client secret",
                hint="Rotate: that ends this one too. Until then the old refresh token lives on.",
            )
        try:
            with client.acting_session(access) as session:
                held = _secrets(session, integration)
                slots = [s for s, v in held.values.items() if v == secret] if secret else [_named(ref)]
                for slot in slots:
                    client.refresh_secret(session, integration, slot)
        except NotFound:
            return
        except CredentialRejected:
            if access.admin is not None or material is None or acting != material:
                raise
            # It signed its own end, and has ended.


class Integration:
    """The security integration itself. A rotation never drops it: client id and all consents would be lost."""

    def drop(self, access: Access) -> None:
        """Takes the user's consent back, switches the integration off and drops it. Needs an administrator."""
        account.need_admin(access)
        with client.acting_session(access) as session:
            try:
                user = client.name_of(session, access) if access.settings.get("user") else ""
            except NotFound:
                user = ""
            client.drop_integration(session, client.integration_of(access), user)


class Consent:
    """A person's consent on Snowflake's own page, for one role."""

    def begin(self, access: Access, session: Mapping[str, str]) -> str:
        """The consent page, with state and PKCE. The integration must name this hub's callback address."""
        digest = hashlib.sha256(session["code_verifier"].encode()).digest()
        query = {
            "client_id": _client_id(access),
            "response_type": "code",
            "redirect_uri": session["redirect_uri"],
            "scope": tokens.scope(str(access.settings.get("role") or "")),
            "state": session["state"],
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        return f"{tokens.url(access.settings, '/oauth/authorize')}?{urlencode(query)}"

    def exchange(self, access: Access, session: Mapping[str, str], callback: str) -> bytes:
        """The raw token answer, with the client secret that was used. A code works once.

        The other secret is used, the one that no present pair has; where nobody may read it, the same one.
        """
        code = _code(callback, session)
        slot, secret = self._secret(access)
        used = {"client_id": _client_id(access), "client_secret": secret}
        fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", session["redirect_uri"]),
            ("code_verifier", session["code_verifier"]),
        ]
        try:
            answer = tokens.post(access, used, fields, changes=True)
        except CredentialRejected as error:
            if error.facts.get("code") != "invalid_grant":
                raise
            raise CredentialRejected(
                "Snowflake refuses the code of this consent",
                hint="Codes work once and for minutes: start the consent again.",
                **error.facts,
            ) from None
        return _sealed(slot, used, answer)

    def refresh(self, access: Access, material: Material) -> bytes:
        """The raw answer to a refresh: it shows that the pair works, and brings a refresh token where there is a new one."""
        answer = tokens.refresh(access, material, changes=True)
        held = {"client_id": material.get("client_id") or _client_id(access)}
        held |= {k: material.get(k, "") for k in ("client_secret", "refresh_token")}
        slot = material.get(_SLOT, "") or _slot_of(access, material)
        return _sealed(slot, {**held, "ends": material.get("refresh_token_ends", "")}, answer)

    def read(self, access: Access, receipt: bytes, previous: Material | None) -> Candidate:
        """The pair inside a raw answer. The access token is not kept: it is dead before anybody could lease it.

        Raises: UnexpectedAnswer.
        """
        del access, previous  # the receipt says with what it was asked
        opened = _opened(receipt, "slot", "answer", "client_id", "client_secret")
        try:
            body = base64.b64decode(opened["answer"], validate=True)
        except ValueError:
            raise UnexpectedAnswer("the receipt is damaged", operation="token-request") from None
        granted, at = tokens.read(body), float(opened.get("at") or 0.0)
        parts = {
            "client_id": opened["client_id"],
            "client_secret": opened["client_secret"],
        }
        slot = opened["slot"]
        if slot:
            parts[_SLOT] = slot
        kept = granted.refresh_token or opened.get("refresh_token", "")
        ends = opened.get("ends", "")
        if granted.refresh_life_s is not None:
            ends = str(int(at + granted.refresh_life_s))
        if kept:
            parts |= {"refresh_token": kept} | ({"refresh_token_ends": ends} if ends else {})
        place = _ref(slot, opened["client_secret"]) if slot else Ref()
        return Candidate(place, Material(parts, _PUBLIC), _instant(ends))

    def _secret(self, access: Access) -> tuple[str, str]:
        acting = access.acting or Material({})
        if access.admin is None and not acting.get("client_secret"):
            raise InvalidInput(
                "no client secret is known",
                hint="Give one, or an administrator who can read it.",
                field="client_secret",
            )
        integration = client.integration_of(access)
        try:
            with client.acting_session(access) as session:
                held = _secrets(session, integration)
                _must_be_enabled(session, integration)
        except (CredentialRejected, InvalidInput, PermissionMissing, NotFound):
            if access.admin is not None:
                raise
            # The grant is dead, or its role may not look: then the known secret serves the new grant as well.
            return acting.get(_SLOT, ""), acting["client_secret"]
        used = acting.get("client_secret")
        in_use = next((slot for slot, secret in held.values.items() if secret == used), "")
        free = [slot for slot in SECRET_SLOTS if slot != in_use]
        slot = in_use if in_use and access.settings.get("spare_secret") is False else free[0]
        return slot, held.values[slot]


def _refused(access: Access, code: str) -> Probe:
    """A definite no, unless an administrator sees that the integration is switched off: then the secret may be good."""
    if code == "invalid_client" and access.admin is not None:
        try:
            with client.acting_session(access) as session:
                _must_be_enabled(session, client.integration_of(access))
        except Conflict as error:
            return unknown("integration_disabled", f"{error.message}. {error.hint}")
        except KeyturnError:
            pass  # what the token endpoint said stands
    what = "client secret" if code == "invalid_client" else "refresh token"
    return rejected(code, f"Snowflake refuses the {what}")


def _must_be_enabled(session: Session, integration: str) -> None:
    if not client.is_enabled(session, integration):
        raise Conflict(
            f"the security integration {integration} is switched off",
            hint=f'Let an administrator run ALTER SECURITY INTEGRATION "{integration}" SET ENABLED = TRUE.',
        )


def _must_be_spare(access: Access, slot: str, held: client.Secrets) -> None:
    if access.settings.get("spare_secret") is False:
        raise Conflict(
            "the integration's other client secret is used by another program",
            hint="Give this connection an integration of its own, then set spare_secret.",
        )
    if access.acting is not None and access.acting.get("client_secret") == held.values[slot]:
        raise Conflict(f"{slot} is the secret in use", hint="Start a new run: it plans anew.", slot=slot)


def _slot_of(access: Access, material: Material) -> str:
    """The slot, looked up; empty where nobody may look. A pair that came from outside does not say it."""
    try:
        return ClientSecrets().locate(access, material).slot
    except KeyturnError:
        return ""


def _secrets(session: Session, integration: str) -> client.Secrets:
    return client.parse_secrets(client.client_secrets(session, integration))


def _client_id(access: Access) -> str:
    found = str(access.settings.get("client_id") or "")
    if not found:
        raise InvalidInput("the client id is missing", hint="Enter it.", field="client_id")
    return found


def _ref(slot: str, secret: str) -> Ref:
    return Ref(id=slot, slot=slot, fingerprint=client.fingerprint(secret))


def _named(ref: Ref) -> str:
    name = ref.slot or ref.id
    if name not in SECRET_SLOTS:
        raise InvalidInput(
            "not a client secret's slot", hint=f"There are {' and '.join(SECRET_SLOTS)}.", field="slot"
        )
    return name


def _code(callback: str, session: Mapping[str, str]) -> str:
    """The code in a callback address. The state is compared before anything else is believed. Raises: InvalidInput."""
    found = parse_qs(urlsplit(callback).query, keep_blank_values=True)

    def single(name: str) -> str:
        given = found.get(name, [])
        return given[0] if len(given) == 1 else ""

    wanted = session["state"]
    if not wanted or not hmac.compare_digest(single("state").encode(), wanted.encode()):
        raise InvalidInput(
            "this callback belongs to another or an older consent",
            hint="Start the consent again.",
            field="state",
        )
    if single("error"):
        declined = single("error") == "access_denied"
        raise InvalidInput(
            "the person declined" if declined else "Snowflake answered the consent with an error",
            hint="Start the consent again when they agree."
            if declined
            else "The role may be blocked for integrations, as ACCOUNTADMIN and SECURITYADMIN are.",
            field="callback",
        )
    if not single("code"):
        raise InvalidInput(
            "the callback holds no code", hint="Paste the whole address of the page.", field="callback"
        )
    return single("code")


def _sealed(slot: str, used: Mapping[str, str], answer: bytes) -> bytes:
    """A raw answer beside what it was asked with and when; nobody has looked into it."""
    whole = {**used, "slot": slot, "at": str(time.time()), "answer": base64.b64encode(answer).decode()}
    return json.dumps(whole).encode()


def _opened(receipt: bytes, *needed: str) -> dict[str, str]:
    try:
        found = json.loads(receipt)
    except (ValueError, RecursionError):
        found = None
    if (
        not isinstance(found, dict)
        or not all(isinstance(value, str) for value in found.values())
        or not all(name in found for name in needed)
    ):
        raise UnexpectedAnswer("the answer is not one of this method", operation="read")
    return found


def _instant(text: str | None) -> float | None:
    return float(text) if text and text.isdigit() else None

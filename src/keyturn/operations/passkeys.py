"""Passkeys: a device's key instead of a password, user verification required, so that it counts as both factors.

A challenge is not stored: it is signed for one browser and five minutes, and spent when it was answered.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput, NotFound, NotPermitted
from keyturn.operations import events, sessions
from keyturn.operations.sessions import SignedIn
from keyturn.storage import people
from keyturn.storage.database import Tx
from keyturn.storage.people import Account, Passkey

_LAST_S = 300.0
_MOST = 20


def are_possible(hub: Keyturn) -> bool:
    """Whether browsers allow them here: only under a name, and only over TLS or on localhost."""
    parts = urlsplit(hub.settings.public_url)
    name = parts.hostname or ""
    try:
        ip_address(name)
    except ValueError:
        return name == "localhost" or parts.scheme == "https"
    return False


def of(hub: Keyturn, account_id: str) -> list[Passkey]:
    """A person's passkeys."""
    return hub.store.read(lambda tx: people.passkeys(tx, account_id))


def _rp(hub: Keyturn) -> tuple[str, str]:
    """The name that keys are bound to, and the origin that pages are from."""
    parts = urlsplit(hub.settings.public_url)
    return parts.hostname or "", f"{parts.scheme}://{parts.netloc}"


def _challenge(hub: Keyturn, visit: str, purpose: str) -> bytes:
    until = int(time.time() + _LAST_S)
    body = until.to_bytes(8) + os.urandom(24)
    return body + _mac(hub, body, visit, purpose)


def _mac(hub: Keyturn, body: bytes, visit: str, purpose: str) -> bytes:
    said = body + hashlib.sha256(f"{purpose}:{visit}".encode()).digest()
    return hmac.digest(hub.roots.subkey("passkey"), said, "sha256")


def _answered(hub: Keyturn, answer: dict[str, Any], visit: str, purpose: str) -> bytes:
    """The challenge that was answered, once it is one of ours for this browser. Raises: NotPermitted."""
    try:
        client = json.loads(_bytes(answer["response"]["clientDataJSON"]))
        found = _bytes(client["challenge"])
    except (KeyError, TypeError, ValueError):
        raise NotPermitted("the answer of the browser cannot be read", field="passkey") from None
    body, mac = found[:32], found[32:]
    fresh = len(found) == 64 and time.time() < int.from_bytes(body[:8])
    if not fresh or not hmac.compare_digest(mac, _mac(hub, body, visit, purpose)):
        raise NotPermitted("that took too long", hint="Try again.", field="passkey")
    return found


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _read(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text[:20_000])
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NotPermitted("the answer of the browser cannot be read", field="passkey")
    return found


def _spend(hub: Keyturn, challenge: bytes) -> None:
    """A challenge is answered once. Raises: NotPermitted."""
    digest, now = hub.roots.token_digest("challenge:" + challenge.hex()), time.time()
    if not hub.store.write(lambda tx: people.spend(tx, digest, now, now + _LAST_S)):
        raise NotPermitted("this was answered already", hint="Try again.", field="passkey")


# -- adding ------------------------------------------------------------------------------------------------------------


def offer(hub: Keyturn, account: Account, visit: str) -> str:
    """What the browser needs to make one, as JSON. Raises: Conflict when there are too many."""
    import webauthn
    from webauthn.helpers import structs

    mine = of(hub, account.id)
    if len(mine) >= _MOST:
        raise Conflict(f"there are {_MOST} passkeys already", hint="Remove one first.")
    made = webauthn.generate_registration_options(
        rp_id=_rp(hub)[0],
        rp_name="Keyturn",
        user_id=account.id.encode(),
        user_name=account.login,
        user_display_name=account.name,
        challenge=_challenge(hub, visit, f"add:{account.id}"),
        authenticator_selection=structs.AuthenticatorSelectionCriteria(
            resident_key=structs.ResidentKeyRequirement.REQUIRED,
            user_verification=structs.UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[structs.PublicKeyCredentialDescriptor(id=_bytes(each.id)) for each in mine],
    )
    return str(webauthn.options_to_json(made))


def add(hub: Keyturn, account: Account, visit: str, text: str, name: str, *, address: str = "") -> None:
    """Keeps the public key of the browser's answer. Raises: NotPermitted, InvalidInput."""
    import webauthn
    from webauthn.helpers.exceptions import WebAuthnException

    name = " ".join(name.split()) or "Passkey"
    if len(name) > 60 or not name.isprintable():
        raise InvalidInput("a name has at most 60 characters", field="name")
    answer = _read(text)
    challenge = _answered(hub, answer, visit, f"add:{account.id}")
    rp_id, origin = _rp(hub)
    try:
        found = webauthn.verify_registration_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=rp_id,
            expected_origin=origin,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, TypeError, KeyError):
        raise NotPermitted("the passkey could not be checked", hint="Try again.", field="passkey") from None
    _spend(hub, challenge)
    made = Passkey(
        urlsafe_b64encode(found.credential_id).decode().rstrip("="),
        account.id,
        found.credential_public_key,
        found.sign_count,
        name,
        time.time(),
        None,
    )

    def work(tx: Tx) -> None:
        if people.passkey(tx, made.id) is not None:
            raise Conflict("this passkey is known already")
        people.add_passkey(tx, made)
        events.line("passkey_added", by=account.login, address=address, name=name)(tx)

    hub.store.write(work)


def remove(hub: Keyturn, account: Account, passkey_id: str, *, address: str = "") -> None:
    """Takes one away. Raises: NotFound."""

    def work(tx: Tx) -> None:
        if not people.drop_passkey(tx, account.id, passkey_id):
            raise NotFound("there is no such passkey")
        events.line("passkey_removed", by=account.login, address=address)(tx)

    hub.store.write(work)


# -- signing in --------------------------------------------------------------------------------------------------------


def ask(hub: Keyturn, visit: str) -> str:
    """What the browser needs to ask its person, as JSON. It names nobody."""
    import webauthn
    from webauthn.helpers import structs

    made = webauthn.generate_authentication_options(
        rp_id=_rp(hub)[0],
        challenge=_challenge(hub, visit, "sign in"),
        user_verification=structs.UserVerificationRequirement.REQUIRED,
    )
    return str(webauthn.options_to_json(made))


def sign_in(hub: Keyturn, visit: str, text: str, *, address: str = "", agent: str = "") -> SignedIn:
    """Signs in whoever's device answered. Raises: NotPermitted, after it was counted as a failure."""
    import webauthn
    from webauthn.helpers.exceptions import WebAuthnException

    if sessions.wait_s(hub, "(passkey)", address):
        raise NotPermitted("too many failed attempts", hint="Wait a while, then try again.", wait_s=1.0)
    rp_id, origin = _rp(hub)
    account: Account | None = None
    try:
        answer = _read(text)
        challenge = _answered(hub, answer, visit, "sign in")
        known = hub.store.read(lambda tx: people.passkey(tx, str(answer.get("id", ""))[:1400]))
        account = hub.store.read(lambda tx: people.by_id(tx, known.account_id)) if known else None
        if known is None or account is None:
            raise NotPermitted("this passkey is not known here", field="passkey")
        found = webauthn.verify_authentication_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=rp_id,
            expected_origin=origin,
            credential_public_key=known.public_key,
            credential_current_sign_count=known.uses,
            require_user_verification=True,
        )
        _spend(hub, challenge)
    except (WebAuthnException, ValueError, TypeError, KeyError, NotPermitted) as error:
        sessions.count_failure(hub, "(passkey)", address)
        by, why = (account.login if account else "(unknown)"), "passkey not accepted"
        events.note(hub, "sign_in_refused", by=by, address=address, why=why)
        if isinstance(error, NotPermitted):
            raise
        raise NotPermitted("the passkey was not accepted", hint="Try again.", field="passkey") from None
    hub.store.write(lambda tx: people.used_passkey(tx, known.id, found.new_sign_count, time.time()))
    return sessions.welcome(hub, account, "passkey", address=address, agent=agent)

"""Single sign-on by OpenID Connect: authorization code with PKCE, the ID token checked here, groups become roles.

An account belongs to the provider's issuer and subject, never to a name or an address that somebody can choose.
"""

from __future__ import annotations

import threading
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Any
from urllib.parse import quote, urlencode

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, KeyturnError, NotFound, NotPermitted, UnexpectedAnswer
from keyturn.model.ids import new_id
from keyturn.operations import events, sessions
from keyturn.operations.sessions import SignedIn, fresh, normal
from keyturn.settings import SignOn
from keyturn.storage import people
from keyturn.storage.database import Tx
from keyturn.storage.people import PERSON, Account
from keyturn.transport import http

BACK = "/sign-in/sso/back"
LAST_S = 600
_KEPT_S = 3600.0
_LEEWAY_S = 60
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


@dataclass(frozen=True)
class Begun:
    """Where to send the browser, and what it must bring back: kept in its own cookie."""

    url: str
    kept: Mapping[str, str]


def is_there(hub: Keyturn) -> bool:
    """Whether a provider is set up."""
    return hub.settings.sign_on is not None


def begin(hub: Keyturn, back: str) -> Begun:
    """Starts a sign-in. Raises: NotFound without a provider, VendorUnavailable when it gives no answer."""
    it = _provider(hub)
    kept = {"state": fresh(), "nonce": fresh(), "verifier": fresh(), "back": back}
    asked = {
        "response_type": "code",
        "client_id": it.client_id,
        "redirect_uri": _redirect(hub),
        "scope": it.scope,
        "state": kept["state"],
        "nonce": kept["nonce"],
        "code_challenge": urlsafe_b64encode(sha256(kept["verifier"].encode()).digest()).decode().rstrip("="),
        "code_challenge_method": "S256",
    }
    address = str(_discovered(hub, it)["authorization_endpoint"])
    return Begun(f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}", kept)


def finish(
    hub: Keyturn, kept: Mapping[str, str], answer: Mapping[str, str], *, address: str = "", agent: str = ""
) -> SignedIn:
    """The browser came back: the code is exchanged, the token checked, roles are given. Raises: NotPermitted."""
    it = _provider(hub)
    try:
        claims = _claims(hub, it, kept, answer)
        account = _account(hub, it, claims, address)
    except NotPermitted as error:
        events.note(
            hub, "sign_in_refused", by="(unknown)", address=address, how="single sign-on", why=error.message
        )
        raise
    return sessions.welcome(hub, account, "single sign-on", address=address, agent=agent)


def _provider(hub: Keyturn) -> SignOn:
    if hub.settings.sign_on is None:
        raise NotFound("there is no single sign-on on this hub")
    return hub.settings.sign_on


def _redirect(hub: Keyturn) -> str:
    return f"{hub.settings.public_url}{BACK}"


def _claims(
    hub: Keyturn, it: SignOn, kept: Mapping[str, str], answer: Mapping[str, str]
) -> Mapping[str, Any]:
    state = kept.get("state", "")
    if not state or not compare_digest(state.encode(), answer.get("state", "").encode()):
        raise NotPermitted(
            "the sign-in was not begun in this browser, or took too long", hint="Start it again."
        )
    if "error" in answer or not answer.get("code"):
        raise NotPermitted("the provider did not sign you in", hint="Try again, or ask whoever runs it.")
    if answer.get("iss", it.issuer) != it.issuer:  # RFC 9207: the answer of another provider
        raise NotPermitted("another provider answered")
    found = _discovered(hub, it)
    form = {
        "grant_type": "authorization_code",
        "code": answer["code"],
        "redirect_uri": _redirect(hub),
        "code_verifier": kept["verifier"],
        "client_id": it.client_id,
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if it.client_secret:
        login = f"{quote(it.client_id, safe='')}:{quote(it.client_secret, safe='')}"
        headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
    body = urlencode(form).encode()
    said = http.send(http.Request("POST", str(found["token_endpoint"]), headers, body), hub.settings.network)
    if said.status != 200:
        raise NotPermitted("the provider did not accept its own code", hint="Start it again.")
    return _checked(hub, it, str(said.json().get("id_token", "")), kept["nonce"])


def _checked(hub: Keyturn, it: SignOn, token: str, nonce: str) -> Mapping[str, Any]:
    """The claims of an ID token that is signed by the provider, for us, now, for this sign-in. Raises: NotPermitted."""
    from authlib.oidc.core import CodeIDToken
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import KeySet

    for again in (False, True):  # a key that is not known yet is looked for once
        try:
            keys = KeySet.import_key_set(_keys(hub, it, again=again))
            decoded = jwt.decode(token, keys, algorithms=_ALGORITHMS)
            break
        except (JoseError, ValueError, KeyError, TypeError, AttributeError):
            if again:
                raise NotPermitted("the provider's answer is not signed with its key") from None
    claims = CodeIDToken(
        decoded.claims,
        decoded.header,
        {"iss": {"essential": True, "value": it.issuer}, "aud": {"essential": True, "value": it.client_id}},
        {"nonce": nonce, "client_id": it.client_id},
    )
    try:
        claims.validate(now=int(time.time()), leeway=_LEEWAY_S)
    except (JoseError, ValueError, TypeError):
        raise NotPermitted("the provider's answer is not for this sign-in", hint="Start it again.") from None
    if not compare_digest(str(decoded.claims.get("nonce", "")).encode(), nonce.encode()):
        raise NotPermitted("the provider's answer is not for this sign-in", hint="Start it again.")
    return dict(decoded.claims)


def _account(hub: Keyturn, it: SignOn, claims: Mapping[str, Any], address: str) -> Account:
    """Whose it is, made at the first time, with the roles that their groups give now. Raises: NotPermitted."""
    groups = claims.get(it.claim, [])
    mine = {str(each) for each in groups} if isinstance(groups, list) else {str(groups)}
    held = sorted({(role, project) for group, role, project in it.roles if group in mine})
    subject = str(claims["sub"])
    mail = claims.get("email") if claims.get("email_verified") is True else None
    login = normal(str(mail or claims.get("preferred_username") or subject))[:80]
    name = " ".join(str(claims.get("name") or login).split())[:80]

    def work(tx: Tx) -> Account | None:
        known = people.linked(tx, it.issuer, subject)
        account = people.by_id(tx, known) if known else None
        if not held:
            if account is not None:  # what their groups gave before is taken away
                people.set_roles(tx, account.id, "sso", [])
                people.end_sessions(tx, account.id)
            return None
        if account is None:
            account = Account(
                new_id("acc"), PERSON, login, name, "", None, 0, time.time(), "single sign-on", None, None
            )
            if not people.add(tx, account):
                raise NotPermitted(
                    "there is an account of that name already, and it is not this one",
                    hint="An administrator of this hub gives the other account another name.",
                )
            people.link(tx, it.issuer, subject, account.id)
            events.line("account_made", by=login, address=address, how="single sign-on")(tx)
        before = [
            (role, project) for role, project, source in people.roles(tx, account.id) if source == "sso"
        ]
        if sorted(before) != held:
            people.set_roles(tx, account.id, "sso", held)
            said = ", ".join(role + (f" in {project}" if project else "") for role, project in held)
            events.line("roles_changed", by="single sign-on", on=account.login, roles=said)(tx)
        return account

    found = hub.store.write(work)
    if found is None:
        raise NotPermitted("none of your groups may use this hub", hint="Ask whoever runs it for a role.")
    return found


# -- what the provider says of itself ------------------------------------------------------------------------------------

_known: dict[str, tuple[float, Mapping[str, Any]]] = {}
_lock = threading.Lock()


def _discovered(hub: Keyturn, it: SignOn) -> Mapping[str, Any]:
    """Its metadata, kept for an hour. Raises: UnexpectedAnswer when it speaks for another issuer."""
    found = _get(hub, it.issuer.rstrip("/") + "/.well-known/openid-configuration")
    wanted = ("authorization_endpoint", "token_endpoint", "jwks_uri")
    if found.get("issuer") != it.issuer or not all(isinstance(found.get(each), str) for each in wanted):
        raise UnexpectedAnswer(
            "the provider of single sign-on speaks for another issuer",
            hint="KEYTURN_OIDC_ISSUER must be exactly what its metadata says.",
        )
    return found


def _keys(hub: Keyturn, it: SignOn, *, again: bool) -> Any:
    return _get(hub, str(_discovered(hub, it)["jwks_uri"]), again=again)


def _get(hub: Keyturn, url: str, *, again: bool = False) -> Mapping[str, Any]:
    now = time.monotonic()
    with _lock:
        at, found = _known.get(url, (0.0, {}))
    if found and now - at < (5.0 if again else _KEPT_S):  # a made-up key id must not make us ask all the time
        return found
    said = http.send(http.Request("GET", url, {"Accept": "application/json"}), hub.settings.network)
    data = said.json() if said.status == 200 else None
    if not isinstance(data, dict):
        raise UnexpectedAnswer("the provider of single sign-on gives no metadata", status=said.status)
    with _lock:
        _known[url] = (now, data)
    return data


def trouble(error: KeyturnError) -> str:
    """A failure at the provider, for the page of the door."""
    return error.message if isinstance(error, NotPermitted | Conflict) else "the provider gives no answer"

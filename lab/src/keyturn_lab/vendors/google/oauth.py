"""The token endpoint with its three grants, revocation, tokeninfo and userinfo. Pages for people live in `pages`.

Source: https://developers.google.com/identity/protocols/oauth2 and its pages on web servers and service accounts; requests
of google-auth 2.62.2 (checked 2026-11-23).
"""

import base64
import json
from typing import Any

from flask import Blueprint, Response, jsonify, request

from keyturn_lab.quirks import Kind
from keyturn_lab.standin import meets
from keyturn_lab.vendors.google.grants import AccessToken, Client, RefreshToken
from keyturn_lab.vendors.google.state import OTHER, World
from keyturn_lab.vendors.google.wire import EMAIL, PROFILE, SCOPES, caller, canonical

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
OPS = {JWT_BEARER: "assert", "authorization_code": "exchange", "refresh_token": "refresh"}
AUDIENCE = "https://oauth2.googleapis.com/token"
_LONGEST_S, _SKEW_S = 3600, 300


def op() -> str | None:
    """Which of its grants a call of the token endpoint asks for."""
    return OPS.get(request.form.get("grant_type", "")) if request.path == "/token" else None


def oauth(world: World) -> Blueprint:
    """The blueprint over one world."""
    api = Blueprint("oauth", __name__)

    def client() -> Client | Response:
        """By HTTP Basic or by the body: Google takes both."""
        basic = request.authorization
        name = (basic.username if basic else None) or request.form.get("client_id", "")
        secret = (basic.password if basic else None) or request.form.get("client_secret", "")
        found = world.clients.get(name)
        if found is None:
            return _refuse(401, "invalid_client", "The OAuth client was not found.")
        if found.state != "live":
            return _refuse(401, f"{found.state}_client", f"The OAuth client was {found.state}.")
        if not found.takes(secret):
            return _refuse(401, "invalid_client", "The provided client secret is invalid.")
        return found

    @api.post("/token")
    def token() -> Response:
        asked = op()
        if asked == "assert":
            return by_assertion()
        if asked is None:
            return _refuse(400, "unsupported_grant_type", "Invalid grant_type.")
        who = client()
        if isinstance(who, Response):
            return who
        form = request.form
        if asked == "exchange":
            pair = world.exchange(
                who, form.get("code", ""), form.get("redirect_uri", ""), form.get("code_verifier", "")
            )
            if pair is None:
                return _refuse(400, "invalid_grant", "Bad Request")
            return _tokens(world, *pair)
        if world.settings.invalid_rapt:
            answer = {"error": "invalid_grant", "error_description": "reauth related error (invalid_rapt)"}
            return _status(jsonify(answer | {"error_subtype": "invalid_rapt"}), 400)
        refreshed = world.refresh(who, form.get("refresh_token", ""))
        if refreshed is None or meets(Kind.REFUSE_VALUE):
            return _refuse(400, "invalid_grant", "Token has been expired or revoked.")
        access, kept = refreshed
        if not canonical(form.get("scope", "")) <= kept.scopes:
            return _refuse(400, "invalid_scope", "Some requested scopes were invalid.")
        return _tokens(world, access, None)

    def by_assertion() -> Response:
        said = _parts(request.form.get("assertion", ""))
        if said is None:
            return _refuse(400, "invalid_grant", "Bad Request")
        head, claims, signature, signed = said
        account = world.accounts.get(str(claims.get("iss")))
        if account is None or account.is_off:
            words = (
                "Robot is disabled."
                if world.settings.robot_is_disabled
                else "Invalid grant: account not found"
            )
            return _refuse(400, "invalid_grant", words)
        now = world.clock.now()
        key = account.keys.get(str(head.get("kid")))
        with world.lock:
            good = key is not None and key.works(now) and key.has_signed(signature, signed)
        # The same words for a dead key, for a wrong one and for one that is not known everywhere yet.
        if head.get("alg") != "RS256" or not good:
            return _refuse(400, "invalid_grant", "Invalid JWT Signature.")
        if not _is_timely(claims, now):
            words = (
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
            )
            return _refuse(400, "invalid_grant", f"{words} Check your iat and exp values in the JWT claim.")
        if claims.get("aud") not in {AUDIENCE, f"{request.host_url}token", request.base_url}:
            return _refuse(400, "invalid_grant", "Invalid JWT: Failed audience check.")
        scopes = canonical(str(claims.get("scope", "")))
        if not scopes or not scopes <= SCOPES:
            return _refuse(400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        access = world.issue_robot(account, scopes)
        return jsonify(access_token=access.value, expires_in=_left(world, access), token_type="Bearer")

    @api.post("/revoke")
    def revoke() -> Response:
        if not world.revoke(request.form.get("token", "") or request.args.get("token", "")):
            return _refuse(400, "invalid_token", "Token expired or revoked")
        return jsonify({})

    @api.get("/tokeninfo")
    def tokeninfo() -> Response:
        found = world.authenticate(request.args.get("access_token", ""))
        if found is None:
            return _refuse(400, "invalid_token", "Invalid Value")
        shape = {
            "azp": found.audience,
            "aud": found.audience,
            "scope": " ".join(sorted(found.scopes)),
            "exp": str(int(found.until_at)),
            "expires_in": str(_left(world, found)),
            "access_type": "offline" if found.grant else "online",
        }
        if found.grant is not None:
            shape["sub"] = found.grant.person.sub
            if EMAIL in found.scopes:
                shape |= {"email": found.grant.person.email, "email_verified": "true"}
        return jsonify(shape)

    @api.get("/oauth2/v2/userinfo")
    def userinfo() -> Response:
        found = caller(world, EMAIL, PROFILE, "openid")
        if isinstance(found, Response):
            return found
        person = found.grant.person if found.grant else world.people[OTHER]
        if meets(Kind.WRONG_IDENTITY):
            person = next(each for each in world.people.values() if each is not person)
        shape: dict[str, Any] = {"id": person.sub, "picture": "https://lh3.googleusercontent.com/a/default"}
        if EMAIL in found.scopes:
            shape |= {"email": person.email, "verified_email": True, "hd": "acme.example"}
        return jsonify(shape)

    return api


def _tokens(world: World, access: AccessToken, refresh: RefreshToken | None) -> Response:
    shape: dict[str, Any] = {
        "access_token": access.value,
        "expires_in": _left(world, access),
        "scope": " ".join(sorted(access.scopes)),
        "token_type": "Bearer",
    }
    return jsonify(shape | {"refresh_token": refresh.value} if refresh else shape)


def _left(world: World, token: AccessToken) -> int:
    return round(token.until_at - world.clock.now())


def _parts(assertion: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes] | None:
    """Header, claims, signature and what was signed; None when it is no JWT."""
    pieces = assertion.split(".")
    try:
        head, claims, signature = (
            base64.urlsafe_b64decode(piece + "=" * (-len(piece) % 4)) for piece in pieces
        )
        read = json.loads(head), json.loads(claims)
    except ValueError:
        return None
    if not all(isinstance(each, dict) for each in read):
        return None
    return *read, signature, ".".join(pieces[:2]).encode()


def _is_timely(claims: dict[str, Any], now: float) -> bool:
    iat, exp = claims.get("iat"), claims.get("exp")
    if not isinstance(iat, int | float) or not isinstance(exp, int | float):
        return False
    return (
        now - _LONGEST_S - _SKEW_S < iat <= now + _SKEW_S and now < exp + _SKEW_S and exp - iat <= _LONGEST_S
    )


def _refuse(status: int, error: str, description: str) -> Response:
    return _status(jsonify(error=error, error_description=description), status)


def _status(answer: Response, status: int) -> Response:
    answer.status_code = status
    return answer

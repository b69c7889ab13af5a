"""The calls on OAuth grants (S7): consent by a person, exchange, refresh with rotation and leeway, revocation."""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

from keyturn_lab import guard

from .faults import Twist
from .keys import end_one, end_siblings
from .principal import Credential, No, Principal, Token

CODE_TTL_S = 60.0
Request = Mapping[str, Any]


def consent(p: Principal, r: Request, now: float, twist: Twist) -> Any:
    """A person agrees in the browser: a code that works once."""
    code = guard.mint("oauth_code")
    p.codes[code] = {
        "challenge": str(r.get("challenge", "")),
        "redirect_uri": str(r.get("redirect_uri", "")),
        "rights": tuple(r.get("rights", p.options.rights)),
        "is_offline": bool(r.get("offline", True)),
        "foreign": twist.foreign,
        "until": now + CODE_TTL_S,
        "grant": None,
    }
    p.note("consent", r["by"], now, None)
    return {"code": code}


def exchange(p: Principal, r: Request, now: float, twist: Twist) -> Any:
    """Trades a code for a new grant's tokens."""
    code = p.codes.get(str(r["code"]))
    if code is None or now >= code["until"]:
        raise No("invalid_grant", 400, why="code")
    if code["grant"] is not None:
        if p.options.reuse_kills:
            p.end(code["grant"], now)
            p.note("reuse", r["by"], now, code["grant"])
        raise No("invalid_grant", 400, why="code used")
    if code["challenge"] and _challenge(str(r.get("verifier", ""))) != code["challenge"]:
        raise No("invalid_grant", 400, why="verifier")
    if code["redirect_uri"] != str(r.get("redirect_uri", "")):
        raise No("invalid_grant", 400, why="redirect_uri")
    twist = Twist(lag_s=twist.lag_s, foreign=twist.foreign or code["foreign"])
    earlier = list(p.living())
    grant = start(p, r["by"], now, twist, rights=code["rights"], is_offline=code["is_offline"])
    code["grant"] = grant
    p.note("exchange", r["by"], now, grant)
    if p.options.new_kills_old:
        for each in earlier:
            p.end(each, now, lag_s=twist.lag_s)
            p.note("exchange", r["by"], now, each, collateral=True)
    return _answer(p, grant, now, twist.lag_s, refresh=grant.value)


def start(
    p: Principal, by: str, now: float, twist: Twist, *, rights: tuple[str, ...], is_offline: bool = True
) -> Credential:
    """A grant with a refresh token (unless it is not offline) and no access token yet."""
    grant = p.add("", by, now, twist, rights=rights)
    # A spent placeholder keeps "has tokens" true for a grant without a refresh token.
    grant.tokens[""] = Token("none", now, until=now)
    if is_offline:
        grant.value = guard.mint("refresh_token")
        grant.tokens[grant.value] = Token("refresh", now)
    return grant


def _answer(p: Principal, grant: Credential, now: float, lag_s: float, *, refresh: str) -> dict[str, Any]:
    access = guard.mint("access_token")
    until = now + p.options.access_ttl_s
    grant.tokens[access] = Token("access", now + lag_s, until)
    said = {
        "grant_id": grant.id,
        "access_token": access,
        "expires_in": p.options.access_ttl_s,
        "expires_at": until,
        "scope": " ".join(grant.rights),
    }
    return {**said, "refresh_token": refresh} if refresh else said


def first_answer(p: Principal, grant: Credential, now: float) -> dict[str, Any]:
    """The tokens of a grant made by `create`."""
    return _answer(p, grant, now, 0.0, refresh=grant.value)


def refresh(p: Principal, r: Request, now: float, twist: Twist) -> Any:
    """Trades a refresh token for fresh ones; a spent one gets the newest pair again within the leeway."""
    value = str(r["value"])
    grant = _holder(p, value)
    token = grant.tokens[value] if grant else None
    if grant is None or token is None or token.kind != "refresh" or now >= grant.usable_until:
        raise No("invalid_grant", 400, why="refresh_token")
    if now >= token.until:
        if p.options.reuse_kills:
            p.end(grant, now)
            p.note("reuse", r["by"], now, grant)
        raise No("invalid_grant", 400, why="refresh_token spent")
    told = ""
    if p.options.rotates:
        if not token.is_spent:
            token.is_spent, token.until = True, now + p.options.leeway_s
            grant.value = guard.mint("refresh_token")
            grant.tokens[grant.value] = Token("refresh", now)
        told = grant.value
    p.note("refresh", r["by"], now, grant)
    return _answer(p, grant, now, twist.lag_s, refresh=told)


def revoke(p: Principal, r: Request, now: float, twist: Twist) -> Any:
    """Ends the grant a token belongs to, and with the scope `grant` all of them; an unknown token is fine."""
    grant = _holder(p, str(r["value"]))
    if grant is None or grant.ended_at is not None:
        p.note("revoke", r["by"], now, grant, changed=False)
        return {"gone": True}
    done = end_one("revoke", p, grant, r["by"], now, twist)
    if p.options.revoke_scope == "grant" and not grant.is_foreign:
        end_siblings("revoke", p, r["by"], now, twist)
    return done


def _holder(p: Principal, value: str) -> Credential | None:
    return next((c for c in p.credentials if value and value in c.tokens), None)


def _challenge(verifier: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()

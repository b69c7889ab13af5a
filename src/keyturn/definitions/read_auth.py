"""Reads the `auth` block of every kind."""

from __future__ import annotations

from keyturn.definitions.auth import (
    Auth,
    Basic,
    Granted,
    Login,
    NoAuth,
    OAuth,
    Placed,
    Refresh,
    TokenAnswer,
    TokenRevoke,
)
from keyturn.definitions.cursor import EMPTY, Cursor
from keyturn.definitions.expressions import Template, compile_template
from keyturn.definitions.jsonpath import compile_path
from keyturn.definitions.model import Extract, Placement, RequestSpec
from keyturn.definitions.read_request import (
    need_path,
    read_condition,
    read_errors,
    read_extract,
    read_path,
    read_request,
)

KINDS = ("none", "api_key", "basic", "bearer", "oauth2_cc", "oauth2_code", "login")
_OAUTH = (
    "kind",
    "token_url",
    "client_id",
    "client_secret",
    "client_auth",
    "body_format",
    "params",
    "headers",
    "scope",
    "scope_separator",
    "audience",
    "resource",
    "response",
    "default_ttl_s",
    "expiry_skew_s",
    "reuse_same_token_ok",
    "errors",
    "place",
    "revoke",
    "allow_secret_in_url",
)
_CODE = (
    "authorize_url",
    "authorize_params",
    "pkce",
    "redirect_uri",
    "verify_iss",
    "refresh",
    "granted_resource",
    "grant_shared_per_user_and_app",
)
_PLACES = ("header", "query", "cookie", "form", "json")


def read_auth(at: Cursor) -> Auth:
    """The block's kind decides which keys it has."""
    kind = at.choice("kind", KINDS)
    if not kind:
        at.refuse("has no kind", f"Add `kind:` with one of {', '.join(KINDS)}.")
        return NoAuth()
    if kind == "none":
        at.keys("kind")
        return NoAuth()
    if kind == "api_key":
        at.keys("kind", "place", "allow_secret_in_url", required=("place",))
        return Placed(kind, _place(at), at.flag("allow_secret_in_url"))
    if kind == "bearer":
        at.keys("kind", "token", "prefix", required=("token",))
        prefix = at.text("prefix", "Bearer")
        token = at.template("token") or EMPTY
        pieces = (f"{prefix} ", *token.pieces) if prefix else token.pieces
        return Placed(kind, (Placement("header", "Authorization", Template(pieces)),))
    if kind == "basic":
        at.keys("kind", "username", "password", "encoding", required=("username",))
        encoding = at.choice("encoding", ("utf-8", "latin-1"), "utf-8")
        return Basic(at.template("username") or EMPTY, at.template("password") or EMPTY, encoding)
    if kind == "login":
        return _login(at)
    return _oauth(at, kind)


def _place(at: Cursor, key: str = "place") -> tuple[Placement, ...]:
    found = []
    for item in at.items(key):
        item.keys("in", "name", "path", "format", required=("in", "format"))
        name = item.text("name") or item.text("path")
        if not name:
            item.refuse("has neither name nor path", "Name the header, parameter, cookie or field.")
        found.append(Placement(item.choice("in", _PLACES, "header"), name, item.template("format") or EMPTY))
    return tuple(found)


def _login(at: Cursor) -> Login:
    at.keys("kind", "request", "extract", "ttl_s", "place", required=("request", "extract", "place"))
    request, extract = at.get("request"), at.get("extract")
    extract = extract.keys("token", required=("token",)) if extract is not None else None
    token = read_extract(extract.get("token")) if extract is not None else None
    return Login(
        request=read_request(request) if request is not None else RequestSpec("POST"),
        token=token or Extract(json=compile_path("$.token")),
        place=_place(at),
        ttl_s=at.number("ttl_s", 3600.0),
    )


def _oauth(at: Cursor, kind: str) -> OAuth:
    code = kind == "oauth2_code"
    at.keys(*_OAUTH, *(_CODE if code else ()), required=("token_url", *(("authorize_url",) if code else ())))
    if at.text("client_auth") == "private_key_jwt":
        at.refuse(
            "private_key_jwt is not interpreted yet", "Use post or basic, or ask for a connector in code."
        )
    scope = "admin" if code else "secret"
    revoke = at.get("revoke")
    extra = tuple((k, t) for k in ("audience", "resource") if (t := at.template(k)) is not None)
    return OAuth(
        kind=kind,
        token_url=at.template("token_url") or EMPTY,
        client_id=at.template("client_id") or compile_template(f"${{{scope}.client_id}}"),
        client_secret=at.template("client_secret")
        or compile_template(f"${{{scope}.client_secret|default('')}}"),
        client_auth=at.choice(
            "client_auth", ("basic", "basic_raw", "post", "none", "private_key_jwt"), "basic"
        ),
        body_format=at.choice("body_format", ("form", "json"), "form"),
        response=_response(at.get("response")),
        params=(*extra, *at.templates("params")),
        headers=at.templates("headers"),
        scope=at.texts("scope"),
        scope_separator=at.text("scope_separator", " "),
        default_ttl_s=at.number("default_ttl_s", 3600.0),
        expiry_skew_s=at.number("expiry_skew_s"),
        errors=read_errors(at),
        place=_place(at),
        authorize_url=at.template("authorize_url") if code else None,
        authorize_params=at.templates("authorize_params") if code else (),
        pkce=at.choice("pkce", ("S256", "off"), "S256") if code else "off",
        verify_iss=at.text("verify_iss") if code else "",
        refresh=_refresh(at.get("refresh")) if code else Refresh(),
        granted=_granted(at.get("granted_resource")) if code else None,
        grant_shared=at.flag("grant_shared_per_user_and_app") if code else False,
        revoke=_revoke(revoke) if revoke is not None else None,
    )


def _response(at: Cursor | None) -> TokenAnswer:
    if at is not None:
        at.keys(
            "access_token",
            "token_type",
            "expires_in",
            "expires_unit",
            "expires_at",
            "expires_at_format",
            "refresh_token",
            "scope",
        )
    found = {
        key: (read_path(at, key) if at is not None else None) or compile_path(f"$.{key}")
        for key in ("access_token", "refresh_token", "expires_in", "scope")
    }
    return TokenAnswer(
        **found,
        expires_unit=at.choice("expires_unit", ("s", "ms"), "s") if at is not None else "s",
        expires_at=read_path(at, "expires_at") if at is not None else None,
        expires_at_format=at.choice("expires_at_format", ("unix", "ms", "iso"), "unix")
        if at is not None
        else "unix",
    )


def _refresh(at: Cursor | None) -> Refresh:
    if at is None:
        return Refresh()
    at.keys(
        "url",
        "params",
        "rotates",
        "keep_old_if_absent",
        "reuse_leeway_s",
        "idle_days",
        "absolute_days",
        "before_test",
        "single_flight",
    )
    if not at.flag("single_flight", True):
        at.refuse("refreshes are always single-flight", "Remove the line.")
    if at.flag("before_test") and at.text("rotates") != "never":
        at.refuse("a test must not use up a refresh token", "before_test goes with rotates: never only.")
    return Refresh(
        url=at.template("url"),
        params=at.templates("params"),
        rotates=at.choice("rotates", ("always", "sometimes", "never")),
        keep_old_if_absent=at.flag("keep_old_if_absent", True),
        reuse_leeway_s=at.number("reuse_leeway_s"),
        idle_days=at.number("idle_days"),
        absolute_days=at.number("absolute_days"),
        before_test=at.flag("before_test"),
    )


def _granted(at: Cursor | None) -> Granted | None:
    if at is None:
        return None
    at.keys(
        "request", "list", "id", "label", "rights", "where", "choose", "chosen_by", required=("request", "id")
    )
    at.choice("choose", ("ask_if_many",))
    request, where = at.get("request"), at.get("where")
    return Granted(
        request=read_request(request) if request is not None else RequestSpec("GET"),
        list=read_path(at, "list") or compile_path("$"),
        id=need_path(at, "id"),
        label=read_path(at, "label"),
        rights=read_path(at, "rights"),
        where=read_condition(where) if where is not None else None,
        chosen_by=at.text("chosen_by"),
    )


def _revoke(at: Cursor) -> TokenRevoke:
    at.keys("url", "token", required=("url",))
    return TokenRevoke(
        at.template("url") or EMPTY, at.choice("token", ("refresh_token", "access_token"), "refresh_token")
    )

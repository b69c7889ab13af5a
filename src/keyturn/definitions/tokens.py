"""Signs calls: places the parts, or first trades them for a token. Nothing is kept between two capability calls."""

from __future__ import annotations

import json
from urllib.parse import quote, quote_plus, urlencode

from keyturn.definitions.auth import Basic, Login, NoAuth, OAuth
from keyturn.definitions.auth import Placed as PlacedAuth
from keyturn.definitions.calls import Caller, Placed, basic, build, whole_url
from keyturn.definitions.classify import Reading, Refused, read, succeeded
from keyturn.definitions.expressions import ValueMissing
from keyturn.definitions.extraction import one
from keyturn.definitions.model import Condition, Placement, RequestSpec
from keyturn.definitions.scopes import Values
from keyturn.errors import UnexpectedAnswer
from keyturn.transport.http import Answer, Request

_GOOD = (Condition(status_from=200, status_to=299),)


def sign(caller: Caller, scopes: Values, spec: RequestSpec | None = None) -> tuple[Placed, ...]:
    """The placed credential for a request. Raises: Refused when a token was refused."""
    if spec is not None and not spec.auth:
        return ()
    auth = (spec.signed_as if spec is not None else None) or caller.definition.auth
    if isinstance(auth, NoAuth):
        return ()
    if isinstance(auth, PlacedAuth):
        return place(auth.place, scopes)
    if isinstance(auth, Basic):
        value = basic(auth.username.render(scopes), auth.password.render(scopes), auth.encoding)
        return (Placed("header", "Authorization", value),)
    if isinstance(auth, Login):
        scopes["step"] = {"login.token": _log_in(caller, auth, scopes)}
        return place(auth.place, scopes)
    if not isinstance(auth, OAuth):  # unreachable: the reader makes no other block
        raise TypeError(type(auth).__name__)
    if auth.kind == "oauth2_cc":
        scopes["oauth"] = {"access_token": _client_token(caller, auth, scopes)}
    else:
        scopes["oauth"] = _of_grant(caller, auth, scopes)
    return place(auth.place, scopes) if auth.place else _bearer(scopes)


def place(entries: tuple[Placement, ...], scopes: Values) -> tuple[Placed, ...]:
    """Each placement with its value."""
    return tuple(Placed(e.where, e.name, e.format.render(scopes)) for e in entries)


def _bearer(scopes: Values) -> tuple[Placed, ...]:
    token = scopes["oauth"].get("access_token")
    if not token:
        raise ValueMissing("secret.access_token")
    return (Placed("header", "Authorization", f"Bearer {token}"),)


def _log_in(caller: Caller, auth: Login, scopes: Values) -> str:
    answer = caller.send(build(caller.definition, auth.request, scopes, ()), changes=False)
    if not succeeded(answer, _GOOD):
        rules = [r for r in caller.definition.errors if r.when.phase in {"", "login"}]
        raise Refused(read(answer, rules, "login"))
    return one(auth.token, answer, scopes, "session token")


def _client_token(caller: Caller, auth: OAuth, scopes: Values) -> str:
    fields = [("grant_type", "client_credentials")]
    if auth.scope:
        fields.append(("scope", auth.scope_separator.join(auth.scope)))
    answer = token_call(caller, auth, scopes, fields, "token", changes=False)
    found = auth.response.access_token.select(answer.json())
    if len(found) != 1 or not isinstance(found[0], str) or not found[0]:
        raise UnexpectedAnswer(f"{answer.host} answered without an access token", status=answer.status)
    return found[0]


def _of_grant(caller: Caller, auth: OAuth, scopes: Values) -> dict[str, str]:
    """The access token as it is held; or, where a refresh changes nothing, a fresh one, so that the grant itself is proven:
    a held token works for a while after its grant is dead. `scope` is what the vendor says it holds."""
    held = scopes["secret"]
    if not auth.refresh.before_test:
        return {k: held[k] for k in ("access_token",) if k in held}
    if "refresh_token" not in held:
        raise ValueMissing("secret.refresh_token")
    fields = [("grant_type", "refresh_token"), ("refresh_token", held["refresh_token"])]
    answer = token_call(caller, auth, scopes, fields, "refresh", changes=False)
    body = answer.json()
    token, scope = auth.response.access_token.select(body), auth.response.scope.select(body)
    if len(token) != 1 or not isinstance(token[0], str) or not token[0]:
        raise UnexpectedAnswer(f"{answer.host} answered without an access token", status=answer.status)
    told = scope[0] if scope and isinstance(scope[0], str) else ""
    return {"access_token": token[0], **({"scope": told} if told else {})}


def token_call(
    caller: Caller, auth: OAuth, scopes: Values, fields: list[tuple[str, str]], phase: str, *, changes: bool
) -> Answer:
    """A call of the token endpoint as our client. Raises: Refused."""
    template = auth.refresh.url if phase == "refresh" and auth.refresh.url is not None else auth.token_url
    extra = auth.refresh.params if phase == "refresh" else ()
    fields = [*fields, *((k, t.render(scopes)) for k, t in (*auth.params, *extra))]
    answer = caller.send(client_request(auth, scopes, whole_url(template, scopes), fields), changes=changes)
    if succeeded(answer, _GOOD):
        return answer
    raise Refused(token_reading(caller, auth, answer, phase), changes=changes, own_client=auth.own_client())


def token_reading(caller: Caller, auth: OAuth, answer: Answer, phase: str) -> Reading:
    """The class of a token endpoint's refusal; a definition's general rules speak of other endpoints."""
    stated = [r for r in caller.definition.errors if r.when.phase in {"token", "refresh"}]
    return read(answer, [*auth.errors, *stated], phase, oauth=True)


def client_request(auth: OAuth, scopes: Values, url: str, fields: list[tuple[str, str]]) -> Request:
    """A POST that carries our client's id and secret as the definition says."""
    headers = {"Accept": "application/json", **{k: t.render(scopes) for k, t in auth.headers}}
    client_id = auth.client_id.render(scopes)
    if auth.client_auth in {"basic", "basic_raw"}:
        secret = auth.client_secret.render(scopes)
        # RFC 6749 section 2.3.1 wants both form-encoded first; many servers do not decode, hence basic_raw.
        pair = (
            (client_id, secret)
            if auth.client_auth == "basic_raw"
            else (quote_plus(client_id), quote_plus(secret))
        )
        headers["Authorization"] = basic(*pair)
    else:
        fields = [*fields, ("client_id", client_id)]
        if auth.client_auth == "post":
            fields.append(("client_secret", auth.client_secret.render(scopes)))
    if auth.body_format == "json":
        headers["Content-Type"] = "application/json"
        return Request("POST", url, headers, json.dumps(dict(fields)).encode())
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    return Request("POST", url, headers, urlencode(fields, quote_via=quote).encode())

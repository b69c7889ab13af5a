"""The OAuth server as the standards ask for it: Authlib reads and judges requests, `oauth` says what becomes of them.

Sources, checked 2026-11-23: RFC 6749 (framework), RFC 7636 (PKCE), RFC 7009 (revocation), RFC 7662 (introspection),
RFC 8414 (metadata), RFC 9207 (issuer in the answer), RFC 9700 (current practice: PKCE for everybody, exact callbacks,
rotating refresh tokens, neither implicit nor password grant).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from authlib.common.urls import add_params_to_uri
from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    InvalidGrantError,
    InvalidRequestError,
    OAuth2Error,
    OAuth2Payload,
    OAuth2Request,
    UnauthorizedClientError,
)
from authlib.oauth2.rfc6749 import grants as flows
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata

from keyturn.issued.book import Code
from keyturn.issued.oauth import Client, OauthBook, Pair
from keyturn.keymaking import passwords
from keyturn.storage import oauth as rows
from keyturn.storage.database import Tx
from keyturn.storage.oauth import ACCESS, Grant, Token

AUTHORIZE, TOKEN, REVOKE, INTROSPECT = (
    "/oauth/authorize",
    "/oauth/token",
    "/oauth/revoke",
    "/oauth/introspect",
)
METADATA = "/.well-known/oauth-authorization-server"
SCOPES = ("read", "write", "bulk", "events:write", "lease", "introspect")
INTROSPECT_ANY = "introspect"  # whose client may ask about tokens of others
MOST_FORM, MOST_VALUE, MOST_PARAMETERS = 16 * 1024, 4096, 40
_SECRET_METHODS = ["client_secret_basic", "client_secret_post"]
_METHODS = [*_SECRET_METHODS, "none"]
_VISIBLE = re.compile(r"[\x20-\x7e]*")  # RFC 6749 appendix A
_SAYS = {
    "invalid_request": "a parameter is missing, repeated or malformed",
    "invalid_client": "the client is unknown or did not show a secret that is let in",
    "invalid_grant": "the code or refresh token is wrong, used, expired or another client's",
    "unauthorized_client": "this client may not do that, or not from here",
    "unsupported_grant_type": "this hub does not offer that grant type",
    "unsupported_response_type": "only response_type=code is offered",
    "unsupported_token_type": "only access_token and refresh_token are known",
    "invalid_scope": "a scope is unknown or wider than what the client may have",
    "access_denied": "the person or the hub said no",
    "insecure_transport": "this hub must be asked over TLS",
}


@dataclass(frozen=True)
class Caller:
    """Where a request comes from, as the server was told to believe."""

    address: str = ""
    agent: str = ""


@dataclass(frozen=True)
class Answer:
    """What goes back. `failed` names who could not show who they are, or guessed a token: for the limit of attempts."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    failed: bool = False


@dataclass(frozen=True)
class Ask:
    """An application's request that a person is to answer. `named`: its callback as it was asked for, empty when it relied on
    its only one."""

    client: Client
    redirect_uri: str
    named: str
    scopes: str
    state: str
    challenge: str


@dataclass(frozen=True)
class Back:
    """Where the browser is sent, with an error or with a code in it."""

    url: str


class NotOurs(Exception):
    """No such client, or not its callback: shown to the person, never sent anywhere (RFC 6749 4.1.2.1)."""


class _Payload(OAuth2Payload):  # type: ignore[misc]
    def __init__(self, found: Mapping[str, list[str]]) -> None:
        self._found = found

    @property
    def data(self) -> dict[str, str]:
        return {name: values[0] for name, values in self._found.items()}

    @property
    def datalist(self) -> defaultdict[str, list[str]]:
        return defaultdict(list, self._found)


class _Request(OAuth2Request):  # type: ignore[misc]
    """A request as Authlib reads it: POST with a form, or GET with a query. Values only ever come from one of the two."""

    def __init__(
        self, method: str, uri: str, found: Mapping[str, list[str]], authorization: str, caller: Caller
    ) -> None:
        super().__init__(method, uri, headers={"Authorization": authorization} if authorization else {})
        self.payload = _Payload(found)
        self.caller = caller
        self.tried_basic = bool(authorization)

    @property
    def form(self) -> dict[str, str]:
        return self.payload.data if self.method == "POST" else {}

    @property
    def args(self) -> dict[str, str]:
        return self.payload.data if self.method == "GET" else {}


class _Client:
    """A client in the words of Authlib's ClientMixin."""

    def __init__(self, client: Client) -> None:
        self.own = client

    def get_client_id(self) -> str:
        return self.own.id

    def get_default_redirect_uri(self) -> str:
        """Only where there is no choice (RFC 6749 3.1.2.3)."""
        callbacks = self.own.terms.callbacks
        return callbacks[0] if len(callbacks) == 1 else ""

    def get_allowed_scope(self, scope: str | None) -> str | None:
        asked = " ".join(dict.fromkeys((scope or "").split())) or " ".join(
            sorted(self.own.terms.grants.scopes)
        )
        return asked if self.own.covers(asked) else None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return self.own.allows(redirect_uri)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:  # noqa: ARG002 - Authlib's signature
        return (method == "none") == self.own.terms.is_public

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code" and "authorization_code" in self.own.kind.flows

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.own.kind.flows


class _Code:
    """A code in the words of Authlib's AuthorizationCodeMixin."""

    def __init__(self, code: rows.Code, grant: Grant) -> None:
        self.own, self.grant = code, grant
        self.code_challenge, self.code_challenge_method = code.challenge, "S256"

    def get_redirect_uri(self) -> str:
        return self.grant.redirect_uri

    def get_scope(self) -> str:
        return self.grant.scopes


class _Token:
    """A token in the words of Authlib's TokenMixin."""

    def __init__(self, token: Token, grant: Grant | None = None) -> None:
        self.own, self.grant = token, grant
        self.asked_by = ""

    def check_client(self, client: _Client) -> bool:
        return self.own.client_id == client.own.id

    def get_scope(self) -> str:
        return self.grant.scopes if self.grant is not None else self.own.scopes


class _ClientCredentials(flows.ClientCredentialsGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = _SECRET_METHODS

    def create_token_response(self) -> Any:
        scopes = self.request.client.get_allowed_scope(self.request.payload.scope)
        if scopes is None:
            raise _error("invalid_scope")
        value = passwords.token("t")
        client: Client = self.request.client.own
        self.server.book.mint(client, value, scopes)
        return 200, _shown(Pair(value, client.terms.lifetime_s, scopes)), []


class _AuthorizationCode(flows.AuthorizationCodeGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = _METHODS

    def generate_authorization_code(self) -> str:
        return ""  # made together with its grant, in one commit

    def query_authorization_code(self, code: str, client: _Client) -> _Code | None:
        found = self.server.book.find_code(code, client.own)
        return _Code(*found) if found is not None else None

    def create_token_response(self) -> Any:
        code: _Code = self.request.authorization_code
        pair = self.server.book.redeem(self.request.client.own, code.own, code.grant)
        if pair is None:
            raise InvalidGrantError
        return 200, _shown(pair), []


class _Pkce(CodeChallenge):  # type: ignore[misc]
    """S256 for every client; Authlib asks it of public ones only, and knows `plain`."""

    SUPPORTED_CODE_CHALLENGE_METHOD: Sequence[str] = ["S256"]
    DEFAULT_CODE_CHALLENGE_METHOD = "S256"

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        data = grant.request.payload.data
        if not data.get("code_challenge") or data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("code_challenge with code_challenge_method=S256 is required")
        if not re.fullmatch(r"[A-Za-z0-9_-]{43}", data["code_challenge"]):  # 32 bytes in base64url
            raise InvalidRequestError
        super().validate_code_challenge(grant, redirect_uri)


class _RefreshToken(flows.RefreshTokenGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = _METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> _Token | None:
        found = self.server.book.refresh_token(refresh_token, self.request.client.own)
        return _Token(*found) if found is not None else None

    def create_token_response(self) -> Any:
        token: _Token = self.request.refresh_token
        assert token.grant is not None
        asked = dict.fromkeys((self.request.payload.scope or token.get_scope()).split())
        scopes = " ".join(each for each in asked if self.request.client.own.covers(each))
        if not scopes:
            raise _error("invalid_scope")
        presented = self.request.form["refresh_token"]
        pair = self.server.book.refresh(self.request.client.own, presented, token.own, token.grant, scopes)
        if pair is None:
            raise InvalidGrantError
        return 200, _shown(pair), []


class _Revocation(RevocationEndpoint):  # type: ignore[misc]
    CLIENT_AUTH_METHODS = _METHODS

    def query_token(self, token_string: str, token_type_hint: str) -> _Token | None:  # noqa: ARG002 - the value tells
        found = self.server.book.find(token_string)
        return _Token(found) if found is not None else None

    def revoke_token(self, token: _Token, request: _Request) -> None:  # noqa: ARG002 - Authlib's signature
        self.server.book.revoke(token.own)


class _Introspection(IntrospectionEndpoint):  # type: ignore[misc]
    CLIENT_AUTH_METHODS = _SECRET_METHODS

    def query_token(self, token_string: str, token_type_hint: str) -> _Token | None:  # noqa: ARG002 - the value tells
        found = self.server.book.find(token_string)
        return _Token(found) if found is not None else None

    def check_permission(self, token: _Token, client: _Client, request: _Request) -> bool:  # noqa: ARG002
        token.asked_by = client.own.name
        return token.check_client(client) or client.own.terms.grants.covers(INTROSPECT_ANY)

    def create_introspection_payload(self, token: _Token | None) -> dict[str, Any]:
        found = self.server.book.standing(token.own) if token is not None else None
        if token is None or found is None or not found.accepted:
            return {"active": False}
        own = token.own
        # Whoever asks serves a call with it: for the drain this is a use of the secret behind it.
        self.server.book.book.note(found, agent=f"introspected by {token.asked_by}")
        return {
            "active": True,
            "scope": " ".join(each for each in own.scopes.split() if each in found.scopes),
            "client_id": own.client_id,
            **({"token_type": "Bearer"} if own.kind == ACCESS else {}),
            "exp": int(own.expires_at),
            "iat": int(own.issued_at),
            "sub": found.subject or own.client_id,
            "aud": self.server.issuer,
            "iss": self.server.issuer,
            "jti": own.id,
        }


class OauthServer(AuthorizationServer):  # type: ignore[misc]
    """One hub's OAuth server. `issuer` is the hub's public address. Safe to use from several threads."""

    def __init__(self, book: OauthBook, issuer: str) -> None:
        super().__init__()
        self.book, self.issuer = book, issuer
        self.register_client_auth_method("client_secret_basic", self._by_basic)
        self.register_client_auth_method("client_secret_post", self._by_form)
        self.register_client_auth_method("none", self._public)
        self.register_grant(_ClientCredentials)
        self.register_grant(_AuthorizationCode, [_Pkce(required=True)])
        self.register_grant(_RefreshToken)
        self.register_endpoint(_Revocation(self))
        self.register_endpoint(_Introspection(self))

    # -- the endpoints -------------------------------------------------------------------------------------------------

    def metadata(self) -> dict[str, Any]:
        """The document of RFC 8414. Raises: ValueError when the hub's address is not fit for it (no TLS)."""
        made = AuthorizationServerMetadata(
            issuer=self.issuer,
            authorization_endpoint=f"{self.issuer}{AUTHORIZE}",
            token_endpoint=f"{self.issuer}{TOKEN}",
            revocation_endpoint=f"{self.issuer}{REVOKE}",
            introspection_endpoint=f"{self.issuer}{INTROSPECT}",
            scopes_supported=list(SCOPES),
            response_types_supported=["code"],
            response_modes_supported=["query"],
            grant_types_supported=["authorization_code", "client_credentials", "refresh_token"],
            token_endpoint_auth_methods_supported=_METHODS,
            revocation_endpoint_auth_methods_supported=_METHODS,
            introspection_endpoint_auth_methods_supported=_SECRET_METHODS,
            code_challenge_methods_supported=["S256"],
        )
        made.validate()
        return {**made, "authorization_response_iss_parameter_supported": True}

    def answer(
        self, path: str, form: Sequence[tuple[str, str]], authorization: str, caller: Caller
    ) -> Answer:
        """What a POST with a form to the token, revocation or introspection endpoint gets. Never raises for what was sent."""
        try:
            found = _one_each(form)
            _one_way_in(found, authorization)
            if path == TOKEN and "grant_type" not in found:
                raise InvalidRequestError
            request = _Request("POST", f"{self.issuer}{path}", found, authorization, caller)
        except OAuth2Error as error:
            return self._said(error)
        if path == TOKEN:
            made: Answer = self.create_token_response(request)
        else:
            made = self.create_endpoint_response("revocation" if path == REVOKE else "introspection", request)
        client: _Client | None = request.client
        if made.status == 200 and client is not None:
            return replace(made, headers={**made.headers, **self.book.notice(client.own)})
        return made

    def consider(self, query: Sequence[tuple[str, str]]) -> Ask | Back:
        """Reads an authorization request. Raises: NotOurs when there is nobody to send the browser back to."""
        state = next((value for name, value in query if name == "state"), "")
        back_to = ""
        try:
            found = _one_each(query)
            request = _Request("GET", f"{self.issuer}{AUTHORIZE}", found, "", Caller())
            client = self.query_client(request.payload.client_id or "")
            asked = request.payload.redirect_uri
            if client is None or not client.own.terms.callbacks:
                raise NotOurs
            if asked and not client.check_redirect_uri(asked):
                raise NotOurs
            back_to = asked or client.get_default_redirect_uri()
            if not back_to:
                raise NotOurs
            if not request.payload.response_type or "client_secret" in found:
                raise InvalidRequestError
            grant = self.get_consent_grant(request)
        except OAuth2Error as error:
            if not back_to:
                raise NotOurs from None
            return self.refused(back_to, state, str(error.error))
        return Ask(
            client.own, back_to, asked or "", str(grant.request.scope), state, found["code_challenge"][0]
        )

    def allowed(self, ask: Ask, subject: str, note: Callable[[Tx], None]) -> Back:
        """The person said yes: a code for the application. `note` is written in the same commit."""
        code = self.book.allow(ask.client, subject, ask.scopes, ask.named, ask.challenge, note)
        return self._back(ask.redirect_uri, ask.state, code=code)

    def refused(self, redirect_uri: str, state: str, error: str = "access_denied") -> Back:
        """The person, or we, said no: the application is told."""
        return self._back(redirect_uri, state, error=error, error_description=_SAYS.get(error, error))

    def _back(self, redirect_uri: str, state: str, **more: str) -> Back:
        params = [*more.items(), *([("state", state)] if state else []), ("iss", self.issuer)]
        return Back(str(add_params_to_uri(redirect_uri, params)))

    # -- what Authlib asks of us ---------------------------------------------------------------------------------------

    def query_client(self, client_id: str) -> _Client | None:
        """A client by its id, for the consent."""
        found = self.book.by_id(client_id)
        return _Client(found) if found is not None else None

    def create_oauth2_request(self, request: _Request) -> _Request:
        """It is one already."""
        return request

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""

    def handle_response(self, status: int, body: Mapping[str, Any], headers: Any) -> Answer:  # noqa: ARG002 - ours
        """Every answer here is JSON that nobody may keep."""
        return Answer(status, body)

    def handle_error_response(self, request: _Request, error: OAuth2Error) -> Answer:
        """Our words for it: Authlib's repeat what was sent."""
        return self._said(error, request)

    def _said(self, error: OAuth2Error, request: _Request | None = None) -> Answer:
        code = str(error.error)
        if code == "insecure_transport":
            code = "invalid_request"
        status, headers = 400, {}
        if code == "invalid_client":
            status = 401
            if request is not None and request.tried_basic:
                headers = {"WWW-Authenticate": 'Basic realm="keyturn"'}
        body = {"error": code, "error_description": _SAYS.get(str(error.error), "")}
        return Answer(status, body, headers, failed=code in {"invalid_client", "invalid_grant"})

    def _by_basic(self, _query: Any, request: _Request) -> _Client | None:
        shown = _basic(request.headers.get("Authorization", ""))
        return self._with_secret(request, *shown) if shown is not None else None

    def _by_form(self, _query: Any, request: _Request) -> _Client | None:
        form = request.form
        if request.tried_basic or "client_secret" not in form:
            return None
        return self._with_secret(request, form.get("client_id", ""), form["client_secret"])

    def _with_secret(self, request: _Request, client_id: str, secret: str) -> _Client | None:
        caller = request.caller
        found, why = self.book.by_secret(client_id, secret, caller.address, caller.agent)
        if why is Code.ADDRESS:
            raise UnauthorizedClientError
        return self._same(request, found)

    def _public(self, _query: Any, request: _Request) -> _Client | None:
        if request.tried_basic or "client_secret" in request.form:
            return None
        caller = request.caller
        return self._same(
            request, self.book.public(request.form.get("client_id", ""), caller.address, caller.agent)
        )

    def _same(self, request: _Request, found: Client | None) -> _Client | None:
        """A client_id beside Basic must be the same one."""
        named = request.form.get("client_id")
        if found is not None and named is not None and named != found.id:
            raise InvalidRequestError
        client = _Client(found) if found is not None else None
        request.client = client
        return client


def _shown(pair: Pair) -> dict[str, Any]:
    """A token answer (RFC 6749 5.1)."""
    return {
        "access_token": pair.access,
        "token_type": "Bearer",
        "expires_in": pair.expires_in,
        **({"refresh_token": pair.refresh} if pair.refresh else {}),
        "scope": pair.scopes,
    }


def _one_each(sent: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Parameters by name; an empty one counts as left out (RFC 6749 3.1). Raises: OAuth2Error."""
    found: dict[str, list[str]] = {}
    if len(sent) > MOST_PARAMETERS:
        raise InvalidRequestError
    seen: set[str] = set()
    for name, value in sent:
        if name in seen or len(value) > MOST_VALUE or not _VISIBLE.fullmatch(value):
            raise InvalidRequestError
        seen.add(name)
        if value:
            found[name] = [value]
    return found


def _one_way_in(found: Mapping[str, list[str]], authorization: str) -> None:
    """Two ways to say who one is are one too many (RFC 6749 2.3). Raises: OAuth2Error."""
    if authorization and "client_secret" in found:
        raise InvalidRequestError
    if found.keys() & {"client_assertion", "client_assertion_type"}:
        raise _error("invalid_client")


def _basic(authorization: str) -> tuple[str, str] | None:
    """Id and secret, which are form-urlencoded before they are encoded (RFC 6749 2.3.1)."""
    kind, _, text = authorization.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, colon, secret = base64.b64decode(text.strip(), validate=True).decode("ascii").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (unquote_plus(name), unquote_plus(secret)) if colon else None


def _error(code: str) -> OAuth2Error:
    return OAuth2Error(error=code)


def origin(url: str) -> str:
    """Scheme and host of a callback, for the page's policy and for people to look at."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"

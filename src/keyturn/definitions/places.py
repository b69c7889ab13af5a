"""Every expression of a definition with the place it stands in, for the lint: what may be named there, and how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from keyturn.definitions.auth import Basic, Login, OAuth
from keyturn.definitions.expressions import Reference, Template
from keyturn.definitions.model import Definition, RequestSpec, SampleRead

_PUBLIC_OAUTH = frozenset({"resource_id", "resource_label"})
_READS = frozenset({"input", "secret", "current", "admin", "oauth", "job", "step"})
_AUTH = frozenset({"input", "secret", "admin", "oauth", "step", "job"})


@dataclass(frozen=True)
class Place:
    """One template. `kind` is url, path, query, header or body; `secrets` whether secret values may stand there."""

    template: Template
    kind: str
    line: int
    at: str
    scopes: frozenset[str]
    secrets: bool
    opted_in: bool = False


def places(definition: Definition) -> Iterator[Place]:
    """All of them."""
    base = definition.line("base_url")
    yield Place(definition.base_url, "url", base, "base_url", frozenset({"input"}), secrets=False)
    for name, template in definition.headers:
        at = f"http.headers.{name}"
        yield Place(
            template, "header", definition.line("http"), at, frozenset({"input", "job"}), secrets=False
        )
    yield from _request(definition.test.request, _READS, secrets=False)
    if definition.discover is not None:
        yield from _request(definition.discover.request, _READS, secrets=False)
    for sample in definition.samples:
        yield from of_sample(sample)
    rotation = definition.rotation
    if rotation.create is not None:
        yield from _request(rotation.create.request, _READS | {"pending"}, secrets=True)
    if rotation.revoke is not None:
        yield from _request(rotation.revoke.request, _READS | {"retiring"}, secrets=True)
    yield from _auth(definition)


def of_sample(sample: SampleRead) -> Iterator[Place]:
    """Those of one sample's request."""
    return _request(sample.request, _READS | {"sample"}, secrets=False)


def requests(definition: Definition) -> Iterator[RequestSpec]:
    """Every declared request."""
    yield definition.test.request
    if definition.discover is not None:
        yield definition.discover.request
    for sample in definition.samples:
        yield sample.request
    if definition.rotation.create is not None:
        yield definition.rotation.create.request
    if definition.rotation.revoke is not None:
        yield definition.rotation.revoke.request
    if isinstance(definition.auth, Login):
        yield definition.auth.request
    if isinstance(definition.auth, OAuth) and definition.auth.granted is not None:
        yield definition.auth.granted.request


def _request(spec: RequestSpec, scopes: frozenset[str], *, secrets: bool) -> Iterator[Place]:
    opted = spec.allow_secret_in_url
    if spec.url is not None:
        yield Place(spec.url, "url", spec.line, f"{spec.at}.url", scopes, secrets, opted)
    if spec.path is not None:
        yield Place(spec.path, "path", spec.line, f"{spec.at}.path", scopes, secrets)
    for name, template in spec.query:
        yield Place(template, "query", spec.line, f"{spec.at}.query.{name}", scopes, secrets, opted)
    for name, template in spec.headers:
        yield Place(template, "header", spec.line, f"{spec.at}.headers.{name}", scopes, secrets)
    for template in _leaves(spec.json):
        yield Place(template, "body", spec.line, f"{spec.at}.json", scopes, secrets)
    for name, template in spec.form or ():
        yield Place(template, "body", spec.line, f"{spec.at}.form.{name}", scopes, secrets)
    yield from _signed(spec.signed_as, spec.line, f"{spec.at}.auth")


def _signed(auth: Any, line: int, at: str) -> Iterator[Place]:
    """The expressions of an auth block that needs no first call."""
    opted = getattr(auth, "allow_secret_in_url", False)
    for entry in getattr(auth, "place", ()):
        kind = entry.where if entry.where in {"header", "query"} else "body"
        yield Place(entry.format, kind, line, f"{at}.place.{entry.name}", _AUTH, secrets=True, opted_in=opted)
    if isinstance(auth, Basic):
        yield Place(auth.username, "header", line, f"{at}.username", _AUTH, secrets=True)
        yield Place(auth.password, "header", line, f"{at}.password", _AUTH, secrets=True)


def _auth(definition: Definition) -> Iterator[Place]:
    auth, line = definition.auth, definition.line("auth")
    yield from _signed(auth, line, "auth")
    if isinstance(auth, Login):
        yield from _request(auth.request, frozenset({"input", "secret", "admin", "job"}), secrets=True)
    elif isinstance(auth, OAuth):
        yield from _oauth(auth, line)


def _oauth(auth: OAuth, line: int) -> Iterator[Place]:
    client = frozenset({"input", "secret", "admin"})
    yield Place(auth.token_url, "url", line, "auth.token_url", client, secrets=False)
    yield Place(auth.client_id, "body", line, "auth.client_id", client, secrets=True)
    yield Place(auth.client_secret, "body", line, "auth.client_secret", client, secrets=True)
    for name, template in (*auth.params, *auth.headers, *auth.refresh.params):
        yield Place(template, "body", line, f"auth.{name}", client, secrets=True)
    urls = [("authorize_url", auth.authorize_url), ("refresh.url", auth.refresh.url)]
    urls += [("revoke.url", auth.revoke.url)] if auth.revoke is not None else []
    for at, url in urls:
        if url is not None:
            yield Place(url, "url", line, f"auth.{at}", client, secrets=False)
    for name, template in auth.authorize_params:
        yield Place(template, "query", line, f"auth.authorize_params.{name}", client, secrets=False)
    if auth.granted is not None:
        yield from _request(
            auth.granted.request, frozenset({"input", "oauth", "admin", "job"}), secrets=False
        )


def _leaves(value: Any) -> Iterator[Template]:
    if isinstance(value, Template):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)


def is_secret(definition: Definition, reference: Reference) -> bool:
    """Whether the expression holds a secret value."""
    if reference.scope == "step":
        return True
    if reference.scope == "oauth":
        return reference.path not in _PUBLIC_OAUTH
    if reference.scope in {"input", "job", "sample"}:
        return False
    return reference.path in definition.secret_names()


def is_known(definition: Definition, reference: Reference) -> bool:
    """Whether the name is declared somewhere."""
    parts = {p.name for p in definition.parts}
    consent = isinstance(definition.auth, OAuth) and definition.auth.kind == "oauth2_code"
    tokens = {"access_token", "refresh_token", "expires_at", "scope"} if consent else set()
    extracted = set(definition.rotation.create.extract) if definition.rotation.create else set()
    known: dict[str, set[str]] = {
        "input": {i.name for i in definition.inputs},
        "secret": parts | tokens,
        "current": parts | tokens,
        "pending": parts | tokens | {"handle"},
        "retiring": parts | tokens | extracted | {"handle", "label"},
        "admin": {p.name for p in definition.admin_parts}
        | (parts if definition.rotation.actor == "manager" else set()),
        "step": {"login.token"} if isinstance(definition.auth, Login) else set(),
        "oauth": {"access_token"} | (set(_PUBLIC_OAUTH) if consent and definition.auth.granted else set()),
        "job": {"id", "date", "marker"},
        "sample": {name for sample in definition.samples for name in sample.parts()},
    }
    return reference.path in known[reference.scope]

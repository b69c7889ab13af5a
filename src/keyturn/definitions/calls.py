"""Turns a declared request and its scopes into one HTTP call, with the credential placed where the definition says."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from keyturn.contract.values import Access
from keyturn.definitions.classify import Refused, read, succeeded
from keyturn.definitions.expressions import Reference, Scopes, Template
from keyturn.definitions.model import ABSENT, Condition, Definition, ErrorRule, RequestSpec
from keyturn.errors import InvalidInput, UnexpectedAnswer, VendorUnavailable
from keyturn.transport.http import Answer, Request, send

MOST_REQUESTS = 25  # of one capability call; more is a loop


@dataclass(frozen=True)
class Placed:
    """A piece of the credential, ready to be put into a request."""

    where: str
    name: str
    value: str


class Caller:
    """The calls of one capability: one deadline, one bound on their number, no state beyond that."""

    def __init__(self, definition: Definition, access: Access) -> None:
        self.definition = definition
        self.access = access
        self._until = time.monotonic() + access.deadline_s
        self._made = 0

    def call(
        self,
        spec: RequestSpec,
        scopes: Scopes,
        placed: tuple[Placed, ...],
        success: tuple[Condition, ...],
        phase: str,
        *,
        changes: bool = False,
    ) -> Answer:
        """A successful answer. Raises: Refused, and whatever transport raises."""
        answer = self.send(build(self.definition, spec, scopes, placed), changes=changes)
        if not succeeded(answer, success):
            raise Refused(read(answer, resource_rules(self.definition, phase), phase), changes=changes)
        return answer

    def send(self, request: Request, *, changes: bool) -> Answer:
        """One call within what is left of time and number."""
        left = self._until - time.monotonic()
        self._made += 1
        if left <= 0:
            raise VendorUnavailable("the time for this call ran out", hint="It is tried again later.")
        if self._made > MOST_REQUESTS:
            raise UnexpectedAnswer(
                f"more than {MOST_REQUESTS} requests were needed", hint="Use larger pages."
            )
        bounded = Request(
            method=request.method,
            url=request.url,
            headers=request.headers,
            body=request.body,
            timeout_s=min(self.definition.timeout_s, left),
            max_bytes=self.definition.max_bytes,
            hosts=self.definition.hosts,
            changes=changes,
        )
        return send(bounded, self.access.network)


def resource_rules(definition: Definition, phase: str) -> tuple[ErrorRule, ...]:
    """The rules that speak of ordinary calls."""
    return tuple(r for r in definition.errors if r.when.phase in {"", phase})


def build(definition: Definition, spec: RequestSpec, scopes: Scopes, placed: tuple[Placed, ...]) -> Request:
    """The request as it will be sent, but for its bounds."""
    url = address(definition, spec, scopes)
    query = [(k, t.render(scopes)) for k, t in spec.query]
    headers = {k: t.render(scopes) for k, t in definition.headers}
    headers.update({k: t.render(scopes) for k, t in spec.headers})
    body: Any = ABSENT if spec.json is ABSENT else fill_json(spec.json, scopes)
    form = None if spec.form is None else [(k, t.render(scopes)) for k, t in spec.form]
    cookies = []
    for piece in placed if spec.auth else ():
        if piece.where == "header":
            headers[piece.name] = piece.value
        elif piece.where == "query":
            query.append((piece.name, piece.value))
        elif piece.where == "cookie":
            cookies.append(f"{piece.name}={quote(piece.value, safe='!#$&*+-./:<=>?@[]^_`{|}~')}")
        elif piece.where == "form":
            form = [*(form or []), (piece.name, piece.value)]
        else:
            body = _inside(body, piece.name.removeprefix("$.").split("."), piece.value)
    if cookies:
        headers["Cookie"] = "; ".join(cookies)
    if query:
        url += "?" + urlencode(query, quote_via=quote)
    data = b""
    if body is not ABSENT:
        data = json.dumps(body, ensure_ascii=False).encode()
        headers.setdefault("Content-Type", "application/json")
    elif form is not None:
        data = urlencode(form).encode()
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    return Request(spec.method, url, headers, data)


def address(definition: Definition, spec: RequestSpec, scopes: Scopes) -> str:
    """The URL without its query."""
    if spec.url is not None:
        return whole_url(spec.url, scopes)
    path = (spec.path or Template(())).render(scopes, _segment)
    if any(segment in {".", ".."} for segment in path.split("/")):
        raise InvalidInput("a value would climb out of the declared path", field=spec.at)
    return whole_url(definition.base_url, scopes).rstrip("/") + "/" + path.lstrip("/")


def whole_url(template: Template, scopes: Scopes) -> str:
    """A URL whose first expression may be an address; every later one is a piece of it and is encoded."""
    first = template.pieces[0] if template.pieces else ""
    return template.render(scopes, lambda r, text: text.rstrip("/") if r is first else _segment(r, text))


def fill_json(value: Any, scopes: Scopes) -> Any:
    """The JSON body; a text that is nothing but one setting keeps the setting's type."""
    if isinstance(value, Template):
        only = value.only()
        if only is not None and not only.filters and only.scope == "input":
            return only.raw(scopes)
        return value.render(scopes)
    if isinstance(value, dict):
        return {k: fill_json(v, scopes) for k, v in value.items()}
    if isinstance(value, list):
        return [fill_json(v, scopes) for v in value]
    return value


def basic(username: str, password: str, encoding: str = "utf-8") -> str:
    """The value of a Basic Authorization header."""
    try:
        data = f"{username}:{password}".encode(encoding)
    except UnicodeEncodeError:
        raise InvalidInput(
            f"the user or password cannot be written in {encoding}", field="auth.encoding"
        ) from None
    return "Basic " + base64.b64encode(data).decode()


def _segment(reference: Reference, text: str) -> str:
    return text if reference.encodes() else quote(text, safe="")


def _inside(body: Any, names: list[str], value: str) -> Any:
    found = dict(body) if isinstance(body, dict) else {}
    head, *rest = names
    found[head] = _inside(found.get(head), rest, value) if rest else value
    return found

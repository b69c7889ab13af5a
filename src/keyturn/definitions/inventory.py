"""The vendor's inventory as a `Lister`. An inventory that may be incomplete is an error, never a short list."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode, urljoin

from keyturn.contract.values import Access, Remote
from keyturn.definitions.calls import Caller, build, resource_rules
from keyturn.definitions.classify import Refused, instant, read, succeeded
from keyturn.definitions.jsonpath import JsonPath
from keyturn.definitions.model import Condition, Definition, Discover
from keyturn.definitions.scopes import complete, signer, values
from keyturn.definitions.tokens import sign
from keyturn.errors import UnexpectedAnswer
from keyturn.model.credential import Ref
from keyturn.transport.http import Answer, Request

_GOOD = (Condition(status_from=200, status_to=299),)
_NEXT = re.compile(r'<([^<>]{1,2000})>\s*;[^,<]*?rel="?next"?', re.IGNORECASE)


@dataclass(frozen=True)
class DeclaredLister:
    """Follows `discover` over all its pages."""

    definition: Definition
    discover: Discover

    def list(self, access: Access) -> tuple[Remote, ...]:
        """Every credential the vendor shows. Raises: UnexpectedAnswer when there are more pages than allowed."""
        try:
            with complete():
                return tuple(self._rows(access))
        except Refused as refused:
            raise refused.error() from None

    def _rows(self, access: Access) -> Iterator[Remote]:
        seen: set[str] = set()
        for answer in self._pages(access):
            found = [row for items in self.discover.items.select(answer.json()) for row in _as_list(items)]
            remotes = [_remote(self.discover, row, answer) for row in found]
            fresh = [r for r in remotes if r.ref.id not in seen]
            if self.discover.pagination.kind == "page" and remotes and not fresh:
                return  # a vendor that ignores the page number answers with the same page for ever
            seen.update(r.ref.id for r in fresh)
            yield from fresh

    def _pages(self, access: Access) -> Iterator[Answer]:
        pages = self.discover.pagination
        caller = Caller(self.definition, access)
        scopes = values(
            self.definition, access, signer(access, self.definition.rotation.actor) or access.acting
        )
        request = build(
            self.definition, self.discover.request, scopes, sign(caller, scopes, self.discover.request)
        )
        following: Request | None = (
            _numbered(request, pages.param, pages.start) if pages.kind == "page" else request
        )
        for number in range(pages.max_pages):
            if following is None:
                return
            answer = caller.send(following, changes=False)
            if not succeeded(answer, _GOOD):
                raise Refused(read(answer, resource_rules(self.definition, "discover"), "discover"))
            yield answer
            following = self._next(request, following, answer, number)
        if following is not None:
            raise UnexpectedAnswer(
                f"the list at {answer.host} goes on after {pages.max_pages} pages",
                hint="Raise the page size in discover.request.query.",
                host=answer.host,
            )

    def _next(self, first: Request, last: Request, answer: Answer, number: int) -> Request | None:
        pages = self.discover.pagination
        if pages.kind == "link_header":
            hit = _NEXT.search(answer.header("link"))
            return _same_origin(last, hit[1]) if hit else None
        if pages.kind == "page":
            rows = [row for items in self.discover.items.select(answer.json()) for row in _as_list(items)]
            return _numbered(first, pages.param, pages.start + number + 1) if rows else None
        if pages.kind in {"cursor", "next_url_in_body"} and pages.response_path is not None:
            found = [v for v in pages.response_path.select(answer.json()) if v not in (None, "", False)]
            if not found:
                return None
            text = str(found[0])
            return _numbered(first, pages.param, text) if pages.kind == "cursor" else _same_origin(last, text)
        return None


def _numbered(request: Request, name: str, value: object) -> Request:
    joint = "&" if "?" in request.url else "?"
    return replace(request, url=f"{request.url}{joint}{urlencode({name: value})}")


def _same_origin(last: Request, link: str) -> Request:
    """The next page, which must be where the last one was: the credential goes along."""
    url = urljoin(last.url, link)
    if _origin(url) != _origin(last.url):
        raise UnexpectedAnswer("the next page is on another host", hint="Credentials are never sent on.")
    return replace(last, url=url)


def _origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3]).lower()


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _remote(discover: Discover, row: Any, answer: Answer) -> Remote:
    ids = discover.id.select(row)
    if len(ids) != 1 or not isinstance(ids[0], str | int) or isinstance(ids[0], bool):
        raise UnexpectedAnswer(f"{answer.host} listed a credential without an id", status=answer.status)
    label, mask = _first(discover.label, row), _first(discover.mask, row)
    active = _first(discover.active, row)
    return Remote(
        ref=Ref(
            id=str(ids[0]),
            label="" if label is None else str(label),
            more={"mask": str(mask)} if mask not in (None, "") else {},
        ),
        active=active not in (False, "false", "inactive", "disabled", "revoked", 0),
        created_at=_instant(_first(discover.created, row)),
        last_used_at=_instant(_first(discover.last_used, row)),
    )


def _first(path: JsonPath | None, row: Any) -> Any:
    found = path.select(row) if path is not None else []
    return found[0] if found else None


def _instant(value: Any) -> float | None:
    try:
        return instant(value)
    except (ValueError, OverflowError):
        return None  # a time we cannot read is a time not told

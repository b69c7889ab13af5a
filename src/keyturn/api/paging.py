"""Cursors: where the next page begins, signed and opaque, good for the same list with the same filters only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Query

from keyturn.bootstrap import Keyturn
from keyturn.errors import InvalidInput

T = TypeVar("T")
MOST = 500
Limit = Annotated[int, Query(ge=1, le=MOST, description="How many at most")]
After = Annotated[str, Query(max_length=1000, description="`next` of the page before")]


def cursor(hub: Keyturn, of: Sequence[Any], place: Any) -> str:
    """The cursor behind `place` in the list that `of` names, with its filters."""
    body = json.dumps(place, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_mac(hub, of, body) + body).decode().rstrip("=")


def place(hub: Keyturn, of: Sequence[Any], text: str) -> Any:
    """The place a cursor stands for; None for an empty one. Raises: InvalidInput when it is not ours, or of another list."""
    if not text:
        return None
    try:
        whole = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        mac, body = whole[:16], whole[16:]
        if not hmac.compare_digest(mac, _mac(hub, of, body)):
            raise ValueError("not ours")
        return json.loads(body)
    except ValueError:
        raise InvalidInput(
            "this cursor is not one of this list", hint="Begin at the first page again.", field="after"
        ) from None


def _mac(hub: Keyturn, of: Sequence[Any], body: bytes) -> bytes:
    about = json.dumps(list(of), separators=(",", ":"), default=str).encode()
    return hmac.digest(hub.roots.cursor_key, about + b"\0" + body, hashlib.sha256)[:16]


def page(
    hub: Keyturn,
    of: Sequence[Any],
    every: Sequence[T],
    key: Callable[[T], tuple[Any, ...]],
    after: str,
    limit: int,
    show: Callable[[T], dict[str, Any]],
) -> dict[str, Any]:
    """A page of a list that is in memory, ordered by `key`: whoever comes or goes meanwhile, nothing is shown twice."""
    begin = place(hub, of, after)
    listed = sorted(every, key=key)
    left = [each for each in listed if begin is None or list(key(each)) > begin]
    shown = left[:limit]
    more = {"next": cursor(hub, of, list(key(shown[-1])))} if len(left) > limit else {}
    return {"items": [show(each) for each in shown], **more}

"""Around every page: the host it is asked for by, how often, and the headers that keep a browser from being used against us."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # not `no-referrer`: browsers then send `Origin: null` with our own forms
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), publickey-credentials-get=(self)",
}
_YEAR_S = 365 * 86400
MOST_PER_MINUTE, _ADDRESSES = 900, 4096
_PLAIN = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Keyturn</title></head>
<body><main><h1>{title}</h1><p>{text}</p></main></body></html>"""


class Guard:
    """Plain ASGI, around the pages only: the API answers programs, which no web page can steer."""

    def __init__(self, app: ASGIApp, public_url: str) -> None:
        self._app = app
        parts = urlsplit(public_url)
        self._host, self._is_tls = parts.netloc.lower(), parts.scheme == "https"
        self._is_local = _is_loopback(parts.hostname or "")
        self._asked: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses a foreign host or a flood; else passes on, and adds the headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                if self._is_tls:
                    headers.setdefault("Strict-Transport-Security", f"max-age={_YEAR_S}")
            await send(message)

        refused = self._refusal(scope)
        if refused is not None:
            await refused(scope, receive, marked)
        else:
            await self._app(scope, receive, marked)

    def _refusal(self, scope: Scope) -> Response | None:
        """A page that repeats nothing of the request."""
        if not self._is_ours(Headers(scope=scope).get("host", "").lower()):
            text = "This hub does not answer to that name. Whoever runs it sets KEYTURN_PUBLIC_URL to the address that people use."
            return HTMLResponse(_PLAIN.format(title="Another address", text=text), 421)
        client = scope.get("client")
        if self._is_flood(client[0] if client else ""):
            text = "Too many requests came from your address. Please wait a minute."
            return HTMLResponse(_PLAIN.format(title="Too fast", text=text), 429, {"Retry-After": "60"})
        return None

    def _is_ours(self, host: str) -> bool:
        """The public name, or on a hub that is only public to its own machine any loopback name: none of those can be
        somebody else's."""
        if host == self._host:
            return True
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return self._is_local and _is_loopback(name)

    def _is_flood(self, address: str) -> bool:
        minute = int(time.monotonic() // 60)
        with self._lock:
            then, count = self._asked.get(address, (minute, 0))
            count = count + 1 if then == minute else 1
            self._asked[address] = (minute, count)
            self._asked.move_to_end(address)
            if len(self._asked) > _ADDRESSES:
                self._asked.popitem(last=False)
        return count > MOST_PER_MINUTE


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False

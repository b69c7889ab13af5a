"""Who calls: one issued credential in one header, judged by the book; failed attempts are limited per address."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from keyturn.api.limits import Limits
from keyturn.api.problems import Refused
from keyturn.api.shield import HEADERS
from keyturn.bootstrap import Keyturn
from keyturn.errors import NotFound
from keyturn.issued.endings import STATE
from keyturn.model.moment import iso
from keyturn.operations import connections, events, grants, issued, people, projects, rights
from keyturn.operations.issued import CheckResult, Code, IssuedBook, token_pattern
from keyturn.operations.rights import Operation, Role, Who
from keyturn.storage.issued import SecretState

REALM = 'Bearer realm="keyturn"'
FAILURES, WINDOW_S, ADDRESSES = 20, 300.0, 4096


class Attempts:
    """Failed attempts per address in a sliding window. A working credential is never locked out by its neighbours."""

    def __init__(self, most: int = FAILURES, window_s: float = WINDOW_S) -> None:
        self._most, self._window_s = most, window_s
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def fail(self, address: str) -> float:
        """Counts one failure; seconds to wait when there were too many before it, else 0."""
        now = time.monotonic()
        with self._lock:
            seen = self._failed.setdefault(address, deque(maxlen=self._most))
            self._failed.move_to_end(address)
            if len(self._failed) > ADDRESSES:
                self._failed.popitem(last=False)
            if len(seen) == self._most and now - seen[0] < self._window_s:
                return self._window_s - (now - seen[0])
            seen.append(now)
            return 0.0


class Door:
    """Lets callers in. Nothing accepted is remembered between two calls."""

    def __init__(self, hub: Keyturn, book: IssuedBook) -> None:
        self._hub, self._book = hub, book
        self._is_local = hub.store.dialect == "sqlite"  # a read takes microseconds: no thread is worth it
        self.attempts = Attempts()
        self.limits = Limits()

    def enter(self, request: Request, scope: str = "") -> CheckResult:
        """The caller, for handlers that run in a thread. Raises: Refused."""
        address, agent = _from(request)
        value = self._value(request)
        found = self._book.look(value, address=address, scope=scope)
        if _is_token(value) and found.code is Code.UNKNOWN:
            return self._enter_by_token(value, address, scope)
        if found.subject:
            found = self._limit_to_person(found, address, scope)
        self._book.note(found, address=address, agent=agent)
        return self._limited(request, self._judge(found, address), scope)

    async def enter_fast(
        self,
        request: Request,
        scope: str = "",
        *,
        excuse: Callable[[CheckResult, str], CheckResult] | None = None,
        cost: int = 1,
    ) -> CheckResult:
        """The same on the event loop: one indexed read; only a first use waits for a commit, in a thread.

        `excuse` may let in, knowing the caller's address, what the book does not (a running load's retired secret);
        `cost` is how many calls this one counts for.
        """
        address, agent = _from(request)
        shows = bool(request.scope.get("query_string"))
        value = await run_in_threadpool(self._value, request) if shows else _presented(request)
        look = self._book.look
        if self._is_local:
            found = look(value, address=address, scope=scope)
        else:
            found = await run_in_threadpool(look, value, address=address, scope=scope)
        if found.code is Code.UNKNOWN and _is_token(value):
            return await run_in_threadpool(self._enter_by_token, value, address, scope)
        if found.subject:
            found = await run_in_threadpool(self._limit_to_person, found, address, scope)
        if excuse is not None and not found.accepted:
            found = await run_in_threadpool(excuse, found, address)
        if found.is_first_use:
            await run_in_threadpool(self._book.note, found, address=address, agent=agent)
        else:
            self._book.note(found, address=address, agent=agent)
        return self._limited(request, self._judge(found, address), scope, cost)

    def who(self, request: Request, scope: str = "") -> Who:
        """The caller as the table of rights knows them, for calls that ask there what may be done: a service identity
        with its roles, an application with those of whoever allowed it, an issued key with at most what an operator may;
        each within its scopes. `scope` says whose quota the call counts for. Raises: Refused."""
        address, agent = _from(request)
        value = self._value(request)
        found = self._book.look(value, address=address)
        if _is_token(value) and found.code is Code.UNKNOWN:
            identity = people.by_token(self._hub, value, address)
            if identity is None or identity.scopes is None:
                self._judge(found, address)
            assert identity is not None
            return identity
        if found.subject:
            found = self._limit_to_person(found, address, "")
        self._book.note(found, address=address, agent=agent)
        self._limited(request, self._judge(found, address), scope)
        if found.subject:
            person = grants.person(self._hub, found.subject, found.scopes, address)
            if person is None:
                self._judge(found._replace(code=Code.REVOKED), address)
            assert person is not None
            return replace(person, id=f"app:{found.name}:{person.id}")
        owner = found.secret.connection_id if found.secret else found.name
        return Who(found.name, f"key:{owner}", found.name, address, _KEYS_MAY, found.scopes)

    def _value(self, request: Request) -> str:
        """What was presented. One of ours in the URL is put on its record: its holder needs another one. Raises: Refused."""
        try:
            return _presented(request)
        except Refused as refusal:
            shown = _TOKEN.search(request.scope.get("query_string", b"").decode("latin-1"))
            if refusal.code == "cred.in_url" and shown is not None:
                address, agent = _from(request)
                digest = self._book.roots.token_digest(shown[0])
                look_up = self._book.look_up_token if _is_token(shown[0]) else self._book.look_up
                found = look_up(digest)
                self._book.note(found._replace(code=Code.IN_URL), address=address, agent=agent)
            raise

    def _enter_by_token(self, value: str, address: str, scope: str) -> CheckResult:
        """A service identity: its token's scopes and its roles must both allow the call."""
        who = people.by_token(self._hub, value, address)
        if who is None or who.scopes is None:
            return self._judge(CheckResult(Code.UNKNOWN), address)
        found = CheckResult(Code.OK, None, who.login, who.scopes, scope)
        kind, _, name = scope.partition(":")
        if not kind:
            return found
        if kind not in _NEEDED:  # for issued credentials alone
            return self._judge(CheckResult(Code.SCOPE, None, who.login, who.scopes, scope), address)
        operation = _NEEDED[kind]
        has_scope = kind in who.scopes or scope in who.scopes
        if not has_scope or not rights.may(who, operation, self._project(name)):
            why = rights.why_not(who, operation) if has_scope else f"the token lacks the scope {kind}"
            facts = {"operation": operation.value, "on": name, "why": why}
            events.note(self._hub, "refused", by=who.login, address=address, **facts)
            return self._judge(CheckResult(Code.SCOPE, None, who.login, who.scopes, scope), address)
        return found

    def _limit_to_person(self, found: CheckResult, address: str, scope: str) -> CheckResult:
        """An application's token: whoever allowed it must still be able to do it themselves."""
        if not found.accepted:
            return found
        who = grants.person(self._hub, found.subject, found.scopes, address)
        if who is None:
            return found._replace(code=Code.REVOKED)
        kind, _, name = scope.partition(":")
        if not kind:
            return found
        if kind not in _NEEDED:  # for programs alone: no role gives it
            return found._replace(code=Code.SCOPE)
        if not rights.may(who, _NEEDED[kind], self._project(name)):
            operation = _NEEDED[kind]
            why = rights.why_not(who, operation)
            facts = {"operation": operation.value, "on": name, "why": why, "application": found.name}
            events.note(self._hub, "refused", by=who.login, address=address, **facts)
            return found._replace(code=Code.SCOPE)
        return found

    def admit(self, request: Request, found: CheckResult, scope: str) -> CheckResult:
        """Lets in whom something else than a header has named (a signature): counted and limited like anybody.

        Raises: Refused.
        """
        address, agent = _from(request)
        self._book.note(found, address=address, agent=agent)
        return self._limited(request, self._judge(found, address), scope)

    def charge(self, request: Request, found: CheckResult, scope: str, cost: int) -> None:
        """Counts a call that turned out to be many. Raises: Refused with 429, with none of them counted."""
        if cost > 0:
            self._limited(request, found, scope, cost)

    def _limited(self, request: Request, found: CheckResult, scope: str, cost: int = 1) -> CheckResult:
        """Counts the call against the credential's quota. Raises: Refused with 429."""
        secret = found.secret
        verdict = self.limits.take(
            secret.connection_id if secret is not None else found.name, scope, found.rate, cost
        )
        said = verdict.headers
        if secret is not None and secret.state is not SecretState.LIVE:  # time to take the other one
            said = {**said, **(found.ending.headers if found.ending else {STATE: secret.state.value})}
        request.scope[HEADERS] = said
        if verdict.wait_s:
            refusal = Refused(429, "rate.limited", "this credential calls too often", verdict.headers)
            refusal.who = found
            raise refusal
        return found

    def _project(self, name: str) -> str:
        """The project of a connection that is named; none for what there is not."""
        try:
            return projects.of(self._hub, connections.find(self._hub, name).id) if name else ""
        except NotFound:
            return ""

    def _judge(self, found: CheckResult, address: str) -> CheckResult:
        if found.accepted:
            return found
        if found.code is Code.SCOPE:
            raise _about(
                found,
                403,
                "cred.scope",
                "the credential lacks the scope this call needs",
                {"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{quoted(found.needed)}"'},
                hint="Issue one with that scope.",
            )
        self.count_failure(address)
        if found.code is Code.ADDRESS:
            raise _about(found, 403, "cred.ip_denied", "the credential may not be used from this address")
        detail, hint = _WHY[found.code]
        if found.code is Code.EXPIRED:
            detail += _since(found)
        raise _about(
            found,
            401,
            f"cred.{found.code.value}",
            detail,
            {"WWW-Authenticate": f'{REALM}, error="invalid_token"'},
            hint,
        )

    def count_failure(self, address: str) -> None:
        """Raises: Refused with 429 once an address failed too often."""
        wait_s = self.attempts.fail(address)
        if wait_s:
            raise Refused(
                429,
                "rate.limited",
                "too many failed attempts from this address",
                {"Retry-After": str(math.ceil(wait_s))},
            )


def _about(
    found: CheckResult,
    status: int,
    code: str,
    detail: str,
    headers: dict[str, str] | None = None,
    hint: str = "",
) -> Refused:
    """A refusal that knows, for the hub alone, whose credential it was."""
    refusal = Refused(status, code, detail, headers, hint)
    refusal.who = found
    return refusal


def _since(found: CheckResult) -> str:
    """When it expired: saves its holder hours and tells a thief little. Empty where nobody knows."""
    ends_at = found.secret.ends_at if found.secret else found.token.expires_at if found.token else None
    return f" on {iso(ends_at)}" if ends_at else ""


_WHY = {
    Code.MALFORMED: ("this is not a whole credential of this hub", "Copy it again, all of it."),
    Code.UNKNOWN: ("the credential is not valid", ""),
    Code.EXPIRED: ("the credential expired", "Ask its owner for the one that followed it."),
    Code.EARLY: (
        "the credential is not let in yet",
        "Its owner knows from when on; until then the one before it works.",
    ),
    Code.REVOKED: ("the credential has been retired", "Ask its owner for the one that followed it."),
}
_TOKEN = token_pattern()
_SHOWN_IN = frozenset({b"accesskey", b"authorization"})
_KEYS_MAY = ((Role.OPERATOR, ""),)
_NEEDED = {"read": Operation.CONNECTION_READ, "lease": Operation.CREDENTIAL_LEASE}


def _is_token(value: str) -> bool:
    """Whether it is a token: an OAuth client's, or a service identity's."""
    return value.startswith(people.TOKEN_START)


def _from(request: Request) -> tuple[str, str]:
    """Address and agent; headers from the raw list, here and below, as this is asked at every call."""
    client = request.scope.get("client")
    agent = b""
    for name, value in request.scope["headers"]:
        if name == b"user-agent":
            agent = agent + b", " + value if agent else value
    return (client[0] if client else ""), agent.decode("latin-1")


def _presented(request: Request) -> str:
    """The value from `AccessKey` or `Authorization: Bearer`. Raises: Refused (RFC 6750 sections 2 and 3)."""
    query = request.scope.get("query_string", b"")
    if query and _TOKEN.search(query.decode("latin-1")):
        raise Refused(
            400,
            "cred.in_url",
            "a credential must not be in the URL, where logs and proxies keep it",
            {"WWW-Authenticate": f'{REALM}, error="invalid_request"'},
            hint="Send it in the header AccessKey, and have this one reissued: it has been shown.",
        )
    shown = None
    for header in request.scope["headers"]:
        if header[0] in _SHOWN_IN:
            if shown is not None:
                raise Refused(
                    400,
                    "cred.twice",
                    "more than one credential was sent",
                    {"WWW-Authenticate": f'{REALM}, error="invalid_request"'},
                )
            shown = header
    name, raw = shown or (b"", b"")
    value = raw.decode("latin-1")
    if name == b"accesskey":
        return value.strip()
    kind, _, value = value.partition(" ")
    if kind.lower() != "bearer" or not value.strip():
        raise Refused(
            401,
            "cred.missing",
            "this call needs a credential of this hub",
            {"WWW-Authenticate": REALM},
            hint="Send it in the header AccessKey, or as Authorization: Bearer.",
        )
    return value.strip()


def quoted(scope: str) -> str:
    """A scope as RFC 6749 allows it inside quotes."""
    return "".join(c for c in scope if "\x21" <= c <= "\x7e" and c not in '"\\')


def open_door(hub: Keyturn) -> tuple[Door, IssuedBook]:
    """A door and the book behind it, which whoever serves must close."""
    book = issued.book(hub)
    return Door(hub, book), book

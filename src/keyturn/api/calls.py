"""What every call goes through: who it is, what the table of rights says, its idempotency key; then its handler.

A call cannot be written without the operation it needs. The caller is judged before anything they sent is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, model_validator
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from keyturn.api.door import REALM, Door
from keyturn.api.problems import Refused
from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput, NotFound
from keyturn.model.credential import Connection
from keyturn.model.ids import new_id
from keyturn.model.run import Debt, Run, Task
from keyturn.operations import connections, debts, events, projects, repeats, rights, runs, tasks
from keyturn.operations.repeats import Answer, Ticket
from keyturn.operations.rights import TABLE, Operation, Who

PREFIX = "/api/v1"
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
KEY_HEADER = "idempotency-key"
_ALWAYS = (400, 401, 403, 422, 429, 500, 503)
_BUSY_S = 1
_LONGEST = 1 << 53


class Body(BaseModel):
    """What a caller sends: only known names, and no text that a database or a log could stumble over."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, data: Any) -> Any:
        _walk(data)
        return data


def _walk(data: Any) -> None:
    """Raises: ValueError for NUL characters, half surrogates, and numbers that are none or too large."""
    if isinstance(data, str):
        if "\0" in data or any("\ud800" <= c <= "\udfff" for c in data):
            raise ValueError("text with a NUL or half a character in it")
    elif isinstance(data, dict):
        for key, value in data.items():
            _walk(key)
            _walk(value)
    elif isinstance(data, list):
        for each in data:
            _walk(each)
    elif isinstance(data, float) and not math.isfinite(data):
        raise ValueError("not a number")
    elif isinstance(data, int) and abs(data) > _LONGEST:
        raise ValueError("too large a number")


@dataclass
class Visit:
    """One call that was let in: whose it is, and what they may see of the hub."""

    site: Keyturn = field(repr=False)
    who: Who
    operation: Operation
    ticket: Ticket | None = None

    @cached_property
    def hub(self) -> Keyturn:
        """The hub as this caller uses it: the journal names them."""
        return events.acting(self.site, self.who)

    @property
    def trigger(self) -> str:
        """Names what this call starts; the same for the same idempotency key."""
        return self.ticket.trigger if self.ticket else new_id("api")

    def may(self, operation: Operation, project: str = "") -> bool:
        """Whether the caller may do this there."""
        return rights.may(self.who, operation, project)

    def projects(self) -> frozenset[str] | None:
        """The projects this call is about; None for all."""
        return rights.projects(self.who, self.operation)

    def sees(self, connection_id: str) -> bool:
        """Whether something of this connection is for the caller's eyes."""
        mine = self.projects()
        return mine is None or projects.of(self.site, connection_id) in mine

    def connection(self, named: str, operation: Operation | None = None) -> Connection:
        """A connection by name or id. Raises: NotFound, in the same words for one that they may not see; NotPermitted."""
        try:
            found = connections.find(self.hub, named)
        except NotFound:
            raise NotFound("there is no such connection", field="connection") from None
        project, wanted = projects.of(self.hub, found.id), operation or self.operation
        if not self.may(wanted, project):
            if not self.may(Operation.CONNECTION_READ, project):
                raise NotFound("there is no such connection", field="connection")
            events.refuse(self.site, self.who, wanted, found.name)
        return found

    def run(self, run_id: str) -> Run:
        """A run, by the same rule."""
        try:
            found = runs.get(self.hub, run_id)
            self.connection(found.connection_id)
        except NotFound:
            raise NotFound("there is no such run", field="run") from None
        return found

    def task(self, task_id: str) -> Task:
        """A task, by the same rule."""
        try:
            found = tasks.get(self.hub, task_id)
            self.connection(found.connection_id)
        except NotFound:
            raise NotFound("there is no such task", field="task") from None
        return found

    def debt(self, debt_id: str) -> Debt:
        """A debt, by the same rule."""
        try:
            found = debts.get(self.hub, debt_id)
            self.connection(found.connection_id)
        except NotFound:
            raise NotFound("there is no such debt", field="debt") from None
        return found

    def done(self, on: str, **facts: Any) -> None:
        """Puts on the hub's own record that a program did something, from where."""
        events.note(
            self.site,
            "did",
            by=self.who.login,
            address=self.who.address,
            operation=self.operation.value,
            on=on,
            **facts,
        )


def _visit(request: Request) -> Visit:
    found: Visit = request.state.visit
    return found


Caller = Annotated[Visit, Depends(_visit)]


class Call(APIRoute):
    """A route that belongs to an operation."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The caller first, then what they sent."""
        inner = super().get_route_handler()
        extra = self.openapi_extra or {}
        operation, is_hub_wide = Operation(extra["x-operation"]), bool(extra["x-hub-wide"])
        is_secret = bool(extra.get("x-secret"))

        async def handle(request: Request) -> Response:
            hub, door = request.app.state.hub, request.app.state.door
            visit = await run_in_threadpool(_enter, hub, door, request, operation, is_hub_wide)
            request.state.visit = visit
            if "\0" in request.scope["path"] or b"%00" in request.scope.get("query_string", b""):
                raise InvalidInput("the address has a NUL character in it", field="url")
            key = request.headers.get(KEY_HEADER)
            if key is None or request.method != "POST":
                return await inner(request)
            return await _once(hub, visit, request, key, inner, is_secret=is_secret)

        return handle


def _enter(hub: Keyturn, door: Door, request: Request, operation: Operation, is_hub_wide: bool) -> Visit:
    """Raises: Refused with 401 or 403; NotPermitted, after the refusal was put on record."""
    who = door.who(request, TABLE[operation].scope)
    lacking = rights.missing_scope(who, operation)
    path = request.scope["path"][:200].replace("\0", "")
    if lacking:
        why = f"the credential lacks the scope {lacking}"
        if not who.id.startswith("key:"):
            facts = {"operation": operation.value, "on": path, "why": why}
            events.note(hub, "refused", by=who.login, address=who.address, **facts)
        raise Refused(
            403,
            "cred.scope",
            "the credential lacks the scope this call needs",
            {"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{lacking}"'},
            hint=f"Make or issue one with the scope {lacking}.",
        )
    allowed = rights.may(who, operation) if is_hub_wide else rights.may_somewhere(who, operation)
    if not allowed:
        events.refuse(hub, who, operation, path)
    return Visit(hub, who, operation)


async def _once(
    hub: Keyturn,
    visit: Visit,
    request: Request,
    key: str,
    inner: Callable[[Request], Coroutine[Any, Any, Response]],
    *,
    is_secret: bool,
) -> Response:
    """The call with its key. What made nothing frees the key; what made something is answered the same for a day."""
    call = (
        f"{request.method} {request.scope['path']}?{request.scope.get('query_string', b'').decode('latin-1')}"
    )
    body = await request.body()
    try:
        found = await run_in_threadpool(repeats.begin, hub, visit.who.id, call, key, body)
    except Conflict as error:
        code = f"idempotency.{error.facts['code']}"
        headers = {"Retry-After": str(_BUSY_S)} if error.facts["code"] == "busy" else {}
        raise Refused(409, code, error.message, headers, error.hint) from None
    if isinstance(found, Answer):
        return Response(found.body, found.status, {**found.headers, "Idempotency-Replayed": "true"})
    visit.ticket = found
    try:
        answer = await inner(request)
    except BaseException:
        await run_in_threadpool(repeats.drop, hub, found)
        raise
    if answer.status_code < 300:
        kept = {k: v for k, v in answer.headers.items() if k in {"content-type", "cache-control", "location"}}
        made = Answer(answer.status_code, kept, bytes(answer.body))
        await run_in_threadpool(lambda: repeats.keep(hub, found, made, is_secret=is_secret))
    else:
        await run_in_threadpool(repeats.drop, hub, found)
    return answer


class Calls:
    """The calls about one noun."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.router = APIRouter(prefix=PREFIX, tags=[tag], route_class=Call)

    def add(
        self,
        method: str,
        path: str,
        operation: Operation,
        summary: str,
        handler: Callable[..., Any],
        *,
        answer: Any = None,
        status: int = 200,
        example: Any = None,
        sends: Any = None,
        problems: Sequence[int] = (),
        also: Mapping[int | str, dict[str, Any]] | None = None,
        hub_wide: bool = False,
        secret: bool = False,
        media: str = "application/json",
    ) -> None:
        """One call. `sends` and `example` are what a caller sends and gets; `problems` the statuses besides the usual
        ones; `secret`: its answer shows a value once."""
        right = TABLE[operation]
        extra: dict[str, Any] = {
            "x-operation": operation.value,
            "x-roles": sorted(role.value for role in right.roles),
            "x-scope": right.scope,
            "x-hub-wide": hub_wide,
            "x-secret": secret,
            "x-problems": sorted({*_ALWAYS, *problems, *({409} if method == "POST" else ())}),
        }
        if sends is not None:
            extra["x-sends"] = json.dumps(sends)
        if example is not None:
            extra["x-example"] = json.dumps([str(status), media, example])
        if method == "POST":
            extra["parameters"] = [_KEY_PARAMETER]
        told: dict[int | str, dict[str, Any]] = {422: {"description": "Not understood"}}
        if status != 204 and media != "application/json":
            told[status] = {"content": {media: {"schema": {"type": "string"}}}}
        told.update(also or {})
        self.router.add_api_route(
            path,
            handler,
            methods=[method],
            response_model=answer,
            response_model_exclude_unset=True,
            response_class=Response if media != "application/json" or status == 204 else JSONResponse,
            status_code=status,
            summary=summary,
            operation_id=f"{self.tag}.{handler.__name__}",
            responses=told,
            openapi_extra=extra,
        )

    def get(self, path: str, operation: Operation, summary: str, **more: Any) -> Callable[[Any], Any]:
        """A call that changes nothing."""
        return self._keep("GET", path, operation, summary, **more)

    def post(self, path: str, operation: Operation, summary: str, **more: Any) -> Callable[[Any], Any]:
        """A call that does something; with an idempotency key, once."""
        return self._keep("POST", path, operation, summary, **more)

    def patch(self, path: str, operation: Operation, summary: str, **more: Any) -> Callable[[Any], Any]:
        """A call that changes what is there."""
        return self._keep("PATCH", path, operation, summary, **more)

    def delete(self, path: str, operation: Operation, summary: str, **more: Any) -> Callable[[Any], Any]:
        """A call that takes something away."""
        return self._keep("DELETE", path, operation, summary, **more)

    def _keep(
        self, method: str, path: str, operation: Operation, summary: str, **more: Any
    ) -> Callable[[Any], Any]:
        def keep(handler: Any) -> Any:
            self.add(method, path, operation, summary, handler, **more)
            return handler

        return keep


_KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same call with the same key is made once; for a day the answer is the same again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": repeats.LONGEST, "pattern": "^[ -~]+$"},
}

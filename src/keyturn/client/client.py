"""The client: one method per call, errors as Keyturn's own, and repetitions that make nothing twice.

with Client("https://keyturn.example.com", token) as hub:
    run = hub.start("orders-db", "rotate", reason="quarterly")
    print(hub.wait(run["id"])["state"])
"""

from __future__ import annotations

import ipaddress
import json
import ssl
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, cast
from urllib.parse import quote, urlsplit

import httpx2

from keyturn import errors
from keyturn.client.shapes import (
    Connection,
    ConnectionPage,
    Debt,
    Lease,
    Page,
    Plan,
    Run,
    RunLine,
    Started,
    Task,
    Tested,
)
from keyturn.model.secret import Secret

T = TypeVar("T")
_CLASSES: Mapping[str, type[errors.KeyturnError]] = {
    "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("_"): kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.KeyturnError)
}
_BY_STATUS: Mapping[int, type[errors.KeyturnError]] = {
    401: errors.NotPermitted,
    403: errors.NotPermitted,
    404: errors.NotFound,
    409: errors.Conflict,
    422: errors.InvalidInput,
    429: errors.VendorThrottled,
    503: errors.StoreUnavailable,
}
_AGAIN = frozenset({429, 502, 503, 504})
_BUSY = "idempotency.busy"
_TRIES, _LONGEST_WAIT_S = 4, 30.0


class Client:
    """A hub at a URL. `token` is a service identity's, or an issued key; it is sent in a header and nowhere else.

    Every call that starts or makes something carries an idempotency key of its own and is repeated under it when its
    answer is lost, so that it is made once. Plain http is for a hub on this machine only. Not for several threads at once.

    Raises: errors as the hub names them (`keyturn.errors`); StoreUnavailable when the hub gives no answer.
    """

    def __init__(
        self,
        url: str,
        token: str | Secret,
        *,
        timeout_s: float = 60.0,
        verify: ssl.SSLContext | bool = True,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._base = _checked(url)
        self._token = token if isinstance(token, Secret) else Secret(token)
        value = self._token.reveal()
        if not value.isascii() or not value.isprintable() or not value.strip():
            raise errors.InvalidInput("the token is empty or has characters no token has", field="token")
        self._http = httpx2.Client(
            base_url=f"{self._base}/api/v1/",
            headers={"Authorization": f"Bearer {value}", "Accept": "application/json"},
            timeout=timeout_s,
            verify=verify,
            follow_redirects=False,  # the token is for this hub alone
            trust_env=False,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"Client({self._base})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends its connections."""
        self._http.close()

    # -- connections ---------------------------------------------------------------------------------------------------

    def connections(self, **filters: str) -> Iterator[Connection]:
        """Every connection that fits: `text`, `name`, `system`, `health`, `sort`."""
        return self._every("connections", Connection, **filters)

    def connection(self, name: str) -> ConnectionPage:
        """One by name or id."""
        return cast(ConnectionPage, self.get(f"connections/{self._id(name)}"))

    def test(self, name: str) -> Tested:
        """A fresh login with what serves now."""
        return cast(Tested, self.post(f"connections/{self._id(name)}/test"))

    def plan(
        self, name: str, goal: str = "rotate", *, to: str = "", values: Mapping[str, str] | None = None
    ) -> Plan:
        """What would happen. `to` and `values` are for migrate."""
        path = f"connections/{self._id(name)}/plan/{quote(goal, safe='')}"
        if goal == "migrate":
            return cast(Plan, self.post(path, {"to": to, "values": dict(values or {})}))
        return cast(Plan, self.get(path))

    def lease(self, name: str, consumer: str, ttl_s: float = 300.0) -> Lease:
        """What serves now, held for so long."""
        return cast(Lease, self.post("leases", {"connection": name, "consumer": consumer, "ttl_s": ttl_s}))

    def give_back(self, lease_id: str) -> None:
        """Ends a lease; twice is fine."""
        self._ask("DELETE", f"leases/{_part(lease_id)}")

    # -- runs ----------------------------------------------------------------------------------------------------------

    def start(self, name: str, goal: str = "rotate", *, reason: str = "", **more: Any) -> Run:
        """Starts a run. `more`: plan (a plan's digest), emergency, accept (the words a plan asks for), drop, and for
        migrate to and values."""
        path = f"connections/{self._id(name)}/{quote(goal, safe='')}"
        return cast(Run, self.post(path, {"reason": reason, **more}))

    def start_several(
        self, names: Sequence[str], goal: str = "rotate", *, reason: str = "", **more: Any
    ) -> list[Started]:
        """One answer per connection; one that cannot start keeps no other back."""
        body = {"connections": list(names), "reason": reason, **more}
        return cast(list[Started], self.post(f"runs/{quote(goal, safe='')}", body)["items"])

    def runs(self, name: str = "", limit: int = 0) -> Iterator[RunLine]:
        """The latest runs, newest first; of one connection when named."""
        asked = {"connection": name} if name else {}
        for number, each in enumerate(self._every("runs", RunLine, **asked)):
            if limit and number >= limit:
                return
            yield each

    def run(self, run_id: str) -> Run:
        """A run with its plan and journal."""
        return cast(Run, self.get(f"runs/{_part(run_id)}"))

    def wait(self, run_id: str, timeout_s: float = 3600.0, every_s: float = 1.0) -> Run:
        """A run once it has ended or needs somebody; as it is when the time is up."""
        until = time.monotonic() + timeout_s
        while True:
            found = self.run(run_id)
            stands = found["state"] in {"waiting_human", "waiting_approval", "blocked", "lost"}
            if found["ended"] or stands or time.monotonic() >= until:
                return found
            time.sleep(min(every_s, max(0.0, until - time.monotonic())))

    def retry(self, run_id: str) -> Run:
        """Looks at a waiting or blocked run now."""
        return cast(Run, self.post(f"runs/{_part(run_id)}/retry"))

    def cancel(self, run_id: str) -> Run:
        """Ends a run that changed nothing yet."""
        return cast(Run, self.post(f"runs/{_part(run_id)}/cancel"))

    def rollback(self, run_id: str) -> Run:
        """Undoes a run before its point of no return."""
        return cast(Run, self.post(f"runs/{_part(run_id)}/rollback"))

    # -- tasks and debts -----------------------------------------------------------------------------------------------

    def tasks(self) -> Iterator[Task]:
        """What people should do now, most urgent first."""
        return self._every("tasks", Task)

    def task(self, task_id: str) -> Task:
        """One task."""
        return cast(Task, self.get(f"tasks/{_part(task_id)}"))

    def claim(self, task_id: str) -> Task:
        """Says that one works on it."""
        return cast(Task, self.post(f"tasks/{_part(task_id)}/claim"))

    def submit(self, task_id: str, values: Mapping[str, str]) -> Task:
        """Hands in; sealed as it comes."""
        return cast(Task, self.post(f"tasks/{_part(task_id)}/submit", {"values": dict(values)}))

    def debts(self) -> Iterator[Debt]:
        """What is still alive or unproven, oldest first."""
        return self._every("debts", Debt)

    def debt(self, debt_id: str) -> Debt:
        """One debt."""
        return cast(Debt, self.get(f"debts/{_part(debt_id)}"))

    def try_debt(self, debt_id: str) -> Debt:
        """Tries to end and prove it once more."""
        return cast(Debt, self.post(f"debts/{_part(debt_id)}/try"))

    def close_debt(self, debt_id: str, reason: str) -> Debt:
        """Closes it on one's word."""
        return cast(Debt, self.post(f"debts/{_part(debt_id)}/close", {"reason": reason}))

    # -- any call ------------------------------------------------------------------------------------------------------

    def get(self, path: str, **asked: Any) -> Any:
        """Any call that changes nothing; `path` is below /api/v1/."""
        return self._ask("GET", path, asked=asked)

    def post(self, path: str, body: Any = None, *, key: str = "") -> Any:
        """Any call that does something, made once. `key`: one's own idempotency key."""
        return self._ask("POST", path, body={} if body is None else body, key=key or f"py-{uuid.uuid4()}")

    def pages(self, path: str, **asked: Any) -> Iterator[Any]:
        """Every item of any list, page after page."""
        after = ""
        while True:
            page: Page[Any] = self.get(path, **asked, **({"after": after} if after else {}))
            yield from page["items"]
            after = page.get("next", "")
            if not after:
                return

    def _every(self, path: str, _kind: type[T], **asked: Any) -> Iterator[T]:
        return cast(Iterator[T], self.pages(path, **asked))

    def _id(self, name: str) -> str:
        """A name as part of a path; one with a slash in it by its id. Raises: NotFound."""
        if "/" not in name:
            return _part(name)
        found = next(iter(self.connections(name=name)), None)
        if found is None:
            raise errors.NotFound("there is no such connection", field="connection")
        return found["id"]

    def _ask(
        self,
        method: str,
        path: str,
        *,
        asked: Mapping[str, Any] | None = None,
        body: Any = None,
        key: str = "",
    ) -> Any:
        headers = {"Idempotency-Key": key} if key else {}
        safe = method == "GET" or bool(key) or method == "DELETE"
        for number in range(1, _TRIES + 1):
            last = number == _TRIES or not safe
            try:
                answer = self._http.request(method, path, params=asked or None, json=body, headers=headers)
            except httpx2.ConnectError as error:
                raise self._silent(error) from None  # nothing listens there: no use in asking again
            except httpx2.HTTPError as error:
                if last:
                    raise self._silent(error) from None
                time.sleep(0.2 * 2**number)
                continue
            problem = _problem(answer) if answer.status_code >= 300 else None
            if problem is None:
                return None if answer.status_code == 204 else _json(answer)
            is_vendors = answer.status_code in {502, 504} and bool(problem.get("code"))
            again = answer.status_code in _AGAIN and not is_vendors
            if last or not (again or problem.get("code") == _BUSY):
                raise _error(answer, problem)
            wait = answer.headers.get("retry-after", "")
            time.sleep(min(float(wait) if wait.isdigit() else 0.2 * 2**number, _LONGEST_WAIT_S))
        raise errors.StoreUnavailable(
            "the hub gives no answer"
        )  # unreachable: the last try answers or raises

    def _silent(self, error: httpx2.HTTPError) -> errors.KeyturnError:
        """Without the library's exception, which carries the request and its token."""
        return errors.StoreUnavailable(
            f"the hub at {self._base} gives no answer ({type(error).__name__})",
            hint="Check the address, and that `keyturn serve` runs there.",
        )


def _checked(url: str) -> str:
    """Raises: InvalidInput for what is no address of a hub, or would send the token in clear to another machine."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme not in {"https", "http"} or not host or parts.username or parts.query or parts.fragment:
        raise errors.InvalidInput(
            "the server must be an address like https://keyturn.example.com", field="server"
        )
    if parts.scheme == "http" and not _is_here(host):
        raise errors.InvalidInput(
            f"plain http to {host} would show the token on the way", hint="Use https.", field="server"
        )
    literal = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{literal}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _part(text: str) -> str:
    """One part of a path, whatever is in it."""
    return quote(text, safe="") if text not in {"", ".", ".."} else "none"


def _json(answer: httpx2.Response) -> Any:
    try:
        return json.loads(answer.content)
    except ValueError:
        raise errors.UnexpectedAnswer(
            f"the server answered {answer.status_code} with something that is not JSON",
            hint="Is this the address of a hub?",
        ) from None


def _problem(answer: httpx2.Response) -> dict[str, Any]:
    """The problem in an answer; empty when it is none of a hub's."""
    if answer.headers.get("content-type", "").partition(";")[0] != "application/problem+json":
        return {}
    try:
        found = json.loads(answer.content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _error(answer: httpx2.Response, problem: Mapping[str, Any]) -> errors.KeyturnError:
    code = str(problem.get("code", ""))
    kind = _CLASSES.get(code) or _BY_STATUS.get(answer.status_code, errors.UnexpectedAnswer)
    if not problem:
        return errors.UnexpectedAnswer(
            f"the server answered {answer.status_code}", hint="Is this the address of a hub?"
        )
    facts = {
        name: problem[name] for name in ("field", "run", "wait_s", "fields", "request_id") if name in problem
    }
    return kind(str(problem.get("detail", "")), hint=str(problem.get("hint", "")), code=code, **facts)

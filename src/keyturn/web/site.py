"""What every page goes through: session, rights, the token against forged forms, rendering, and errors in plain words."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from keyturn import errors
from keyturn.bootstrap import Keyturn
from keyturn.model.credential import Connection
from keyturn.model.ids import new_id
from keyturn.model.job import Job
from keyturn.model.run import Debt, Run, Task
from keyturn.operations import (
    connections,
    debts,
    events,
    jobs,
    passwords,
    people,
    projects,
    rights,
    runs,
    sessions,
    tasks,
)
from keyturn.operations.rights import Operation, Who
from keyturn.storage.people import Account, Session
from keyturn.web import words

_log = logging.getLogger("keyturn.web")
Handler = Callable[..., Response]
_FIELDS, _PART_BYTES = 200, 256 * 1024
_UPLOAD_BYTES = 512 * 1024  # less than what is kept in memory: an uploaded key never touches a disk
_FLASH_S = 60
_STATUS: Mapping[type[errors.KeyturnError], tuple[int, str]] = {
    errors.InvalidInput: (422, "That does not fit"),
    errors.NotFound: (404, "Not found"),
    errors.Conflict: (409, "Not possible now"),
    errors.NotPermitted: (403, "Not permitted"),
    errors.CredentialRejected: (502, "The vendor refused the credential"),
    errors.PermissionMissing: (502, "The credential lacks a right at the vendor"),
    errors.WrongAccount: (409, "Another account"),
    errors.VendorUnavailable: (503, "The vendor gives no answer"),
    errors.VendorThrottled: (503, "The vendor asks to wait"),
    errors.OutcomeUnknown: (504, "The outcome is not known yet"),
    errors.StoreUnavailable: (503, "The hub's database gives no answer"),
    errors.VaultSealed: (503, "The vault is closed"),
}


@dataclass(frozen=True)
class Page:
    """One line of the site map. `operation` None: open to everybody, signed in or not. `files`: how many may be uploaded."""

    method: str
    path: str
    handler: Handler
    operation: Operation | None
    files: int = 0


@dataclass(frozen=True)
class Entry:
    """One entry of the navigation, shown to those who may use it."""

    title: str
    path: str
    icon: str
    operation: Operation
    also: tuple[str, ...] = ()  # what lies under it without being below its path


NAVIGATION = (
    Entry("Home", "/", "home", Operation.HUB_READ),
    Entry(
        "Connections",
        "/connections",
        "plug",
        Operation.CONNECTION_READ,
        ("/runs", "/connect", "/bulk", "/leaks"),
    ),
    Entry("Tasks", "/tasks", "task", Operation.TASK_READ),
    Entry("Approvals", "/approvals", "done", Operation.APPROVAL_READ),
    Entry("Debts", "/debts", "debt", Operation.DEBT_READ),
    Entry("Issued", "/issued", "give", Operation.ISSUED_READ, ("/received", "/datasets")),
    Entry("Jobs", "/jobs", "clock", Operation.CONNECTION_READ),
    Entry("Projects", "/projects", "project", Operation.CONNECTION_READ),
    Entry("Systems", "/systems", "grid", Operation.SYSTEM_READ),
    Entry("Audit", "/audit", "audit", Operation.AUDIT_READ),
    Entry("People", "/people", "people", Operation.PEOPLE_READ),
    Entry("Settings", "/settings", "gear", Operation.NOTICE_READ, ("/health", "/backups", "/vault")),
)


class Site:
    """The pages of one hub."""

    def __init__(self, hub: Keyturn) -> None:
        self.hub = hub
        parts = urlsplit(hub.settings.public_url)
        self.is_tls = parts.scheme == "https"
        self.origin = f"{parts.scheme}://{parts.netloc}".lower()
        self.cookie = "__Host-keyturn" if self.is_tls else "keyturn"
        self._csrf_key = hub.roots.subkey("csrf")
        self._flash_key = hub.roots.subkey("flash")
        self.files = _static()
        self.templates = Environment(
            loader=PackageLoader("keyturn.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.globals.update(
            words=words,
            Operation=Operation,
            file=self.file_url,
            link=words.link,
            took=words.took,
            system_title=self.system_title,
            method_title=self.method_title,
        )

    def system_title(self, name: str) -> str:
        """What a system is called; its short name when its connector is not installed any more."""
        try:
            return self.hub.catalog.system(name).title
        except errors.KeyturnError:
            return name

    def method_title(self, system: str, method: str) -> str:
        """What a method is called, by the same rule."""
        try:
            return self.hub.catalog.method(system, method).title
        except errors.KeyturnError:
            return method.replace("_", " ")

    def file_url(self, name: str) -> str:
        """The address of a static file: another one with every change, so browsers may keep it for ever."""
        return f"/static/{name}?{self.files[name][2]}"

    def route(self, page: Page) -> Route:
        """A page as the web server calls it."""

        async def endpoint(request: Request) -> Response:
            try:
                if page.files:
                    _check_size(request)
                form = (
                    await request.form(max_files=page.files, max_fields=_FIELDS, max_part_size=_PART_BYTES)
                    if page.method == "POST"
                    else FormData()
                )
            except HTTPException as error:
                return await run_in_threadpool(self._failed, request, error)
            try:
                return await run_in_threadpool(self._serve, page, request, form)
            finally:
                await form.close()

        return Route(page.path, endpoint, methods=[page.method])

    def _serve(self, page: Page, request: Request, form: FormData) -> Response:
        it = Visit(self, request, form, page)
        try:
            return it.finish(self._answer(it, page, request))
        except Exception as error:
            return it.finish(it.failed(error))

    def _answer(self, it: Visit, page: Page, request: Request) -> Response:
        if page.operation is not None:
            if not it.is_in:
                return it.to_sign_in()
            if not rights.may_somewhere(it.who, page.operation):
                events.refuse(self.hub, it.who, page.operation, request.url.path)
        if page.method == "POST":
            self._check_forged(it)
        return page.handler(it, **request.path_params)

    def _failed(self, request: Request, error: Exception) -> Response:
        it = Visit(self, request, FormData(), None)
        return it.finish(it.failed(error))

    def not_found(self, request: Request) -> Response:
        """For addresses that are not on the site map."""
        return self._failed(request, errors.NotFound("there is no such page"))

    def csrf(self, cookie: str) -> str:
        """The token for forms of whoever holds this cookie."""
        return hmac.new(self._csrf_key, cookie.encode(), hashlib.sha256).hexdigest()

    def _check_forged(self, it: Visit) -> None:
        """A form counts when it comes from our own pages and holds the token of its cookie. Raises: NotPermitted."""
        headers = it.request.headers
        origin, fetched = headers.get("origin"), headers.get("sec-fetch-site")
        host = headers.get("host", "").lower()
        ours = {self.origin, f"http://{host}", f"https://{host}"}  # the guard has looked at the host
        foreign = (fetched is not None and fetched not in {"same-origin", "none"}) or (
            origin is not None and origin.lower() not in ours and not (origin == "null" and fetched)
        )
        sent = it.text("csrf")
        if foreign or not it.cookie or not hmac.compare_digest(sent.encode(), it.csrf.encode()):
            who = it.who.login if it.is_in else "(nobody)"
            events.note(self.hub, "refused", by=who, address=it.address, why="a form from elsewhere")
            raise errors.NotPermitted(
                "this form is too old or came from elsewhere",
                hint="Nothing was changed. Go back, load the page again and repeat it.",
            )

    def sign(self, data: object, purpose: str = "") -> str:
        """A small value that travels through the browser and comes back unchanged, for this purpose and no other."""
        text = base64.urlsafe_b64encode(json.dumps(data).encode()).decode()
        return f"{text}.{self._mac(text, purpose)}"

    def unsign(self, text: str, purpose: str = "") -> Any:
        """The inverse; None when it was made by somebody else or for something else."""
        body, _, mac = text.partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(body, purpose).encode()):
            return None
        return json.loads(base64.urlsafe_b64decode(body))

    def _mac(self, text: str, purpose: str) -> str:
        return hmac.new(self._flash_key, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()


_NOBODY = Who("")


@dataclass
class Visit:
    """One request: who it is, what they sent, and how they are answered."""

    site: Site
    request: Request
    form: FormData
    page: Page | None
    set_session: str | None = None  # a new session's value; empty ends the cookie
    cookies: dict[str, tuple[str, int | None]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where the request comes from, as the server was told to believe."""
        return self.request.client.host if self.request.client else ""

    @property
    def agent(self) -> str:
        """What the browser says it is."""
        return self.request.headers.get("user-agent", "")

    @cached_property
    def cookie(self) -> str:
        """The browser's own value: of its session, or of a visit before it signs in."""
        return self.request.cookies.get(self.site.cookie, "")

    @cached_property
    def _found(self) -> tuple[Who, Session] | None:
        return sessions.who(self.site.hub, self.cookie, self.address)

    @property
    def is_in(self) -> bool:
        """Whether somebody is signed in."""
        return self._found is not None

    @property
    def who(self) -> Who:
        """Who it is; nobody, with no role, when not signed in."""
        return self._found[0] if self._found else _NOBODY

    @property
    def session(self) -> Session:
        """Their session. Only behind pages with an operation."""
        assert self._found is not None
        return self._found[1]

    @cached_property
    def hub(self) -> Keyturn:
        """The hub as this person uses it: the journal names them."""
        return events.acting(self.site.hub, self.who) if self.is_in else self.site.hub

    @property
    def csrf(self) -> str:
        """The token for this browser's forms."""
        return self.site.csrf(self.cookie)

    def text(self, name: str, default: str = "") -> str:
        """A field of the form, as typed."""
        found = self.form.get(name, default)
        return default if isinstance(found, UploadFile) else str(found)

    def upload(self, name: str) -> str | None:
        """The text of an uploaded file; None when there is none. Raises: InvalidInput when it is not text."""
        found = self.form.get(name)
        if not isinstance(found, UploadFile) or not found.filename:
            return None
        try:
            return found.file.read().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise errors.InvalidInput(
                "the file is not text", hint="Export it as PEM, JSON or YAML text.", field=name
            ) from None

    def asked(self, name: str, default: str = "") -> str:
        """A parameter of the address."""
        return self.request.query_params.get(name, default)[:200]

    def place(self, purpose: str) -> Any:
        """Where a later page begins, as we signed it into the address for this list; None on the first page, and for what
        somebody made up."""
        text = self.request.query_params.get("after", "")[:1000]
        return self.site.unsign(text, purpose) if text else None

    @property
    def here(self) -> str:
        """The address of this page as it was asked for: what is fetched again when something changed."""
        query = self.request.url.query
        return self.request.url.path + (f"?{query}" if query else "")

    def behind(self, purpose: str, place: Sequence[Any]) -> str:
        """The address of this list's next page: the same filters, and the place signed."""
        asked = {k: v for k, v in self.request.query_params.items() if k != "after" and v}
        return (
            f"{self.request.url.path}?{urlencode({**asked, 'after': self.site.sign(list(place), purpose)})}"
        )

    def beginning(self) -> str:
        """The address of its first page, while this is a later one; empty on the first."""
        asked = {k: v for k, v in self.request.query_params.items() if k != "after" and v}
        path = self.request.url.path
        return "" if not self.asked("after") else f"{path}?{urlencode(asked)}" if asked else path

    @cached_property
    def zone_name(self) -> str:
        """The viewer's zone, as their browser told it."""
        return unquote(self.request.cookies.get("keyturn-zone", ""))[:64]

    # -- rights --------------------------------------------------------------------------------------------------------

    def may(self, operation: Operation, project: str = "") -> bool:
        """Whether a button for this is shown."""
        return rights.may(self.who, operation, project)

    def projects(self) -> frozenset[str] | None:
        """The projects this page is about for this person; None for all."""
        assert self.page is not None
        assert self.page.operation is not None
        return rights.projects(self.who, self.page.operation)

    def connection(self, connection_id: str) -> tuple[Connection, str]:
        """A connection of this page and its project. Raises: NotFound, also for one that they may not see; NotPermitted."""
        found = connections.find(self.hub, connection_id)
        project = projects.of(self.hub, found.id)
        if found.id != connection_id or not self.may(Operation.CONNECTION_READ, project):
            raise errors.NotFound("there is no such connection")
        assert self.page is not None
        assert self.page.operation is not None
        events.require(self.site.hub, self.who, self.page.operation, project, found.name)
        return found, project

    def run(self, run_id: str) -> tuple[Run, Connection, str]:
        """A run, its connection and project, by the same rule."""
        found = runs.get(self.hub, run_id)
        return (found, *self.connection(found.connection_id))

    def task(self, task_id: str) -> tuple[Task, Connection, str]:
        """A task, its connection and project, by the same rule."""
        found = tasks.get(self.hub, task_id)
        return (found, *self.connection(found.connection_id))

    def job(self, job_id: str) -> tuple[Job, Connection, str]:
        """A job, its connection and project, by the same rule."""
        found = jobs.get(self.hub, job_id)
        if found.id != job_id:
            raise errors.NotFound("there is no such job")
        return (found, *self.connection(found.connection_id))

    def debt(self, debt_id: str) -> tuple[Debt, Connection, str]:
        """A debt, its connection and project, by the same rule."""
        found = debts.get(self.hub, debt_id)
        return (found, *self.connection(found.connection_id))

    def done(self, operation: Operation, on: str, **facts: Any) -> None:
        """Puts on record that somebody did something, from where."""
        events.note(
            self.site.hub,
            "did",
            by=self.who.login,
            address=self.address,
            operation=operation.value,
            on=on,
            **facts,
        )

    def password_is_right(self, account: Account, password: str) -> bool:
        """Before something that a borrowed browser must not do. Wrong ones count as failed sign-ins."""
        hub = self.site.hub
        if sessions.wait_s(hub, account.login, self.address):
            return False
        if passwords.matches(account.password, password[:1000]):
            return True
        sessions.count_failure(hub, account.login, self.address)
        return False

    # -- answers -------------------------------------------------------------------------------------------------------

    def render(self, template: str, status: int = 200, **context: Any) -> Response:
        """A page."""
        self.be_somebody()
        where = words.zone(self.zone_name)
        said = self.site.unsign(self.request.cookies.get("keyturn-said", ""), "said")
        if said is not None:
            self.cookies["keyturn-said"] = ("", 0)
        path = self.request.url.path
        shown = [e for e in NAVIGATION if self.is_in and rights.may_somewhere(self.who, e.operation)]
        at = next((e.path for e in shown if any(_is_below(path, base) for base in (e.path, *e.also))), "")
        html = self.site.templates.get_template(template).render(
            it=self,
            who=self.who,
            navigation=shown,
            here=at,
            csrf=self.csrf,
            said=said,
            theme=self.request.cookies.get("keyturn-theme", ""),
            when=lambda value: words.moment(value, where),
            age=lambda value: words.moment(value, where, words.span(time.time() - value)),
            day=lambda value: words.day(value, where),
            clock=lambda value: words.clock(value, where),
            **context,
        )
        return HTMLResponse(html, status)

    def be_somebody(self) -> None:
        """Forms need a token, and a token needs a cookie: a visit before signing in has one that opens nothing."""
        if not self.cookie and self.set_session is None:
            self.set_session = sessions.fresh()
            self.cookie = self.set_session

    def redirect(self, path: str, say: str = "", kind: str = "good") -> Response:
        """On to another page, which says what happened."""
        if say:
            self.cookies["keyturn-said"] = (self.site.sign([kind, say[:600]], "said"), _FLASH_S)
        return RedirectResponse(path, 303)

    def to_sign_in(self) -> Response:
        """To the door, and afterwards back here; on a fresh hub to its setup."""
        if people.is_fresh(self.site.hub):
            return RedirectResponse("/setup", 303)
        path = self.request.url.path
        wanted = path + (f"?{self.request.url.query}" if self.request.url.query else "")
        back = f"?next={quote(wanted, safe='')}" if self.request.method == "GET" and wanted != "/" else ""
        if self.request.headers.get("hx-request"):
            return Response(status_code=401, headers={"HX-Redirect": f"/sign-in{back}"})
        return RedirectResponse(f"/sign-in{back}", 303)

    def failed(self, error: Exception) -> Response:
        """An error in plain words; of one that is not ours only an incident id."""
        if isinstance(error, HTTPException):
            status = error.status_code
            return self._error(
                status, "Too large" if status == 413 else "Not understood", "The request cannot be served."
            )
        if not isinstance(error, errors.KeyturnError):
            return self._unexpected(error)
        status, title = next(
            (_STATUS[k] for k in type(error).__mro__ if k in _STATUS), (500, "Something went wrong")
        )
        text = error.message[:1].upper() + error.message[1:]
        run = str(error.facts.get("run", ""))
        return self._error(status, title, text.rstrip(".") + ".", words.hint(error.hint), run=run)

    def _unexpected(self, error: Exception) -> Response:
        incident = new_id("req")
        places = [
            f"{f.filename.rpartition('/keyturn/')[2]}:{f.lineno}"
            for f in traceback.extract_tb(error.__traceback__)
        ]
        at = " < ".join(reversed(places[-8:]))
        _log.error("page.failed id=%s error=%s at=%s", incident, type(error).__name__, at)
        return self._error(500, "Something went wrong", f"The hub made a mistake. Incident {incident}.")

    def _error(self, status: int, title: str, text: str, hint: str = "", run: str = "") -> Response:
        return self.render("error.html", status, title=title, text=text, hint=hint, run=run)

    def finish(self, answer: Response) -> Response:
        """Sets what cookies there are to set."""
        if self.set_session is not None:
            self._cookie(answer, self.site.cookie, self.set_session, None if self.set_session else 0)
        for name, (value, age) in self.cookies.items():
            self._cookie(answer, name, value, age)
        return answer

    def _cookie(self, answer: Response, name: str, value: str, age: int | None) -> None:
        answer.set_cookie(
            name, value, max_age=age, path="/", secure=self.site.is_tls, httponly=True, samesite="lax"
        )


def _check_size(request: Request) -> None:
    """Raises: HTTPException for a form with a file that is too large, or does not say how large it is."""
    length = request.headers.get("content-length", "")
    if not length.isdigit():
        raise HTTPException(411)
    if int(length) > _UPLOAD_BYTES:
        raise HTTPException(413)


def _is_below(path: str, base: str) -> bool:
    return path == base or (base != "/" and path.startswith(f"{base}/"))


def local_path(wanted: str) -> str:
    """Where to go after signing in: a path of this hub, else home. Nothing else is followed."""
    parts = urlsplit(wanted)
    fits = (
        wanted.startswith("/")
        and not wanted.startswith(("//", "/\\"))
        and not parts.scheme
        and not parts.netloc
    )
    return wanted if fits and "\\" not in wanted and wanted.isprintable() else "/"


_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


def _static() -> dict[str, tuple[bytes, str, str]]:
    """Name -> (bytes, type, short digest) of every file that browsers get."""
    found = {}
    for each in (files("keyturn.web") / "static").iterdir():
        kind = _TYPES.get(f".{each.name.rpartition('.')[2]}")
        if kind:
            data = each.read_bytes()
            found[each.name] = (data, kind, hashlib.sha256(data).hexdigest()[:12])
    return found

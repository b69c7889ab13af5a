"""The calls to the three services one application lives in (Entra's token endpoint, Microsoft Graph, Dataverse), and
what their refusals mean."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from keyturn.contract.values import Access
from keyturn.errors import (
    CapReached,
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    NotPermitted,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.transport.http import Answer, Request, send


@dataclass(frozen=True)
class Cloud:
    """Where one of Microsoft's clouds answers, and under which names its Dataverse environments live."""

    login: str
    graph: str
    environments: str


# Source: learn.microsoft.com/graph/deployments and power-platform/admin/microsoft-dynamics-365-government, 2026-11-23.
# Environments of the American "GCC" live in the public cloud.
CLOUDS = {
    "public": Cloud("https://login.microsoftonline.com", "https://graph.microsoft.com", "*.dynamics.com"),
    "us-government": Cloud(
        "https://login.microsoftonline.us", "https://graph.microsoft.us", "*.microsoftdynamics.us"
    ),
    "us-dod": Cloud(
        "https://login.microsoftonline.us", "https://dod-graph.microsoft.us", "*.appsplatform.us"
    ),
    "china": Cloud(
        "https://login.partner.microsoftonline.cn",
        "https://microsoftgraph.chinacloudapi.cn",
        "*.dynamics.cn",
    ),
}

# A wrong, removed or not yet known secret; an expired secret; a certificate that is not on the application, or expired.
# Source: learn.microsoft.com/entra/identity-platform/reference-error-codes, 2026-11-23. Nothing else is a no: a disabled
# application (7000112) is reversible, a missing one (700016) may be a replica that lags, 700024 is about our clock.
REFUSED = frozenset({7000215, 7000222, 700027})

_WRONG_PLACE = {
    700016: ("the tenant does not know this application", "client_id"),
    90002: ("Entra does not know this tenant", "tenant_id"),
    500011: ("the tenant does not know this environment", "org_url"),
    70011: ("Entra refuses the scope made from the environment's address", "org_url"),
}
_DISABLED, _CLOCK, _BUSY = 7000112, 700024, 90055
Entries = list[dict[str, Any]]  # a list of credentials as Graph shows it

_TOKEN = re.compile(r"^[A-Za-z0-9._~+/=-]{1,16000}$")
_MAX_BYTES = 2 * 1024 * 1024  # a page of applications with their credentials
_PAGES = 100


@dataclass(frozen=True)
class Application:
    """Who asks for a token. `proof` gives the form fields that stand for the credential, for a token endpoint."""

    client_id: str
    proof: Callable[[str], Mapping[str, str]]


class Session:
    """The calls of one capability: one deadline for all of them, and tokens that are forgotten with it."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.settings = access.settings
        self.cloud = CLOUDS[str(access.settings.get("cloud") or "public")]
        self._until = time.monotonic() + access.deadline_s

    @property
    def login(self) -> str:
        """Entra's address."""
        return str(self.settings.get("login_url") or self.cloud.login).rstrip("/")

    @property
    def graph(self) -> str:
        """Graph's address, which is its resource name as well."""
        return str(self.settings.get("graph_url") or self.cloud.graph).rstrip("/")

    @property
    def environment(self) -> str:
        """The Dataverse environment's address, which is its resource name as well."""
        return str(self.settings.get("org_url") or "").rstrip("/")

    @property
    def client_id(self) -> str:
        """The application whose credentials are rotated."""
        return str(self.settings.get("client_id") or "").lower()

    def left(self) -> float:
        """Seconds until the deadline."""
        return self._until - time.monotonic()

    def token(self, application: Application, resource: str) -> str:
        """A fresh access token. Raises: CredentialRejected with Entra's code, and what `_no_token` says."""
        url = f"{self.login}/{quote(str(self.settings.get('tenant_id') or ''), safe='')}/oauth2/v2.0/token"
        form = {
            "client_id": application.client_id,
            "grant_type": "client_credentials",
            "scope": f"{resource}/.default",
            **application.proof(url),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self._send("POST", url, headers, urlencode(form).encode(), max_bytes=65_536)
        if answer.status != 200:
            raise _no_token(answer)
        body = _object(answer, "the token endpoint")
        token = body.get("access_token")
        if not isinstance(token, str) or not _TOKEN.match(token):
            raise UnexpectedAnswer("Entra answered without a token", operation="token")
        return token

    def ask(
        self, token: str, method: str, path: str, body: Any = None, *, right: str, changes: bool = False
    ) -> Answer:
        """One call to Graph that went well. Raises: what `_refusal` says."""
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        data = b"" if body is None else json.dumps(body).encode()
        if data:
            headers["Content-Type"] = "application/json"
        answer = self._send(method, f"{self.graph}{path}", headers, data, changes=changes)
        if not 200 <= answer.status < 300:
            raise _refusal(answer, right, changes)
        return answer

    def read(self, token: str, path: str, *, right: str) -> dict[str, Any]:
        """A JSON object from Graph."""
        return _object(self.ask(token, "GET", path, right=right), "Graph")

    def pages(self, token: str, path: str, *, right: str) -> Iterator[list[dict[str, Any]]]:
        """The pages of a list, one after the other. A next link is followed only within Graph itself."""
        for _ in range(_PAGES):
            body = self.read(token, path, right=right)
            rows = body.get("value")
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise UnexpectedAnswer("Graph's list is no list", operation="list")
            yield rows
            following = body.get("@odata.nextLink")
            if not following:
                return
            if not isinstance(following, str) or not following.startswith(f"{self.graph}/"):
                raise UnexpectedAnswer("Graph's list goes on somewhere else", operation="list")
            path = following.removeprefix(self.graph)
        raise UnexpectedAnswer(f"a list of more than {_PAGES} pages", operation="list")

    def dataverse(self, token: str, path: str) -> Answer:
        """One read of the environment, whatever it answers."""
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "OData-Version": "4.0",
            "OData-MaxVersion": "4.0",
        }
        url = f"{self.environment}/api/data/v9.2/{path}"
        return self._send("GET", url, headers, b"", hosts=(self.cloud.environments,))

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        hosts: tuple[str, ...] = (),
        changes: bool = False,
        max_bytes: int = _MAX_BYTES,
    ) -> Answer:
        left = self.left()
        if left <= 0:
            raise VendorUnavailable("the time for this call ran out", hint="It is tried again later.")
        return send(Request(method, url, headers, body, left, max_bytes, hosts, changes), self.access.network)


def application_path(client_id: str) -> str:
    """The application in Graph, by its client id: the object id is another one."""
    return f"/v1.0/applications(appId='{quote(client_id, safe='')}')"


def instant(value: Any) -> float | None:
    """One of Graph's dates as epoch seconds; None when it is none."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def written(at: float) -> str:
    """A date as Graph takes it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def entries(body: Mapping[str, Any], name: str) -> Entries:
    """A list of credentials on an application. Raises: UnexpectedAnswer when it is not told, which is not the same as
    empty."""
    found = body.get(name)
    if not isinstance(found, list) or not all(isinstance(e, dict) and e.get("keyId") for e in found):
        raise UnexpectedAnswer(f"Graph does not show {name}", operation=name)
    return found


def wait_of(answer: Answer) -> float:
    """How long the answer asks to wait; 0 when it does not say. Bounded to an hour."""
    text = answer.header("retry-after").strip()
    return min(float(text), 3600.0) if text.isdigit() else 0.0


def _waiting(answer: Answer) -> dict[str, Any]:
    wait = wait_of(answer)
    return {"wait_s": wait} if wait else {}


def is_object(answer: Answer) -> bool:
    """Whether the body is a JSON object that says it is JSON: a login or error page is not."""
    try:
        return "json" in answer.header("content-type").lower() and isinstance(answer.json(), dict)
    except UnexpectedAnswer:
        return False


def dataverse_code(answer: Answer) -> str:
    """The code inside a Dataverse error; its text differs between versions and is not read."""
    try:
        code = answer.json()["error"]["code"]
    except (UnexpectedAnswer, TypeError, KeyError):
        return ""
    return code if isinstance(code, str) and re.fullmatch(r"[A-Za-z0-9_]{1,40}", code) else ""


def _object(answer: Answer, who: str) -> dict[str, Any]:
    if not is_object(answer):
        raise UnexpectedAnswer(f"{who} answered with something else than a JSON object", status=answer.status)
    found: dict[str, Any] = answer.json()
    return found


def _no_token(answer: Answer) -> KeyturnError:
    """What an error of the token endpoint means. In every case nothing was changed."""
    error, codes = _entra_error(answer)
    code = f"AADSTS{codes[0]}" if codes else error
    facts: dict[str, Any] = {
        "code": code or str(answer.status),
        "status": answer.status,
        "operation": "token",
    }
    if answer.status == 429 or _BUSY in codes:
        return VendorThrottled("Entra told us to wait", **_waiting(answer), **facts)
    if answer.status >= 500 or error == "temporarily_unavailable":
        return VendorUnavailable("Entra is not available", hint="Nothing was changed.", **facts)
    if answer.status in {400, 401} and error == "invalid_client" and REFUSED.intersection(codes):
        return CredentialRejected(
            f"Entra refuses the credential ({code})", hint="It is removed, expired or mistyped.", **facts
        )
    for known, (words, field) in _WRONG_PLACE.items():
        if known in codes:
            hint = "Check it in the portal, and that the right cloud is chosen."
            return NotFound(f"{words} ({code})", hint=hint, field=field, **facts)
    if _DISABLED in codes:
        return NotPermitted(
            f"the application is disabled ({code})",
            hint="Enable its enterprise application again; its credentials were not judged.",
            **facts,
        )
    if _CLOCK in codes:
        return VendorUnavailable(
            f"Entra refuses the time of this machine's clock ({code})", hint="Synchronize the clock.", **facts
        )
    return UnexpectedAnswer(
        f"Entra answered {answer.status} {code}".rstrip(), hint="The code is not a documented one.", **facts
    )


def _entra_error(answer: Answer) -> tuple[str, list[int]]:
    """`error` and `error_codes` of a refusal; nothing of its description, which may quote what was sent."""
    try:
        body = _object(answer, "the token endpoint")
    except UnexpectedAnswer:
        return "", []
    error, codes = body.get("error"), body.get("error_codes")
    plain = error if isinstance(error, str) and re.fullmatch(r"[a-z_]{1,60}", error) else ""
    return plain, [c for c in codes if type(c) is int] if isinstance(codes, list) else []


BAD_PROOF = "Authentication_MissingOrMalformed"
_FULL = frozenset({"TooManyAppPasswords", "Directory_ResourceSizeExceeded", "Directory_QuotaExceeded"})


def _refusal(answer: Answer, right: str, changes: bool) -> KeyturnError:
    """What an error of Graph means for a call that needs `right`."""
    code, message = _graph_error(answer)
    facts: dict[str, Any] = {"code": code or str(answer.status), "status": answer.status, "operation": right}
    if answer.status == 429 or (answer.status == 409 and code == "Directory_ConcurrencyViolation"):
        return VendorThrottled("Graph told us to wait", **_waiting(answer), **facts)
    if answer.status >= 500 or answer.status == 408:
        if changes:
            return OutcomeUnknown(
                "Graph failed while changing", hint="The vendor is looked at first.", **facts
            )
        return VendorUnavailable("Graph is not available", hint="Nothing was changed.", **facts)
    if not code:
        return UnexpectedAnswer(
            f"Graph answered {answer.status} without one of its error codes",
            hint="Check the address: something else may have answered.",
            **facts,
        )
    if answer.status == 401:
        what = "the proof of possession" if code == BAD_PROOF else "a token that was just made"
        return VendorUnavailable(f"Graph refuses {what}", hint="Nothing was changed.", **facts)
    if code in _FULL:
        return CapReached(
            "the application holds no more credentials",
            hint="Remove one that nobody uses. Applications open to personal accounts hold two secrets only.",
            **facts,
        )
    if code == "CredentialTypeNotAllowedAsPerAppPolicy" or "as per assigned policy" in message:
        return ValueRefused(
            "the tenant's policy for applications refuses such a credential",
            hint="Choose a shorter life in the connection's settings, or use the other kind of credential.",
            **facts,
        )
    if answer.status == 403:
        return PermissionMissing(
            f"the application that acts lacks {right}",
            hint="Grant it with admin consent. With OwnedBy it must also be an owner of the application.",
            right=right,
            **facts,
        )
    if answer.status == 404:
        return NotFound(
            "Graph knows no such application",
            hint="Check the client id. It must be registered in this tenant: of another tenant's application only its"
            " owner can change the credentials.",
            field="client_id",
            **facts,
        )
    return UnexpectedAnswer(f"Graph answered {answer.status} {code}", **facts)


def _graph_error(answer: Answer) -> tuple[str, str]:
    try:
        error = answer.json()["error"]
        code, message = error["code"], error.get("message")
    except (UnexpectedAnswer, TypeError, KeyError, AttributeError):
        return "", ""
    if not isinstance(code, str) or not re.fullmatch(r"[A-Za-z0-9_.]{1,80}", code):
        return "", ""
    return code, message if isinstance(message, str) else ""


def need_admin(access: Access) -> None:
    """Raises: InvalidInput without an administrator."""
    if access.admin is None:
        raise InvalidInput(
            "this needs an administrator's application", hint="Add one.", field="admin_client_id"
        )

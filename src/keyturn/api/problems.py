"""Errors as `application/problem+json` (RFC 9457): one mapping, and a fallback that shows nothing but an incident id."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from keyturn import errors
from keyturn.model.ids import new_id

_log = logging.getLogger("keyturn.api")
_STATUS: Mapping[type[errors.KeyturnError], tuple[int, str]] = {
    errors.InvalidInput: (422, "Not understood"),
    errors.NotFound: (404, "Not found"),
    errors.Conflict: (409, "Not possible now"),
    errors.NotPermitted: (403, "Not permitted"),
    errors.CredentialRejected: (502, "The vendor refused the credential"),
    errors.PermissionMissing: (502, "The credential lacks a right at the vendor"),
    errors.WrongAccount: (409, "Another account"),
    errors.ValueRefused: (502, "The vendor refused the value"),
    errors.CapReached: (409, "No room for one more"),
    errors.UnexpectedAnswer: (502, "The vendor gave an unexpected answer"),
    errors.OutcomeUnknown: (504, "The outcome is not known yet"),
    errors.VendorUnavailable: (503, "The vendor gives no answer"),
    errors.VendorThrottled: (503, "The vendor asks to wait"),
    errors.StoreUnavailable: (503, "The hub's database gives no answer"),
    errors.LeaseLost: (503, "Another worker took over"),
    errors.NotDone: (409, "Not done"),
    errors.VaultSealed: (503, "The vault is closed"),
}
_WORDS = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Not possible now",
    413: "Too large",
    415: "Wrong kind of content",
    429: "Too many requests",
    507: "No room",
}
_SHOWN = ("field", "run", "code", "wait_s")  # of an error's facts


class Refused(Exception):
    """A caller is turned away at the door, with the headers the standards ask for."""

    def __init__(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, hint: str = ""
    ) -> None:
        super().__init__(detail)
        self.who: object = None  # what the door found out about the caller; never part of the answer
        self.status, self.code, self.detail = status, code, detail
        self.headers, self.hint = dict(headers or {}), hint


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    title: str = "",
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """One problem. Nothing a caller sent is repeated in it."""
    request_id = new_id("req")
    body = {
        "type": f"urn:keyturn:problem:{code}",
        "title": title or _WORDS.get(status, "Failed"),
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
        **{key: value for key, value in more.items() if value not in ("", None)},
    }
    return JSONResponse(
        body,
        status,
        {"X-Request-Id": request_id, "Cache-Control": "no-store", **(headers or {})},
        "application/problem+json",
    )


def install(app: FastAPI) -> None:
    """Makes every error of the app a problem."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(errors.KeyturnError, _ours)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http)


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return problem(error.status, error.code, error.detail, headers=error.headers, hint=error.hint)


def _ours(_: Request, error: Exception) -> Response:
    assert isinstance(error, errors.KeyturnError)
    status, title = status_of(error)
    if status == 500:
        return unexpected(error)
    headers = {"Retry-After": "5"} if status == 503 else {}
    facts = {key: error.facts[key] for key in _SHOWN if key in error.facts and key != "code"}
    return problem(
        status, slug(type(error)), error.message, title=title, headers=headers, hint=error.hint, **facts
    )


def status_of(error: errors.KeyturnError) -> tuple[int, str]:
    """The status of one of our errors, and its title; 500 for one that is our own bug."""
    found = (_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    return next(found, (500, "Internal error"))


def slug(kind: type[Exception]) -> str:
    """An error's class as a code."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("_")


def _malformed(_: Request, error: Exception) -> Response:
    """Which field and what is wrong with it; never what was typed there."""
    assert isinstance(error, RequestValidationError)
    found = [
        {"field": ".".join(str(part) for part in each["loc"][1:]), "why": _why(each)}
        for each in error.errors()
    ]
    names = ", ".join(each["field"] or "body" for each in found)
    return problem(422, "invalid_input", f"wrong or missing: {names}", title="Not understood", fields=found)


def _why(found: Mapping[str, Any]) -> str:
    """The validator's class of reason. Its message may quote what was typed, so it is not used."""
    return str(found["type"]).replace("_", " ")


def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = _WORDS.get(error.status_code, "the request cannot be served")
    return problem(
        error.status_code, words.lower().replace(" ", "_"), words.lower(), headers=dict(error.headers or {})
    )


def unexpected(error: BaseException) -> Response:
    """Our bug: an incident id outside, the places it went through (never its text) in the log."""
    answer = problem(500, "internal", "something went wrong in the hub", title="Internal error")
    places = [
        f"{f.filename.rpartition('/keyturn/')[2]}:{f.lineno}"
        for f in traceback.extract_tb(error.__traceback__)
    ]
    _log.error(
        "request.failed id=%s error=%s at=%s",
        answer.headers["x-request-id"],
        type(error).__name__,
        " < ".join(reversed(places[-8:])),
    )
    return answer

"""How Google's APIs say no, and who is asking; shared by the endpoints."""

from typing import Any

from flask import Response, jsonify, request

from keyturn_lab.vendors.google.grants import AccessToken
from keyturn_lab.vendors.google.state import World

CLOUD = "https://www.googleapis.com/auth/cloud-platform"
BIGQUERY = "https://www.googleapis.com/auth/bigquery"
ANALYTICS = "https://www.googleapis.com/auth/analytics.readonly"
EMAIL = "https://www.googleapis.com/auth/userinfo.email"
PROFILE = "https://www.googleapis.com/auth/userinfo.profile"
SCOPES = {
    CLOUD,
    BIGQUERY,
    f"{BIGQUERY}.readonly",
    ANALYTICS,
    "https://www.googleapis.com/auth/analytics.edit",
    "https://www.googleapis.com/auth/analytics.manage.users",
    EMAIL,
    PROFILE,
    "openid",
}
ALIASES = {"email": EMAIL, "profile": PROFILE}
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
}


def canonical(scopes: str) -> frozenset[str]:
    """Scopes as Google writes them back: the short names in full."""
    return frozenset(ALIASES.get(each, each) for each in scopes.split())


def refuse(
    status: int,
    message: str,
    reason: str,
    *,
    state: str = "",
    details: list[dict[str, Any]] | None = None,
) -> Response:
    """The envelope of every Google API."""
    error: dict[str, Any] = {
        "code": status,
        "message": message,
        "errors": [{"message": message, "domain": "global", "reason": reason}],
        "status": state or STATUSES[status],
    }
    if details:
        error["details"] = details
    answer = jsonify(error=error)
    answer.status_code = status
    if status == 401:
        answer.headers["WWW-Authenticate"] = (
            'Bearer realm="https://accounts.google.com/", error="invalid_token"'
        )
    return answer


def info(reason: str) -> list[dict[str, Any]]:
    """google.rpc.ErrorInfo."""
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    return [{"@type": kind, "reason": reason, "domain": "googleapis.com", "metadata": {}}]


def denied(permission: str) -> Response:
    """IAM's way: the permission is named, and whether the thing exists is not."""
    return refuse(
        403,
        f"Permission '{permission}' denied on resource (or it may not exist).",
        "forbidden",
        details=info("IAM_PERMISSION_DENIED"),
    )


def caller(world: World, *scopes: str) -> AccessToken | Response:
    """Who asks, if the token is taken and has one of these scopes."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    token = world.authenticate(value.strip()) if scheme.lower() == "bearer" else None
    if token is None:
        return refuse(
            401,
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid"
            " authentication credential.",
            "authError",
            details=info("ACCESS_TOKEN_EXPIRED"),
        )
    if not token.scopes & set(scopes):
        return refuse(
            403,
            "Request had insufficient authentication scopes.",
            "insufficientPermissions",
            details=info("ACCESS_TOKEN_SCOPE_INSUFFICIENT"),
        )
    return token


def throttled() -> Response:
    """Told to wait, in the words of the address that was called."""
    if request.path in {"/token", "/revoke", "/tokeninfo"}:
        answer = jsonify(error="rate_limit_exceeded")
        answer.status_code = 429
        return answer
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}
    return refuse(
        429,
        "Quota exceeded for quota metric.",
        "rateLimitExceeded",
        details=[*info("RATE_LIMIT_EXCEEDED"), retry],
    )

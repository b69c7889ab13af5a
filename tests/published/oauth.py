"""The token endpoint as the RFCs publish it: 6749 (grants), 7523 (assertions), 7636 (PKCE), 7009 (revocation).

What a vendor adds is said where its description is put together, with its source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.published.description import Call, Description

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
# RFC 6749 sections 4.1.3, 4.4.2 and 6, RFC 7523 section 2.1: what each grant needs, and what it may say besides.
GRANTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "authorization_code": (("code",), ("redirect_uri", "client_id", "code_verifier")),
    "client_credentials": ((), ("scope",)),
    "refresh_token": (("refresh_token",), ("scope",)),
    JWT_BEARER: (("assertion",), ("scope",)),
}
# RFC 6749 section 2.3.1 and RFC 7523 section 2.2: how a client says who it is in the form.
PROOFS = ("client_id", "client_secret", "client_assertion", "client_assertion_type")
# RFC 6749 section 5.1.
ANSWER = {
    "access_token": "string",
    "token_type": "string",
    "expires_in": "integer",
    "refresh_token": "string",
    "scope": "string",
}


def endpoint(
    vendor: str,
    path: str,
    grants: Iterable[str],
    *,
    proofs: Iterable[str] = PROOFS,
    adds: Mapping[str, Any] | None = None,
    revoke: str = "",
) -> Description:
    """A vendor's token endpoint: the grants it takes, what it adds to the answer, and where it revokes."""
    calls: dict[str, Call] = {}
    for grant in grants:
        needs, may = GRANTS[grant]
        form = {**dict.fromkeys((*needs, *may, *proofs), "string"), "grant_type": {"enum": [grant]}}
        name = f"{vendor}.token.{grant.rpartition(':')[2]}"
        calls[name] = Call(
            "POST", path, needs=("grant_type", *needs), form=form, answer=f"{vendor}.TokenAnswer"
        )
    if revoke:  # RFC 7009 section 2.1
        form = dict.fromkeys(("token", "token_type_hint", *proofs), "string")
        calls[f"{vendor}.revoke"] = Call("POST", revoke, needs=("token",), form=form)
    return Description(calls, {f"{vendor}.TokenAnswer": {**ANSWER, **(adds or {})}})

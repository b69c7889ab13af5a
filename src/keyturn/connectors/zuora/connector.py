"""What can be done with a Zuora OAuth client: test it, and tell whose it is. Making and deleting one is a person's task."""

from __future__ import annotations

import re
import secrets
import string
import uuid
from collections.abc import Mapping
from typing import Any

from keyturn.connectors.zuora import client
from keyturn.connectors.zuora.client import Calls, Meaning, Token
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Sample
from keyturn.errors import (
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, Verdict, accepted, rejected, unknown
from keyturn.transport.http import Answer

_LETTERS = string.ascii_letters + string.digits
_KIND = re.compile(r"[a-z][a-z-]{0,59}")
_CODES = {
    Meaning.PERMISSION: "permission",
    Meaning.THROTTLED: "rate_limited",
    Meaning.LATER: "transient",
    Meaning.UNCLEAR: "unexpected_answer",
}


def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
    """The capabilities of `oauth_client`. Raises: NotFound."""
    del settings
    if method != "oauth_client":
        raise NotFound(f"zuora has no method {method!r}", hint="Use oauth_client.")
    return Capabilities(verifier=Prober(), reader=Objects())


class Prober:
    """Fetches a fresh token each time; its scope names user and tenant."""

    def verify(self, access: Access, material: Material) -> Probe:
        """Only the token endpoint's refusal is a no to the client; a missing right still proves it.

        A bearer that the API refuses is fetched anew once, as Zuora advises, and then says nothing about the client:
        the endpoint that knows clients has just accepted it.
        """
        if not material.get("client_id") or not material.get("client_secret"):
            raise InvalidInput("the client id or secret is missing", field="client_secret")
        calls = Calls(access)
        try:
            found = self._once(calls, material)
            return self._once(calls, material) if found.code in {"bearer_refused", "transient"} else found
        except (VendorUnavailable, OutcomeUnknown) as error:
            return unknown("unavailable", error.message)
        except UnexpectedAnswer as error:
            return unknown("unexpected_answer", error.message)

    def bogus(self, material: Material) -> Material:
        """A client id that nobody has: no user's client is touched."""
        size = max(len(material.get("client_secret", "")), 24)
        secret = "".join(secrets.choice(_LETTERS) for _ in range(size))
        return material.replacing(client_id=str(uuid.uuid4()), client_secret=secret)

    def _once(self, calls: Calls, material: Material) -> Probe:
        answer = calls.ask_token(material)
        said = client.meaning_of_token(answer)
        if said is Meaning.REFUSED:
            return rejected(
                "client_invalid",
                f"Zuora refuses the client (HTTP {answer.status}); a client of another data centre is refused alike",
            )
        if said is not Meaning.FINE:
            return _unclear(answer, said, "the token endpoint")
        token = client.token_of(answer)
        if not token.user or not token.tenant:
            return unknown("identity_missing", "the token's scope does not name one user and one tenant")
        answer = calls.read(token)
        said = client.meaning_of_read(answer)
        if said is Meaning.REFUSED:
            return unknown(
                "bearer_refused", "the token endpoint accepts the client and the API refuses its token"
            )
        if said not in {Meaning.FINE, Meaning.PERMISSION}:
            return _unclear(answer, said, "the API")
        return _known(token, said)


class Objects:
    """Billing objects, as far as they are counted."""

    def read_sample(self, access: Access, material: Material, what: str, limit: int) -> Sample:
        """Counts objects of a kind (`accounts`, `subscriptions`, `credit-memos`), 99 at the most; by itself accounts.

        A fresh token each time. Raises: CredentialRejected as the token endpoint says; NotFound for a kind there is not.
        """
        kind = what or "accounts"
        if not _KIND.fullmatch(kind):
            raise InvalidInput(
                "objects are named as in the Object Query API",
                hint="For example accounts, subscriptions or credit-memos.",
                field="what",
            )
        calls = Calls(access)
        answer = calls.ask_token(material)
        said = client.meaning_of_token(answer)
        if said is Meaning.REFUSED:
            raise CredentialRejected("Zuora refuses the client", code="client_invalid", status=answer.status)
        if said is not Meaning.FINE:
            raise _no_objects(answer, said, "a token")
        answer = calls.query(client.token_of(answer), kind, limit)
        count = client.objects_in(answer)
        if count is not None:
            return Sample(min(count, limit), kind)
        if answer.status == 404 and "json" in answer.header("Content-Type").lower():
            raise NotFound(
                f"Zuora has no {kind} to query",
                hint="Use a kind of the Object Query API, such as accounts.",
                field="what",
                status=404,
            )
        raise _no_objects(answer, client.meaning_of_read(answer), kind)


def _no_objects(answer: Answer, said: Meaning, what: str) -> KeyturnError:
    """What an answer without objects means. A bearer refused after a fresh token says nothing of the client."""
    facts: dict[str, Any] = {"status": answer.status, "host": answer.host}
    if said is Meaning.THROTTLED:
        return VendorThrottled(f"{answer.host} told us to wait", wait_s=client.wait_s(answer), **facts)
    if said in {Meaning.LATER, Meaning.REFUSED}:
        return VendorUnavailable(f"{answer.host} does not give {what} now", **facts)
    if said is Meaning.PERMISSION:
        return PermissionMissing(
            f"the client works, but its user may not read {what}", right=f"read {what}", **facts
        )
    return UnexpectedAnswer(
        f"{answer.host} answered {answer.status} without a list of {what}",
        hint="Check the address: something else may have answered.",
        **facts,
    )


def _known(token: Token, said: Meaning) -> Probe:
    known = accepted(token.user, tenant=token.tenant, rights=token.entities)
    if said is Meaning.FINE:
        return known
    detail = "the client works, but its user may not read the catalogue"
    return Probe(
        Verdict.ACCEPTED, identity=known.identity, rights=known.rights, code="permission", detail=detail
    )


def _unclear(answer: Answer, said: Meaning, who: str) -> Probe:
    code = _CODES.get(said, "unexpected_answer")
    wait = client.wait_s(answer) if said in {Meaning.THROTTLED, Meaning.LATER} else 0.0
    return unknown(code, f"{who} answered HTTP {answer.status}: {code.replace('_', ' ')}", wait)

"""AWS calls: botocore writes and reads them, `http` sends them; one attempt, nothing read from files or environment.

So a call to AWS has what every other has: a pinned address, one deadline over all of it, a bound on its size, no redirect.
An error AWS documents as its answer (a 4xx with a code) is an answer like any other; only what says nothing about the
request becomes an exception. What a code means for a credential is the connector's business.
"""

from __future__ import annotations

import functools
import io
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from keyturn.contract.values import NetworkPolicy
from keyturn.errors import (
    InvalidInput,
    KeyturnError,
    OutcomeUnknown,
    UnexpectedAnswer,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.transport import ssrf
from keyturn.transport.http import Request, send

CLOCK_SKEW = "RequestTimeTooSkewed"

# At DEBUG the SDK prints whole answers, new secret keys included; a debug switch must not be able to do that.
for _name in ("boto3", "botocore", "s3transfer"):
    logging.getLogger(_name).setLevel(logging.WARNING)

_THROTTLES = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "BandwidthLimitExceeded",
        "SlowDown",
        "EntityTemporarilyUnmodifiable",  # the user was changed a moment ago; this change was not made
    }
)
_CODE = re.compile(r"^[A-Za-z0-9._-]{1,100}$")
_SKEWED = ("Signature expired", "Signature not yet current")
_MAX_BYTES = 4 * 1024 * 1024  # a page of a thousand keys or objects
# What the door writes itself, as for every call.
_DOORS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "expect"})


@dataclass(frozen=True)
class Signer:
    """An access key that signs requests. Prints without its secret."""

    access_key_id: str
    secret_access_key: str = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """What AWS said: `data` when it did what was asked, else its error `code` and HTTP `status`."""

    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    code: str = ""
    status: int = 200

    @property
    def ok(self) -> bool:
        """Whether AWS did what was asked."""
        return not self.code


class Client:
    """One service, one signer, one deadline over all its calls."""

    def __init__(self, service: str, sdk: Any, network: NetworkPolicy, deadline_s: float) -> None:
        self._sdk = sdk
        self._network = network
        self._deadline = time.monotonic() + deadline_s
        self._now = (service, False)  # operation and whether it changes something, of the call in hand
        self.service = service
        try:
            self._target = ssrf.target(sdk.meta.endpoint_url, network)
        except KeyturnError:
            self.close()
            raise
        # Whoever answers this event has sent the request. Source: botocore/endpoint.py, `_do_get_response`.
        sdk.meta.events.register("before-send", self._send)

    @property
    def host(self) -> str:
        """The host called; a bucket may be a label in front of it."""
        return self._target.host

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of what the SDK holds."""
        self._sdk.close()

    def left(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - time.monotonic()

    def call(self, operation: str, *, changes: bool = False, **params: Any) -> Answer:
        """One attempt of one operation, by its boto3 name. `changes` marks one that alters something at AWS.

        Raises: VendorThrottled (nothing changed); VendorUnavailable (a read, or nothing was sent); OutcomeUnknown (a
        changing call without a clear answer); InvalidInput (refused before it was sent); what `http.send` raises.
        """
        with_facts = functools.partial(_lost, self.host, self.service, operation, changes)
        if self.left() <= 0:
            raise with_facts("left no time for this call", kind="timeout", sent=False)
        from botocore import exceptions as sdk

        self._now = (operation, changes)
        try:
            return Answer(getattr(self._sdk, operation)(**params))
        except KeyturnError:
            raise
        except sdk.ClientError as error:
            return _answered(error.response, with_facts)
        except sdk.BotoCoreError as error:
            raise _refused_here(error, self.service, operation, with_facts) from None
        except Exception:  # a bug in the SDK still must not carry a request, and its signature, out of here
            raise with_facts("could not be understood", kind="protocol") from None

    def _send(self, request: Any, **_: Any) -> Any:
        """The request that botocore has signed, through our own door; the answer as botocore reads it."""
        from botocore.awsrequest import AWSResponse

        operation, changes = self._now
        headers = {
            name: value.decode("latin-1") if isinstance(value, bytes) else str(value)
            for name, value in request.headers.items()
            if name.lower() not in _DOORS
        }
        body = request.body or b""
        try:
            answer = send(
                Request(
                    request.method,
                    request.url,
                    headers,
                    body if isinstance(body, bytes) else str(body).encode(),
                    timeout_s=max(self.left(), 0.001),
                    max_bytes=_MAX_BYTES,
                    changes=changes,
                ),
                self._network,
            )
        except (VendorUnavailable, OutcomeUnknown) as lost:
            facts = {**lost.facts, "operation": f"{self.service}:{operation}"}
            raise type(lost)(lost.message, hint=lost.hint, **facts) from None
        return AWSResponse(request.url, answer.status, dict(answer.headers), _Body(answer.body))

    def pages(self, operation: str, wanted: str, **params: Any) -> Iterator[Answer]:
        """All pages of a listing by IAM's `Marker`; an answer that is no page ends it and is the last one given."""
        marker: dict[str, Any] = {}
        while True:
            answer = self.call(operation, **params, **marker)
            if answer.ok and not isinstance(answer.data.get(wanted), list):
                raise UnexpectedAnswer(
                    f"{self.service}:{operation} answered without {wanted}",
                    host=self.host,
                    operation=operation,
                )
            yield answer
            if not answer.ok or not answer.data.get("IsTruncated"):
                return
            following = str(answer.data.get("Marker", ""))
            if not following or following == marker.get("Marker"):
                raise UnexpectedAnswer(
                    f"{self.service}:{operation} promises a next page and names none",
                    host=self.host,
                    operation=operation,
                )
            marker = {"Marker": following}


class _Body(io.BytesIO):
    """A whole body as botocore asks for one in pieces."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        """All of it."""
        yield self.read()


def connect(
    service: str,
    signer: Signer,
    *,
    region: str,
    network: NetworkPolicy,
    deadline_s: float,
    endpoint: str = "",
) -> Client:
    """A fresh client; `endpoint` replaces the service's public address. No network yet.

    Raises: InvalidInput (region, endpoint), NotPermitted (address).
    """
    return Client(service, _client(service, signer, region, endpoint), network, deadline_s)


def _client(service: str, signer: Signer, region: str, endpoint: str) -> Any:
    try:
        from botocore import exceptions as sdk
        from botocore.config import Config
    except ImportError:
        raise InvalidInput(
            "the AWS library is missing", hint="Install keyturn[aws].", field="method"
        ) from None
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        ignore_configured_endpoint_urls=True,
        # A store of one's own rarely has a DNS name per bucket.
        s3={"addressing_style": "path"} if endpoint else {},
    )
    try:
        return _session().create_client(
            service,
            region_name=region,
            endpoint_url=endpoint or None,
            verify=True,
            aws_access_key_id=signer.access_key_id,
            aws_secret_access_key=signer.secret_access_key,
            config=config,
        )
    except (sdk.BotoCoreError, ValueError):
        raise InvalidInput(
            f"the region or the {service} endpoint is malformed",
            hint="A region looks like eu-central-1, an endpoint like https://host.example.",
            field=f"{service}_endpoint" if endpoint else "region",
        ) from None


def _session() -> Any:
    """A session of its own: no profile, no shared file, no cached credential. Only the service models are shared."""
    from botocore.session import Session

    session = Session()
    session.register_component("data_loader", _models())
    settings = session.get_component(
        "config_store"
    )  # `session.set_config_variable` lets the environment win over None
    settings.set_config_variable("profile", None)
    settings.set_config_variable("config_file", os.devnull)
    settings.set_config_variable("credentials_file", os.devnull)
    return session


@functools.cache
def _models() -> Any:
    """The service descriptions, read from disk once: 60 ms a service."""
    from botocore.loaders import create_loader

    return create_loader()


def _answered(response: Mapping[str, Any], lost: Callable[..., KeyturnError]) -> Answer:
    error = response.get("Error") or {}
    status = int((response.get("ResponseMetadata") or {}).get("HTTPStatusCode", 0))
    code = str(error.get("Code", ""))
    if code in _THROTTLES or status == 429:
        raise VendorThrottled(
            "AWS asks to slow down"
            if code != "EntityTemporarilyUnmodifiable"
            else "AWS is still changing this user",
            hint="Nothing was changed; the call is made again later.",
            code=_safe(code),
            status=status,
        )
    if status >= 500 or not status:
        raise lost("failed on its side", kind="error", code=_safe(code), status=status)
    if code == "SignatureDoesNotMatch" and str(error.get("Message", "")).startswith(_SKEWED):
        code = CLOCK_SKEW  # IAM and STS have one code for a wrong secret and a wrong clock
    if status < 300 and not code:
        raise lost("answered an error without a code", kind="protocol", status=status)
    return Answer(code=_safe(code) or str(status), status=status)


def _safe(code: str) -> str:
    """A vendor's code as a fact: anything that does not look like one might be a text, and is left out."""
    return code if _CODE.match(code) else ""


def _refused_here(
    error: Exception, service: str, operation: str, lost: Callable[..., KeyturnError]
) -> KeyturnError:
    from botocore import exceptions as sdk

    if isinstance(error, sdk.ResponseParserError):
        return lost("answered with something that is not its protocol", kind="protocol")
    if isinstance(error, sdk.ParamValidationError | sdk.UnknownServiceError | sdk.InvalidRegionError):
        return InvalidInput(
            f"a value for {service}:{operation} is malformed",
            hint="Check the bucket, the region, the user name and the key id; nothing was sent.",
            field="settings",
        )
    return lost("could not be called", kind="protocol")


def _lost(
    host: str, service: str, operation: str, changes: bool, words: str, *, sent: bool = True, **facts: Any
) -> KeyturnError:
    """The meaning of a missing answer."""
    facts = {"host": host, "operation": f"{service}:{operation}", "network": facts.pop("kind", ""), **facts}
    if changes and sent:
        return OutcomeUnknown(
            f"{host} {words}", hint="The change may have happened; the vendor is looked at first.", **facts
        )
    return VendorUnavailable(
        f"{host} {words}", hint="Nothing was changed; the call is made again later.", **facts
    )

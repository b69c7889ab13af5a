"""AWS calls through botocore: guarded address, bounded time, one attempt, nothing read from files or environment.

An error AWS documents as its answer (a 4xx with a code) is an answer like any other; only what says nothing about the
request becomes an exception. What a code means for a credential is the connector's business.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from keyturn import boundary
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
_CONNECT_S = 5.0


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
    """One service, one signer, one deadline over all its calls. Close it: connections are never shared."""

    def __init__(
        self, service: str, make: Callable[[float], Any], network: NetworkPolicy, deadline_s: float
    ) -> None:
        self._make = make
        self._network = network
        self._deadline = time.monotonic() + deadline_s
        self._patience_s = deadline_s
        self._sdk = make(deadline_s)
        self.service = service
        try:
            self._target = ssrf.target(self._sdk.meta.endpoint_url, network)
        except KeyturnError:
            self.close()
            raise

    @property
    def host(self) -> str:
        """The host called; a bucket may be a label in front of it."""
        return self._target.host

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self._sdk.close()

    def left(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - time.monotonic()

    def call(self, operation: str, *, changes: bool = False, **params: Any) -> Answer:
        """One attempt of one operation, by its boto3 name. `changes` marks one that alters something at AWS.

        Raises: VendorThrottled (nothing changed); VendorUnavailable (a read, or nothing was sent); OutcomeUnknown (a
        changing call without a clear answer); InvalidInput (refused before it was sent).
        """
        with_facts = functools.partial(_lost, self.host, self.service, operation, changes)
        self._prepare(with_facts)
        from botocore import exceptions as sdk

        try:
            return Answer(getattr(self._sdk, operation)(**params))
        except sdk.ClientError as error:
            return _answered(error.response, with_facts)
        except (sdk.ConnectTimeoutError, sdk.EndpointConnectionError, sdk.ProxyConnectionError):
            raise with_facts("could not be reached", kind="refused", sent=False) from None
        except sdk.ReadTimeoutError:
            raise with_facts("did not answer in time", kind="timeout") from None
        except sdk.SSLError:
            # Usually the handshake, but the SDK does not say; for a change the careful reading is the right one.
            raise with_facts("failed the TLS check", kind="tls") from None
        except sdk.HTTPClientError:
            raise with_facts("dropped the connection", kind="reset") from None
        except sdk.BotoCoreError as error:
            raise _refused_here(error, self.service, operation, with_facts) from None
        except Exception:  # a bug in the SDK still must not carry a request, and its signature, out of here
            raise with_facts("could not be understood", kind="protocol") from None

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

    def _prepare(self, lost: Callable[..., KeyturnError]) -> None:
        boundary.leaving(self.host)
        # The SDK resolves again by itself, so this check is not a pin; TLS against the name is what binds the two.
        ssrf.addresses(self._target, self._network)
        left = self.left()
        if left <= 0:
            raise lost("left no time for this call", kind="timeout", sent=False)
        if left < self._patience_s - 1:  # a client's time-outs are fixed when it is made
            self._sdk.close()
            self._sdk, self._patience_s = self._make(left), left


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
    return Client(service, functools.partial(_client, service, signer, region, endpoint), network, deadline_s)


def _client(service: str, signer: Signer, region: str, endpoint: str, patience_s: float) -> Any:
    try:
        from botocore import exceptions as sdk
        from botocore.config import Config
    except ImportError:
        raise InvalidInput(
            "the AWS library is missing", hint="Install keyturn[aws].", field="method"
        ) from None
    connect_s = min(_CONNECT_S, patience_s / 2)
    config = Config(
        connect_timeout=connect_s,
        read_timeout=patience_s - connect_s,
        retries={"mode": "standard", "total_max_attempts": 1},
        proxies={},  # an empty mapping, unlike None, keeps the environment's proxies out
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

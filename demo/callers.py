"""Programs of others that call with what the hub issued to them, all the while: one class for each way to present it."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

import boto3
import requests
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from demo.consumers import Seen

_REFUSED = frozenset({400, 401, 403})
_S3_REFUSED = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"})


class RefusedCall(Exception):
    """The other side said no to the credential."""


class Caller:
    """Somebody outside who calls over and over, and goes on with another value when one is handed over.

    `values` is what was handed over, by name; a subclass says how one call is made with it.
    """

    every_s = 0.1

    def __init__(self, values: Mapping[str, str]) -> None:
        self.seen = Seen()
        self.values = dict(values)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="caller", daemon=True)

    def take(self, values: Mapping[str, str]) -> None:
        """Puts a new value in place: from the next call on it is the one."""
        self.values = {**self.values, **values}

    def start(self) -> None:
        """Starts calling."""
        self._thread.start()

    def stop(self) -> None:
        """Stops; `seen` is final afterwards."""
        self._stop.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stop.wait(self.every_s):
            try:
                self._call(self.values)
                self.seen.logins += 1
            except RefusedCall as error:
                self.seen.refused += 1
                self.seen.codes.append(str(error))
            except (OSError, BotoCoreError):  # requests' errors are OSErrors; no answer is no refusal
                continue

    def _call(self, values: Mapping[str, str]) -> None:
        raise NotImplementedError


class OverHttp(Caller):
    """A caller of the hub's own endpoints."""

    def __init__(self, hub: str, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self._hub, self._http = hub, requests.Session()

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        answer = self._http.request(method, self._hub + path, timeout=5, **more)
        if answer.status_code in _REFUSED:
            raise RefusedCall(answer.status_code)
        answer.raise_for_status()
        return answer.json()

    def _token(self, values: Mapping[str, str], **form: str) -> dict[str, Any]:
        found: dict[str, Any] = self._ask(
            "POST", "/oauth/token", data=form, auth=(values["client_id"], values["value"])
        )
        self._ask("GET", "/api/v1/whoami", headers={"Authorization": f"Bearer {found['access_token']}"})
        return found


class KeyHolder(OverHttp):
    """Shows a key."""

    def _call(self, values: Mapping[str, str]) -> None:
        self._ask("GET", "/api/v1/whoami", headers={"AccessKey": values["value"]})


class Machine(OverHttp):
    """An OAuth client of a program: a token for its secret each time, then a call with it."""

    def _call(self, values: Mapping[str, str]) -> None:
        self._token(values, grant_type="client_credentials")


class Application(OverHttp):
    """An OAuth application: lives on what somebody allowed it once, with a refresh token that changes at every use."""

    every_s = 0.2

    def _call(self, values: Mapping[str, str]) -> None:
        found = self._token(values, grant_type="refresh_token", refresh_token=values["refresh_token"])
        self.take({"refresh_token": found["refresh_token"]})


class Segment(OverHttp):
    """Segment's destination: posts calls with the key that was pasted into its settings."""

    every_s = 0.2
    _numbers = itertools.count(1)

    def _call(self, values: Mapping[str, str]) -> None:
        call = {
            "type": "track",
            "event": "Signed In",
            "userId": "u-1",
            "messageId": f"demo-{next(self._numbers)}",
        }
        self._ask("POST", "/clickstream/segmentio/event", json=call, headers={"accessKey": values["value"]})


class Publisher(OverHttp):
    """Signs what it posts, as Standard Webhooks says; the secret itself is never sent."""

    every_s = 0.2
    _numbers = itertools.count(1)

    def _call(self, values: Mapping[str, str]) -> None:
        event_id, at = f"demo-{next(self._numbers)}", str(int(time.time()))
        body = json.dumps({"type": "order.paid", "data": {"total": 3}}).encode()
        key = b64decode(values["value"].removeprefix("whsec_"))
        signature = hmac.digest(key, f"{event_id}.{at}.".encode() + body, hashlib.sha256)
        headers = {
            "webhook-id": event_id,
            "webhook-timestamp": at,
            "webhook-signature": f"v1,{b64encode(signature).decode()}",
            "Content-Type": "application/json",
        }
        self._ask("POST", f"/api/v1/webhooks/{values['id']}", data=body, headers=headers)


class Partner(Caller):
    """Drops a file into its folder of the hub's bucket, reads it back and takes it away: an unmodified boto3 client."""

    every_s = 0.3

    def __init__(self, store: str, bucket: str, prefix: str, region: str, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self._store, self._bucket, self._key, self._region = store, bucket, f"{prefix}orders.csv", region
        self._client, self._key_id = self._sign_with(values), values["access_key_id"]

    def _sign_with(self, values: Mapping[str, str]) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self._store,
            region_name=self._region,
            aws_access_key_id=values["access_key_id"],
            aws_secret_access_key=values["secret_access_key"],
            config=Config(proxies={}, s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
        )

    def _call(self, values: Mapping[str, str]) -> None:
        if values["access_key_id"] != self._key_id:
            self._client, self._key_id = self._sign_with(values), values["access_key_id"]
        where = {"Bucket": self._bucket, "Key": self._key}
        try:
            self._client.put_object(**where, Body=b"1,2,3")
            self._client.get_object(**where)["Body"].read()
            self._client.delete_object(**where)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _S3_REFUSED:
                raise RefusedCall(code) from None

"""Master keys wrapped by a key service: AWS KMS, and the transit engine of HashiCorp Vault or OpenBao.

The service never sees a row. It unwraps a master key once, at start-up; the wrapped key lies in a small file beside
the configuration and opens nothing without the service. An outage after start-up therefore stops nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from keyturn import boundary
from keyturn.contract.values import NetworkPolicy
from keyturn.errors import InvalidInput, KeyturnError, VaultSealed
from keyturn.vault import files
from keyturn.vault.envelope import KEY_BYTES

_CONTEXT = {"application": "keyturn", "purpose": "kek"}  # bound by KMS and shown in CloudTrail: never change
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class AwsKms:
    """The data-key pattern: KMS makes the master key and returns it twice, in clear and wrapped.

    Credentials come from the usual AWS chain. Needs kms:GenerateDataKey and kms:Decrypt on `key`.
    Source: https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateDataKey.html; exercised
    against moto, not against AWS itself.
    """

    name: str
    key: str
    region: str = ""
    endpoint: str = ""

    def make(self) -> tuple[bytes, str]:
        """A fresh key and its wrapped form. Raises: VaultSealed."""
        answer = self._call("generate_data_key", KeySpec="AES_256")
        return bytes(answer["Plaintext"]), base64.b64encode(answer["CiphertextBlob"]).decode()

    def unwrap(self, line: str) -> bytes:
        """The key. `KeyId` is sent along, so a blob wrapped by somebody else's key is refused. Raises: VaultSealed."""
        return bytes(self._call("decrypt", CiphertextBlob=base64.b64decode(line, validate=True))["Plaintext"])

    def _call(self, operation: str, **arguments: Any) -> Any:
        boundary.leaving(f"AWS KMS {self.region}".strip())
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            raise VaultSealed(
                f"{self.name} needs the AWS library", hint="pip install 'keyturn[aws]'", source=self.name
            ) from None
        try:
            client = boto3.client(
                "kms",
                region_name=self.region or None,
                endpoint_url=self.endpoint or None,
                config=Config(
                    connect_timeout=5, read_timeout=10, retries={"max_attempts": 3, "mode": "standard"}
                ),
            )
            return getattr(client, operation)(KeyId=self.key, EncryptionContext=_CONTEXT, **arguments)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            raise VaultSealed(
                f"AWS KMS refused {operation} for {self.name} ({code})",
                hint="Check that the key exists in this region, is enabled, and that our role has "
                "kms:GenerateDataKey and kms:Decrypt on it.",
                source=self.name,
                code=code,
            ) from None
        except (BotoCoreError, ValueError) as error:  # ValueError: a malformed endpoint
            raise VaultSealed(
                f"AWS KMS did not answer for {self.name} ({type(error).__name__})",
                hint="Check the region, the network and the AWS credentials of this process, then start again.",
                source=self.name,
            ) from None


@dataclass(frozen=True)
class Transit:
    """Encrypts and decrypts the master key by a named key that never leaves Vault or OpenBao.

    The token needs `update` on `<mount>/encrypt/<key>` and `<mount>/decrypt/<key>` and nothing else. It is read anew
    for each call from VAULT_TOKEN_FILE (an agent keeps it fresh) or else VAULT_TOKEN.
    Source: https://openbao.org/api-docs/secret/transit/; exercised against a real OpenBao (2026-11-23).
    """

    name: str
    address: str  # https://host:port
    mount: str
    key: str
    environ: Mapping[str, str] = field(repr=False)

    @classmethod
    def parse(cls, name: str, rest: str, environ: Mapping[str, str]) -> Transit:
        """Reads `https://host:port/mount#key`; the mount is `transit` when left out. Raises: InvalidInput."""
        try:
            parts = urlsplit(rest)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or not parts.fragment or parts.query or "@" in parts.netloc:
            raise InvalidInput(
                "the transit key source is malformed",
                hint="Write it as transit:https://vault.example:8200/transit#key; the token goes into VAULT_TOKEN.",
                field="KEYTURN_KEK",
            )
        if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
            raise InvalidInput(
                "the master key must not travel over plain http", hint="Use https://.", field="KEYTURN_KEK"
            )
        mount = parts.path.strip("/").removeprefix("v1/") or "transit"
        return cls(name, f"{parts.scheme}://{parts.netloc}", mount, parts.fragment, environ)

    def make(self) -> tuple[bytes, str]:
        """A fresh key, made here, and its wrapped form. Raises: VaultSealed."""
        key = os.urandom(KEY_BYTES)
        return key, str(self._call("encrypt", {"plaintext": base64.b64encode(key).decode()}, "ciphertext"))

    def unwrap(self, line: str) -> bytes:
        """The key. Raises: VaultSealed."""
        try:
            return base64.b64decode(self._call("decrypt", {"ciphertext": line}, "plaintext"), validate=True)
        except binascii.Error:
            raise self._sealed("gave something else than a key", "Check the address and the mount.") from None

    def _call(self, operation: str, payload: Mapping[str, str], wanted: str) -> str:
        from keyturn.transport import http

        headers = {
            "X-Vault-Token": self._token(),
            "X-Vault-Request": "true",
            "Content-Type": "application/json",
        }
        if namespace := self.environ.get("VAULT_NAMESPACE"):
            headers["X-Vault-Namespace"] = namespace
        url = f"{self.address}/v1/{quote(self.mount)}/{operation}/{quote(self.key, safe='')}"
        # The operator wrote this address into the key source, which is what opens a private host elsewhere too.
        parts = urlsplit(self.address)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        network = NetworkPolicy(frozenset({f"{parts.hostname}:{port}"}))
        boundary.leaving(str(parts.hostname))
        try:
            answer = http.send(http.Request("POST", url, headers, json.dumps(payload).encode()), network)
        except KeyturnError as error:
            raise self._sealed(
                f"did not answer ({error.message})", "Check address, network and certificate."
            ) from None
        if answer.status == 403:
            raise self._sealed(
                f"refused {operation} (403)",
                f"Renew the token, and give it `update` on {self.mount}/{operation}/{self.key}.",
                status=403,
            )
        if answer.status == 503:
            raise self._sealed(
                "is itself sealed or a standby (503)", "Unseal it, then start again.", status=503
            )
        try:
            value = answer.json()["data"][wanted] if answer.status == 200 else None
        except (KeyturnError, KeyError, TypeError):
            value = None
        if not isinstance(value, str):
            raise self._sealed(
                f"answered {operation} with status {answer.status}",
                f"Check that the mount {self.mount} is a transit engine and its key {self.key} is the one we wrapped with.",
                status=answer.status,
            )
        return value

    def _token(self) -> str:
        token = self.environ.get("VAULT_TOKEN", "")
        if path := self.environ.get("VAULT_TOKEN_FILE"):
            try:
                token = files.read_private(path).decode("ascii", "replace")
            except OSError as error:
                raise self._sealed(
                    f"has no token: {path} ({error.strerror})", "Check VAULT_TOKEN_FILE."
                ) from None
        if not token.strip():
            raise self._sealed("has no token", "Set VAULT_TOKEN_FILE or VAULT_TOKEN.")
        return token.strip()

    def _sealed(self, what: str, hint: str, **facts: Any) -> VaultSealed:
        return VaultSealed(f"{self.name} {what}", hint=hint, source=self.name, **facts)

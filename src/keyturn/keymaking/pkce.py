"""PKCE and state for OAuth consent: ties the answer to the browser session that asked. Source: RFC 7636."""

from __future__ import annotations

import base64
import hashlib
import secrets


def verifier() -> str:
    """A fresh code verifier: 43 characters, 256 bits. Secret until the code is exchanged."""
    return secrets.token_urlsafe(32)


def challenge(code_verifier: str) -> str:
    """The S256 challenge that goes into the consent URL; `plain` is never used."""
    return base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()


def state() -> str:
    """A fresh `state`, also good as `nonce`: 43 characters, 256 bits; compare with `hmac.compare_digest`, use once."""
    return secrets.token_urlsafe(32)

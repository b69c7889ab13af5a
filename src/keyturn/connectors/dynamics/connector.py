"""The methods of Dynamics, and what each can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keyturn.connectors.dynamics import certificate, client_secret
from keyturn.contract.capabilities import Capabilities
from keyturn.errors import NotFound


def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
    """The capabilities of a method. Raises: NotFound."""
    del settings
    if method == "client_secret":
        return client_secret.capabilities()
    if method == "certificate":
        return certificate.capabilities()
    raise NotFound(f"dynamics has no method {method!r}", hint="Use client_secret or certificate.")

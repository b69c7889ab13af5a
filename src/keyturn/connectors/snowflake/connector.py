"""The methods of Snowflake, and what each can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keyturn.connectors.snowflake import client, key_pair
from keyturn.contract.capabilities import Capabilities
from keyturn.errors import NotFound
from keyturn.model.secret import Material


def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
    """The capabilities of a method. Raises: NotFound."""
    del settings
    if method != "key_pair":
        raise NotFound(f"snowflake has no method {method!r}", hint="Use key_pair.")
    return key_pair.capabilities()


def check(material: Material) -> None:
    """Refuses a private key that cannot be used: no key, not RSA, too short, wrong passphrase. No network.

    Takes the connection's or the administrator's material. Raises: InvalidInput naming the field.
    """
    if "admin_user" in material:
        client.admin_pair_of(material)
    else:
        client.pair_of(material)

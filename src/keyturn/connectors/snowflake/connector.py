"""The methods of Snowflake, and what each can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keyturn.connectors.snowflake import client, key_pair, oauth, password
from keyturn.contract.capabilities import Capabilities
from keyturn.errors import NotFound
from keyturn.model.secret import Material

_METHODS = {
    "key_pair": key_pair.capabilities,
    "oauth": oauth.capabilities,
    "password": password.capabilities,
}


def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
    """The capabilities of a method. Raises: NotFound."""
    del settings
    if method not in _METHODS:
        raise NotFound(f"snowflake has no method {method!r}", hint=f"Use {', '.join(_METHODS)}.")
    return _METHODS[method]()


def check(material: Material) -> None:
    """Refuses a private key that cannot be used: no key, not RSA, too short, wrong passphrase. No network.

    Takes the connection's or the administrator's material. Raises: InvalidInput naming the field.
    """
    if "admin_user" in material:
        client.admin_pair_of(material)
    else:
        client.pair_of(material)

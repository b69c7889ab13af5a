"""The methods of Snowflake, and what each can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keyturn.connectors.snowflake import client, key_pair
from keyturn.contract.capabilities import Capabilities
from keyturn.errors import InvalidInput
from keyturn.model.credential import Ref
from keyturn.model.secret import Material


def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
    """The capabilities of a method. Raises: InvalidInput."""
    del settings
    if method != "key_pair":
        raise InvalidInput(f"snowflake has no method {method!r}", hint="Use key_pair.", field="method")
    return key_pair.capabilities()


def ref_of(material: Material) -> Ref:
    """Where a key a person supplied sits, as far as the key itself tells. No network.

    Raises: InvalidInput naming the field: the text is no private key, not RSA, too short, or its passphrase is wrong.
    """
    return key_pair.ref_of(material)


def check_admin(material: Material) -> None:
    """Refuses an administrator's key that cannot be read. No network. Raises: InvalidInput naming the field."""
    client.admin_pair_of(material)

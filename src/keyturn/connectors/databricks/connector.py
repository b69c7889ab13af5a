"""What Databricks' two rows can do: `oauth` rotates a service principal's secrets, `user` personal access tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keyturn.connectors.databricks.oauth_secrets import Secrets, SecretTest
from keyturn.connectors.databricks.reading import Rows, with_secret, with_token
from keyturn.connectors.databricks.tokens import Tokens, TokenTest
from keyturn.contract.capabilities import Capabilities
from keyturn.errors import NotFound


def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
    """The capabilities of `oauth` or `user`; who signs is decided call by call. Raises: NotFound."""
    del settings
    if method == "oauth":
        secrets = Secrets()
        return Capabilities(
            verifier=SecretTest(),
            lister=secrets,
            issuer=secrets,
            revoker=secrets,
            locator=secrets,
            reader=Rows(with_secret),
        )
    if method == "user":
        tokens = Tokens()
        return Capabilities(
            verifier=TokenTest(),
            lister=tokens,
            issuer=tokens,
            revoker=tokens,
            locator=tokens,
            reader=Rows(with_token),
        )
    raise NotFound(f"databricks has no method {method!r}", hint="Use oauth or user.")

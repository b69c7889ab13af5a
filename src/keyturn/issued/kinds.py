"""The kinds of credential the hub issues, as data: another kind of opaque key is one more line here and its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keyturn.errors import NotFound


@dataclass(frozen=True)
class Kind:
    """`letter` is the token's kind character (keymaking.passwords.KINDS); `name` is what people type. `flows`: what an
    OAuth client of this kind may do at the token endpoint (RFC 6749 grant types); empty for an opaque key. `made` are
    fields of its page that nobody fills in when it is issued.
    """

    name: str
    system: str
    method: str
    letter: str
    flows: tuple[str, ...] = ()
    signs: bool = (
        False  # its holder signs with it instead of showing it, so the hub has to keep the value, sealed
    )
    made: tuple[str, ...] = ()

    @property
    def is_ours_to_check(self) -> bool:
        """Whether its holder shows it to this hub. A key to a bucket is shown to the store, which alone knows of its use."""
        return bool(self.letter)


CLIENT_CREDENTIALS = ("client_credentials",)
BUCKET = Kind("hub-bucket", "s3-managed", "access_key", "", made=("access_key_id", "secret_access_key"))
KINDS = (
    Kind("api-key", "hub-api", "access_key", "k"),
    Kind("m2m", "hub-api", "m2m", "s", CLIENT_CREDENTIALS),
    Kind("oauth-app", "hub-api", "oauth_app", "s", ("authorization_code", "refresh_token")),
    Kind("bulk-key", "bulk-api", "access_key", "b"),
    Kind("bulk", "bulk-api", "oauth", "s", CLIENT_CREDENTIALS),
    Kind("events", "event-stream", "oauth", "s", CLIENT_CREDENTIALS),
    Kind("webhook", "hub-webhook", "signing_secret", "e", signs=True),
    Kind("hub-segment", "segment", "access_key", "w"),
    BUCKET,
)

_BY_ROW: Mapping[tuple[str, str], Kind] = {(kind.system, kind.method): kind for kind in KINDS}


def named(text: str) -> Kind:
    """A kind by its name or its row, `api-key` or `hub-api/access_key`. Raises: NotFound with the kinds there are."""
    for kind in KINDS:
        if text in {kind.name, f"{kind.system}/{kind.method}"}:
            return kind
    raise NotFound(
        f"this hub issues no {text}", hint=f"It issues: {', '.join(k.name for k in KINDS)}.", field="kind"
    )


def of_row(system: str, method: str) -> Kind:
    """The kind of a row. Raises: NotFound."""
    found = _BY_ROW.get((system, method))
    if found is None:
        raise NotFound(f"this hub does not issue {system}/{method}", field="kind")
    return found


def is_ours(system: str, method: str) -> bool:
    """Whether the hub issues this row from its own book."""
    found = _BY_ROW.get((system, method))
    return found is not None and found.is_ours_to_check

"""What the executor needs of the world, wired by `bootstrap`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from keyturn.contract.capabilities import Capabilities
from keyturn.contract.manifest import Method
from keyturn.contract.values import NetworkPolicy
from keyturn.model.card import Card
from keyturn.model.credential import Connection
from keyturn.storage.database import Store
from keyturn.vault.secrets import Secrets


def _nothing() -> None:
    """There is no spool."""


def _nobody(_run_id: str, _at: float) -> None:
    """Nobody listens: the sweep finds what is due."""


@dataclass(frozen=True)
class RowOf:
    """A connection's row: its method, the card that holds for its settings, and what its connector can do."""

    method: Method
    card: Card
    can: Capabilities


class Rows(Protocol):
    """The catalogue, as the executor sees it."""

    def row_of(self, connection: Connection) -> RowOf:
        """The row of a connection. Raises: NotFound when its connector is not installed."""


@dataclass(frozen=True)
class Hub:
    """`worker` names this process; `patience` scales every wait of the retry ladders (1 in production); `lease_s` is
    how long a principal is held without a sign of life; `import_spool` files the answers the store once refused;
    `spool_name` tells this host's spool from those of others, empty where there are no others."""

    store: Store
    secrets: Secrets
    rows: Rows
    fingerprint: Callable[[str], str]
    clock: Callable[[], float]
    worker: str
    network: NetworkPolicy
    redirect_uri: str = ""
    patience: float = 1.0
    spool: str = ""
    spool_name: str = ""
    spool_key: bytes = b""
    import_spool: Callable[[], object] = _nothing
    lease_s: float = 60.0
    wake: Callable[[str, float], None] = _nobody

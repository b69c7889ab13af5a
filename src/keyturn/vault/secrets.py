"""The one door to sealed values: puts and gets, by row id. Sealing happens outside the transaction, storing inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keyturn.errors import VaultSealed, VaultTampered
from keyturn.model.secret import Material
from keyturn.storage import sealed as rows
from keyturn.storage.database import Store, Tx
from keyturn.vault.envelope import Sealed
from keyturn.vault.keyring import Keyring


@dataclass
class Secrets:
    """Sealed values in our store. `keyring` is swapped when the master key is rotated."""

    store: Store
    keyring: Keyring
    reload: Callable[[], Keyring] | None = None  # after another process rotated the master key

    def sealing(self, row_id: str, plaintext: bytes, at: float) -> Callable[[Tx], None]:
        """Seals now and returns the write that stores it, so that the commit holds ciphertext only."""
        return storing(row_id, self.keyring.seal(plaintext, row_id), at)

    def get(self, row_id: str) -> bytes:
        """The plaintext of a row, read back from the store. Raises: VaultTampered, VaultSealed."""
        body = self.store.read(lambda tx: rows.get(tx, row_id), alone=True)
        if body is None:
            raise VaultTampered(
                f"{row_id} is not in the vault", hint="It was destroyed, or the database was changed by hand."
            )
        return self.open(body, row_id)

    def open(self, body: bytes, row_id: str) -> bytes:
        """The plaintext of sealed bytes; a key this process has not seen yet is looked for once at its source."""
        try:
            return self.keyring.open(body, row_id)
        except VaultSealed:
            if self.reload is None:
                raise
            self.keyring = self.reload()
            return self.keyring.open(body, row_id)

    def find(self, row_id: str) -> bytes | None:
        """Like `get`, None when there is no such row."""
        body = self.store.read(lambda tx: rows.get(tx, row_id), alone=True)
        return None if body is None else self.open(body, row_id)

    def material(self, row_id: str) -> Material:
        """The credential in a row."""
        return Material.from_bytes(self.get(row_id))


def storing(row_id: str, body: bytes, at: float) -> Callable[[Tx], None]:
    """The write that stores sealed bytes."""
    kek_id = Sealed.from_bytes(body).kek_id
    return lambda tx: rows.put(tx, row_id, kek_id, body, at)


def version_row(version_id: str) -> str:
    """Where a version's value is."""
    return f"version:{version_id}"


def admin_row(connection_id: str) -> str:
    """Where a connection's administrator credential is."""
    return f"admin:{connection_id}"


def receipt_row(run_id: str, step: str, attempt: int) -> str:
    """Where the raw answer to one call is."""
    return f"receipt:{run_id}:{step}:{attempt}"


def task_row(task_id: str) -> str:
    """Where a person's submission is."""
    return f"task:{task_id}"

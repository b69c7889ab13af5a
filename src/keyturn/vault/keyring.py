"""The loaded master keys: the newest seals, all of them open. Works on bytes; rows and rounds of rewrapping are storage's."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from keyturn.errors import VaultSealed
from keyturn.vault import envelope
from keyturn.vault.envelope import Kek, Sealed


class Keyring:
    """Master keys, newest first. Immutable: a rotation makes a new ring and swaps it in."""

    __slots__ = ("_by_id", "_keks")

    def __init__(self, keks: Sequence[Kek]) -> None:
        if not keks:
            raise VaultSealed(
                "no master key is loaded", hint="Run `keyturn init`, or restore the key source."
            )
        self._keks = tuple(dict.fromkeys(keks))
        self._by_id = {kek.id: kek for kek in self._keks}

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self.ids)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Keyring is not pickled: load it from its source")

    @property
    def newest(self) -> Kek:
        """The key that seals."""
        return self._keks[0]

    @property
    def ids(self) -> tuple[str, ...]:
        """Public ids, newest first."""
        return tuple(self._by_id)

    def seal(self, plaintext: bytes, identity: str) -> bytes:
        """The sealed bytes for the row called `identity`, e.g. "version:ver_x"."""
        return envelope.seal(self.newest, plaintext, identity).to_bytes()

    def open(self, sealed: bytes, identity: str) -> bytes:
        """The plaintext of the row called `identity`. Raises: VaultSealed, VaultTampered."""
        parsed = Sealed.from_bytes(sealed)
        return envelope.open_(self._key_of(parsed, identity), parsed, identity)

    def rewrap(self, sealed: bytes, identity: str) -> bytes:
        """The row under the newest key; unchanged bytes when it is there already, so a sweep may run twice.

        The caller commits it with a condition on the bytes it read: a row that was replaced meanwhile wins.
        """
        parsed = Sealed.from_bytes(sealed)
        if parsed.kek_id == self.newest.id:
            return sealed
        return envelope.rewrap(parsed, self._key_of(parsed, identity), self.newest, identity).to_bytes()

    def _key_of(self, sealed: Sealed, identity: str) -> Kek:
        kek = self._by_id.get(sealed.kek_id)
        if kek is None:
            for each in self._keks:
                with suppress(VaultSealed):
                    envelope.open_(each, sealed, identity)  # VaultTampered if only the label is wrong
            raise VaultSealed(
                f"{identity} is sealed under {sealed.kek_id}; loaded are {', '.join(self.ids)}",
                hint=f"Add the key {sealed.kek_id} to the key source, after the newest.",
                kek_id=sealed.kek_id,
            )
        return kek


def key_id(sealed: bytes) -> str:
    """Under which master key a row is sealed: for `vault status` and for choosing rows to rewrap. Opens nothing."""
    return Sealed.from_bytes(sealed).kek_id

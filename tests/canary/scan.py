"""Looks for many secrets in many bytes, in every form in which one may lie around."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keyturn.testing import forms

_PREFIX = 8  # every form is at least this long
_CHUNK = 8 * 1024 * 1024


@dataclass(frozen=True)
class Hit:
    """A secret where it must not be; told by where and whose, never by its value."""

    where: str
    at: int
    what: str


class Scanner:
    """All forms of all secrets, found by their first bytes: the time does not grow with the number of secrets."""

    def __init__(self, secrets: Iterable[tuple[str, str]]) -> None:
        """`secrets` are pairs of a word for it and its value."""
        self._by_prefix: dict[bytes, list[tuple[bytes, str]]] = {}
        self._longest = _PREFIX
        self.secrets = 0
        for what, value in dict.fromkeys(secrets):
            found = forms(value)
            self.secrets += bool(found)
            for form in found:
                self._by_prefix.setdefault(form[:_PREFIX], []).append((form, what))
                self._longest = max(self._longest, len(form))

    def bytes(self, where: str, data: bytes) -> Iterator[Hit]:
        """Every place in `data` where a secret begins."""
        prefixes = self._by_prefix
        for at in [at for at in range(len(data) - _PREFIX + 1) if data[at : at + _PREFIX] in prefixes]:
            for form, what in prefixes[data[at : at + _PREFIX]]:
                if data.startswith(form, at):
                    yield Hit(where, at, what)
                    break

    def file(self, path: Path) -> list[Hit]:
        """The hits in a file, read in pieces that overlap by the longest form."""
        found: dict[int, Hit] = {}
        with path.open("rb") as handle:
            start, rest = 0, b""
            while piece := handle.read(_CHUNK):
                data = rest + piece
                for hit in self.bytes(str(path), data):
                    found[start + hit.at] = Hit(hit.where, start + hit.at, hit.what)
                keep = min(len(data), self._longest)
                start, rest = start + len(data) - keep, data[-keep:]
        return list(found.values())


def files_below(*folders: Path, leave_out: Iterable[Path] = ()) -> list[Path]:
    """Every regular file below, without those in or equal to one of `leave_out`."""
    out = [each.resolve() for each in leave_out]
    return sorted(
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and not any(path.resolve() == each or each in path.resolve().parents for each in out)
    )

"""Uploads on disk, until they are loaded: appended to, committed by offset, and locked while somebody works on one."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from keyturn.errors import Conflict, NotFound, StoreUnavailable

SPARE_BYTES = 256 * 1024 * 1024  # left free on the disk, for the hub's own database before all
_ID = re.compile(r"bld_[0-9a-z]{26}")


class Uploads:
    """The folder of uploads. A lock dies with its process, so a killed one leaves nothing locked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, load_id: str) -> Path:
        """Where an upload is. Raises: NotFound for anything that is not an id of ours."""
        if not _ID.fullmatch(load_id):
            raise NotFound("there is no such load", field="load")
        return self._folder / load_id

    def make(self, load_id: str) -> None:
        """An empty upload."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path(load_id), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def is_here(self, load_id: str) -> bool:
        """Whether this machine holds it."""
        return self.path(load_id).exists()

    def room(self, wanted: int) -> bool:
        """Whether the disk has room for `wanted` bytes: the upload itself and its records."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return shutil.disk_usage(self._folder).free - 2 * wanted > SPARE_BYTES

    def take(self, load_id: str) -> BinaryIO:
        """The upload, for one at a time, until it is closed. Raises: Conflict while somebody else has it, NotFound when it
        is not here."""
        try:
            source = self.path(load_id).open("r+b", buffering=1024 * 1024)
        except FileNotFoundError:
            raise NotFound("the upload is not on this machine", field="load") from None
        try:
            fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            source.close()
            raise Conflict("another request works on this upload", hint="Wait for it to end.") from None
        return source

    @contextmanager
    def locked(self, load_id: str) -> Iterator[BinaryIO]:
        """The same, for a block."""
        with self.take(load_id) as source:
            yield source

    def remove(self, load_id: str) -> None:
        """Deletes an upload. Gone already is fine."""
        self.path(load_id).unlink(missing_ok=True)

    def ids(self) -> list[str]:
        """The uploads on this machine."""
        if not self._folder.is_dir():
            return []
        return sorted(path.name for path in self._folder.iterdir() if _ID.fullmatch(path.name))


def cut(source: BinaryIO, offset: int) -> None:
    """Forgets what was written behind `offset` but never committed. Raises: StoreUnavailable when less is there."""
    source.seek(0, os.SEEK_END)
    if source.tell() < offset:
        raise StoreUnavailable(
            "the upload on disk is shorter than what was acknowledged", hint="Send it anew."
        )
    source.truncate(offset)
    source.seek(offset)


def sync(source: BinaryIO) -> None:
    """Returns once everything written is on the disk. Raises: StoreUnavailable, with nothing to rely on."""
    try:
        source.flush()
        os.fsync(source.fileno())
    except OSError as error:
        raise StoreUnavailable(
            f"the upload cannot be written: {type(error).__name__}", hint="Check free space."
        ) from None

"""Small private files: who may read them, and writes that are whole or absent after a crash."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator

from keyturn.errors import VaultSealed


def read_private(path: str) -> bytes:
    """The content of a file only we can read.

    The checks are made on the open file, not on its name, so nobody can swap it in between; a symbolic link is
    followed, because that is how orchestrators mount secrets. Raises: OSError; VaultSealed when
    others could read or change it, with the command that helps.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise VaultSealed(f"{path} is not a regular file", hint=f"See: ls -l {path}")
        if facts.st_mode & 0o077:
            raise VaultSealed(
                f"{path} may be opened by others (mode {stat.S_IMODE(facts.st_mode):04o})",
                hint=f"If nobody else has read it: chmod 600 {path}. Otherwise rotate the master key as well.",
            )
        if facts.st_uid not in {0, os.geteuid()}:
            raise VaultSealed(f"{path} belongs to another user", hint=f"chown {os.geteuid()} {path}")
        return file.read()


def write_private(path: str, data: bytes, *, replace: bool) -> None:
    """Writes `data` at 0600: after a crash the file is the old one or the new one, never a part.

    Raises: OSError; FileExistsError when it is there and `replace` is false, decided by the file system, so of two
    processes that create at once one loses and learns it.
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=folder, prefix=".keyturn-")  # 0600 from its first instant
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(draft, path)
        else:
            os.link(draft, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
    sync_folder(folder)


def sync_folder(folder: str) -> None:
    """Makes names created or removed in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Keeps other threads and processes of this machine out. The folder is locked, as files in it may be replaced."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # releases the lock

"""Where master keys come from: a URL-like setting, e.g. `file:/etc/keyturn/kek` or `env:KEYTURN_KEK`.

A source is a *shelf* that keeps a short text (a file, a variable, the OS keyring) and a *wrapper* that says what a
line of it means: the key itself, or the key wrapped by a remote key service (`remote.py`). Lines are
`kek_<id> <value>`, newest first; a bare value, as a person would put it into a variable, is accepted too.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qsl

from keyturn.errors import Conflict, InvalidInput, VaultSealed
from keyturn.vault import files
from keyturn.vault.envelope import KEY_BYTES, Kek

_KEY_ID = re.compile(r"kek_[0-9a-f]{16}")
_HEADER = "# Keyturn master keys, newest first. Back this up apart from the database; lost means every secret is lost.\n"
FORMS = "file:/path, env:NAME, keyring:service/name, awskms:key-id?region=..., transit:https://host/mount#key"


class Shelf(Protocol):
    """Keeps one short text."""

    def read(self) -> str | None:
        """The text; None when there is none. Raises: VaultSealed when it cannot be had."""

    def write(self, text: str, *, replace: bool) -> None:
        """Keeps `text` durably. Raises: Conflict when there is one and `replace` is false; VaultSealed."""

    def locked(self) -> AbstractContextManager[None]:
        """Held around a read and the write that depends on it."""


class Wrapper(Protocol):
    """What a line on the shelf means."""

    def make(self) -> tuple[bytes, str]:
        """A fresh key and its line. May call the network."""

    def unwrap(self, line: str) -> bytes:
        """The key of a line. May call the network. Raises: VaultSealed; ValueError when the line is malformed."""


@dataclass(frozen=True)
class KekSource:
    """One place master keys come from. `name` is the setting without secrets: safe to show."""

    name: str
    shelf: Shelf
    wrapper: Wrapper

    def load(self) -> tuple[Kek, ...]:
        """The keys, newest first. Raises: VaultSealed, naming the source and the fix."""
        text = self.shelf.read()
        lines = _lines(text or "")
        if not lines:
            raise VaultSealed(
                f"there is no master key at {self.name}",
                hint="New hub: run `keyturn init`. Existing hub: restore the key from its backup; a new key opens nothing.",
                source=self.name,
            )
        return tuple(self._kek(number, line) for number, line in enumerate(lines, 1))

    def create(self) -> Kek:
        """Makes the first key. Raises: Conflict when a key is there already: it is never overwritten."""
        with self.shelf.locked():
            if self.shelf.read():
                raise Conflict(
                    f"{self.name} holds a master key already",
                    hint="Use `keyturn vault rotate-kek` to add a newer one.",
                )
            key, line = self.wrapper.make()
            return self._keep(Kek(key), line, [], replace=False)

    def add(self) -> Kek:
        """Makes a newer key and keeps the old ones, which still open. The first half of a rotation."""
        with self.shelf.locked():
            self.load()  # never build on keys that do not load
            key, line = self.wrapper.make()
            return self._keep(Kek(key), line, _lines(self.shelf.read() or ""), replace=True)

    def drop(self, kek_id: str) -> None:
        """Forgets an old key once no row needs it. Already gone counts as done. Raises: Conflict for the newest."""
        with self.shelf.locked():
            lines = _lines(self.shelf.read() or "")
            held = [kek.id for kek in self.load()]
            if kek_id == held[0]:
                raise Conflict(
                    f"{kek_id} is the newest key of {self.name}", hint="Rotate first, then drop the old key."
                )
            if kek_id in held:
                kept = [line for line, each in zip(lines, held, strict=True) if each != kek_id]
                self.shelf.write(_text(kept), replace=True)

    def _keep(self, kek: Kek, line: str, older: list[str], *, replace: bool) -> Kek:
        """Writes and reads back: a key that cannot be read again must not seal anything."""
        self.shelf.write(_text([f"{kek.id} {line}", *older]), replace=replace)
        if self.load()[0] != kek:
            raise VaultSealed(f"{self.name} did not give back the key just written", source=self.name)
        return kek

    def _kek(self, number: int, line: str) -> Kek:
        label, _, value = line.rpartition(" ")
        try:
            kek = Kek(self.wrapper.unwrap(value))
        except ValueError as error:
            raise VaultSealed(
                f"key {number} at {self.name} is not a master key: {error}",
                hint="It must be 32 random bytes as base64 or 64 hex digits, e.g. from `openssl rand -base64 32`.",
                source=self.name,
            ) from None
        if label and label != kek.id:
            raise VaultSealed(
                f"key {number} at {self.name} says {label} but is {kek.id}",
                hint="The entry was edited or mixed up: restore it from its backup.",
                source=self.name,
            )
        return kek


def parse(
    setting: str, *, environ: Mapping[str, str], config_dir: str, database: str | None = None
) -> KekSource:
    """The source a setting names. Reads nothing yet.

    `config_dir` anchors relative paths and holds the wrapped keys of remote sources; `database` is the SQLite file,
    if there is one. Raises: InvalidInput (field `kek`).
    """
    scheme, _, rest = setting.partition(":")
    if scheme == "file" and rest:
        return _file(rest, config_dir, database)
    if scheme == "env" and rest:
        return KekSource(setting, _Variable(rest, environ), _Plain())
    if scheme == "keyring":
        service, _, name = rest.rpartition("/")
        if service and name:
            return KekSource(setting, _OsKeyring(setting, service, name), _Plain())
    if scheme == "awskms" and rest:
        from keyturn.vault.remote import AwsKms

        key, _, query = rest.partition("?")
        options = dict(parse_qsl(query))
        region = options.get("region") or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
        kms = AwsKms(setting, key, region, options.get("endpoint", ""))
        return KekSource(setting, _File(setting, os.path.join(config_dir, "kek.awskms")), kms)
    if scheme == "transit" and rest:
        from keyturn.vault.remote import Transit

        transit = Transit.parse(setting, rest, environ)
        return KekSource(setting, _File(setting, os.path.join(config_dir, "kek.transit")), transit)
    raise InvalidInput(
        f"unknown master key source {scheme}:", hint=f"Use one of: {FORMS}.", field="KEYTURN_KEK"
    )


def _file(rest: str, config_dir: str, database: str | None) -> KekSource:
    path = os.path.join(config_dir, os.path.expanduser(rest))
    if database is not None:
        folder = os.path.realpath(os.path.dirname(os.path.abspath(database)))
        if os.path.commonpath([folder, os.path.realpath(path)]) == folder:
            # Whoever copies the database's folder (a backup, a volume) would carry the key off with the lock.
            raise InvalidInput(
                f"the master key {path} is inside the database's folder {folder}",
                hint="Put it elsewhere, e.g. file:/etc/keyturn/kek, so that a copy of the folder opens nothing.",
                field="KEYTURN_KEK",
            )
    return KekSource(f"file:{path}", _File(f"file:{path}", path), _Plain())


@dataclass(frozen=True)
class _Plain:
    """The line is the key: base64, base64url or hex of 32 bytes."""

    def make(self) -> tuple[bytes, str]:
        key = os.urandom(KEY_BYTES)
        return key, base64.b64encode(key).decode()

    def unwrap(self, line: str) -> bytes:
        try:
            if re.fullmatch(r"[0-9A-Fa-f]{64}", line):
                key = bytes.fromhex(line)
            else:
                key = base64.b64decode(
                    line.replace("-", "+").replace("_", "/") + "=" * (-len(line) % 4), validate=True
                )
        except binascii.Error:
            raise ValueError("it is neither base64 nor hex") from None
        if len(key) == KEY_BYTES and len(set(key)) < 8:  # 32 random bytes: less likely than one in 2^120
            raise ValueError("it is a placeholder, not random")
        return key


@dataclass(frozen=True)
class _File:
    name: str
    path: str

    def read(self) -> str | None:
        try:
            return files.read_private(self.path).decode("ascii", "replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise VaultSealed(
                f"cannot read {self.path} ({error.strerror})",
                hint="Check its owner and mode.",
                source=self.name,
            ) from None

    def write(self, text: str, *, replace: bool) -> None:
        try:
            files.write_private(self.path, text.encode(), replace=replace)
        except FileExistsError:
            raise Conflict(
                f"{self.path} is there already", hint="It is never overwritten; move it away."
            ) from None
        except OSError as error:
            raise VaultSealed(
                f"cannot write {self.path} ({error.strerror})",
                hint="Check the folder's owner, mode and space.",
                source=self.name,
            ) from None

    def locked(self) -> AbstractContextManager[None]:
        folder = os.path.dirname(self.path)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as error:
            raise VaultSealed(f"cannot make {folder} ({error.strerror})", source=self.name) from None
        return files.locked(folder)


@dataclass(frozen=True)
class _Variable:
    """An environment variable: one key, or several, newest first, separated by commas. We cannot write it."""

    variable: str
    environ: Mapping[str, str] = field(repr=False)

    def read(self) -> str | None:
        return self.environ.get(self.variable)

    def write(self, text: str, *, replace: bool) -> None:  # noqa: ARG002 - there is no way to write one
        raise InvalidInput(
            f"Keyturn cannot write the environment variable {self.variable}",
            hint=f"Set {self.variable} yourself: a new key from `openssl rand -base64 32`, a comma, then the old keys.",
            field="KEYTURN_KEK",
        )

    def locked(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True)
class _OsKeyring:
    """An entry of the desktop's or server's own keyring."""

    name: str
    service: str
    entry: str

    def read(self) -> str | None:
        library, failed = self._library()
        try:
            text: str | None = library.get_password(self.service, self.entry)
        except failed as error:
            raise self._refused(error) from None
        return text

    def write(self, text: str, *, replace: bool) -> None:
        library, failed = self._library()
        if not replace and self.read():
            raise Conflict(f"{self.name} holds an entry already", hint="It is never overwritten.")
        try:
            library.set_password(self.service, self.entry, text)
        except failed as error:
            raise self._refused(error) from None

    def locked(self) -> AbstractContextManager[None]:
        return nullcontext()  # keyrings know no locks; `create` and `add` are a person's commands

    def _library(self) -> tuple[_KeyringLibrary, type[Exception]]:
        try:
            import keyring
            from keyring.errors import KeyringError
        except ImportError:
            raise VaultSealed(
                f"{self.name} needs the keyring library",
                hint="pip install 'keyturn[keyring]'",
                source=self.name,
            ) from None
        return keyring, KeyringError

    def _refused(self, error: Exception) -> VaultSealed:
        return VaultSealed(
            f"the OS keyring did not answer for {self.name} ({type(error).__name__})",
            hint="Unlock it for the user Keyturn runs as, or use file: on a server without a keyring.",
            source=self.name,
        )


class _KeyringLibrary(Protocol):
    def get_password(self, service: str, entry: str) -> str | None: ...
    def set_password(self, service: str, entry: str, text: str) -> None: ...


def _lines(text: str) -> list[str]:
    entries = (
        entry.strip() for line in text.splitlines() if not line.startswith("#") for entry in line.split(",")
    )
    return [entry for entry in entries if entry]


def _text(lines: list[str]) -> str:
    return _HEADER + "".join(line + "\n" for line in lines)

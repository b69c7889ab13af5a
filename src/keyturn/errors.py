"""Every error Keyturn raises: what it means, what to do next, and whether trying again can help."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Retry(StrEnum):
    """What the engine does when a step raises the error."""

    NEVER = "never"  # stop and say so
    LATER = "later"  # nothing was changed; the same call again, after a pause
    LOOK = "look"  # something may have changed; observe the vendor first


class KeyturnError(Exception):
    """Base of all our errors. `message`, `hint` and `facts` are safe to show: never a secret, URL query or body."""

    retry = Retry.NEVER
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts: Mapping[str, Any] = facts

    def __reduce__(self) -> tuple[Any, ...]:
        """Survives pickling with all fields, so a worker process can hand it on."""
        return (_rebuild, (type(self), self.message, self.hint, dict(self.facts)))

    def __str__(self) -> str:
        return self.message


def _rebuild(kind: type[KeyturnError], message: str, hint: str, facts: dict[str, Any]) -> KeyturnError:
    return kind(message, hint=hint, **facts)


class InvalidInput(KeyturnError):
    """Asked for wrongly; nothing was started. `facts['field']` names the field."""

    exit_code = 2


class NotFound(KeyturnError):
    """The thing named does not exist."""

    exit_code = 2


class Conflict(KeyturnError):
    """It exists already, or somebody else is busy with it."""

    exit_code = 2


class NotPermitted(KeyturnError):
    """The caller may not do this."""

    exit_code = 2


class CredentialRejected(KeyturnError):
    """The vendor's definite, documented no to a credential."""


class PermissionMissing(KeyturnError):
    """The credential works but lacks a right; `facts['right']` is the vendor's own name for it."""


class WrongAccount(KeyturnError):
    """The credential belongs to another account than the one pinned."""


class VendorUnavailable(KeyturnError):
    """No answer about the credential, and nothing was changed."""

    retry = Retry.LATER


class VendorThrottled(KeyturnError):
    """Told to wait; `facts['wait_s']` says how long when the vendor did. Nothing was changed."""

    retry = Retry.LATER


class OutcomeUnknown(KeyturnError):
    """A change was sent and its answer is lost: look before acting again."""

    retry = Retry.LOOK


class ValueRefused(KeyturnError):
    """The vendor definitely refused the value offered (policy, format); nothing changed. A new value may pass."""


class CapReached(KeyturnError):
    """The vendor will hold no more credentials on this principal; nothing was changed."""


class UnexpectedAnswer(KeyturnError):
    """An answer outside the documented shape. For a call that changes things it counts as unknown."""

    retry = Retry.LOOK


class VaultSealed(KeyturnError):
    """The key-encryption key is missing or is the wrong one."""


class VaultTampered(KeyturnError):
    """A sealed row does not open: it was altered or swapped."""


class StoreUnavailable(KeyturnError):
    """Our own database refused a read or a commit (locked, full, unreachable)."""

    retry = Retry.LATER


class LeaseLost(KeyturnError):
    """Another worker took the principal over; this one must stop writing."""


class CallInsideTransaction(KeyturnError):
    """A network call was about to be made while a database transaction was open. Always our bug."""


class NotDone(KeyturnError):
    """A run ended without doing what was asked, or needs somebody."""


def unexpected(error: BaseException) -> str:
    """What may be shown of an exception that is not ours: its type, never its text."""
    return error.message if isinstance(error, KeyturnError) else f"internal error ({type(error).__name__})"

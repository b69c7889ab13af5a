"""What the hub offers as its own vendor (S8): the same Protocols as every connector, without a network."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from keyturn import boundary
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Candidate, Remote
from keyturn.errors import CapReached, Conflict, OutcomeUnknown, StoreUnavailable, ValueRefused
from keyturn.issued import kinds, reveal
from keyturn.issued.book import CheckResult, IssuedBook
from keyturn.keymaking import passwords, webhooks
from keyturn.model.credential import Connection, Ref
from keyturn.model.ids import ConnectionId
from keyturn.model.plan import Goal, Kind
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, accepted, rejected
from keyturn.storage import issued, journal, runs, versions
from keyturn.storage.database import Tx
from keyturn.storage.issued import IssuedSecret
from keyturn.vault.secrets import Secrets

_DIGITS = 16  # of the digest: enough to tell two apart, nothing to guess with
_HERE = "the hub's own book"
# parameters of a plan's step: a client's new id, and from when on the new secret is let in
CLIENT, STARTS = "client_id", "starts_at"


def capabilities(book: IssuedBook, secrets: Secrets, connection: Connection) -> Capabilities:
    """Everything one issued credential can do."""
    own = Own(book, secrets, connection)
    return Capabilities(own, lister=own, maker=own, setter=own, revoker=own)


def ref_of(digest: str, slot: str, hint: str) -> Ref:
    """Where a secret sits in the book; safe to show."""
    return Ref(id=f"key_{digest[:_DIGITS]}", slot=slot, fingerprint=digest[:_DIGITS], label=f"…{hint}")


class Own:
    """One credential. Its material is the value's keyed digest alone: the value is nowhere but in its ten minutes. Only
    a signing secret is kept, sealed: a signature cannot be checked without it."""

    def __init__(self, book: IssuedBook, secrets: Secrets, connection: Connection) -> None:
        self._book, self._secrets, self._connection = book, secrets, connection

    def verify(self, access: Access, material: Material) -> Probe:  # noqa: ARG002 - the book needs no access
        """The same judgement as at the door, with the value itself while it is kept; never counted as a use."""
        boundary.leaving(_HERE)
        digest = material["digest"]
        value = reveal.find(self._secrets, digest, time.time())
        found = self._book.look_up(digest if value is None else self._book.roots.token_digest(value))
        return self._judge(found)

    def _judge(self, found: CheckResult) -> Probe:
        secret = found.secret
        if not found.accepted or secret is None:
            return rejected(
                "refused", found.code.value
            )  # one code, as to the outside: unknown, expired and revoked alike
        if secret.connection_id != self._connection.id:
            return rejected("refused", "another credential's key")
        hub = hub_id(self._book)
        label = self._connection.name
        return accepted(self._connection.id, tenant=hub, rights=found.scopes, principal_label=label)

    def bogus(self, material: Material) -> Material:  # noqa: ARG002 - any well-formed one will do
        """A well-formed value that was never issued."""
        return _material(self._book.roots.token_digest(passwords.token(self._letter)))

    def make(self, access: Access, slot: Ref) -> Candidate:
        """A fresh value: sealed for ten minutes from here on, and known to the ledger by its digest."""
        boundary.leaving(_HERE)
        now = time.time()
        signs = kinds.of_row(self._connection.system, self._connection.method).signs
        value = webhooks.secret() if signs else passwords.token(self._letter)
        digest = self._book.roots.token_digest(value)
        reveal.keep(self._secrets, digest, value, now)
        days = int(access.settings.get("expires_in_days") or 0)
        ends_at = now + days * 86400.0 if days else None
        material = Material({"digest": digest, "value": value}) if signs else _material(digest)
        return Candidate(ref_of(digest, slot.slot, value[-4:]), material, ends_at)

    def set(self, access: Access, ref: Ref, material: Material) -> None:  # noqa: ARG002 - the book needs no access
        """Opens the door for the digest. The same again changes nothing.

        Raises: ValueRefused when nobody can be given the value any more, CapReached when the slot holds a live one.
        """
        digest, now = material["digest"], time.time()

        def work(tx: Tx) -> None:
            known = versions.in_play(tx, self._connection.id)
            version = next((v for v in known if v.ref.same_place(ref)), None)
            if version is None or not reveal.prolong(tx, digest, now):
                raise ValueRefused("the new value was destroyed before anybody could see it")
            try:
                hint = ref.label.removeprefix("…")
                client_id, starts_at = (_asked(tx, self._connection.id, name) for name in (CLIENT, STARTS))
                self._book.add(
                    tx,
                    version.id,
                    version.connection_id,
                    ref.slot,
                    digest,
                    hint,
                    version.expires_at,
                    None if client_id is None else str(client_id),
                    None if starts_at is None else float(starts_at),
                )
            except Conflict as error:
                raise CapReached(error.message, hint=error.hint) from None

        self._write(work)

    def list(self, access: Access) -> tuple[Remote, ...]:  # noqa: ARG002 - the book needs no access
        """Every secret that is let in now, or will be."""
        boundary.leaving(_HERE)
        return tuple(
            Remote(ref_of(s.hash, s.slot, s.hint), True, created_at=s.created_at, last_used_at=s.last_used_at)
            for s in self._book.live(self._connection.id)
        )

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:  # noqa: ARG002 - found by its ref
        """Closes the door, on every worker from this commit on. Already closed counts as done."""

        def work(tx: Tx) -> None:
            for secret in issued.of_connection(tx, self._connection.id):
                if _sits_at(secret, ref):
                    self._book.retire(tx, secret, routine=_is_routine(tx, self._connection.id))
                    reveal.destroy(tx, secret.hash)

        self._write(work)

    def _write(self, work: Callable[[Tx], None]) -> None:
        """A commit that was cut off may have happened: the executor looks before it acts again."""
        boundary.leaving(_HERE)
        try:
            self._book.store.write(work)
        except StoreUnavailable as error:
            raise OutcomeUnknown(error.message, hint=error.hint) from None

    @property
    def _letter(self) -> str:
        return kinds.of_row(self._connection.system, self._connection.method).letter


def hub_id(book: IssuedBook) -> str:
    """The hub's own name as a tenant; the same for the life of its root secret."""
    return f"hub_{book.roots.subkey('tenant').hex()[:_DIGITS]}"


def _is_routine(tx: Tx, connection_id: ConnectionId) -> bool:
    """Whether the open run is a rotation that nobody has turned into an emergency."""
    run = runs.unfinished_of(tx, connection_id)
    if run is None or run.goal is not Goal.ROTATE:
        return False
    return all(line.step != "contain" for line in journal.of_run(tx, run.id))


def _asked(tx: Tx, connection_id: ConnectionId, name: str) -> Any:
    """What the open run's frozen plan says of the new secret; None where it says nothing."""
    run = runs.unfinished_of(tx, connection_id)
    steps = run.plan.steps if run is not None else ()
    return next((s.params[name] for s in steps if s.kind is Kind.SET and name in s.params), None)


def _material(digest: str) -> Material:
    return Material({"digest": digest})


def _sits_at(secret: IssuedSecret, ref: Ref) -> bool:
    return ref_of(secret.hash, secret.slot, secret.hint).same_place(ref)

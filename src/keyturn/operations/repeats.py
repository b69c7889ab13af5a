"""Idempotency keys: the same call with the same key is made once, and answered again from what was kept, sealed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput
from keyturn.model.ids import new_id
from keyturn.storage import repeats, sealed
from keyturn.storage.database import Tx
from keyturn.storage.repeats import Repeat

KEPT_S = 24 * 3600.0
SECRET_KEPT_S = 600.0  # an answer with a value in it: as long as whoever asked for it may look again
CALL_S = 300.0  # longer than any call takes; a process that died in it lets go of the key then
LONGEST = 255


@dataclass(frozen=True)
class Answer:
    """What was answered the first time."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Ticket:
    """A key that is ours until the call is answered. `trigger` is the same for the same call, also after a crash."""

    id: str
    claim: str

    @property
    def trigger(self) -> str:
        """Names a run that this call starts: started again after a crash, it is the same run."""
        return f"api_{self.id[:40]}"


def begin(hub: Keyturn, caller: str, call: str, key: str, body: bytes) -> Ticket | Answer:
    """Takes the key for this call, or gives the answer that was kept for it.

    Raises: InvalidInput for a malformed key; Conflict while the first call is being made (`facts['code']` is `busy`),
    when the key was used with another body (`other_body`), and when the answer held a secret that is not kept any more
    (`gone`).
    """
    if not 0 < len(key) <= LONGEST or not key.isascii() or not key.isprintable():
        raise InvalidInput(
            f"an idempotency key has 1 to {LONGEST} printable ASCII characters", field="Idempotency-Key"
        )
    now = time.time()
    digest = hub.roots.token_digest(f"repeat:{caller}:{call}:{key}")
    said = hub.roots.token_digest("repeat-body:" + body.hex())
    ticket = Ticket(digest, new_id("rep"))
    wanted = Repeat(digest, said, None, ticket.claim, now + CALL_S, now + KEPT_S)
    try:
        there = hub.store.write(lambda tx: repeats.take(tx, wanted, now))
    except Conflict:  # PostgreSQL: another one put the same key down at the same moment
        raise _busy() from None
    if there is None:
        return ticket
    if there.body != said:
        raise Conflict(
            "this idempotency key was used for a call with another body",
            hint="Use a fresh key for every call that is not a repetition.",
            code="other_body",
        )
    if there.status is None:
        raise _busy()
    kept = _kept(hub, digest, now)
    if kept is None:
        raise Conflict(
            "the call was made; its answer held a secret and is not kept any more",
            hint="Reissue the credential for a new value.",
            code="gone",
        )
    return kept


def _busy() -> Conflict:
    return Conflict(
        "the first call with this key is being answered", hint="Try again in a moment.", code="busy"
    )


def _row(digest: str) -> str:
    return f"repeat:{digest}"


def _kept(hub: Keyturn, digest: str, now: float) -> Answer | None:
    due = hub.store.read(lambda tx: tx.one("SELECT destroy_at FROM sealed WHERE id = ?", _row(digest)))
    body = hub.secrets.find(_row(digest)) if due is not None and due[0] > now else None
    if body is None:
        return None
    head, _, rest = body.partition(b"\n")
    status, headers = json.loads(head)
    return Answer(status, headers, rest)


def keep(hub: Keyturn, ticket: Ticket, answer: Answer, *, is_secret: bool) -> None:
    """Keeps the answer for a day; one that shows a secret for ten minutes."""
    now = time.time()
    head = json.dumps([answer.status, dict(answer.headers)]).encode()
    seal = hub.secrets.sealing(_row(ticket.id), head + b"\n" + answer.body, now)

    def work(tx: Tx) -> None:
        repeats.prune(tx, now)
        if repeats.answered(tx, ticket.id, ticket.claim, answer.status):
            seal(tx)
            sealed.destroy_later(tx, _row(ticket.id), now + (SECRET_KEPT_S if is_secret else KEPT_S))

    hub.store.write(work)


def drop(hub: Keyturn, ticket: Ticket) -> None:
    """Nothing was made: the key may be used again, for a corrected call too."""
    hub.store.write(lambda tx: repeats.drop(tx, ticket.id, ticket.claim))

"""Events that others send: taken once each, refused with a record, replayed by a person who looked at it."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, NoReturn

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput, KeyturnError, NotFound
from keyturn.issued import endings, grants
from keyturn.issued.book import CheckResult, Code
from keyturn.keymaking import passwords, webhooks
from keyturn.model.credential import Connection
from keyturn.model.ids import ConnectionId, new_id
from keyturn.model.run import LineKind
from keyturn.operations import issued as issued_operations
from keyturn.storage import connections, events, issued, journal
from keyturn.storage.database import Tx
from keyturn.storage.events import Event, Refused
from keyturn.storage.issued import ACCEPTED, ALIVE, IssuedSecret, SecretState
from keyturn.vault.secrets import version_row

MOST_EVENTS = 500  # of one batch
EVENT_BYTES = 256 * 1024
KEPT_S, REFUSED_KEPT_S = 30 * 86400.0, 86400.0
_REFUSED_ROWS, _REFUSED_BYTES = 1000, 16 * 1024 * 1024  # kept of one sender within a day
_STRANGERS = ""  # the sender of what nobody can be named for; without a body
_STRANGE_ROWS = 200
_WORD = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,199}")
_HEADERS = ("content-type", "user-agent", "webhook-id", "webhook-timestamp", "x-request-id", "traceparent")
_UNSIGNED = "event.signature"


class Taken(StrEnum):
    """What became of one event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"  # the same again: nothing to do, and no error
    CONFLICT = "conflict"  # another event with an id that its sender used before
    REFUSED = "refused"


@dataclass(frozen=True)
class Sent:
    """One event as it came: who sent it under which id, and its JSON text."""

    id: str
    type: str
    body: str


@dataclass(frozen=True)
class Receipt:
    """The answer to one event of a batch."""

    id: str
    taken: Taken
    why: str = ""


@dataclass(frozen=True)
class Origin:
    """From where a request came, for the record of what is refused. No header with a secret is in it."""

    address: str = ""
    agent: str = ""
    headers: Mapping[str, str] | None = None

    def plain(self) -> dict[str, str]:
        """The headers that are kept."""
        given = {name.lower(): value for name, value in (self.headers or {}).items()}
        return {name: _without_tokens(given[name][:200]) for name in _HEADERS if name in given}


# -- reading what was sent -----------------------------------------------------------------------------------------


def read(raw: bytes, *, event_id: str = "", id_field: str = "id") -> Sent:
    """One event from its JSON object: `id` and `type` are its sender's, the rest is anything.

    Raises: InvalidInput naming the field; nothing of the event is in it.
    """
    if len(raw) > EVENT_BYTES:
        raise InvalidInput(
            f"an event has up to {EVENT_BYTES // 1024} KiB", field="body", code="event.too_large"
        )
    try:
        text = raw.decode()
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise InvalidInput("the event is not JSON in UTF-8", field="body", code="event.malformed") from None
    return _sent(value, text, event_id, id_field)


def _sent(value: Any, text: str, event_id: str = "", id_field: str = "id") -> Sent:
    if type(value) is not dict:
        raise InvalidInput("an event is a JSON object", field="body", code="event.malformed")
    found = {id_field: event_id or value.get(id_field), "type": value.get("type")}
    for name, word in found.items():
        if not isinstance(word, str) or not _WORD.fullmatch(word):
            raise InvalidInput(
                f"{name} must be text of 1 to 200 printable ASCII characters",
                field=name,
                code="event.malformed",
            )
    if holds_token(text):
        raise InvalidInput(
            "the event holds a credential of this hub",
            hint="Have that credential reissued: it has been sent to where it does not belong.",
            field="body",
            code="event.holds_credential",
        )
    try:
        text.encode()
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidInput("the event is not UTF-8", field="body", code="event.malformed") from None
    if "\x00" in text or "\\u0000" in text:
        raise InvalidInput("the event holds a NUL character", field="body", code="event.malformed")
    return Sent(str(found[id_field]), str(found["type"]), text.strip())


def read_batch(raw: bytes, *, id_field: str = "id") -> list[Sent | tuple[str, str, InvalidInput]]:
    """The events of a JSON array or of NDJSON lines. One that makes no sense is `(its id, its text, the reason)`.

    Raises: InvalidInput when it is no batch, or one of more than 500.
    """
    try:
        text = raw.decode()
        if text.lstrip()[:1] == "[":
            values: list[Any] = json.loads(text, parse_constant=_no_number)
            pieces = [json.dumps(value, ensure_ascii=False, separators=(",", ":")) for value in values]
        else:
            pieces = [line for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError):
        raise InvalidInput("the batch is neither a JSON array nor NDJSON in UTF-8", field="body") from None
    if not 1 <= len(pieces) <= MOST_EVENTS:
        raise InvalidInput(f"a batch has 1 to {MOST_EVENTS} events", field="body")
    found: list[Sent | tuple[str, str, InvalidInput]] = []
    for piece in pieces:
        try:
            found.append(read(piece.encode(errors="replace"), id_field=id_field))
        except InvalidInput as error:
            found.append(("", piece, error))
    return found


def batch_of(raw: bytes) -> bytes | None:
    """The array inside Segment's `{"batch": [...]}`; None when it is no batch."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    inner = value.get("batch") if isinstance(value, dict) else None
    return json.dumps(inner, ensure_ascii=False).encode(errors="replace") if isinstance(inner, list) else None


def _no_number(_: str) -> NoReturn:
    raise ValueError


# -- taking it -----------------------------------------------------------------------------------------------------


def take(hub: Keyturn, connection_id: str, version_id: str, sent: Sequence[Sent]) -> list[Receipt]:
    """Takes events, durable when this returns, in one transaction; the same again changes nothing.

    An event whose type its sender may not send is refused alone. Raises: StoreUnavailable, with nothing taken.
    """
    now = time.time()

    def work(tx: Tx) -> list[Receipt]:
        connection = connections.by_id(tx, ConnectionId(connection_id))
        allowed = (
            str(connection.settings.get("event_types", "")).replace(",", " ").split() if connection else []
        )
        found = []
        keys = sorted(new_id("evt") for _ in sent)  # of one instant they are in no order
        for key, each in zip(keys, sent, strict=True):
            if allowed and not any(fnmatchcase(each.type, pattern) for pattern in allowed):
                found.append(Receipt(each.id, Taken.REFUSED, "event.type"))
                continue
            digest = hashlib.sha256(each.body.encode()).hexdigest()
            event = Event(
                key,
                ConnectionId(connection_id),
                version_id,
                each.id,
                each.type,
                digest,
                each.body,
                now,
            )
            before = events.add(tx, event)
            taken = (
                Taken.ACCEPTED if before is None else Taken.DUPLICATE if before == digest else Taken.CONFLICT
            )
            found.append(Receipt(each.id, taken))
        return found

    return hub.store.write(work)


def refuse(
    hub: Keyturn,
    found: CheckResult | None,
    code: str,
    raw: bytes | str,
    origin: Origin,
    *,
    event_id: str = "",
) -> None:
    """Keeps a record of what was not taken, for a day. Its body is kept when its sender is known, within bounds, and
    when no credential is in it. Raises: StoreUnavailable."""
    secret = found.secret if found is not None else None
    sender = secret.connection_id if secret is not None else _STRANGERS
    text = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
    size, now = len(raw), time.time()
    body = text if sender and size <= EVENT_BYTES and not holds_token(text) and "\x00" not in text else None
    row = Refused(
        id=new_id("ref"),
        connection_id=sender,
        version_id=secret.version_id if secret is not None else "",
        code=code,
        event_id=_without_tokens(event_id[:200]),
        headers=origin.plain(),
        body=body,
        size=size,
        address=origin.address[:64],
        agent=_without_tokens(origin.agent[:200]),
        refused_at=now,
        replayed_at=None,
    )

    def work(tx: Tx) -> None:
        rows, held = events.refused_since(tx, sender, now - REFUSED_KEPT_S)
        if rows >= (_REFUSED_ROWS if sender else _STRANGE_ROWS):
            return
        kept = row if held + size <= _REFUSED_BYTES else Refused(**{**row.__dict__, "body": None})
        events.refuse(tx, kept)

    hub.store.write(work)


def holds_token(text: str) -> bool:
    """Whether a credential of this hub stands in it: in a table of ours, and with every reader, it would lie in clear."""
    return passwords.PREFIX in text and bool(_TOKEN.search(text) or _SIGNING.search(text))


def _without_tokens(text: str) -> str:
    return _SIGNING.sub("(secret)", _TOKEN.sub("(token)", re.sub(r"[^\x20-\x7e]", "?", text)))


_TOKEN, _SIGNING = passwords.pattern(), webhooks.pattern()


# -- signed webhooks -----------------------------------------------------------------------------------------------


def judge_signature(
    hub: Keyturn, publisher: str, event_id: str, timestamp: str, signature: str, raw: bytes, address: str
) -> CheckResult:
    """Whose signing secret signed this (Standard Webhooks). During an overlap either of the two will do.

    `publisher` is the connection's id, as its address has it. Anything but a signature in time is `unknown`, whatever is
    wrong with it.
    """
    unknown = CheckResult(Code.UNKNOWN)

    def look(tx: Tx) -> tuple[Connection | None, list[IssuedSecret]]:
        connection = connections.by_id(tx, ConnectionId(publisher))
        return connection, issued.of_connection(tx, ConnectionId(publisher)) if connection else []

    connection, known = hub.store.read(look)
    if connection is None or not _WORD.fullmatch(event_id) or not re.fullmatch(r"[0-9]{1,12}", timestamp):
        return unknown
    now = time.time()
    at = int(timestamp)
    if abs(now - at) > webhooks.TOLERANCE_S:
        return unknown
    live, values = [], []
    for secret in known:
        is_let_in = secret.state in ACCEPTED or (secret.starts_at is not None and secret.starts_at <= now)
        if secret.state in ALIVE and is_let_in and (secret.ends_at is None or now < secret.ends_at):
            value = hub.secrets.material(version_row(secret.version_id)).get("value", "")
            if value:
                is_begun = secret.state is SecretState.PENDING
                live.append(replace(secret, state=SecretState.LIVE) if is_begun else secret)
                values.append(value)
    number = webhooks.signed_by(values, event_id, at, raw, signature)
    if number is None:
        return unknown
    allowed = grants.of(connection.settings)
    code = Code.OK if allowed.admits(address) else Code.ADDRESS
    signer = live[number]
    ending = None
    if signer.state is SecretState.RETIRING:
        ending = hub.store.read(lambda tx: endings.of(tx, signer))
    return CheckResult(code, signer, connection.name, allowed.scopes, rate=allowed.rate, ending=ending)


def named(hub: Keyturn, publisher: str) -> CheckResult | None:
    """Whose address was called, for the record of what was refused there: the credential's newest secret."""
    known = hub.store.read(lambda tx: issued.of_connection(tx, ConnectionId(publisher)))
    return CheckResult(Code.UNKNOWN, known[0]) if known else None


# -- looking and replaying -----------------------------------------------------------------------------------------


def page(hub: Keyturn, after: str, limit: int) -> list[Event]:
    """Events behind a key. Two that arrive at the same instant may become visible in either order, so whoever must not
    miss one begins a minute back; their ids make that harmless."""
    return hub.store.read(lambda tx: events.page(tx, after, limit))


def latest(hub: Keyturn, limit: int = 50) -> list[Event]:
    """The latest events."""
    return hub.store.read(lambda tx: events.latest(tx, limit))


def refusals(hub: Keyturn, name: str = "", limit: int = 100) -> list[Refused]:
    """What was refused within the last day, newest first."""
    wanted = issued_operations.get(hub, name).connection.id if name else None
    return hub.store.read(lambda tx: events.refusals(tx, wanted, limit))


def replay(hub: Keyturn, refused_id: str, *, unsigned: bool = False, who: str = "") -> Receipt:
    """Takes a refused event after all, on somebody's word, under its sender's name. Journaled.

    Raises: NotFound, Conflict when it was replayed or its body was not kept, InvalidInput for one whose signature was
    wrong unless `unsigned` says that somebody looked at it.
    """
    who = who or hub.settings.actor
    found = hub.store.read(lambda tx: events.refusal(tx, refused_id))
    if found is None:
        raise NotFound(f"there is no refused event {refused_id}", field="id")
    if found.replayed_at is not None:
        raise Conflict("it was replayed already")
    if found.body is None:
        raise Conflict("its body was not kept", hint="Ask its sender to send it again.")
    if found.code == _UNSIGNED and not unsigned:
        raise InvalidInput(
            "its signature was wrong: anybody may have sent it",
            hint="Look at it, then say so with --unsigned.",
            field="unsigned",
        )
    sent = read(found.body.encode(), event_id=found.event_id)
    receipt = take(hub, found.connection_id, found.version_id, [sent])[0]
    if receipt.taken in {Taken.REFUSED, Taken.CONFLICT}:
        raise Conflict(
            "it is refused again"
            if receipt.taken is Taken.REFUSED
            else "another event with this id was taken meanwhile",
            hint="Allow its type first." if receipt.why == "event.type" else "",
        )
    now = time.time()
    facts = {"decision": "replayed", "refused": refused_id, "event": sent.id, "by": who}

    def work(tx: Tx) -> None:
        if events.replayed(tx, refused_id, now):
            entry = journal.Entry(now, "", "issued", LineKind.DECISION, 0, facts)
            journal.append(tx, found.connection_id, [entry])

    hub.store.write(work)
    return receipt


def replay_all(
    hub: Keyturn, name: str, *, unsigned: bool = False, who: str = ""
) -> tuple[int, list[tuple[str, str]]]:
    """Replays what was refused of one sender, oldest first: how many, and which not, with the reason."""
    wanted = issued_operations.get(hub, name).connection.id
    rows = hub.store.read(lambda tx: events.refusals(tx, wanted, _REFUSED_ROWS, open_only=True))
    done, left = 0, []
    for row in reversed(rows):
        try:
            replay(hub, row.id, unsigned=unsigned, who=who)
            done += 1
        except KeyturnError as error:
            left.append((row.id, error.message))
    return done, left


def prune(hub: Keyturn) -> int:
    """Deletes events after 30 days and refusals after one."""
    now = time.time()
    return hub.store.write(lambda tx: events.prune(tx, now - KEPT_S, now - REFUSED_KEPT_S))


__all__ = [
    "EVENT_BYTES",
    "MOST_EVENTS",
    "Event",
    "Origin",
    "Receipt",
    "Refused",
    "Sent",
    "Taken",
    "batch_of",
    "judge_signature",
    "latest",
    "named",
    "page",
    "prune",
    "read",
    "read_batch",
    "refusals",
    "refuse",
    "replay",
    "replay_all",
    "take",
]

"""Who is told what: changes written down in one order, and delivered as signed webhooks and mails, at least once each.

A look compares runs, tasks, debts and connections with what was seen last, and writes down what is another now, numbered,
together with the deliveries that follow from it. Several workers may look and deliver: a look holds the head, and an
attempt takes its delivery by compare-and-swap. A crash between an attempt and its record means one more attempt: whoever
receives tells repetitions by their id.

Webhooks are signed as Standard Webhooks says.
Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, checked 2026-11-23.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput, KeyturnError, NotFound, unexpected
from keyturn.model.ids import new_id
from keyturn.model.moment import ago, iso
from keyturn.model.run import TERMINAL, RunState, TaskState
from keyturn.model.secret import Secret
from keyturn.operations import events, overview
from keyturn.operations.rights import Who
from keyturn.storage import notices as rows
from keyturn.storage import people, sealed
from keyturn.storage.database import Row, Tx
from keyturn.storage.notices import Delivery, Notice, Recipient
from keyturn.transport import http, mail, ssrf

WEBHOOK, MAIL = "webhook", "mail"
TOPICS: Mapping[str, str] = {
    "run.done": "a run has ended",
    "run.stuck": "a run is blocked, or no known credential works",
    "task.waiting": "a person should do something",
    "approval.waiting": "a run waits for a second person",
    "connection.broken": "a connection needs a new authorization",
    "credential.due": "a rotation is due within a week, or overdue",
    "credential.expiring": "a credential expires within a month, a week or a day, or has expired",
    "debt.open": "something is left alive or unproven",
    "debt.closed": "something owed is proven, or closed by a person",
    "leak.found": "a credential was reported as leaked",
    "credential.late": "somebody still calls with an issued secret that ends soon",
    "credential.unused": "nobody uses an issued credential: it ends in a month, or has ended",
    "issued.digest": "what is odd about issued credentials, once a week for each owner",
}
CHANGED = ("run.changed", "task.changed")  # for the stream alone
TEST = "test.message"  # sent when somebody asks for it, and never kept
LOOK_S, SELDOM_S, TIDY_S = 0.5, 30.0, 3600.0
KEPT_S = 30 * 86400.0
OVERLAP_S = 300.0  # clocks of several workers may differ
# Standard Webhooks, "Retry schedule": tries over some days
LADDER_S = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
CLAIM_S = 60.0
OLD_SECRET_S = 86400.0
_AT_ONCE = 20
_MOST = 100
_NAME = re.compile(r"[\w][\w .-]{0,78}[\w]|[\w]")
_MAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_STUCK = frozenset({RunState.BLOCKED.value, RunState.LOST.value})
_ENDED = frozenset(state.value for state in TERMINAL)
_ASKS = frozenset({TaskState.OPEN.value, TaskState.RETURNED.value})
_OPEN_TASK = frozenset({*_ASKS, TaskState.CLAIMED.value, TaskState.SUBMITTED.value})
_APPROVAL = "waiting_approval"
_PHASES = ("", "soon", "over")
_EXPIRES = ("", "month", "week", "day", "over")


# -- looking -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """One thing as it is: what is compared, which notice a change makes (none for a first silent look), whether it may
    still change."""

    subject: str
    mark: str
    connection_id: str
    topic: str
    facts: Mapping[str, Any]
    is_open: bool


@dataclass(frozen=True)
class _Changed:
    """Which things are another than when they were seen last. `dates` has marks and facts by subject as well."""

    runs: list[str]
    tasks: list[str]
    debts: list[str]
    dates: list[Row]

    def __bool__(self) -> bool:
        return bool(self.runs or self.tasks or self.debts or self.dates)


def look(hub: Keyturn, *, widely: bool = True) -> int:
    """Writes down what changed since the last look, with the deliveries that follow; how many notices. `widely` looks at
    the connections and their dates as well. The first look of a hub's life only remembers.

    What changed is found without holding anybody up; only then is the head held, and each of those things read once more,
    so that of two who look at the same moment none writes down what is not so any more.
    """
    now = time.time()
    changed, before = hub.store.read(lambda tx: _changed(tx, now, widely=widely))

    def work(tx: Tx) -> int:
        number, looked_at = rows.lock(tx)
        names = _names(tx)
        seen = [
            *_runs(tx, changed.runs, names),
            *_tasks(tx, changed.tasks, names),
            *_debts(tx, changed.debts, names),
            *_connections(tx, changed.dates),
        ]
        marks = rows.marks(tx, [each.subject for each in seen])
        fresh_ones = [each for each in seen if marks.get(each.subject) != each.mark]
        fresh = [
            Notice(number + 1 + n, now, each.topic, each.connection_id, each.subject, each.facts)
            for n, each in enumerate(each for each in fresh_ones if each.topic and looked_at)
        ]
        rows.mark(tx, [(each.subject, each.mark, each.is_open) for each in fresh_ones], now)
        _file(tx, fresh, now)
        rows.looked(tx, number + len(fresh), now)
        return len(fresh)

    return hub.store.write(work) if changed or now - before > OVERLAP_S / 10 else 0


def _changed(tx: Tx, now: float, *, widely: bool) -> tuple[_Changed, float]:
    """What changed, and when was last looked."""
    _, looked_at = rows.head(tx)
    since, everything = (looked_at or now) - OVERLAP_S, widely or not looked_at
    return (
        _Changed(
            rows.changed_runs(tx, since, everything=everything),
            rows.changed_tasks(tx, since, everything=everything),
            rows.changed_debts(tx),
            rows.changed_connections(tx, now) if widely else [],
        ),
        looked_at,
    )


def tell(tx: Tx, topic: str, connection_id: str, subject: str, facts: Mapping[str, Any]) -> None:
    """One notice in the transaction of what it speaks of; for what no look can find, a reported leak for one. `facts` are
    shown to whoever is told: never a secret."""
    if topic not in TOPICS:
        raise ValueError(f"no topic {topic}")
    number, looked_at = rows.lock(tx)
    now = time.time()
    _file(tx, [Notice(number + 1, now, topic, connection_id, subject, facts)], now)
    rows.looked(tx, number + 1, looked_at)


def _file(tx: Tx, fresh: Sequence[Notice], now: float) -> None:
    """The notices, and a delivery for everybody who wants one."""
    if not fresh:
        return
    rows.add(tx, fresh)
    told = [each for each in rows.recipients(tx) if each.paused_at is None]
    project = {n.connection_id: people.project_of(tx, n.connection_id) for n in fresh} if told else {}
    rows.add_deliveries(
        tx,
        [
            Delivery(new_id("dlv"), to.id, notice.number, "waiting", 0, now, "", now, None)
            for notice in fresh
            for to in told
            if notice.topic in to.topics.split() and to.project in {"", project[notice.connection_id]}
        ],
    )


def _names(tx: Tx) -> Callable[[str], str]:
    known: dict[str, str] = {}

    def name(connection_id: str) -> str:
        if connection_id not in known:
            found = tx.one("SELECT name FROM connection WHERE id = ?", connection_id)
            known[connection_id] = str(found[0]) if found else connection_id
        return known[connection_id]

    return name


def _runs(tx: Tx, ids: Sequence[str], name: Callable[[str], str]) -> Iterable[_Seen]:
    for row in rows.runs_of(tx, ids):
        run_id, connection_id, goal, state, track, cursor, waits, proof, outcome, ended_at, _ = row
        topic = (
            "run.done"
            if state in _ENDED
            else "run.stuck"
            if state in _STUCK
            else "approval.waiting"
            if state == _APPROVAL
            else "run.changed"
        )
        facts = {
            "run": run_id,
            "connection": name(connection_id),
            "goal": goal,
            "state": state,
            "track": track,
            "step": cursor,
            "waiting_for": waits,
            "proof": proof,
            "outcome": outcome,
        }
        place = "" if state in _STUCK or state in _ENDED else f"{track}/{cursor}/{waits}"
        yield _Seen(run_id, f"{state}/{place}", connection_id, topic, facts, ended_at is None)


def _tasks(tx: Tx, ids: Sequence[str], name: Callable[[str], str]) -> Iterable[_Seen]:
    for row in rows.tasks_of(tx, ids):
        task_id, connection_id, run_id, kind, state, title, claimed_by, due_at, _ = row
        facts = {
            "task": task_id,
            "run": run_id,
            "connection": name(connection_id),
            "kind": kind,
            "state": state,
            "title": title,
            "claimed_by": claimed_by,
            "due": iso(due_at),
        }
        topic = "task.waiting" if state in _ASKS else "task.changed"
        yield _Seen(task_id, f"{state}/{claimed_by}", connection_id, topic, facts, state in _OPEN_TASK)


def _debts(tx: Tx, ids: Sequence[str], name: Callable[[str], str]) -> Iterable[_Seen]:
    for row in rows.debts_of(tx, ids):
        debt_id, connection_id, run_id, kind, why, owner, tries, closed_at, closed_by, _ = row
        facts = {
            "debt": debt_id,
            "run": run_id,
            "connection": name(connection_id),
            "kind": kind,
            "why": why,
            "owner": owner,
            "tries": tries,
            "closed_by": closed_by,
        }
        is_closed = closed_at is not None
        topic = "debt.closed" if is_closed else "debt.open"
        yield _Seen(debt_id, "closed" if is_closed else "open", connection_id, topic, facts, not is_closed)


def _connections(tx: Tx, dates: Sequence[Row]) -> Iterable[_Seen]:
    """A notice for each date that comes nearer, and for a connection that lost its authorization. Those about which
    nothing is to be said any more have no mark."""
    marks = rows.marks(tx, [row[0] for row in dates])
    for subject, mark, _, name, state, due, ends in dates:
        connection_id, _, about = subject.partition("/")
        topic, facts = {
            "state": ("connection.broken", {"connection": name, "state": state}),
            "due": ("credential.due", {"connection": name, "due": iso(due)}),
            "expires": ("credential.expiring", {"connection": name, "expires": iso(ends)}),
        }[about]
        is_worse = bool(mark) and _worse(about, marks.get(subject, ""), mark)
        yield _Seen(subject, mark, connection_id, topic if is_worse else "", facts, is_open=bool(mark))


def _worse(about: str, before: str, now: str) -> bool:
    """Whether it is nearer than it was; another credential begins anew."""
    if about == "state":
        return bool(now)
    order = _PHASES if about == "due" else _EXPIRES
    (old, _, of), (new, _, at) = before.partition("/"), now.partition("/")
    return order.index(new) > (order.index(old) if of == at else 0)


def latest(hub: Keyturn) -> int:
    """The number of the latest notice."""
    return hub.store.read(rows.head)[0]


def after(
    hub: Keyturn, number: int, projects: frozenset[str] | None, limit: int = _MOST
) -> tuple[list[Notice], int]:
    """The notices behind a number that somebody may see, and up to which number was looked."""

    def work(tx: Tx) -> tuple[list[Notice], int]:
        found = rows.after(tx, number, limit)
        last = found[-1].number if found else number
        if projects is None:
            return found, last
        return [n for n in found if people.project_of(tx, n.connection_id) in projects], last

    return hub.store.read(work)


def is_kept(hub: Keyturn, number: int) -> bool:
    """Whether everything behind a number is still there."""
    oldest, newest = hub.store.read(lambda tx: (rows.oldest(tx), rows.head(tx)[0]))
    return 0 <= number <= newest and (number == newest or (oldest > 0 and number >= oldest - 1))


# -- recipients --------------------------------------------------------------------------------------------------------


def told(each: Recipient) -> dict[str, Any]:
    """A recipient as the API and the command line give it; never its secret."""
    return {
        "id": each.id,
        "kind": each.kind,
        "name": each.name,
        "address": each.address,
        "topics": each.topics.split(),
        "project": each.project,
        "created": iso(each.created_at),
        "created_by": each.created_by,
        "paused": iso(each.paused_at),
    }


def recipients(hub: Keyturn) -> list[Recipient]:
    """Everybody who is told, by name."""
    return hub.store.read(rows.recipients)


def recipient(hub: Keyturn, recipient_id: str) -> Recipient:
    """One of them. Raises: NotFound."""
    found = hub.store.read(lambda tx: rows.recipient(tx, recipient_id))
    if found is None:
        raise NotFound("there is no such recipient", field="recipient")
    return found


def add_recipient(
    hub: Keyturn, who: Who, kind: str, name: str, address: str, topics: Iterable[str], project: str = ""
) -> tuple[Recipient, Secret | None]:
    """Somebody new who is told; of a webhook also the secret that its deliveries are signed with, shown this once.

    Raises: InvalidInput naming the field (an address that must not be called is one), Conflict for a name that is taken.
    """
    name = " ".join(name.split())
    if not _NAME.fullmatch(name):
        raise InvalidInput("a name has 1 to 80 letters, digits, spaces or _ . -", field="name")
    made = Recipient(
        new_id("rcp"),
        kind,
        name,
        _address(hub, kind, address),
        _topics(topics),
        project,
        time.time(),
        who.login,
        None,
    )
    secret = _new_secret() if kind == WEBHOOK else None
    seal = _sealing(hub, made.id, [(secret.reveal(), None)]) if secret else None

    def work(tx: Tx) -> None:
        if not rows.add_recipient(tx, made):
            raise Conflict("there is a recipient of this name already", field="name")
        if seal is not None:
            seal(tx)
        events.line(
            "recipient_added", by=who.login, address=who.address, on=name, kind=kind, topics=made.topics
        )(tx)

    hub.store.write(work)
    return made, secret


def change_recipient(
    hub: Keyturn,
    who: Who,
    recipient_id: str,
    *,
    address: str | None = None,
    topics: Iterable[str] | None = None,
    paused: bool | None = None,
) -> Recipient:
    """Another address, other topics, paused or not. While paused nothing new is kept for it, and what waits, waits."""
    found = recipient(hub, recipient_id)
    columns: dict[str, Any] = {}
    if address is not None:
        columns["address"] = _address(hub, found.kind, address)
    if topics is not None:
        columns["topics"] = _topics(topics)
    if paused is not None:
        columns["paused_at"] = time.time() if paused else None

    def work(tx: Tx) -> None:
        if columns and not rows.change_recipient(tx, recipient_id, **columns):
            raise NotFound("there is no such recipient", field="recipient")
        changed = " ".join(sorted(columns))
        events.line("recipient_changed", by=who.login, address=who.address, on=found.name, changed=changed)(
            tx
        )

    hub.store.write(work)
    return recipient(hub, recipient_id)


def drop_recipient(hub: Keyturn, who: Who, recipient_id: str) -> None:
    """Nobody is told there any more. Raises: NotFound."""
    found = recipient(hub, recipient_id)

    def work(tx: Tx) -> None:
        if not rows.drop_recipient(tx, recipient_id):
            raise NotFound("there is no such recipient", field="recipient")
        sealed.destroy(tx, _row(recipient_id))
        events.line("recipient_dropped", by=who.login, address=who.address, on=found.name)(tx)

    hub.store.write(work)


def new_secret(hub: Keyturn, who: Who, recipient_id: str) -> Secret:
    """A new signing secret, shown this once. For a day deliveries are signed with the old one as well.

    Raises: NotFound, Conflict for a mailbox.
    """
    found = recipient(hub, recipient_id)
    if found.kind != WEBHOOK:
        raise Conflict("mails are not signed with a secret")
    made, now = _new_secret(), time.time()
    kept = [(value, now + OLD_SECRET_S) for value, until in _secrets(hub, recipient_id) if until is None]
    seal = _sealing(hub, recipient_id, [(made.reveal(), None), *kept])

    def work(tx: Tx) -> None:
        seal(tx)
        events.line("recipient_secret_made", by=who.login, address=who.address, on=found.name)(tx)

    hub.store.write(work)
    return made


def deliveries(
    hub: Keyturn, recipient_id: str, before: int = 0, limit: int = _MOST
) -> list[tuple[Delivery, str]]:
    """What became of telling somebody, newest first, with each topic."""
    recipient(hub, recipient_id)
    return hub.store.read(lambda tx: rows.deliveries(tx, recipient_id, before, limit))


def try_again(hub: Keyturn, who: Who, recipient_id: str, delivery_id: str) -> None:
    """Makes a delivery due that was given up. Raises: NotFound."""
    found = recipient(hub, recipient_id)

    def work(tx: Tx) -> None:
        if not rows.again(tx, delivery_id, recipient_id, time.time()):
            raise NotFound("there is no such delivery that was given up", field="delivery")
        events.line("delivery_again", by=who.login, address=who.address, on=found.name, delivery=delivery_id)(
            tx
        )

    hub.store.write(work)


def test(hub: Keyturn, who: Who, recipient_id: str) -> Sent:
    """Sends a message that says it is a test, now and once, as any other would be sent, also to somebody who is paused.
    Never raises for what the recipient does; what came back goes into the audit trail. Raises: NotFound."""
    found, now = recipient(hub, recipient_id), time.time()
    facts = {"says": f"A test message from Keyturn. {who.name or who.login} asked for it.", "by": who.login}
    notice = Notice(0, now, TEST, "", found.id, facts)
    each = Delivery(new_id("dlv"), found.id, 0, "waiting", 0, now, "", now, None)
    tried = _try(hub, found, notice, each)
    events.note(
        hub,
        "recipient_tested",
        by=who.login,
        address=who.address,
        on=found.name,
        delivered=tried.is_done,
        said=tried.said,
    )
    return tried


def _topics(topics: Iterable[str]) -> str:
    wanted = sorted(set(topics))
    unknown = [each for each in wanted if each not in TOPICS]
    if unknown or not wanted:
        raise InvalidInput(
            "there is no such topic" if unknown else "choose at least one topic",
            hint=f"Topics: {', '.join(TOPICS)}.",
            field="topics",
        )
    return " ".join(wanted)


def _address(hub: Keyturn, kind: str, address: str) -> str:
    """Raises: InvalidInput for what is none, or must not be called."""
    address = address.strip()
    if kind == MAIL:
        if hub.settings.post is None:
            raise InvalidInput(
                "this hub sends no mail", hint="The operator sets KEYTURN_SMTP_URL for that.", field="address"
            )
        if not _MAIL.fullmatch(address) or len(address) > 254:
            raise InvalidInput("this is no e-mail address", field="address")
        return address
    if kind != WEBHOOK:
        raise InvalidInput("a recipient is a webhook or a mail address", field="kind")
    if len(address) > 2000:
        raise InvalidInput("an address has at most 2000 characters", field="address")
    try:
        ssrf.target(address, hub.settings.network)
    except InvalidInput as error:
        raise InvalidInput(error.message, hint=error.hint, field="address") from None
    return address


# -- secrets and signatures --------------------------------------------------------------------------------------------


def _row(recipient_id: str) -> str:
    return f"recipient:{recipient_id}"


def _new_secret() -> Secret:
    return Secret("whsec_" + base64.b64encode(os.urandom(32)).decode())


def _sealing(
    hub: Keyturn, recipient_id: str, kept: Sequence[tuple[str, float | None]]
) -> Callable[[Tx], None]:
    return hub.secrets.sealing(_row(recipient_id), json.dumps(list(kept)).encode(), time.time())


def _secrets(hub: Keyturn, recipient_id: str) -> list[tuple[str, float | None]]:
    body, now = hub.secrets.find(_row(recipient_id)), time.time()
    kept = json.loads(body) if body else []
    return [(value, until) for value, until in kept if until is None or until > now]


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature as Standard Webhooks defines it: `v1,` and the HMAC-SHA256 over id, timestamp and body."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    said = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, said, hashlib.sha256)).decode()


# -- delivering --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """What came of one attempt: what the other end said, whether it took it, how long it asks to wait, and whether it says
    that nobody listens there any more."""

    said: str
    is_done: bool
    wait_s: float = 0.0
    is_gone: bool = False


def deliver(hub: Keyturn) -> int:
    """One attempt at each delivery whose time has come; how many were made. Never raises for what a recipient does."""
    now = time.time()
    tried = 0
    for each in hub.store.read(lambda tx: rows.due(tx, now, _AT_ONCE)):
        if hub.store.write(lambda tx, each=each: rows.claim(tx, each, time.time() + CLAIM_S)):  # type: ignore[misc]
            _attempt(hub, each)
            tried += 1
    return tried


def _attempt(hub: Keyturn, each: Delivery) -> None:
    def work(tx: Tx) -> tuple[Recipient | None, Notice | None]:
        return rows.recipient(tx, each.recipient_id), rows.by_number(tx, each.notice_number)

    to, notice = hub.store.read(work)
    if to is None or notice is None:
        return
    found = _try(hub, to, notice, each)
    if found.is_gone:
        hub.store.write(lambda tx: rows.change_recipient(tx, to.id, paused_at=time.time()))
        events.note(hub, "recipient_paused", by="keyturn", on=to.name, why="it answered 410")
    now = time.time()
    settled: tuple[str, str, float | None, float | None]
    if found.is_done:
        settled = ("done", found.said, None, now)
    elif each.tries >= len(LADDER_S):
        settled = ("given_up", found.said, None, now)
    else:
        pause = LADDER_S[each.tries] * hub.settings.patience * random.uniform(1.0, 1.2)  # noqa: S311 - no two in step
        settled = ("waiting", found.said, now + max(pause, found.wait_s), None)
    state, said, due_at, ended_at = settled
    hub.store.write(lambda tx: rows.settle(tx, each, state, said[:300], due_at, ended_at))


def _try(hub: Keyturn, to: Recipient, notice: Notice, each: Delivery) -> Sent:
    try:
        if to.kind == WEBHOOK:
            return _send_webhook(hub, to, notice, each)
        return _send_mail(hub, to, notice, each)
    except KeyturnError as error:
        return Sent(error.message, is_done=False)
    except Exception as error:
        return Sent(unexpected(error), is_done=False)


def payload(notice: Notice) -> dict[str, Any]:
    """What a webhook carries: the type, when, and the facts. Never a secret."""
    return {
        "type": notice.topic,
        "timestamp": iso(notice.at),
        "data": {"notice": notice.number, **notice.facts},
    }


def _send_webhook(hub: Keyturn, to: Recipient, notice: Notice, each: Delivery) -> Sent:
    body = json.dumps(payload(notice), separators=(",", ":"), ensure_ascii=False).encode()
    at = int(time.time())
    signatures = [sign(value, each.id, at, body) for value, _ in _secrets(hub, to.id)]
    headers = {
        "Content-Type": "application/json",
        "webhook-id": each.id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(signatures),
    }
    answer = http.send(
        http.Request("POST", to.address, headers, body, timeout_s=15.0, max_bytes=65_536, changes=True),
        hub.settings.network,
    )
    if 200 <= answer.status < 300:
        return Sent(str(answer.status), is_done=True)
    if answer.status == 410:
        return Sent("410: nobody listens there any more", is_done=False, is_gone=True)
    wait = answer.header("retry-after")
    return Sent(
        f"it answered {answer.status}",
        is_done=False,
        wait_s=min(float(wait), 86400.0) if wait.isdigit() else 0.0,
    )


def _send_mail(hub: Keyturn, to: Recipient, notice: Notice, each: Delivery) -> Sent:
    post = hub.settings.post
    if post is None:
        return Sent("this hub sends no mail (KEYTURN_SMTP_URL is not set)", is_done=False)
    subject, text = _letter(hub, notice)
    return Sent(mail.send(post, to.address, subject, text, each.id), is_done=True)


def _letter(hub: Keyturn, notice: Notice) -> tuple[str, str]:
    """Subject and text in plain words. What a vendor or a person called something keeps its place in one line."""
    if notice.topic == TEST:
        return "[keyturn] a test message", f"{_plain(notice.facts['says'])}\n\n{hub.settings.public_url}\n"
    told = {key: value for key, value in notice.facts.items() if value not in ("", None)}
    items = told.pop("items", [])
    facts = {key: _plain(value) for key, value in told.items()}
    name = facts.get("connection", "")
    subject = f"[keyturn] {name}: {TOPICS[notice.topic]}" if name else f"[keyturn] {TOPICS[notice.topic]}"
    where = (
        f"/tasks/{facts['task']}"
        if "task" in facts
        else f"/runs/{facts['run']}"
        if facts.get("run")
        else f"/connections/{notice.connection_id}"
        if notice.connection_id
        else "/issued"
    )
    lines = [f"{key.replace('_', ' ').capitalize()}: {value}" for key, value in facts.items()]
    lines += [f"- {_plain(each)}" for each in items]
    age = ago(max(0.0, time.time() - notice.at))
    body = [
        *lines,
        "",
        f"{hub.settings.public_url}{where}",
        "",
        f"Seen {age} ago, as notice {notice.number}.",
    ]
    return subject[:200], "\n".join(body) + "\n"


def _plain(value: Any) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())[:500]


# -- the herald --------------------------------------------------------------------------------------------------------


class Herald:
    """Looks and delivers in a thread of its own, as long as a program serves or works."""

    def __init__(self, hub: Keyturn, often_s: float = LOOK_S) -> None:
        self._hub, self._often_s = hub, often_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pulse = ""
        self._widely_at = 0.0
        self._tidied_at = 0.0

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._serve, name="keyturn-herald", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 20.0) -> None:
        """Ends the thread after the attempt in hand."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _serve(self) -> None:
        while not self._stop.wait(self._often_s):
            with suppress(Exception):  # tried again next time; a broken recipient must not end the thread
                self.once()

    def once(self) -> None:
        """One look where something changed, and what is due."""
        now = time.monotonic()
        widely = now - self._widely_at >= SELDOM_S or not self._widely_at
        pulse = overview.pulse(self._hub)
        if widely or pulse != self._pulse:
            look(self._hub, widely=widely)
            self._pulse = pulse
            self._widely_at = now if widely else self._widely_at
        deliver(self._hub)
        if now - self._tidied_at >= TIDY_S or not self._tidied_at:
            self._tidied_at = now
            tidy(self._hub)


def tidy(hub: Keyturn) -> None:
    """Forgets notices, deliveries and what was seen, a month after they were over."""
    before = time.time() - KEPT_S
    hub.store.write(lambda tx: rows.prune(tx, before) + rows.forget(tx, before))

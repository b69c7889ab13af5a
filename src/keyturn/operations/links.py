"""One-time links: a task for an outside administrator who has no account here.

The link's code is shown once and kept as a digest. Opening it uses it up: from then on the browser that opened it holds
a ticket, which shows this one task and takes one answer. Whatever opens nothing is refused in the same words.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput, NotPermitted
from keyturn.model.run import LineKind, Task, TaskState
from keyturn.model.secret import Secret
from keyturn.operations import events, sessions, tasks
from keyturn.operations.rights import Who
from keyturn.storage import journal, links, people
from keyturn.storage import tasks as rows
from keyturn.storage.database import Tx
from keyturn.storage.links import Link

LAST_S = 24 * 3600.0
PATH = "/help"
KINDS = frozenset({"supply", "consent", "delete"})  # what an administrator of the vendor does
_KEPT_S = 30 * 86400.0
_DOOR = "(task link)"  # failures count as those of this login
_NAMED = 60


@dataclass(frozen=True)
class Made:
    """A new link, for the one answer that shows it."""

    url: Secret
    task: Task
    ends_at: float


def make(hub: Keyturn, who: Who, task_id: str, made_for: str = "") -> Made:
    """A link to an open task, for a day. One made before for the same task opens nothing any more.

    `made_for` says whom it is given to, for the journal. Raises: NotFound, Conflict when nobody has to do it any more, or it is not for somebody outside.
    """
    task, made_for = tasks.get(hub, task_id), " ".join(made_for.split())
    if task.kind not in KINDS:
        raise Conflict(f"{task_id} is for somebody who has an account here", hint="Give it to one of them.")
    if len(made_for) > _NAMED or not made_for.isprintable():
        raise InvalidInput(f"a name has at most {_NAMED} characters", field="for")
    code, now = sessions.fresh(), time.time()
    until = now + LAST_S
    made = Link(
        _digest(hub, code), task.id, task.connection_id, made_for, who.login, now, until, "", None, None
    )
    facts = {"decision": "link_made", "by": who.login, "from": who.address, "for": made_for, "until": until}

    def work(tx: Tx) -> None:
        as_is = rows.by_id(tx, task.id)
        if as_is is None or as_is.state not in rows.OPEN_STATES:
            state = as_is.state.value if as_is else "gone"
            raise Conflict(f"{task_id} is {state}", hint="`keyturn tasks` shows the open ones.")
        links.prune(tx, now - _KEPT_S)
        links.add(tx, made)
        _line(tx, task, now, facts)

    hub.store.write(work)
    return Made(Secret(f"{hub.settings.public_url}{PATH}#{code}"), task, until)


def open_(hub: Keyturn, code: str, *, address: str = "", agent: str = "") -> Secret:
    """Uses the link up and returns the ticket for the browser that did. The task is claimed for half an hour.

    Raises: NotPermitted, always in the same words; with `wait_s` after too many failures from this address.
    """
    _not_too_often(hub, address)
    ticket, now, wanted = sessions.fresh(), time.time(), _digest(hub, code)

    def work(tx: Tx) -> str:
        link = links.by_digest(tx, wanted)
        wrong = _wrong(tx, link, now)
        task = rows.by_id(tx, link.task_id) if link else None
        if link is None or task is None or wrong:
            return wrong
        if not links.open_(tx, wanted, _ticket(hub, ticket), now):
            return "it was opened already"
        facts = {"decision": "link_opened", "by": _who(link), "from": address, "agent": _printable(agent)}
        _line(tx, task, now, facts)
        if task.claimed_until <= now:
            until = now + tasks.CLAIM_S
            rows.change(
                tx, task.id, state=TaskState.CLAIMED.value, claimed_by=_who(link), claimed_until=until
            )
        return ""

    wrong = hub.store.write(work)
    if wrong:
        _refused(hub, wanted, wrong, address, agent)
    return Secret(ticket)


def task_of(hub: Keyturn, ticket: str) -> tuple[Task, float] | None:
    """The task a browser opened and until when it may answer; None when its ticket shows nothing (any more)."""
    if not ticket:
        return None
    now, wanted = time.time(), _ticket(hub, ticket)

    def work(tx: Tx) -> tuple[Task, float] | None:
        link = links.by_ticket(tx, wanted)
        if link is None or _wrong(tx, link, now):
            return None
        task = rows.by_id(tx, link.task_id)
        return (task, link.ends_at) if task else None

    return hub.store.read(work)


def hand_in(
    hub: Keyturn, ticket: str, task_id: str, values: Mapping[str, str], *, address: str = "", agent: str = ""
) -> Task:
    """Takes the one answer: sealed, and the link ended, in one commit; then the machine check follows.

    `task_id` is the task the page was about. Raises: InvalidInput naming the field, and nothing is used up; NotPermitted
    in the same words whatever else is wrong.
    """
    _not_too_often(hub, address)
    wanted = _ticket(hub, ticket)
    found = hub.store.read(lambda tx: links.by_ticket(tx, wanted)) if ticket else None
    if found is None or found.task_id != task_id or task_of(hub, ticket) is None:
        _refused(hub, found.digest if found else "", "it shows no such task", address, agent)
    link, task = found, tasks.get(hub, found.task_id)

    def also(tx: Tx) -> None:
        now = time.time()
        if not links.use(tx, link.digest, now):
            raise Conflict("it was used already")
        facts = {"decision": "link_used", "by": _who(link), "from": address, "agent": _printable(agent)}
        _line(tx, task, now, facts)

    try:
        return tasks.submit(hub, link.task_id, values, _who(link), also)
    except Conflict as error:  # somebody was faster, here or there
        _refused(hub, link.digest, error.message, address, agent)


# -- the pieces --------------------------------------------------------------------------------------------------------


def _digest(hub: Keyturn, code: str) -> str:
    return hub.roots.token_digest("task-link:" + code.strip()[:200])


def _ticket(hub: Keyturn, ticket: str) -> str:
    return hub.roots.token_digest("task-ticket:" + ticket[:200])


def _who(link: Link) -> str:
    return f"{link.made_for or 'somebody outside'}, by a link of {link.made_by}"


def _printable(agent: str) -> str:
    return "".join(c for c in agent[:200] if c.isprintable() and c.isascii())


def _wrong(tx: Tx, link: Link | None, now: float) -> str:
    """Why a link shows nothing, for the record alone; empty while it does."""
    if link is None:
        return "there is no such link"
    if link.ended_at is not None:
        return "it was used, or another one was made"
    if link.ends_at <= now:
        return "it is too old"
    maker = people.by_login(tx, link.made_by)
    if maker is not None and maker.disabled_at is not None:
        return "the account of whoever made it is switched off"
    task = rows.by_id(tx, link.task_id)
    if task is None or task.state not in rows.OPEN_STATES:
        return "nobody has to do its task any more"
    return ""


def _not_too_often(hub: Keyturn, address: str) -> None:
    pause = sessions.wait_s(hub, _DOOR, address)
    if pause > 0:
        raise NotPermitted("too many links were refused", hint="Wait a while, then try again.", wait_s=pause)


def _refused(hub: Keyturn, digest: str, why: str, address: str, agent: str) -> NoReturn:
    """Counts it and puts it on record. Raises: NotPermitted, always in the same words."""
    link = hub.store.read(lambda tx: links.by_digest(tx, digest)) if digest else None
    facts: dict[str, Any] = {"what": "task", "why": why, "agent": _printable(agent)}
    if link is not None:
        facts["task"] = link.task_id
    sessions.count_failure(hub, _DOOR, address)
    events.note(hub, "link_refused", by="(unknown)", address=address, **facts)
    raise NotPermitted(
        "this link opens nothing",
        hint="It works once, for a day. Ask whoever sent it for a new one.",
        field="code",
    )


def _line(tx: Tx, task: Task, now: float, facts: Mapping[str, Any]) -> None:
    said = {"task": task.id, **{key: value for key, value in facts.items() if value}}
    entry = journal.Entry(now, task.run_id, task.step, LineKind.DECISION, 0, said)
    journal.append(tx, task.connection_id, [entry])

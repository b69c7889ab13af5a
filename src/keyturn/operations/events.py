"""The hub's own chain of the journal: sign-ins, refusals, changes to people, and who did what from where."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.errors import NotPermitted
from keyturn.model.run import Line, LineKind
from keyturn.operations import rights
from keyturn.operations.rights import Operation, Who
from keyturn.storage import journal
from keyturn.storage.database import Tx


def line(decision: str, *, by: str, address: str = "", **facts: Any) -> Callable[[Tx], None]:
    """The write of one line, for the transaction of the change it speaks of."""
    said = {"decision": decision, "by": by, "from": address, **facts}
    said = {key: value for key, value in said.items() if value not in ("", None)}
    entry = journal.Entry(time.time(), "", "people", LineKind.DECISION, 0, said)
    return lambda tx: journal.append(tx, journal.HUB, [entry])


def note(hub: Keyturn, decision: str, *, by: str, address: str = "", **facts: Any) -> None:
    """One line, by itself."""
    hub.store.write(line(decision, by=by, address=address, **facts))


def latest(hub: Keyturn, limit: int = 100, before: int = 0) -> list[Line]:
    """The hub's own lines, newest first."""
    return hub.store.read(lambda tx: journal.latest(tx, journal.HUB, limit, before))


def acting(hub: Keyturn, who: Who) -> Keyturn:
    """The hub as somebody uses it: the journal names them."""
    return replace(hub, settings=replace(hub.settings, actor=who.login))


def require(hub: Keyturn, who: Who, operation: Operation, project: str = "", on: str = "") -> None:
    """Raises: NotPermitted, after the refusal was put on record."""
    if not rights.may(who, operation, project):
        refuse(hub, who, operation, on)


def refuse(hub: Keyturn, who: Who, operation: Operation, on: str = "") -> None:
    """Puts a refusal on record. Raises: NotPermitted, always."""
    why = rights.why_not(who, operation)
    note(hub, "refused", by=who.login, address=who.address, operation=operation.value, on=on, why=why)
    raise NotPermitted(why, hint="Ask an administrator of this hub for the role.", field="role")

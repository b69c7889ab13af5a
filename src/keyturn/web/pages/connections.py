"""The connections: the list with its menus, one connection with its slots, versions and runs, and its history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from keyturn.errors import InvalidInput, KeyturnError
from keyturn.issued import kinds
from keyturn.model.card import Card, Strategy
from keyturn.model.credential import Connection, State, Version
from keyturn.model.policy import Policy
from keyturn.operations import (
    connections,
    debts,
    jobs,
    leases,
    overview,
    rights,
    runs,
    systems,
    tasks,
)
from keyturn.operations.rights import Operation
from keyturn.web import words
from keyturn.web.site import Visit

_RUNS, _LINES = 20, 100
LINKS = ((3600.0, "1 hour"), (86400.0, "1 day"), (7 * 86400.0, "7 days"))


@dataclass(frozen=True)
class Act:
    """One entry of a connection's menu."""

    title: str
    path: str
    is_post: bool = False
    is_end: bool = False


def acts(it: Visit, line: overview.Line) -> list[Act]:
    """What this person can do to this connection as it is. Whatever changes something opens its plan first."""
    base, project = f"/connections/{line.id}", line.project
    direction, strategy, has_ways = _row(it, line)
    found: list[Act] = []
    is_gone = line.state in {"disconnected", "revoked"}
    is_ours = kinds.is_ours(line.system, line.method)
    if direction and not is_ours:
        if line.version and not is_gone and it.may(Operation.CONNECTION_TEST, project):
            found.append(Act("Test", f"{base}/test", is_post=True))
        is_consent, rotates = strategy is Strategy.CONSENT, strategy is not Strategy.NOTHING
        first = "reconnect" if is_gone and not is_consent else "reauthorize" if is_consent else "rotate"
        if rotates or is_gone:
            found.append(Act("Plan", f"{base}/plan/{first}"))
        if it.may(Operation.RUN_ROTATE, project):
            if rotates and not is_gone:
                found.append(Act("Rotate", f"{base}/plan/rotate"))
            if is_consent and line.state != "disconnected":
                found.append(Act("Authorize", f"{base}/plan/reauthorize"))
                if not is_gone:
                    found.append(Act("Refresh now", f"{base}/plan/refresh"))
        if it.may(Operation.RUN_END, project):
            if is_gone:
                found.append(Act("Reconnect", f"{base}/plan/reconnect"))
            else:
                if is_consent:
                    found.append(Act("Revoke authorization", f"{base}/plan/revoke", is_end=True))
                if has_ways:
                    found.append(Act("Move to another method", f"{base}/migrate"))
                found.append(Act("Disconnect", f"{base}/plan/disconnect", is_end=True))
        if rotates and not is_gone and it.may(Operation.RUN_ROTATE, project):
            found.append(Act("Contain a leak", f"{base}/plan/contain", is_end=True))
    if is_ours:
        found.append(Act("Reissue or end", f"/issued/{line.id}"))
    if it.may(Operation.CONNECTION_CHANGE, project):
        found.append(Act("Edit connection", f"{base}/edit"))
    found.append(Act("History", f"{base}/history"))
    return found


def _row(it: Visit, line: overview.Line) -> tuple[str, Strategy | None, bool]:
    """Direction and strategy of a connection's row, and whether its system has another method; a connector that is not
    installed any more offers nothing."""
    try:
        row = it.hub.catalog.method(line.system, line.method)
        if row.field("definition") is not None:  # a user's own definition says it, and has one method
            own = it.hub.catalog.row_of(connections.find(it.hub, line.id))
            return row.direction, own.card.strategy, False
    except KeyturnError:
        return "", None, False
    others = [m for m in it.hub.catalog.system(line.system).methods if m.direction == "outbound" and m != row]
    return row.direction, row.card.strategy, bool(others)


def every(it: Visit) -> Response:
    """The list: searched, filtered, sorted, in pages."""
    asked = {name: it.asked(name) for name in ("q", "system", "state", "sort", "down", "after")}
    sort = asked["sort"] if asked["sort"] in overview.SORTS else "name"
    after = it.place("connections")
    page = overview.page(
        it.hub,
        it.projects(),
        text=asked["q"],
        system=asked["system"],
        health=asked["state"],
        sort=sort,
        down=asked["down"] == "1",
        after=after[1:] if after and after[0] == sort else None,
    )

    def address(**changes: str) -> str:
        wanted = {**asked, "after": "", **changes}
        text = urlencode({name: value for name, value in wanted.items() if value})
        return f"/connections?{text}" if text else "/connections"

    return it.render(
        "connections.html",
        page=page,
        systems=overview.systems(it.hub, it.projects()),
        asked=asked,
        sort=sort,
        address=address,
        next=address(after=it.site.sign([sort, *page.next], "connections")) if page.next else "",
        healths=overview.HEALTH,
        acts=lambda line: acts(it, line),
        is_filtered=bool(asked["q"] or asked["system"] or asked["state"]),
        may_rotate=rights.may_somewhere(it.who, Operation.RUN_ROTATE),
        may_report=it.may(Operation.RUN_ROTATE),
        may_connect=rights.may_somewhere(it.who, Operation.CONNECTION_CHANGE),
    )


def one(it: Visit, connection_id: str) -> Response:
    """One connection: what serves, its slots, versions, runs, debts, policy."""
    connection, project = it.connection(connection_id)
    line = overview.line(it.hub, connection.id)
    page = systems.connection_page(it.hub, connection.id)
    found = runs.recent(it.hub, connection.id, _RUNS)
    versions = systems.versions_of(it.hub, connection)
    row = it.hub.catalog.row_of(connection)
    labels = {field.name: field.label for field in row.method.fields}
    return it.render(
        "connection.html",
        labels=labels,
        jobs=jobs.every(it.hub, connection.id),
        has_reader=row.can.reader is not None,
        may_look=line.version
        and line.state not in {"disconnected", "revoked"}
        and (row.can.discoverer is not None or row.can.lister is not None)
        and it.may(Operation.CONNECTION_TEST, project),
        may_change=it.may(Operation.CONNECTION_CHANGE, project),
        is_ours=kinds.is_ours(connection.system, connection.method),
        hands_over=(connection.system, connection.method) == (kinds.BUCKET.system, kinds.BUCKET.method)
        and bool(line.version)
        and it.may(Operation.ISSUED_CHANGE, project),
        links=LINKS,
        leases=leases.held(it.hub, connection.id),
        uses=USES,
        line=line,
        page=page,
        project=project,
        acts=acts(it, line),
        slots=_slots(it, connection, versions),
        versions=versions,
        runs=found,
        tasks=tasks.waiting_of(it.hub, connection.id),
        debts=debts.of_connection(it.hub, connection.id),
        policy=_policy(connection),
        health=overview.HEALTH[line.health],
        gap=systems.GAPS,
        card=row.card,
        rotates=row.card.strategy is not Strategy.NOTHING,
        strategies=systems.STRATEGIES,
        proofs=systems.PROOFS,
    )


@dataclass(frozen=True)
class Slot:
    """One place for a credential at the vendor, as drawn."""

    name: str
    kind: str
    version: Version | None = None
    says: str = ""


def _slots(it: Visit, connection: Connection, versions: Sequence[Version]) -> list[Slot]:
    """The places at the vendor, and what is in each."""
    card: Card = it.hub.catalog.row_of(connection).card
    alive = [v for v in versions if v.state not in {State.DEAD, State.REFUSED}]
    if card.slot_names:
        drawn = []
        for name in card.slot_names:
            there = next((v for v in alive if name in {v.ref.slot, v.ref.id}), None)
            drawn.append(_slot(name, there))
        return drawn + [
            _slot("another place", v) for v in alive if not {v.ref.slot, v.ref.id} & set(card.slot_names)
        ]
    drawn = [_slot(v.ref.id or v.ref.slot or ("the one slot" if card.slots == 1 else ""), v) for v in alive]
    room = (card.slots or card.cap or 0) - len(drawn)
    if not drawn or (card.slots is not None and room > 0):
        drawn += [_slot("", None)] * max(1, min(room, 3))
    return drawn


def _slot(name: str, version: Version | None) -> Slot:
    if version is None:
        return Slot(name, "free", says="Free")
    says, kind = words.VERSION_STATES.get(version.state.value, (version.state.value, "calm"))
    return Slot(name, kind, version, says)


_POLICY: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("max_age_days", "Rotate after", lambda value: f"{value:g} days"),
    ("proof", "Proof wanted", str),
    ("drain_max_s", "Wait for users at most", words.span),
    ("soak_s", "Switched off before it is ended", words.span),
    ("task_days", "Time for a task", lambda value: f"{value:g} days"),
    ("retention_s", "Keep a dead value's ciphertext", words.span),
)


def _policy(connection: Connection) -> list[tuple[str, str]]:
    policy = Policy.read(connection.policy)
    values = ((title, say, getattr(policy, name)) for name, title, say in _POLICY)
    return [(title, say(value)) for title, say, value in values if value]


USES = {
    "live": "asks at every use",
    "cached": "keeps it for a while",
    "deploy-time": "gets it with a deployment",
    "pushed": "this hub writes it there",
    "outside": "not under our control",
}


def declare(it: Visit, connection_id: str) -> Response:
    """Names who uses it, so that the old credential waits for them. The same name again changes it."""
    connection, _ = it.connection(connection_id)
    name, kind = " ".join(it.text("user").split()), it.text("kind")
    minutes = it.text("minutes").strip()
    if not name or len(name) > 80 or not name.isprintable():
        raise InvalidInput("who uses it has a name of 1 to 80 characters", field="user")
    if kind == "cached" and not (minutes.isdigit() and 0 < int(minutes) <= 10080):
        raise InvalidInput("say for how many minutes it is kept, up to a week", field="minutes")
    kept_s = 60.0 * int(minutes) if kind == "cached" else 0.0
    leases.declare(it.hub, connection.id, name, kind, ttl_s=kept_s, required=it.text("waited") == "yes")
    it.done(Operation.CONNECTION_CHANGE, connection.name, verb="declare user", user=name)
    return it.redirect(
        f"/connections/{connection.id}#users", f"{name} is named as a user of {connection.name}."
    )


def look(it: Visit, connection_id: str) -> Response:
    """What the credential can see at the vendor, asked for now."""
    connection, _ = it.connection(connection_id)
    found = connections.discover(it.hub, connection.id)
    it.done(Operation.CONNECTION_TEST, connection.name, verb="discover")
    return it.render("look.html", connection=connection, found=found)


def history(it: Visit, connection_id: str) -> Response:
    """Its journal, newest first."""
    connection, _ = it.connection(connection_id)
    known, lines = systems.history(it.hub, connection.id, _LINES)
    return it.render(
        "history.html",
        connection=connection,
        lines=lines[::-1],
        versions=words.versions(known),
        most=_LINES,
    )


def test(it: Visit, connection_id: str) -> Response:
    """Logs in afresh with what serves now, and says what came of it."""
    connection, _ = it.connection(connection_id)
    probe = connections.test(it.hub, connection.id)
    it.done(Operation.CONNECTION_TEST, connection.name)
    said = " ".join(part for part in (probe.code, probe.detail) if part)
    account = probe.identity.get("principal_label") or probe.identity.get("principal", "")
    back = f"/connections/{connection.id}"
    if probe.verdict.value == "accepted":
        return it.redirect(back, f"{connection.name} works" + (f", as {account}." if account else "."))
    if probe.verdict.value == "rejected":
        return it.redirect(back, f"The vendor refuses the credential of {connection.name} ({said}).", "bad")
    return it.redirect(
        back, f"No clear answer about {connection.name} ({said}): that says nothing about it.", "warn"
    )

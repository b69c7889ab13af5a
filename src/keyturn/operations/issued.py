"""Credentials this hub gives to others: issue, show, issue a second one beside the first, end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.contract.values import Access
from keyturn.errors import Conflict, InvalidInput, NotDone, NotFound, NotPermitted
from keyturn.executor.executor import Executor
from keyturn.issued import kinds, oauth
from keyturn.issued import reveal as kept
from keyturn.issued.book import SLOTS, CheckResult, Code, IssuedBook
from keyturn.issued.capabilities import CLIENT, STARTS, capabilities, hub_id
from keyturn.keymaking import passwords as client_ids
from keyturn.keymaking.passwords import pattern as token_pattern
from keyturn.model.card import GapClass, Strategy
from keyturn.model.credential import (
    Connection,
    ConnectionState,
    Provenance,
    Ref,
    State,
    Version,
)
from keyturn.model.ids import ConnectionId, PrincipalId, VersionId, new_id
from keyturn.model.moment import iso
from keyturn.model.plan import Goal, Kind, Plan
from keyturn.model.policy import Policy
from keyturn.model.run import LineKind, Run, Track
from keyturn.model.secret import Material, Secret
from keyturn.operations import runs as run_operations
from keyturn.operations.connections import check_name, find
from keyturn.operations.forms import read_form
from keyturn.storage import connections, journal, principals, runs, versions
from keyturn.storage import issued as issued_rows
from keyturn.storage.database import Tx
from keyturn.storage.issued import ALIVE, IssuedSecret, SecretState, by_version
from keyturn.vault.secrets import admin_row, version_row

OVERLAP_S = 86400.0
LONGEST_OVERLAP_S = 30 * 86400.0
LONGEST_WAIT_S = 366 * 86400.0  # until a secret is let in
_ONCE_S = 0.5  # an engine that runs has picked a new run up by then


@dataclass(frozen=True)
class Handed:
    """A fresh credential and its value, for the one answer that shows it. `until`: when `reveal` stops showing it.

    `run` is the rotation that goes on: it ends the old one later. None for a first credential. `client_id`: of an OAuth
    client, and not a secret. A public client is handed nothing but that: its `value` is empty.
    """

    connection: Connection
    value: Secret
    version_id: VersionId
    slot: str
    until: float
    run: Run | None = None
    client_id: str = ""


@dataclass(frozen=True)
class Issued:
    """One issued credential with its secrets, newest first."""

    connection: Connection
    kind: str
    secrets: tuple[IssuedSecret, ...]

    @property
    def client_id(self) -> str:
        """Of an OAuth client, the id that serves now, else its last one; empty for a key."""
        alive = [s for s in self.secrets if s.state in ALIVE]
        current = [s for s in alive if s.version_id == self.connection.current_version_id]
        return next((s.client_id for s in (*current, *alive, *self.secrets)), "")

    def client_secret_expires_at(self, version_id: str = "") -> int | None:
        """Of an OAuth client, when a secret (the newest that is alive when none is named) expires by itself, in seconds;
        0 for never (RFC 7591 3.2.1). None for a key, and where there is no such secret."""
        if not kinds.named(self.kind).flows:
            return None
        asked = (s for s in self.secrets if s.version_id == version_id or not version_id)
        found = next((s for s in asked if s.state in ALIVE), None)
        return None if found is None else int(found.ends_at or 0)

    def told(self) -> dict[str, Any]:
        """As the API and the command line tell it: no value."""
        return {
            "id": self.connection.id,
            "name": self.connection.name,
            "kind": self.kind,
            "state": self.connection.state.value,
            "owner": self.connection.owner,
            "client_id": self.client_id,
            "client_secret_expires_at": self.client_secret_expires_at(),
            "settings": dict(self.connection.settings),
            "secrets": [
                {
                    "version": s.version_id,
                    "slot": s.slot,
                    "hint": s.hint,
                    "state": s.state.value,
                    "created": iso(s.created_at),
                    "starts": iso(s.starts_at),
                    "ends": iso(s.ends_at),
                    "first_used": iso(s.first_used_at),
                    "last_used": iso(s.last_used_at),
                    "last_used_from": s.last_used_from,
                    "last_used_agent": s.last_used_agent,
                    "uses": s.uses,
                }
                for s in self.secrets
            ],
        }


def book(hub: Keyturn) -> IssuedBook:
    """The hub's book. A new one each time: only what counts uses must be kept (and closed) by whoever serves."""
    return IssuedBook(hub.store, hub.roots)


def issue(
    hub: Keyturn,
    kind: str,
    name: str,
    values: Mapping[str, str],
    owner: str = "",
    *,
    policy: Mapping[str, Any] | None = None,
    who: str = "",
    starts_in_s: float = 0.0,
) -> Handed:
    """Makes a credential with its first secret, in one transaction. The value is in the answer and nowhere else, but
    for ten minutes in which the same person may `reveal` it. It is let in `starts_in_s` from now on.

    Raises: InvalidInput or Conflict (field named), NotFound for a kind this hub does not issue.
    """
    made = kinds.named(kind)
    if not made.is_ours_to_check:
        from keyturn.operations import buckets  # which hands over what this module describes

        if starts_in_s:
            raise InvalidInput("a key to a bucket works at once: the store decides", field="starts_in_s")
        return buckets.issue(hub, made, name, values, owner, policy=policy, who=who)
    name, who, now = check_name(hub, name), who or hub.settings.actor, time.time()
    own = dict(policy or {})
    Policy.read(own)
    method = hub.catalog.method(made.system, made.method)
    settings, _, _ = read_form(f"{made.system}/{made.method}", method, values)
    oauth.terms(made, settings)
    starts_at = _starts_at(starts_in_s, settings, now)
    client_id = client_ids.client_id() if made.flows else ""
    connection = Connection(
        id=ConnectionId(new_id("con")),
        name=name,
        system=made.system,
        method=made.method,
        settings=settings,
        principal_id=PrincipalId(""),
        owner=owner or who,
        policy=own,
        identity={},
        state=ConnectionState.ACTIVE,
        generation=1,
        current_version_id=VersionId(new_id("ver")),
        definition_hash="",
        created_at=now,
    )
    ledger = book(hub)
    identity = {"principal": connection.id, "tenant": hub_id(ledger), "principal_label": name}
    connection = replace(connection, identity=identity)
    maker = capabilities(ledger, hub.secrets, connection).maker
    if maker is None:
        raise NotDone(f"{kind} cannot be made")  # unreachable: every kind of ours has a maker
    slot = SLOTS[0]
    candidate = maker.make(Access(settings), Ref(id=slot, slot=slot))
    digest = candidate.material["digest"]
    value = kept.find(hub.secrets, digest, now)
    if value is None:
        raise NotDone("the new value could not be read back from the vault", hint="Nothing was issued.")
    version = Version(
        id=VersionId(str(connection.current_version_id)),
        connection_id=connection.id,
        principal_id=PrincipalId(""),
        number=1,
        state=State.CURRENT,
        ref=candidate.ref,
        fingerprint=hub.roots.fingerprint(digest),
        provenance=Provenance.OURS,
        born_at=now,
        expires_at=candidate.expires_at,
        changed_at=now,
    )
    seal = hub.secrets.sealing(version_row(version.id), candidate.material.to_bytes(), now)
    # The hub is its own administrator: a key that expired or was ended can still be followed by a new one.
    admin = hub.secrets.sealing(
        admin_row(connection.id), Material({"hub": hub_id(ledger)}, frozenset({"hub"})).to_bytes(), now
    )

    def work(tx: Tx) -> Connection:
        principal_id = principals.ensure(tx, f"{made.system}/{made.method}/{connection.id}")
        whole = replace(connection, principal_id=principal_id)
        if not connections.add(tx, whole):
            raise Conflict(f"there is a connection named {name} already", field="name")
        seal(tx)
        admin(tx)
        versions.add(tx, replace(version, principal_id=principal_id))
        ledger.add(
            tx, version.id, whole.id, slot, digest, value[-4:], candidate.expires_at, client_id, starts_at
        )
        seen = {"what": "new", "verdict": "accepted", "identity": identity, "version": version.id}
        said = {
            "decision": "issued",
            "kind": made.name,
            "version": version.id,
            "slot": slot,
            "by": who,
            "scopes": settings.get("scopes", ""),
            **({"client_id": client_id} if client_id else {}),
            **({STARTS: starts_at} if starts_at else {}),
        }
        journal.append(
            tx,
            whole.id,
            [
                journal.Entry(now, "", "issue", LineKind.OBSERVED, 0, seen),
                journal.Entry(now, "", "issue", LineKind.DECISION, 0, said),
            ],
        )
        return whole

    saved = hub.store.write(work)
    shown = Secret("" if _is_public(saved) else value)
    return Handed(saved, shown, version.id, slot, now + kept.REVEAL_S, client_id=client_id)


def _starts_at(starts_in_s: float, settings: Mapping[str, Any], now: float) -> float | None:
    """When a secret is let in; None for at once. Raises: InvalidInput."""
    if not 0 <= starts_in_s <= LONGEST_WAIT_S:
        raise InvalidInput("the start must lie within the next 366 days", field="starts_in_s")
    days = int(settings.get("expires_in_days") or 0)
    if days and starts_in_s >= days * 86400.0:
        raise InvalidInput("it would expire before it starts", field="starts_in_s")
    return now + starts_in_s if starts_in_s else None


def _is_public(connection: Connection) -> bool:
    """Whether it is an OAuth client without a secret: the one in the book stands for the client itself, unshown."""
    return connection.settings.get("client_type") == "public"


def every(hub: Keyturn) -> list[Issued]:
    """All issued credentials by name, the ended ones too."""
    return page(hub, limit=None)


def page(
    hub: Keyturn, projects: frozenset[str] | None = None, *, after: str = "", limit: int | None = 50
) -> list[Issued]:
    """Those behind a name, by name; only those of some projects when given."""
    rows = {(kind.system, kind.method): kind for kind in kinds.KINDS}

    def work(tx: Tx) -> tuple[list[Connection], dict[str, list[IssuedSecret]]]:
        found = connections.of_rows(tx, rows, projects=projects, after=after, limit=limit)
        return found, issued_rows.of_connections(tx, [each.id for each in found])

    found, secrets = hub.store.read(work)
    return [_seen(hub, rows[each.system, each.method], each, secrets.get(each.id, ())) for each in found]


def _seen(hub: Keyturn, kind: kinds.Kind, connection: Connection, secrets: Sequence[IssuedSecret]) -> Issued:
    """`secrets` are those of the hub's own book; a bucket's keys are in none."""
    if kind.is_ours_to_check:
        return Issued(connection, kind.name, tuple(secrets))
    from keyturn.operations import buckets

    return Issued(connection, kind.name, buckets.keys(hub, connection))


def get(hub: Keyturn, name: str) -> Issued:
    """One issued credential. Raises: NotFound, InvalidInput when it is not one of ours."""
    connection = find(hub, name)
    try:
        kind = kinds.of_row(connection.system, connection.method)
    except NotFound:
        raise InvalidInput(
            f"{name} is a connection to {connection.system}; this hub did not issue it",
            hint="`keyturn issued` shows what it issued.",
            field="name",
        ) from None
    return _seen(hub, kind, connection, book(hub).list(connection.id))


def reissue(
    hub: Keyturn,
    name: str,
    overlap_s: float = OVERLAP_S,
    *,
    force: bool = False,
    reason: str = "",
    trigger: str = "",
    wait_s: float = 30.0,
    who: str = "",
    starts_in_s: float = 0.0,
) -> Handed:
    """Makes a second secret beside the first and returns its value as soon as it is let in. The run goes on: it ends the
    old one after `overlap_s`, once the new one was used and the old one is silent, at the latest after twice the overlap.
    `force` ends it even though the new one was never used; where a store counts the uses and the hub sees none, even
    though nobody said that the new one is in its place. `starts_in_s`: the new one is let in from then on, and the overlap
    is counted from then on.

    Raises: InvalidInput, Conflict while another rotation is open, NotDone when it does not get that far in `wait_s`.
    """
    if not 0 <= overlap_s <= LONGEST_OVERLAP_S:
        raise InvalidInput("overlap_s must be between 0 and 30 days", field="overlap_s")
    found = get(hub, name)
    connection = found.connection
    starts_at = _starts_at(starts_in_s, connection.settings, time.time())
    if starts_at and not kinds.named(found.kind).is_ours_to_check:
        raise InvalidInput("a key to a bucket works at once: the store decides", field="starts_in_s")
    if _is_public(connection) and connection.state is ConnectionState.ACTIVE:
        raise InvalidInput(
            f"{name} is a public client: it has no secret that could be replaced",
            hint=f"`keyturn reissue {quote(name)} --recreate` gives it another client id.",
            field="name",
        )
    return _reissue(
        hub,
        connection,
        lambda plan: _starting(_overlapping(plan, overlap_s + starts_in_s, force=force), starts_at),
        lambda tx, as_is: _allow(tx, as_is, overlap_s + starts_in_s),
        reason=reason,
        trigger=trigger,
        wait_s=wait_s,
        who=who,
        overlap_s=overlap_s,
    )


def recreate_plan(hub: Keyturn, name: str) -> Plan:
    """The plan of `recreate`, without starting anything: it names the gap. Raises: InvalidInput for what is no client."""
    connection = _client(hub, name)
    return _anew(run_operations.plan(hub, name, _goal(connection)), "")


def recreate(
    hub: Keyturn, name: str, *, reason: str = "", trigger: str = "", wait_s: float = 30.0, who: str = ""
) -> Handed:
    """Makes an OAuth client anew: another client id and secret; the old ones, their tokens and what people allowed them
    end as soon as the new ones are proven, without waiting for anybody. For when an id must go; else `reissue` is better.

    Raises: InvalidInput for what is no OAuth client, Conflict while another run is open, NotDone as `reissue` does.
    """
    connection, fresh = _client(hub, name), client_ids.client_id()
    return _reissue(
        hub,
        connection,
        lambda plan: _anew(plan, fresh),
        lambda _tx, _as_is: None,
        reason=reason,
        trigger=trigger,
        wait_s=wait_s,
        who=who,
        client_id=fresh,
    )


def _client(hub: Keyturn, name: str) -> Connection:
    found = get(hub, name)
    if not kinds.named(found.kind).flows:
        raise InvalidInput(
            f"{name} is a key and has no client id to change",
            hint=f"Use `keyturn reissue {quote(name)}`.",
            field="name",
        )
    return found.connection


def _goal(connection: Connection) -> Goal:
    gone = connection.state in {ConnectionState.REVOKED, ConnectionState.DISCONNECTED}
    return Goal.RECONNECT if gone else Goal.ROTATE


def _anew(plan: Plan, client_id: str) -> Plan:
    """The plan without an overlap, and with the new client id in the step that makes it."""
    steps = []
    for step in plan.steps:
        if step.kind is Kind.DRAIN:
            continue
        if step.kind is Kind.SET:
            title = "Make the client anew: another client id and secret, sealed first"
            step = replace(step, title=title, params={**step.params, CLIENT: client_id})
        steps.append(step)
    if plan.goal is Goal.RECONNECT:  # nothing works at present: nothing is lost
        return replace(plan, steps=tuple(steps))
    gap = (
        "There is a gap: the old id and secret, their tokens and what people allowed them end at once. Every program is"
        " refused until somebody has given it both new values."
    )
    return replace(plan, steps=tuple(steps), gap_class=GapClass.Z3, warnings=(*plan.warnings, gap))


def _reissue(
    hub: Keyturn,
    connection: Connection,
    shape: Callable[[Plan], Plan],
    also: Callable[[Tx, Connection], None],
    *,
    reason: str,
    trigger: str,
    wait_s: float,
    who: str,
    **facts: Any,
) -> Handed:
    """Starts the run that makes the new secret, and waits for its value."""
    name = connection.name
    try:
        run = run_operations.start(
            hub,
            name,
            _goal(connection),
            reason=reason,
            trigger=trigger,
            who=who or hub.settings.actor,
            shape=shape,
            also=also,
            **facts,
        )
    except Conflict as error:
        if "run" not in error.facts:
            raise
        raise Conflict(
            f"{name} is being reissued already ({error.facts['run']})",
            hint=f"Wait for its overlap, or end one of the two now: `keyturn revoke-issued {quote(name)} --slot`.",
            run=error.facts["run"],
        ) from None

    def is_over() -> bool:
        now_is = run_operations.get(hub, run.id)
        return run_operations.settled(now_is) or _serves(hub, now_is) is not None

    if not hub.engine.run_until(is_over, min(_ONCE_S, wait_s)):
        if run_operations.get(hub, run.id).started_at is None:
            Executor(hub.hub).advance(
                run.id
            )  # no engine here, and none elsewhere took it: no vendor is needed
        hub.engine.run_until(is_over, wait_s)
    run = run_operations.get(hub, run.id)
    version = _serves(hub, run)
    value = _value(hub, version) if version else None
    if version is None or value is None:
        raise NotDone(
            f"the new secret of {name} is not there yet ({run.outcome or run.waiting_for or run.state.value})",
            hint=f"The old one works on. `keyturn run {run.id}` shows how far it is.",
            run=run.id,
        )
    as_is = find(hub, name)
    shown = Secret("" if _is_public(as_is) else value)
    secret = next((s for s in book(hub).list(as_is.id) if s.version_id == version.id), None)
    return Handed(
        as_is,
        shown,
        version.id,
        version.ref.slot,
        time.time() + kept.REVEAL_S,
        run,
        client_id=secret.client_id if secret is not None else "",
    )


def _overlapping(plan: Plan, overlap_s: float, *, force: bool) -> Plan:
    """The plan with this run's own overlap in its drain step: shown before, frozen, read by the gate."""
    asked: dict[str, Any] = {"overlap_s": overlap_s, **({"force": True} if force else {})}
    first_use = "for the first use of the new one and " if plan.strategy is Strategy.ISSUED else ""
    title = f"Wait {overlap_s:g} s, {first_use}for silence of the old"
    steps = [
        replace(step, title=title, params={**step.params, **asked}) if step.kind is Kind.DRAIN else step
        for step in plan.steps
        if not (force and step.kind is Kind.HANDOVER and plan.strategy is not Strategy.ISSUED)
    ]
    return replace(plan, steps=tuple(steps))


def _starting(plan: Plan, starts_at: float | None) -> Plan:
    """The plan with the moment from which the new one is let in."""
    if starts_at is None:
        return plan
    steps = [
        replace(step, params={**step.params, STARTS: starts_at}) if step.kind is Kind.SET else step
        for step in plan.steps
    ]
    return replace(plan, steps=tuple(steps))


def _allow(tx: Tx, connection: Connection, overlap_s: float) -> None:
    """A long overlap is no reason to call the run blocked."""
    drain_max_s = Policy.read(connection.policy).drain_max_s
    if 2 * overlap_s > drain_max_s:
        widened = {**connection.policy, "drain_max_s": 2 * overlap_s + drain_max_s}
        connections.change(tx, connection.id, policy=widened)


def _serves(hub: Keyturn, run: Run) -> Version | None:
    """The run's new version once it is current."""
    if run.new_version_id is None:
        return None
    version_id = run.new_version_id
    found = hub.store.read(lambda tx: versions.by_id(tx, version_id))
    return found if found is not None and found.state is State.CURRENT else None


def reveal(hub: Keyturn, version_id: str, *, who: str = "") -> Secret:
    """The value once more, within ten minutes of its making and for whoever asked for it. Journaled.

    Raises: NotFound, NotPermitted for anybody else, Conflict when the ten minutes are over: only a new one helps then.
    """
    who = who or hub.settings.actor
    version = hub.store.read(lambda tx: versions.by_id(tx, VersionId(version_id)))
    connection = hub.store.read(lambda tx: connections.by_id(tx, version.connection_id)) if version else None
    if version is None or connection is None:
        raise NotFound(f"there is no version {version_id}", field="version")
    get(hub, connection.name)
    if _is_public(connection):
        raise Conflict(
            f"{connection.name} is a public client and has no secret", hint="It needs its client id only."
        )
    if who != _asked_by(hub, version):
        raise NotPermitted(
            "only the person who asked for it may see it again", hint="Ask them, or issue a new one."
        )
    value = _value(hub, version)
    if value is None:
        raise Conflict(
            "the value is no longer kept: it could be seen for ten minutes",
            hint=f"Use `keyturn reissue {quote(connection.name)}` for a new one.",
        )
    facts = {"decision": "revealed", "version": version.id, "by": who}
    entry = journal.Entry(time.time(), "", "issued", LineKind.DECISION, 0, facts)
    hub.store.write(lambda tx: journal.append(tx, connection.id, [entry]))
    return Secret(value)


def _value(hub: Keyturn, version: Version) -> str | None:
    material = hub.secrets.material(version_row(version.id))
    if "digest" in material:
        return kept.find(hub.secrets, material["digest"], time.time())
    from keyturn.operations import buckets

    return buckets.value(version, material)


def _asked_by(hub: Keyturn, version: Version) -> str:
    def work(tx: Tx) -> str:
        made = next(
            (r for r in runs.recent(tx, version.connection_id, 10) if r.new_version_id == version.id), None
        )
        said = (
            journal.of_run(tx, made.id) if made else journal.of_connection(tx, version.connection_id, 0, 10)
        )
        return next((str(line.facts["by"]) for line in said if line.facts.get("by")), "")

    return hub.store.read(work)


def end_now(
    tx: Tx,
    ledger: IssuedBook,
    connection_id: ConnectionId,
    secrets: Sequence[IssuedSecret],
    now: float,
    **facts: Any,
) -> Run | None:
    """Refuses secrets of one credential from this commit on, on record; its open run, which looks again at once."""
    for each in secrets:
        ledger.retire(tx, each)
        kept.destroy(tx, each.hash)
    said = {"decision": "revoked_now", "slots": [each.slot for each in secrets], **facts}
    journal.append(tx, connection_id, [journal.Entry(now, "", "issued", LineKind.DECISION, 0, said)])
    unfinished = runs.unfinished_of(tx, connection_id)
    if unfinished is not None:
        runs.wake(tx, unfinished.id, now)
    return unfinished


def revoke(
    hub: Keyturn, name: str, slot: str | None = None, *, reason: str = "", who: str = ""
) -> Run | None:
    """Ends a slot's secret, or all of them, now: refused on every worker from this call on. Proof follows in a run.

    Ending the new one of an open rotation takes the rotation back; ending the old one finishes it early; ending the
    last one ends the credential, until it is issued anew. Returns the run that proves it, None when there is none.
    Called again after a crash it goes on: what follows the end is a commit of its own. A key to a bucket is ended by its
    run, at the store.
    Raises: InvalidInput for another slot than A or B, Conflict when nothing is alive there.
    """
    found, who = get(hub, name), who or hub.settings.actor
    connection = found.connection
    if not kinds.named(found.kind).is_ours_to_check:
        if slot is not None:
            raise InvalidInput(f"{name} is a key to a bucket and has no slots", field="slot")
        return run_operations.start(hub, name, Goal.REVOKE, reason=reason, who=who)
    if slot is not None and slot not in SLOTS:
        raise InvalidInput(f"slot must be one of {', '.join(SLOTS)}", field="slot")
    ledger = book(hub)
    live = ledger.live(connection.id)
    chosen = [s for s in live if slot is None or s.slot == slot]
    if not chosen:
        cut_off = _cut_off(hub, connection, slot)
        if cut_off is not None:
            return cut_off(reason, who)
        raise Conflict(f"{name} has nothing alive" + (f" in slot {slot}" if slot else ""))
    now = time.time()

    def brake(tx: Tx) -> tuple[Run | None, Connection | None]:
        unfinished = end_now(tx, ledger, connection.id, chosen, now, by=who, reason=reason)
        return unfinished, connections.by_id(tx, connection.id)

    unfinished, as_is = hub.store.write(brake)
    if len(chosen) == len(live):
        if unfinished is not None:
            _patiently(lambda: run_operations.stop(hub, unfinished.id, "everything was revoked", who=who))
        return run_operations.start(hub, name, Goal.REVOKE, reason=reason)
    current = as_is.current_version_id if as_is else None
    if unfinished is not None and any(s.version_id == current for s in chosen):
        return _patiently(lambda: run_operations.rollback(hub, unfinished.id))
    if unfinished is not None:
        hub.engine.wake(unfinished.id, now)
    return unfinished


def _cut_off(
    hub: Keyturn, connection: Connection, slot: str | None
) -> Callable[[str, str], Run | None] | None:
    """What is left to do after a revocation that ended everything it was asked to, and then the hub died; None when
    there is nothing."""

    def work(tx: Tx) -> tuple[Run | None, IssuedSecret | None]:
        now_is = connections.by_id(tx, connection.id)
        current = now_is.current_version_id if now_is else None
        return runs.unfinished_of(tx, connection.id), by_version(tx, current) if current else None

    unfinished, serving = hub.store.read(work)
    if serving is None or serving.state is not SecretState.REVOKED:
        return None
    if unfinished is None:  # the last one is gone, and no run says so
        return lambda reason, _: run_operations.start(hub, connection.name, Goal.REVOKE, reason=reason)
    if unfinished.goal is Goal.REVOKE or unfinished.track is Track.ROLLBACK:
        return lambda _, __: unfinished
    if book(hub).live(connection.id):
        if unfinished.new_version_id != serving.version_id or slot not in {None, serving.slot}:
            return None
        return lambda _, __: _patiently(lambda: run_operations.rollback(hub, unfinished.id))

    def end(reason: str, who: str) -> Run:
        _patiently(lambda: run_operations.stop(hub, unfinished.id, "everything was revoked", who=who))
        return run_operations.start(hub, connection.name, Goal.REVOKE, reason=reason)

    return end


def _patiently(act: Callable[[], Run]) -> Run:
    """Another worker may hold the run for a moment; the secrets are refused already, so there is time."""
    for _ in range(20):
        try:
            return act()
        except Conflict as error:
            if "worked on" not in error.message:
                raise
            time.sleep(0.25)
    return act()


__all__ = [
    "CheckResult",
    "Code",
    "IssuedBook",
    "every",
    "get",
    "issue",
    "reissue",
    "reveal",
    "revoke",
    "token_pattern",
]

"""What can be connected, in words: rows, pages, a user's own definitions, and a connection and a run as people see them."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, TypeVar

from keyturn import definitions
from keyturn.bootstrap import Keyturn
from keyturn.catalog import Catalog
from keyturn.contract.manifest import EGRESS, Field, GuideStep, Method, Permission, System
from keyturn.contract.values import NetworkPolicy
from keyturn.definitions.auth import OAuth
from keyturn.definitions.check import Report, check
from keyturn.definitions.expressions import fill
from keyturn.definitions.model import Definition
from keyturn.errors import Conflict, InvalidInput
from keyturn.model.card import Card, GapClass, Hands, Proof, Strategy
from keyturn.model.credential import LIVE, Connection, State, Version
from keyturn.model.ids import VERSION_ID
from keyturn.model.moment import iso, span
from keyturn.model.plan import Plan
from keyturn.model.run import TERMINAL, Debt, Line, Run, RunState, Task
from keyturn.operations import examples, jobs, runs, schedule
from keyturn.operations.connections import find
from keyturn.operations.leases import users
from keyturn.storage import connections, debts, journal, projects, tasks, versions
from keyturn.storage.database import Tx
from keyturn.storage.rows import dump

T = TypeVar("T")
GAPS: Mapping[GapClass, str] = {
    GapClass.Z0: "Nobody notices: old and new work side by side until every consumer has moved.",
    GapClass.Z1: "At most one refused login, which succeeds when it is tried again at once.",
    GapClass.Z2: "A visible gap: the old one dies before the new one is stored, consumers are paused meanwhile.",
    GapClass.Z3: "A gap that can be neither avoided nor bounded.",
}
PROOFS: Mapping[Proof, str] = {
    Proof.D0: "The vendor accepted the delete; nothing more can be seen.",
    Proof.D1: "The vendor's own listing no longer shows the old one, or its place holds another value.",
    Proof.D2: "The old one is refused three times while the new one is accepted and a made-up one is refused alike.",
    Proof.D3: "Listing and refusal both, and everything made from the old one has run out.",
    Proof.DA: "A named person attests it; the vendor offers nothing better.",
}
STRATEGIES: Mapping[Strategy, str] = {
    Strategy.NOTHING: "There is no credential: nothing to rotate.",
    Strategy.TWO_SLOTS: "Two slots take turns; the hub makes the value.",
    Strategy.MANY_IDS: "A second credential is created beside the first, then the first is deleted.",
    Strategy.NAMED_SLOTS: "Two named slots; the vendor makes the value of the idle one.",
    Strategy.SET_ONE: "One slot; the hub makes the value and replaces the old one.",
    Strategy.REGENERATE: "One slot; the vendor makes the value and the old one dies at that moment.",
    Strategy.SUPPLIED: "A person creates the new one at the vendor and pastes it.",
    Strategy.CONSENT: "A person consents in a browser.",
    Strategy.ISSUED: "This hub is the vendor: it issues a second one beside the first.",
}


def installed() -> Catalog:
    """The catalogue without a hub."""
    return Catalog()


# -- rows and pages ----------------------------------------------------------------------------------------------------


def rows(catalog: Catalog, system: str = "") -> list[dict[str, Any]]:
    """Every row, as `keyturn systems --json` prints it; of one system when named."""
    chosen = [catalog.system(system)] if system else list(catalog.systems())
    return [
        {
            "system": each.name,
            "method": method.name,
            "direction": method.direction,
            **_card_short(method.card),
            "title": f"{each.title}: {method.title}",
            "summary": method.summary,
            "ends_on": method.card.dies_on,
            "variants": [
                {"name": v.name, "field": v.field, "equals": v.equals, **_card_short(v.card)}
                for v in method.variants
            ],
        }
        for each in chosen
        for method in each.methods
    ]


def _card_short(card: Card) -> dict[str, Any]:
    if card.strategy is Strategy.NOTHING:
        return {"strategy": card.strategy.value, "gap_class": "none", "proof": "none", "hands": "none"}
    return {
        "strategy": card.strategy.value,
        "gap_class": card.gap_class.value,
        "proof": card.proof.value,
        "hands": card.hands.value,
    }


def page(catalog: Catalog, name: str, egress: Sequence[str] = ()) -> dict[str, Any]:
    """Everything a person needs to work with a system, as data. `egress` are this hub's own addresses.

    Raises: NotFound.
    """
    system = catalog.system(name)
    return {
        "system": system.name,
        "title": system.title,
        "summary": system.summary,
        "docs": list(system.docs),
        "methods": [
            {**_method(system.name, method, egress), "plans": _plans(catalog, system, method)}
            for method in system.methods
        ],
    }


def _method(system: str, method: Method, egress: Sequence[str]) -> dict[str, Any]:
    return {
        "system": system,
        "method": method.name,
        "title": method.title,
        "direction": method.direction,
        "summary": method.summary,
        **_card_short(method.card),
        "ends_on": method.card.dies_on,
        "card": card_page(method.card) | ({"Ends by itself": ends} if (ends := life(method)) else {}),
        "variants": [
            {
                "name": v.name,
                "field": v.field,
                "equals": v.equals,
                **_card_short(v.card),
                "card": card_page(v.card),
                "needs": list(v.needs),
                **(_steps(method.fitting({v.field: v.equals})) if v.guide else {}),
            }
            for v in method.variants
        ],
        "fields": [field_page(f) for f in method.fields],
        **_steps(method),
        "permissions": [_permission(p, egress) for p in method.permissions],
        "reads": [vars(r) for r in method.reads],
        "sources": [vars(s) for s in method.sources],
        "unsupported": dict(method.unsupported),
        "env": dict(method.env),
    }


def life(method: Method) -> str:
    """When a grant ends although nobody ends it; empty where nothing is known, or it is a setting."""
    auth = method.rest.auth if isinstance(method.rest, Definition) else None
    if not isinstance(auth, OAuth):
        return ""
    said = []
    if auth.refresh.idle_days:
        said.append(f"{auth.refresh.idle_days:g} days after its last use")
    if auth.refresh.absolute_days:
        said.append(f"{auth.refresh.absolute_days:g} days after the consent, whatever its use")
    return " or ".join(said)


def _plans(catalog: Catalog, system: System, method: Method) -> list[dict[str, Any]]:
    """What a rotation does, step by step; for each variant as well."""
    return [
        {
            "name": name,
            "administrator": examples.is_told(method),
            "steps": _plan(made),
            "warnings": list(made.warnings),
            "risk": risk,
        }
        for name, made, risk in examples.rotations(catalog, system, method)
    ]


def _plan(made: Plan) -> list[dict[str, Any]]:
    last = made.point_of_no_return()
    return [
        {"title": step.title, "call": step.call, "who": step.who, "can_be_undone": number < last}
        for number, step in enumerate(made.steps)
    ]


def _steps(method: Method) -> dict[str, Any]:
    return {
        "create_steps": [_guide(g) for g in method.create_steps],
        "revoke_steps": [_guide(g) for g in method.revoke_steps],
        "recovery_steps": [_guide(g) for g in method.recovery_steps],
    }


def card_page(card: Card) -> dict[str, str]:
    """A capability card in words, by question."""
    how = f"{card.strategy.value}: {STRATEGIES[card.strategy]}"
    if card.strategy is Strategy.NOTHING:
        return {"How it rotates": how}
    said = {
        "How it rotates": how,
        "What consumers notice": f"{card.gap_class.value}: {GAPS[card.gap_class]}",
        "How death is proven": f"{card.proof.value}: {PROOFS[card.proof]}",
        "Who acts at the vendor": "the hub"
        if card.hands is Hands.AUTOMATIC
        else "a person, with instructions",
        "Credentials at once": _slots(card),
    }
    if card.inventory:
        said["Listing"] = "what exists at the vendor can be listed" + (
            ", with last use" if card.last_used else ""
        )
    if card.disable_first:
        said["Off switch"] = "reversible, used before anything is deleted"
    if card.revoke_scope.value != "credential":
        said["A revoke ends"] = f"the whole {card.revoke_scope.value}"
    if card.admin_path:
        said["Administrator"] = "a separate administrator credential can set it"
    if card.settle_create_s or card.settle_revoke_s:
        said["Settles within"] = (
            f"{span(card.settle_create_s)} when new, {span(card.settle_revoke_s)} when ended"
        )
    if card.derived_ttl_s:
        said["Tokens made from it"] = f"live up to {span(card.derived_ttl_s)} longer"
    if card.lockout:
        said["Lock-out"] = (
            f"after {card.lockout.max_failures} refused logins in {span(card.lockout.window_s)}"
        )
    if card.dies_on:
        said["The vendor ends it"] = card.dies_on
    return said


def _slots(card: Card) -> str:
    if card.slot_names:
        return f"{len(card.slot_names)} ({', '.join(card.slot_names)})"
    if card.slots is not None:
        return str(card.slots)
    return f"up to {card.cap}" if card.cap else "many"


def field_page(field: Field) -> dict[str, Any]:
    """A form field as data; what has no default has none here."""
    said: dict[str, Any] = {
        "name": field.name,
        "label": field.label,
        "help": field.help,
        "kind": field.kind,
        "required": field.required and field.default is None,
        "secret": field.secret,
    }
    for key in ("example", "pattern", "default", "group", "source"):
        if getattr(field, key) not in {None, ""}:
            said[key] = getattr(field, key)
    if field.choices:
        said["choices"] = list(field.choices)
    return said


def _permission(each: Permission, egress: Sequence[str]) -> dict[str, Any]:
    who = f"{each.who}: {', '.join(egress)}" if each.who == EGRESS and egress else each.who
    return {**vars(each), "who": who}


_EXPRESSION = re.compile(r"\$\{(?:([a-z]+)\.)?([A-Za-z0-9_.-]+)(?:\|[^}]*)?\}")
_WHICH = {"retiring": "old ", "current": "current ", "pending": "new "}


def unfilled(text: str, form: str = "<{}>") -> str:
    """A text before it has a connection: `<domain>` where that one's domain will stand."""
    return _EXPRESSION.sub(lambda m: form.format(_WHICH.get(m[1] or "", "") + m[2]), text)


def _guide(step: GuideStep) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else unfilled(value)
        for key, value in vars(step).items()
        if value
    }


def form(catalog: Catalog, system: str, method: str, definition_hash: str = "") -> Method:
    """The method whose fields a connection is made from. Raises: NotFound."""
    row = catalog.method(system, method)
    return definitions.as_method(catalog.definition(definition_hash), row) if definition_hash else row


# -- a user's own definitions ------------------------------------------------------------------------------------------


def read_text(path: Path) -> str:
    """A definition file's text. Raises: InvalidInput."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(
            f"cannot read {path} ({error.strerror})", hint="Check the path.", field="file"
        ) from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not UTF-8 text", field="file") from None


def check_definition(path: Path, network: NetworkPolicy | None = None) -> Report:
    """Everything wrong with a definition file, and what the hub makes of it."""
    return check_text(read_text(path), path.name, network)


def check_text(text: str, where: str, network: NetworkPolicy | None = None) -> Report:
    """Everything wrong with a definition's text; `where` is what findings call it."""
    return check(text, where, network)


def add_definition(hub: Keyturn, path: Path) -> tuple[str, str, bool]:
    """Keeps a definition file under the hash of its text: (hash, name, whether it is new). The same text again is fine.

    Raises: InvalidInput with the first finding when it is refused.
    """
    return add_text(hub, read_text(path), path.name)


def add_text(hub: Keyturn, text: str, where: str) -> tuple[str, str, bool]:
    """The same for a text; `where` is what findings call it."""
    report = check(text, where, hub.settings.network)
    if not report.usable:
        first = next(f for f in report.findings if f.level == "refuse")
        raise InvalidInput(
            f"{where}:{first.line}: {first.message}",
            hint=f"{first.fix} `keyturn definitions check {where}` shows everything.".strip(),
            field=first.field,
        )
    if report.definition is None:
        raise InvalidInput(
            f"{where} describes a whole system, not one connection",
            hint="A system goes into a connector package; here use schema: rest-credential/v1.",
            field="schema",
        )
    digest = hashlib.sha256(text.encode()).hexdigest()
    name = report.definition.id or Path(where).stem

    def work(tx: Tx) -> bool:
        if tx.one("SELECT 1 FROM definition WHERE hash = ?", digest):
            return False
        tx.run(
            "INSERT INTO definition (hash, name, text, created_at) VALUES (?,?,?,?)",
            digest,
            name,
            text,
            time.time(),
        )
        return True

    return digest, name, hub.store.write(work)


def drop_definition(hub: Keyturn, digest: str) -> None:
    """Takes a definition back that no connection uses. Raises: Conflict."""

    def work(tx: Tx) -> None:
        used = tx.one("SELECT name FROM connection WHERE definition_hash = ?", digest)
        if used:
            raise Conflict(f"{used[0]} uses this definition")
        tx.run("DELETE FROM definition WHERE hash = ?", digest)

    hub.store.write(work)


def own_definitions(hub: Keyturn) -> list[dict[str, Any]]:
    """The definitions kept here, with the connections that use them."""

    def work(tx: Tx) -> list[dict[str, Any]]:
        used: dict[str, list[str]] = {}
        for digest, name in connections.of_own_definitions(tx):
            used.setdefault(digest, []).append(name)
        found = tx.all("SELECT hash, name, created_at FROM definition ORDER BY name, created_at")
        return [
            {"hash": r[0], "name": r[1], "added_at": iso(r[2]), "connections": used.get(r[0], [])}
            for r in found
        ]

    return hub.store.read(work)


# -- connections and runs as people see them ---------------------------------------------------------------------------


def overview(hub: Keyturn) -> list[dict[str, Any]]:
    """Every connection in one line: state, age, when its next rotation is due, expiry, what runs."""

    def work(tx: Tx) -> list[tuple[Connection, list[Version]]]:
        every = connections.every(tx)
        return [(c, known[c.id]) for some in _chunks(every) for known in (_versions(tx, some),) for c in some]

    return [_line(connection, known) for connection, known in hub.store.read(work)]


_AT_ONCE = 500  # ids in one statement
_LATEST = 30  # versions that are told of a connection, dead or not, beside those that are not dead


def _chunks(every: Sequence[T]) -> Iterator[Sequence[T]]:
    for first in range(0, len(every), _AT_ONCE):
        yield every[first : first + _AT_ONCE]


def _versions(tx: Tx, some: Sequence[Connection]) -> dict[str, list[Version]]:
    """The versions of some connections that matter in a list: those that are alive, and what they point at."""
    known = versions.unspent_of(tx, [c.id for c in some])
    there = {v.id for each in known.values() for v in each}
    pointed = [
        c.current_version_id for c in some if c.current_version_id and c.current_version_id not in there
    ]
    for version in versions.by_ids(tx, pointed):
        known[version.connection_id].append(version)
    return known


def lines_of(hub: Keyturn, ids: Sequence[str]) -> list[dict[str, Any]]:
    """The same of some connections, in the order named, with what serves and the generation."""

    def work(tx: Tx) -> list[tuple[Connection, list[Version]]]:
        found = connections.by_ids(tx, ids)
        some = [found[each] for each in ids if each in found]
        known = _versions(tx, some)
        return [(c, known[c.id]) for c in some]

    return [
        {
            **_line(connection, known),
            "serving": runs.in_words(known),
            "generation": connection.generation,
            "created_at": iso(connection.created_at),
        }
        for connection, known in hub.store.read(work)
    ]


def _line(connection: Connection, known: list[Version]) -> dict[str, Any]:
    current = next((v for v in known if v.id == connection.current_version_id), None)
    since = (current.born_at or current.changed_at) if current else None
    due = schedule.due_at(connection, current)
    return {
        "name": connection.name,
        "id": connection.id,
        "system": connection.system,
        "method": connection.method,
        "state": connection.state.value,
        "version": current.number if current else None,
        "since": iso(since),
        "due": iso(due),
        "expires": iso(current.expires_at) if current else None,
        "owner": connection.owner,
        "alive": [
            f"v{v.number} {v.state.value}" for v in known if v.state in LIVE and v.state is not State.CURRENT
        ],
    }


def connection_page(hub: Keyturn, name: str) -> dict[str, Any]:
    """One connection: settings, identity, versions, consumers, what serves. Raises: NotFound."""
    connection = find(hub, name)
    known = versions_of(hub, connection)
    row = hub.catalog.row_of(connection)
    return {
        **_line(connection, known),
        "serving": runs.in_words(known),
        **_card_short(row.card),
        "title": row.method.title,
        "identity": dict(connection.identity),
        "settings": dict(connection.settings),
        "policy": dict(connection.policy),
        "definition": connection.definition_hash,
        "created": iso(connection.created_at),
        "versions": [version_page(v) for v in known],
        "consumers": [
            {
                "name": c.name,
                "kind": c.kind,
                "ttl_s": c.ttl_s,
                "required": c.required,
                "seen_generation": c.seen_generation,
                "seen": iso(c.seen_at),
            }
            for c in users(hub, name)
        ],
        "generation": connection.generation,
        "jobs": jobs.pages(hub, jobs.every(hub, name)),
        "used_by": hub.store.read(lambda tx: projects.labels_of(tx, connection.id)),
        "validation": _validation(hub, connection, connection.current_version_id),
    }


def versions_of(hub: Keyturn, connection: Connection) -> list[Version]:
    """The latest, every one that is not dead and the one pointed at, newest first: a grant that renews itself has thousands
    of dead ones."""
    named = (connection.current_version_id,)
    return hub.store.read(lambda tx: versions.in_play(tx, connection.id, named, latest=_LATEST), alone=True)


def _validation(hub: Keyturn, connection: Connection, version_id: str | None) -> list[dict[str, Any]]:
    found = jobs.validations(hub, connection, version_id) if version_id else []
    return [each.as_json() for each in found]


def version_page(version: Version) -> dict[str, Any]:
    """A version without its value."""
    return {
        "number": version.number,
        "state": version.state.value,
        "provenance": version.provenance.value,
        "ref": version.ref.as_json(),
        "fingerprint": version.fingerprint,
        "changed": iso(version.changed_at),
        "born": iso(version.born_at),
        "expires": iso(version.expires_at),
    }


def history(hub: Keyturn, name: str, limit: int = 200) -> tuple[list[Version], list[Line]]:
    """The latest journal lines of a connection, and the versions they speak of or that are not dead. Raises: NotFound."""
    connection = find(hub, name)

    def work(tx: Tx) -> tuple[list[Version], list[Line]]:
        row = tx.one("SELECT journal_count FROM connection WHERE id = ?", connection.id)
        after = max(0, (int(row[0]) if row else 0) - limit)
        lines = journal.of_connection(tx, connection.id, after, limit)
        return _spoken_of(tx, connection, lines), lines

    return hub.store.read(work)


def spoken_of(hub: Keyturn, connection: Connection, lines: Sequence[Line]) -> list[Version]:
    """The versions that some lines of a connection speak of, and those that are not dead; newest first."""
    return hub.store.read(lambda tx: _spoken_of(tx, connection, lines))


def _spoken_of(tx: Tx, connection: Connection, lines: Sequence[Line]) -> list[Version]:
    found = {version.id: version for version in versions.in_play(tx, connection.id)}
    named = sorted(set(VERSION_ID.findall(dump([dict(line.facts) for line in lines]))) - found.keys())
    for some in _chunks(named):
        found |= {v.id: v for v in versions.by_ids(tx, some) if v.connection_id == connection.id}
    return sorted(found.values(), key=lambda version: -version.number)


def run_page(hub: Keyturn, run: Run) -> dict[str, Any]:
    """A run as every face reports it: what serves, what is alive at the vendor, what to do next."""
    return run_pages(hub, [run])[0]


def run_pages(hub: Keyturn, found: Sequence[Run]) -> list[dict[str, Any]]:
    """The same of several, with as many statements for hundreds as for one. Raises: NotFound when a run's connection is
    gone."""
    if len(found) > _AT_ONCE:
        return [page for some in _chunks(found) for page in run_pages(hub, some)]

    def work(tx: Tx) -> tuple[Any, ...]:
        ids, of = [run.id for run in found], [run.connection_id for run in found]
        known = connections.by_ids(tx, of)
        return (
            known,
            tasks.of_runs(tx, ids),
            debts.of_runs(tx, ids),
            _versions(tx, list(known.values())),
            jobs.validations_of(tx, found),
            journal.of_runs(tx, [run.id for run in found if run.plan.gap_class in _SEEN_GAPS]),
        )

    known, left_tasks, left_debts, alive, seen, said = hub.store.read(work)
    return [
        _run_page(
            hub,
            run,
            known.get(run.connection_id) or find(hub, run.connection_id),
            left_tasks.get(run.id, []),
            left_debts.get(run.id, []),
            alive[run.connection_id],
            seen.get(run.id, []),
            said.get(run.id, []),
        )
        for run in found
    ]


def _run_page(
    hub: Keyturn,
    run: Run,
    connection: Connection,
    left_tasks: Sequence[Task],
    left_debts: Sequence[Debt],
    known: Sequence[Version],
    seen: Sequence[jobs.Validation],
    said: Sequence[Line],
) -> dict[str, Any]:
    open_tasks = [t for t in left_tasks if t.state in tasks.OPEN_STATES]
    open_debts = [d for d in left_debts if d.closed_at is None]
    began = run.started_at or run.created_at
    return {
        "id": run.id,
        "connection": connection.name,
        "goal": run.goal.value,
        "state": run.state.value,
        "ended": run.state in TERMINAL,
        "proof": run.proof,
        "strategy": run.plan.strategy.value,
        "gap_class": run.plan.gap_class.value,
        "seconds": round((run.ended_at or time.time()) - began, 3),
        "waiting_for": run.waiting_for,
        "outcome": run.outcome,
        "tasks": [
            {
                "id": t.id,
                "title": t.title,
                "state": t.state.value,
                "due": iso(t.due_at),
                "url": next(
                    (str(i["url"]) for i in t.instructions if t.kind == "consent" and "url" in i), ""
                ),
            }
            for t in open_tasks
        ],
        "debts": [{"id": d.id, "kind": d.kind, "why": d.why} for d in open_debts],
        "serving": runs.in_words(known),
        "alive": [_alive(v) for v in known if v.state in LIVE],
        "validation": [each.as_json() for each in seen],
        "gap": _gap(run, said),
        "next": next_action(hub, run, connection, open_tasks, open_debts),
    }


_SEEN_GAPS = frozenset({GapClass.Z2, GapClass.Z3})


def _gap(run: Run, said: Sequence[Line]) -> dict[str, Any] | None:
    """While the old one was refused and the new one not yet in use, as exactly as it was looked at; None where neither
    was seen. `until` is None while it lasts."""
    if run.plan.gap_class not in _SEEN_GAPS:
        return None
    since = next((line.at for line in said if line.facts.get("what") == "outage"), None)
    if since is None:
        return None
    until = next((line.at for line in said if line.facts.get("decision") == "cutover"), None)
    return {"since": iso(since), "until": iso(until), "seconds": round((until or time.time()) - since, 3)}


def _alive(version: Version) -> str:
    ref = version.ref
    where = ref.id or ref.slot or ref.fingerprint
    return f"v{version.number} {version.state.value}" + (f" ({where})" if where else "")


def next_action(
    hub: Keyturn, run: Run, connection: Connection, open_tasks: list[Task], owed: list[Debt]
) -> str:
    """What somebody should do now; empty when nothing is left to do."""
    name = connection.name
    if run.state is RunState.COMPLETE:
        return ""
    if run.state is RunState.ABORTED_CLEAN:
        return (
            f"Nothing is left behind. Remove the cause, then `keyturn {run.goal.value} {quote(name)}` again."
        )
    if run.state in TERMINAL:
        return " ".join(f"`keyturn debt {d.id}`." for d in owed) or "Everything owed is settled."
    if run.state is RunState.LOST:
        steps = recovery(hub, connection)
        first = f" First: {steps[0]}" if steps else ""
        return f"No known credential works. Follow the recovery steps of `keyturn systems {connection.system}`.{first}"
    if run.state is RunState.WAITING_APPROVAL:
        return f"Somebody else uses `keyturn approve {run.id}` or `keyturn refuse {run.id} --reason TEXT`."
    if open_tasks:
        return " ".join(f"`keyturn task {t.id}`." for t in open_tasks)
    if run.state is RunState.BLOCKED:
        undo = f", or undo with `keyturn rollback {run.id}`" if run.plan.rollback else ""
        return f"Remove the cause, then `keyturn retry {run.id}`{undo}."
    return f"It goes on by itself while `keyturn serve` or `keyturn worker` runs; `keyturn run {run.id} --follow` helps."


def recovery(hub: Keyturn, connection: Connection) -> list[str]:
    """What a person does at the vendor when no known credential works, with this connection's names."""
    steps = hub.catalog.row_of(connection).method.recovery_steps
    return [fill(step.text, {"input": connection.settings}) for step in steps]


def task_page(hub: Keyturn, task: Task, name: str = "") -> dict[str, Any]:
    """A task as data: instructions, fields, who has it. `name` is its connection's, where it is known already."""
    return {
        "id": task.id,
        "connection": name or runs.name_of(hub, task),
        "run": task.run_id,
        "kind": task.kind,
        "state": task.state.value,
        "title": task.title,
        "why": task.why,
        "instructions": [dict(i) for i in task.instructions],
        "fields": [dict(f) for f in task.fields],
        "claimed_by": task.claimed_by if task.claimed_until > time.time() else "",
        "claimed_until": iso(task.claimed_until) if task.claimed_by else None,
        "created": iso(task.created_at),
        "due": iso(task.due_at),
    }


def debt_page(hub: Keyturn, debt: Debt, name: str = "") -> dict[str, Any]:
    """A debt as data. `name` is its connection's, where it is known already."""
    return {
        "id": debt.id,
        "connection": name or runs.name_of(hub, debt),
        "run": debt.run_id,
        "kind": debt.kind,
        "why": debt.why,
        "facts": dict(debt.facts),
        "owner": debt.owner,
        "tries": debt.tries,
        "created": iso(debt.created_at),
        "next_try": iso(debt.next_try_at),
        "closed": iso(debt.closed_at),
        "closed_by": debt.closed_by,
        "closed_why": debt.closed_why,
    }

"""One instant as the oracle sees it: the vendor's truth, the durable store, and every sealed value opened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.model.card import Card
from keyturn.model.credential import Connection, Version
from keyturn.model.plan import Goal
from keyturn.model.run import Debt, Line, LineKind, Run, RunState, Task
from keyturn.model.secret import Material
from keyturn.operations.connections import find
from keyturn.storage import debts, journal, runs, tasks, versions
from keyturn.storage.database import Tx
from keyturn.vault import spool
from keyturn.vault.secrets import version_row
from keyturn_lab.vendors.shapes import Client
from tests.faults.cases import Case


@dataclass(frozen=True)
class Start:
    """What was so before the fault was armed: who is a stranger, what served, which values are secret."""

    name: str
    strangers: frozenset[str]
    serving: str
    admin: str
    secrets: frozenset[str]

    def dump(self) -> str:
        """For the process that comes after the crash."""
        lists = {"strangers": sorted(self.strangers), "secrets": sorted(self.secrets)}
        return json.dumps({**self.__dict__, **lists})

    @classmethod
    def load(cls, text: str) -> Start:
        """The inverse of `dump`."""
        data = json.loads(text)
        return cls(
            **{**data, "strangers": frozenset(data["strangers"]), "secrets": frozenset(data["secrets"])}
        )


@dataclass(frozen=True)
class Seen:
    """One instant. `sealed` holds the plaintext of every row the vault can open, and of the spool."""

    case: Case
    start: Start
    card: Card
    has_admin: bool
    connection: Connection
    run: Run | None
    versions: tuple[Version, ...]
    lines: tuple[Line, ...]
    tasks: tuple[Task, ...]
    debts: tuple[Debt, ...]
    sealed: Mapping[str, bytes]
    alive: tuple[Mapping[str, Any], ...]
    history: tuple[Mapping[str, Any], ...]
    logins: tuple[Mapping[str, Any], ...]
    late: int
    locked: bool
    person: tuple[str, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self.run is not None and self.run.ended_at is not None

    @property
    def should_work(self) -> bool:
        """Whether something has to serve now: not once a farewell has begun to end it, nor on the way back from one."""
        if self.case.subject.goal is Goal.RECONNECT:
            back = self.run is not None and self.run.goal is Goal.RECONNECT
            return (
                back
                and self.run is not None
                and self.run.state in {RunState.COMPLETE, RunState.COMPLETE_WITH_DEBT}
            )
        if not self.case.subject.ends_all or self.run is None:
            return True
        return (
            not any(line.run_id == self.run.id and line.kind is LineKind.INTENT for line in self.lines)
            and not self.is_over
        )

    @property
    def ours(self) -> list[Mapping[str, Any]]:
        """What lives at the vendor and is no stranger's."""
        return [c for c in self.alive if c["id"] not in self.start.strangers and c["by"] != "stranger"]

    def current(self) -> Version | None:
        """The version that serves."""
        return next((v for v in self.versions if v.id == self.connection.current_version_id), None)

    def material(self, version: Version) -> Material | None:
        """A version's value, if it is still sealed."""
        body = self.sealed.get(version_row(version.id))
        return None if body is None else Material.from_bytes(body)

    def version_of(self, credential: Mapping[str, Any]) -> Version | None:
        """The ledger's newest version of a remote credential: what serves first."""
        same = [v for v in self.versions if is_it(v, credential)]
        return next(
            (v for v in same if v.id == self.connection.current_version_id), same[0] if same else None
        )


def is_it(version: Version, credential: Mapping[str, Any]) -> bool:
    """Whether a version names this remote credential."""
    return at_place(version.ref.as_json(), credential)


def at_place(ref: Mapping[str, Any], credential: Mapping[str, Any]) -> bool:
    """Whether a stored reference names this remote credential."""
    if ref.get("id"):
        return bool(ref["id"] == credential["id"])
    return (ref.get("slot"), ref.get("fingerprint")) == (credential["slot"], credential["fingerprint"])


@dataclass
class Watcher:
    """Looks at instants; remembers what it opened, since sealed rows do not change."""

    case: Case
    start: Start
    hub: Keyturn
    client: Client
    opened: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    person: tuple[str, ...] = ()

    def look(self) -> Seen:
        """This instant. Reads only."""
        hub, name = self.hub, self.start.name
        connection = find(hub, name)

        def work(tx: Tx) -> Any:
            latest = runs.recent(tx, connection.id, 1)
            run = latest[0] if latest else None
            return (
                run,
                versions.of_connection(tx, connection.id),
                journal.of_connection(tx, connection.id),
                tasks.of_run(tx, run.id) if run else [],
                debts.open_debts(tx, connection.id),
                tx.all("SELECT id, body FROM sealed"),
            )

        run, known, lines, asked, owed, rows = hub.store.read(work)
        told = self.client.call("inspect", principal=name)
        sealed = {row: self._open(row, bytes(body)) for row, body in rows}
        private = getattr(hub.roots, "spool_private", None)
        if private and hub.hub.spool:
            for n, record in enumerate(spool.read(hub.hub.spool, private).records):
                sealed[f"spool:{n}:{record.identity}"] = record.payload
        for credential in told["alive"]:
            self.secrets.update(v for v in (*credential["values"], credential["value"]) if v)
        row = hub.catalog.row_of(connection)
        return Seen(
            self.case,
            self.start,
            row.card,
            f"admin:{connection.id}" in sealed,
            connection,
            run,
            tuple(known),
            tuple(lines),
            tuple(asked),
            tuple(owed),
            sealed,
            tuple(told["alive"]),
            tuple(told["history"]),
            tuple(told["logins"]),
            told["late"],
            told["locked"],
            self.person,
        )

    def _open(self, row: str, body: bytes) -> bytes:
        found = self.opened.get(row)
        if found is None or found[0] != body:
            plain = self.hub.secrets.keyring.open(body, row)
            found = self.opened[row] = (body, plain)
            if row.startswith("version:"):
                self.secrets.update(Material.from_bytes(plain).secrets())
        return found[1]

    def accepts(self, value: str) -> bool:
        """Whether a consumer with this value is let in now. Leaves no trace that could hurt the run."""
        if self.case.subject.name == "grant":
            said = self.client.call("login", principal=self.start.name, by="consumer", value=value)
            return bool(said["verdict"] == "accepted")
        alive = self.client.call("alive", principal=self.start.name)
        return any(c["usable"] and value in c["values"] for c in alive)

"""Jobs: small reads through a connection, on a schedule or on demand, held while its credential is being replaced.

A job leases what serves now, as any consumer does, so that a rotation sees it. What it reads is counted and forgotten.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.consumers import sampling
from keyturn.contract.values import Access
from keyturn.errors import Conflict, CredentialRejected, InvalidInput, NotFound, VendorUnavailable
from keyturn.model.credential import Connection, ConnectionState
from keyturn.model.ids import JobId, new_id
from keyturn.model.job import MOST, Cause, Job, JobResult, JobState, Level, Reading, next_due, read_schedule
from keyturn.model.moment import iso
from keyturn.model.policy import Policy
from keyturn.model.run import Line, LineKind, Run
from keyturn.model.secret import Material
from keyturn.operations import leases
from keyturn.operations.connections import find
from keyturn.storage import connections, jobs, journal, runs, versions
from keyturn.storage.database import Tx
from keyturn.vault.secrets import admin_row

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,59}")
_LONGEST_WHAT = 300
_AGAIN_S = 30.0  # after an unclear answer, a job on a short schedule is not tried sooner


def add(
    hub: Keyturn,
    connection: str,
    name: str,
    *,
    what: str = "",
    schedule: str = "",
    most: int = 10,
    after_rotation: bool = True,
    untested: bool = False,
) -> tuple[Job, JobResult | None]:
    """Reads once, then saves. Nothing is stored when the read does not work, unless `untested`.

    `what` is in the vendor's words; `schedule` as `model.job.read_schedule` has it, empty: on demand; at most `most`
    items are asked for.
    Raises: InvalidInput (field named), Conflict (name taken, nothing serves), CredentialRejected or InvalidInput for a
    read that is refused, VendorUnavailable without a clear answer.
    """
    found = find(hub, connection)
    job = _new(hub, found, name, what, schedule, most, after_rotation=after_rotation)
    if hub.store.read(lambda tx: jobs.by_name(tx, job.name)):
        raise _taken(job.name)
    tried = None if untested else _tried(hub, found, job)
    facts = {
        "decision": "job_added",
        "job": job.name,
        "id": job.id,
        "reads": job.what,
        "schedule": job.schedule,
        "after_rotation": after_rotation,
        "by": hub.settings.actor,
        **({"first": tried.reading.as_facts(), "version": tried.version_id} if tried else {}),
    }

    def work(tx: Tx) -> None:
        if not jobs.add(tx, job):
            raise _taken(job.name)
        if tried is not None:
            jobs.add_result(tx, tried)
            jobs.change(tx, job.id, state=tried.reading.state.value)
        _say(tx, found.id, LineKind.DECISION, facts)

    hub.store.write(work)
    return get(hub, job.name), tried


def _new(
    hub: Keyturn, found: Connection, name: str, what: str, schedule: str, most: int, *, after_rotation: bool
) -> Job:
    row = hub.catalog.row_of(found)
    if row.can.reader is None:
        why = row.method.unsupported.get("read") or "its connector reads no samples"
        raise InvalidInput(
            f"{found.name} cannot have jobs: {why}",
            hint=f"`keyturn test {quote(found.name)}` logs in with it.",
            field="connection",
        )
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "a job's name has 1 to 60 letters, digits or _ . -, starting with a letter or digit", field="name"
        )
    what = check_what(what)
    if not 1 <= most <= MOST:
        raise InvalidInput(
            f"a job reads between 1 and {MOST} items: it shows that reading works, it moves no data",
            field="most",
        )
    now, said = time.time(), read_schedule(schedule)
    return Job(
        id=JobId(new_id("job")),
        connection_id=found.id,
        name=name,
        what=what,
        most=most,
        schedule=said,
        after_rotation=after_rotation,
        due_at=next_due(said, None, now),
        claimed_by="",
        claimed_until=0.0,
        paused_at=None,
        paused_by="",
        held_at=None,
        state=JobState.NEVER,
        created_at=now,
        created_by=hub.settings.actor,
    )


def check_what(what: str) -> str:
    """What is read, in its one spelling. Raises: InvalidInput."""
    what = what.strip()
    if len(what) > _LONGEST_WHAT or not what.isprintable():
        raise InvalidInput(
            f"what is read has at most {_LONGEST_WHAT} characters, all printable", field="what"
        )
    return what


def must_read(hub: Keyturn, connection: Connection, what: str) -> None:
    """One item of `what`, read now. Raises: as `add`, when it cannot be read."""
    _tried(hub, connection, _new(hub, connection, "once", what, "", 1, after_rotation=False))


def _taken(name: str) -> Conflict:
    return Conflict(f"there is a job named {name} already", hint="Choose another name.", field="name")


def _tried(hub: Keyturn, found: Connection, job: Job) -> JobResult:
    result = _read(hub, found, job, Cause.ADDED)
    reading = result.reading
    said = f"{job.what or 'the sample'} could not be read: {reading.detail or reading.code}"
    if reading.state is JobState.OK:
        return result
    if reading.state is JobState.FAILED:
        kind = CredentialRejected if reading.code == "CredentialRejected" else InvalidInput
        raise kind(
            said,
            hint="Nothing was saved. Check the name and the credential's rights, or use --untested.",
            field="what",
            code=reading.code,
        )
    raise VendorUnavailable(
        said, hint="Nothing was saved. Try again later, or use --untested.", code=reading.code
    )


def get(hub: Keyturn, name: str) -> Job:
    """A job by name or id. Raises: NotFound."""
    found = hub.store.read(lambda tx: jobs.by_name(tx, name))
    if found is None:
        raise NotFound(f"there is no job {name}", hint="`keyturn job list` shows all.", field="job")
    return found


def every(hub: Keyturn, connection: str = "") -> list[Job]:
    """All jobs by name; of one connection when named."""
    if not connection:
        return hub.store.read(jobs.every)
    found = find(hub, connection)
    return hub.store.read(lambda tx: jobs.of_connection(tx, found.id))


def results(hub: Keyturn, job: Job, limit: int = 20) -> list[JobResult]:
    """How a job ended, newest first."""
    return hub.store.read(lambda tx: jobs.results(tx, job.id, limit))


def remove(hub: Keyturn, name: str) -> None:
    """Deletes a job and its results. What a rotation saw of it stays in the journal."""
    job = get(hub, name)
    facts = {"decision": "job_removed", "job": job.name, "id": job.id, "by": hub.settings.actor}

    def work(tx: Tx) -> None:
        jobs.remove(tx, job.id)
        _say(tx, job.connection_id, LineKind.DECISION, facts)

    hub.store.write(work)


def pause(hub: Keyturn, name: str) -> Job:
    """From now on it is neither started by its schedule nor waited for by a rotation. Twice is fine."""
    return _switch(hub, name, paused=True)


def resume(hub: Keyturn, name: str) -> Job:
    """It is started again at its next time. Twice is fine."""
    return _switch(hub, name, paused=False)


def _switch(hub: Keyturn, name: str, *, paused: bool) -> Job:
    job, now = get(hub, name), time.time()
    by = hub.settings.actor
    facts = {"decision": "job_paused" if paused else "job_resumed", "job": job.name, "id": job.id, "by": by}

    def work(tx: Tx) -> None:
        as_is = jobs.by_id(tx, job.id)
        if as_is is None or (as_is.paused_at is not None) is paused:
            return
        if paused:
            jobs.change(tx, job.id, paused_at=now, paused_by=by)
        else:
            due_at = next_due(as_is.schedule, None, now)
            jobs.change(tx, job.id, paused_at=None, paused_by="", held_at=None, due_at=due_at)
        _say(tx, job.connection_id, LineKind.DECISION, facts)

    hub.store.write(work)
    return get(hub, job.id)


def _say(tx: Tx, connection_id: str, kind: LineKind, facts: dict[str, Any]) -> None:
    journal.append(tx, connection_id, [journal.Entry(time.time(), "", "job", kind, 0, facts)])


# -- running -------------------------------------------------------------------------------------------------------------


def run(hub: Keyturn, name: str, *, cause: Cause = Cause.DEMAND) -> JobResult:
    """Runs a job now, whatever its schedule; its result is filed.

    One worker at a time: whoever claims it in the table. After a crash the claim and the lease run out, and the job is
    due again. Raises: Conflict while somebody else runs it, or while its connection does not serve.
    """
    job, now = get(hub, name), time.time()
    connection = find(hub, job.connection_id)
    token = f"{hub.hub.worker}/{new_id('jbc')}"
    until = now + _longest_s(hub, connection)
    due_by = None if cause is Cause.DEMAND else now
    # Not durable: after a power cut nobody holds the claim any more, and the job is due as before.
    if not hub.store.write(lambda tx: jobs.claim(tx, job.id, token, now, until, due_by), durable=False):
        raise Conflict(f"{job.name} is being run already", hint="Wait a moment, then look at its results.")
    try:
        result = _read(hub, connection, job, cause)
    except BaseException:
        hub.store.write(lambda tx: jobs.release(tx, job.id, token))
        raise
    _file(hub, job, token, result)
    return result


def run_due(hub: Keyturn) -> bool:
    """Runs one job whose time has come; False when there is none. Safe in many threads and processes at once.

    A job that is due while its connection is paused, or has no credential, is held: it runs as soon as that serves
    again.
    """
    now = time.time()
    due, waiting = hub.store.read(lambda tx: (jobs.due(tx, now, 8), jobs.unheld(tx, now)))
    for job_id in waiting:
        hub.store.write(lambda tx, each=job_id: jobs.change(tx, each, held_at=now))  # type: ignore[misc]
    for job in due:
        try:
            run(hub, job.id, cause=Cause.AFTER_PAUSE if job.held_at is not None else Cause.SCHEDULE)
        except Conflict:
            continue  # somebody was faster, or the gap began just now
        return True
    return False


def _longest_s(hub: Keyturn, connection: Connection) -> float:
    """Longer than a read can take; the read itself ends at its deadline."""
    card = hub.catalog.row_of(connection).card
    return max(60.0, 2 * Policy.read(connection.policy).deadline(card) + 30.0)


def _read(hub: Keyturn, connection: Connection, job: Job, cause: Cause) -> JobResult:
    """Leases what serves, reads, gives it back. Raises: Conflict when nothing serves."""
    row, began = hub.catalog.row_of(connection), time.time()
    held = leases.take(hub, connection.name, f"job {job.name}", ttl_s=_longest_s(hub, connection))
    try:
        admin = hub.secrets.find(admin_row(connection.id))
        access = Access(
            settings=held.connection.settings,
            acting=held.material,
            admin=Material.from_bytes(admin) if admin else None,
            deadline_s=Policy.read(connection.policy).deadline(row.card),
            network=hub.settings.network,
        )
        reading = sampling.read(row.can.reader, access, held.material, job.what, job.most)
        if reading.state is JobState.FAILED and held.other is not None:
            # one slot, just being changed: whoever resolves it gets both, and so does a job
            reading = sampling.read(row.can.reader, access, held.other, job.what, job.most)
        if reading.state is not JobState.OK and _was_replaced(hub, held.connection):
            reading = Reading(
                JobState.INTERRUPTED, seconds=reading.seconds, detail="its credential was replaced meanwhile"
            )
    finally:
        leases.give_back(hub, held.lease_id)
    return JobResult(new_id("jbr"), job.id, connection.id, held.version.id, "", cause, reading, began)


def _was_replaced(hub: Keyturn, before: Connection) -> bool:
    now = hub.store.read(lambda tx: connections.by_id(tx, before.id))
    return now is None or now.generation != before.generation or now.state is not ConnectionState.ACTIVE


def _file(hub: Keyturn, job: Job, token: str, result: JobResult) -> None:
    """The result, the next time and the claim in one commit; a line where the job began to fail or works again, and
    for whatever a person started. What comes after the claim ran out is not filed: somebody else has run it."""
    reading, now = result.reading, time.time()
    facts = {
        "what": "job",
        "level": Level.JOB.value,
        "job": job.name,
        "id": job.id,
        "version": result.version_id,
        "cause": result.cause.value,
        **reading.as_facts(),
        **({"by": hub.settings.actor} if result.cause is Cause.DEMAND else {}),
    }

    def work(tx: Tx) -> None:
        as_is = jobs.by_id(tx, job.id)
        if as_is is None:
            return
        columns: dict[str, Any] = {"state": reading.state.value}
        if reading.state is JobState.INTERRUPTED:
            columns["due_at"] = now  # again, as soon as the connection serves
        elif as_is.due_at is not None and as_is.due_at <= now:
            columns |= {"due_at": next_due(as_is.schedule, as_is.due_at, now), "held_at": None}
        elif not as_is.schedule:
            columns |= {"due_at": None, "held_at": None}
        if reading.state is JobState.UNKNOWN and columns.get("due_at"):
            columns["due_at"] = max(columns["due_at"], now + max(_AGAIN_S, reading.wait_s))
        if not jobs.release(tx, job.id, token, **columns):
            return
        jobs.add_result(tx, result)
        if reading.state is not as_is.state or result.cause is Cause.DEMAND:
            _say(tx, job.connection_id, LineKind.OBSERVED, facts)

    hub.store.write(work)


# -- as people see them --------------------------------------------------------------------------------------------------


def page(hub: Keyturn, job: Job) -> dict[str, Any]:
    """A job as data: what it reads, when, and how it last ended."""
    return pages(hub, [job])[0]


def pages(hub: Keyturn, found: list[Job]) -> list[dict[str, Any]]:
    """Jobs as data."""

    def look(tx: Tx) -> list[tuple[str, str, JobResult | None, int | None]]:
        seen = []
        for job in found:
            connection = connections.by_id(tx, job.connection_id)
            last = next(iter(jobs.results(tx, job.id, 1)), None)
            name, state = (connection.name, connection.state.value) if connection else ("", "gone")
            seen.append((name, state, last, _number(tx, last.version_id) if last else None))
        return seen

    return [_page(job, *seen) for job, seen in zip(found, hub.store.read(look), strict=True)]


def _number(tx: Tx, version_id: str) -> int | None:
    row = tx.one("SELECT number FROM version WHERE id = ?", version_id)
    return int(row[0]) if row else None


def _page(
    job: Job, connection: str, state: str, last: JobResult | None, number: int | None
) -> dict[str, Any]:
    return {
        "name": job.name,
        "id": job.id,
        "connection": connection,
        "reads": job.what,
        "most": job.most,
        "schedule": job.schedule or "on demand",
        "runs_after_rotation": job.after_rotation,
        "state": "paused" if job.paused_at is not None else "held" if job.held_at is not None else "active",
        "paused_by": job.paused_by,
        "held": f"{connection} is {state.replace('_', ' ')}" if job.held_at is not None else "",
        "last": None if last is None else {**result_page(last), "version_number": number},
        "due": iso(job.due_at),
        "created": iso(job.created_at),
        "created_by": job.created_by,
    }


def result_page(result: JobResult) -> dict[str, Any]:
    """A result as data; nothing of what was read is in it."""
    reading = result.reading
    return {
        "state": reading.state.value,
        "count": reading.count,
        "seconds": round(reading.seconds, 3),
        "code": reading.code,
        "detail": reading.detail,
        "cause": result.cause.value,
        "version": result.version_id,
        "run": result.run_id,
        "at": iso(result.began_at),
    }


# -- how far a version was tried -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Validation:
    """One level of one version: whether it passed, when, and what was seen. `passed` None: no clear answer."""

    level: Level
    passed: bool | None
    at: float
    detail: str

    def as_json(self) -> dict[str, Any]:
        """As data."""
        return {
            "level": self.level.value,
            "passed": self.passed,
            "at": iso(self.at),
            "detail": self.detail,
        }


def validations(hub: Keyturn, connection: Connection, version_id: str) -> list[Validation]:
    """How far a version was tried, level by level, each as it was last seen; from the journal and the jobs' results."""

    def look(tx: Tx) -> list[Validation]:
        row = tx.one(
            "SELECT id FROM run WHERE connection_id = ? AND new_version_id = ? ORDER BY created_at DESC LIMIT 1",
            connection.id,
            version_id,
        )
        version = versions.by_id(tx, version_id)  # type: ignore[arg-type]
        lines = journal.of_run(tx, str(row[0])) if row else journal.of_connection(tx, connection.id, 0, 20)
        first = not row and version is not None
        return _levels(lines, jobs.of_version(tx, version_id), version_id, first=first)

    return hub.store.read(look)


def validations_of(tx: Tx, found: Sequence[Run]) -> dict[str, list[Validation]]:
    """The same of the versions that some runs made, by run."""
    made = {run.id: run.new_version_id for run in found if run.new_version_id}
    if not made:
        return {}
    latest = runs.latest_with(tx, [run.connection_id for run in found], list(made.values()))
    lines = journal.of_runs(tx, list(set(latest.values())))
    read = {each: jobs.of_version(tx, each) for each in jobs.that_read(tx, list(made.values()))}
    return {
        run_id: _levels(lines.get(latest[version_id], []), read.get(version_id, []), version_id, first=False)
        for run_id, version_id in made.items()
        if version_id in latest
    }


def _levels(
    lines: Sequence[Line], results: Sequence[JobResult], version_id: str, *, first: bool
) -> list[Validation]:
    found: dict[Level, Validation] = {}
    for line in lines:
        for each in _seen(line.facts, line.at, version_id, first=first):
            found[each.level] = each
    for result in reversed(results):
        reading = result.reading
        if reading.state is not JobState.INTERRUPTED:
            found[Level.JOB] = Validation(
                Level.JOB,
                _passed(reading.state),
                result.began_at,
                f"{reading.count} read, {result.cause.value}"
                if reading.state is JobState.OK
                else reading.detail or reading.code,
            )
    return [found[level] for level in Level if level in found]


def _seen(facts: Any, at: float, version_id: str, *, first: bool) -> list[Validation]:
    what = facts.get("what")
    if what in {"new", "connect"} and (what == "new" or first):
        accepted = {"accepted": True, "rejected": False}.get(str(facts.get("verdict")))
        shape = str(facts.get("format", "fits"))
        who = facts.get("identity") or {}
        return [
            Validation(Level.FORMAT, shape == "fits", at, "" if shape == "fits" else shape),
            Validation(
                Level.AUTH,
                accepted,
                at,
                str(who.get("principal_label") or who.get("principal") or facts.get("code") or ""),
            ),
        ]
    if what == "read" and facts.get("version") == version_id:
        return [
            Validation(
                Level.READ,
                _passed(JobState(str(facts["state"]))),
                at,
                f"{facts['job']}: {facts['count']} read",
            )
        ]
    return []


def _passed(state: JobState) -> bool | None:
    return {JobState.OK: True, JobState.FAILED: False}.get(state)

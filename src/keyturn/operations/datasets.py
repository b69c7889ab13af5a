"""Loading files into the hub's datasets, reading and exporting them.

A load is begun, receives bytes that are committed by offset, and is then read into its dataset by whoever serves. Each
of these goes on after a kill where it stopped. The load may go on with the secret it was begun with until it ends or its
day is over, also when that secret was retired meanwhile; not when it was ended on purpose.
"""

from __future__ import annotations

import csv
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from keyturn import boundary
from keyturn.bootstrap import Keyturn
from keyturn.datasets.reading import DELIMITERS, FORMATS, Batch, Reader, check_start
from keyturn.datasets.shelf import Shelf, Summary, Writer, check_name
from keyturn.datasets.uploads import Uploads, cut, sync
from keyturn.errors import Conflict, InvalidInput, NotFound, StoreUnavailable, unexpected
from keyturn.issued import grants
from keyturn.issued.book import CheckResult, Code
from keyturn.model.credential import Connection
from keyturn.model.ids import ConnectionId, VersionId, new_id
from keyturn.model.run import LineKind
from keyturn.operations import events, intake
from keyturn.storage import bulk, connections, journal
from keyturn.storage.bulk import Load, LoadState
from keyturn.storage.database import Tx

MODES = ("append", "replace")
MOST_BYTES = 4 * 1024**3  # of one upload
COMMIT_BYTES = 16 * 1024 * 1024  # how much is at most sent again after a crash
LONGEST_S = 86400.0  # a load that is not through by then is given up, and its hold on the secret with it
RUNNING, PER_HOUR = 10, 100
_FORGOTTEN_S = 900.0  # an open load that nobody works on takes no place for longer
_KEPT_S = 90 * 86400.0
_LOOK_S = 2.0
_AGAIN_S = 5.0


def shelf(hub: Keyturn) -> Shelf:
    """The datasets of this hub."""
    return Shelf(Path(hub.settings.home) / "datasets")


def uploads(hub: Keyturn) -> Uploads:
    """The uploads on this machine."""
    return Uploads(Path(hub.settings.home) / "uploads")


# -- receiving -----------------------------------------------------------------------------------------------------


def begin(
    hub: Keyturn,
    dataset: str,
    connection_id: str,
    version_id: str,
    *,
    form: str,
    mode: str = "append",
    delimiter: str = ",",
    trigger: str = "",
) -> Load:
    """A new load, empty so far. The same `trigger` of the same credential gives the load that is there.

    Raises: InvalidInput (field named), Conflict when the trigger stands for another load, or (with `wait_s`) when the
    credential has too many.
    """
    check_name(dataset)
    for value, known, field in (
        (form, FORMATS, "format"),
        (mode, MODES, "mode"),
        (delimiter, DELIMITERS, "delimiter"),
    ):
        if value not in known:
            raise InvalidInput(f"{field} must be one of {', '.join(map(repr, known))}", field=field)
    if len(trigger) > 200:
        raise InvalidInput("an idempotency key has up to 200 characters", field="Idempotency-Key")
    now = time.time()
    load = Load(
        id=new_id("bld"),
        dataset=dataset,
        connection_id=ConnectionId(connection_id),
        version_id=VersionId(version_id),
        pinned=True,
        trigger=trigger,
        format=form,
        mode=mode,
        delimiter=delimiter,
        state=LoadState.RECEIVING,
        received=0,
        loaded=0,
        accepted=0,
        rejected=0,
        why="",
        created_at=now,
        changed_at=now,
        until_at=now + LONGEST_S,
        ended_at=None,
    )
    load = replace(load, trigger=trigger or load.id)
    uploads(hub).make(load.id)

    def work(tx: Tx) -> Load:
        tx.hold("SELECT generation FROM connection WHERE id = ?", connection_id)
        again = bulk.by_trigger(tx, connection_id, load.trigger)
        if again is not None:
            if (again.dataset, again.format, again.mode) != (dataset, form, mode):
                raise Conflict("this idempotency key stands for another load", field="Idempotency-Key")
            return again
        if bulk.running(tx, connection_id, now - _FORGOTTEN_S) >= RUNNING:
            raise Conflict(f"{RUNNING} loads of this credential are running", wait_s=30)
        if bulk.begun(tx, connection_id, now - 3600) >= PER_HOUR:
            raise Conflict(f"this credential began {PER_HOUR} loads in the last hour", wait_s=600)
        bulk.add(tx, load)
        return load

    try:
        made = hub.store.write(work)
    except BaseException:
        uploads(hub).remove(load.id)
        raise
    if made.id != load.id:
        uploads(hub).remove(load.id)
    return made


class Receiver:
    """Takes one request's bytes. Used as a context; what was written when it ends early is committed and kept."""

    def __init__(self, hub: Keyturn, load: Load, source: BinaryIO) -> None:
        self._hub, self._load, self._source = hub, load, source
        self.offset = load.received
        self._committed = load.received

    def write(self, data: bytes) -> None:
        """Appends. Raises: InvalidInput for what is not text or is too much, StoreUnavailable."""
        if self.offset == 0:
            check_start(data)
        if self.offset + len(data) > MOST_BYTES:
            raise InvalidInput(
                f"an upload has up to {MOST_BYTES // 1024**3} GiB", field="body", too_large=True
            )
        try:
            self._source.write(data)
        except OSError as error:
            raise StoreUnavailable(f"the upload cannot be written: {type(error).__name__}") from None
        self.offset += len(data)
        if self.offset - self._committed >= COMMIT_BYTES:
            self.commit()

    def commit(self, *, complete: bool = False) -> None:
        """Makes what came so far durable. Raises: Conflict when the load was ended meanwhile, StoreUnavailable."""
        sync(self._source)
        boundary.reach("bulk:received")
        now, load_id, offset = time.time(), self._load.id, self.offset
        if not self._hub.store.write(lambda tx: bulk.receive(tx, load_id, offset, now, complete=complete)):
            raise Conflict("the load has ended meanwhile", hint="Begin another one.")
        self._committed = offset


def receiving(hub: Keyturn, load_id: str, offset: int) -> tuple[Receiver, Callable[[], None]]:
    """A receiver from `offset` on, and how to let it go.

    Raises: NotFound, Conflict (`received` tells where to go on) when the offset is another, when all is here, or when
    another request is sending.
    """
    if get(hub, load_id).state is not LoadState.RECEIVING:  # its upload may be gone by now
        raise _takes_no_more(get(hub, load_id))
    source = uploads(hub).take(load_id)
    try:
        load = get(hub, load_id)
        if load.state is not LoadState.RECEIVING:
            raise _takes_no_more(load)
        if offset != load.received:
            raise Conflict(
                f"this load goes on at byte {load.received}",
                hint="Ask with HEAD where to go on, then send what follows.",
                received=load.received,
            )
        cut(source, load.received)
    except BaseException:
        source.close()
        raise
    return Receiver(hub, load, source), source.close  # which lets the lock go


def _takes_no_more(load: Load) -> Conflict:
    return Conflict(f"the load takes no more bytes: it is {load.state.value}", received=load.received)


def get(hub: Keyturn, load_id: str) -> Load:
    """A load. Raises: NotFound."""
    found = hub.store.read(lambda tx: bulk.by_id(tx, load_id))
    if found is None:
        raise NotFound("there is no such load", field="load")
    return found


def of_caller(hub: Keyturn, load_id: str, connection_id: str) -> Load:
    """A load of this credential. Raises: NotFound for anybody else's, as if it were not there."""
    found = get(hub, load_id)
    if found.connection_id != connection_id:
        raise NotFound("there is no such load", field="load")
    return found


def readmit(hub: Keyturn, load_id: str, found: CheckResult, address: str) -> CheckResult:
    """What the door says to a secret that was retired while its load runs: it may finish that load and nothing else.

    Its scopes and networks hold as before. A secret that was ended on purpose, and any access token, stays outside.
    """
    secret, now = found.secret, time.time()
    if secret is None or found.token is not None or found.code not in {Code.REVOKED, Code.EXPIRED}:
        return found

    def look(tx: Tx) -> Connection | None:
        pinned = bulk.is_pinned(tx, load_id, secret.version_id, now)
        return connections.by_id(tx, secret.connection_id) if pinned else None

    connection = hub.store.read(look)
    if connection is None:
        return found
    allowed = grants.of(connection.settings)
    if not allowed.admits(address):
        return found._replace(code=Code.ADDRESS)
    return found._replace(code=Code.OK if allowed.covers(found.needed) else Code.SCOPE)


def loads(hub: Keyturn, connection_id: str | None = None, limit: int = 50) -> list[Load]:
    """The latest loads."""
    return hub.store.read(lambda tx: bulk.latest(tx, connection_id, limit))


def cancel(hub: Keyturn, load_id: str) -> Load:
    """Ends a load; nothing of it is ever seen. Raises: NotFound, Conflict when its records are visible already."""
    load = get(hub, load_id)
    now = time.time()
    if hub.store.write(lambda tx: bulk.end(tx, load_id, LoadState.CANCELLED, now)):
        _clear(hub, load)
    load = get(hub, load_id)
    if load.state is LoadState.DONE:
        raise Conflict("the load is done; its records stay", hint="Load again with mode replace.")
    return load


def cancel_received(hub: Keyturn, load_id: str, why: str) -> None:
    """Ends a load whose bytes make no sense, for whoever holds its upload."""
    now = time.time()
    if hub.store.write(lambda tx: bulk.end(tx, load_id, LoadState.FAILED, now, why)):
        uploads(hub).remove(load_id)


def _clear(hub: Keyturn, load: Load) -> None:
    """After an end that is no success; a loader at work sees it at its next batch and clears after itself."""
    with suppress(Conflict, NotFound), uploads(hub).locked(load.id):
        shelf(hub).abandon(load.dataset, load.id)
        uploads(hub).remove(load.id)


# -- loading -------------------------------------------------------------------------------------------------------


def _why_not_kept(record: str) -> str:
    return "holds a credential of this hub" if intake.holds_token(record) else ""


class Loader:
    """Reads what was received into the datasets, in a thread. Several processes may run one: an upload's lock keeps
    them apart, and dies with its process."""

    def __init__(self, hub: Keyturn) -> None:
        self._hub = hub
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._pruned_at = 0.0

    def start(self) -> None:
        """Starts the thread; what a crash left is gone on with first."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="keyturn-loader", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Something may be there to load."""
        self._wake.set()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ends the thread at the next batch."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _serve(self) -> None:
        while not self._stop.is_set():
            with suppress(Exception):  # looked at again; a load's own failure is on its row
                self.work()
            self._wake.wait(_LOOK_S)
            self._wake.clear()

    def work(self) -> int:
        """Loads everything that is ready here; how many loads ended."""
        hub, ended = self._hub, 0
        now = time.time()
        for load in hub.store.read(bulk.open_loads):
            if self._stop.is_set():
                return ended
            if now >= load.until_at:
                self._fail(load, "not through within a day")
                ended += 1
            elif (
                load.state is LoadState.LOADING
                and uploads(hub).is_here(load.id)
                and not (load.why and now < load.changed_at + _AGAIN_S)
            ):
                ended += self._attempt(load)
        if now >= self._pruned_at + 3600:
            self._pruned_at = now
            self._tidy()
        return ended

    def _attempt(self, load: Load) -> bool:
        try:
            with uploads(self._hub).locked(load.id) as source:
                return self._load(load, source)
        except (Conflict, NotFound):
            return False  # another process has it, or it was cancelled
        except InvalidInput as error:
            self._fail(load, error.message)
            return True
        except Exception as error:  # a full disk, a locked file: tried again, and said
            why, now = unexpected(error), time.time()
            self._hub.store.write(lambda tx: bulk.explain(tx, load.id, why, now))
            return False

    def _load(self, load: Load, source: BinaryIO) -> bool:
        """From where the dataset's own file says it stands. The upload goes only when readers see the records."""
        hub, base = self._hub, shelf(self._hub)
        part = base.begin(load.dataset, load.id)
        if part.state == "loading":
            reader = Reader(
                source,
                load.format,
                delimiter=load.delimiter,
                offset=part.offset,
                line=part.line,
                columns=part.columns,
                forbids=_why_not_kept,
            )
            with base.writing(load.dataset) as writer:
                for batch in reader.batches():
                    part = self._write(load, writer, part, batch, reader)
                    if self._stop.is_set():
                        return False
                    if self._tell(load, part) is not LoadState.LOADING:
                        base.abandon(load.dataset, load.id)
                        uploads(hub).remove(load.id)
                        return True
            if not part.accepted and part.rejected:
                base.abandon(load.dataset, load.id)
                raise InvalidInput("no record could be taken; see the rejected ones")
            boundary.reach("bulk:read")
            part = base.finish(load.dataset, load.id, replaces=load.mode == "replace")
            boundary.reach("bulk:seen")
        now = time.time()
        facts = {
            "what": "bulk_load",
            "load": load.id,
            "dataset": load.dataset,
            "accepted": part.accepted,
            "rejected": part.rejected,
            "bytes": load.received,
            "version": load.version_id,
        }

        def work(tx: Tx) -> None:
            bulk.progress(tx, load.id, part.offset, part.accepted, part.rejected, now)
            if bulk.end(tx, load.id, LoadState.DONE, now) and connections.by_id(tx, load.connection_id):
                entry = journal.Entry(now, "", "issued", LineKind.OBSERVED, 0, facts)
                journal.append(tx, load.connection_id, [entry])

        hub.store.write(work)
        uploads(hub).remove(load.id)
        return True

    def _write(self, load: Load, writer: Writer, part: Any, batch: Batch, reader: Reader) -> Any:
        boundary.reach("bulk:batch")
        found = writer.add(part, batch, reader.columns)
        boundary.reach("bulk:batch_written")
        del load
        return found

    def _tell(self, load: Load, part: Any) -> LoadState | None:
        now = time.time()
        return self._hub.store.write(
            lambda tx: bulk.progress(tx, load.id, part.offset, part.accepted, part.rejected, now),
            durable=False,
        )

    def _fail(self, load: Load, why: str) -> None:
        now = time.time()
        if self._hub.store.write(lambda tx: bulk.end(tx, load.id, LoadState.FAILED, now, why)):
            with suppress(NotFound):
                shelf(self._hub).abandon(load.dataset, load.id)
            uploads(self._hub).remove(load.id)

    def _tidy(self) -> None:
        """Uploads that nobody will finish, and rows that nobody asks about any more."""
        hub = self._hub
        for load_id in uploads(hub).ids():
            found = hub.store.read(lambda tx, each=load_id: bulk.by_id(tx, each))  # type: ignore[misc]
            if found is None or found.ended_at is not None:
                with suppress(Conflict, NotFound), uploads(hub).locked(load_id):
                    uploads(hub).remove(load_id)
        intake.prune(hub)
        before = time.time() - _KEPT_S
        hub.store.write(lambda tx: bulk.prune(tx, before))


# -- reading -------------------------------------------------------------------------------------------------------


def every(hub: Keyturn) -> list[Summary]:
    """The datasets there are."""
    found = shelf(hub)
    return [found.summary(name) for name in found.names()]


def drop(hub: Keyturn, name: str, address: str = "") -> None:
    """Deletes a dataset. It is on record before it is gone: a crash in between leaves a line too many, never one too few.

    Raises: NotFound, Conflict while a load into it runs.
    """
    if any(load.dataset == name for load in hub.store.read(bulk.open_loads)):
        raise Conflict(f"a load into {name} is running", hint="Wait for it, or give it up first.")
    records = shelf(hub).summary(name).records
    events.note(hub, "dataset_dropped", by=hub.settings.actor, address=address, on=name, records=records)
    shelf(hub).drop(name)


def export(hub: Keyturn, name: str, form: str, by: str = "", address: str = "") -> Iterator[bytes]:
    """A dataset as CSV or NDJSON, from one view, a piece at a time; whose hands it went into is on record before the first.
    Raises: NotFound, InvalidInput, before the first.

    In CSV a value that a spreadsheet would take for a formula gets an apostrophe in front (CWE-1236).
    """
    if form not in FORMATS:
        raise InvalidInput(f"format must be one of {', '.join(FORMATS)}", field="format")
    summary = shelf(hub).summary(name)
    rows = shelf(hub).each(name)
    by = by or hub.settings.actor
    events.note(hub, "dataset_exported", by=by, address=address, on=name, form=form, records=summary.records)
    return _as_csv(rows, summary.columns) if form == "csv" else _as_ndjson(rows)


_PIECE = 500


def _as_ndjson(rows: Iterator[str]) -> Iterator[bytes]:
    held: list[str] = []
    for body in rows:
        held.append(body)
        if len(held) >= _PIECE:
            yield ("\n".join(held) + "\n").encode()
            held.clear()
    if held:
        yield ("\n".join(held) + "\n").encode()


def _as_csv(rows: Iterator[str], columns: tuple[str, ...]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_harmless(name) for name in columns])
    for number, body in enumerate(rows, 1):
        record = json.loads(body)
        writer.writerow([_cell(record.get(name)) for name in columns])
        if number % _PIECE == 0:
            yield text.getvalue().encode(errors="replace")
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode(errors="replace")


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, str):
        return _harmless(value)
    return value if type(value) in {int, float} else json.dumps(value, ensure_ascii=False)


def _harmless(text: str) -> str:
    return "'" + text if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


__all__ = [
    "Load",
    "LoadState",
    "Loader",
    "Receiver",
    "Summary",
    "begin",
    "cancel",
    "cancel_received",
    "drop",
    "every",
    "export",
    "get",
    "loads",
    "of_caller",
    "readmit",
    "receiving",
    "shelf",
    "uploads",
]

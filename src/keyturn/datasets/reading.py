"""Turns an upload into records, batch by batch, in bounded memory; every batch says where the next one begins.

A record that cannot be read is rejected by its line with a reason, and reading goes on behind it. Nothing of a rejected
record is kept or shown: it may hold what its sender would not want in a report.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NoReturn

from keyturn.errors import InvalidInput

FORMATS = ("csv", "ndjson")
DELIMITERS = (",", ";", "\t", "|")
RECORD_BYTES = (
    1024 * 1024
)  # the longest record; of a CSV record's fields, 128 KiB each (the csv module's own limit)
COLUMNS = 500
BATCH_ROWS, BATCH_BYTES = 10_000, 4 * 1024 * 1024
_NOT_TEXT = (
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
    (b"\x1f\x8b", "compressed (gzip)"),
    (b"PK\x03\x04", "compressed (zip or a spreadsheet)"),
    (b"\x28\xb5\x2f\xfd", "compressed (zstd)"),
)


@dataclass(frozen=True)
class Reject:
    """A record that was left out: its first and last line (from 1), the byte it begins at, and why."""

    line: int
    last_line: int
    offset: int
    why: str


@dataclass
class Batch:
    """Records as JSON objects in text. `offset` (bytes) and `line` are where the next batch begins."""

    bodies: list[str] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    offset: int = 0
    line: int = 0
    size: int = 0


class Refused(Exception):
    """One record cannot be taken; its text names the reason and nothing of the record."""


def check_start(head: bytes) -> None:
    """Looks at an upload's first bytes. Raises: InvalidInput when it is not UTF-8 text at all."""
    for mark, name in _NOT_TEXT:
        if head.startswith(mark):
            raise InvalidInput(f"the data is {name}", hint="Send it as plain UTF-8 text.", field="body")


class Reader:
    """Reads `source` from `offset`; `columns` are those of the CSV header, or of NDJSON all keys met so far. `forbids` says
    why a record is not to be kept, whatever its form; empty when it may be.

    Starting again at a batch's `offset`, `line` and the reader's `columns` gives what follows that batch, no more and
    no less.
    """

    def __init__(
        self,
        source: BinaryIO,
        form: str,
        *,
        delimiter: str = ",",
        offset: int = 0,
        line: int = 0,
        columns: tuple[str, ...] = (),
        forbids: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._source, self._form, self._delimiter = source, form, delimiter
        self._offset, self._line = offset, line
        self._columns: dict[str, None] = dict.fromkeys(columns)
        self._forbids = forbids
        self._begun = 0  # where the record in hand begins
        source.seek(offset)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns known so far."""
        return tuple(self._columns)

    def batches(self) -> Iterator[Batch]:
        """The records there are, up to 10,000 or 4 MiB at a time.

        Raises: InvalidInput when the whole upload makes no sense: no header, too many columns, not text.
        """
        if self._offset == 0:
            self._skip_mark()
        if self._form == "csv" and not self._columns:
            self._read_header()
        record: Callable[[], str | None] = self._csv() if self._form == "csv" else self._ndjson
        batch = self._fresh()
        while True:
            first, begun = self._line + 1, self._offset
            self._begun = begun
            try:
                body = record()
                if body is not None and (why := self._forbids(body)):
                    raise Refused(why)
            except Refused as error:
                batch.rejects.append(Reject(first, max(first, self._line), begun, str(error)))
            except EOFError:
                break
            else:
                if body is not None:
                    batch.bodies.append(body)
            batch.size += self._offset - begun
            if batch.size >= BATCH_BYTES or len(batch.bodies) + len(batch.rejects) >= BATCH_ROWS:
                yield self._ended(batch)
                batch = self._fresh()
        yield self._ended(batch)

    def _fresh(self) -> Batch:
        return Batch(offset=self._offset, line=self._line)

    def _ended(self, batch: Batch) -> Batch:
        batch.offset, batch.line = self._offset, self._line
        return batch

    def _skip_mark(self) -> None:
        head = self._source.read(4)
        check_start(head)
        self._offset = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
        self._source.seek(self._offset)

    # -- lines -----------------------------------------------------------------------------------------------------

    def _next_line(self) -> str:
        """The next line with its end. Raises: EOFError behind the last one, Refused for one that is no text."""
        raw = self._source.readline(RECORD_BYTES + 1)
        if not raw:
            raise EOFError
        self._line += 1
        self._offset += len(raw)
        if len(raw) > RECORD_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = self._source.readline(RECORD_BYTES)
                self._offset += len(raw)
            raise Refused("longer than 1 MiB")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise Refused("not UTF-8") from None

    # -- NDJSON ----------------------------------------------------------------------------------------------------

    def _ndjson(self) -> str | None:
        text = self._next_line().strip()
        if not text:
            return None
        try:
            value = _load(text)
        except RecursionError:
            raise Refused("nested too deeply") from None
        except ValueError:
            raise Refused("not JSON") from None
        if type(value) is not dict:
            raise Refused("not a JSON object")
        if "\\ud" in text or "\\uD" in text:
            _whole(json.dumps(value, ensure_ascii=False))
        if not value.keys() <= self._columns.keys():
            if len(value.keys() | self._columns.keys()) > COLUMNS:
                raise Refused(f"brings the data to more than {COLUMNS} columns")
            self._columns.update(dict.fromkeys(value))
        return text

    # -- CSV -------------------------------------------------------------------------------------------------------

    def _csv(self) -> Callable[[], str | None]:
        """One record a call. The csv module pulls a line only when it needs one, so between two records the offset
        is exact. After a refusal it begins anew behind the last line it took: that keeps the work linear, whatever
        quotes were left open."""
        names = self.columns
        width = len(names)
        rows = self._rows()
        dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

        def record() -> str | None:
            nonlocal rows
            try:
                row = next(rows)
            except StopIteration:
                raise EOFError from None
            except csv.Error as error:
                rows = self._rows()
                raise Refused(_csv_words(error)) from None
            except Refused:
                rows = self._rows()
                raise
            if not row:
                return None
            if len(row) != width:
                raise Refused(f"{len(row)} fields instead of {width}")
            body = dump(dict(zip(names, row, strict=True)))
            if "\x00" in body or "\\u0000" in body:
                raise Refused("holds a NUL character")
            return body

        return record

    def _rows(self) -> Iterator[list[str]]:
        return csv.reader(self._csv_lines(), delimiter=self._delimiter, strict=True)

    def _csv_lines(self) -> Iterator[str]:
        while True:
            if self._offset - self._begun > RECORD_BYTES:
                raise Refused("longer than 1 MiB: is a quote left open?")
            try:
                yield self._next_line()
            except EOFError:
                return

    def _read_header(self) -> None:
        self._begun = self._offset
        try:
            names = [name.strip() for name in next(self._rows())]
        except (StopIteration, csv.Error, Refused):
            names = []
        if not names or not all(names):
            _no_header("the first line must name every column")
        if len(set(names)) != len(names):
            _no_header("a column is named twice")
        if len(names) > COLUMNS or any(len(name) > 200 for name in names):
            _no_header(f"there may be {COLUMNS} columns, with names of up to 200 characters")
        self._columns = dict.fromkeys(names)


def _no_header(why: str) -> NoReturn:
    raise InvalidInput(why, hint="Send a header line, in UTF-8, with the right delimiter.", field="body")


def _csv_words(error: csv.Error) -> str:
    """The csv module's messages in our words; none of them quotes the data."""
    text = str(error)
    if "field larger" in text:
        return "a field is longer than 128 KiB: is a quote left open?"
    if "end of data" in text:
        return "ends inside quotes"
    if "NUL" in text:
        return "holds a NUL character"
    return "not CSV: a quote is in the wrong place"


def _constant(_: str) -> NoReturn:
    raise ValueError


_load = json.JSONDecoder(parse_constant=_constant).decode


def _whole(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused("holds half a character (a lone surrogate)") from None

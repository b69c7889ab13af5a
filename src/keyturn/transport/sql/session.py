"""One logged-in session: statements go out, rows and errors come back, and everything ends in time."""

from __future__ import annotations

import functools
import hashlib
import select
import time
from collections.abc import Callable, Sequence
from typing import Self

from psycopg import pq

from keyturn import boundary
from keyturn.errors import KeyturnError, OutcomeUnknown, VendorUnavailable
from keyturn.transport.sql import words

Row = tuple[str | None, ...]
# A pooler gave us another of its sessions: invalid_sql_statement_name, duplicate_prepared_statement
# (https://www.postgresql.org/docs/current/errcodes-appendix.html, checked 2026-11-30).
_PLAN_IS_ELSEWHERE = frozenset({"26000", "42P05"})


class Session:
    """One logged-in session. Not for two threads at once. Everything ends before `until` (monotonic seconds)."""

    def __init__(self, conn: pq.abc.PGconn, host: str, until: float) -> None:
        self._conn = conn
        self._escape = pq.Escaping(conn)
        self._poll = select.poll()
        self._poll.register(conn.socket, select.POLLIN)
        self._host = host
        self.until = until
        self.broken = False
        self._plans: set[bytes] | None = set()  # names of plans the server keeps; None: it keeps none

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_superuser(self) -> bool:
        """Whether the server said at login that this role is a superuser; costs nothing."""
        return self._conn.parameter_status(b"is_superuser") == b"on"

    @property
    def session_user(self) -> str:
        """Whom the server said at login that it let in; costs nothing. Empty behind a pooler that does not pass it on.

        `session_authorization` is reported by every server: https://www.postgresql.org/docs/current/protocol-flow.html
        """
        return (self._conn.parameter_status(b"session_authorization") or b"").decode()

    @property
    def server_version(self) -> int:
        """150018 for 15.18."""
        return self._conn.server_version

    def compose(self, template: str, *names: str, **literals: str) -> str:
        """Puts identifiers at `{0}`, `{1}` and string literals at `{word}`, each escaped by libpq for this session."""
        quoted = [self._escape.escape_identifier(n.encode()) for n in names]
        values = {k: self._escape.escape_literal(v.encode()) for k, v in literals.items()}
        return template.format(
            *(bytes(q).decode() for q in quoted), **{k: bytes(v).decode() for k, v in values.items()}
        )

    def query(self, statement: str, *params: str, again: bool = False) -> list[Row]:
        """One read; values are bound to `$1`, `$2`. Raises: PermissionMissing, VendorUnavailable and the rest.

        `again`: sessions that are kept ask this often, so the server shall keep its plan, at a third of the price.
        """
        if again and self._plans is not None:
            try:
                return self._query_planned(self._plans, statement, params)
            except KeyturnError as error:
                if error.facts.get("code") not in _PLAN_IS_ELSEWHERE:
                    raise
                self._plans = None
        self._send(lambda: self._conn.send_query_params(statement.encode(), _bound(params)), changes=False)
        return _rows(self._checked(self._results(changes=False), changes=False, right="")[-1])

    def _query_planned(self, plans: set[bytes], statement: str, params: Sequence[str]) -> list[Row]:
        name = _plan_name(statement)
        if name not in plans:
            self._send(lambda: self._conn.send_prepare(name, statement.encode()), changes=False)
            self._checked(self._results(changes=False), changes=False, right="")
            plans.add(name)
        self._send(lambda: self._conn.send_query_prepared(name, _bound(params)), changes=False)
        return _rows(self._checked(self._results(changes=False), changes=False, right="")[-1])

    def read_only(self, *statements: str) -> list[list[Row]]:
        """Several reads in one round trip inside a read-only transaction that is rolled back.

        Each text must be a single statement: the server refuses `SELECT 1; DROP ...` here, so a query that a person
        typed cannot do more than read.
        """
        conn = self._conn

        def send() -> None:
            conn.enter_pipeline_mode()
            for text in ("BEGIN READ ONLY", *statements, "ROLLBACK"):
                conn.send_query_params(text.encode(), None)
            conn.pipeline_sync()

        self._send(send, changes=False)
        try:
            found = self._pipelined(len(statements) + 2)
        finally:
            self.broken = True  # a proof's session is used once; nothing is worth bringing it back in order
        return [_rows(result) for result in self._checked(found, changes=False, right="")[1:-1]]

    def change(self, *statements: str, right: str = "") -> list[list[Row]]:
        """All statements in one transaction and one round trip; returns each one's rows.

        `right` is the vendor's name for what the statements need, told when the server says 42501.
        The server's own statement_timeout ends just before our deadline, so that a lock wait becomes a definite
        "nothing changed" and no forgotten statement takes effect later. SET LOCAL, because a plain SET would outlive
        us in a transaction pooler.
        Raises: OutcomeUnknown when the answer is lost after sending.
        """
        left_ms = max(int((self.until - time.monotonic()) * 900), 1)
        text = ";".join(("BEGIN", f"SET LOCAL statement_timeout={left_ms}", *statements, "COMMIT"))
        self._send(lambda: self._conn.send_query(text.encode()), changes=True)
        results = self._results(changes=True)
        try:
            self._checked(results, changes=True, right=right)
        except KeyturnError:
            self._roll_back()
            raise
        if results[-1].command_status != b"COMMIT" or len(results) != len(statements) + 3:
            self.broken = True
            raise OutcomeUnknown(f"{self._host} did not confirm the change", host=self._host)
        return [_rows(result) for result in results[2:-1]]

    def is_usable(self) -> bool:
        """Whether the session is idle and the server has said nothing: a farewell or a closed socket is readable."""
        return (
            not self.broken
            and self._conn.transaction_status == pq.TransactionStatus.IDLE
            and not self._poll.poll(0)
        )

    def close(self) -> None:
        """Ends the session; twice is fine."""
        self.broken = True
        self._conn.finish()

    def _send(self, send: Callable[[], None], *, changes: bool) -> None:
        boundary.leaving(self._host)
        try:
            self._conn.nonblocking = 1
            send()
            while self._conn.flush():
                self._wait(select.POLLIN | select.POLLOUT, changes=changes)
                self._conn.consume_input()
        except _library_error():
            raise self._lost(changes=changes) from None

    def _results(self, *, changes: bool) -> list[pq.abc.PGresult]:
        found = []
        while (result := self._next(changes=changes)) is not None:
            found.append(result)
        return found

    def _pipelined(self, count: int) -> list[pq.abc.PGresult]:
        found: list[pq.abc.PGresult] = []
        while len(found) < count:
            while (result := self._next(changes=False)) is not None:
                found.append(result)
                if result.status == pq.ExecStatus.FATAL_ERROR:
                    return found
        return found

    def _next(self, *, changes: bool) -> pq.abc.PGresult | None:
        try:
            while self._conn.is_busy():
                self._wait(select.POLLIN, changes=changes)
                self._conn.consume_input()
            return self._conn.get_result()
        except _library_error():
            raise self._lost(changes=changes) from None

    def _wait(self, events: int, *, changes: bool) -> None:
        self._poll.modify(self._conn.socket, events)
        left = self.until - time.monotonic()
        try:
            ready = left > 0 and self._poll.poll(left * 1000)
        finally:
            if events != select.POLLIN:
                self._poll.modify(self._conn.socket, select.POLLIN)
        if not ready:
            raise self._lost(changes=changes, network="timeout")

    def _lost(self, *, changes: bool, network: str = "lost") -> KeyturnError:
        self.close()  # at once: a session that may still be working must never be used again
        said = "did not answer in time" if network == "timeout" else "closed the connection"
        if changes:
            return OutcomeUnknown(
                f"{self._host} {said}",
                hint="The change may have happened; the server is looked at first.",
                host=self._host,
                code=network,
            )
        return VendorUnavailable(f"{self._host} {said}", host=self._host, code=network)

    def _checked(
        self, results: Sequence[pq.abc.PGresult], *, changes: bool, right: str
    ) -> Sequence[pq.abc.PGresult]:
        for result in results:
            if result.status in {pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED}:
                raise self._refused(result, changes=changes, right=right)
        if not results:
            raise self._lost(changes=changes)
        return results

    def _refused(self, result: pq.abc.PGresult, *, changes: bool, right: str) -> KeyturnError:
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        severity = result.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) or b"ERROR"
        if not state or severity != b"ERROR":
            return self._lost(changes=changes)  # FATAL: whether the commit went through first is not known
        said = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode("utf-8", "replace")
        detail = (result.error_field(pq.DiagnosticField.MESSAGE_DETAIL) or b"").decode("utf-8", "replace")
        return words.statement_error(state, said, detail, self._host, right)

    def _roll_back(self) -> None:
        """Brings a session back after a refused statement; when that fails it is dropped."""
        if self.broken or self._conn.transaction_status == pq.TransactionStatus.IDLE:
            return
        try:
            self._send(lambda: self._conn.send_query(b"ROLLBACK"), changes=False)
            self._results(changes=False)
        except KeyturnError:
            self.close()


@functools.cache
def _library_error() -> type[Exception]:
    from psycopg import Error

    return Error


@functools.cache
def _plan_name(statement: str) -> bytes:
    """The same name means the same text: behind a pooler the session may be one in which others planned theirs."""
    return b"keyturn_" + hashlib.sha256(statement.encode()).hexdigest()[:32].encode()


def _bound(params: Sequence[str]) -> list[bytes | None]:
    return [value.encode() for value in params]


def _rows(result: pq.abc.PGresult) -> list[Row]:
    return [
        tuple(
            None if (value := result.get_value(row, column)) is None else bytes(value).decode()
            for column in range(result.nfields)
        )
        for row in range(result.ntuples)
    ]

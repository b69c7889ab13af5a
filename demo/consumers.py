"""One consumer per row that resolves at use time and logs in afresh, all the while: what the gap class is measured by."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, KeyturnError
from keyturn.model.verdict import Verdict
from keyturn.operations import connections, leases


@dataclass
class Seen:
    """What one consumer lived through. `refused` counts logins refused with every value it could resolve."""

    logins: int = 0
    refused: int = 0
    retried: int = 0
    paused_s: float = 0.0
    codes: list[str] = field(default_factory=list)

    @property
    def gap_class(self) -> str:
        """Z0 nothing noticed, Z1 a retry at once helped, Z2 it had to wait, Z3 it was refused."""
        if self.refused:
            return "Z3"
        if self.paused_s:
            return "Z2"
        return "Z1" if self.retried else "Z0"


class Consumer:
    """A program that uses one connection over and over."""

    def __init__(self, hub: Keyturn, name: str, every_s: float) -> None:
        self.seen = Seen()
        self._hub, self._name, self._every_s = hub, name, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"consumer {name}", daemon=True)

    def start(self) -> None:
        """Starts using it."""
        self._thread.start()

    def stop(self) -> None:
        """Stops; `seen` is final afterwards."""
        self._stop.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                held = leases.resolve(self._hub, self._name)
            except Conflict as error:
                if error.facts.get("paused"):
                    self._stop.wait(0.05)
                    self.seen.paused_s += time.monotonic() - began
                else:
                    self._stop.wait(self._every_s)
                continue
            self._use(held)
            self._stop.wait(max(0.0, self._every_s - (time.monotonic() - began)))

    def _use(self, held: leases.Held) -> None:
        verdict, code = self._login(held.material)
        if verdict is Verdict.REJECTED:
            # The protocol for a value in the middle of its change: resolve anew, try the other one at once.
            try:
                again = leases.resolve(self._hub, self._name)
            except Conflict as error:
                if error.facts.get("paused"):
                    return
                raise
            for material in (again.material, again.other, held.other):
                if material is None:
                    continue
                verdict, code = self._login(material)
                if verdict is Verdict.ACCEPTED:
                    self.seen.retried += 1
                    break
        if verdict is Verdict.REJECTED:
            self.seen.refused += 1
            self.seen.codes.append(code)
        elif verdict is Verdict.ACCEPTED:
            self.seen.logins += 1

    def _login(self, material: object) -> tuple[Verdict, str]:
        connection = connections.find(self._hub, self._name)
        row, access, _ = connections.access_of(self._hub, connection)
        try:
            found = row.can.verifier.verify(access, material)  # type: ignore[arg-type]
        except KeyturnError:
            return Verdict.UNKNOWN, ""
        return found.verdict, found.code

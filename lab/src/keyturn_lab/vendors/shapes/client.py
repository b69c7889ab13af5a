"""The caller's side of the protocol: one JSON object a line each way; knows no shape and no rule of the vendor."""

import json
import os
import socket
import threading
from typing import Any


class Unanswered(Exception):
    """No reply came. `sent` False promises that the vendor never saw the request."""

    def __init__(self, *, sent: bool) -> None:
        super().__init__("the answer is lost" if sent else "the vendor cannot be reached")
        self.sent = sent


class Refused(Exception):
    """The vendor said no and changed nothing; `error` is its word and `facts` the rest of the reply."""

    def __init__(self, error: str, facts: dict[str, Any]) -> None:
        super().__init__(error)
        self.error = error
        self.facts = facts


def connect(address: str, deadline_s: float) -> socket.socket:
    """A connection to a socket path (starts with `/`) or `host:port`. Raises: OSError."""
    if address.startswith("/"):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(deadline_s)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return sock
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)), deadline_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Client:
    """Talks to one vendor. Safe to share between threads and to carry through a fork: each opens its own connection.

    With `keep` False every call has a fresh connection. `by` tells the oracle who acts: names that start with `hub`
    must authenticate, `person` need not.
    """

    def __init__(self, address: str, *, deadline_s: float = 5.0, by: str = "lab", keep: bool = True) -> None:
        self.address = address
        self.deadline_s = deadline_s
        self.by = by
        self._keep = keep
        self._mine = threading.local()

    def ask(self, op: str, **params: Any) -> bytes:
        """The raw reply line. Raises: Unanswered."""
        request = json.dumps({"by": self.by, **params, "op": op}).encode() + b"\n"
        try:
            sock = self._connection()
        except OSError:
            raise Unanswered(sent=False) from None
        try:
            sock.sendall(request)
            reply = _line(sock)
        except OSError:
            reply = b""
        if not reply or not self._keep:
            self.close()
        if not reply:
            raise Unanswered(sent=True)
        return reply

    def call(self, op: str, **params: Any) -> Any:
        """The result. Raises: Unanswered, Refused."""
        return result(self.ask(op, **params))

    def arm(self, principal: str, kind: str, op: str = "*", **more: Any) -> Any:
        """Arms a fault on one call, on `read`, `change` or all; `more` are the other fields of `faults.Fault`."""
        return self.call("arm", principal=principal, kind=kind, hits=op, **more)

    def close(self) -> None:
        """Closes this thread's connection; the next call opens another."""
        sock = getattr(self._mine, "sock", None)
        if sock is not None:
            sock.close()
            self._mine.sock = None

    def _connection(self) -> socket.socket:
        found: socket.socket | None = getattr(self._mine, "sock", None)
        if found is None or self._mine.pid != os.getpid():
            self.close()  # after a fork this closes the copy, not the parent's connection
            found = self._mine.sock = connect(self.address, self.deadline_s)
            self._mine.pid = os.getpid()
        return found


def _line(sock: socket.socket) -> bytes:
    """One reply, newline included; empty when the connection ended before it was whole."""
    data = sock.recv(65536)
    while data and not data.endswith(b"\n"):
        more = sock.recv(65536)
        if not more:
            return b""
        data += more
    return data


def result(reply: bytes) -> Any:
    """What a raw reply says. Raises: Refused; ValueError when it is not the protocol."""
    said = json.loads(reply)
    if not isinstance(said, dict) or "ok" not in said:
        raise ValueError("not a reply of this protocol")
    if said["ok"]:
        return said["result"]
    raise Refused(said["error"], {k: v for k, v in said.items() if k not in {"ok", "error"}})

"""Carries the vendor over a socket: one JSON object a line each way, a thread for each open connection; no rules here."""

import contextlib
import json
import os
import queue
import socket
import threading
import time

from keyturn_lab import guard

from .vendor import Dropped, Vendor


class Server:
    """Listens on a socket path, or on loopback with the system's choice of port when the path is empty."""

    def __init__(self, path: str = "") -> None:
        self.vendor = Vendor()
        self._path = path
        if path:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(path)
            os.chmod(path, 0o600)
            self.address = path
        else:
            self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._listener.bind((guard.LOOPBACK, 0))
            self.address = f"{guard.LOOPBACK}:{self._listener.getsockname()[1]}"
        self._listener.listen(128)
        self._stopped = threading.Event()
        self._idle = threading.Semaphore(0)
        self._waiting: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()

    def run(self) -> None:
        """Serves until `stop`."""
        while not self._stopped.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                break
            if self._idle.acquire(blocking=False):
                self._waiting.put(sock)
            else:
                threading.Thread(target=self._work, args=(sock,), daemon=True).start()

    def stop(self) -> None:
        """Accepts no more; open connections end with their clients."""
        self._stopped.set()
        # Only a shutdown wakes a thread that sits in accept; a close does not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)

    def _work(self, sock: socket.socket) -> None:
        """Serves one connection after another: starting a thread costs more than most answers."""
        while True:
            self._talk(sock)
            self._idle.release()
            sock = self._waiting.get()

    def _talk(self, sock: socket.socket) -> None:
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b""
        with sock, contextlib.suppress(OSError):
            while more := sock.recv(65536):
                data += more
                while b"\n" in data:
                    line, _, data = data.partition(b"\n")
                    reply = self._reply(line)
                    if isinstance(reply, Dropped):
                        time.sleep(reply.hold_s)
                        return
                    sock.sendall(reply)

    def _reply(self, line: bytes) -> bytes | Dropped:
        try:
            request = json.loads(line)
            request["op"], request["by"]
        except (ValueError, KeyError, TypeError):
            return b'{"ok":false,"error":"bad_request","status":400}\n'
        said = self.vendor.answer(request)
        return said if isinstance(said, Dropped) else json.dumps(said).encode() + b"\n"

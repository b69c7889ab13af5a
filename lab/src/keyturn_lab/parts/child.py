"""Starts a program that cannot outlive us, waits until it answers, and ends it; knows no part in particular."""

import json
import os
import pwd
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from keyturn_lab.guard import LOOPBACK

from . import keeper


class PartMissing(RuntimeError):
    """A program the part needs is not on this machine; the message names what to install."""


class PartFailed(RuntimeError):
    """A part ended or did not answer in time; the message carries the end of its log."""


class Child:
    """One program under a keeper. `log_path` receives what it prints; `remove` goes when it ends."""

    def __init__(
        self,
        argv: list[str],
        *,
        log_path: Path,
        user: str | None = None,
        cwd: str = "/",
        env: dict[str, str] | None = None,
        stop_signal: str = "SIGTERM",
        remove: Path | None = None,
    ):
        account = pwd.getpwnam(user) if user else None
        spec = {
            "argv": argv,
            "cwd": cwd,
            "user": account.pw_uid if account else None,
            "group": account.pw_gid if account else None,
            "stop_signal": stop_signal,
            "remove": str(remove) if remove else None,
        }
        self.name = os.path.basename(argv[0])
        self.log_path = log_path
        with open(log_path, "ab") as log:
            self._log = open(log_path, errors="replace")  # noqa: SIM115 (readable when the keeper has removed it)
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, json.dumps(spec)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def has_ended(self) -> bool:
        return self._keeper.poll() is not None

    def read_log(self) -> str:
        try:
            return self.log_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_until(self, is_ready: Callable[[], Any], timeout_s: float = 30.0) -> Any:
        """The first truthy answer of `is_ready`, asked every few milliseconds.

        Raises: PartFailed when the program ends first or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            if answer := is_ready():
                return answer
            if self.has_ended or time.monotonic() > deadline:
                status = self._keeper.returncode
                reason = f"did not answer within {timeout_s:g} s" if status is None else f"ended ({status})"
                tail = self._log.read()[-2000:]
                self.stop()
                raise PartFailed(f"{self.name} {reason}; the end of its log:\n{tail}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends the program and waits for it; calling twice is fine. A keeper that still removes a large directory when
        patience is over goes on by itself."""
        self._log.close()
        if self._keeper.stdin and not self._keeper.stdin.closed:
            self._keeper.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._keeper.wait(timeout=2 * keeper.PATIENCE_S)


def free_port() -> int:
    """One that nobody listens at, and below those that systems give to callers: there any connection of anybody's could
    take it before the part does."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port


def scratch_directory(part: str, user: str | None = None) -> Path:
    """A new private directory that `user` can reach, below the temporary directory or, failing that, /tmp."""
    parent = Path(tempfile.gettempdir())
    if user and any(not os.stat(p).st_mode & 0o001 for p in (parent, *parent.parents)):
        parent = Path("/tmp")
    path = Path(tempfile.mkdtemp(prefix=f"keyturn-{part}-", dir=parent))
    if user:
        account = pwd.getpwnam(user)
        os.chown(path, account.pw_uid, account.pw_gid)
    return path


def call_json(url: str, body: Any = None, *, method: str | None = None) -> Any:
    """One loopback request with JSON in and out; raises urllib's HTTPError for a refusal."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method or ("POST" if data is not None else "GET"))
    request.add_header("Content-Type", "application/json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            text = answer.read()
    except urllib.error.HTTPError as refusal:
        refusal.close()
        raise
    return json.loads(text) if text else None


def answers(url: str) -> bool:
    try:
        call_json(url)
    except (OSError, urllib.error.URLError, ValueError):
        return False
    return True

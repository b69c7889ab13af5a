"""Starts the vendor beside a test: in a thread, or as a process that survives the kill of whoever talks to it."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .client import Client


class Shapes:
    """A running vendor: its `address`, and a `client` for the oracle."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.client = Client(address)

    @classmethod
    @contextmanager
    def in_thread(cls) -> Iterator["Shapes"]:
        """In this process; for tests that kill nothing."""
        from .server import Server

        with _folder() as folder:
            server = Server(os.path.join(folder, "shapes"))
            thread = threading.Thread(target=server.run, daemon=True)
            thread.start()
            shapes = cls(server.address)
            try:
                yield shapes
            finally:
                shapes.client.close()
                server.stop()
                thread.join(5)

    @classmethod
    @contextmanager
    def in_process(cls) -> Iterator["Shapes"]:
        """In a process of its own. It ends with us, however we end: it watches the pipe that we hold."""
        with _folder() as folder:
            path = os.path.join(folder, "shapes")
            argv = [sys.executable, "-m", __package__, "--socket", path, "--until-eof"]
            with subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            ) as child:
                assert child.stdout
                shapes = cls(path)
                try:
                    if not child.stdout.readline().startswith(b"ready "):
                        raise RuntimeError("the vendor did not start")
                    yield shapes
                finally:
                    shapes.client.close()
                    child.kill()


@contextmanager
def _folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="ktlab-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)

"""One worker process of the tests: `python -m tests.engine.child FOLDER DATABASE`, then it works until a signal.

Told by the environment: `TEST_SIGNAL`, `TEST_PLACE` and `TEST_HIT` send this process a signal when it reaches a place for the
n-th time (`intent:durable` is one of ours, on PostgreSQL); `TEST_LEASE_S` shortens the lease; `TEST_SLOW_S` holds every changing call back before it is sent.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from keyturn import boundary
from keyturn.engine import worker
from keyturn.engine.queue import Queue
from tests.faults import world


def main() -> None:
    folder, database = sys.argv[1:3]
    lease_s = float(os.environ.get("TEST_LEASE_S", "0"))
    number, place = int(os.environ.get("TEST_SIGNAL", "0")), os.environ.get("TEST_PLACE", "")
    intent = threading.local()  # its commit is the barrier before a call
    hits, slow_s = [int(os.environ.get("TEST_HIT", "1"))], float(os.environ.get("TEST_SLOW_S", "0"))

    def listen(reached: str) -> None:
        if slow_s and reached.startswith("call:") and reached.endswith(":before"):
            sys.stdout.write("call\n")
            sys.stdout.flush()
            time.sleep(slow_s)
        if reached.startswith("line:INTENT:"):
            intent.written = True
        elif reached == "commit:after" and getattr(intent, "written", False):
            intent.written, reached = False, "intent:durable"
        if number and reached == place:
            hits[0] -= 1
            if hits[0] == 0:
                sys.stdout.write("signal\n")
                sys.stdout.flush()
                os.kill(os.getpid(), number)

    boundary.listen(listen)
    hub = world.open_world(Path(folder), database, create=False)
    pool = hub.engine._pool if isinstance(hub.engine, Queue) else hub.engine
    pool._sweeper._often_s = 0.5
    pool._size = int(os.environ.get("TEST_THREADS", pool._size))
    if lease_s:
        pool._executor.hub = replace(pool._executor.hub, lease_s=lease_s)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    ended = worker.run(hub, grace_s=20)
    sys.stdout.write(f"ended {ended}\n")


main()

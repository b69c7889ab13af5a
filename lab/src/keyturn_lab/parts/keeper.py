"""Runs one program for exactly as long as the process that asked for it lives.

Started by `child.py` as `python -I -S keeper.py SPEC`; standard library only, so that it starts in a few milliseconds.
The asker holds our standard input open and writes nothing. When it ends, for whatever reason (`kill -9` included), the
pipe closes, and the program is stopped and its directory removed. PR_SET_PDEATHSIG is not enough for this: it fires
when the *thread* that started the child ends, and it is lost when the child changes its user.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading

PATIENCE_S = 10.0


def main() -> None:
    spec = json.loads(sys.argv[1])
    # A Ctrl-C in the asker's terminal is the asker's to handle; it then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(
        spec["argv"],
        stdin=subprocess.DEVNULL,
        cwd=spec["cwd"],
        user=spec["user"],
        group=spec["group"],
        extra_groups=[] if spec["user"] is not None else None,
        restore_signals=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (one thread here)
    )
    stop = signal.Signals[spec["stop_signal"]]

    def end(*_: object) -> None:
        child.send_signal(stop)
        killer = threading.Timer(PATIENCE_S, child.kill)
        killer.daemon = True
        killer.start()

    def watch() -> None:
        os.read(0, 1)  # returns only at end of file: nobody writes
        end()

    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    if spec["remove"]:
        shutil.rmtree(spec["remove"], ignore_errors=True)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()

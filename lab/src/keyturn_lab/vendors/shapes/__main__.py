"""`python -m keyturn_lab.vendors.shapes --socket PATH`: prints `ready ADDRESS` and serves until it is told to end."""

import argparse
import sys
import threading

from .server import Server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", default="", help="a socket path; without it a loopback port is chosen")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input does")
    chosen = parser.parse_args()
    server = Server(chosen.socket)
    threading.Thread(target=server.run, daemon=True).start()
    sys.stdout.write(f"ready {server.address}\n")
    sys.stdout.flush()
    try:
        if chosen.until_eof:
            sys.stdin.buffer.read()
        else:
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()


main()

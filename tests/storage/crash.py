"""A process that writes until it is killed: `python -m tests.storage.crash URL`. It says a number once it is durable."""

from __future__ import annotations

import os
import sys
import threading

from keyturn.storage.database import open_store


def main() -> None:
    store = open_store(sys.argv[1])

    def write(start: int) -> None:
        for n in range(start, 10**9, 8):
            name = f"n{n}"
            store.write(lambda tx, name=name: tx.run("INSERT INTO hub (name, value) VALUES (?, 'x')", name))
            os.write(1, f"{n}\n".encode())

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()


main()

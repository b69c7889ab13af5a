"""A loader in a process of its own that kills itself, as `kill -9` does, when it comes to a place for the n-th time.

`python -m tests.datasets.child FOLDER DATABASE PLACE N`; PLACE `-` never.
"""

import os
import signal
import sys
from pathlib import Path

from tests.issued.conftest import open_test_hub

from keyturn import boundary
from keyturn.operations.datasets import Loader


def main() -> None:
    folder, database, place, times = sys.argv[1:]
    hub = open_test_hub(Path(folder), database)
    left = int(times)

    def die(here: str) -> None:
        nonlocal left
        if here == place:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    boundary.listen(die)
    Loader(hub).work()
    hub.close()


if __name__ == "__main__":
    main()

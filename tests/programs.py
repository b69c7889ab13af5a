"""Programs that tests start: none outlives its test, so that a test that failed cannot wait for one for ever."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def running(argv: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """The program, killed at the end of the block if it still runs then."""
    with subprocess.Popen(argv, **options) as child:
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()

"""What costs every test and shows nothing is done once for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import httpcore2
import pytest


@pytest.fixture(autouse=True, scope="session")
def trust_is_read_once() -> Iterator[None]:
    """`httpx2.get` and its like read the authorities' file on each call, for http too: 30 ms where a call takes one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore2, "default_ssl_context", cache(httpcore2.default_ssl_context))
        yield

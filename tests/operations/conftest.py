"""A vendor of every shape, and an empty hub that knows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.bootstrap import Keyturn
from keyturn_lab.vendors.shapes import Client, Shapes
from tests.faults import world


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Shapes.in_thread() as vendor:
        yield vendor.client


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Keyturn]:
    opened = world.open_world(tmp_path)
    yield opened
    opened.close()

"""Samples, and a local server to interpret them against."""

from pathlib import Path

import pytest

from tests.transport.server import serving

SAMPLES = Path(__file__).parent / "samples"


@pytest.fixture(scope="module")
def running():
    with serving() as server:
        yield server


@pytest.fixture
def server(running):
    running.routes.clear()
    running.seen.clear()
    return running


@pytest.fixture
def sample():
    return lambda name: (SAMPLES / name).read_text()

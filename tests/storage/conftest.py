"""Both stores, for tests that hold on either."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.storage.database import Store, open_store
from keyturn_lab.parts.postgres import PostgresCluster

_numbers = itertools.count()


@pytest.fixture(scope="session")
def cluster() -> Iterator[PostgresCluster]:
    with PostgresCluster(options={"log_statement": "none"}) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'keyturn.db'}"
    found: str = request.getfixturevalue("database")
    return found


@pytest.fixture
def database(cluster: PostgresCluster) -> Iterator[str]:
    name = f"storage_{next(_numbers)}"
    yield cluster.create_database(name)
    with cluster.connect() as connection:  # or the server has them all to write when it stops
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url)
    yield opened
    opened.close()

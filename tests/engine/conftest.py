"""The stores and engines every engine test runs on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import keyturn.bootstrap
from keyturn.bootstrap import Keyturn, open_hub
from keyturn.catalog import Catalog
from keyturn.operations import debts
from keyturn_lab.parts.postgres import PostgresCluster
from tests import stores
from tests.engine import noop
from tests.faults import world

_numbers = itertools.count()


@pytest.fixture(scope="session")
def cluster() -> Iterator[PostgresCluster]:
    with PostgresCluster(options={"log_statement": "none"}) as running:
        stores.make_template(running)
        yield running


@pytest.fixture
def database(cluster: PostgresCluster) -> Iterator[str]:
    name = f"engine_{next(_numbers)}"
    yield cluster.create_database(name, stores.TEMPLATE)
    with cluster.connect() as connection:  # or the server has them all to write when it stops
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql", "queue"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest) -> str:
    return "" if kind == "sqlite" else request.getfixturevalue("database")


@pytest.fixture
def vendor() -> noop.Vendor:
    return noop.Vendor()


@pytest.fixture
def hub(
    tmp_path: Path, kind: str, url: str, vendor: noop.Vendor, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Keyturn]:
    """A hub whose engine is not started, with the connector that does nothing."""
    if kind == "postgresql":
        monkeypatch.setattr(keyturn.bootstrap, "find_spec", lambda _: None)
    opened = open_noop(tmp_path, url, vendor)
    yield opened
    opened.close()


def open_noop(folder: Path, url: str, vendor: noop.Vendor, threads: int = 4) -> Keyturn:
    settings = replace(world.settings(folder, url), workers=threads)
    catalog = Catalog(lambda _: None, extra={"noop": noop.external(vendor)})
    return open_hub(settings, create=True, catalog=catalog, try_debt=debts.try_again)


@pytest.fixture
def connected(hub: Keyturn) -> Callable[[int], list[str]]:
    """Makes connections and says their names."""
    return lambda count: noop.connect(hub, count)

"""A hub of its own for every test, with the engine running and the page of hub-api in its catalogue."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests import stores

import keyturn
from keyturn.bootstrap import open_hub
from keyturn.catalog import Catalog
from keyturn.contract.values import NetworkPolicy
from keyturn.definitions.system import read_system
from keyturn.operations import issued, notices
from keyturn.settings import Settings

PAGE = Path(keyturn.__file__ or "src/keyturn/__init__.py").parent / "connectors/hub_api/definition.yaml"


@cache
def system():
    return read_system(PAGE.read_text(), str(PAGE))


def open_test_hub(folder, database="", **extra):
    page = SimpleNamespace(system=system)
    settings = Settings(
        home=folder / "home",
        database=database or stores.url(folder / "home"),
        kek=f"file:{folder / 'kek'}",
        network=NetworkPolicy(),
        patience=0.02,
        workers=2,
        actor="ada",
    )
    return open_hub(settings, create=True, catalog=Catalog(extra={"hub-api": page, **extra}))


@pytest.fixture
def idle(tmp_path):
    """A hub whose engine does not run."""
    hub = open_test_hub(tmp_path)
    yield hub
    hub.close()


@pytest.fixture
def hub(idle):
    idle.engine.start()
    return idle


@pytest.fixture
def told(idle):
    """`told()` gives (topic, facts) of all that somebody may be told, and forgets none."""

    def read():
        found = notices.after(idle, 0, None, 1000)[0]
        return [(each.topic, dict(each.facts)) for each in found]

    notices.look(idle)
    return read


@pytest.fixture
def book(idle):
    found = issued.book(idle)
    yield found
    found.close()

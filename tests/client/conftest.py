"""A served hub, and the command line of the same hub: here on its machine, and from elsewhere."""

from __future__ import annotations

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from keyturn.cli.main import cli
from keyturn.cli.session import Session
from keyturn.client import Client
from tests.api.managing.conftest import (
    app,
    connect,
    ended,
    hub,
    idle,
    served,
    token,
    vendor,
)

__all__ = ["app", "connect", "ended", "hub", "idle", "served", "token", "vendor"]


@pytest.fixture
def secret(token):
    """`secret(role)` is a token's text."""
    return lambda role="admin", **more: token(role, **more)["Authorization"].removeprefix("Bearer ")


@pytest.fixture
def client(served, secret):
    with Client(served, secret()) as made:
        yield made


@pytest.fixture
def here(hub, monkeypatch):
    """The command line on the hub's machine, over the hub that is open already."""

    monkeypatch.setattr(Session, "hub", lambda _session, **_: nullcontext(hub))
    return _line(Session({}, hub.catalog))


@pytest.fixture
def there(served, secret):
    """The same from elsewhere."""
    return _line(Session({"KEYTURN_TOKEN": secret()}), "--server", served)


def _line(session, *before):
    def run(*args, code=0, typed=None):
        result = CliRunner().invoke(cli, [*before, *args], obj=session, input=typed, prog_name="keyturn")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        if code is not None:
            assert result.exit_code == code, f"{args}: {result.exit_code}\n{result.stdout}\n{result.stderr}"
        return result

    def as_json(*args, code=0):
        lines = run(*args, "--json", code=code).stdout.splitlines()
        found = [json.loads(line) for line in lines]
        return found[0] if len(found) == 1 else found

    return SimpleNamespace(run=run, json=as_json)

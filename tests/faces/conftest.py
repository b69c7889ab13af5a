"""A hub in a temporary folder, the command line on it, and a vendor that behaves like every shape."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from keyturn.catalog import Catalog
from keyturn.cli.main import cli
from keyturn.cli.session import Session
from keyturn_lab.vendors.shapes.running import Shapes
from tests import stores
from tests.faults import shapes_connector as shapes
from tests.faults import world

TABLES = ("connection", "version", "sealed", "journal", "definition", "run", "task", "principal", "consumer")


class Line:
    """The command line of one hub. Calling it runs a command in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "home" / "keyturn.db"
        self.kek = folder / "kek" / "key"
        self.environment = {
            "KEYTURN_HOME": str(folder / "home"),
            "KEYTURN_KEK": f"file:{self.kek}",
            "KEYTURN_ACTOR": "kim",
            "KEYTURN_PATIENCE": "0.02",
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
        }
        if stores.ON_POSTGRESQL:
            self.environment["KEYTURN_DATABASE"] = stores.url(folder / "home")
        self.said: list[str] = []

    def __call__(self, *args: str, code: int | None = 0, typed: str | None = None) -> Result:
        """Runs a command and checks its exit code. A traceback is never right."""
        session = Session(
            self.environment,
            Catalog(self._definition, extra={"shapes": world.external()}),
        )
        result = CliRunner().invoke(cli, args, obj=session, input=typed, prog_name="keyturn")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        self.said += [result.stdout, result.stderr]
        if code is not None:
            assert result.exit_code == code, f"{args}: {result.exit_code}\n{result.stdout}\n{result.stderr}"
        return result

    def json(self, *args: str, code: int | None = 0) -> Any:
        """Runs a command with --json and reads what it printed."""
        return json.loads(self(*args, "--json", code=code).stdout)

    def _definition(self, wanted: str) -> str | None:
        row = self.rows("SELECT text FROM definition WHERE hash = ?", wanted)
        return str(row[0][0]) if row else None

    def rows(self, sql: str, *params: object) -> list[Any]:
        """What the database holds."""
        if stores.ON_POSTGRESQL:
            with psycopg.connect(self.environment["KEYTURN_DATABASE"]) as there:
                found = there.execute(sql.replace("?", "%s"), params)
                return found.fetchall() if found.description else []
        with sqlite3.connect(self.database) as database:
            found = database.execute(sql, params).fetchall()
        database.close()
        return found

    def counts(self) -> dict[str, int]:
        """How many rows each table has: equal before and after a refused command."""
        return {table: self.rows(f"SELECT COUNT(*) FROM {table}")[0][0] for table in TABLES}

    def connect(
        self, vendor: Shapes, method: str, name: str, *more: str, **options: Any
    ) -> shapes.Provisioned:
        """A fresh principal and its connection, made by the command."""
        made, args = self.arguments(vendor, method, name, **options)
        self("connect", "shapes", method, "--name", name, *args, *more)
        return made

    def arguments(
        self, vendor: Shapes, method: str, name: str, **options: Any
    ) -> tuple[shapes.Provisioned, list[str]]:
        """A fresh principal, and the options that connect it."""
        made = shapes.provision(vendor.client, method, name, **options)
        args: list[str] = []
        found = shapes.system().method(method)
        assert found
        for field in found.fields:
            value = {**made.settings, **dict(made.material), **dict(made.admin or {})}.get(field.name)
            if value is None:
                continue
            if field.secret:
                variable = f"SECRET_{name}_{field.name}".upper().replace("-", "_")
                self.environment[variable] = value
                args += ["--secret", f"{field.name}=env:{variable}"]
            else:
                args += ["--set", f"{field.name}={value}"]
        return made, args


@pytest.fixture
def bare(tmp_path: Path) -> Line:
    """Before `keyturn init`."""
    return Line(tmp_path)


@pytest.fixture
def keyturn(bare: Line) -> Line:
    """An initialised hub."""
    bare("init")
    return bare


@pytest.fixture(scope="session")
def vendor() -> Iterator[Shapes]:
    """The vendor of every shape."""
    with Shapes.in_thread() as running:
        yield running


@pytest.fixture
def fresh_name(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Names that no other test uses at the shared vendor."""
    test = request.node.name.replace("[", "-").replace("]", "").removeprefix("test_")[:40]
    return lambda word: f"{word}-{test}"

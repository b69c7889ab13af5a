"""The lab's parts, each started when first asked for and kept for the whole process."""

from __future__ import annotations

import atexit
import itertools
import json
import shutil
import tempfile
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from keyturn.keymaking import rsa
from keyturn_lab.parts.aws import AwsServer, Key
from keyturn_lab.parts.child import PartMissing
from keyturn_lab.parts.mariadb import MariaDBServer, User
from keyturn_lab.parts.mysql8 import MySQL8Proxy
from keyturn_lab.parts.oidc import OidcServer
from keyturn_lab.parts.postgres import PostgresCluster, Role
from keyturn_lab.parts.redshift import RedshiftServer
from keyturn_lab.parts.redshift import User as RedshiftUser
from keyturn_lab.standin import running
from keyturn_lab.vendors.shapes import Shapes


@dataclass(frozen=True)
class StandIn:
    """A running stand-in and its admin doors."""

    url: str

    def post(self, door: str, body: Any) -> Any:
        request = urllib.request.Request(
            f"{self.url}/_lab/{door}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def get(self, door: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/_lab/{door}", timeout=10) as answer:
            return json.loads(answer.read())

    def arm(self, op: str, kind: str, **more: Any) -> None:
        self.post("faults", [{"op": op, "kind": kind, **more}])

    def alive(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("alive")
        return found

    def disarm(self) -> None:
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.url}/_lab/faults", method="DELETE"), timeout=10
        ):
            pass


class Lab:
    """Every part under one roof."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._numbers = itertools.count(1)
        self._folder = Path(tempfile.mkdtemp(prefix="kt-rows-"))
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self.app_keys: list[Key] = []

    def close(self) -> None:
        self._stack.close()

    def folder(self) -> Path:
        """An empty folder of its own."""
        made = self._folder / str(next(self._numbers))
        made.mkdir()
        return made

    def number(self) -> int:
        return next(self._numbers)

    @cached_property
    def postgres(self) -> PostgresCluster:
        return self._stack.enter_context(PostgresCluster(max_connections=80))

    @cached_property
    def rotator(self) -> Role:
        return self.postgres.create_rotator()

    @cached_property
    def mariadb(self) -> MariaDBServer:
        return self._stack.enter_context(MariaDBServer())

    @cached_property
    def mariadb_rotator(self) -> User:
        return self.mariadb.create_rotator()

    @cached_property
    def mysql8(self) -> MySQL8Proxy:
        return self._stack.enter_context(MySQL8Proxy(self.mariadb))

    @cached_property
    def redshift(self) -> RedshiftServer:
        return self._stack.enter_context(RedshiftServer())

    @cached_property
    def redshift_rotator(self) -> RedshiftUser:
        return self.redshift.create_user("rotator", superuser=True)

    @cached_property
    def aws(self) -> AwsServer:
        return self._stack.enter_context(AwsServer())

    @cached_property
    def oidc(self) -> OidcServer:
        return self._stack.enter_context(OidcServer())

    @cached_property
    def shapes(self) -> Shapes:
        return self._stack.enter_context(Shapes.in_thread())

    @cache  # noqa: B019 - one lab per process
    def vendor(self, name: str) -> StandIn:
        app = import_module(f"keyturn_lab.vendors.{name}.server").create_app()
        return StandIn(self._stack.enter_context(running(app)))

    @cache  # noqa: B019 - one lab per process
    def pair(self, number: int) -> rsa.KeyPair:
        return rsa.generate()


@cache
def the_lab() -> Lab:
    """The process's one lab."""
    made = Lab()
    atexit.register(made.close)
    return made


def or_skip(start: Any) -> Any:
    """A part, or a skip where a program it needs is not installed."""
    import pytest

    try:
        return start()
    except PartMissing as missing:
        pytest.skip(str(missing))

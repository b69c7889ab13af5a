"""A real PostgreSQL for the whole session; every test makes its own roles in it."""

import itertools
from types import SimpleNamespace

import pytest
from tests.compliance.lab import or_skip

from keyturn.contract.values import Access, NetworkPolicy
from keyturn.model.secret import Material
from keyturn.transport import sql
from keyturn_lab.parts.postgres import PostgresCluster

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster():
    started = or_skip(PostgresCluster(max_connections=60).start)
    yield started
    sql.close_idle()
    started.stop()


@pytest.fixture(scope="session")
def rotator(cluster):
    return cluster.create_rotator()


@pytest.fixture
def prefix():
    return f"t{next(_numbers)}"


def material(role):
    return Material({"user": role.name, "password": role.password}, frozenset({"user"}))


def admin_material(role):
    return Material({"admin_user": role.name, "admin_password": role.password}, frozenset({"admin_user"}))


@pytest.fixture
def access(cluster):
    """`access(acting=role, admin=role, **settings)` at the test server."""

    def make(acting=None, admin=None, deadline_s=10.0, **settings):
        known = {"host": cluster.host, "port": cluster.port, "database": "postgres", "sslmode": "disable"}
        return Access(
            settings={**known, **settings},
            acting=material(acting) if acting else None,
            admin=admin_material(admin) if admin else None,
            deadline_s=deadline_s,
            network=NetworkPolicy(frozenset({cluster.host})),
        )

    return make


@pytest.fixture
def pair(cluster, prefix, rotator, access):
    """Two roles that take turns, with the access and settings of their connection."""
    roles = cluster.two_role_setup(prefix)
    settings = {
        "roles": "two",
        "role_a": roles.active.name,
        "role_b": roles.idle,
        "group_role": roles.owner,
    }
    reach = access(roles.active, rotator, **settings)
    return SimpleNamespace(roles=roles, access=reach, settings=settings, current=material(roles.active))


@pytest.fixture
def params(cluster):
    """`params(user, password, **changes)` of a login at the test server."""
    from keyturn.model.secret import Secret

    def make(user, password, **changes):
        known = {"host": cluster.host, "port": cluster.port, "database": "postgres", "sslmode": "disable"}
        known["network"] = NetworkPolicy(frozenset({cluster.host}))
        return sql.Login(**{**known, "user": user, "password": Secret(password), **changes})

    return make

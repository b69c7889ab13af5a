"""MySQL and MariaDB: one user by an administrator or by itself, one with two passwords, and two that take turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

from keyturn.contract.values import Access
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.testing import Reads, Relay
from keyturn_lab.parts.mariadb import User, native_hash
from tests.compliance.case import Case, undone
from tests.compliance.lab import Lab


def _base(lab: Lab) -> dict[str, str]:
    return {
        "host": lab.mariadb.host,
        "port": str(lab.mariadb.port),
        "database": "mysql_app",
        "sslmode": "disable",
    }


def _admin(lab: Lab) -> dict[str, str]:
    return {"admin_user": lab.mariadb_rotator.name, "admin_password": lab.mariadb_rotator.password}


def _user(lab: Lab, prefix: str, plugin: str = "mysql_native_password") -> User:
    user = lab.mariadb.create_user(f"{prefix}_{lab.number()}", plugin=plugin)
    lab.mariadb.run(
        "CREATE DATABASE IF NOT EXISTS mysql_app", f"GRANT SELECT ON mysql_app.* TO {user.account}"
    )
    return user


@contextmanager
def _lost(lab: Lab, mark: bytes, access: Access, call: str) -> Iterator[Access]:
    del call
    with Relay(lab.mariadb.host, lab.mariadb.port, mark) as relay:
        yield replace(access, settings={**access.settings, "host": relay.host, "port": relay.port})
        assert relay.lost.is_set(), "nothing was changed through the relay"


def _material(user: User) -> Material:
    return Material({"user": user.name, "password": user.password}, frozenset({"user"}))


def _reads(lab: Lab) -> Reads:
    lab.mariadb.run(
        "CREATE DATABASE IF NOT EXISTS mysql_app",
        "CREATE DATABASE IF NOT EXISTS mysql_closed",
        "CREATE TABLE IF NOT EXISTS mysql_app.orders (n int primary key)",
        "CREATE TABLE IF NOT EXISTS mysql_app.empty (n int)",
        "CREATE TABLE IF NOT EXISTS mysql_closed.orders (n int)",
        "INSERT IGNORE INTO mysql_app.orders VALUES (1), (2), (3)",
    )
    return Reads("orders", 3, ("nowhere", "mysql_closed.orders", ""), "empty", {"mysql_app.orders": 3})


def _case(lab: Lab, user: User, other: User, values: Mapping[str, str], mark: bytes, *names: str) -> Case:
    owners = {user.name, *names}

    def limit(number: int) -> None:
        lab.mariadb.run(f"ALTER USER {user.account} WITH MAX_USER_CONNECTIONS {number}")

    return Case(
        "mysql",
        "password",
        values,
        alive=lambda: {each["facts"]["verifier"] for each in lab.mariadb.alive() if each["owner"] in owners},
        of=lambda material: _stored(lab, material),
        wrong_values={**values, "password": "ktlab-not-the-password"},
        wrong=lambda good: [
            good.replacing(password="ktlab-wrong-password"),
            Material({"user": "nobody_here", "password": "ktlab-wrong-password"}, good.public),
        ],
        codes=frozenset({"1045"}),
        aim=lambda aim: {"host": aim.host, "port": aim.port},
        reads=_reads(lab),
        secured=lambda authority: {"sslmode": "verify-full", "ca": authority},
        to_tls="mysql",
        throttled=lambda: undone(partial(limit, -1), partial(limit, 0)),
        elsewhere=lambda access: nullcontext((access, _material(other))),
        lost=partial(_lost, lab, mark),
        server_speaks_first=True,
    )


def _stored(lab: Lab, material: Material) -> str:
    """What the server keeps of this value if it opens the user; else something that is in no inventory."""
    if not lab.mariadb.accepts(User(material["user"], material["password"])):
        return "not alive"
    found = {each["facts"]["verifier"] for each in lab.mariadb.alive() if each["owner"] == material["user"]}
    native = native_hash(material["password"])
    return native if native in found else next(iter(found))


def mysql_admin(lab: Lab) -> Case:
    user, other = _user(lab, "one"), _user(lab, "other")
    values = {**_base(lab), "user": user.name, "password": user.password, **_admin(lab)}
    return _case(lab, user, other, values, b"ALTER USER")


def mysql_self(lab: Lab) -> Case:
    user, other = _user(lab, "one"), _user(lab, "other")
    return _case(
        lab, user, other, {**_base(lab), "user": user.name, "password": user.password}, b"SET PASSWORD"
    )


def mysql_ed25519(lab: Lab) -> Case:
    """The lab's own client cannot sign for ed25519: this row is judged by the server's own word."""
    user, other = _user(lab, "one", "ed25519"), _user(lab, "other", "ed25519")
    values = {**_base(lab), "user": user.name, "password": user.password, "plugin": "ed25519", **_admin(lab)}
    case = _case(lab, user, other, values, b"ALTER USER")
    return replace(case, of=lambda material: _key(lab, material))


def _key(lab: Lab, material: Material) -> str:
    """The server works the key out by itself, so that our arithmetic is not its own judge."""
    judge = f"judge_{lab.number()}"
    with lab.mariadb.connect() as cursor:
        cursor.execute(
            f"CREATE USER {judge} IDENTIFIED VIA ed25519 USING PASSWORD(%s)", [material["password"]]
        )
        cursor.execute(
            "SELECT JSON_VALUE(priv, '$.authentication_string') FROM mysql.global_priv WHERE user = %s",
            [judge],
        )
        found = str(cursor.fetchone()[0])
        cursor.execute(f"DROP USER {judge}")
    return found


def mysql_overlap(lab: Lab) -> Case:
    user, other = _user(lab, "both"), _user(lab, "other")
    values = {
        **_base(lab),
        "pattern": "overlap",
        "user": user.name,
        "password": user.password,
        **_admin(lab),
    }
    return _case(lab, user, other, values, b"ALTER USER")


def mysql_dual(lab: Lab) -> Case:
    """MySQL's dual password, against the lab's proxy in front of the same MariaDB."""
    case, mysql = mysql_overlap(lab), lab.mysql8
    values = {**case.values, "pattern": "dual", "port": str(mysql.port)}

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        del call
        with Relay(mysql.host, mysql.port, b"ALTER USER") as relay:
            yield replace(access, settings={**access.settings, "host": relay.host, "port": relay.port})
            assert relay.lost.is_set(), "nothing was changed through the relay"

    return replace(case, values=values, wrong_values={**values, "password": "ktlab-wrong"}, lost=lost)


def mysql_two(lab: Lab) -> Case:
    made = lab.mariadb.two_user_setup(f"two{lab.number()}")
    stranger = lab.mariadb.two_user_setup(f"two{lab.number()}")
    values = {
        **_base(lab),
        "pattern": "two",
        "user": made.active.name,
        "password": made.active.password,
        "user_a": made.active.name,
        "user_b": made.idle,
        "role": made.role,
        **_admin(lab),
    }
    case = _case(lab, made.active, stranger.active, values, b"ALTER USER", made.idle)
    return replace(
        case,
        wrong=lambda good: [good.replacing(password="ktlab-wrong-password")],
        slot=Ref(id="user_b", slot="user_b"),
        codes=frozenset({"1045", "4151"}),
    )


ROWS = {
    "mysql/password by an administrator": mysql_admin,
    "mysql/password by itself": mysql_self,
    "mysql/password ed25519": mysql_ed25519,
    "mysql/password two at once": mysql_overlap,
    "mysql/password dual": mysql_dual,
    "mysql/password two users": mysql_two,
}

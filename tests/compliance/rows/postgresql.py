"""PostgreSQL: one role by an administrator or by itself, and two roles that take turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

from keyturn.contract.values import Access
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.testing import Reads, Relay
from keyturn_lab.parts.postgres import Role
from tests.compliance.case import Case, undone
from tests.compliance.lab import Lab


def _sql(lab: Lab, statement: str) -> None:
    with lab.postgres.connect() as session:
        session.execute(statement)


def _opens(lab: Lab, material: Mapping[str, str]) -> bool:
    return bool(lab.postgres.accepts(Role(material["user"], material["password"])))


def _pg_base(lab: Lab) -> dict[str, str]:
    return {
        "host": lab.postgres.host,
        "port": str(lab.postgres.port),
        "database": "postgres",
        "sslmode": "disable",
    }


@contextmanager
def _pg_lost(lab: Lab, access: Access, call: str) -> Iterator[Access]:
    del call
    with Relay(lab.postgres.host, lab.postgres.port, b"ALTER ROLE") as relay:
        yield replace(access, settings={**access.settings, "host": relay.host, "port": relay.port})
        assert relay.lost.is_set(), "nothing was changed through the relay"


def _pg_one(lab: Lab, *, admin: bool) -> Case:
    role = lab.postgres.create_role(f"one_{lab.number()}")
    other = lab.postgres.create_role(f"other_{lab.number()}")
    values = {**_pg_base(lab), "user": role.name, "password": role.password}
    if admin:
        values |= {"admin_user": lab.rotator.name, "admin_password": lab.rotator.password}

    def alive() -> set[str]:
        return {each["facts"]["verifier"] for each in lab.postgres.alive() if each["id"] == role.name}

    return Case(
        "postgresql",
        "password",
        values,
        alive=alive,
        of=lambda material: _verifier_that(lab, material),
        wrong_values={**values, "password": "ktlab-not-the-password"},
        wrong=lambda good: [
            good.replacing(password="ktlab-wrong-password"),
            Material({"user": "nobody_here", "password": "ktlab-wrong-password"}, good.public),
        ],
        codes=frozenset({"28P01", "28000"}),
        aim=lambda aim: {"host": aim.host, "port": aim.port},
        reads=_reads(lab),
        secured=lambda authority: {"sslmode": "verify-full", "ca": authority},
        to_tls="postgres",
        throttled=lambda: undone(
            lambda: _sql(lab, f"ALTER ROLE {role.name} CONNECTION LIMIT 0"),
            lambda: _sql(lab, f"ALTER ROLE {role.name} CONNECTION LIMIT -1"),
        ),
        elsewhere=lambda access: nullcontext(
            (access, Material({"user": other.name, "password": other.password}, frozenset({"user"})))
        ),
        lost=partial(_pg_lost, lab),
    )


def _reads(lab: Lab) -> Reads:
    """Any role sees how many there are of the system's own; what nobody was granted is there as well."""
    _sql(lab, "CREATE SCHEMA IF NOT EXISTS shop; GRANT USAGE ON SCHEMA shop TO PUBLIC")
    _sql(lab, 'CREATE TABLE IF NOT EXISTS shop."Orders" AS SELECT n FROM generate_series(1, 3) n')
    _sql(lab, "CREATE TABLE IF NOT EXISTS shop.empty (n int); CREATE TABLE IF NOT EXISTS shop.closed (n int)")
    _sql(lab, 'GRANT SELECT ON shop."Orders", shop.empty TO PUBLIC')
    return Reads("shop.Orders", 3, ("shop.nowhere", "shop.closed", "shop.orders", ""), "shop.empty")


def _verifier_that(lab: Lab, material: Material) -> str:
    """The verifier the server holds if this value opens it; else something that is in no inventory."""
    if not _opens(lab, material):
        return "not alive"
    return next(each["facts"]["verifier"] for each in lab.postgres.alive() if each["id"] == material["user"])


def postgresql_admin(lab: Lab) -> Case:
    return _pg_one(lab, admin=True)


def postgresql_self(lab: Lab) -> Case:
    return _pg_one(lab, admin=False)


def postgresql_two(lab: Lab) -> Case:
    made = lab.postgres.two_role_setup(f"two{lab.number()}")
    stranger = lab.postgres.two_role_setup(f"two{lab.number()}")
    values = {
        **_pg_base(lab),
        "roles": "two",
        "user": made.active.name,
        "password": made.active.password,
        "role_a": made.active.name,
        "role_b": made.idle,
        "group_role": made.owner,
        "admin_user": lab.rotator.name,
        "admin_password": lab.rotator.password,
    }
    names = {made.active.name, made.idle}
    return Case(
        "postgresql",
        "password",
        values,
        alive=lambda: {e["facts"]["verifier"] for e in lab.postgres.alive() if e["id"] in names},
        of=lambda material: _verifier_that(lab, material),
        wrong_values={**values, "password": "ktlab-not-the-password"},
        wrong=lambda good: [good.replacing(password="ktlab-wrong-password")],
        codes=frozenset({"28P01", "28000"}),
        aim=lambda aim: {"host": aim.host, "port": aim.port},
        reads=_reads(lab),
        secured=lambda authority: {"sslmode": "verify-full", "ca": authority},
        to_tls="postgres",
        throttled=lambda: undone(
            lambda: _sql(lab, f"ALTER ROLE {made.active.name} CONNECTION LIMIT 0"),
            lambda: _sql(lab, f"ALTER ROLE {made.active.name} CONNECTION LIMIT -1"),
        ),
        elsewhere=lambda access: nullcontext(
            (
                access,
                Material(
                    {"user": stranger.active.name, "password": stranger.active.password}, frozenset({"user"})
                ),
            )
        ),
        lost=partial(_pg_lost, lab),
        slot=Ref(id="role_b", slot="role_b"),
    )


ROWS = {
    "postgresql/password by an administrator": postgresql_admin,
    "postgresql/password by itself": postgresql_self,
    "postgresql/password two roles": postgresql_two,
}

"""Redshift: one user by an administrator or by itself, and two users that take turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

from keyturn.contract.values import Access
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.testing import Reads, Relay
from keyturn_lab.parts.redshift import User
from tests.compliance.case import Case, undone
from tests.compliance.lab import Lab


@contextmanager
def _lost(lab: Lab, access: Access, call: str) -> Iterator[Access]:
    del call
    with Relay(lab.redshift.host, lab.redshift.port, b"ALTER USER") as relay:
        yield replace(access, settings={**access.settings, "host": relay.host, "port": relay.port})
        assert relay.lost.is_set(), "nothing was changed through the relay"


def _base(lab: Lab) -> dict[str, str]:
    place = lab.redshift
    return {"host": place.host, "port": str(place.port), "database": "postgres", "sslmode": "disable"}


def _admin(lab: Lab) -> dict[str, str]:
    return {"admin_user": lab.redshift_rotator.name, "admin_password": lab.redshift_rotator.password}


def _digest_that(lab: Lab, material: Material) -> str:
    """What is stored if Amazon's own driver gets in with this value; else something that is in no inventory."""
    if not lab.redshift.accepts(User(material["user"], material["password"])):
        return "not alive"
    return next(each["facts"]["verifier"] for each in lab.redshift.alive() if each["id"] == material["user"])


def _reads(lab: Lab) -> Reads:
    lab.redshift.run(
        "CREATE SCHEMA IF NOT EXISTS shop",
        "GRANT USAGE ON SCHEMA shop TO PUBLIC",
        "CREATE TABLE IF NOT EXISTS shop.orders AS SELECT n FROM generate_series(1, 3) n",
        "CREATE TABLE IF NOT EXISTS shop.empty (n int)",
        "CREATE TABLE IF NOT EXISTS shop.closed (n int)",
        "GRANT SELECT ON shop.orders, shop.empty TO PUBLIC",
    )
    return Reads("shop.orders", 3, ("shop.nowhere", "shop.closed", ""), "shop.empty")


def _case(lab: Lab, user: User, other: User, values: Mapping[str, str], *names: str) -> Case:
    owners = {user.name, *names}

    def limit(number: int) -> None:
        lab.redshift.run(f"ALTER USER {user.name} CONNECTION LIMIT {number}")

    return Case(
        "redshift",
        "password",
        values,
        alive=lambda: {e["facts"]["verifier"] for e in lab.redshift.alive() if e["id"] in owners},
        of=lambda material: _digest_that(lab, material),
        wrong_values={**values, "password": "ktlab-not-the-password"},
        wrong=lambda good: [
            good.replacing(password="ktlab-wrong-password"),
            Material({"user": "nobody_here", "password": "ktlab-wrong-password"}, good.public),
        ],
        codes=frozenset({"28000"}),
        aim=lambda aim: {"host": aim.host, "port": aim.port},
        reads=_reads(lab),
        secured=lambda authority: {"sslmode": "verify-full", "ca": authority},
        to_tls="postgres",
        throttled=lambda: undone(partial(limit, 0), partial(limit, -1)),
        elsewhere=lambda access: nullcontext(
            (access, Material({"user": other.name, "password": other.password}, frozenset({"user"})))
        ),
        lost=partial(_lost, lab),
    )


def redshift_admin(lab: Lab) -> Case:
    user, other = (lab.redshift.create_user(f"{each}_{lab.number()}") for each in ("one", "other"))
    return _case(
        lab, user, other, {**_base(lab), "user": user.name, "password": user.password, **_admin(lab)}
    )


def redshift_self(lab: Lab) -> Case:
    user, other = (lab.redshift.create_user(f"{each}_{lab.number()}") for each in ("one", "other"))
    return _case(lab, user, other, {**_base(lab), "user": user.name, "password": user.password})


def redshift_two(lab: Lab) -> Case:
    made, stranger = (lab.redshift.two_user_setup(f"two{lab.number()}") for _ in range(2))
    values = {
        **_base(lab),
        "users": "two",
        "user": made.active.name,
        "password": made.active.password,
        "user_a": made.active.name,
        "user_b": made.idle,
        "group": made.group,
        **_admin(lab),
    }
    case = _case(lab, made.active, stranger.active, values, made.idle)
    return replace(
        case,
        wrong=lambda good: [good.replacing(password="ktlab-wrong-password")],
        slot=Ref(id="user_b", slot="user_b"),
    )


ROWS = {
    "redshift/password by an administrator": redshift_admin,
    "redshift/password by itself": redshift_self,
    "redshift/password two users": redshift_two,
}

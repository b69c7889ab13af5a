"""SAP Datasphere: one database user reset by a person or by the hub, and two that take turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from keyturn.contract.values import Access
from keyturn.model.credential import Ref
from keyturn.model.run import Task
from keyturn.model.secret import Material
from keyturn.testing import Reads
from keyturn_lab.vendors.sap_datasphere import people
from tests.compliance.case import Case, undone
from tests.compliance.lab import Lab, StandIn

BY_HAND, BY_HUB, PAIR = "SALES#GAINSIGHT", "SALES#GAINSIGHT_H", ("SALES#GAINSIGHT_A", "SALES#GAINSIGHT_B")
STRANGER = "FINANCE#OTHER"


def _fresh(lab: Lab, user: str) -> tuple[StandIn, dict[str, str]]:
    """A reset tenant, and what every variant's form has; each variant has a user of its own, so one hub can hold them all.
    Odd values are tried on one user: no lock in their way."""
    there = lab.vendor("sap_datasphere")
    there.post("reset", {})
    there.post("settings", {"max_failures": 100_000})
    there.post("dials", {"settle_s": 0.1, "linger_s": 0.1, "latency_s": 0.001})
    where = there.get("sql")
    values = {
        "host": where["host"],
        "port": str(where["port"]),
        "tls": "false",
        "user": user,
        "password": _first(there, user),
        "read_table": "SALES.REVENUE",
    }
    return there, values


def _first(there: StandIn, user: str) -> str:
    there.post("dials", {"settle_s": 0})
    found: str = there.post("users", {"name": user, "password": True})["password"]
    there.post("dials", {"settle_s": 0.1})
    return found


def _by_hub(there: StandIn) -> dict[str, str]:
    client = next(each for each in there.get("clients") if each["spaces"])
    return {
        "tenant": there.url,
        "token_url": f"{there.url}/oauth/token",
        "admin_client_id": client["client_id"],
        "admin_client_secret": client["client_secret"],
    }


def _case(there: StandIn, values: dict[str, str]) -> Case:
    user = values["user"]

    def person(task: Task) -> dict[str, str]:
        fresh = people.request_password(there.url, user)
        return {} if task.kind == "delete" else {"user": user, "password": fresh}

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        del call  # both are a reset
        there.arm("reset", "answer_lost")
        yield access

    other = _first(there, STRANGER)
    return Case(
        "sap-datasphere",
        "password",
        values,
        alive=lambda: {each["value"] for each in there.alive() if each["owner"] == user},
        of=lambda material: material["password"],
        wrong_values={**values, "password": "ktlab-not-the-password"},
        person=person,
        wrong=lambda good: [
            good.replacing(password="ktlab-wrong-password"),
            Material({"user": "SALES#NOBODY", "password": "ktlab-wrong-password"}, good.public),
        ],
        codes=frozenset({"10"}),
        aim=lambda aim: {
            "host": aim.host,
            "port": aim.port,
            "tenant": aim.url,
            "token_url": f"{aim.url}/oauth/token",
        },
        reads=Reads(
            "SALES.REVENUE", 3, ("SALES.NOWHERE", "FINANCE.LEDGER", "REVENUE"), "SALES.EMPTY", {"": 3}
        ),
        secured=lambda _authority: {"tls": True},
        throttled=lambda: undone(
            lambda: there.post("users", {"name": user, "locked": True}),
            lambda: there.post("users", {"name": user, "unlocked": True}),
        ),
        throttle_says_wait=False,  # a lock is told, and not for how long it lasts
        elsewhere=lambda access: nullcontext(
            (
                Access({**access.settings, "read_table": "FINANCE.LEDGER"}, network=access.network),
                Material({"user": STRANGER, "password": other}, frozenset({"user"})),
            )
        ),
        lost=lost,
    )


def datasphere_person(lab: Lab) -> Case:
    there, values = _fresh(lab, BY_HAND)
    return _case(there, values)


def datasphere_hub(lab: Lab) -> Case:
    there, values = _fresh(lab, BY_HUB)
    return _case(there, {**values, "users": "one by the hub", **_by_hub(there)})


def datasphere_two(lab: Lab) -> Case:
    first, second = PAIR
    there, values = _fresh(lab, first)
    there.post("users", {"name": second})
    pair = {"users": "two", "user_a": first, "user_b": second}
    case = _case(there, {**values, **pair, **_by_hub(there)})
    case.slot = Ref(id="user_b", slot="user_b")
    # What the retired user was reset to is accepted at the vendor and known to nobody: nobody ever used it.
    case.alive = lambda: {
        each["value"] for each in there.alive() if each["owner"] in PAIR and each["facts"]["used"]
    }
    return case


ROWS = {
    "sap-datasphere/password by a person": datasphere_person,
    "sap-datasphere/password by the hub": datasphere_hub,
    "sap-datasphere/password two users": datasphere_two,
}

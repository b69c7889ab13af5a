"""Mixpanel: a service account made and deleted by a manager account, and one that is admin itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from keyturn.contract.values import Access
from keyturn.model.run import Task
from keyturn.model.secret import Material
from keyturn.testing import Reads
from keyturn_lab.vendors.mixpanel import people
from keyturn_lab.vendors.mixpanel.state import ACME, EVENTS, FOREIGN, GLOBEX, MOBILE
from tests.compliance.case import Case, spoiled, undone
from tests.compliance.lab import Lab

PUBLIC = frozenset({"username"})


def _case(lab: Lab, role: str, *, managed: bool) -> Case:
    there = lab.vendor("mixpanel")
    there.post("reset", {})
    there.post("dials", {"settle_s": 0.1, "linger_s": 0.1})
    roles = {EVENTS: "analyst", MOBILE: "consumer"} if managed else {EVENTS: role, MOBILE: "analyst"}
    first = there.post("make", {"organization": ACME, "name": "gainsight", "role": role, "projects": roles})
    values = {
        "base_url": there.url,
        "organization_id": str(ACME),
        "project_id": str(EVENTS),
        "name": "gainsight",
        "memberships": ",".join(f"{number}:{each}" for number, each in roles.items()),
        "username": first["username"],
        "secret": first["secret"],
    }
    manager = ""
    if managed:
        made = there.post("make", {"organization": ACME, "name": "keyturn", "role": "owner"})
        manager = str(made["id"])
        values |= {"admin_username": made["username"], "admin_secret": made["secret"]}

    def person(task: Task) -> dict[str, str]:
        if task.kind != "supply":
            return {}
        name, secret = people.add_service_account(there.url, "gainsight", role, EVENTS)
        time.sleep(0.12)
        return {"username": name, "secret": secret}

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        there.arm({"issue": "create_account", "revoke": "delete_account"}[call], "answer_lost")
        yield access

    @contextmanager
    def elsewhere(access: Access) -> Iterator[tuple[Access, Material]]:
        other = there.post(
            "make", {"organization": GLOBEX, "name": "theirs", "projects": {str(FOREIGN): "analyst"}}
        )
        time.sleep(0.12)
        yield access, Material({"username": other["username"], "secret": other["secret"]}, PUBLIC)

    def alive() -> set[str]:
        ours = [e for e in there.alive() if e["kind"] == "service_account" and e["owner"] == str(ACME)]
        return {each["value"] for each in ours if each["id"] != manager}

    time.sleep(0.12)
    return Case(
        "mixpanel",
        "service_account",
        values,
        alive=alive,
        of=lambda material: material["secret"],
        wrong_values={**values, "secret": "0" * 32},
        person=person,
        wrong=lambda good: [
            good.replacing(secret="0" * 32),
            good.replacing(username="nobody.000000.mp-service-account"),
        ],
        codes=frozenset({"401"}),
        aim=lambda aim: {"base_url": aim.url},
        reads=Reads(
            "", 3, (str(FOREIGN), "everything"), more={str(EVENTS): 3}, spoil=spoiled(there, "query")
        ),
        throttled=lambda: undone(lambda: there.arm("*", "throttle"), there.disarm),
        throttle_says_wait=False,  # Mixpanel documents no header
        elsewhere=elsewhere,
        lost=lost,
    )


def by_a_manager(lab: Lab) -> Case:
    """An account with small roles in two projects, and a manager that is owner of the organization."""
    return _case(lab, "consumer", managed=True)


def by_itself(lab: Lab) -> Case:
    """An account that is admin of the organization makes its own successor."""
    return _case(lab, "admin", managed=False)


ROWS = {
    "mixpanel/service_account": by_a_manager,
    "mixpanel/service_account by itself": by_itself,
}

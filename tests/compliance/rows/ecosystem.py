"""Ecosystems: one key that a reset replaces, and several that overlap."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from keyturn.contract.values import Access
from keyturn.model.run import Task
from keyturn.model.secret import Material
from keyturn.testing import Reads
from keyturn_lab.vendors.ecosystem import people
from tests.compliance.case import Case, spoiled, undone
from tests.compliance.lab import Lab

ACCOUNT, ELSEWHERE = "acme", "globex"
WRONG = "ktlabNotTheKeyAtAll01"
PATH = "/v1/value-drivers"


def one_key(lab: Lab) -> Case:
    return _ecosystem(lab, several=False)


def several_keys(lab: Lab) -> Case:
    return _ecosystem(lab, several=True)


def _ecosystem(lab: Lab, *, several: bool) -> Case:
    there = lab.vendor("ecosystem")
    there.post("reset", {})
    there.post("dials", {"settle_s": 0.1, "linger_s": 0.1})
    there.post("settings", {"several_keys": several})
    values = {
        "address": there.url + PATH,
        "expects": "valueDrivers",
        "account_member": "account",
        "keys": "several" if several else "one",
        "access_key": people.make_key(there.url, ACCOUNT, "first key"),
        "key_name": "first key",
    }

    def person(task: Task) -> dict[str, str]:
        if task.kind == "supply":
            name = f"keyturn {lab.number()}"
            named = {"key_name": name} if several else {}
            return {"access_key": people.make_key(there.url, ACCOUNT, name), **named}
        texts = [str(each["text"]) for each in task.instructions]
        known = people.key_names(there.url, ACCOUNT)
        named_here = [name for name in known if any(text.endswith(f"named {name}") for text in texts)]
        people.end_key(there.url, ACCOUNT, named_here[0] if several else "")
        return {}

    @contextmanager
    def elsewhere(access: Access) -> Iterator[tuple[Access, Material]]:
        other = people.make_key(there.url, ELSEWHERE, "another's key")
        time.sleep(0.15)
        yield access, Material({"access_key": other})

    time.sleep(0.15)
    return Case(
        "ecosystem",
        "access_key",
        values,
        alive=lambda: {each["value"] for each in there.alive() if each["owner"] == ACCOUNT},
        of=lambda material: material["access_key"],
        wrong_values={**values, "access_key": WRONG},
        person=person,
        wrong=lambda good: [good.replacing(access_key=WRONG)],
        codes=frozenset({"401"}),
        aim=lambda aim: {"address": aim.url + PATH},
        reads=Reads(
            "valueDrivers", 2, ("unicorns", "account"), more={"": 2}, spoil=spoiled(there, "value_drivers")
        ),
        throttled=lambda: undone(lambda: there.arm("*", "throttle"), there.disarm),
        elsewhere=elsewhere,
    )


ROWS = {
    "ecosystem/access_key": one_key,
    "ecosystem/access_key several keys": several_keys,
}

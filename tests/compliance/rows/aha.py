"""Aha!"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from keyturn.contract.values import Access
from keyturn.model.run import Task
from keyturn.model.secret import Material
from keyturn.testing import Reads
from keyturn_lab import people
from tests.compliance.case import ME, OTHER, Case, spoiled, undone
from tests.compliance.lab import Lab


def aha(lab: Lab) -> Case:
    there = lab.vendor("aha")
    there.post("reset", {})
    there.post("dials", {"settle_s": 0.1, "linger_s": 0.1})
    there.post(
        "settings", {"per_minute": 100_000, "per_second": 1000}
    )  # the suite asks more often than it allows
    key = people.aha_generate_key(there.url, ME, "first key")
    values = {"subdomain": "acme", "base_url": there.url, "api_key": key, "key_name": "first key"}

    def person(task: Task) -> dict[str, str]:
        if task.kind == "supply":
            name = f"keyturn {lab.number()}"
            return {"api_key": people.aha_generate_key(there.url, ME, name), "key_name": name}
        known = people.aha_key_names(there.url, ME)
        text = " ".join(str(each["text"]) for each in task.instructions)
        (named,) = [name for name in known if f"named {name}" in text]
        people.aha_delete_key(there.url, ME, named)
        return {}

    @contextmanager
    def elsewhere(access: Access) -> Iterator[tuple[Access, Material]]:
        other = people.aha_generate_key(there.url, OTHER, "another's key")
        time.sleep(0.15)
        yield access, Material({"api_key": other})

    time.sleep(0.15)
    return Case(
        "aha",
        "api_key",
        values,
        alive=lambda: {each["value"] for each in there.alive() if each["owner"] == ME},
        of=lambda material: material["api_key"],
        wrong_values={**values, "api_key": "ktlabNotTheKeyAtAll01"},
        person=person,
        wrong=lambda good: [good.replacing(api_key="ktlabNotTheKeyAtAll01")],
        codes=frozenset({"401", "credential_invalid"}),
        aim=lambda aim: {"base_url": aim.url},
        reads=Reads("products", 2, ("everything",), more={"": 2}, spoil=spoiled(there, "products")),
        own_words=frozenset({"html page that refuses"}),  # a 401 of Aha may be a page: its sheet, section 8
        throttled=lambda: undone(lambda: there.arm("*", "throttle"), there.disarm),
        elsewhere=elsewhere,
    )


ROWS = {
    "aha/api_key": aha,
}

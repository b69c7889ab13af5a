"""Productboard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from keyturn.contract.values import Access
from keyturn.model.run import Task
from keyturn.model.secret import Material
from keyturn.testing import Reads
from keyturn_lab.vendors.productboard import people
from tests.compliance.case import ME, Case, spoiled, undone
from tests.compliance.lab import Lab

ELSEWHERE = "integration@globex.example"
WRONG = "ktlab.notTheToken.atAll01"


def productboard(lab: Lab) -> Case:
    there = lab.vendor("productboard")
    there.post("reset", {})
    there.post("dials", {"settle_s": 0.1, "linger_s": 0.1})
    token = people.create_token(there.url, ME, "first token")
    values = {
        "workspace": "acme",
        "base_url": there.url,
        "access_token": token,
        "token_name": "first token",
    }

    def person(task: Task) -> dict[str, str]:
        if task.kind == "supply":
            name = f"keyturn {lab.number()}"
            return {"access_token": people.create_token(there.url, ME, name), "token_name": name}
        text = " ".join(str(each["text"]) for each in task.instructions)
        (named,) = [name for name in people.token_names(there.url, ME) if text.endswith(f"named {name}")]
        people.delete_token(there.url, ME, named)
        return {}

    @contextmanager
    def elsewhere(access: Access) -> Iterator[tuple[Access, Material]]:
        """A token of another workspace works at the same host."""
        other = people.create_token(there.url, ELSEWHERE, "another workspace's")
        time.sleep(0.15)
        yield access, Material({"access_token": other})

    time.sleep(0.15)
    return Case(
        "productboard",
        "access_token",
        values,
        alive=lambda: {each["value"] for each in there.alive() if each["owner"] == ME},
        of=lambda material: material["access_token"],
        wrong_values={**values, "access_token": WRONG},
        person=person,
        wrong=lambda good: [
            good.replacing(access_token=WRONG),
            good.replacing(access_token="ktlabNotEvenOfTheRightForm01"),
        ],
        codes=frozenset({"credential_invalid"}),
        aim=lambda aim: {"base_url": aim.url},
        reads=Reads("notes", 3, ("everything",), more={"features": 1}, spoil=spoiled(there, "notes")),
        throttled=lambda: undone(lambda: there.arm("*", "throttle"), there.disarm),
        elsewhere=elsewhere,
    )


ROWS = {
    "productboard/access_token": productboard,
}

"""Freshdesk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from keyturn.contract.values import Access
from keyturn.model.run import Task
from keyturn.model.secret import Material
from keyturn_lab import people
from tests.compliance.case import ME, OTHER, Case, undone
from tests.compliance.lab import Lab


def freshdesk(lab: Lab) -> Case:
    there = lab.vendor("freshdesk")
    there.post("reset", {})
    there.post("dials", {"settle_s": 0.1, "linger_s": 0.1})
    key = people.freshdesk_view_key(there.url, ME)
    values = {"domain": "acme", "base_url": there.url, "api_key": key}

    def person(task: Task) -> dict[str, str]:
        made = people.freshdesk_reset_key(there.url, ME)
        return {"api_key": made} if task.kind == "supply" else {}

    @contextmanager
    def elsewhere(access: Access) -> Iterator[tuple[Access, Material]]:
        yield access, Material({"api_key": people.freshdesk_view_key(there.url, OTHER)})

    return Case(
        "freshdesk",
        "api_key",
        values,
        alive=lambda: {each["value"] for each in there.alive() if each["owner"] == ME},
        of=lambda material: material["api_key"],
        wrong_values={**values, "api_key": "ktlabNotTheKeyAtAll01"},
        person=person,
        wrong=lambda good: [good.replacing(api_key="ktlabNotTheKeyAtAll01")],
        codes=frozenset({"401 invalid_credentials", "invalid_credentials", "401", "credential_invalid"}),
        aim=lambda aim: {"base_url": aim.url},
        throttled=lambda: undone(lambda: there.arm("*", "throttle"), there.disarm),
        elsewhere=elsewhere,
    )


ROWS = {
    "freshdesk/api_key": freshdesk,
}

"""Freshdesk: one agent whose key is reset, and two agents that take turns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from keyturn.contract.values import Access
from keyturn.model.run import Task
from keyturn.model.secret import Material
from keyturn.testing import Reads
from keyturn_lab import people
from tests.compliance.case import ME, OTHER, Case, spoiled, undone
from tests.compliance.lab import Lab, StandIn

STANDBY = "standby@acme.example"
WRONG = "ktlabNotTheKeyAtAll01"


def one_agent(lab: Lab) -> Case:
    there = _fresh(lab)
    values = {
        "domain": "acme",
        "base_url": there.url,
        "api_key": people.freshdesk_view_key(there.url, ME),
    }

    def person(task: Task) -> dict[str, str]:
        made = people.freshdesk_reset_key(there.url, ME)
        return {"api_key": made} if task.kind == "supply" else {}

    case = _case(there, values)
    case.person = person
    case.alive = lambda: {each["value"] for each in there.alive() if each["owner"] == ME}
    return case


def two_agents(lab: Lab) -> Case:
    """The idle agent always has a key; what nobody ever copied is not counted as alive here."""
    there = _fresh(lab)
    copied: set[str] = set()

    def copy(key: str) -> str:
        copied.add(key)
        return key

    values = {
        "domain": "acme",
        "base_url": there.url,
        "agents": "two",
        "first_agent": ME,
        "second_agent": STANDBY,
        "agent": ME,
        "api_key": copy(people.freshdesk_view_key(there.url, ME)),
    }

    def person(task: Task) -> dict[str, str]:
        text = " ".join(str(each["text"]) for each in task.instructions)
        if task.kind == "delete":
            (named,) = {who for who in (ME, STANDBY) if f"Reset the key of {who} and do not copy" in text}
            people.freshdesk_reset_key(there.url, named)
            return {}
        (in_use,) = re.findall(r"In use now: (\S+)\.", text)
        idle = ME if in_use == STANDBY else STANDBY
        return {"api_key": copy(people.freshdesk_reset_key(there.url, idle)), "agent": idle}

    case = _case(there, values)
    case.person = person
    case.alive = lambda: copied & {each["value"] for each in there.alive() if each["owner"] in {ME, STANDBY}}
    return case


def _fresh(lab: Lab) -> StandIn:
    there = lab.vendor("freshdesk")
    there.post("reset", {})
    there.post("dials", {"settle_s": 0.1, "linger_s": 0.1})
    return there


def _case(there: StandIn, values: dict[str, str]) -> Case:
    @contextmanager
    def elsewhere(access: Access) -> Iterator[tuple[Access, Material]]:
        yield access, Material({"api_key": people.freshdesk_view_key(there.url, OTHER)})

    return Case(
        "freshdesk",
        "api_key",
        values,
        alive=set,
        of=lambda material: material["api_key"],
        wrong_values={**values, "api_key": WRONG},
        wrong=lambda good: [good.replacing(api_key=WRONG)],
        codes=frozenset({"401 invalid_credentials", "invalid_credentials", "401", "credential_invalid"}),
        aim=lambda aim: {"base_url": aim.url},
        reads=Reads("tickets", 3, ("everything",), more={"": 3}, spoil=spoiled(there, "tickets")),
        throttled=lambda: undone(lambda: there.arm("*", "throttle"), there.disarm),
        elsewhere=elsewhere,
    )


ROWS = {
    "freshdesk/api_key": one_agent,
    "freshdesk/api_key two agents": two_agents,
}

"""ServiceNow: registry entries kept by a person, and kept by the hub."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from keyturn.contract.values import Access
from keyturn.model.run import Task
from keyturn.model.secret import Material
from keyturn.testing import Reads
from keyturn_lab.guard import DEMO_PASSWORD
from keyturn_lab.vendors.servicenow import people
from tests.compliance.case import ME, OTHER, Case, granted, granted_elsewhere, spoiled, undone, url_of
from tests.compliance.lab import Lab

CALLBACK = "http://127.0.0.1:8425/oauth/callback"
OPS = {"set": "post_oauth_entity", "revoke": "delete_oauth_entity"}


def _servicenow(lab: Lab, *, by_hub: bool) -> Case:
    there = lab.vendor("servicenow")
    there.post("reset", {})
    there.post("dials", {"settle_s": 0.1, "linger_s": 0.1})
    first = people.register(there.url, "the first", CALLBACK)
    values = {"url": there.url, "user": ME, "callback": CALLBACK, **first}
    if by_hub:
        values |= {"registry": "hub", "admin_user": people.REGISTRAR, "admin_password": DEMO_PASSWORD}

    def person(task: Task) -> dict[str, str]:
        if task.kind == "consent":
            return {"callback_url": people.consent(url_of(task), ME)}
        if task.kind == "supply":
            return people.register(there.url, f"keyturn {lab.number()}", CALLBACK)
        text = " ".join(str(each["text"]) for each in task.instructions)
        (named,) = [each for each in people.client_ids(there.url) if each in text]
        people.delete(there.url, named, ME)
        return {}

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        there.arm(OPS.get(call, call), "answer_lost")
        yield access

    case = Case(
        "servicenow",
        "oauth",
        values,
        alive=lambda: {
            each["value"] for each in there.alive() if each["owner"] == ME and each["kind"] == "refresh_token"
        },
        of=lambda material: material.get("refresh_token", "no grant yet"),
        wrong_values={**values, "client_secret": "ktlab-not-the-secret"},
        person=person,
        wrong=lambda good: [good.replacing(access_token="ktlab-wrong-token")],
        codes=frozenset({"credential_invalid"}),
        aim=lambda aim: {"url": aim.url},
        reads=Reads("incident", 3, ("no_such_table",), "problem", spoil=spoiled(there, "get_incident")),
        throttled=lambda: undone(lambda: there.arm("*", "throttle", times=None), there.disarm),
        lost=lost,
        consent=lambda url: people.consent(url, ME),
    )

    def first_grant() -> Material:
        made = granted(case, partial(people.consent, user=ME))
        time.sleep(0.15)  # every node knows it by then
        return made

    case.first = first_grant
    case.other_consent = lambda url: people.consent(url, OTHER)
    case.elsewhere = partial(granted_elsewhere, case, case.other_consent)
    return case


def servicenow_person(lab: Lab) -> Case:
    return _servicenow(lab, by_hub=False)


def servicenow_hub(lab: Lab) -> Case:
    return _servicenow(lab, by_hub=True)


ROWS = {
    "servicenow/oauth entries by a person": servicenow_person,
    "servicenow/oauth entries by the hub": servicenow_hub,
}

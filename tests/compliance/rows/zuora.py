"""Zuora."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from keyturn.contract.values import Access
from keyturn.model.run import Task
from keyturn.model.secret import Material
from keyturn.testing import Reads
from keyturn_lab.vendors.zuora import people
from tests.compliance.case import ME, OTHER, Case, spoiled, undone
from tests.compliance.lab import Lab


def tenant(lab: Lab) -> Case:
    return _zuora(lab, "tenant")


def one_id(lab: Lab) -> Case:
    return _zuora(lab, "oneid")


def _zuora(lab: Lab, kind: str) -> Case:
    there = lab.vendor("zuora")
    there.post("reset", {})
    there.post("dials", {"settle_s": 0.1, "linger_s": 0.1})
    there.post("settings", {"token_per_minute": 100_000})  # the suite logs in more often than a minute allows
    is_one_id = kind == "oneid"
    made = people.create_client(there.url, ME, "first client", one_id=is_one_id)
    values = {
        "data_centre": "rest.zuora.com",
        "client_kind": kind,
        "user_name": ME,
        "base_url": there.url,
        **made,
    }

    def person(task: Task) -> dict[str, str]:
        if task.kind == "supply":
            return people.create_client(there.url, ME, f"keyturn {lab.number()}", one_id=is_one_id)
        text = " ".join(str(each["text"]) for each in task.instructions)
        known = people.client_ids(there.url, ME, one_id=is_one_id)
        (named,) = [client_id for client_id in known if client_id in text]
        people.delete_client(there.url, ME, named)
        return {}

    @contextmanager
    def elsewhere(access: Access) -> Iterator[tuple[Access, Material]]:
        other = people.create_client(there.url, OTHER, "another's client", one_id=is_one_id)
        time.sleep(0.15)
        yield access, Material(other, frozenset({"client_id"}))

    time.sleep(0.15)
    return Case(
        "zuora",
        "oauth_client",
        values,
        alive=lambda: {
            each["id"] for each in there.alive() if each["owner"] == ME and each["kind"] == "oauth_client"
        },
        of=lambda material: material["client_id"],
        wrong_values={**values, "client_secret": "ktlabNotTheSecretAtAll01"},
        person=person,
        wrong=lambda good: [
            good.replacing(client_secret="ktlabNotTheSecretAtAll01"),
            good.replacing(client_id=str(uuid.UUID(int=7))),
        ],
        codes=frozenset({"client_invalid"}),
        aim=lambda aim: {"base_url": aim.url},
        reads=Reads(
            "accounts",
            3,
            ("unicorns",),
            "credit-memos",
            {"subscriptions": 2, "": 3},
            spoil=spoiled(there, "object_query"),
        ),
        throttled=lambda: undone(lambda: there.arm("*", "throttle"), there.disarm),
        elsewhere=elsewhere,
    )


ROWS = {
    "zuora/oauth_client": tenant,
    "zuora/oauth_client of OneID": one_id,
}

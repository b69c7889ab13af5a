"""Jira."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from keyturn.contract.values import Access
from keyturn.model.run import Task
from keyturn.testing import Reads
from keyturn_lab import people
from tests.compliance.case import ME, OTHER, Case, granted, granted_elsewhere, spoiled, undone, url_of
from tests.compliance.lab import Lab


def jira(lab: Lab) -> Case:
    there = lab.vendor("jira")
    there.post("reset", {})
    app = there.get("apps")[0]
    app = there.post(
        "apps", {"client_id": app["client_id"], "callback": "http://127.0.0.1:8425/oauth/callback"}
    )
    there.post("settings", {"leeway_s": 0.2})  # ten minutes in truth: the policy says so where it is shorter
    values = {
        "auth_url": there.url,
        "api_url": there.url,
        "client_id": app["client_id"],
        "client_secret": app["client_secret"],
    }

    def consent(url: str) -> str:
        return people.jira_consent(url, ME, site="acme")

    def person(task: Task) -> dict[str, str]:
        if task.kind == "consent":
            return {"callback_url": consent(url_of(task))}
        people.jira_remove_grant(there.url, ME, app["client_id"])
        return {}

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        there.arm(call, "answer_lost")
        yield access

    case = Case(
        "jira",
        "oauth",
        values,
        alive=lambda: {e["value"] for e in there.alive() if e["owner"] == ME and "refresh" in e["kind"]},
        of=lambda material: material["refresh_token"],
        wrong_values={**values, "client_secret": "ktlab-not-the-secret"},
        person=person,
        wrong=lambda good: [good.replacing(access_token="ktlab.wrong.token")],
        codes=frozenset({"401", "credential_invalid"}),
        aim=lambda aim: {"auth_url": aim.url, "api_url": aim.url},
        reads=Reads("projects", 2, ("everything",), more={"": 2}, spoil=spoiled(there, "projects")),
        throttled=lambda: undone(lambda: there.arm("*", "throttle", times=None), there.disarm),
        lost=lost,
        consent=consent,
    )
    case.first = lambda: granted(case, consent)
    case.other_consent = lambda url: people.jira_consent(url, OTHER, site="acme")
    case.elsewhere = partial(granted_elsewhere, case, case.other_consent)
    return case


ROWS = {
    "jira/oauth": jira,
}

"""Google Analytics, by a person's consent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from keyturn.contract.values import Access
from keyturn.model.run import Task
from keyturn.testing import Reads
from keyturn_lab.vendors.google import people
from tests.compliance.case import ME, OTHER, Case, granted, granted_elsewhere, spoiled, undone, url_of
from tests.compliance.lab import Lab

CALLBACK = "http://127.0.0.1:8425/oauth/callback"


def google_analytics(lab: Lab) -> Case:
    there = lab.vendor("google")
    there.disarm()
    there.post("dials", {"settle_s": 0.0, "linger_s": 0.1})
    client = there.post("clients", {"name": f"Analytics {lab.number()}", "callback": CALLBACK})
    values = {
        "property": "310001",
        "account": ME,
        "accounts_url": there.url,
        "token_url": there.url,
        "api_url": there.url,
        "data_url": there.url,
        **client,
    }

    def person(task: Task) -> dict[str, str]:
        assert task.kind == "consent", f"nobody should be asked to {task.kind}"
        return {"callback_url": people.consent(url_of(task), ME)}

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        there.arm(call, "answer_lost")
        yield access

    case = Case(
        "google-analytics",
        "oauth",
        values,
        alive=lambda: {
            each["value"]
            for each in there.alive()
            if each["kind"] == "refresh_token" and each["facts"]["client_id"] == client["client_id"]
        },
        of=lambda material: material["refresh_token"],
        wrong_values={**values, "client_secret": "ktlab-not-the-secret"},
        person=person,
        wrong=lambda good: [good.replacing(refresh_token="1//0ktlab-wrong-token")],
        codes=frozenset({"reauth_required"}),
        aim=lambda aim: dict.fromkeys(("accounts_url", "token_url", "api_url", "data_url"), aim.url),
        reads=Reads(
            "report",
            7,
            ("bounces by date", "sessions by planet", "everything"),
            "sessions by cityId",
            {"sessions by country": 2, "": 7},
            spoil=spoiled(there, "run_report"),
        ),
        throttled=lambda: undone(lambda: there.arm("*", "throttle", times=None), there.disarm),
        throttle_says_wait=False,  # the token endpoint names no time
        lost=lost,
        consent=lambda url: people.consent(url, ME),
        leaves=frozenset({"unrevocable_grant"}),
    )
    case.first = lambda: granted(case, partial(people.consent, email=ME))
    case.other_consent = lambda url: people.consent(url, OTHER)
    case.elsewhere = partial(granted_elsewhere, case, case.other_consent)
    return case


ROWS = {
    "google-analytics/oauth": google_analytics,
}

"""BigQuery, by a service account's key and by a person's consent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from keyturn.contract.values import Access
from keyturn.model.run import Task
from keyturn.model.secret import Material
from keyturn.testing import Reads
from keyturn_lab.vendors.google import people
from keyturn_lab.vendors.google.state import APP, ITSELF, ME, OTHER, PROJECT, ROTATOR, STRANGER, address
from tests.compliance.case import Case, granted, granted_elsewhere, spoiled, undone, url_of
from tests.compliance.lab import Lab, StandIn

CALLBACK = "http://127.0.0.1:8425/oauth/callback"


def by_rotator(lab: Lab) -> Case:
    """Another service account manages the keys."""
    return _service_account(lab, APP, {"admin_key_file": _fresh(lab.vendor("google"), ROTATOR)})


def by_itself(lab: Lab) -> Case:
    """The service account is key admin of itself."""
    return _service_account(lab, ITSELF, {})


def _service_account(lab: Lab, name: str, more: dict[str, str]) -> Case:
    there, email = lab.vendor("google"), address(name)
    there.disarm()
    there.post("dials", {"settle_s": 0.1, "linger_s": 0.1})
    values = {
        "project_id": PROJECT,
        "dataset": "usage_data",
        "service_account": email,
        "key_file": _fresh(there, name),
        "token_url": f"{there.url}/token",
        "iam_url": there.url,
        "bigquery_url": there.url,
        **more,
    }
    another = Material({"key_file": _fresh(there, STRANGER)})
    ops = {"issue": "create_key", "disable": "disable_key", "revoke": "delete_key"}

    def person(task: Task) -> dict[str, str]:
        """Makes a key in the console when nobody else can."""
        del task
        return {"key_file": there.post("console-key", {"email": email})["key_file"]}

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        there.arm(ops[call], "answer_lost")
        yield access

    @contextmanager
    def stranger(access: Access) -> Iterator[tuple[Access, Material]]:
        yield access, another

    def wrong(good: Material) -> list[Material]:
        pem = json.loads(another["key_file"])["private_key"]
        return [_with(good, private_key=pem), _with(good, private_key_id="0" * 40)]

    return Case(
        "bigquery",
        "service_account",
        values,
        alive=lambda: {
            e["id"] for e in there.alive() if e["owner"] == email and e["kind"] == "service_account_key"
        },
        of=lambda material: json.loads(material["key_file"])["private_key_id"],
        wrong_values={**values, "key_file": wrong(Material({"key_file": values["key_file"]}))[0]["key_file"]},
        person=person,
        wrong=wrong,
        codes=frozenset({"invalid_jwt_signature"}),
        aim=lambda aim: {"token_url": f"{aim.url}/token", "iam_url": aim.url, "bigquery_url": aim.url},
        reads=Reads(
            "usage_data.orders",
            3,
            ("usage_data.nowhere", "nothing.orders", "usage_data.orders_view"),
            "usage_data.empty",
            {"orders": 3},
            spoil=spoiled(there, "table_data"),
        ),
        throttled=lambda: undone(lambda: there.arm("query", "throttle"), there.disarm),
        elsewhere=stranger,
        lost=lost,
        deadline_s=2.0,
    )


def _fresh(there: StandIn, name: str) -> str:
    made: str = there.post("fresh-key", {"email": address(name)})["key_file"]
    return made


def _with(good: Material, **changed: str) -> Material:
    return Material({"key_file": json.dumps({**json.loads(good["key_file"]), **changed})})


def oauth(lab: Lab) -> Case:
    """A person's consent to a client that is made for it."""
    there = lab.vendor("google")
    there.disarm()
    there.post("dials", {"settle_s": 0.0, "linger_s": 0.1})
    clients: list[str] = []

    def register() -> dict[str, str]:
        made: dict[str, str] = there.post(
            "clients", {"name": f"BigQuery {lab.number()}", "callback": CALLBACK}
        )
        clients.append(made["client_id"])
        return made

    values = {
        "project_id": PROJECT,
        "account": ME,
        "callback": CALLBACK,
        "accounts_url": there.url,
        "token_url": there.url,
        "bigquery_url": there.url,
        **register(),
    }

    def person(task: Task) -> dict[str, str]:
        if task.kind == "consent":
            return {"callback_url": people.consent(url_of(task), ME)}
        assert task.kind == "supply", f"nobody should be asked to {task.kind}"
        return register()

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        there.arm(call, "answer_lost")
        yield access

    def alive() -> set[str]:
        return {
            each["value"]
            for each in there.alive()
            if each["kind"] == "refresh_token" and each["facts"]["client_id"] in clients
        }

    case = Case(
        "bigquery",
        "oauth",
        values,
        alive=alive,
        of=lambda material: material.get("refresh_token", "no grant yet"),
        wrong_values={**values, "client_secret": "ktlab-not-the-secret"},
        person=person,
        wrong=lambda good: [
            good.replacing(refresh_token="1//0ktlab-wrong-token"),
            good.replacing(client_secret="GOCSPX-ktlab-not-the-secret"),
        ],
        codes=frozenset({"reauth_required"}),
        aim=lambda aim: dict.fromkeys(("accounts_url", "token_url", "bigquery_url"), aim.url),
        reads=Reads(
            "usage_data.orders",
            3,
            ("usage_data.nowhere", "nothing.orders", "usage_data.orders_view", "orders"),
            "usage_data.empty",
            spoil=spoiled(there, "table_data"),
        ),
        throttled=lambda: undone(lambda: there.arm("*", "throttle", times=None), there.disarm),
        throttle_says_wait=False,  # the token endpoint names no time
        lost=lost,
        consent=lambda url: people.consent(url, ME),
        register=register,
    )
    case.first = lambda: granted(case, partial(people.consent, email=ME))
    case.other_consent = lambda url: people.consent(url, OTHER)
    case.elsewhere = partial(granted_elsewhere, case, case.other_consent)
    return case


ROWS = {
    "bigquery/oauth": oauth,
    "bigquery/service_account": by_rotator,
    "bigquery/service_account by itself": by_itself,
}

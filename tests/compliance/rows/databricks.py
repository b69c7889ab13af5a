"""Databricks: a service principal's secrets by three ways of signing, and personal access tokens by two."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keyturn.contract.values import Access
from keyturn.model.run import Task
from keyturn.model.secret import Material
from keyturn.testing import Reads
from keyturn_lab.vendors.databricks.server import WAREHOUSE
from tests.compliance.case import ME, OTHER, Case, spoiled, undone
from tests.compliance.lab import Lab, StandIn

NOBODY = "00000000-1111-4222-8333-444444444444"


def _fresh(lab: Lab) -> tuple[StandIn, dict[str, Any]]:
    there = lab.vendor("databricks")
    there.post("reset", {})
    there.post("dials", {"settle_s": 0.1, "linger_s": 0.1})
    return there, there.get("world")


def _secret(there: StandIn, principal: str) -> dict[str, Any]:
    made = there.post(
        "make", {"kind": "secret", "principal": principal, "scopes": ["sql", "iam.groups:read"]}
    )
    time.sleep(0.12)
    return made


def _reads(there: StandIn) -> Reads:
    return Reads(
        "main.sales.orders",
        3,
        ("main.sales.nowhere", "main.sales.secret", "main.elsewhere", "orders"),
        "main.sales.empty",
        {"main.sales": 3, "main.nothing": 0, "": 2},
        spoil=spoiled(there, "execute_statement"),
    )


def _oauth(lab: Lab, signer: str, *, account: bool = False) -> Case:
    there, world = _fresh(lab)
    ids = {name: each["application_id"] for name, each in world["principals"].items()}
    there.post("principals", {"name": "gainsight", "manages": ["gainsight"] if not signer else []})
    first = _secret(there, "gainsight")
    values = {
        "host": there.url,
        "http_path": f"/sql/1.0/warehouses/{WAREHOUSE}",
        "client_id": ids["gainsight"],
        "client_secret": first["secret"],
    }
    if signer:
        values |= {"admin_client_id": ids[signer], "admin_client_secret": _secret(there, signer)["secret"]}
    if account:
        values |= {"account_id": world["account_id"], "account_host": there.url}

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        there.arm({"issue": "create_secret", "revoke": "delete_secret"}[call], "answer_lost")
        yield access

    @contextmanager
    def elsewhere(access: Access) -> Iterator[tuple[Access, Material]]:
        other = _secret(there, "other")
        yield (
            access,
            Material({"client_id": ids["other"], "client_secret": other["secret"]}, frozenset({"client_id"})),
        )

    def person(task: Task) -> dict[str, str]:
        if task.kind != "supply":
            return {}
        made = _secret(there, "gainsight")
        return {"client_id": ids["gainsight"], "client_secret": made["secret"], "secret_id": made["id"]}

    return Case(
        "databricks",
        "oauth",
        values,
        alive=lambda: {each["value"] for each in there.alive() if each["owner"] == ids["gainsight"]},
        of=lambda material: material["client_secret"],
        wrong_values={**values, "client_secret": "dose" + "0" * 32},
        person=person,
        wrong=lambda good: [
            good.replacing(client_secret="dose" + "0" * 32),
            good.replacing(client_id=NOBODY),
        ],
        codes=frozenset({"invalid_client"}),
        aim=lambda aim: {"host": aim.url, "account_host": aim.url},
        reads=_reads(there),
        throttled=lambda: undone(lambda: there.arm("*", "throttle"), there.disarm),
        elsewhere=elsewhere,
        lost=lost,
    )


def by_a_rotator(lab: Lab) -> Case:
    """Another service principal that is the manager of this one, through the workspace."""
    return _oauth(lab, "rotator")


def by_the_account(lab: Lab) -> Case:
    """An account admin, through the account's API."""
    return _oauth(lab, "rotator", account=True)


def by_itself(lab: Lab) -> Case:
    """The service principal is its own manager."""
    return _oauth(lab, "")


def _user(lab: Lab, principal: str, *, admin: bool) -> Case:
    there, world = _fresh(lab)
    name = world["principals"][principal]["application_id"] or principal

    def make(owner: str, comment: str = "jobs") -> dict[str, Any]:
        made = there.post(
            "make", {"kind": "token", "principal": owner, "comment": comment, "scopes": ["sql"]}
        )
        time.sleep(0.12)
        return made

    values = {
        "host": there.url,
        "http_path": f"/sql/1.0/warehouses/{WAREHOUSE}",
        "user_name": name,
        "token": make(principal)["token_value"],
    }
    if admin:
        values["admin_token"] = make(OTHER)["token_value"]
    ops = {"issue": "create_token", "revoke": "delete_token"}
    if admin:
        ops = {"issue": "create_token_for", "revoke": "delete_any_token"}

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        there.arm(ops[call], "answer_lost")
        yield access

    @contextmanager
    def elsewhere(access: Access) -> Iterator[tuple[Access, Material]]:
        yield access, Material({"token": make("other")["token_value"]})

    def person(task: Task) -> dict[str, str]:
        if task.kind != "supply":
            return {}
        made = make(principal)
        return {"token": made["token_value"], "token_id": made["token_info"]["token_id"]}

    return Case(
        "databricks",
        "user",
        values,
        alive=lambda: {each["value"] for each in there.alive() if each["owner"] == name},
        of=lambda material: material["token"],
        wrong_values={**values, "token": "dapi" + "0" * 32},
        person=person,
        wrong=lambda good: [good.replacing(token="dapi" + "0" * 32)],
        codes=frozenset({"invalid_access_token"}),
        aim=lambda aim: {"host": aim.url},
        reads=_reads(there),
        throttled=lambda: undone(lambda: there.arm("*", "throttle"), there.disarm),
        elsewhere=elsewhere,
        lost=lost,
    )


def user(lab: Lab) -> Case:
    """A person's token makes and deletes its siblings."""
    return _user(lab, ME, admin=False)


def user_by_an_admin(lab: Lab) -> Case:
    """A service principal's token, made on its behalf and deleted by a workspace admin."""
    return _user(lab, "gainsight", admin=True)


ROWS = {
    "databricks/oauth": by_a_rotator,
    "databricks/oauth by the account": by_the_account,
    "databricks/oauth by itself": by_itself,
    "databricks/user": user,
    "databricks/user by an admin": user_by_an_admin,
}

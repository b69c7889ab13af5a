"""Dynamics: by client secret and by certificate, with an administrator's application and by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from keyturn.contract.values import Access
from keyturn.keymaking import certificates
from keyturn.keymaking.certificates import Certified
from keyturn.model.run import Task
from keyturn.model.secret import Material
from keyturn.testing import Reads
from keyturn_lab.vendors.dynamics import people
from tests.compliance.case import Case, spoiled, undone
from tests.compliance.lab import Lab, StandIn

OWNED = "Application.ReadWrite.OwnedBy"


def client_secret(lab: Lab, *, with_admin: bool) -> Case:
    there, app, values = _application(lab, with_admin)
    values["client_secret"] = people.add_secret(there.url, app["app_id"])
    wrong = "kt08Q~" + "x" * 34
    return _case(
        there,
        app,
        "client_secret",
        values,
        of=lambda material: material["client_secret"],
        named=lambda live: str(live["value"]),
        wrong=("client_secret", wrong),
        ops={"issue": "add_password", "revoke": "remove_password"},
        codes=frozenset({"AADSTS7000215"}),
        person=lambda _task: {"client_secret": people.add_secret(there.url, app["app_id"])},
    )


def certificate(lab: Lab, *, with_admin: bool) -> Case:
    there, app, values = _application(lab, with_admin)
    pair, other = _certified(lab, 0), _certified(lab, 1)
    people.upload_certificate(there.url, app["app_id"], pair.der)
    values["certificate"] = pair.pem.reveal()

    def person(task: Task) -> dict[str, str]:
        del task
        brought = _certified(lab, 2)
        people.upload_certificate(there.url, app["app_id"], brought.der)
        return {"certificate": brought.pem.reveal()}

    return _case(
        there,
        app,
        "certificate",
        values,
        of=_thumbprint,
        named=lambda live: str(live["facts"]["thumbprint"]),
        wrong=("certificate", other.pem.reveal()),
        ops={"set": "add_key", "revoke": "remove_key"},
        codes=frozenset({"AADSTS700027"}),
        person=person,
    )


def _application(lab: Lab, with_admin: bool) -> tuple[StandIn, dict[str, Any], dict[str, str]]:
    """A fresh application beside a stranger's secret-holding one, owned by the rotator or by itself."""
    there = lab.vendor("dynamics")
    rotator = next(each for each in there.get("apps") if each["name"] == "Keyturn rotator")
    app = there.post("apps", {"name": f"Integration {lab.number()}"})
    owner = rotator if with_admin else app
    there.post("apps", {"app_id": app["app_id"], "owners": [owner["app_id"]], "roles": [OWNED]})
    values = {
        "tenant_id": there.get("tenant")["id"],
        "client_id": app["app_id"],
        "org_url": there.url,
        "login_url": there.url,
        "graph_url": f"{there.url}/graph",
    }
    if with_admin:
        values["admin_client_id"] = rotator["app_id"]
        values["admin_client_secret"] = rotator["secrets"][0]["value"]
    return there, app, values


def _case(
    there: StandIn,
    app: Mapping[str, Any],
    method: str,
    values: Mapping[str, str],
    *,
    of: Callable[[Material], str],
    named: Callable[[Mapping[str, Any]], str],
    wrong: tuple[str, str],
    ops: Mapping[str, str],
    codes: frozenset[str],
    person: Callable[[Task], dict[str, str]],
) -> Case:
    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        there.arm(ops[call], "answer_lost")
        yield access

    @contextmanager
    def elsewhere(access: Access) -> Iterator[tuple[Access, Material]]:
        there.arm("who_am_i", "wrong_identity")
        assert access.acting is not None
        yield access, access.acting
        there.disarm()

    return Case(
        "dynamics",
        method,
        values,
        alive=lambda: {
            named(each) for each in there.alive() if each["owner"] == app["app_id"] and each["kind"] == method
        },
        of=of,
        wrong_values={**values, wrong[0]: wrong[1]},
        wrong=lambda good: [good.replacing(**{wrong[0]: wrong[1]})],
        codes=codes,
        person=person,
        aim=lambda aim: dict.fromkeys(("login_url", "graph_url", "org_url"), aim.url),
        reads=Reads("accounts", 3, ("unicorns", "contacts"), more={"": 3}, spoil=spoiled(there, "rows")),
        throttled=lambda: undone(lambda: there.arm("token", "throttle", times=None), there.disarm),
        elsewhere=elsewhere,
        lost=lost,
        deadline_s=2.0,
    )


def _certified(lab: Lab, number: int) -> Certified:
    return certificates.self_signed(lab.pair(number), f"integration {number}", 90)


def _thumbprint(material: Material) -> str:
    return certificates.load(material["certificate"]).thumbprint


ROWS = {
    "dynamics/client_secret": partial(client_secret, with_admin=True),
    "dynamics/client_secret by itself": partial(client_secret, with_admin=False),
    "dynamics/certificate": partial(certificate, with_admin=True),
    "dynamics/certificate by itself": partial(certificate, with_admin=False),
}

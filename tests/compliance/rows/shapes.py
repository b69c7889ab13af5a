"""Every shape of the fault matrix's vendor."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from keyturn.contract.values import Access
from keyturn.model.credential import Ref
from keyturn.model.run import Task
from keyturn.model.secret import Material
from keyturn_lab import guard
from tests.compliance.case import Case, undone, url_of
from tests.compliance.lab import Lab
from tests.faults import shapes_connector as shapes
from tests.faults import world


def shape(method: str, lab: Lab) -> Case:
    """One shape of the fault matrix's vendor."""
    client, name = lab.shapes.client, f"p{lab.number()}"
    made = shapes.provision(client, method, name)
    system = shapes.system()
    row = system.method(method)
    assert row is not None
    known = {f.name for f in row.fields}
    typed = {**made.settings, **dict(made.material), **dict(made.admin or {})}
    values = {k: v for k, v in typed.items() if k in known}
    secret = "access_token" if method == "grant" else "secret"

    def person(task: Task) -> dict[str, str]:
        if task.kind == "supply":
            return _shapes_supply(client, method, name, made.ref.slot)
        if task.kind == "consent":
            return {"callback_url": shapes.person_consents(url_of(task))}
        if task.kind == "handover":
            return {}
        found = re.search(r"Delete the key (\S+) of", " ".join(str(i["text"]) for i in task.instructions))
        assert found
        shapes.person_deletes(client, name, found[1])
        return {}

    ops = {
        "set": "set",
        "issue": "issue" if method in {"many_ids", "bucket"} else "regenerate",
        "disable": "disable",
        "revoke": {"grant": "revoke", "many_ids": "delete", "bucket": "delete"}.get(method, "clear"),
        "exchange": "exchange",
        "refresh": "refresh",
    }

    @contextmanager
    def lost(access: Access, call: str) -> Iterator[Access]:
        _shapes_fault(client, name, ops[call], "answer_lost")
        yield access

    @contextmanager
    def elsewhere(access: Access) -> Iterator[tuple[Access, Material]]:
        other = shapes.provision(client, method, f"{name}-other")
        yield replace(access, settings={**access.settings, "principal": f"{name}-other"}), other.material

    return Case(
        "shapes",
        method,
        values,
        alive=lambda: _shapes_alive(client, name, method),
        of=lambda material: material.get("grant_id") or material[secret],
        wrong_values={**values, secret: "ktlab-not-the-value-at-all"},
        policy={"drain_min_s": 0.02},
        person=person,
        wrong=lambda good: [good.replacing(**{secret: "ktlab-not-the-value-at-all"})],
        codes=frozenset({"invalid_credentials", "disabled"}),
        aim=lambda aim: {"address": f"{aim.host}:{aim.port}"},
        throttled=lambda: undone(
            lambda: _shapes_fault(client, name, "login", "throttle_storm", seconds=3.0),
            lambda: client.call("disarm", principal=name),
        ),
        elsewhere=elsewhere,
        lost=lost,
        consent=shapes.person_consents,
        slot=_shapes_slot(method, made),
        extra={"shapes": world.external()},
    )


def _shapes_supply(client: Any, method: str, name: str, slot: str) -> dict[str, str]:
    """What the vendor's page lets a person do for this shape."""
    if not slot:
        return shapes.pasted(shapes.person_supplies(client, name))
    if method in {"named_slots", "regenerate", "regenerate_person"}:
        said = client.call("regenerate", principal=name, by="person", slot=slot)
        named = {} if method == "regenerate_person" else {"slot": slot}
        return {**named, "secret": str(said["value"])}
    value = guard.mint("shapes_key")
    client.call("set", principal=name, by="person", slot=slot, value=value)
    return {"slot": slot, "secret": value}


def _shapes_slot(method: str, made: shapes.Provisioned) -> Ref:
    names = {"two_slots": ("a", "b"), "named_slots": ("k1", "k2")}.get(method)
    if names is None:
        return Ref(id=made.ref.slot, slot=made.ref.slot) if made.ref.slot else Ref()
    free = next(each for each in names if each != made.ref.slot)
    return Ref(id=free, slot=free)


def _shapes_fault(client: Any, name: str, op: str, kind: str, **more: Any) -> None:
    client.call("arm", principal=name, hits=op, kind=kind, **more)


def _shapes_alive(client: Any, name: str, method: str) -> set[str]:
    """Ours that would be accepted; strangers are nobody's business."""
    living = [each for each in client.call("alive", principal=name) if each["by"] != "stranger"]
    return {each["id"] if method == "grant" else each["value"] for each in living if each["usable"]}


ROWS = {f"shapes/{method}": partial(shape, method) for method in shapes.SHAPES}

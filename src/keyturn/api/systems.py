"""What can be connected: rows with their capability cards, the pages of systems, and a user's own definitions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from keyturn.api import examples, shapes
from keyturn.api.calls import Body, Caller, Calls
from keyturn.api.paging import After, Limit, page
from keyturn.errors import NotFound
from keyturn.operations import overview, rights, systems
from keyturn.operations.rights import Operation

calls = Calls("systems")
own = Calls("definitions")
_TEXT = 512 * 1024
Text = Annotated[str, Field(min_length=1, max_length=_TEXT)]
Named = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[\w][\w .-]*$")]


@calls.get(
    "/systems",
    Operation.SYSTEM_READ,
    "The rows and their capability cards",
    answer=shapes.Page[shapes.Row],
    example=examples.page(examples.ROW),
)
def every(it: Caller) -> dict[str, Any]:
    """A row is a system and a way to authenticate to it."""
    return {"items": systems.rows(it.hub.catalog)}


@calls.get(
    "/systems/{system}",
    Operation.SYSTEM_READ,
    "One system: fields, instructions, permissions, cards, sources",
    answer=shapes.SystemPage,
    example=examples.SYSTEM,
    problems=(404,),
)
def one(it: Caller, system: str) -> dict[str, Any]:
    """Everything a person needs to work with it. `methods` have the fields that connecting takes as `values`."""
    if system not in it.hub.catalog.names():
        raise NotFound("there is no such system", field="system")
    return systems.page(it.hub.catalog, system, it.hub.settings.egress)


class Definition(Body):
    """A definition's text. `name` is what findings call it."""

    text: Text
    name: Named = "definition.yaml"


@own.get(
    "/definitions",
    Operation.SYSTEM_READ,
    "The definitions kept here, and who uses them",
    answer=shapes.Page[shapes.Definition],
    example=examples.page(examples.DEFINITION),
)
def kept(it: Caller, after: After = "", limit: Limit = 100) -> dict[str, Any]:
    """By name. Of the connections that use one, those that the caller may see."""
    every = systems.own_definitions(it.hub)
    mine = rights.projects(it.who, Operation.CONNECTION_READ)
    seen = overview.by_name(it.hub, (c for each in every for c in each["connections"]), mine)
    found = [{**each, "connections": [c for c in each["connections"] if c in seen]} for each in every]
    return page(it.hub, ["definitions"], found, lambda d: (d["name"], d["hash"]), after, limit, dict)


@own.post(
    "/definitions/check",
    Operation.SYSTEM_READ,
    "Everything wrong with a definition",
    answer=shapes.Report,
    example=examples.REPORT,
    sends=examples.TEXT,
)
def check(it: Caller, body: Definition) -> dict[str, Any]:
    """Nothing is kept. A definition with a finding of level `refuse` cannot be used."""
    report = systems.check_text(body.text, body.name, it.hub.settings.network)
    return {"usable": report.usable, "findings": [vars(each) for each in report.findings]}


@own.post(
    "/definitions",
    Operation.CONNECTION_CHANGE,
    "Keep a definition",
    answer=shapes.Added,
    status=201,
    example={"hash": examples.PLAN["digest"], "name": "billing", "new": True},
    sends=examples.TEXT,
    hub_wide=True,
)
def add(it: Caller, body: Definition) -> dict[str, Any]:
    """Under the hash of its text; the same text again changes nothing."""
    digest, name, is_new = systems.add_text(it.hub, body.text, body.name)
    it.done(f"definition {digest[:12]}", name=name)
    return {"hash": digest, "name": name, "new": is_new}


@own.delete(
    "/definitions/{digest}",
    Operation.CONNECTION_CHANGE,
    "Take a definition back",
    status=204,
    problems=(404, 409),
    hub_wide=True,
)
def drop(it: Caller, digest: str) -> None:
    """409 while a connection uses it."""
    if digest not in {each["hash"] for each in systems.own_definitions(it.hub)}:
        raise NotFound("there is no such definition", field="digest")
    systems.drop_definition(it.hub, digest)
    it.done(f"definition {digest[:12]}", dropped=True)

"""systems: the rows, and one system's page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from keyturn.cli import terminal
from keyturn.cli.inputs import did_you_mean
from keyturn.cli.session import Session, pass_session
from keyturn.errors import NotFound


@click.command(
    "systems",
    epilog=terminal.examples("keyturn systems", "keyturn systems postgresql", "keyturn systems --json"),
)
@click.argument("system", required=False)
@terminal.json_option
@pass_session
def systems_command(session: Session, system: str | None, as_json: bool) -> None:
    """What can be connected, and what it can do.

    With SYSTEM: its page, with the fields to fill, the permissions needed, the steps a person does, and how well a
    rotation can be proven. Works before `keyturn init`.
    """
    from keyturn.operations import systems

    catalog = session.systems()
    if system is not None and system not in catalog.names():
        guess = did_you_mean(system, catalog.names()) or f"Known: {', '.join(catalog.names())}."
        raise NotFound(f"there is no system {system}", hint=guess, field="system")
    if system is None:
        _list(systems.rows(catalog), as_json)
    elif as_json:
        terminal.emit(systems.page(catalog, system, session.settings().egress))
    else:
        _page(systems.page(catalog, system, session.settings().egress))


def _list(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        terminal.emit(rows)
        return
    terminal.table(
        ("System", "Method", "Direction", "Strategy", "Gap", "Proof", "Hands", "Ends on"),
        [
            (
                row["system"],
                row["method"],
                row["direction"],
                _either(row, "strategy"),
                _either(row, "gap_class"),
                _either(row, "proof"),
                row["hands"],
                row["ends_on"],
            )
            for row in rows
        ],
    )
    terminal.note("`keyturn systems SYSTEM` explains a row. A / separates variants, e.g. one role or two.")


def _either(row: dict[str, Any], key: str) -> str:
    return "/".join(dict.fromkeys([row[key], *(v[key] for v in row["variants"])]))


def _page(page: dict[str, Any]) -> None:
    terminal.say(terminal.style(page["title"], bold=True))
    terminal.say(page["summary"])
    for method in page["methods"]:
        terminal.heading(f"{page['system']}/{method['method']}: {method['title']} ({method['direction']})")
        terminal.say(method["summary"])
        if method["ends_on"]:
            terminal.say(
                terminal.style(f"The vendor withdraws this method by {method['ends_on']}.", "yellow")
            )
        _card("What it can do", method["card"])
        for variant in method["variants"]:
            differs = {q: said for q, said in variant["card"].items() if method["card"].get(q) != said}
            if differs:
                _card(f"{variant['name']} ({variant['field']}={variant['equals']})", differs)
        _fields(method["fields"])
        _permissions(method["permissions"])
        _plans(method["plans"])
        _reads(method["reads"])
        for guide, which in ((method, ""), *((v, f", with {v['name']}") for v in method["variants"])):
            _guide(f"To make a new one{which}, a person", guide.get("create_steps", ()))
            _guide(f"To end an old one{which}, a person", guide.get("revoke_steps", ()))
            _guide(f"When no credential works any more{which}", guide.get("recovery_steps", ()))
        _section("Not supported", [f"{what}: {why}" for what, why in method["unsupported"].items()])
        _section("`keyturn lease` sets", list(method["env"]))
        _sources(method["sources"])
        if method["direction"] == "outbound":
            terminal.say()
            terminal.say(
                f"  keyturn connect {page['system']} {method['method']} --name NAME {_filled(method)}".rstrip()
            )
    if page["docs"]:
        _section("Vendor's documentation", page["docs"])


def _section(title: str, lines: Sequence[str]) -> None:
    if lines:
        terminal.say()
        terminal.say("  " + terminal.style(title, "cyan"))
        for line in lines:
            terminal.say(f"    {line}")


def _card(title: str, card: dict[str, str]) -> None:
    terminal.say()
    terminal.say("  " + terminal.style(title, "cyan"))
    terminal.pairs(card, "    ")


def _fields(fields: Sequence[dict[str, Any]]) -> None:
    lines = []
    for field in fields:
        how = "--secret" if field["secret"] else "--set"
        need = (
            "required"
            if field["required"]
            else f"default {field['default']}"
            if "default" in field
            else "optional"
        )
        kinds = f", one of {'|'.join(field['choices'])}" if "choices" in field else ""
        lines.append(f"{how} {field['name']}=...  {field['label']} ({need}{kinds})")
        if field["help"]:
            lines.append(f"    {field['help']}")
        if field.get("example") and not field["secret"]:
            lines.append(f"    For example {field['example']}")
    _section("Fields", lines)


def _filled(method: dict[str, Any]) -> str:
    """The fields that must be given, as one would type them."""
    given = []
    for field in method["fields"]:
        if field["name"] == "definition":
            given.append("--definition FILE")
        elif field["required"] and field["kind"] == "file":
            given.append(f"--secret {field['name']}=@FILE")
        elif field["required"] and field["secret"]:
            given.append(f"--secret {field['name']}=env:{field['name'].upper()}")
        elif field["required"]:
            given.append(f"--set {field['name']}={field.get('example', '...')}")
    return " ".join(given)


def _plans(plans: Sequence[dict[str, Any]]) -> None:
    """What happens at a rotation, so that it is known before anything is connected."""
    for each in plans:
        title = f"A rotation, with {each['name']}" if each["name"] else "A rotation"
        lines, is_final = [], False
        for number, step in enumerate(each["steps"], 1):
            if not step["can_be_undone"] and not is_final:
                is_final = True
                lines.append("From here on nothing is undone:")
            lines.append(f"{number}. {step['title']}")
            if step["call"]:
                lines.append(f"   {step['call']}")
        if each["administrator"]:
            title += ", where an administrator's credential is given"
        lines += [f"! {warning}" for warning in each["warnings"]]
        if each["risk"]:
            alone = "Without one, somebody" if each["administrator"] else "Somebody"
            lines.append(f"! {alone} must accept a risk in words before it starts: {each['risk']}")
        _section(title, lines)


def _permissions(permissions: Sequence[dict[str, Any]]) -> None:
    lines = []
    for each in permissions:
        lines.append(f"{each['right']} ({each['who']}): {each['why']}")
        if each["grant"]:
            lines.append(f"    {each['grant']}")
    _section("Permissions", lines)


def _reads(reads: Sequence[dict[str, Any]]) -> None:
    lines = []
    for each in reads:
        lines.append(f"{each['name'] or 'without a name'}: {each['counts']}")
        if each["example"]:
            lines.append(f"    For example --reads {each['example']}")
        if each["help"]:
            lines.append(f"    {each['help']}")
    _section("A job can read", lines)


def _guide(title: str, steps: Sequence[dict[str, Any]]) -> None:
    _section(title, [line for number, step in enumerate(steps, 1) for line in step_lines(number, step)])


def step_lines(number: int, step: dict[str, Any]) -> list[str]:
    """One instruction: its text, where to click, what to beware of."""
    lines = [f"{number}. {step['text']}"]
    if step.get("ui_path"):
        lines.append(f"   {' > '.join(step['ui_path'])}")
    if step.get("button"):
        lines.append(f"   Button: {step['button']}")
    if step.get("url"):
        lines.append(f"   {step['url']}")
    if step.get("warning"):
        lines.append(terminal.style(f"   Careful: {step['warning']}", "yellow"))
    if step.get("hint"):
        lines.append(f"   {step['hint']}")
    if step.get("who"):
        lines.append(f"   Done by: {step['who']}")
    return lines


def _sources(sources: Sequence[dict[str, Any]]) -> None:
    lines = []
    for each in sources:
        checked = f", checked {each['checked']}" if each["checked"] else ""
        doubt = " (not confirmed by us)" if each["unconfirmed"] else ""
        lines.append(f"{each['title']}{checked}{doubt}" + (f"  {each['url']}" if each["url"] else ""))
    _section("Sources", lines)

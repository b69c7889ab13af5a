"""list, show, test, discover, history, use."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from keyturn.cli import inputs, terminal, words
from keyturn.cli.session import Session, pass_session
from keyturn.cli.terminal import Exit
from keyturn.errors import InvalidInput

if TYPE_CHECKING:
    from keyturn.model.run import Line

KINDS = ("live", "cached", "deploy-time", "pushed", "outside")


@click.command("list", epilog=terminal.examples("keyturn list", "keyturn list --json"))
@terminal.json_option
@pass_session
def list_command(session: Session, as_json: bool) -> None:
    """All connections: state, version that serves, age, when the next rotation is due."""
    from keyturn.operations import systems

    with session.hub() as hub:
        found = systems.overview(hub)
    listed(found, as_json)


def listed(found: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Connections, one a line."""
    if as_json:
        terminal.emit(found)
        return
    terminal.table(
        ("Name", "System", "Method", "State", "Serves", "Since", "Due", "Expires", "Also alive"),
        [
            (
                c["name"],
                c["system"],
                c["method"],
                c["state"].replace("_", " "),
                f"v{c['version']}" if c["version"] else "nothing",
                _day(c["since"]),
                _day(c["due"]),
                _day(c["expires"]),
                ", ".join(c["alive"]),
            )
            for c in found
        ],
        "No connections. `keyturn connect SYSTEM METHOD --name NAME` makes one.",
    )


def _day(instant: str | None) -> str:
    return instant[:10] if instant else ""


@click.command("show", epilog=terminal.examples("keyturn show orders-db"))
@click.argument("name")
@terminal.json_option
@pass_session
def show_command(session: Session, name: str, as_json: bool) -> None:
    """One connection: what serves, settings, identity, versions, consumers. Never a secret."""
    from keyturn.operations import systems

    with session.hub() as hub:
        page = systems.connection_page(hub, inputs.connection(hub, name).name)
    show(page, as_json)


def show(page: Mapping[str, Any], as_json: bool) -> None:
    """One connection."""
    if as_json:
        terminal.emit(page)
        return
    terminal.say(
        terminal.style(page["name"], bold=True) + f"  {page['system']}/{page['method']}  {page['title']}"
    )
    terminal.pairs(
        [
            ("State", words.state(page["state"])),
            ("Serving", page["serving"]),
            ("Since", page["since"]),
            ("Next rotation", page["due"]),
            ("Expires", page["expires"]),
            ("Owner", page["owner"]),
            (
                "Rotates by",
                f"{page['strategy']}, gap {page['gap_class']}, proof {page['proof']}, {page['hands']}"
                if page["hands"] != "none"
                else "nothing: there is no credential",
            ),
            ("Definition", page["definition"]),
        ],
        "  ",
    )
    for title in ("settings", "identity", "policy"):
        if page[title]:
            terminal.heading(title.capitalize())
            terminal.pairs({k: _short(v) for k, v in page[title].items()}, "  ")
    if page["versions"]:
        terminal.heading("Versions")
        _versions(page["versions"])
    if page["validation"]:
        terminal.heading("Tried, as far as it got")
        terminal.table(
            ("Level", "Passed", "At", "Seen"),
            [(v["level"], _PASSED[v["passed"]], v["at"], v["detail"]) for v in page["validation"]],
        )
    if page["jobs"]:
        terminal.heading("Jobs")
        terminal.table(
            ("Name", "Reads", "Last", "Count", "Schedule"),
            [
                (
                    j["name"],
                    j["reads"],
                    words.state(j["last"]["state"]) if j["last"] else "never",
                    j["last"]["count"] if j["last"] else "",
                    j["schedule"] if j["state"] == "active" else j["held"] or j["state"],
                )
                for j in page["jobs"]
            ],
        )
    if page["used_by"]:
        terminal.heading("Used by")
        for label in page["used_by"]:
            terminal.say(f"  {label}")
    if page["consumers"]:
        terminal.heading("Consumers")
        terminal.table(
            ("Name", "Kind", "TTL", "Required", "Seen on"),
            [
                (
                    c["name"],
                    c["kind"],
                    f"{c['ttl_s']:g} s" if c["ttl_s"] else "",
                    "yes" if c["required"] else "no",
                    "the present one" if c["seen_generation"] >= page["generation"] else "an older one",
                )
                for c in page["consumers"]
            ],
        )


_PASSED = {True: "yes", False: "no", None: "no clear answer"}


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 and "\n" not in text else f"({len(text)} characters)"


def _versions(versions: list[dict[str, Any]]) -> None:
    terminal.table(
        ("Version", "State", "Made by", "At the vendor", "Changed", "Expires"),
        [
            (
                f"v{v['number']}",
                v["state"],
                v["provenance"],
                v["ref"].get("id") or v["ref"].get("slot") or "",
                v["changed"],
                v["expires"],
            )
            for v in versions
        ],
    )


@click.command("test", epilog=terminal.examples("keyturn test orders-db", "keyturn test orders-db --json"))
@click.argument("name")
@terminal.json_option
@pass_session
def test_command(session: Session, name: str, as_json: bool) -> None:
    """Log in afresh with what serves now. Exit code 0 only when it is accepted as the same account."""
    from keyturn.operations import connections

    with session.hub() as hub:
        name = inputs.connection(hub, name).name
        probe = connections.test(hub, name)
    tested({"connection": name, **probe.as_facts()}, as_json)


def tested(facts: Mapping[str, Any], as_json: bool) -> None:
    """What a test saw. Raises: click.exceptions.Exit unless it was let in as the same account."""
    name, verdict, code = facts["connection"], facts["verdict"], facts.get("code", "")
    if as_json:
        terminal.emit(facts)
    else:
        identity = facts.get("identity") or {}
        who = identity.get("principal_label") or identity.get("principal", "")
        said = " ".join(part for part in (code, facts.get("detail", "")) if part)
        terminal.say(
            f"{name}: {words.state(verdict)}" + (f" as {who}" if who else "") + (f" ({said})" if said else "")
        )
        if verdict == "rejected":
            terminal.say(
                f"The vendor refuses it. Next: keyturn rotate {quote(name)}, or keyturn reconnect {quote(name)}"
            )
        elif verdict == "unknown":
            terminal.say("That says nothing about the credential. Check the network and test again.")
    if verdict != "accepted":
        raise click.exceptions.Exit(Exit.ATTENTION if code == "wrong_account" else Exit.FAILED)


@click.command("discover", epilog=terminal.examples("keyturn discover orders-db"))
@click.argument("name")
@terminal.json_option
@pass_session
def discover_command(session: Session, name: str, as_json: bool) -> None:
    """What the credential can see at the vendor: credentials, roles, accounts."""
    from keyturn.operations import connections

    with session.hub() as hub:
        found = connections.discover(hub, inputs.connection(hub, name).name)
    if as_json:
        terminal.emit([{"name": f.name, "kind": f.kind, "facts": dict(f.facts)} for f in found])
        return
    terminal.table(
        ("Kind", "Name", "Facts"), [(f.kind, f.name, _facts(f.facts)) for f in found], "It sees nothing."
    )


def _facts(facts: Mapping[str, Any]) -> str:
    return "  ".join(f"{k}={_fact(v)}" for k, v in facts.items() if v not in {None, ""})


def _fact(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


@click.command(
    "history", epilog=terminal.examples("keyturn history orders-db", "keyturn history orders-db --limit 20")
)
@click.argument("name")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Latest journal lines."
)
@terminal.json_option
@pass_session
def history_command(session: Session, name: str, limit: int, as_json: bool) -> None:
    """What was done with a connection, line by line, from its journal, and the versions that were in it or are alive."""
    from keyturn.operations import systems

    with session.hub() as hub:
        known, lines = systems.history(hub, inputs.connection(hub, name).name, limit)
        versions = [systems.version_page(v) for v in known]
    if as_json:
        terminal.emit({"versions": versions, "journal": [_plain(line) for line in lines]})
        return
    _versions(versions)
    terminal.say()
    terminal.table(
        ("No", "At", "Run", "Step", "What", "Facts"),
        [(n.number, words.clock(n.at), n.run_id[-6:], n.step, n.kind.value, _flat(n.facts)) for n in lines],
    )


def _plain(line: Line) -> dict[str, Any]:
    return {**vars(line), "kind": line.kind.value, "facts": dict(line.facts)}


def _flat(facts: Mapping[str, Any]) -> str:
    return "  ".join(f"{k}={_fact(v)}" for k, v in facts.items() if v not in (None, "", [], {}))


@click.command(
    "use",
    epilog=terminal.examples(
        "keyturn use orders-db billing-job --kind live",
        "keyturn use orders-db web --kind cached --ttl 5m",
        "keyturn use orders-db partner --kind outside --optional",
    ),
)
@click.argument("name")
@click.argument("consumer")
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    required=True,
    help="live: asks at every use; cached: keeps it for --ttl; deploy-time: picks it up at a deployment; pushed: we"
    " write it to a target; outside: not under our control.",
)
@click.option(
    "--ttl", type=inputs.length, metavar="LENGTH", default="0", help="How long a cached one is kept, e.g. 5m."
)
@click.option("--optional", is_flag=True, help="A rotation does not wait for this one.")
@terminal.json_option
@pass_session
def use_command(
    session: Session, name: str, consumer: str, kind: str, ttl: float, optional: bool, as_json: bool
) -> None:
    """Declare that CONSUMER uses a connection, so that its old credential waits until CONSUMER has moved on."""
    from keyturn.operations import leases

    if kind == "cached" and not ttl:
        raise InvalidInput(
            "a cached consumer needs --ttl", hint="How long does it keep a value? --ttl 5m", field="ttl"
        )
    with session.hub() as hub:
        name = inputs.connection(hub, name).name
        leases.declare(hub, name, consumer, kind, ttl_s=ttl, required=not optional)
        found = leases.users(hub, name)
    if as_json:
        terminal.emit(
            [{"name": c.name, "kind": c.kind, "ttl_s": c.ttl_s, "required": c.required} for c in found]
        )
        return
    terminal.say(f"{consumer} uses {name} ({kind}). Declared: {', '.join(c.name for c in found)}.")

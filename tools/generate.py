"""Writes the pages that cannot be allowed to drift: docs/systems, docs/cli, docs/settings, docs/errors, README tables.

`--check` changes nothing and exits 1 naming every file that is stale. The same input gives the same bytes: no clock,
no machine, no network. Prose is written by hand elsewhere; here is only what the code already says.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import click

from keyturn import errors
from keyturn.catalog import Catalog
from keyturn.contract.manifest import Field, GuideStep, Method, Readable, System
from keyturn.errors import KeyturnError, Retry
from keyturn.model.card import Card, GapClass, Hands, Proof, RevokeScope, Strategy
from keyturn.model.moment import span
from keyturn.model.plan import Plan
from keyturn.model.policy import Policy
from keyturn.operations import examples, systems
from keyturn.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
NOTE = "<!-- Written by tools/generate.py. Change the source it names and run `make generate`. -->"
CLI_PAGE = "docs/cli.md"

STRATEGY = {
    Strategy.NOTHING: "there is no credential, so there is nothing to rotate",
    Strategy.TWO_SLOTS: "two slots, the hub makes the value",
    Strategy.MANY_IDS: "many credentials side by side, the vendor makes the value",
    Strategy.NAMED_SLOTS: "two named slots, the vendor makes the value",
    Strategy.SET_ONE: "one slot, the hub makes the value",
    Strategy.REGENERATE: "one slot, and a new value ends the old one",
    Strategy.SUPPLIED: "a person supplies the new value beside the old one",
    Strategy.CONSENT: "a person consents in a browser",
    Strategy.ISSUED: "the hub is the vendor",
}
GAP = {
    GapClass.Z0: "nothing: old and new work at the same time",
    GapClass.Z1: "at most one refused login, answered by the second value it was given",
    GapClass.Z2: "a visible gap: consumers are paused while the value is replaced",
    GapClass.Z3: "a gap that cannot be avoided or bounded",
}
PROOF = {
    Proof.D0: "the vendor accepted the request to end it; nothing more is known",
    Proof.D1: "the vendor's inventory no longer shows it, or its slot holds another value",
    Proof.D2: "it is refused three times, while the new one is accepted and a made-up one is refused alike",
    Proof.D3: "D1 and D2, and the tokens and sessions made from it have run out",
    Proof.DA: "a named person attests it",
}
HANDS = {
    Hands.AUTOMATIC: "the hub does it",
    Hands.GUIDED: "a person does the vendor's part, guided and checked by the hub",
}
SCOPE = {
    RevokeScope.CREDENTIAL: "that credential only",
    RevokeScope.GRANT: "the whole grant, other tokens included",
    RevokeScope.PRINCIPAL: "the whole account's way in",
}
POLICY = {
    "proof": "the grade of death proof a run must reach: D0, D1, D2, D3 or DA",
    "drain_min_s": "at least this long after the switch before the old one is ended",
    "drain_max_s": "after this long in use the run is shown as blocked and waits on",
    "soak_s": "how long the old one stays switched off before it is ended for good",
    "retention_s": "how long the ciphertext of a dead version is kept",
    "accept": "`NAME may be lost`: accepts the plan's risk for every run, those that begin by themselves too",
    "task_days": "how long a person has for a task",
    "drop_principal": "whether a disconnect also deletes the remote user or client",
    "max_age_days": "after this age a rotation is due; 0: never by its age",
    "approve": "goals that a second person approves here, besides those that the hub asks for",
    "approval_days": "how long a run waits to be approved",
    "unused_days": "what this hub issued and nobody used for so long is ended, a month after a warning; 0: never",
    "automatic": "whether the hub rotates by itself when it is due; else it only shows it",
    "settle_create_s": "how long a new one may still be refused at this account",
    "settle_revoke_s": "how long a dead one may still be accepted at this account",
    "apply_lag_s": "how much later an unanswered call may still take effect",
    "call_deadline_s": "how long one call may take",
}
POLICY_NOTE = (
    "Given with `keyturn connect --policy name=value` (`src/keyturn/model/policy.py`). Names ending in `_s` are seconds;"
    " `90s`, `5m`, `24h` and `7d` are understood as well."
)
RETRY = {
    Retry.NEVER: "stops and says so",
    Retry.LATER: "the same call again after a pause; nothing was changed",
    Retry.LOOK: "looks at the vendor before acting again",
}


# -- what is written --------------------------------------------------------------------------------------------------


def pages() -> dict[str, str]:
    """Every generated file by its path below the root."""
    catalog = Catalog()
    found = {f"docs/systems/{system.name}.md": system_page(catalog, system) for system in catalog.systems()}
    found["docs/systems/README.md"] = index_page(catalog)
    found["docs/settings.md"] = settings_page()
    found["docs/errors.md"] = errors_page()
    if cli_is_here():
        found[CLI_PAGE] = cli_page()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = put(readme, "rows", rows_table(catalog, "docs/systems/"))
    found["README.md"] = put(readme, "settings", settings_table())
    return found


def put(text: str, name: str, body: str) -> str:
    """`text` with `body` between the markers of `name`. Raises: SystemExit when a marker is missing."""
    start, end = f"<!-- generated:{name} -->", f"<!-- /generated:{name} -->"
    if text.count(start) != 1 or text.count(end) != 1:
        sys.exit(f"README.md needs exactly one {start} and one {end}")
    before, rest = text.split(start)
    return f"{before}{start}\n\n{body}\n\n{end}{rest.split(end)[1]}"


def stale(found: dict[str, str]) -> list[str]:
    """The files whose bytes differ, and pages of systems that are gone."""
    wrong = [name for name, text in found.items() if not _holds(ROOT / name, text)]
    there = (str(path.relative_to(ROOT)) for path in (ROOT / "docs/systems").glob("*.md"))
    return sorted([*wrong, *(name for name in there if name not in found)])


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


# -- a system's page --------------------------------------------------------------------------------------------------


def system_page(catalog: Catalog, system: System) -> str:
    """Everything the catalogue knows of a system."""
    parts = [f"# {system.title}", NOTE, flat(system.summary)]
    if len(system.methods) > 1:
        links = [f"[{m.title}](#{slug(f'{system.name}/{m.name}')})" for m in system.methods]
        parts.append("Methods: " + ", ".join(links) + ".")
    for method in system.methods:
        parts += method_parts(catalog, system, method)
    if system.docs:
        parts += ["## Vendor's documentation", "\n".join(f"- <{url}>" for url in system.docs)]
    return "\n\n".join(part for part in parts if part) + "\n"


def method_parts(catalog: Catalog, system: System, method: Method) -> Iterator[str]:
    """The sections of one row."""
    yield f"## {system.name}/{method.name}"
    yield f"**{method.title}** ({method.direction}). {flat(method.summary)}"
    card, rotates = method.card, method.card.strategy is not Strategy.NOTHING
    who = f" {capital(HANDS[card.hands])}." if rotates else ""
    yield (
        f"Rotation: **{card.strategy.value}**, {STRATEGY[card.strategy]}"
        f" ([strategies](../strategies.md#{card.strategy.value.lower()})).{who}"
    )
    if method.rest == "user" and rotates:
        yield (
            "The card below is what holds without declared calls. Your own definition decides:"
            " [definitions](../definitions.md)."
        )
    if card.dies_on:
        yield f"**End date:** the vendor withdraws this method by {card.dies_on}."
    if rotates:
        yield "### What a rotation is like"
        life = systems.life(method)
        yield table(("question", "answer"), [*card_rows(card), *([("Ends by itself", life)] if life else [])])
    for variant in method.variants:
        changed = [row for row in card_rows(variant.card) if row not in card_rows(card)]
        yield f"With `{variant.field}` = `{variant.equals}` ({variant.name}) these answers differ:"
        yield table(("question", "answer"), changed)
        if variant.needs:
            yield f"It needs {code_list(variant.needs)} as well."
    if method.fields:
        yield "### Fields"
        yield table(("field", "what", "needed"), [field_row(each) for each in method.fields])
        yield f"The account is told apart by: {code_list(method.principal)}." if method.principal else ""
    yield from guide_parts(method, "")
    for variant in method.variants:
        if variant.guide is not None:
            yield from guide_parts(method.fitting({variant.field: variant.equals}), f", with {variant.name}")
    if method.permissions:
        yield "### Permissions"
        yield "\n".join(permission_lines(method))
    if method.reads:
        yield "### What a job can read"
        yield table(
            ("`--reads`", "what is counted", "for example"), [read_row(each) for each in method.reads]
        )
    yield from plan_parts(catalog, system, method)
    if method.env:
        yield "### Environment of `keyturn lease`"
        rows = [(f"`{name}`", f"`{escape(text)}`") for name, text in method.env.items()]
        yield table(("variable", "value"), rows)
    if method.unsupported:
        yield "### Not supported, and why"
        yield table(("what", "why"), [(each, flat(why)) for each, why in method.unsupported.items()])
    known = [source for source in method.sources if not source.unconfirmed]
    if known:
        yield "### Sources"
        yield "\n".join(f"- {linked(s.title, s.url)}{checked(s.checked)}" for s in known)
    open_points = [source for source in method.sources if source.unconfirmed]
    if open_points:
        yield "### UNCONFIRMED"
        yield "Not documented by the vendor, or not yet seen on a real account. The hub assumes the safer side."
        yield "\n".join(
            f"- {linked(s.title.removeprefix('UNCONFIRMED: '), s.url)}{checked(s.checked)}"
            for s in open_points
        )


def guide_parts(method: Method, when: str) -> Iterator[str]:
    """What people do, and what they paste."""
    for title, steps in (
        ("Steps a person follows to create", method.create_steps),
        ("Steps a person follows to revoke", method.revoke_steps),
        ("When access is lost", method.recovery_steps),
    ):
        if steps:
            yield f"### {title}{when}"
            yield "\n".join(step_lines(steps))
    if method.paste_fields:
        yield f"Then pasted into the hub: {code_list(method.paste_fields)}."


def card_rows(card: Card) -> list[tuple[str, str]]:
    """The capability card in words; what does not apply is left out."""
    rows = [
        ("What a consumer notices", f"{card.gap_class.value}: {GAP[card.gap_class]}"),
        ("How the old one's death is proven", f"{card.proof.value}: {PROOF[card.proof]}"),
        ("How many can exist at once", slots(card)),
        ("What dies when one is revoked", SCOPE[card.revoke_scope]),
        ("Does a new one end the old one", yes(card.new_kills_old, "at once")),
        ("Does each grant get a client of its own", yes(card.own_client, "registered before the consent")),
        ("Reversible off switch", yes(card.disable_first, "used before the old one is ended")),
        ("Can the vendor list what exists", yes(card.inventory)),
        ("Does the vendor report last use", yes(card.last_used, "the old one waits for it")),
        ("Can a value be read again later", yes(card.secret_reviewable)),
        ("Is setting the same value twice safe", yes(card.set_is_absolute)),
        ("Separate administrator's way in", yes(card.admin_path)),
        ("Call's deadline", span(card.call_deadline_s)),
    ]
    if card.reconcile_path:
        rows.append(("Administrator can repair it", "yes"))
    if card.label_field:
        rows.append(("Our mark on the remote credential", f"written into `{card.label_field}`"))
    if card.settle_create_s:
        rows.append(("A new one may still be refused for", span(card.settle_create_s)))
    if card.settle_revoke_s:
        rows.append(("A dead one may still be accepted for", span(card.settle_revoke_s)))
    if card.prove_times > 1:
        rows.append(("Accepted logins in a row before it counts", str(card.prove_times)))
    if card.derived_ttl_s:
        rows.append(("Tokens and sessions made from it outlive it by", span(card.derived_ttl_s)))
    if card.apply_lag_s:
        rows.append(("An unanswered call may still take effect for", span(card.apply_lag_s)))
    if card.lockout:
        words = f"after {card.lockout.max_failures} refused logins in {span(card.lockout.window_s)}"
        counted = "counts" if card.old_counts else "does not count"
        rows.append(("Lock-out", f"{words}; a login with the old value {counted}"))
    return rows


def slots(card: Card) -> str:
    """How many credentials fit."""
    if card.slots is None:
        return f"many, at most {card.cap}" if card.cap else "many"
    names = f": {code_list(card.slot_names)}" if card.slot_names else ""
    return f"{card.slots}{names}"


def field_row(each: Field) -> tuple[str, str, str]:
    """A form field."""
    words = [each.label if each.label.endswith(".") else f"{each.label}."]
    if each.help:
        words.append(flat(each.help))
    if each.choices:
        words.append(f"One of {code_list(each.choices)}.")
    if each.default not in (None, ""):
        words.append(f"Default `{escape(shown(str(each.default)))}`.")
    elif each.example and not each.secret:
        words.append(f"Example `{escape(each.example)}`.")
    needed = "yes" if each.required and each.default is None else "no"
    kind = ", secret" if each.secret else ""
    kind += ", administrator's" if each.group == "admin" else ""
    return f"`{each.name}`", escape(" ".join(words)), needed + kind


def step_lines(steps: Sequence[GuideStep]) -> Iterator[str]:
    """A numbered list of instructions."""
    for number, step in enumerate(steps, 1):
        words = [prose(step.text).rstrip(".") + "."]
        if step.ui_path:
            words.append(f"*{' > '.join(step.ui_path)}*.")
        if step.button:
            words.append(f"Button: **{prose(step.button)}**.")
        if step.who:
            words.append(f"Who: {step.who}.")
        if step.url:
            words.append(f"At `{shown(step.url)}`.")
        if step.warning:
            words.append(f"**Careful:** {prose(step.warning)}")
        if step.hint:
            words.append(f"Hint: {prose(step.hint)}")
        yield visible(f"{number}. {' '.join(words)}")


def permission_lines(method: Method) -> Iterator[str]:
    """What has to be granted, to whom, and how."""
    for each in method.permissions:
        why = flat(each.why).rstrip(".")
        yield visible(f"- **{each.right}**, for {lower(each.who)}: {why}.")
        if each.grant:
            yield f"  Grant: `{flat(each.grant)}`"


def read_row(each: Readable) -> tuple[str, str, str]:
    """Something a job can read."""
    words = f"{each.counts}. {flat(each.help)}" if each.help else each.counts
    name = f"`{escape(each.name)}`" if each.name else "left out"
    return name, escape(words), f"`{escape(each.example)}`" if each.example else ""


# -- example plans ----------------------------------------------------------------------------------------------------


def plan_parts(catalog: Catalog, system: System, method: Method) -> Iterator[str]:
    """What `keyturn plan NAME rotate` prints, for a made-up connection of each shape."""
    if method.rest == "user":
        return
    yield "### Example plan"
    yield "What `keyturn plan NAME rotate` shows for a made-up connection" + (
        " that has an administrator's credential." if examples.is_told(method) else "."
    )
    for name, made, risk in examples.rotations(catalog, system, method):
        if name:
            yield f"With {name}:"
        yield table(("step", "what", "call", "by", "can be undone"), plan_rows(made))
        yield from (f"> {warning}" for warning in made.warnings)
        if risk:
            alone = (
                "Without an administrator's credential somebody" if examples.is_told(method) else "Somebody"
            )
            yield f"> {alone} must accept a risk in words before it starts: {risk}"


def plan_rows(made: Plan) -> list[tuple[str, ...]]:
    """One row a step; from the point of no return on, nothing is undone."""
    last = made.point_of_no_return()
    return [
        (str(number + 1), step.title, step.call, step.who, "yes" if number < last else "no")
        for number, step in enumerate(made.steps)
    ]


# -- the other pages --------------------------------------------------------------------------------------------------


def rows_table(catalog: Catalog, folder: str) -> str:
    """One line a row."""
    rows = []
    for system in catalog.systems():
        for method in system.methods:
            card = method.card
            strategies = sorted({card.strategy.value, *(v.card.strategy.value for v in method.variants)})
            gaps = sorted({card.gap_class.value, *(v.card.gap_class.value for v in method.variants)})
            proofs = sorted({card.proof.value, *(v.card.proof.value for v in method.variants)})
            own = method.rest == "user"
            decides = "your definition" if card.strategy is not Strategy.NOTHING else "none"
            rows.append(
                (
                    f"[`{system.name}/{method.name}`]({folder}{system.name}.md#{slug(f'{system.name}/{method.name}')})",
                    f"{system.title}: {lower(method.title)}",
                    method.direction,
                    decides if own and decides != "none" else " or ".join(strategies),
                    decides if own else card.hands.value,
                    decides if own else " or ".join(gaps),
                    decides if own else " or ".join(proofs),
                )
            )
    return table(("row", "what", "direction", "strategy", "hands", "gap", "proof"), rows)


def index_page(catalog: Catalog) -> str:
    """The list of systems."""
    words = (
        "One page a system, made from `src/keyturn/connectors/*/definition.yaml`. `keyturn systems` prints the same."
        " [Strategies](../strategies.md) explains S0 to S8; [the glossary](../glossary.md) explains gap and proof."
    )
    return "\n\n".join(["# Systems", NOTE, words, rows_table(catalog, "")]) + "\n"


_SETTING = re.compile(r"^\s*(KEYTURN_[A-Z_]+)\s+(.*)$")


def settings_rows() -> list[tuple[str, str]]:
    """The variables and their meaning, from the docstring of `Settings.read`."""
    text = inspect.getdoc(Settings.read) or ""
    found = (_SETTING.match(line) for line in text.splitlines())
    return [(f"`{m[1]}`", m[2]) for m in found if m]


def settings_table() -> str:
    """The same as a table."""
    return table(("variable", "meaning"), settings_rows())


def settings_page() -> str:
    """docs/settings.md."""
    return (
        "\n\n".join(
            [
                "# Settings",
                NOTE,
                "Read from the environment once, at start-up (`src/keyturn/settings.py`).",
                settings_table(),
                "Private, loopback and plain-http addresses are refused unless `KEYTURN_ALLOWED_HOSTS` names them.",
                "## Policy of a connection",
                POLICY_NOTE,
                table(("policy", "meaning", "default"), policy_rows()),
            ]
        )
        + "\n"
    )


def policy_rows() -> list[tuple[str, str, str]]:
    """The policy's keys. A new key without words here is a KeyError: say what it means first."""
    rows = []
    for name, default in vars(Policy()).items():
        if default is None or default == "":
            words = "the card's"
        elif default is False or default == ():
            words = "no" if default is False else "none"
        else:
            words = f"{default:g}"
        rows.append((f"`{name}`", POLICY[name], words))
    return rows


def error_classes() -> list[type[KeyturnError]]:
    """Every error, in the order of the module."""
    return [
        each
        for each in vars(errors).values()
        if inspect.isclass(each) and issubclass(each, KeyturnError) and each is not KeyturnError
    ]


def errors_page() -> str:
    """docs/errors.md."""
    rows = [
        (f"`{each.__name__}`", flat(inspect.getdoc(each) or ""), RETRY[each.retry], str(each.exit_code))
        for each in error_classes()
    ]
    words = (
        "Every error has a message, a hint (the next action) and facts. None holds a secret, a URL's query or a body."
        " Inside a run an error never ends it silently: the third column says what the run does."
        " The last column is the exit code when a command ends with it."
    )
    other = (
        "Anything else is our defect. It is shown by its type alone, the run stops as `blocked`, and the old"
        " credential stays in use."
    )
    return (
        "\n\n".join(["# Errors", NOTE, words, table(("error", "means", "a run", "exit"), rows), other]) + "\n"
    )


def cli_is_here() -> bool:
    """Whether every command can be imported; while some are being written, the page stays as it is."""
    from keyturn.cli.main import COMMANDS

    modules = {module for section in COMMANDS.values() for module, _ in section.values()}
    missing = sorted(m for m in modules if find_spec(f"keyturn.cli.commands.{m}") is None)
    if missing and (ROOT / CLI_PAGE).exists():
        sys.exit(f"{CLI_PAGE} cannot be written: no keyturn.cli.commands.{missing[0]}")
    if missing:
        print(f"note: {CLI_PAGE} waits for keyturn.cli.commands: {', '.join(missing)}", file=sys.stderr)
    return not missing


def cli_page() -> str:
    """docs/cli.md."""
    from keyturn.cli.main import COMMANDS, cli

    context = click.Context(cli, info_name="keyturn")
    parts = ["# Commands", NOTE, help_text(cli)]
    parts.append(
        "Exit codes: 0 done, 1 failed, 2 bad input, 3 waiting for a person, 4 needs attention (a debt is open)."
    )
    for section, commands in COMMANDS.items():
        parts.append(f"## {section}")
        for name in commands:
            command = cli.get_command(context, name)
            if command is None:
                sys.exit(f"keyturn has no command {name}")
            parts += command_parts(command, context, name, "###")
    return "\n\n".join(part for part in parts if part) + "\n"


def command_parts(command: click.Command, parent: click.Context, name: str, level: str) -> Iterator[str]:
    """A command, its parameters and what is below it."""
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"{level} keyturn {context.command_path.removeprefix('keyturn ')}"
    yield f"```\n{usage}\n```"
    yield help_text(command)
    rows = [row for each in command.params if (row := parameter_row(each, context)) is not None]
    if rows:
        yield table(("option", "meaning"), rows)
    if command.epilog:
        yield example_lines(command.epilog)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            below = command.get_command(context, inner)
            if below is not None:
                yield from command_parts(below, context, inner, level + "#")


def parameter_row(each: click.Parameter, context: click.Context) -> tuple[str, str] | None:
    """An option as `--help` says it; arguments stand in the usage line."""
    record = each.get_help_record(context)
    return (f"`{record[0]}`", flat(record[1])) if record and record[1] else None


def example_lines(epilog: str) -> str:
    """A command's examples, as they are typed."""
    text = inspect.cleandoc(epilog.replace("\b", "")).strip()
    return f"```\n{text}\n```"


def help_text(command: click.Command) -> str:
    """The help as Markdown: what click keeps as it is (`\\b`) becomes a code block."""
    text = inspect.cleandoc(command.help or "")
    parts = []
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("\b"):
            parts.append("```\n" + paragraph.removeprefix("\b").strip("\n") + "\n```")
        elif paragraph.strip():
            parts.append(flat(paragraph))
    return "\n\n".join(parts)


# -- words ------------------------------------------------------------------------------------------------------------


def shown(text: str) -> str:
    """Expressions as `<name>`, for places that are code."""
    return systems.unfilled(flat(text))


def prose(text: str) -> str:
    """Expressions as code inside a sentence."""
    return systems.unfilled(flat(text), "`<{}>`")


def flat(text: str) -> str:
    """One line."""
    return " ".join(text.split())


def escape(text: str) -> str:
    """Text that may stand in a table's cell."""
    return flat(text).replace("\\|", "|").replace("|", "\\|")


def visible(text: str) -> str:
    """Markdown that shows `<` outside code instead of taking it for a tag."""
    pieces = text.split("`")
    return "`".join(p.replace("<", "&lt;") if n % 2 == 0 else p for n, p in enumerate(pieces))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(visible(escape(cell)) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def slug(text: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[^a-z0-9 _-]", "", text.lower()).replace(" ", "-")


def linked(title: str, url: str) -> str:
    """A source's name, as a link where there is one."""
    words = flat(title).replace("[", "\\[").replace("]", "\\]")
    return f"[{words}]({url})" if url else words


def checked(date: str) -> str:
    """When a fact was checked."""
    return f" (checked {date})" if date else ""


def yes(value: bool, more: str = "") -> str:
    """Yes or no, and what follows from a yes."""
    return ("yes" + (f", {more}" if more else "")) if value else "no"


def code_list(names: Sequence[str]) -> str:
    """Names as code."""
    return ", ".join(f"`{name}`" for name in names)


def capital(text: str) -> str:
    """A sentence's beginning."""
    return text[:1].upper() + text[1:]


def lower(text: str) -> str:
    """The same inside a sentence; names of things keep their capitals."""
    first = text.split(" ", 1)[0]
    return text if first[1:] != first[1:].lower() else text[:1].lower() + text[1:]


def main() -> int:
    """Writes, or with `--check` only compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 naming what is stale")
    options = parser.parse_args()
    found = pages()
    wrong = stale(found)
    if options.check:
        for name in wrong:
            print(f"stale: {name}   (run `make generate`)")
        return 1 if wrong else 0
    for name in wrong:
        path = ROOT / name
        if name in found:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found[name], encoding="utf-8")
        else:
            path.unlink()
        print(f"written: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

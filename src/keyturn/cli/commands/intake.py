"""holders, handover, leaked, datasets, events: what lies behind the credentials this hub issued."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from keyturn.cli import inputs, terminal, words
from keyturn.cli.session import Session, pass_session
from keyturn.cli.terminal import Exit
from keyturn.model.moment import iso

if TYPE_CHECKING:
    from keyturn.operations.leaks import Radius, Report


@click.command(
    "holders",
    epilog=terminal.examples(
        "keyturn holders partner",
        "keyturn holders partner --add Acme --contact ops@acme.example --place 'their vault'",
        "keyturn holders partner --confirm Acme",
    ),
)
@click.argument("name")
@click.option("--add", help="Put somebody on the register, or change what is known of them.")
@click.option("--contact", default="", help="With --add: whom to tell.")
@click.option("--place", default="", help="With --add: where they keep it.")
@click.option("--confirm", help="Somebody's word that this holder uses the newest one.")
@click.option("--remove", help="Take somebody off the register.")
@terminal.json_option
@pass_session
def holders_command(
    session: Session,
    name: str,
    add: str | None,
    contact: str,
    place: str,
    confirm: str | None,
    remove: str | None,
    as_json: bool,
) -> None:
    """Where an issued credential is: who was given it, and who called with which slot within 30 days."""
    from keyturn.operations import register

    with session.hub() as hub:
        name = inputs.connection(hub, name).name
        if add:
            register.hold(hub, name, add, contact=contact, place=place)
        if confirm:
            register.confirm(hub, name, confirm)
        if remove:
            register.let_go(hub, name, remove)
        found = register.where_used(hub, name)
    if as_json:
        terminal.emit(register.told(found))
        return
    owed = {h.name for h in found.owed()}
    terminal.table(
        ("Holder", "Contact", "Keeps it in", "Newest one"),
        [(h.name, h.contact, h.place, "not yet" if h.name in owed else "in place") for h in found.holders],
        "Nobody is on the register. `keyturn holders NAME --add WHO` adds somebody.",
    )
    terminal.table(
        ("Slot", "Address", "Agent", "Last", "Uses"),
        [
            (found.slot(c.version_id), c.address, c.agent, words.since(c.last_at), c.uses)
            for c in found.callers
        ],
        "Nobody called with it within 30 days.",
    )
    for load in found.loads:
        terminal.say(f"bulk load {load} is running")
    for finding in found.findings:
        terminal.note(f"note: {finding}")


@click.command(
    "handover",
    epilog=terminal.examples("keyturn handover partner --to Acme", "keyturn handover partner --for 4h"),
)
@click.argument("name")
@click.option("--to", "holder", default="", help="For whom; they get on the register.")
@click.option(
    "--for",
    "length",
    type=inputs.length,
    metavar="LENGTH",
    default="24h",
    show_default=True,
    help="How long the link lives.",
)
@terminal.json_option
@pass_session
def handover_command(session: Session, name: str, holder: str, length: float, as_json: bool) -> None:
    """A link that shows the newest value of an issued credential once, for whoever is to have it.

    The link goes to stdout, everything else to stderr. Whoever has the link has the value: send it like one.
    """
    from keyturn.operations import register

    with session.hub() as hub:
        made = register.link(hub, inputs.connection(hub, name).name, holder, for_s=length)
    if as_json:
        terminal.emit(
            {
                "name": made.connection.name,
                "url": made.url.reveal(),
                "for": holder,
                "until": iso(made.until_at),
            }
        )
        return
    terminal.note(f"Opens once, until {iso(made.until_at)}:")
    terminal.say(made.url.reveal())


@click.command(
    "leaked",
    epilog=terminal.examples(
        "git log -p | keyturn leaked - --dry-run", "keyturn leaked build.log --source 'CI log' --yes"
    ),
)
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Show what it would stop and whom that hits.")
@click.option("--source", default="", help="Where it was found, for the audit trail.")
@click.option("--url", default="", help="The address of the find.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@terminal.json_option
@pass_session
def leaked_command(
    session: Session, file: BinaryIO, dry_run: bool, source: str, url: str, yes: bool, as_json: bool
) -> None:
    """Look for credentials in a text, stop those that still work, and start replacing them.

    Ours are found by their form, those of other systems by fingerprint. Nothing of the text is kept or shown.
    """
    from keyturn.operations import leaks

    text = file.read(leaks.MOST_BYTES + 1).decode(errors="replace")
    with session.hub() as hub:
        found = leaks.report(hub, text, source=source, url=url, dry_run=True)
        if not dry_run and found.live:
            if not as_json:
                _show(found)
            names = sorted({each.name for each in found.known if each.was_live})
            terminal.confirm(names, f"Stopping and replacing {', '.join(names)}", yes=yes)
        if not dry_run:
            hub.engine.start()
            found = leaks.report(hub, text, source=source, url=url)
            hub.engine.run_until(lambda: all(_rests(hub, each) for each in found.known), 60.0)
    if as_json:
        terminal.emit(
            {"dry_run": dry_run, "in_our_form": found.ours, "known": [_page(each) for each in found.known]}
        )
    else:
        _show(found)
    failed = any(each.error for each in found.known)
    raise click.exceptions.Exit(Exit.ATTENTION if failed else Exit.DONE)


def _rests(hub: Any, each: Radius) -> bool:
    from keyturn.operations import runs

    return not each.run_id or runs.settled(runs.get(hub, each.run_id))


def _show(found: Report) -> None:
    if not found.known:
        terminal.say(
            f"{found.ours} in our form, none of them known here."
            if found.ours
            else "Nothing that this hub knows."
        )
    for each in found.known:
        terminal.heading(f"{each.name} ({each.system}), {each.what}: {each.state}")
        terminal.pairs(
            {"Last used": words.since(each.last_used_at), "Action": each.action, "Run": each.run_id}
        )
        for line in each.hit:
            terminal.say(f"  hits {line}")
        if each.error:
            terminal.note(f"  not contained: {each.error}")


def _page(each: Radius) -> dict[str, Any]:
    return {
        "name": each.name,
        "system": each.system,
        "what": each.what,
        "was_live": each.was_live,
        "state": each.state,
        "last_used": iso(each.last_used_at),
        "hits": list(each.hit),
        "steps": list(each.steps),
        "action": each.action,
        "run": each.run_id or None,
        "error": each.error or None,
    }


@click.command(
    "datasets",
    epilog=terminal.examples(
        "keyturn datasets",
        "keyturn datasets people --export csv > people.csv",
        "keyturn datasets people --drop",
    ),
)
@click.argument("name", required=False)
@click.option(
    "--export", "form", type=click.Choice(["csv", "ndjson"]), help="Write the whole dataset to stdout."
)
@click.option("--drop", is_flag=True, help="Delete the dataset.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@terminal.json_option
@pass_session
def datasets_command(
    session: Session, name: str | None, form: str | None, drop: bool, yes: bool, as_json: bool
) -> None:
    """The datasets that were loaded by bulk, and the latest loads."""
    from keyturn.operations import datasets

    with session.hub() as hub:
        if name and form:
            for piece in datasets.export(hub, name, form):
                sys.stdout.buffer.write(piece)
            return
        if name and drop:
            datasets.shelf(hub).summary(name)
            terminal.confirm([name], f"Deleting the dataset {name}", yes=yes)
            datasets.drop(hub, name)
            terminal.note(f"{name} is gone.")
            return
        found = [datasets.shelf(hub).summary(name)] if name else datasets.every(hub)
        loads = [each for each in datasets.loads(hub) if name in {None, each.dataset}]
    if as_json:
        terminal.emit(
            {
                "datasets": [
                    {
                        "name": d.name,
                        "records": d.records,
                        "columns": list(d.columns),
                        "size_bytes": d.size_bytes,
                    }
                    for d in found
                ],
                "loads": [
                    {
                        "id": x.id,
                        "dataset": x.dataset,
                        "state": x.state.value,
                        "accepted": x.accepted,
                        "rejected": x.rejected,
                        "why": x.why,
                        "created": iso(x.created_at),
                        "ended": iso(x.ended_at),
                    }
                    for x in loads
                ],
            }
        )
        return
    terminal.table(
        ("Dataset", "Records", "Columns", "Changed", "MB"),
        [
            (d.name, d.records, len(d.columns), words.since(d.changed_at), f"{d.size_bytes / 1e6:.1f}")
            for d in found
        ],
        "No datasets. A key with the scope bulk loads one: POST /api/v1/bulk/NAME.",
    )
    terminal.table(
        ("Load", "Dataset", "State", "Taken", "Left out", "Begun", "Why"),
        [
            (x.id, x.dataset, x.state.value, x.accepted, x.rejected, words.since(x.created_at), x.why)
            for x in loads
        ],
        "No loads.",
    )


@click.command(
    "events",
    epilog=terminal.examples(
        "keyturn events",
        "keyturn events --refused",
        "keyturn events --replay-all partner",
        "keyturn events --replay ref_0...",
    ),
)
@click.option("--refused", is_flag=True, help="What was not taken within the last day.")
@click.option("--replay", metavar="ID", help="Take one refused event after all.")
@click.option("--replay-all", metavar="NAME", help="Take everything refused of one sender.")
@click.option("--unsigned", is_flag=True, help="Also what had a wrong signature: somebody has looked at it.")
@terminal.json_option
@pass_session
def events_command(
    session: Session, refused: bool, replay: str | None, replay_all: str | None, unsigned: bool, as_json: bool
) -> None:
    """The latest events that others sent, and what of theirs was refused."""
    from keyturn.operations import intake

    with session.hub() as hub:
        if replay:
            receipt = intake.replay(hub, replay, unsigned=unsigned)
            if as_json:
                terminal.emit({"id": receipt.id, "status": receipt.taken.value})
            else:
                terminal.say(f"{receipt.id} is {receipt.taken.value}.")
            return
        if replay_all:
            done, left = intake.replay_all(hub, inputs.connection(hub, replay_all).name, unsigned=unsigned)
            if as_json:
                terminal.emit({"replayed": done, "left": [{"id": i, "why": why} for i, why in left]})
            else:
                terminal.say(f"{done} replayed, {len(left)} left.")
                for refused_id, why in left:
                    terminal.note(f"{refused_id}: {why}")
            raise click.exceptions.Exit(Exit.ATTENTION if left else Exit.DONE)
        heads: tuple[str, ...] = ("Key", "Type", "Event", "Bytes", "When")
        rows: list[tuple[object, ...]] = []
        if refused:
            heads = ("Refused", "Code", "Event", "Bytes", "From", "When", "Can be replayed")
            for r in intake.refusals(hub):
                again = "yes" if r.body else "no"
                rows.append((r.id, r.code, r.event_id, r.size, r.address, words.since(r.refused_at), again))
        else:
            rows += [
                (e.key, e.type, e.id, len(e.body), words.since(e.received_at)) for e in intake.latest(hub)
            ]
    if as_json:
        terminal.emit(
            [dict(zip((h.lower().replace(" ", "_") for h in heads), row, strict=True)) for row in rows]
        )
        return
    terminal.table(heads, rows, "Nothing.")

"""job: small reads through a connection, on a schedule or now."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from keyturn.cli import inputs, terminal, words
from keyturn.cli.session import Session, pass_session
from keyturn.cli.terminal import Exit

if TYPE_CHECKING:
    from keyturn.bootstrap import Keyturn
    from keyturn.model.job import Job


@click.group(
    "job",
    epilog=terminal.examples(
        "keyturn job add orders-db nightly-orders --reads sales.orders --every 'daily at 02:00'",
        "keyturn job run nightly-orders",
        "keyturn job list",
        "keyturn job pause nightly-orders",
    ),
)
def job_command() -> None:
    """Jobs read a small sample through a connection, and keep nothing of it but how many there were.

    After a rotation the jobs of a connection run once with the new credential. While one of them cannot read, the old
    credential is not ended.
    """


@job_command.command("add")
@click.argument("connection")
@click.argument("name")
@click.option(
    "--reads",
    default="",
    metavar="WHAT",
    help="A table, a prefix, a list: `keyturn systems SYSTEM` says what. Left out: what the connection's settings name.",
)
@click.option(
    "--every",
    "schedule",
    default="",
    metavar="WHEN",
    help="'15m', '2h', 'daily at 06:30' or 'weekdays at 06:30' (UTC); left out: on demand.",
)
@click.option(
    "--most", type=click.IntRange(1, 1000), default=10, show_default=True, help="Items it asks for."
)
@click.option(
    "--not-after-rotation",
    is_flag=True,
    help="A rotation neither runs it nor waits for it.",
)
@click.option("--untested", is_flag=True, help="Save it without reading once first.")
@terminal.json_option
@pass_session
def add(
    session: Session,
    connection: str,
    name: str,
    reads: str,
    schedule: str,
    most: int,
    not_after_rotation: bool,
    untested: bool,
    as_json: bool,
) -> None:
    """Read once through CONNECTION, then save it as job NAME. Nothing is saved when the read does not work."""
    from keyturn.operations import jobs

    said = schedule if not schedule or " at " in schedule else f"every {schedule.removeprefix('every ')}"
    with session.hub() as hub:
        job, first = jobs.add(
            hub,
            inputs.connection(hub, connection).name,
            name,
            what=reads,
            schedule=said,
            most=most,
            after_rotation=not not_after_rotation,
            untested=untested,
        )
        page = jobs.page(hub, job)
    if as_json:
        terminal.emit(page)
        return
    seen = f": {_said(page['last'])}" if first else ", not tried yet"
    terminal.say(f"Added {job.name} on {page['connection']}{seen}. {_when(page)}")


@job_command.command("list")
@click.argument("connection", default="")
@terminal.json_option
@pass_session
def list_(session: Session, connection: str, as_json: bool) -> None:
    """All jobs, or those of CONNECTION: how they last ended, and when they run next."""
    from keyturn.operations import jobs

    with session.hub() as hub:
        name = inputs.connection(hub, connection).name if connection else ""
        found = jobs.pages(hub, jobs.every(hub, name))
    if as_json:
        terminal.emit(found)
        return
    terminal.table(
        ("Name", "Connection", "Reads", "Last", "Count", "Version", "Last run", "Schedule", "Next"),
        [
            (
                j["name"],
                j["connection"],
                j["reads"],
                words.state(j["last"]["state"]) if j["last"] else "never",
                j["last"]["count"] if j["last"] else "",
                _version(j),
                j["last"]["at"] if j["last"] else "",
                j["schedule"],
                "paused" if j["state"] == "paused" else j["held"] or j["due"] or "",
            )
            for j in found
        ],
        "No jobs. `keyturn job add CONNECTION NAME --reads WHAT` adds one.",
    )


def _version(page: dict[str, Any]) -> str:
    number = page["last"]["version_number"] if page["last"] else None
    return f"v{number}" if number else ""


@job_command.command("run")
@click.argument("name")
@terminal.json_option
@pass_session
def run(session: Session, name: str, as_json: bool) -> None:
    """Run a job now. Exit code 0 only when it could read."""
    from keyturn.model.job import JobState
    from keyturn.operations import jobs

    with session.hub() as hub:
        job = _job(hub, name)
        result = jobs.run(hub, job.name)
        page = jobs.page(hub, jobs.get(hub, job.id))
    if as_json:
        terminal.emit({"job": job.name, "connection": page["connection"], **jobs.result_page(result)})
    else:
        terminal.say(f"{job.name}: {_said({**jobs.result_page(result)})}")
        if result.reading.state is JobState.UNKNOWN:
            terminal.say("That says nothing about the credential. Check the network and run it again.")
    if result.reading.state is not JobState.OK:
        raise click.exceptions.Exit(Exit.FAILED)


def _said(last: dict[str, Any]) -> str:
    seconds = f"{last['seconds']:.2f} s"
    if last["state"] == "ok":
        return f"{words.state('ok')}, {last['count']} read in {seconds}" + (
            f" from {last['detail']}" if last["detail"] else ""
        )
    return f"{words.state(last['state'])} after {seconds} ({last['detail'] or last['code']})"


def _when(page: dict[str, Any]) -> str:
    if page["schedule"] == "on demand":
        return f"`keyturn job run {quote(page['name'])}` runs it."
    return f"It runs {page['schedule']} while `keyturn serve` or `keyturn worker` runs; next {page['due']}."


@job_command.command("show")
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="Latest results.")
@terminal.json_option
@pass_session
def show(session: Session, name: str, limit: int, as_json: bool) -> None:
    """One job and how it ended lately, with the version each result was read with."""
    from keyturn.operations import jobs

    with session.hub() as hub:
        job = _job(hub, name)
        page = jobs.page(hub, job)
        results = [jobs.result_page(r) for r in jobs.results(hub, job, limit)]
    if as_json:
        terminal.emit({**page, "results": results})
        return
    terminal.say(terminal.style(page["name"], bold=True) + f"  on {page['connection']}")
    terminal.pairs(
        [
            ("Reads", f"{page['reads'] or 'the sample of the connection'}, at most {page['most']}"),
            ("Schedule", page["schedule"]),
            ("State", page["state"] + (f" by {page['paused_by']}" if page["paused_by"] else "")),
            ("Held", page["held"]),
            ("Next", page["due"]),
            (
                "After a rotation",
                "runs, and the old one waits for it" if page["runs_after_rotation"] else "no",
            ),
        ],
        "  ",
    )
    terminal.heading("Results")
    terminal.table(
        ("At", "Result", "Count", "Seconds", "Cause", "Rotation", "Why"),
        [
            (
                r["at"],
                words.state(r["state"]),
                r["count"],
                f"{r['seconds']:.2f}",
                r["cause"].replace("_", " "),
                r["run"][-6:],
                "" if r["state"] == "ok" else r["detail"] or r["code"],
            )
            for r in results
        ],
        "It never ran.",
    )


@job_command.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@terminal.json_option
@pass_session
def remove(session: Session, name: str, yes: bool, as_json: bool) -> None:
    """Delete a job and its results. What rotations saw of it stays in the journal."""
    from keyturn.operations import jobs

    with session.hub() as hub:
        job = _job(hub, name)
        terminal.confirm([job.name], f"Removing the job {job.name}", yes=yes)
        jobs.remove(hub, job.name)
    _done(job.name, "removed", as_json=as_json)


@job_command.command("pause")
@click.argument("name")
@terminal.json_option
@pass_session
def pause(session: Session, name: str, as_json: bool) -> None:
    """Neither its schedule starts it nor does a rotation wait for it, until it is resumed."""
    from keyturn.operations import jobs

    with session.hub() as hub:
        job = jobs.pause(hub, _job(hub, name).name)
    _done(job.name, "paused", as_json=as_json)


@job_command.command("resume")
@click.argument("name")
@terminal.json_option
@pass_session
def resume(session: Session, name: str, as_json: bool) -> None:
    """Its schedule starts it again, and rotations that begin from now on wait for it."""
    from keyturn.operations import jobs

    with session.hub() as hub:
        job = jobs.resume(hub, _job(hub, name).name)
    _done(job.name, "resumed", as_json=as_json)


def _done(name: str, what: str, *, as_json: bool) -> None:
    if as_json:
        terminal.emit({"job": name, "done": what})
    else:
        terminal.say(f"{name} {what}.")


def _job(hub: Keyturn, name: str) -> Job:
    """A job by name. Raises: NotFound with the nearest names."""
    from keyturn.errors import NotFound
    from keyturn.operations import jobs

    try:
        return jobs.get(hub, name)
    except NotFound as error:
        guess = inputs.did_you_mean(name, (j.name for j in jobs.every(hub)))
        raise NotFound(error.message, hint=guess or error.hint, field="job") from None

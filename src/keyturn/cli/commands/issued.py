"""issue, issued, reissue, revoke-issued, grants: the credentials this hub gives to others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from keyturn.cli import follow, inputs, terminal, words
from keyturn.cli.session import Session, pass_session
from keyturn.cli.terminal import Exit
from keyturn.errors import InvalidInput
from keyturn.model.moment import iso, parse

if TYPE_CHECKING:
    from keyturn.bootstrap import Keyturn
    from keyturn.operations.issued import Handed


@click.command(
    "issue",
    epilog=terminal.examples(
        "keyturn issue api-key --name partner --set scopes='read bulk' --set contact=ops@example.com",
        "keyturn issue api-key --name etl --json",
        "keyturn issue m2m --name etl --set scopes='read lease:warehouse'",
        "keyturn issue oauth-app --name portal --set callback_urls=https://portal.example.com/callback",
        "keyturn issue hub-bucket --name acme-drop --set bucket=acme-exchange --set prefix=partners/acme/"
        " --set admin_access_key_id=AKIA... --secret admin_secret_access_key=@steward",
    ),
)
@click.argument("kind")
@click.option("--name", required=True, help="What the credential is called.")
@click.option(
    "--set", "plain", multiple=True, metavar="K=V", help="A field; `keyturn systems hub-api/m2m` lists them."
)
@click.option("--secret", multiple=True, metavar="K=WAY", help=f"A secret field; WAY is {inputs.WAYS}.")
@click.option("--owner", default="", help="Who is responsible for it (default: you).")
@click.option("--policy", multiple=True, metavar="K=V", help="E.g. max_age_days=90.")
@click.option(
    "--starts-in", type=inputs.length, metavar="LENGTH", default="0s", help="Let it in only from then on."
)
@terminal.json_option
@pass_session
def issue_command(
    session: Session,
    kind: str,
    name: str,
    plain: tuple[str, ...],
    secret: tuple[str, ...],
    owner: str,
    policy: tuple[str, ...],
    starts_in: float,
    as_json: bool,
) -> None:
    """Issue a credential of this hub. Its value is printed this once: it cannot be read again.

    KIND is api-key, bulk-key, webhook, hub-segment, m2m, bulk, events, oauth-app or hub-bucket; m2m, bulk and events are
    OAuth clients for programs, an oauth-app asks people for their consent, webhook is a secret to sign events with, and
    hub-bucket a key to a folder of a bucket of yours.

    The value goes to stdout, everything else to stderr, so that it can be piped to where it belongs.
    """
    from keyturn.issued import kinds
    from keyturn.operations import issued

    with session.hub() as hub:
        wanted = kinds.named(kind)
        values = inputs.values_of(hub, wanted.system, wanted.method, plain, secret)
        made = issued.issue(
            hub,
            kind,
            name,
            values,
            owner,
            policy=inputs.read_policy(policy),
            starts_in_s=starts_in,
        )
    _hand_over(made, as_json)


@click.command("issued", epilog=terminal.examples("keyturn issued", "keyturn issued --json"))
@terminal.json_option
@pass_session
def issued_command(session: Session, as_json: bool) -> None:
    """What this hub issued: slots, last use, what still works. Never a value."""
    from keyturn.operations import issued

    with session.hub() as hub:
        found = issued.every(hub)
    if as_json:
        terminal.emit([each.told() for each in found])
        return
    terminal.table(
        ("Name", "Kind", "Slot", "Ends in", "State", "Issued", "Last used", "From", "Uses"),
        [
            (
                each.connection.name,
                each.kind,
                secret.slot,
                f"...{secret.hint}",
                secret.state.value,
                words.since(secret.created_at),
                words.since(secret.last_used_at) or "never",
                secret.last_used_from,
                secret.uses,
            )
            for each in found
            for secret in each.secrets
        ],
        "Nothing issued. `keyturn issue api-key --name NAME` issues a key.",
    )


@click.command(
    "reissue", epilog=terminal.examples("keyturn reissue partner", "keyturn reissue partner --overlap 7d")
)
@click.argument("name")
@click.option(
    "--overlap",
    type=inputs.length,
    metavar="LENGTH",
    default="24h",
    show_default=True,
    help="How long both work at least; 0s: until the new one is first used.",
)
@click.option(
    "--force", is_flag=True, help="End the old one after the overlap even if the new one was never used."
)
@click.option(
    "--recreate", is_flag=True, help="Make an OAuth client anew: another id and secret, with a gap."
)
@click.option(
    "--starts-in",
    type=inputs.length,
    metavar="LENGTH",
    default="0s",
    help="Let the new one in only from then on; the overlap begins there.",
)
@click.option("--yes", is_flag=True, help="Do not ask before --recreate, or with no overlap.")
@click.option("--reason", default="", help="Why, for the audit trail.")
@terminal.json_option
@pass_session
def reissue_command(
    session: Session,
    name: str,
    overlap: float,
    force: bool,
    recreate: bool,
    starts_in: float,
    yes: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Issue a second one beside the first; its value is printed this once.

    The old one ends after the overlap, once the new one was used and the old one is silent. `keyturn serve` or
    `keyturn worker` sees to that. An OAuth client keeps its id.
    """
    from keyturn.operations import issued

    with session.hub() as hub:
        found = inputs.connection(hub, name).name
        _name_users(hub, found)
        if recreate:
            if starts_in:
                raise InvalidInput("a client that is made anew works at once", field="--starts-in")
            for warning in issued.recreate_plan(hub, found).warnings:
                terminal.note(warning)
            terminal.confirm([found], f"Making {found} anew", yes=yes)
            hub.engine.start()
            made = issued.recreate(hub, found, reason=reason)
            if made.run is not None:
                follow.follow(hub, [made.run.id], as_json=True, timeout_s=60)
        else:
            if not overlap:
                terminal.confirm(
                    [found], f"Ending the old one of {found} at the first use of the new", yes=yes
                )
            made = issued.reissue(hub, found, overlap, force=force, reason=reason, starts_in_s=starts_in)
    _hand_over(made, as_json)


def _name_users(hub: Keyturn, name: str, slot: str | None = None) -> None:
    """Who is hit by what comes next, before it does."""
    from keyturn.operations import register

    for each in register.affected(hub, name, slot):
        terminal.note(f"Used by {each}")


def _hand_over(made: Handed, as_json: bool) -> None:
    """The one place where a secret is printed."""
    if as_json:
        terminal.emit(
            {
                "id": made.connection.id,
                "name": made.connection.name,
                "version": made.version_id,
                "slot": made.slot,
                **({"client_id": made.client_id} if made.client_id else {}),
                "value": made.value.reveal() or None,
                "run": made.run.id if made.run else None,
            }
        )
        return
    if not made.value.reveal():
        terminal.note(
            f"{made.connection.name} is a public client: this is its client id, and it has no secret."
        )
        terminal.say(made.client_id)
        return
    if made.client_id:
        terminal.note(f"Client id: {made.client_id}")
    where = f"Slot {made.slot} of {made.connection.name}" if made.slot else made.connection.name
    terminal.note(f"{where}. This is shown once:")
    terminal.say(made.value.reveal())
    if made.run is not None and made.run.ended_at is None:
        terminal.note(f"The old one works on for its overlap: keyturn run {made.run.id}")


@click.command(
    "revoke-issued",
    epilog=terminal.examples(
        "keyturn revoke-issued partner --slot A",
        "keyturn revoke-issued partner --yes",
        "keyturn revoke-issued --kind api-key --before 2026-11-01T12:00Z --reason 'incident 7'",
    ),
)
@click.argument("name", required=False)
@click.option("--slot", help="End only this one, A or B; both when left out.")
@click.option("--kind", default="", help="Instead of one: all of this kind.")
@click.option(
    "--before", metavar="TIME", default="", help="Instead of one: all issued before then (ISO 8601)."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--reason", default="", help="Why, for the audit trail.")
@terminal.json_option
@pass_session
def revoke_issued_command(
    session: Session,
    name: str | None,
    slot: str | None,
    kind: str,
    before: str,
    yes: bool,
    reason: str,
    as_json: bool,
) -> None:
    """End an issued credential now: it is refused from this moment on, with its tokens. Cannot be undone.

    In an emergency many at once: all of a kind, all that was issued before some moment, or both. They are listed first.
    """
    from keyturn.operations import issued

    if bool(name) == bool(kind or before) or (slot and not name):
        raise InvalidInput("name one credential, or say which by --kind and --before", field="NAME")
    if not name:
        _end_many(session, kind, before, reason, yes=yes, as_json=as_json)
        return
    with session.hub() as hub:
        found = issued.get(hub, inputs.connection(hub, name).name)
        _name_users(hub, found.connection.name, slot.upper() if slot else None)
        terminal.confirm([found.connection.name], f"Ending {slot or 'every slot'} of {name}", yes=yes)
        hub.engine.start()
        run = issued.revoke(hub, found.connection.name, slot.upper() if slot else None, reason=reason)
        code = _proven(hub, run.id if run else "", name, as_json)
    raise click.exceptions.Exit(code)


def _end_many(session: Session, kind: str, before: str, reason: str, *, yes: bool, as_json: bool) -> None:
    from keyturn.operations import emergency

    try:
        moment = parse(before) if before else None
    except ValueError:
        raise InvalidInput("--before must be a moment, as 2026-11-01T12:00Z", field="--before") from None
    with session.hub() as hub:
        chosen = emergency.choose(hub, kind, moment)
        for each in chosen:
            slots = ", ".join(s.slot for s in each.secrets if s.slot)
            terminal.note(f"{each.credential.connection.name} ({each.credential.kind}) {slots}".rstrip())
            for hit in each.hit:
                terminal.note(f"  used by {hit}")
        ended = []
        if chosen:
            terminal.confirm([f"{len(chosen)} credentials"], f"Ending all {len(chosen)}", yes=yes)
            hub.engine.start()
            ended = emergency.end(hub, kind, moment, reason=reason)
            follow.follow(hub, [each.run_id for each in ended if each.run_id], as_json=True, timeout_s=60)
    rows = [(each.name, ", ".join(each.slots), each.run_id, each.error) for each in ended]
    if as_json:
        terminal.emit(
            [
                {
                    "name": each.name,
                    "slots": list(each.slots),
                    "run": each.run_id or None,
                    "error": each.error or None,
                }
                for each in ended
            ]
        )
        return
    terminal.table(("Refused now", "Slots", "Proven by", "To do"), rows, "Nothing of that is alive.")


@click.command(
    "grants",
    epilog=terminal.examples("keyturn grants", "keyturn grants --end grt_01JC5YQJ9VT4"),
)
@click.option("--end", metavar="ID", help="End this one, with every token that came of it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@terminal.json_option
@pass_session
def grants_command(session: Session, end: str | None, yes: bool, as_json: bool) -> None:
    """What people allowed OAuth applications of this hub, newest first."""
    from keyturn.operations import grants

    with session.hub() as hub:
        found = grants.allowed(hub)
        if end:
            terminal.confirm([end], f"Ending {end}", yes=yes)
            grants.take_back(hub, end, by=hub.settings.actor)
            found = [each for each in found if each.id != end]
    if as_json:
        terminal.emit(
            [
                {
                    "id": each.id,
                    "application": each.application,
                    "login": each.subject,
                    "scopes": list(each.scopes),
                    "since": iso(each.since),
                }
                for each in found
            ]
        )
        return
    terminal.table(
        ("Id", "Application", "Who", "May", "Since"),
        [
            (each.id, each.application, each.subject, " ".join(each.scopes), words.since(each.since))
            for each in found
        ],
        "Nobody allowed an application anything.",
    )


def _proven(hub: Keyturn, run_id: str, name: str, as_json: bool) -> Exit:
    """Follows the run that proves it; it is refused already."""
    from keyturn.model.run import RunState

    if not run_id:
        if as_json:
            terminal.emit({"name": name, "run": None})
        else:
            terminal.say("It is refused from now on.")
        return Exit.DONE
    found = follow.follow(hub, [run_id], as_json=as_json, timeout_s=60)
    wanted = frozenset({RunState.COMPLETE, RunState.ABORTED_CLEAN})
    return follow.conclude(hub, found, as_json=as_json, wanted=wanted)

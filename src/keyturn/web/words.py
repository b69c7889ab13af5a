"""How states, goals, marks and instants are said on pages."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from markupsafe import Markup

from keyturn.contract.manifest import System
from keyturn.model.credential import Version
from keyturn.model.ids import VERSION_ID
from keyturn.model.job import Job
from keyturn.model.plan import Goal
from keyturn.model.run import Line

RUN_STATES: Mapping[str, tuple[str, str]] = {
    "waiting_approval": ("Waiting for approval", "warn"),
    "queued": ("Queued", "calm"),
    "running": ("Running", "busy"),
    "resolving": ("Checking what happened", "busy"),
    "waiting": ("Waiting", "busy"),
    "waiting_human": ("Waiting for a person", "warn"),
    "blocked": ("Blocked", "bad"),
    "lost": ("Lost", "bad"),
    "complete": ("Complete", "good"),
    "complete_with_debt": ("Complete, with a debt", "warn"),
    "aborted_clean": ("Ended, nothing left behind", "calm"),
    "aborted_with_debt": ("Ended, with a debt", "warn"),
}
CONNECTION_STATES: Mapping[str, tuple[str, str]] = {
    "active": ("Active", "good"),
    "paused": ("Paused", "warn"),
    "needs_reauth": ("Needs authorization", "bad"),
    "disconnected": ("Disconnected", "calm"),
    "revoked": ("Not authorized", "warn"),
}
HEALTH_KINDS: Mapping[str, str] = {
    "lost": "bad",
    "blocked": "bad",
    "expired": "bad",
    "needs_reauth": "bad",
    "overdue": "warn",
    "waits": "warn",
    "running": "busy",
    "owes": "warn",
    "expiring": "warn",
    "paused": "warn",
    "good": "good",
    "revoked": "calm",
    "disconnected": "calm",
}
VERSION_STATES: Mapping[str, tuple[str, str]] = {
    "sealed": ("Sealed here, not sent yet", "calm"),
    "requested": ("Sent, answer awaited", "busy"),
    "issued": ("New, not proven yet", "busy"),
    "proven": ("Proven, not serving yet", "busy"),
    "current": ("Serves now", "good"),
    "draining": ("On its way out, still in use", "warn"),
    "disabled": ("Switched off", "warn"),
    "revoking": ("Being ended", "warn"),
    "revoked": ("Ended, not proven dead yet", "warn"),
    "dead": ("Proven dead", "calm"),
    "refused": ("Refused by the vendor", "calm"),
    "suspect": ("Suspected to be leaked", "bad"),
    "orphan": ("Alive, value unknown", "bad"),
}
TASK_STATES: Mapping[str, tuple[str, str]] = {
    "open": ("Open", "warn"),
    "claimed": ("Claimed", "busy"),
    "submitted": ("Handed in, being checked", "busy"),
    "returned": ("Returned", "bad"),
    "done": ("Done", "good"),
    "expired": ("Expired", "calm"),
    "cancelled": ("Not needed any more", "calm"),
}
SEEN: Mapping[str, str] = {
    "current": "What serves",
    "new": "The new one",
    "old": "The old one",
    "control_live": "As a control, what serves",
    "control_bogus": "As a control, a made-up one",
    "inventory": "The vendor's list shows it",
}
VERDICTS: Mapping[str, str] = {
    "accepted": "let in",
    "rejected": "refused",
    "unknown": "no clear answer",
    "True": "yes",
    "False": "no",
}
IDENTITY: Mapping[str, str] = {
    "principal": "Account",
    "principal_label": "Account",
    "tenant": "Site",
    "tenant_label": "Site",
    "rights_label": "Rights",
}
JOB_STATES: Mapping[str, tuple[str, str]] = {
    "never": ("Not run yet", "calm"),
    "ok": ("Reads", "good"),
    "failed": ("Cannot read", "bad"),
    "unknown": ("No clear answer", "warn"),
    "interrupted": ("Interrupted, runs again", "busy"),
}
GOALS: Mapping[Goal, tuple[str, str]] = {
    Goal.ROTATE: ("Rotate", "Replace the credential with a new one, then prove that the old one is dead."),
    Goal.REAUTHORIZE: ("Authorize", "A person consents in a browser; the grant before is ended afterwards."),
    Goal.REFRESH: ("Refresh", "Use the grant's refresh token now."),
    Goal.REVOKE: (
        "Revoke authorization",
        "End the authorization; the connection stays and can be authorized again.",
    ),
    Goal.DISCONNECT: ("Disconnect", "End every credential of this connection at the vendor."),
    Goal.RECONNECT: ("Reconnect", "Bring a new credential to this connection."),
    Goal.MIGRATE: ("Migrate", "Move to another method of the same system, without a gap."),
    Goal.CONTAIN: (
        "Contain a leak",
        "Replace the credential without waiting for its users, and end all others.",
    ),
}
MARKS: Mapping[str, str] = {
    "done": "Done",
    "now": "Under way",
    "person": "Waits for a person",
    "open": "To come",
    "undone": "Being undone",
    "stop": "Stopped here",
}
WHO: Mapping[str, str] = {"hub": "the hub", "person": "a person", "consumer": "the programs that use it"}
_LINES: Mapping[str, str] = {
    "INTENT": "About to change something at the vendor",
    "RECEIPT": "The vendor's answer is sealed",
    "OUTCOME": "What came of it",
    "OBSERVED": "Looked",
    "DECISION": "Decided",
}
_COMMAND = re.compile(r"[^.;:]*`[^`]*keyturn [^`]*`[^.;]*[.;]?")


def line_kind(kind: str) -> str:
    """A kind of journal line, for people."""
    return _LINES.get(kind, kind)


def said_line(line: Line) -> str:
    """A journal line in a few words: what was decided, or what kind of line it is, at which step."""
    decided = str(line.facts.get("decision", "")).replace("_", " ")
    step = line.step.replace("_", " ")
    if decided:
        return decided[:1].upper() + decided[1:]
    return f"{line_kind(line.kind.value)} ({step})" if step else line_kind(line.kind.value)


def job_state(job: Job) -> tuple[str, str]:
    """How a job stands, and its colour: paused and held come before how it last ended."""
    if job.paused_at is not None:
        return "Paused", "warn"
    if job.held_at is not None:
        return "Held", "warn"
    return JOB_STATES[job.state.value]


def hint(text: str) -> str:
    """A hint without the sentences that name commands: who is on a page has buttons instead."""
    return _COMMAND.sub("", text).strip()


def link(url: object) -> str:
    """An address fit for a link; empty for anything but http and https."""
    text = str(url)
    return text if urlsplit(text).scheme in {"http", "https"} else ""


# -- instants ------------------------------------------------------------------------------------------------------------

_SIZES = ((365.25 * 86400, "year"), (30.44 * 86400, "month"), (86400, "day"), (3600, "hour"), (60, "minute"))


def zone(name: str) -> tzinfo:
    """The zone of this name; UTC when there is none."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+_/-]{1,60}", name):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def span(seconds: float) -> str:
    """A length of time as people say it."""
    if 2 * 86400 <= seconds < 100 * 86400:
        return f"{round(seconds / 86400)} days"
    for size, word in _SIZES:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {word}{'s' if count > 1 else ''}"
    return f"{int(seconds)} seconds" if seconds >= 10 else "a few seconds"


def took(seconds: float) -> str:
    """How long something took."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def since(at: float) -> str:
    """How long ago, or how long from now."""
    gone = time.time() - at
    return f"{span(gone)} ago" if gone >= 0 else f"in {span(-gone)}"


def exact(at: float, where: tzinfo) -> str:
    """The whole truth about an instant, in a zone."""
    local = datetime.fromtimestamp(at, where)
    return f"{local.day} {local:%B %Y, %H:%M:%S} {local.tzname()}"


def moment(at: float | None, where: tzinfo, said: str = "") -> Markup:
    """An instant with the exact time on hover: relative when `said` is empty."""
    if not at:
        return Markup("")
    iso = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(iso, exact(at, where), said or since(at))


def day(at: float | None, where: tzinfo) -> Markup:
    """A date."""
    local = datetime.fromtimestamp(at or 0, where)
    return moment(at, where, f"{local.day} {local:%b %Y}")


def clock(at: float | None, where: tzinfo) -> Markup:
    """The hour today, the date as well otherwise."""
    local = datetime.fromtimestamp(at or 0, where)
    today = local.date() == datetime.now(where).date()
    return moment(at, where, f"{local:%H:%M:%S}" if today else f"{local.day} {local:%b %Y, %H:%M}")


def fact(value: object, versions: Mapping[str, str] | None = None) -> str:
    """A fact of a journal line as text; `versions` are the names of versions by their ids."""
    known = versions or {}
    if isinstance(value, dict):
        return ", ".join(f"{key}: {fact(each, known)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(fact(each, known) for each in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return VERSION_ID.sub(lambda found: known.get(found[0], found[0]), str(value))


def versions(known: Sequence[Version]) -> dict[str, str]:
    """What people call versions, by their ids."""
    return {version.id: f"v{version.number}" for version in known}


# -- connecting ----------------------------------------------------------------------------------------------------------


def account(identity: Mapping[str, str]) -> str:
    """Whose a credential is: the account, and at which site; empty for one that nobody knows yet."""
    who = identity.get("principal_label") or identity.get("principal", "")
    where = identity.get("tenant_label") or identity.get("tenant", "")
    return f"{who} at {where}" if who and where else who


def sentence(text: str) -> str:
    """A message as a sentence of its own."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."


def category(system: System) -> str:
    """The heading under which a system is listed."""
    own = all(method.direction == "inbound" for method in system.methods)
    return system.category or ("Issued by this hub" if own else "Others")


def badge(title: str) -> dict[str, object]:
    """What stands for a system in place of a logo: its initials, on one of six colours."""
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", title) if part]
    upper = [c for c in parts[0] if c.isupper()] if parts else []
    if len(parts) > 1:
        initials = parts[0][0] + parts[1][0]
    elif len(upper) > 1:
        initials = "".join(upper[:2])
    else:
        initials = parts[0][:2] if parts else "?"
    return {"initials": initials.title() if initials.islower() else initials, "hue": sum(map(ord, title)) % 6}


def at_field(message: str, name: str, label: str) -> str:
    """A message about a field in the words of its form: the label for the name."""
    if message.startswith(f"{name} is missing"):
        return "This is needed."
    return sentence(
        message.replace(f"{name} ", f"{label} ", 1) if message.startswith(f"{name} ") else message
    )


GAPS: Mapping[str, tuple[str, str]] = {
    "Z0": ("No gap", "good"),
    "Z1": ("One retry at most", "calm"),
    "Z2": ("A short gap", "warn"),
    "Z3": ("A gap", "bad"),
}
DEBTS: Mapping[str, tuple[str, str]] = {
    "alive": (
        "Still alive",
        "It should be dead and is still accepted. End it at the vendor, or let the hub try again.",
    ),
    "not_handed_over": (
        "Not handed over",
        "Nobody told the other party of the new one. Hand it over, then close this with a reason.",
    ),
    "not_deleted": ("Not deleted", "It does not work any more, but is still there. Delete it at the vendor."),
    "orphan": (
        "Nobody's",
        "It exists at the vendor and its value is known to nobody. Delete it there when it is not used.",
    ),
    "proves_nothing": (
        "Nothing proven",
        "A test could not tell right from wrong, so it proves nothing. Look at the vendor's page.",
    ),
    "revoke_refused": ("End refused", "The vendor refused to end it. Find out why, then try again."),
    "sibling_died": (
        "Another one died too",
        "Ending this one ended another as well. Look at what else used it.",
    ),
    "unproven": (
        "Death not proven",
        "It was ended, but no proof was seen. Look at the vendor's page, or try again.",
    ),
    "unrevocable_grant": (
        "A grant that cannot be ended alone",
        "Ending it would end more than itself. It ends unused, and is looked at then; or remove it in the vendor's settings.",
    ),
    "unwanted": ("Not wanted", "It was made and is not used. Delete it at the vendor."),
    "unknown_grant": (
        "A grant nobody can name",
        "A consent was answered and the answer lost. Look at the vendor's list of connected applications.",
    ),
    "orphan_unknown": (
        "Perhaps something nobody knows of",
        "A call went unanswered and may have made something. Look at the vendor's list, and delete what is not used.",
    ),
    "perhaps_ours": (
        "Perhaps ours",
        "It appeared during a call of ours and cannot be told apart from somebody else's. Find out whose it is.",
    ),
    "job_failed": (
        "A job could not read",
        "It read with the old credential and not with the new one. Give the new one the rights it lacks.",
    ),
    "weak_proof": (
        "Weaker proof than wanted",
        "It was proven less well than the policy asks. Confirm it by other means.",
    ),
}

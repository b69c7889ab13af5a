"""Settings: who is told of what, by webhook or mail, and what became of it; and how this hub is set up.

What the hub needs to start is set on its machine and only shown here.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from starlette.responses import Response

from keyturn.errors import Conflict, InvalidInput, NotFound
from keyturn.operations import notices, projects, single_sign_on
from keyturn.storage.notices import Recipient
from keyturn.web import words
from keyturn.web.site import Visit

KINDS = (notices.WEBHOOK, notices.MAIL)
_DELIVERIES = 30
DELIVERY_STATES = {
    "waiting": ("Tried again", "warn"),
    "done": ("Delivered", "good"),
    "given_up": ("Given up", "bad"),
}


def show(it: Visit) -> Response:
    """Everybody who is told, and how the hub is set up."""
    return it.render(
        "settings.html",
        told=notices.recipients(it.hub),
        topics=notices.TOPICS,
        sends_mail=it.hub.settings.post is not None,
        facts=_facts(it),
    )


def _facts(it: Visit) -> list[tuple[str, str, str]]:
    """The settings that are no secret: what each is called, its value, what it is for."""
    settings, hub = it.hub.settings, it.site.hub
    return [
        ("Address", settings.public_url, "What people and vendors use to reach this hub."),
        (
            "Redirect address for consents",
            hub.hub.redirect_uri,
            "Registered with OAuth clients at vendors.",
        ),
        (
            "Addresses it calls from",
            ", ".join(settings.egress) or "not named",
            "Shown where a vendor must let them in.",
        ),
        (
            "Mail",
            f"from {settings.post.sender}" if settings.post else "off",
            "How it writes to people.",
        ),
        (
            "Signed leak reports",
            f"with keys of {urlsplit(settings.leak_keys).hostname}" if settings.leak_keys else "off",
            "A scanning service that signs what it found is believed.",
        ),
        ("Single sign-on", "on" if single_sign_on.is_there(hub) else "off", "OpenID Connect."),
        ("Store", store(settings.database), "Where everything is kept; values in it are sealed."),
        (
            "Master key from",
            settings.kek.partition(":")[0],
            f"Key {hub.secrets.keyring.newest.id} seals what is new.",
        ),
        ("Runs in flight at once", str(settings.workers), "Of this process."),
    ]


def store(database: str) -> str:
    """The kind of store and where it is, without a user or password."""
    parts = urlsplit(database)
    if parts.scheme == "sqlite":
        return "SQLite, one file on this machine"
    return f"PostgreSQL at {parts.hostname or 'this machine'}"


# -- who is told -------------------------------------------------------------------------------------------------------


def form(it: Visit, kind: str) -> Response:
    """The form of somebody new: a webhook or a mail address."""
    return _form(it, _kind(kind))


def _kind(kind: str) -> str:
    if kind not in KINDS:
        raise NotFound("there is no such page")
    return kind


def _form(it: Visit, kind: str, status: int = 200, wrong: dict[str, str] | None = None) -> Response:
    sent = it.request.method == "POST"
    return it.render(
        "told_form.html",
        status,
        kind=kind,
        sends_mail=it.hub.settings.post is not None,
        topics=notices.TOPICS,
        chosen=_chosen(it) if sent else _USUAL,
        typed={name: it.text(name) for name in ("name", "address", "project")},
        projects=projects.every(it.hub),
        errors={"name": "", "address": "", "project": "", "topics": "", **(wrong or {})},
    )


# what needs somebody; the rest is for those who want to follow everything
_USUAL = frozenset(notices.TOPICS) - {"run.done", "debt.closed"}


def _chosen(it: Visit) -> frozenset[str]:
    return frozenset(str(each) for each in it.form.getlist("topic"))


def add(it: Visit, kind: str) -> Response:
    """Keeps somebody new. A webhook's signing secret is in this answer and nowhere else."""
    project = " ".join(it.text("project").split())
    if len(project) > 80:
        return _form(it, _kind(kind), 422, {"project": "At most 80 characters."})
    try:
        made, secret = notices.add_recipient(
            it.hub, it.who, _kind(kind), it.text("name"), it.text("address"), _chosen(it), project
        )
    except (InvalidInput, Conflict) as error:
        return _form(it, kind, 422, _wrong(error))
    if secret is None:
        return it.redirect("/settings", f"{made.name} is told from now on.")
    return it.render("told_secret.html", told=made, value=secret.reveal(), is_new=True)


def _wrong(error: InvalidInput | Conflict) -> dict[str, str]:
    hint = "" if error.facts.get("field") == "topics" else words.hint(error.hint)
    return {str(error.facts.get("field", "name")): f"{words.sentence(error.message)} {hint}".strip()}


def one(it: Visit, recipient_id: str) -> Response:
    """One of them: address and topics, and what became of each delivery."""
    return _one(it, notices.recipient(it.hub, recipient_id))


def _one(it: Visit, told: Recipient, status: int = 200, wrong: dict[str, str] | None = None) -> Response:
    sent: dict[str, Any] = {"address": it.text("address"), "topics": _chosen(it)} if wrong else {}
    return it.render(
        "told.html",
        status,
        told=told,
        topics=notices.TOPICS,
        chosen=sent.get("topics", frozenset(told.topics.split())),
        address=sent.get("address", told.address),
        deliveries=notices.deliveries(it.hub, told.id, limit=_DELIVERIES),
        states=DELIVERY_STATES,
        errors={"address": "", "topics": "", **(wrong or {})},
    )


def change(it: Visit, recipient_id: str) -> Response:
    """Another address, other topics."""
    told = notices.recipient(it.hub, recipient_id)
    try:
        notices.change_recipient(
            it.hub, it.who, told.id, address=it.text("address"), topics=sorted(_chosen(it))
        )
    except InvalidInput as error:
        return _one(it, told, 422, _wrong(error))
    return it.redirect(f"/settings/told/{told.id}", "Kept. It counts from the next thing on.")


def switch(it: Visit, recipient_id: str) -> Response:
    """Pauses it, or lets it go on."""
    paused = it.text("paused") == "yes"
    told = notices.change_recipient(it.hub, it.who, recipient_id, paused=paused)
    said = f"{told.name} is told nothing for now." if paused else f"{told.name} is told again."
    return it.redirect(f"/settings/told/{told.id}", said)


def renew(it: Visit, recipient_id: str) -> Response:
    """A new signing secret, shown this once."""
    told = notices.recipient(it.hub, recipient_id)
    value = notices.new_secret(it.hub, it.who, told.id)
    return it.render("told_secret.html", told=told, value=value.reveal(), is_new=False)


def remove(it: Visit, recipient_id: str) -> Response:
    """Nobody is told there any more."""
    told = notices.recipient(it.hub, recipient_id)
    notices.drop_recipient(it.hub, it.who, told.id)
    return it.redirect("/settings", f"{told.name} is told no more.")


def test(it: Visit, recipient_id: str) -> Response:
    """Sends a message that says it is a test; the answer is shown."""
    told = notices.recipient(it.hub, recipient_id)
    sent = notices.test(it.hub, it.who, told.id)
    if sent.is_done:
        said = f"{told.name} took the test message: {sent.said}."
        return it.redirect(f"/settings/told/{told.id}", said)
    return it.redirect(f"/settings/told/{told.id}", f"{told.name} did not take it: {sent.said}.", "bad")


def try_again(it: Visit, recipient_id: str) -> Response:
    """Delivers once more what was given up."""
    notices.try_again(it.hub, it.who, recipient_id, it.text("delivery"))
    return it.redirect(f"/settings/told/{recipient_id}", "It is delivered once more.")

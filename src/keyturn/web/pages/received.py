"""What others sent with what this hub issued to them: data loaded by bulk, events, and refused ones taken after all."""

from __future__ import annotations

from starlette.responses import Response

from keyturn.errors import KeyturnError, NotFound
from keyturn.operations import datasets, intake, overview, rights
from keyturn.operations.rights import Operation
from keyturn.web import words
from keyturn.web.site import Visit

_MOST = 30
_REASONS = {
    "cred.revoked": "it came with a key that had ended",
    "cred.expired": "it came with a key that had expired",
    "event.signature": "its signature was wrong",
    "event.malformed": "it is no event",
    "event.type": "its type is not allowed",
    "event.conflict": "another event has its id",
}


def show(it: Visit) -> Response:
    """Loads and events of the credentials that they may see; the datasets themselves are everybody's on this hub."""
    loads, events, refused = datasets.loads(it.hub), intake.latest(it.hub, _MOST), intake.refusals(it.hub)
    spoken_of: set[str] = {load.connection_id for load in loads}
    spoken_of |= {each.connection_id for each in events}
    spoken_of |= {each.connection_id for each in refused}
    names = overview.names(it.hub, spoken_of, it.projects())
    is_whole = it.may(Operation.ISSUED_READ)
    return it.render(
        "received.html",
        names=names,
        datasets=datasets.every(it.hub) if is_whole else [],
        loads=[load for load in loads if load.connection_id in names][:_MOST],
        events=[each for each in events if each.connection_id in names],
        refused=[each for each in refused if each.connection_id in names and each.replayed_at is None][
            :_MOST
        ],
        reasons=_REASONS,
        may_take=rights.may_somewhere(it.who, Operation.ISSUED_CHANGE),
    )


def replay(it: Visit) -> Response:
    """Takes a refused event after all, on their word."""
    found = next((each for each in intake.refusals(it.hub) if each.id == it.text("event")), None)
    if found is None:
        raise NotFound("there is no such refused event")
    connection, _ = it.connection(found.connection_id)
    try:
        intake.replay(it.hub, found.id, unsigned=it.text("seen") == "yes", who=it.who.login)
    except KeyturnError as error:
        return it.redirect("/received#refused", words.sentence(error.message), "bad")
    it.done(Operation.ISSUED_CHANGE, connection.name, verb="replay", event=found.event_id)
    return it.redirect("/received#refused", "It is taken, under its sender's name.")

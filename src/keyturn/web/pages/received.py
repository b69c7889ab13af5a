"""What others sent with what this hub issued to them: data loaded by bulk, events, and refused ones taken after all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from starlette.responses import Response, StreamingResponse

from keyturn.errors import KeyturnError, NotFound
from keyturn.operations import datasets, intake, overview, rights
from keyturn.operations.rights import Operation
from keyturn.web import words
from keyturn.web.site import Visit

_MOST = 30
_SAMPLE = 20
_KINDS = {"csv": "text/csv", "ndjson": "application/x-ndjson"}
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
        several=_several(refused, names) if rights.may_somewhere(it.who, Operation.ISSUED_CHANGE) else [],
        may_take=rights.may_somewhere(it.who, Operation.ISSUED_CHANGE),
        may_look=it.may(Operation.DATASET_READ),
    )


def _several(refused: Sequence[intake.Refused], names: Mapping[str, str]) -> list[tuple[str, str, int]]:
    """Senders of whom several events may be taken at once: id, name, how many."""
    counts = Counter(r.connection_id for r in refused if r.body is not None and r.replayed_at is None)
    return [(each, names[each], many) for each, many in counts.items() if many > 1 and each in names]


def replay_all(it: Visit) -> Response:
    """Takes everything that was refused of one sender."""
    connection, _ = it.connection(it.text("connection"))
    unsigned = it.text("seen") == "yes"
    done, left = intake.replay_all(it.hub, connection.name, unsigned=unsigned, who=it.who.login)
    it.done(Operation.ISSUED_CHANGE, connection.name, verb="replay all", taken=done, left=len(left))
    why = f" {len(left)} are left: {words.sentence(left[0][1])}" if left else ""
    return it.redirect("/received#refused", f"{done} are taken.{why}", "warn" if left else "good")


# -- datasets ------------------------------------------------------------------------------------------------------------


def one(it: Visit, dataset: str) -> Response:
    """A dataset: its columns, its first records, the loads into it."""
    found = datasets.shelf(it.hub).summary(dataset)
    rows = datasets.shelf(it.hub).page(dataset, 0, _SAMPLE)
    return it.render(
        "dataset.html",
        found=found,
        records=[json.loads(body) for _, body in rows],
        loads=[load for load in datasets.loads(it.hub) if load.dataset == dataset],
        may_drop=it.may(Operation.DATASET_DROP),
    )


def export(it: Visit, dataset: str) -> Response:
    """The whole dataset as a file."""
    form = it.text("format", "csv")
    parts = datasets.export(it.hub, dataset, form, address=it.address)
    headers = {"Content-Disposition": f'attachment; filename="{dataset}.{form}"', "Cache-Control": "no-store"}
    return StreamingResponse(parts, media_type=_KINDS[form], headers=headers)


def drop(it: Visit, dataset: str) -> Response:
    """Deletes it, when its name was typed."""
    if it.text("name").strip() != dataset:
        return it.redirect(f"/datasets/{dataset}", "Type its name to delete it. Nothing was deleted.", "bad")
    datasets.drop(it.hub, dataset, it.address)
    return it.redirect("/received", f"The dataset {dataset} is gone.")


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

"""What this hub issues to others: who has it and who used it when, issuing, a second one beside the first, ending.

A value is in the one answer that shows it and nowhere else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from starlette.responses import Response

from keyturn.contract.manifest import Field, Method
from keyturn.errors import Conflict, InvalidInput, KeyturnError, NotDone, NotFound
from keyturn.issued import kinds
from keyturn.issued.kinds import BUCKET, Kind
from keyturn.issued.reveal import REVEAL_S
from keyturn.model.credential import Connection
from keyturn.model.ids import new_id
from keyturn.model.moment import parse
from keyturn.operations import emergency, events, grants, issued, overview, projects, register, rights, runs
from keyturn.operations.issued import Handed, Issued
from keyturn.operations.rights import Operation
from keyturn.storage.issued import ALIVE
from keyturn.web import fields, words
from keyturn.web.pages.connections import LINKS
from keyturn.web.site import Visit

PAGE = 50
STARTS = ((0.0, "At once"), (3600.0, "In 1 hour"), (86400.0, "In 1 day"), (7 * 86400.0, "In 7 days"))
OVERLAPS = ((3600.0, "1 hour"), (86400.0, "1 day"), (7 * 86400.0, "7 days"), (30 * 86400.0, "30 days"))


@dataclass(frozen=True)
class Group:
    """Kinds that people look for under one heading."""

    title: str
    says: str
    kinds: tuple[str, ...]


GROUPS = (
    Group("API", "Keys and clients with which programs call this hub.", ("api-key", "m2m")),
    Group(
        "User Management: Authentication", "Applications that ask people for their consent.", ("oauth-app",)
    ),
    Group("Bulk", "For loading data in files.", ("bulk-key", "bulk")),
    Group("Event stream", "For sending events here one by one.", ("events", "webhook")),
    Group("Segment", "For a Segment destination.", ("hub-segment",)),
)


def every(it: Visit) -> Response:
    """All of them by what they are for, with last use and what is odd; so many a page, by name."""
    place = it.place("issued")
    found = issued.page(it.hub, it.projects(), after=str(place[0]) if place else "", limit=PAGE + 1)
    has_more, found = len(found) > PAGE, found[:PAGE]
    groups = [(group, [each for each in found if each.kind in group.kinds]) for group in GROUPS]
    own = overview.page(it.hub, it.projects(), system=BUCKET.system, size=PAGE, counted=False)
    return it.render(
        "issued.html",
        groups=[(group, there) for group, there in groups if there],
        buckets=[] if place else [line for line in own.lines if line.method == BUCKET.method],
        healths=overview.HEALTH,
        next=it.behind("issued", [found[-1].connection.name]) if has_more else "",
        methods={kind.name: it.hub.catalog.method(kind.system, kind.method) for kind in kinds.KINDS},
        findings=register.findings(it.hub, among=found),
        alive=ALIVE,
        may_issue=rights.may_somewhere(it.who, Operation.ISSUED_CHANGE),
    )


# -- issuing -------------------------------------------------------------------------------------------------------------


def choose(it: Visit) -> Response:
    """The kinds there are."""
    there = [kind for kind in kinds.KINDS if kind.system in it.hub.catalog.names()]
    found = [(kind, it.hub.catalog.system(kind.system), _method(it, kind)) for kind in there]
    return it.render("issue.html", kinds=[(k, s, m, words.badge(m.title)) for k, s, m in found])


def _method(it: Visit, kind: Kind) -> Method:
    return it.hub.catalog.method(kind.system, kind.method)


def _kind(name: str) -> Kind:
    found = next((kind for kind in kinds.KINDS if kind.name == name), None)
    if found is None:
        raise NotFound("there is no such kind")
    return found


def form(it: Visit, kind: str) -> Response:
    """The form of a kind."""
    return _form(it, _kind(kind))


def _asked(kind: Kind, method: Method) -> list[Field]:
    return [field for field in method.fields if field.name not in kind.made]


def _form(it: Visit, kind: Kind, status: int = 200, wrong: dict[str, str] | None = None) -> Response:
    method, wrong = _method(it, kind), wrong or {}
    mine = rights.projects(it.who, Operation.ISSUED_CHANGE)
    typed = {f.name: it.text(f"field-{f.name}") for f in method.fields if f"field-{f.name}" in it.form}
    return it.render(
        "issue_form.html",
        status,
        kind=kind,
        method=method,
        badge=words.badge(method.title),
        drawn=fields.draw(_asked(kind, method), typed, wrong),
        starts=STARTS if kind.is_ours_to_check else (),
        typed={
            name: it.text(name, it.who.login if name == "owner" else "")
            for name in ("name", "owner", "project", "starts")
        },
        errors={"name": "", "owner": "", "project": "", "form": "", **wrong},
        mine=sorted(mine) if mine is not None else None,
        projects=projects.every(it.hub),
    )


def issue(it: Visit, kind: str) -> Response:
    """Makes it; the answer shows the value, this once."""
    made, project = _kind(kind), " ".join(it.text("project").split())
    if len(project) > 80 or not project.isprintable():
        return _form(it, made, 422, {"project": "At most 80 characters."})
    if not it.may(Operation.ISSUED_CHANGE, project):
        if not project:
            return _form(it, made, 422, {"project": "Choose one of your projects."})
        events.refuse(it.site.hub, it.who, Operation.ISSUED_CHANGE, project)
    method = _method(it, made)
    try:
        values = fields.sent(it, _asked(made, method))
        owner = " ".join(it.text("owner").split())[:120]
        starts_in_s = _length(STARTS, it.text("starts"), 0.0)
        handed = issued.issue(it.hub, made.name, it.text("name"), values, owner, starts_in_s=starts_in_s)
    except NotDone as error:  # it is being made: its run shows how far it is
        return it.redirect(f"/runs/{error.facts['run']}", words.sentence(error.message), "warn")
    except (InvalidInput, Conflict) as error:
        name = str(error.facts.get("field", ""))
        field = method.field(name)
        said = words.at_field(error.message, name, field.label) if field else words.sentence(error.message)
        known = field is not None or name in {"name", "owner", "project"}
        return _form(it, made, 422, {name if known else "form": f"{said} {words.hint(error.hint)}".strip()})
    if project:
        projects.move(it.hub, handed.connection.id, project)
    it.done(Operation.ISSUED_CHANGE, handed.connection.name, verb="issue", kind=made.name)
    return _shown(it, handed, made)


def _shown(it: Visit, handed: Handed, kind: Kind) -> Response:
    return it.render(
        "issued_value.html",
        connection=handed.connection,
        kind=kind,
        method=_method(it, kind),
        value=handed.value.reveal(),
        client_id=handed.client_id,
        until=handed.until,
        run=handed.run if kind is not BUCKET else None,
        is_bucket=kind is BUCKET,
        back=f"/connections/{handed.connection.id}" if kind is BUCKET else f"/issued/{handed.connection.id}",
    )


# -- one of them ---------------------------------------------------------------------------------------------------------


def one(it: Visit, issued_id: str) -> Response:
    """One: its secrets with their uses, who has it, and what can be done."""
    return _one(it, *_of(it, issued_id))


def _of(it: Visit, issued_id: str) -> tuple[Issued, str]:
    connection, project = it.connection(issued_id)
    if not kinds.is_ours(connection.system, connection.method):
        raise NotFound("this hub did not issue it")
    return issued.get(it.hub, connection.id), project


def _one(
    it: Visit, found: Issued, project: str, status: int = 200, problem: str = "", hint: str = ""
) -> Response:
    kind, now = kinds.named(found.kind), time.time()
    where = register.where_used(it.hub, found.connection.id)
    newest = found.secrets[0] if found.secrets else None
    live = [each for each in found.secrets if each.state in ALIVE]
    recent = runs.recent(it.hub, found.connection.id, 10)
    return it.render(
        "issued_one.html",
        status,
        found=found,
        connection=found.connection,
        project=project,
        kind=kind,
        method=_method(it, kind),
        live=live,
        where=where,
        newest=newest,
        affected=register.affected(it.hub, found.connection.id),
        allowed=grants.of_application(it.hub, found.connection.id) if kind.name == "oauth-app" else [],
        says=grants.says,
        runs=recent,
        open_run=next((run for run in recent if run.ended_at is None), None),
        can_show=newest is not None
        and newest in live
        and now - newest.created_at < REVEAL_S
        and not _is_public(found.connection),
        may_change=it.may(Operation.ISSUED_CHANGE, project),
        may_edit=it.may(Operation.CONNECTION_CHANGE, project),
        is_public=_is_public(found.connection),
        overlaps=OVERLAPS,
        starts=STARTS,
        links=LINKS,
        chosen=issued.OVERLAP_S,
        trigger=new_id("web"),
        problem=problem,
        hint=hint,
    )


def _is_public(connection: Connection) -> bool:
    return connection.settings.get("client_type") == "public"


def _length(offered: tuple[tuple[float, str], ...], sent: str, usual: float) -> float:
    """The seconds that were chosen from those offered."""
    return next((seconds for seconds, _ in offered if f"{seconds:g}" == sent), usual)


def reissue(it: Visit, issued_id: str) -> Response:
    """A second one beside the first, or an OAuth client made anew; the answer shows the value, this once."""
    found, project = _of(it, issued_id)
    name, reason, trigger = (
        found.connection.id,
        " ".join(it.text("reason").split())[:300],
        it.text("trigger")[:60],
    )
    anew = it.text("anew") == "yes"
    if anew and it.text("sure") != "yes":
        return _one(
            it,
            found,
            project,
            422,
            "Say that you are sure: every program is refused until it has both new values.",
        )
    try:
        if anew:
            handed = issued.recreate(it.hub, name, reason=reason, trigger=trigger)
        else:
            handed = issued.reissue(
                it.hub,
                name,
                _length(OVERLAPS, it.text("overlap"), issued.OVERLAP_S),
                force=it.text("force") == "yes",
                reason=reason,
                trigger=trigger,
                starts_in_s=_length(STARTS, it.text("starts"), 0.0),
            )
    except KeyturnError as error:
        return _one(it, found, project, 409, words.sentence(error.message), words.hint(error.hint))
    it.done(Operation.ISSUED_CHANGE, found.connection.name, verb="recreate" if anew else "reissue")
    return _shown(it, handed, kinds.named(found.kind))


def revoke(it: Visit, issued_id: str) -> Response:
    """Ends one slot's secret, or all of them, at once."""
    found, project = _of(it, issued_id)
    slot = it.text("slot") or None
    if it.text("sure") != "yes":
        return _one(it, found, project, 422, "Say that you are sure: it is refused from that moment on.")
    try:
        run = issued.revoke(
            it.hub, found.connection.id, slot, reason=" ".join(it.text("reason").split())[:300]
        )
    except (Conflict, InvalidInput) as error:
        return _one(it, found, project, 409, words.sentence(error.message), words.hint(error.hint))
    it.done(Operation.ISSUED_CHANGE, found.connection.name, verb="revoke", slot=slot or "all")
    said = f"Slot {slot} is refused from now on." if slot else "It is refused from now on, everywhere."
    return it.redirect(f"/runs/{run.id}" if run else f"/issued/{found.connection.id}", said)


def end_many(it: Visit) -> Response:
    """All of a kind, or all issued before some moment: shown first, ended only when somebody says that they are sure."""
    kind, text, reason = it.text("kind"), it.text("before").strip(), " ".join(it.text("reason").split())[:300]
    mine, problem, chosen = rights.projects(it.who, Operation.ISSUED_CHANGE), "", None
    try:
        before = parse(text) if text else None
        chosen = emergency.choose(it.hub, kind, before, mine) if kind or text or it.form else None
        if chosen and it.text("end") == "yes" and it.text("sure") == "yes":
            ended = emergency.end(it.hub, kind, before, projects=mine, reason=reason)
            for each in ended:
                it.done(Operation.ISSUED_CHANGE, each.name, verb="revoke_many")
            left = [f"{each.name}: {each.error}" for each in ended if each.error]
            said = f"{len(ended)} are refused from now on, everywhere."
            return it.redirect("/issued", f"{said} {' '.join(left)}".strip(), "warn" if left else "good")
        if it.text("end") == "yes":
            problem = "Say that you are sure: they are refused from that moment on."
    except ValueError:
        problem = "Issued before must be a moment, as 2026-11-01T12:00."
    except (InvalidInput, NotFound) as error:
        problem = words.sentence(error.message)
    return it.render(
        "issued_end.html",
        422 if problem else 200,
        kinds=[
            (each.name, _method(it, each).title)
            for each in kinds.KINDS
            if each.system in it.hub.catalog.names()
        ],
        typed={"kind": kind, "before": text, "reason": reason},
        chosen=chosen,
        problem=problem,
    )


def reveal(it: Visit, issued_id: str) -> Response:
    """The value once more, to whoever asked for it, within ten minutes."""
    found, _ = _of(it, issued_id)
    secret = next((s for s in found.secrets if s.version_id == it.text("version")), None)
    if secret is None:
        raise NotFound("there is no such value")
    value = issued.reveal(it.hub, secret.version_id)
    until = secret.created_at + REVEAL_S
    handed = Handed(
        found.connection, value, secret.version_id, secret.slot, until, client_id=secret.client_id
    )
    return _shown(it, handed, kinds.named(found.kind))


# -- who has it ----------------------------------------------------------------------------------------------------------


def hold(it: Visit, issued_id: str) -> Response:
    """Puts somebody on the register, or changes what is known of them."""
    found, project = _of(it, issued_id)
    contact, place = it.text("contact").strip(), it.text("place").strip()
    try:
        register.hold(it.hub, found.connection.id, it.text("holder"), contact=contact, place=place)
    except InvalidInput as error:
        return _one(it, found, project, 422, words.sentence(error.message))
    it.done(Operation.ISSUED_CHANGE, found.connection.name, verb="hold")
    return it.redirect(f"/issued/{found.connection.id}#holders", "They are on the register.")


def change_holder(it: Visit, issued_id: str) -> Response:
    """Notes that they use the newest one, or takes them off."""
    found, _ = _of(it, issued_id)
    holder = it.text("holder")
    if it.text("what") == "confirm":
        register.confirm(it.hub, found.connection.id, holder)
        said = f"Noted: {holder} uses the newest one."
    else:
        register.let_go(it.hub, found.connection.id, holder)
        said = f"{holder} is off the register."
    it.done(Operation.ISSUED_CHANGE, found.connection.name, verb="holder")
    return it.redirect(f"/issued/{found.connection.id}#holders", said)


def take_back(it: Visit, issued_id: str) -> Response:
    """Ends what somebody allowed an application, with every token that came of it."""
    found, _ = _of(it, issued_id)
    there = {each.id: each for each in grants.of_application(it.hub, found.connection.id)}
    chosen = there.get(it.text("grant"))
    if chosen is None:
        raise NotFound("nobody allows it that any more")
    grants.take_back(it.hub, chosen.id, by=it.who.login, address=it.address)
    return it.redirect(f"/issued/{found.connection.id}", f"What {chosen.subject} allowed has ended.")


def link(it: Visit, issued_id: str) -> Response:
    """A one-time link to the newest value; the answer shows it, this once."""
    connection, _ = it.connection(issued_id)
    for_s = _length(LINKS, it.text("for"), register.LINK_S)
    try:
        made = register.link(it.hub, connection.id, it.text("holder").strip(), for_s=for_s)
    except (Conflict, InvalidInput) as error:
        if not kinds.is_ours(connection.system, connection.method):
            raise
        return _one(it, *_of(it, issued_id), 409, words.sentence(error.message), words.hint(error.hint))
    it.done(Operation.ISSUED_CHANGE, connection.name, verb="link")
    return it.render(
        "issued_link.html",
        connection=connection,
        back=f"/issued/{connection.id}"
        if kinds.is_ours(connection.system, connection.method)
        else f"/connections/{connection.id}",
        url=made.url.reveal(),
        holder=made.holder,
        until=made.until_at,
    )

"""Reads the lifecycle: test, discover, rotation, manual."""

from __future__ import annotations

import re

from keyturn.definitions.cursor import Cursor
from keyturn.definitions.guide import read_steps
from keyturn.definitions.model import (
    CLASSES,
    Create,
    DeadCheck,
    Discover,
    Extract,
    Generate,
    Identity,
    Manual,
    Named,
    Pagination,
    RequestSpec,
    Revoke,
    Rotation,
    SampleRead,
    TestBlock,
)
from keyturn.definitions.patterns import compiled, fits
from keyturn.definitions.read_request import (
    need_path,
    read_conditions,
    read_extract,
    read_path,
    read_request,
    read_success,
)
from keyturn.model.job import MOST

_SAMPLE = re.compile(r"^[a-z][a-z0-9_]{0,39}$")
_SAMPLE_KEYS = (
    "title",
    "named",
    "help",
    "request",
    "items",
    "limit_param",
    "most",
    "success",
    "absent_is_empty",
)
MODES = ("create_then_revoke", "in_place", "set_value", "reconsent", "manual")
_ROTATION = (
    "mode",
    "actor",
    "create",
    "generate",
    "propagation",
    "compare",
    "overlap",
    "revoke",
    "rollback",
    "dead_check",
    "preflight",
    "cutover",
)


def read_test(at: Cursor | None, top: Cursor) -> TestBlock:
    """The mandatory test."""
    if at is None:
        top.log.refuse(
            top.line, "test", "is missing", "Add one harmless call that answers with who is asking."
        )
        return TestBlock(RequestSpec("GET"), (), Identity(reason="missing"), False)
    at = at.keys("request", "success", "identity", "negative_control", "cost", required=("request",))
    at.choice("cost", ("cheap", "expensive"))
    request, control = at.get("request"), at.get("negative_control")
    required, reason = True, ""
    if control is not None:
        control = control.keys("mode", "reason", "approver", "max_per_hour", required=("mode",))
        control.number("max_per_hour")
        control.text("approver")
        required = control.choice("mode", ("required", "unsupported"), "required") == "required"
        reason = control.text("reason")
        if not required and not reason:
            control.refuse("an unsupported negative control needs a reason", "Add `reason:`.")
    return TestBlock(
        request=read_request(request) if request is not None else RequestSpec("GET"),
        success=read_success(at),
        identity=_identity(at),
        negative_control=required,
        negative_reason=reason,
        line=at.line,
    )


def _identity(at: Cursor) -> Identity:
    inner = at.get("identity")
    if inner is None:
        return Identity()
    inner = inner.keys("principal", "principal_label", "tenant", "rights", "none")
    return Identity(
        principal=read_extract(inner.get("principal")),
        principal_label=read_extract(inner.get("principal_label"), "optional"),
        tenant=read_extract(inner.get("tenant")),
        rights=read_extract(inner.get("rights"), "many"),
        reason=inner.text("none"),
    )


def read_discover(at: Cursor | None) -> Discover | None:
    """The inventory."""
    if at is None:
        return None
    at = at.keys(
        "request",
        "pagination",
        "items",
        "id",
        "label",
        "created",
        "last_used",
        "expires",
        "prefix_or_mask",
        "active",
        required=("request", "items", "id"),
    )
    request = at.get("request")
    return Discover(
        request=read_request(request) if request is not None else RequestSpec("GET"),
        items=need_path(at, "items"),
        id=need_path(at, "id"),
        pagination=_pagination(at.get("pagination")),
        label=read_path(at, "label"),
        created=read_path(at, "created"),
        last_used=read_path(at, "last_used"),
        expires=read_path(at, "expires"),
        mask=read_path(at, "prefix_or_mask"),
        active=read_path(at, "active"),
    )


def read_samples(at: Cursor) -> tuple[SampleRead, ...]:
    """What jobs may read, by name."""
    found = []
    for name, inner in at.entries("sample"):
        each = inner.keys(*_SAMPLE_KEYS, required=("request", "items"))
        if not _SAMPLE.match(name):
            each.refuse(f"{name!r} is not a name", "Use lower-case letters, digits and '_'.")
        request, limit = each.get("request"), each.text("limit_param")
        most = each.integer("most", 100, least=1)
        if most > MOST:
            each.refuse(f"most is at most {MOST}", "A job reads a sample, it moves no data.")
        found.append(
            SampleRead(
                name=name,
                title=each.text("title", name.replace("_", " ")),
                request=read_request(request) if request is not None else RequestSpec("GET"),
                items=need_path(each, "items"),
                limit_param="" if limit == "none" else limit,
                unlimited=limit == "none",
                most=min(most, MOST),
                named=_named(each.get("named")),
                help=each.text("help"),
                success=read_success(each),
                absent_is_empty=each.flag("absent_is_empty"),
                line=each.line,
            )
        )
    return tuple(found)


def _named(at: Cursor | None) -> Named | None:
    if at is None:
        return None
    at = at.keys("form", "pattern", "example", required=("form", "pattern", "example"))
    found = Named(at.text("form"), at.text("pattern"), at.text("example"))
    if compiled(found.pattern) is None:
        at.refuse("the pattern is not a valid regular expression", "Use RE2 syntax, without look-around.")
    elif not fits(found.pattern, found.example):
        at.refuse("the example does not fit the pattern", "Write it as a person would name it.")
    return found


def _pagination(at: Cursor | None) -> Pagination:
    if at is None:
        return Pagination()
    at = at.keys("kind", "response_path", "param", "start", "max_pages", required=("kind",))
    kind = at.choice("kind", ("none", "link_header", "cursor", "page", "next_url_in_body"), "none")
    path = read_path(at, "response_path")
    if kind in {"cursor", "next_url_in_body"} and path is None:
        at.refuse(f"{kind} needs response_path", "Say where the answer holds it.")
    if kind in {"cursor", "page"} and not at.text("param"):
        at.refuse(f"{kind} needs param", "Name the query parameter.")
    pages = at.integer("max_pages", 20, least=1)
    if pages > 20:
        at.refuse("max_pages is at most 20", "Use a larger page size.")
    return Pagination(kind, path, at.text("param"), at.integer("start", 1), min(pages, 20))


def read_rotation(at: Cursor | None, default_mode: str) -> Rotation:
    """The lifecycle block; without one the credential is replaced by a person."""
    if at is None:
        return Rotation(default_mode)
    at = at.keys(*_ROTATION, required=("mode",))
    at.choice("rollback", ("revoke_pending", "none"))
    propagation, overlap, compare = at.get("propagation"), at.get("overlap"), at.get("compare")
    if propagation is not None:
        propagation = propagation.keys("every_s", "for_s", "consecutive", "revoke_s")
        propagation.number("every_s")
    settle = propagation.number("for_s", 120.0) if propagation is not None else 120.0
    if overlap is not None:
        overlap = overlap.keys("min_s", "max_s")
    return Rotation(
        mode=at.choice("mode", MODES, default_mode),
        actor=at.choice("actor", ("current", "pending", "manager"), "current"),
        create=_create(at.get("create")),
        generate=_generate(at.get("generate")),
        revoke=_revoke(at.get("revoke")),
        dead_check=_dead_check(at.get("dead_check")),
        settle_create_s=settle,
        settle_revoke_s=propagation.number("revoke_s", settle) if propagation is not None else settle,
        consecutive=propagation.integer("consecutive", 2, least=1) if propagation is not None else 1,
        compare={k: compare.choice(k, ("block", "warn", "off"), "block") for k, _ in compare.pairs()}
        if compare
        else {},
        overlap_min_s=overlap.number("min_s") if overlap is not None else 0.0,
        overlap_max_s=overlap.number("max_s") if overlap is not None else 0.0,
        line=at.line,
    )


def _create(at: Cursor | None) -> Create | None:
    if at is None:
        return None
    at = at.keys(
        "request",
        "success",
        "extract",
        "handle",
        "marker_field",
        "once_only",
        "recover",
        "cap_reached",
        required=("request",),
    )
    request = at.get("request")
    extract = {k: read_extract(c) or Extract() for k, c in at.entries("extract")}
    return Create(
        request=read_request(request) if request is not None else RequestSpec("POST"),
        success=read_success(at),
        extract=extract,
        handle=at.text("handle"),
        marker_field=at.text("marker_field"),
        once_only=at.flag("once_only", True),
        recover=at.choice("recover", ("by_list", "delete_and_recreate", "none"), "none"),
        cap_reached=read_conditions(at, "cap_reached"),
        line=at.line,
    )


def _generate(at: Cursor | None) -> Generate | None:
    if at is None:
        return None
    at = at.keys("part", "length", "alphabet", "min_classes")
    base = Generate("")
    alphabet = at.text("alphabet", base.alphabet)
    if len(set(alphabet)) < 10:
        at.refuse("the alphabet is too small", "Give at least ten different characters.")
    return Generate(
        part=at.text("part"),
        length=at.integer("length", base.length, least=12),
        alphabet=alphabet,
        min_classes=min(at.integer("min_classes", base.min_classes), _classes(alphabet)),
    )


def _classes(alphabet: str) -> int:
    kinds = (str.islower, str.isupper, str.isdigit, lambda c: not c.isalnum())
    return sum(any(kind(c) for c in alphabet) for kind in kinds)


def _revoke(at: Cursor | None) -> Revoke | None:
    if at is None:
        return None
    at = at.keys("request", "success", "already_gone", "actor", required=("request",))
    request = at.get("request")
    gone = at.integers("already_gone") if at.get("already_gone") is not None else (404, 410)
    return Revoke(
        request=read_request(request) if request is not None else RequestSpec("DELETE"),
        success=read_success(at),
        already_gone=gone,
        actor=at.choice("actor", ("current", "pending", "manager"), "pending"),
        line=at.line,
    )


def _dead_check(at: Cursor | None) -> DeadCheck | None:
    if at is None:
        return None
    at = at.keys("with", "request", "expect", "also", "every_s", "for_s", "inconclusive_is")
    at.choice("with", ("retiring",))
    at.choice("request", ("same_as_test",))
    at.choice("inconclusive_is", ("open_task",))
    expect = at.get("expect")
    kind = expect.keys("class").choice("class", CLASSES, "credential_invalid") if expect is not None else ""
    if expect is not None and kind not in {"credential_invalid", "reauth_required", "client_invalid"}:
        expect.refuse(
            f"{kind} is no proof of death", "Use credential_invalid, reauth_required or client_invalid."
        )
    also = at.texts("also")
    for i, name in enumerate(also):
        if name not in {"listed_absent", "refresh_fails"}:
            at.refuse(f"also[{i}] {name!r} is not interpreted", "Use listed_absent or refresh_fails.")
    if expect is None and not also:
        kind = "credential_invalid"
    return DeadCheck(kind, also, at.number("every_s", 10.0), at.number("for_s", 600.0), at.line)


def read_manual(at: Cursor | None) -> Manual | None:
    """What a person does."""
    if at is None:
        return None
    at = at.keys(
        "effect",
        "requires_pause",
        "create_steps",
        "revoke_steps",
        "recovery_steps",
        "paste_fields",
        "confirm_question",
    )
    return Manual(
        effect=at.choice("effect", ("old_dies_immediately", "overlap", "unknown"), "unknown"),
        requires_pause=at.flag("requires_pause"),
        create_steps=read_steps(at.items("create_steps")),
        revoke_steps=read_steps(at.items("revoke_steps")),
        recovery_steps=read_steps(at.items("recovery_steps")),
        paste_fields=at.texts("paste_fields"),
        confirm_question=at.text("confirm_question"),
        line=at.line,
    )

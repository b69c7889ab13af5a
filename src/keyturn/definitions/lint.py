"""The rules a definition must pass before it may hold a secret, and the remarks it may ignore."""

from __future__ import annotations

from urllib.parse import urlsplit

from keyturn.contract.values import NetworkPolicy
from keyturn.definitions.auth import NoAuth, OAuth
from keyturn.definitions.expressions import Template
from keyturn.definitions.findings import Log
from keyturn.definitions.model import Definition
from keyturn.definitions.patterns import groups, unbounded
from keyturn.definitions.places import Place, is_known, is_secret, of_sample, places, requests
from keyturn.transport.ssrf import matches


def lint(definition: Definition, log: Log, network: NetworkPolicy | None = None) -> None:
    """Adds a finding for every rule broken. `network` names hosts that the operator opened."""
    _test(definition, log)
    _samples(definition, log)
    _hosts(definition, log, network or NetworkPolicy())
    for place in places(definition):
        _expressions(definition, place, log)
    _patterns(definition, log)
    if not isinstance(definition.auth, NoAuth):
        _rotation(definition, log)
        _manual(definition, log)
        _advice(definition, log)


def _test(definition: Definition, log: Log) -> None:
    test = definition.test
    who = test.identity
    if who.principal is None and not who.reason:
        log.refuse(
            test.line,
            "test.identity",
            "the test does not tell who answered",
            "Extract `principal`, or give a reason: identity: {none: why}.",
        )
    elif who.principal is None and not isinstance(definition.auth, NoAuth):
        log.remark(
            test.line, "test.identity", "the principal is not told", "A key of another account would pass."
        )
    if test.request.method not in {"GET", "HEAD"}:
        if not test.request.safe:
            log.refuse(
                test.line,
                "test.request.method",
                "a test that writes needs safe: true",
                "Use a GET if there is one.",
            )
        else:
            log.remark(
                test.line,
                "test.request.method",
                "the test is not a GET",
                "Make sure that it changes nothing.",
            )


def _samples(definition: Definition, log: Log) -> None:
    """A job reads and does nothing else, one bounded page of it."""
    for sample in definition.samples:
        at = f"sample.{sample.name}"
        used = {
            reference.path
            for place in of_sample(sample)
            for reference in place.template.references()
            if reference.scope == "sample"
        }
        if sample.request.method != "GET" and not (sample.request.method == "POST" and sample.request.safe):
            log.refuse(
                sample.line,
                f"{at}.request.method",
                "a sample is read with GET",
                "Use a GET, or a POST with `safe: true` where the vendor reads with it.",
            )
        if not sample.request.auth:
            log.refuse(
                sample.line,
                f"{at}.request.auth",
                "a sample without the credential proves nothing about it",
                "Leave auth out.",
            )
        for name in sorted(used - sample.parts()):
            log.refuse(
                sample.line, at, f"sample.{name} is not defined", "Name it as a group of `named.pattern`."
            )
        if sample.named is not None and not groups(sample.named.pattern) & used:
            log.refuse(
                sample.line,
                f"{at}.named",
                "what a job names is not used",
                "Use ${sample.GROUP} in the request.",
            )
        if sample.named is not None and unbounded(sample.named.pattern):
            log.refuse(
                sample.line,
                f"{at}.named.pattern",
                "the pattern has no upper bound",
                "Replace * and + by {0,n} or {1,n}.",
            )
        if sample.absent_is_empty and not any(rule.json for rule in sample.success):
            log.refuse(
                sample.line,
                f"{at}.absent_is_empty",
                "any other answer would count as an empty list",
                "Add a `success` rule on the JSON that only this answer fulfils.",
            )
        if not (sample.limit_param or sample.unlimited or "limit" in used):
            log.remark(
                sample.line,
                f"{at}.limit_param",
                "the page is as large as the vendor makes it",
                "Name the query parameter that bounds it, or write `none` where there is none.",
            )


def _hosts(definition: Definition, log: Log, network: NetworkPolicy) -> None:
    line = definition.line("hosts")
    if not definition.hosts:
        log.refuse(
            line, "hosts", "is empty", "List the host names that may be called, such as *.acme.example."
        )
    for host in definition.hosts:
        suffix = host.removeprefix("*.")
        if "*" in suffix or "${" in host or not suffix or (host != suffix and "." not in suffix):
            log.refuse(
                line, "hosts", f"{host!r} is too wide", "Write a host name, or *. before a full domain."
            )
    for place in places(definition):
        if place.kind == "url":
            _url(place, definition, log, network)


def _url(place: Place, definition: Definition, log: Log, network: NetworkPolicy) -> None:
    head = place.template.literal()
    if not head:
        return  # begins with a setting: checked when it is called
    if not head.startswith(("https://", "http://")):
        log.refuse(
            place.line, place.at, "is not an absolute https URL", "Start it with https:// or with a setting."
        )
        return
    literal = place.template.is_literal() or "/" in head.partition("://")[2]
    parts = urlsplit(head) if literal else None
    host = parts.hostname or "" if parts else ""
    port = (parts.port or (443 if parts.scheme == "https" else 80)) if parts else 0
    opened = bool(host) and network.allows(host, port)
    if head.startswith("http://") and not opened:
        log.refuse(place.line, place.at, "plain http would show the credential to the network", "Use https.")
    if host and not opened and definition.hosts and not any(matches(p, host) for p in definition.hosts):
        log.refuse(
            place.line, place.at, f"{host} is not among hosts", f"Add {host} to hosts, or correct the URL."
        )


def _expressions(definition: Definition, place: Place, log: Log) -> None:
    for reference in place.template.references():
        if reference.scope not in place.scopes:
            log.refuse(
                place.line,
                place.at,
                f"{reference.scope}.* does not exist here",
                f"Use {', '.join(sorted(place.scopes))}.",
            )
        elif not is_known(definition, reference):
            log.refuse(
                place.line, place.at, f"{reference.name} is not defined", "Declare it, or correct the name."
            )
        elif is_secret(definition, reference):
            _secret(place, reference.name, log)


def _secret(place: Place, name: str, log: Log) -> None:
    if place.kind in {"url", "query"} and not place.opted_in:
        log.refuse(
            place.line,
            place.at,
            f"the secret {name} would stand in a URL, and so in logs",
            "Use a header or body; where the vendor has no other way, set allow_secret_in_url: true.",
        )
    elif place.kind in {"url", "query"}:
        log.remark(
            place.line, place.at, f"the secret {name} stands in a URL", "Vendors and proxies log URLs."
        )
    elif not place.secrets:
        log.refuse(
            place.line,
            place.at,
            f"the secret {name} may not be used here",
            "Secrets belong into auth, or into requests of rotation.",
        )


def _patterns(definition: Definition, log: Log) -> None:
    named = [(f"inputs.{i.name}", i.pattern) for i in definition.inputs]
    named += [(f"credential.parts.{p.name}", p.pattern) for p in definition.parts]
    named += [(f"admin.parts.{p.name}", p.pattern) for p in definition.admin_parts]
    who = definition.test.identity
    sources = [who.principal, who.principal_label, who.tenant, who.rights]
    if definition.rotation.create is not None:
        sources += definition.rotation.create.extract.values()
    named += [("text_regex", s.text_regex) for s in sources if s is not None]
    for at, pattern in named:
        if pattern and unbounded(pattern):
            line = definition.line("test" if at == "text_regex" else at.partition(".")[0])
            log.refuse(line, at, "the pattern has no upper bound", "Replace * and + by {0,n} or {1,n}.")


def _rotation(definition: Definition, log: Log) -> None:
    rotation = definition.rotation
    create, revoke, check = rotation.create, rotation.revoke, rotation.dead_check
    if rotation.mode in {"create_then_revoke", "in_place", "set_value"} and create is None:
        log.refuse(
            rotation.line, "rotation.create", f"mode {rotation.mode} needs a call", "Declare create.request."
        )
    if create is not None:
        secret = {p.name for p in definition.parts if p.secret}
        if rotation.mode != "set_value" and not secret & set(create.extract):
            log.refuse(
                create.line,
                "rotation.create.extract",
                "extracts no secret part",
                f"Extract {sorted(secret)}.",
            )
        if create.handle and create.handle not in create.extract:
            log.refuse(
                create.line,
                "rotation.create.handle",
                f"{create.handle} is not extracted",
                "Add it to extract.",
            )
        known = {p.name for p in definition.parts} | {create.handle, "expires_at"}
        for name in set(create.extract) - known:
            log.refuse(
                create.line,
                f"rotation.create.extract.{name}",
                "is no part of the credential",
                "Declare the part.",
            )
        sends = any(r.scope == "pending" for p in places(definition) for r in p.template.references())
        if rotation.mode == "set_value" and not sends:
            log.refuse(
                create.line, "rotation.create.request", "does not send the new value", "Use ${pending.part}."
            )
    if rotation.mode == "create_then_revoke":
        by_value = revoke is not None and any(
            r.scope == "retiring" for p in places(definition) for r in p.template.references()
        )
        if create is not None and not create.handle and not by_value:
            log.refuse(
                create.line,
                "rotation.create.handle",
                "what is created could never be revoked",
                "Name the part that is its id.",
            )
        if definition.max_active == 1 or not definition.overlap:
            log.refuse(
                rotation.line,
                "rotation.mode",
                "two at once are not possible with max_active: 1",
                "Use in_place or set_value.",
            )
    if revoke is not None and check is None:
        log.refuse(
            revoke.line,
            "rotation.dead_check",
            "is missing although revoke is declared",
            "Say how death is proven.",
        )
    if check is not None:
        tried = bool(check.expect)
        if tried and not definition.test.negative_control:
            log.refuse(
                check.line,
                "rotation.dead_check.expect",
                "a test without negative control proves no death",
                "Use also: [listed_absent], or make the negative control required.",
            )
        if "listed_absent" in check.also and definition.discover is None:
            log.refuse(
                check.line,
                "rotation.dead_check.also",
                "listed_absent needs a discover block",
                "Declare discover.",
            )


def _manual(definition: Definition, log: Log) -> None:
    manual, rotation = definition.manual, definition.rotation
    people = rotation.mode == "manual" or (rotation.mode == "create_then_revoke" and rotation.revoke is None)
    if people and manual is None:
        log.refuse(
            definition.line("manual"),
            "manual",
            "is missing although no call is declared",
            "Say what a person does.",
        )
    elif rotation.mode in {"create_then_revoke", "in_place", "set_value"} and manual is None:
        log.remark(definition.line("rotation"), "manual", "there are no steps to fall back on", "Add manual.")
    if manual is not None:
        names = {p.name for p in definition.parts}
        for name in manual.paste_fields:
            if name not in names:
                log.refuse(manual.line, "manual.paste_fields", f"{name} is no part", "Name declared parts.")
        if people and rotation.mode == "manual" and not manual.paste_fields:
            log.refuse(
                manual.line, "manual.paste_fields", "nothing is asked for", "List the parts a person pastes."
            )
        if manual.effect == "unknown":
            log.remark(
                manual.line,
                "manual.effect",
                "it is not told whether the old one dies at once",
                "State the effect.",
            )


def _advice(definition: Definition, log: Log) -> None:
    kinds = {r.kind for r in definition.errors}
    if "rate_limited" not in kinds:
        log.remark(
            definition.line("errors"), "errors", "no rule for rate limits", "429 is understood by default."
        )
    if definition.test.negative_control and not kinds & {"credential_invalid", "reauth_required"}:
        log.remark(
            definition.line("errors"),
            "errors",
            "no answer is documented as a refusal",
            "Add a rule of class credential_invalid; without one only RFC 6750 challenges and OAuth errors count.",
        )
    if not definition.test.negative_control:
        log.remark(
            definition.test.line,
            "test.negative_control",
            "a bogus credential is not tried",
            "Death cannot be proven by test.",
        )
    if not definition.expiry_told:
        log.remark(
            definition.line("credential"),
            "credential.expiry",
            "the life of the credential is not told",
            "Add policy_days.",
        )
    auth = definition.auth
    if isinstance(auth, OAuth) and auth.kind == "oauth2_code" and not auth.refresh.rotates:
        log.remark(
            definition.line("auth"), "auth.refresh.rotates", "is not told", "Say always, sometimes or never."
        )
    for spec in requests(definition):
        if spec.url is not None and _is_input(spec.url):
            log.remark(
                spec.line,
                f"{spec.at}.url",
                "the address comes whole from a setting",
                "hosts still limits it.",
            )


def _is_input(template: Template) -> bool:
    only = template.only()
    return only is not None and only.scope == "input"

"""Credentials found where they do not belong: recognised without showing them, stopped, replaced and proven dead.

Tokens of this hub are found by prefix and checksum, in any text, without asking anybody; credentials of other systems by
their keyed fingerprint. What was reported is nowhere in the answer, the journal or the report's row.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from keyturn.bootstrap import Keyturn
from keyturn.errors import InvalidInput, KeyturnError
from keyturn.keymaking import passwords, webhooks
from keyturn.model.credential import LIVE, Connection, State, Version
from keyturn.model.ids import ConnectionId, VersionId, new_id
from keyturn.model.plan import Goal
from keyturn.model.run import LineKind
from keyturn.operations import issued as issued_operations
from keyturn.operations import notices
from keyturn.operations import register as register_operations
from keyturn.operations import runs as run_operations
from keyturn.storage import bulk, connections, consumers, issued, journal, oauth, people, register, versions
from keyturn.storage.database import Tx
from keyturn.storage.issued import ALIVE
from keyturn.storage.oauth import ACCESS, Token
from keyturn.storage.register import Leak
from keyturn.vault.secrets import version_row

MOST_BYTES = 16 * 1024 * 1024
_SHORTEST, _LONGEST = 12, 16_384  # of a value that is looked for: shorter ones are words
_MOST = 200_000  # candidates in one report
_CUT = re.compile(r"[\s\"'`<>,;|()\[\]{}]+")
_ASSIGNED = re.compile(r"[=:@&?]")
_PEM = re.compile(r"-----BEGIN [A-Z ]{1,40}-----.{1,20000}?-----END [A-Z ]{1,40}-----", re.DOTALL)
_LONGEST_SOURCE = 200
_SOURCE = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True)
class Radius:
    """What a leaked credential opens and whom stopping it hits: shown before anything is done.

    `was_live`: whether it still worked. `action` is what will be (or was) done about it.
    """

    connection: Connection | None
    name: str
    system: str
    what: str
    version_id: str
    was_live: bool
    state: str
    last_used_at: float | None
    hit: tuple[str, ...]
    steps: tuple[str, ...]
    action: str
    run_id: str = ""
    error: str = ""


@dataclass(frozen=True)
class Report:
    """What a text held. `ours` counts values in our form; `known` are those that are or were credentials of this hub or
    of its connections."""

    ours: int
    known: tuple[Radius, ...]

    @property
    def live(self) -> int:
        """How many still worked."""
        return sum(each.was_live for each in self.known)


@dataclass(frozen=True)
class _Hit:
    connection_id: str
    version_id: str
    what: str
    is_live: bool
    state: str
    token_id: str = ""
    account_id: str = ""
    oauth: Token | None = None


def find(hub: Keyturn, text: str, *, ours_only: bool = False) -> tuple[int, list[_Hit]]:
    """What of a text is a credential: how many values in our form, and those that are known. Reads only. `ours_only`
    leaves out those of other systems.

    Raises: InvalidInput for more than 16 MiB or too many words.
    """
    if len(text) > MOST_BYTES:
        raise InvalidInput(f"a report has up to {MOST_BYTES // 1024**2} MiB", field="text")
    text = text.encode("utf-8", "replace").decode()  # JSON can name half a character
    ours = {value for value in passwords.pattern().findall(text) if _is_whole(value)}
    ours |= {value for value in webhooks.pattern().findall(text) if webhooks.is_whole(value)}
    hits = [hit for value in sorted(ours) for hit in _of_ours(hub, value)]
    found = set()
    for number, word in enumerate(() if ours_only else _candidates(text)):
        if number >= _MOST:
            raise InvalidInput(
                "the report has too many words", hint="Send the part around the find.", field="text"
            )
        found.add(hub.roots.fingerprint(word))
    hits += _of_vendors(hub, found) if found else []
    unique = {(hit.version_id or hit.token_id): hit for hit in hits}
    return len(ours), list(unique.values())


def _is_whole(value: str) -> bool:
    try:
        passwords.parse(value)
    except InvalidInput:
        return False
    return True


def _candidates(text: str) -> Iterator[str]:
    """Words that could be a value: between blanks and quotes, behind an equals sign or a colon, and PEM blocks."""
    for block in _PEM.findall(text):
        yield block.strip()
        yield block.strip() + "\n"
        yield block.strip().replace("\\n", "\n")
        yield block.strip().replace("\\n", "\n") + "\n"
    seen: set[str] = set()
    for word in _CUT.split(text):
        parts = [word, word.rstrip("."), *_ASSIGNED.split(word)]
        at = word.find("=")
        colon = word.find(":")
        parts += [word[at + 1 :] if at >= 0 else "", word[colon + 1 :] if colon >= 0 else ""]
        for part in parts:
            if _SHORTEST <= len(part) <= _LONGEST and part not in seen:
                seen.add(part)
                yield part
    for line in text.splitlines():
        whole = line.strip()
        if (
            _SHORTEST <= len(whole) <= _LONGEST and whole not in seen
        ):  # a password with blanks or quotes in it
            seen.add(whole)
            yield whole


def _of_ours(hub: Keyturn, value: str) -> list[_Hit]:
    digest, now = hub.roots.token_digest(value), time.time()

    def look(tx: Tx) -> list[_Hit]:
        found = issued.presented(tx, digest)
        if found is not None:
            secret = found[0]
            live = secret.state in ALIVE and (secret.ends_at is None or now < secret.ends_at)
            return [
                _Hit(secret.connection_id, secret.version_id, f"slot {secret.slot}", live, secret.state.value)
            ]
        own = oauth.presented(tx, digest)
        if own is not None:
            client = own.token
            live = client.revoked_at is None and own.stands and own.secret.state in ALIVE
            live = live and client.used_at is None and now < client.expires_at
            state = "live" if live else "ended"
            return [_Hit(client.connection_id, client.id, f"{client.kind} token", live, state, oauth=client)]
        token = people.token(tx, digest)
        if token is None:
            return []
        live = token.ended_at is None and (token.ends_at is None or now < token.ends_at)
        state = "live" if live else "ended"
        return [_Hit("", "", f"API token {token.name}", live, state, token.id, token.account_id)]

    return hub.store.read(look)


def _of_vendors(hub: Keyturn, found: set[str]) -> list[_Hit]:
    """By the version's fingerprint; and part by part for live values that have several."""

    def look(tx: Tx) -> list[Version]:
        ids = [row[0] for row in tx.all("SELECT id, fingerprint FROM version") if row[1] in found]
        known = [versions.by_id(tx, VersionId(each)) for each in ids]
        return [version for version in known if version is not None]

    def alive(tx: Tx) -> list[Version]:
        states = tuple(state.value for state in LIVE)
        marks = ",".join("?" * len(states))
        rows = tx.all(f"SELECT id FROM version WHERE state IN ({marks})", *states)
        known = [versions.by_id(tx, VersionId(row[0])) for row in rows]
        return [version for version in known if version is not None]

    hits = {version.id: version for version in hub.store.read(look)}
    for version in hub.store.read(alive):
        if version.id in hits:
            continue
        row = version_row(version.id)
        if hub.secrets.find(row) is None:
            continue  # its value is destroyed, or was never here
        material = hub.secrets.material(row)
        if "digest" in material:
            continue  # one of ours, found by its digest
        parts = [part for part in material.secrets() if len(part) >= _SHORTEST]
        if any(hub.roots.fingerprint(part) in found for part in parts):
            hits[version.id] = version
    return [
        _Hit(v.connection_id, v.id, f"version {v.number}", v.state in LIVE, v.state.value)
        for v in hits.values()
    ]


# -- what to do about it -------------------------------------------------------------------------------------------


def report(
    hub: Keyturn,
    text: str,
    *,
    source: str = "",
    url: str = "",
    dry_run: bool = False,
    who: str = "",
    ours_only: bool = False,
) -> Report:
    """Recognises what leaked and stops it: a secret of ours is refused on every worker when this returns, and a `contain`
    run replaces what leaked and proves it dead. `dry_run` shows the same and does nothing. The same report again starts
    nothing twice.

    Raises: InvalidInput.
    """
    for field, said in (("source", source), ("url", url)):
        if plain(said) != said:
            raise InvalidInput(f"{field} has up to 200 printable characters, and no credential", field=field)
    who = who or hub.settings.actor
    ours, hits = find(hub, text, ours_only=ours_only)
    known = [_radius(hub, hit) for hit in hits]
    if dry_run:
        return Report(ours, tuple(known))
    return Report(
        ours, tuple(_stop(hub, hit, each, source, url, who) for hit, each in zip(hits, known, strict=True))
    )


def plain(text: str) -> str:
    """What may be kept of a place that somebody names: empty when there is a credential in it, or nothing to read."""
    text = text[:_LONGEST_SOURCE]
    return text if _SOURCE.fullmatch(text) and not passwords.pattern().search(text) else ""


def _radius(hub: Keyturn, hit: _Hit) -> Radius:
    if hit.oauth is not None:
        return _radius_of_token(hub, hit, hit.oauth)
    if not hit.connection_id:
        action = "end the token" if hit.is_live else "nothing: it had ended"
        return Radius(None, hit.what, "", hit.what, "", hit.is_live, hit.state, None, (), (), action)
    now = time.time()

    def look(tx: Tx) -> tuple[Connection | None, float | None, list[str]]:
        connection = connections.by_id(tx, ConnectionId(hit.connection_id))
        secret = issued.by_version(tx, VersionId(hit.version_id))
        said = [
            f"leased by {lease.consumer}" for lease in consumers.holders(tx, VersionId(hit.version_id), now)
        ]
        said += [
            f"consumer {each.name} ({each.kind})"
            for each in consumers.declared(tx, ConnectionId(hit.connection_id))
        ]
        return connection, secret.last_used_at if secret is not None else None, said

    connection, used_at, said = hub.store.read(look)
    if connection is None:
        return Radius(None, "", "", hit.what, hit.version_id, hit.is_live, hit.state, None, (), (), "nothing")
    if hub.catalog.method(connection.system, connection.method).direction == "inbound":
        said += register_operations.affected(hub, connection.name)
    action = "nothing: it had ended"
    steps: tuple[str, ...] = ()
    if hit.is_live:
        action = "contain: replace it now, end it, prove it dead"
        try:
            made = run_operations.plan(hub, connection.name, Goal.CONTAIN)
            steps = tuple(step.title for step in made.steps)
            said += made.warnings
        except KeyturnError as error:
            action = f"stop it; a person must do the rest: {error.message}"
    return Radius(
        connection,
        connection.name,
        f"{connection.system}/{connection.method}",
        hit.what,
        hit.version_id,
        hit.is_live,
        hit.state,
        used_at,
        tuple(said),
        steps,
        action,
    )


def _radius_of_token(hub: Keyturn, hit: _Hit, token: Token) -> Radius:
    """A token of an OAuth client: it ends alone, a refresh token with its whole family. The client's secret did not leak."""
    connection = hub.store.read(lambda tx: connections.by_id(tx, ConnectionId(hit.connection_id)))
    name = connection.name if connection is not None else ""
    action = (
        "end the token" if token.kind == ACCESS else "end it and every token that came of the same consent"
    )
    action = action if hit.is_live else "nothing: it had ended"
    system = f"{connection.system}/{connection.method}" if connection is not None else ""
    return Radius(
        connection, name, system, hit.what, hit.version_id, hit.is_live, hit.state, None, (), (), action
    )


def _stop(hub: Keyturn, hit: _Hit, seen: Radius, source: str, url: str, who: str) -> Radius:
    now = time.time()
    if seen.connection is None:
        if hit.token_id and hit.is_live:
            hub.store.write(lambda tx: people.end_token(tx, hit.account_id, hit.token_id, now))
        return seen
    connection = seen.connection
    token = hit.oauth
    row = Leak(new_id("lek"), connection.id, hit.version_id, source, url, who, "", hit.is_live, now)
    facts = {
        "decision": "leak_reported",
        "version": hit.version_id,
        "was_live": hit.is_live,
        "source": source,
        "url": url,
        "by": who,
    }
    ledger = issued_operations.book(hub)

    def brake(tx: Tx) -> bool:
        """A secret of ours is stopped before anything else is tried."""
        secret = issued.by_version(tx, VersionId(hit.version_id))
        if secret is not None and secret.state in ALIVE:
            ledger.retire(tx, secret)
        bulk.unpin(tx, hit.version_id)
        if token is not None and hit.is_live:
            oauth.revoke_token(tx, token.hash, now)
            if token.kind != ACCESS:
                oauth.end_grant(tx, token.grant_id, now, "one of its tokens leaked")
        if not register.add_leak(tx, row):
            return False
        journal.append(tx, connection.id, [journal.Entry(now, "", "leak", LineKind.DECISION, 0, facts)])
        notices.tell(
            tx, "leak.found", connection.id, row.id, {"connection": connection.name, "was_live": hit.is_live}
        )
        return True

    is_new = hub.store.write(brake)
    if not hit.is_live or token is not None:
        return seen
    run_id, error = "", ""
    if is_new or not _is_contained(hub, hit.version_id):
        try:
            reason = "leaked" + (f": found by {source}" if source else "")
            run = run_operations.start(
                hub,
                connection.name,
                Goal.CONTAIN,
                trigger=f"leak:{hit.version_id}",
                who=who,
                emergency=reason,  # who may report a leak decides nothing else; somebody looks at it afterwards
            )
            run_id = run.id
        except KeyturnError as refused:
            error = refused.message
    return Radius(**{**seen.__dict__, "run_id": run_id, "error": error})


def _is_contained(hub: Keyturn, version_id: str) -> bool:
    version = hub.store.read(lambda tx: versions.by_id(tx, VersionId(version_id)))
    return version is None or version.state in {State.DEAD, State.REVOKED, State.REVOKING}


def latest(hub: Keyturn, limit: int = 50) -> list[Leak]:
    """The latest reports, newest first."""
    return hub.store.read(lambda tx: register.leaks(tx, limit))


def texts(items: Iterable[object]) -> list[tuple[str, str, str]]:
    """(text, source, url) of reports in the scanners' common form: objects with `token`, `source` and `url`.

    Raises: InvalidInput. Source: https://docs.github.com/code-security/secret-scanning/secret-scanning-partner-program,
    checked 2026-11-23.
    """
    found = []
    for item in items:
        said = item if isinstance(item, dict) else {}
        token, source, url = said.get("token"), said.get("source") or "", said.get("url") or ""
        if not isinstance(token, str) or not token or not isinstance(source, str) or not isinstance(url, str):
            raise InvalidInput("each report has a token, and may have source and url, as text", field="body")
        found.append((token, source, url))
    return found

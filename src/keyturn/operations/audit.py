"""The audit trail: hash chains compared with their heads, taken away with the heads signed, and checked offline."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.errors import InvalidInput
from keyturn.model.run import Line, LineKind
from keyturn.operations.connections import find
from keyturn.storage import journal
from keyturn.storage.journal import Chain, Found, Head
from keyturn.vault import roots

FORMAT = "keyturn-audit/1"
_PAGE = 1000


@dataclass(frozen=True)
class Exported:
    """What was written. `broken` says which chains the database no longer holds as their heads say."""

    lines: int
    broken: tuple[str, ...]


@dataclass(frozen=True)
class Checked:
    """What an offline check found. `broken` names what was altered, added, cut off or rewritten."""

    connections: int
    lines: int
    broken: tuple[str, ...]
    signed: bool

    @property
    def is_whole(self) -> bool:
        """Whether nothing was altered, added or cut off."""
        return self.signed and not self.broken


def check(hub: Keyturn) -> list[str]:
    """What is wrong with the chains in the database, by connection; empty when all hold up to their heads."""
    return [each for head in hub.store.read(journal.heads) for each in _follow(hub, head, lambda _line: None)]


def search(
    hub: Keyturn,
    *,
    connection: str = "",
    run_id: str = "",
    kind: str = "",
    by: str = "",
    since: float | None = None,
    until: float | None = None,
    words: Sequence[str] = (),
    before: tuple[float, str, int] | None = None,
    limit: int = 100,
) -> Found:
    """The lines that fit, newest first, of every chain or of one connection's (`hub` is the hub's own), by whoever acted;
    those behind a place of an earlier answer. For words a search reads a bounded number of lines and says where it stopped.
    Raises: NotFound."""
    chain = connection if connection in {"", journal.HUB} else find(hub, connection).id
    return hub.store.read(
        lambda tx: journal.search(
            tx,
            chain=chain,
            run_id=run_id,
            kind=kind,
            by=by,
            since=since,
            until=until,
            words=words,
            before=before,
            limit=limit,
        )
    )


def export(hub: Keyturn, path: Path) -> Exported:
    """Writes every chain, one JSON line each, and at the end the signed heads: not of the lines that were found, but
    as the connections have them, so that a missing end shows."""
    heads: dict[str, list[Any]] = {}
    broken: list[str] = []
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as out:

        def write(line: Line) -> None:
            nonlocal count
            out.write(json.dumps(_plain(line), ensure_ascii=False, sort_keys=True) + "\n")
            count += 1

        out.write(json.dumps({"format": FORMAT, "exported_at": time.time()}) + "\n")
        for head in hub.store.read(journal.heads):
            broken += _follow(hub, head, write)
            heads[head.connection_id] = [head.number, head.hash, head.name]
        text = json.dumps(heads, sort_keys=True)
        signature = base64.b64encode(hub.roots.sign(text.encode())).decode()
        out.write(
            json.dumps({"heads": text, "signature": signature, "public_key": hub.roots.public_key_pem}) + "\n"
        )
    return Exported(count, tuple(broken))


def _follow(hub: Keyturn, head: Head, take: Callable[[Line], None]) -> list[str]:
    chain, misfiled = Chain(), 0
    try:
        for line, actor in _all(hub, head):
            chain.add(line)
            if actor != journal.actor(line.facts) and not misfiled:
                misfiled = line.number
            take(line)
    except (ValueError, TypeError):  # no line of ours
        return [f"{head.name} cannot be read after line {chain.number}"]
    found = chain.findings(head.number, head.hash)
    if misfiled:
        found.append(f"line {misfiled} is filed under another name than it says")
    return [f"{head.name} {each}" for each in found]


def _all(hub: Keyturn, head: Head) -> Iterator[tuple[Line, str]]:
    """The lines there were when the head was read, a page at a time: lines appended meanwhile are for the next time."""
    after, last = 0, max(head.number, head.last)
    while after < last:
        limit = min(_PAGE, last - after)
        page = hub.store.read(lambda tx: journal.filed(tx, head.connection_id, after, limit))  # noqa: B023
        yield from (each for each in page if each[0].number <= last)
        if not page:
            return
        after = page[-1][0].number


def _plain(line: Line) -> dict[str, Any]:
    return {**line.__dict__, "kind": line.kind.value, "facts": dict(line.facts)}


def verify(path: Path, public_key: str = "", earlier: Path | None = None) -> Checked:
    """Checks an export without the hub. `public_key` (PEM) pins whose signature it must be.

    Whoever writes to the database can build a chain anew, and the hub signs it in the next export. Against `earlier`,
    an export kept elsewhere, that shows: each of its chains must be the beginning of the one here.
    """
    before = _read(earlier, "earlier") if earlier is not None else None
    now = _read(path, "file", {name: head[0] for name, head in before.heads.items()} if before else {})
    key = public_key or now.key
    broken = now.findings()
    if before is not None:
        broken += _continues(before, now, key)
    return Checked(len(now.chains), now.lines, tuple(broken), now.is_signed(key))


@dataclass
class _Trail:
    """An export as read: of each chain only where it ended, and the hashes of the lines that were asked for."""

    chains: dict[str, Chain] = field(default_factory=dict)
    marked: dict[str, str] = field(default_factory=dict)
    lines: int = 0
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    text: str = ""
    signature: bytes = b""
    key: str = ""
    damage: str = ""

    def findings(self) -> list[str]:
        """What is wrong with it in itself, the signature apart."""
        if self.damage:
            return [self.damage]
        if not self.text:
            return ["the signed list of heads is missing or damaged"]
        found = [f"{name} is not in the signed list" for name in self.chains if name not in self.heads]
        for name, head in self.heads.items():
            found += [f"{name} {each}" for each in self.chains.get(name, Chain()).findings(*head)]
        return found

    def is_signed(self, key: str) -> bool:
        """Whether the heads are signed with this key."""
        return bool(self.text) and roots.verify(key, self.text.encode(), self.signature)


def _read(path: Path, name: str, marks: Mapping[str, int] | None = None) -> _Trail:
    """Reads an export line by line, in little memory. Raises: InvalidInput when it is none."""
    found = _Trail()
    number = 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                try:
                    _take(found, number, json.loads(raw.decode()), marks or {})
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    if number == 1:
                        raise InvalidInput(f"{path} is not an audit export", field=name) from None
                    return _Trail(damage=f"line {number} of the file cannot be read")
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read as an audit export ({error.strerror})", field=name
        ) from None
    if not number:
        raise InvalidInput(f"{path} is not an audit export", field=name)
    return found


def _take(found: _Trail, number: int, data: dict[str, Any], marks: Mapping[str, int]) -> None:
    """Takes one line of an export. Raises one of many errors when it is not as we write it."""
    if number == 1:
        if data["format"] != FORMAT:
            raise ValueError("another format")
        return
    if found.text:
        raise ValueError("a line after the end")
    if "heads" in data:
        heads = {
            name: (int(count), str(digest)) for name, (count, digest, _) in json.loads(data["heads"]).items()
        }
        found.signature = base64.b64decode(data["signature"], validate=True)
        found.heads, found.text, found.key = heads, data["heads"], str(data["public_key"])
        return
    line = Line(**{**data, "kind": LineKind(data["kind"]), "number": int(data["number"])})
    found.chains.setdefault(line.connection_id, Chain()).add(line)
    found.lines += 1
    if marks.get(line.connection_id) == line.number:
        found.marked[line.connection_id] = line.hash


def _continues(before: _Trail, now: _Trail, key: str) -> list[str]:
    """What contradicts an earlier export. Where hashes follow one another, one equal hash makes all before it equal."""
    found = [f"the earlier export: {each}" for each in before.findings()]
    if not before.is_signed(key):
        found.append("the earlier export is not signed with the same key")
    for name, (number, digest) in before.heads.items():
        if number and name not in now.marked:
            found.append(f"{name} lacks line {number}, which the earlier export has")
        elif number and now.marked[name] != digest:
            found.append(f"{name} was rewritten: line {number} is another one in the earlier export")
    return found

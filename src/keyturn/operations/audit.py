"""The audit trail, taken away and checked offline: hash chains, heads signed by the hub."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyturn.bootstrap import Keyturn
from keyturn.errors import InvalidInput
from keyturn.model.run import Line, LineKind
from keyturn.storage import connections, journal
from keyturn.vault import roots

FORMAT = "keyturn-audit/1"


@dataclass(frozen=True)
class Checked:
    """What an offline check found. `broken` names the first line of each chain that does not follow."""

    connections: int
    lines: int
    broken: tuple[str, ...]
    signed: bool

    @property
    def is_whole(self) -> bool:
        """Whether nothing was altered, added or cut off."""
        return self.signed and not self.broken


def export(hub: Keyturn, path: Path) -> int:
    """Writes every chain, one JSON line each, and a signed list of heads at the end. Returns the number of lines."""
    every = hub.store.read(connections.every)
    heads: dict[str, list[Any]] = {}
    count = 0
    with path.open("w", encoding="utf-8") as out:
        out.write(json.dumps({"format": FORMAT, "exported_at": time.time()}) + "\n")
        for connection in every:
            last: Line | None = None
            for line in _all(hub, connection.id):
                out.write(json.dumps(_plain(line), ensure_ascii=False, sort_keys=True) + "\n")
                last = line
                count += 1
            if last is not None:
                heads[connection.id] = [last.number, last.hash, connection.name]
        text = json.dumps(heads, sort_keys=True)
        signature = base64.b64encode(hub.roots.sign(text.encode())).decode()
        out.write(
            json.dumps({"heads": text, "signature": signature, "public_key": hub.roots.public_key_pem}) + "\n"
        )
    return count


def _all(hub: Keyturn, connection_id: str) -> Iterator[Line]:
    after = 0
    while True:
        page = hub.store.read(lambda tx: journal.of_connection(tx, connection_id, after, 1000))  # noqa: B023
        yield from page
        if len(page) < 1000:
            return
        after = page[-1].number


def _plain(line: Line) -> dict[str, Any]:
    return {**line.__dict__, "kind": line.kind.value, "facts": dict(line.facts)}


def verify(path: Path, public_key: str = "") -> Checked:
    """Checks an export without the hub. `public_key` (PEM) pins whose signature it must be."""
    chains: dict[str, list[Line]] = {}
    end: dict[str, Any] = {}
    try:
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines()):
            data = json.loads(text)
            if number == 0:
                if data.get("format") != FORMAT:
                    raise InvalidInput(f"{path} is not an audit export", field="file")
            elif "heads" in data:
                end = data
            else:
                chains.setdefault(data["connection_id"], []).append(
                    Line(**{**data, "kind": LineKind(data["kind"])})
                )
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidInput(f"{path} cannot be read as an audit export", field="file") from None
    broken = [
        f"{name} line {at}" for name, lines in chains.items() if (at := journal.verify(lines)) is not None
    ]
    try:
        heads = {name: (number, digest) for name, (number, digest, _) in json.loads(end["heads"]).items()}
        signature = base64.b64decode(end["signature"], validate=True)
        signed = roots.verify(public_key or end["public_key"], end["heads"].encode(), signature)
    except (KeyError, ValueError, TypeError, AttributeError):
        heads, signed = {}, False
        broken.append("the signed list of heads is missing or damaged")
    for name, (number, digest) in heads.items():
        lines = chains.get(name, [])
        if not lines or (lines[-1].number, lines[-1].hash) != (number, digest):
            broken.append(f"{name} is cut off")
    broken += [f"{name} is not in the signed list" for name in chains if name not in heads]
    return Checked(len(chains), sum(map(len, chains.values())), tuple(broken), signed)

"""What a caller is told whose secret is on its way out: until when it surely works, and which one follows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate

from keyturn.consumers.gate import overlap_s
from keyturn.model.credential import State
from keyturn.model.policy import Policy
from keyturn.model.run import Track
from keyturn.storage import connections, issued, runs, versions
from keyturn.storage.database import Tx
from keyturn.storage.issued import Held, IssuedSecret, SecretState

STATE, EXPIRES, SUCCESSOR = (
    "Keyturn-Credential-State",
    "Keyturn-Credential-Expires",
    "Keyturn-Credential-Successor",
)


@dataclass(frozen=True)
class Ending:
    """`since`: when its successor took over, and both began to work. `until`: from then on it may be refused at any moment.
    Both None when no end is planned. `slot` and `hint` (last
    four characters) are those of the secret that follows it, empty when there is none any more."""

    since: float | None
    until: float | None
    slot: str
    hint: str

    @property
    def headers(self) -> Mapping[str, str]:
        """For the answer: an HTTP date (RFC 9110 5.6.7), and the slot with the hint as a parameter (RFC 9651)."""
        said = {STATE: SecretState.RETIRING.value}
        if self.until is not None:
            said[EXPIRES] = formatdate(self.until, usegmt=True)
        if self.slot:
            said[SUCCESSOR] = f'{self.slot};hint="{self.hint}"'
        return said


def of(tx: Tx, secret: Held | IssuedSecret) -> Ending:
    """Of a secret in `retiring`. Reads only."""
    live = [s for s in issued.of_connection(tx, secret.connection_id) if s.state is SecretState.LIVE]
    since, until = _overlap(tx, secret)
    ends = [at for at in (secret.ends_at, until) if at is not None]
    slot, hint = (live[0].slot, live[0].hint) if live else ("", "")
    return Ending(since, min(ends, default=None), slot, hint)


def _overlap(tx: Tx, secret: Held | IssuedSecret) -> tuple[float | None, float | None]:
    """From when, and until when at least, the run that replaces it lets both work."""
    run = runs.unfinished_of(tx, secret.connection_id)
    version = versions.by_id(tx, secret.version_id)
    connection = connections.by_id(tx, secret.connection_id)
    if run is None or version is None or connection is None:
        return None, None
    if run.track is Track.ROLLBACK or version.state is not State.DRAINING:
        return None, None
    return version.changed_at, version.changed_at + overlap_s(run, Policy.read(connection.policy))

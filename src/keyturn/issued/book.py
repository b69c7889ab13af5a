"""The book of issued secrets: who may come in. Digests only; uses are counted in memory and written once a second."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

from keyturn.errors import Conflict, InvalidInput, StoreUnavailable
from keyturn.issued import endings, grants
from keyturn.issued.endings import Ending
from keyturn.issued.grants import Grants
from keyturn.keymaking import passwords
from keyturn.keymaking.passwords import PREFIX
from keyturn.model.ids import ConnectionId, VersionId
from keyturn.model.run import LineKind
from keyturn.storage import bulk, issued, journal, oauth, register, runs
from keyturn.storage.database import Store, Tx
from keyturn.storage.issued import ACCEPTED, ALIVE, Held, IssuedSecret, SecretState, Use
from keyturn.vault.roots import Roots

FLUSH_S = 1.0
TELL_AGAIN_S = (
    3600.0  # a caller who still presents an ended secret is put on record this often, not at every call
)
SLOTS = ("A", "B")
MOST_CALLERS = 1000  # told apart within one flush
# kinds of value that open the door by themselves; a client secret opens the token endpoint only
KEYS = frozenset("kbw")
_TOKENS = "t"


class Code(StrEnum):
    """Why a presented value is or is not let in."""

    OK = "ok"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"
    EARLY = "not_yet_active"
    ADDRESS = "ip_denied"
    SCOPE = "scope"
    IN_URL = "in_url"


class CheckResult(NamedTuple):
    """The answer to one presented value. Past `unknown` the secret and its credential's name are known; `ending` tells
    whoever is let in with a secret on its way out.

    Of an access token: `secret` is the one its client showed for it, `token` the token, and `subject` the account of whoever
    allowed it, whose rights limit it further (empty: the client itself). A tuple, as one is made at every call."""

    code: Code
    secret: Held | IssuedSecret | None = None
    name: str = ""
    scopes: frozenset[str] = frozenset()
    needed: str = ""
    is_first_use: bool = False
    rate: int | None = None  # the credential's own calls a minute
    token: oauth.Token | None = None
    subject: str = ""
    ending: Ending | None = None

    @property
    def accepted(self) -> bool:
        """Whether the caller may come in."""
        return self.code is Code.OK


_Caller = tuple[VersionId, str, str]  # secret, address and agent
_NEVER = (0, 0.0)
_MALFORMED = CheckResult(Code.MALFORMED)
_UNKNOWN = CheckResult(Code.UNKNOWN)


class IssuedBook:
    """Adds, checks and ends issued secrets. Several books over one store agree: nothing accepted is remembered."""

    def __init__(self, store: Store, roots: Roots, clock: Callable[[], float] = time.time) -> None:
        self.store, self.roots, self._clock = store, roots, clock
        self._lock = threading.Lock()
        self._uses: dict[_Caller, tuple[int, float]] = {}  # how often, and when last
        self._refused: dict[VersionId, tuple[CheckResult, Use]] = {}
        self._told: dict[VersionId, float] = {}
        self._flusher: threading.Thread | None = None
        self._closing = threading.Event()

    # -- the door ------------------------------------------------------------------------------------------------

    def check(self, presented: str, *, address: str = "", agent: str = "", scope: str = "") -> CheckResult:
        """Judges a presented value and counts the use. Blocks on a commit for the first use of a secret only."""
        found = self.look(presented, address=address, scope=scope)
        self.note(found, address=address, agent=agent)
        return found

    def look(self, presented: str, *, address: str | None = None, scope: str = "") -> CheckResult:
        """Judges without counting. A value with a wrong checksum never reaches the database. One read otherwise.

        `address` None is the hub itself, testing: networks, and from when on it is let in, are not looked at.
        """
        try:
            kind = passwords.parse(presented).kind
        except InvalidInput:
            return _MALFORMED
        digest = self.roots.token_digest(presented)
        if kind == _TOKENS:
            return self.look_up_token(digest, address=address, scope=scope)
        if kind not in KEYS:
            return _UNKNOWN
        return self.look_up(digest, address=address, scope=scope)

    def look_up_token(
        self, digest: str, *, kind: str = oauth.ACCESS, address: str | None = None, scope: str = ""
    ) -> CheckResult:
        """Judges an OAuth token by digest: it lives while its secret is let in, its grant stands and its time lasts."""
        found = self.store.read(lambda tx: oauth.presented(tx, digest), alone=True)
        if found is None or found.token.kind != kind:
            return _UNKNOWN
        token, now = found.token, self._clock()
        allowed = grants.of_text(found.settings)
        scopes = frozenset(each for each in token.scopes.split() if allowed.covers(each))
        allowed = replace(allowed, scopes=scopes)  # what its credential lost since, it lost too
        result = CheckResult(
            Code.OK,
            None,
            found.name,
            allowed.scopes,
            scope,
            rate=allowed.rate,
            token=token,
            subject=found.subject,
        )
        if token.revoked_at is not None or not found.stands:
            return result._replace(code=Code.REVOKED)
        if now >= token.expires_at:
            return result._replace(code=Code.EXPIRED)
        return self._judge(result._replace(secret=found.secret), found.secret, allowed, address, scope)

    def look_up(self, digest: str, *, address: str | None = None, scope: str = "") -> CheckResult:
        """Judges by digest: what the hub can still do when the value is long gone."""
        found = self.store.read(lambda tx: issued.presented(tx, digest), alone=True)
        if found is None:
            return _UNKNOWN
        secret, name, settings = found
        allowed = grants.of_text(settings)
        result = CheckResult(Code.OK, secret, name, allowed.scopes, scope, rate=allowed.rate)
        return self._judge(result, secret, allowed, address, scope)

    def _judge(
        self,
        result: CheckResult,
        secret: Held,
        allowed: Grants,
        address: str | None,
        scope: str,
    ) -> CheckResult:
        if secret.state is not SecretState.LIVE:  # all that the other states cost a secret in force
            result = self._by_state(result, secret, is_hub=address is None)
            if not result.accepted:
                return result
        if secret.ends_at is not None and self._clock() >= secret.ends_at:
            return result._replace(code=Code.EXPIRED)
        if address is not None and not allowed.admits(address):
            return result._replace(code=Code.ADDRESS)
        if not allowed.covers(scope):
            return result._replace(code=Code.SCOPE)
        return result._replace(is_first_use=True) if secret.first_used_at is None else result

    def _by_state(self, result: CheckResult, secret: Held, *, is_hub: bool) -> CheckResult:
        if secret.state is SecretState.RETIRING:
            return result._replace(ending=self.store.read(lambda tx: endings.of(tx, secret)))
        why = None if is_hub and secret.state is SecretState.PENDING else self.why_shut(secret)
        if why is not None:
            return result._replace(code=why)
        return result._replace(secret=secret._replace(state=SecretState.LIVE))  # as its first use will write

    def why_shut(self, secret: Held | IssuedSecret) -> Code | None:
        """Why a secret in this state is not let in; None when it is. One more read for a pending one."""
        if secret.state in ACCEPTED:
            return None
        if secret.state is SecretState.PENDING:
            whole = self.store.read(lambda tx: issued.by_version(tx, secret.version_id))
            starts_at = whole.starts_at if whole is not None else None
            return Code.EARLY if starts_at is None or self._clock() < starts_at else None
        return Code.EXPIRED if secret.state is SecretState.EXPIRED else Code.REVOKED

    def note(self, found: CheckResult, *, address: str = "", agent: str = "") -> None:
        """Counts what `look` found. The first use is written at once, since the old secret's end waits for it."""
        secret = found.secret
        if secret is None:
            return
        at, caller = self._clock(), (secret.version_id, _plain(address), _plain(agent))
        if (
            found.code is Code.OK or found.code is Code.SCOPE
        ):  # a right too few is still somebody who holds the value
            if secret.first_used_at is None:
                self._confirm(secret, at)
            self._count(caller, 1, at)
        else:
            self._count_refused(found, caller, at)

    def _confirm(self, secret: Held | IssuedSecret, at: float) -> None:
        """The new secret is in use: its elders are retiring, and a run that waits for this looks again now."""

        def work(tx: Tx) -> None:
            if not issued.confirm(tx, secret.version_id, at):
                return
            issued.retire_elder(tx, secret)
            facts = {"what": "first_use", "version": secret.version_id, "slot": secret.slot}
            journal.append(
                tx, secret.connection_id, [journal.Entry(at, "", "issued", LineKind.OBSERVED, 0, facts)]
            )
            for run in runs.recent(tx, secret.connection_id, 3):
                runs.wake(tx, run.id, at)

        self.store.write(work)

    # -- counting ------------------------------------------------------------------------------------------------

    def _count(self, caller: _Caller, times: int, at: float) -> None:
        with self._lock:
            if len(self._uses) >= MOST_CALLERS and caller not in self._uses:
                caller = (*caller[:2], "(many)")
            before, last = self._uses.get(caller, _NEVER)
            self._uses[caller] = (before + times, max(last, at))
            if self._flusher is None:
                self._start()

    def _count_refused(self, found: CheckResult, caller: _Caller, at: float) -> None:
        version_id, address, agent = caller
        with self._lock:
            before = self._refused.get(version_id)
            times = before[1].count + 1 if before else 1
            self._refused[version_id] = (found, Use(version_id, times, at, address, agent))
            self._start()

    def _start(self) -> None:
        if self._flusher is None and not self._closing.is_set():
            self._flusher = threading.Thread(target=self._flush_often, name="keyturn-uses", daemon=True)
            self._flusher.start()

    def _flush_often(self) -> None:
        while not self._closing.wait(FLUSH_S):
            try:
                self.flush()
            except StoreUnavailable:
                continue  # kept, and written when the store is well again

    def flush(self) -> None:
        """Writes what was counted, in one transaction. Raises: StoreUnavailable, with nothing lost."""
        now = self._clock()
        with self._lock:
            counted, self._uses = self._uses, {}
            told = [
                (key, *pair)
                for key, pair in self._refused.items()
                if self._told.get(key, 0.0) + TELL_AGAIN_S <= now
            ]
            for key, _, _ in told:
                del self._refused[key]
                self._told[key] = now
        if not counted and not told:
            return
        uses = [
            Use(version_id, times, at, address, agent)
            for (version_id, address, agent), (times, at) in counted.items()
        ]

        def work(tx: Tx) -> None:
            for use in uses:
                issued.used(tx, use)
                register.seen(tx, use)
            for key, found, use in told:
                if found.code is Code.EXPIRED:  # final from here on, also when a clock is set back
                    issued.move(tx, key, SecretState.EXPIRED)
                facts = {
                    "what": "refused_secret",
                    "why": found.code.value,
                    "version": key,
                    "times": use.count,
                    "from": use.address,
                    "agent": use.agent,
                }
                entry = journal.Entry(use.at, "", "issued", LineKind.OBSERVED, 0, facts)
                if found.secret is not None:
                    journal.append(tx, found.secret.connection_id, [entry])

        try:
            self.store.write(work)
        except StoreUnavailable:
            with self._lock:
                for key, found, use in told:
                    self._told.pop(key, None)
                    self._refused.setdefault(key, (found, use))
            for caller, (times, at) in counted.items():
                self._count(caller, times, at)
            raise

    def close(self) -> None:
        """Writes what is left and ends the thread."""
        self._closing.set()
        if self._flusher is not None:
            self._flusher.join(timeout=5)
        self.flush()

    # -- the ledger ----------------------------------------------------------------------------------------------

    def add(
        self,
        tx: Tx,
        version_id: VersionId,
        connection_id: ConnectionId,
        slot: str,
        digest: str,
        hint: str,
        ends_at: float | None,
        client_id: str | None = None,
        starts_at: float | None = None,
    ) -> None:
        """Opens the door for a digest; the same again changes nothing. Raises: Conflict when the slot is taken.

        `client_id` None: that of the credential's newest secret (a key has none). `starts_at` in the future: only from
        then on.
        """
        known = issued.of_connection(tx, connection_id)
        if any(s.version_id == version_id for s in known):
            return
        if any(s.slot == slot and s.state in ALIVE for s in known):
            raise Conflict(
                f"slot {slot} holds a live secret", hint="End one of the two first: two may live at a time."
            )
        at = self._clock()
        is_later = starts_at is not None and starts_at > at
        issued.add(
            tx,
            IssuedSecret(
                version_id=version_id,
                connection_id=connection_id,
                slot=slot,
                hash=digest,
                hint=hint,
                state=SecretState.PENDING if is_later else SecretState.LIVE,
                created_at=at,
                ends_at=ends_at,
                first_used_at=None,
                last_used_at=None,
                last_used_from="",
                last_used_agent="",
                uses=0,
                client_id=(known[0].client_id if known else "") if client_id is None else client_id,
                starts_at=starts_at,
            ),
        )

    def retire(self, tx: Tx, secret: IssuedSecret, *, routine: bool = False) -> None:
        """Closes the door for good. Already closed counts as done. Elders that were retiring for it stay alive.

        Access tokens made with it are refused from the same commit on. With a client's last secret goes whatever people
        allowed that client. Only after a `routine` rotation may it finish a bulk load that it began.
        """
        issued.move(tx, secret.version_id, SecretState.REVOKED)
        if not routine:
            bulk.unpin(tx, secret.version_id)
        left = [s for s in issued.of_connection(tx, secret.connection_id) if s.state in ALIVE]
        if secret.client_id and all(s.client_id != secret.client_id for s in left):
            oauth.end_grants_of_client(tx, secret.client_id, self._clock(), "the client was ended")
        if all(s.created_at < secret.created_at for s in left):
            issued.revive(tx, secret.connection_id)

    def list(self, connection_id: ConnectionId) -> tuple[IssuedSecret, ...]:
        """All secrets of a credential, newest first."""
        return tuple(self.store.read(lambda tx: issued.of_connection(tx, connection_id)))

    def live(self, connection_id: ConnectionId) -> tuple[IssuedSecret, ...]:
        """Those that are let in now, or will be."""
        now = self._clock()
        return tuple(
            s for s in self.list(connection_id) if s.state in ALIVE and (s.ends_at is None or now < s.ends_at)
        )


_TOKEN = passwords.pattern()
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def _plain(text: str) -> str:
    """What a caller says about itself, fit for a row: short, printable, and without a token pasted in the wrong header."""
    text = text[:200]
    if not (text.isascii() and text.isprintable()):
        text = _UNPRINTABLE.sub("?", text)
    return _TOKEN.sub("(token)", text) if PREFIX in text else text

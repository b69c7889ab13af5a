"""OAuth clients of this hub and their tokens: who a client is, which tokens it gets, and what ends them.

What the standards ask of requests and answers is in `oauth_server`; here is what must hold after every commit: a code and
a refresh token are taken exactly once, a token dies with the secret it was made with, and what was played back ends its
whole family. Sources: RFC 6749, RFC 7636, RFC 8252 section 7.3, RFC 9700 section 4.14, checked 2026-11-23.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, urlsplit

from keyturn.errors import InvalidInput, NotFound
from keyturn.issued import endings, grants, kinds
from keyturn.issued.book import CheckResult, Code, IssuedBook
from keyturn.issued.grants import Grants
from keyturn.issued.kinds import Kind
from keyturn.keymaking import passwords
from keyturn.model.ids import new_id
from keyturn.model.run import LineKind
from keyturn.storage import journal, oauth
from keyturn.storage.database import Tx
from keyturn.storage.issued import IssuedSecret, SecretState
from keyturn.storage.oauth import ACCESS, REFRESH, Grant, Token
from keyturn.storage.rows import load

CODE_S = 60.0
GRACE_S = 30.0  # a client whose answer was lost, or that asks from several processes, may repeat its refresh
LIFETIME_S, SHORTEST_S, LONGEST_S = 3600, 300, 86400
REFRESH_DAYS, MOST_REFRESH_DAYS = 90, 366
MOST_CALLBACKS = 10
_KEEP_S = 86400.0  # an expired token is known this long, so that its caller is told what happened
_PRUNE_S = 600.0
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_CALLBACK = re.compile(
    r"[A-Za-z0-9:/?&=%.,;@!$()+~_\[\]-]{8,2000}"
)  # RFC 3986 without fragment, quote and star
_HOST = re.compile(r"[A-Za-z0-9.-]+|[0-9a-f:]+")
_CLIENT_ID = re.compile(rf"{passwords.PREFIX}c_[0-9A-Za-z]{{22}}")


@dataclass(frozen=True)
class Terms:
    """What a client may do, from its credential's settings."""

    grants: Grants
    callbacks: tuple[str, ...] = ()
    is_public: bool = False
    lifetime_s: int = LIFETIME_S
    refresh_days: int = REFRESH_DAYS


@dataclass(frozen=True)
class Client:
    """A client that showed one of its secrets; a public one is known by its id alone."""

    id: str
    name: str
    owner: str
    kind: Kind
    terms: Terms
    secret: IssuedSecret

    def covers(self, scopes: str) -> bool:
        """Whether all of these may be asked for."""
        return all(self.terms.grants.covers(each) for each in scopes.split())

    def allows(self, redirect_uri: str) -> bool:
        """Exactly one of its callbacks, letter by letter; of a loopback one the port may be any (RFC 8252 7.3)."""
        return any(_same_callback(each, redirect_uri) for each in self.terms.callbacks)


@dataclass(frozen=True)
class Pair:
    """Fresh tokens, for the one answer that shows them. `expires_in` in whole seconds."""

    access: str
    expires_in: int
    scopes: str
    refresh: str = ""


def terms(kind: Kind, settings: Mapping[str, Any]) -> Terms:
    """Reads and checks a client's settings. Raises: InvalidInput naming the field."""
    allowed = grants.of(settings)
    lifetime_s = int(settings.get("token_lifetime_s") or LIFETIME_S)
    if not SHORTEST_S <= lifetime_s <= LONGEST_S:
        raise InvalidInput(
            f"token_lifetime_s must be between {SHORTEST_S} and {LONGEST_S} seconds", field="token_lifetime_s"
        )
    refresh_days = int(settings.get("refresh_days") or REFRESH_DAYS)
    if refresh_days > MOST_REFRESH_DAYS:
        raise InvalidInput(f"refresh_days must be at most {MOST_REFRESH_DAYS}", field="refresh_days")
    callbacks = tuple(str(settings.get("callback_urls", "")).split())
    if "authorization_code" in kind.flows:
        if not 1 <= len(callbacks) <= MOST_CALLBACKS:
            raise InvalidInput(
                f"callback_urls must be 1 to {MOST_CALLBACKS} addresses, separated by spaces",
                field="callback_urls",
            )
        for each in callbacks:
            _check_callback(each)
    return Terms(allowed, callbacks, settings.get("client_type") == "public", lifetime_s, refresh_days)


@lru_cache(maxsize=1024)
def _terms_of_text(kind: Kind, settings: str) -> Terms:
    return terms(kind, load(settings))


def _check_callback(url: str) -> None:
    """Raises: InvalidInput."""
    try:
        parts: SplitResult | None = urlsplit(url)
        port = parts.port if parts else None
    except ValueError:
        parts, port = None, None
    fits = (
        parts is not None
        and _CALLBACK.fullmatch(url) is not None
        and _HOST.fullmatch(parts.hostname or "") is not None
        and "@" not in parts.netloc
        and "#" not in url
        and port != 0
        and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK))
    )
    if not fits:
        raise InvalidInput(
            "callback_urls must be https addresses (http only for 127.0.0.1, [::1] and localhost), without a fragment,"
            " user, space or wildcard",
            hint="Example: https://app.example.com/oauth/callback",
            field="callback_urls",
        )


def _same_callback(registered: str, asked: str) -> bool:
    if hmac.compare_digest(registered.encode(), asked.encode()):
        return True
    if not registered.startswith("http://") or _CALLBACK.fullmatch(asked) is None:
        return False
    try:
        own, other = urlsplit(registered), urlsplit(asked)
        _ = other.port
    except ValueError:
        return False
    if "@" in other.netloc or "#" in asked or own.hostname not in _LOOPBACK:
        return False
    # what is left of the two without the port is compared letter by letter too
    return registered.replace(own.netloc, _host(own), 1) == asked.replace(other.netloc, _host(other), 1)


def _host(parts: SplitResult) -> str:
    return parts.netloc if parts.port is None else parts.netloc.removesuffix(f":{parts.port}")


class OauthBook:
    """Clients, codes and tokens over one store. Nothing accepted is remembered, so several workers agree."""

    def __init__(self, book: IssuedBook, clock: Callable[[], float] = time.time) -> None:
        self.book, self.store, self.roots = book, book.store, book.roots
        self._clock = clock
        self._key = book.roots.subkey("oauth-tokens")
        self._prune_at = 0.0

    # -- clients -------------------------------------------------------------------------------------------------------

    def by_secret(
        self, client_id: str, secret: str, address: str = "", agent: str = ""
    ) -> tuple[Client | None, Code]:
        """The client that has this id and shows this secret, and counts the use. Otherwise None and why.

        An unknown client, a wrong secret and the secret of another client take the same way: one digest, one look-up by
        it, one comparison. A well-formed secret is looked up whatever the id is.
        """
        try:
            is_secret = passwords.parse(secret).kind == "s"
        except InvalidInput:
            is_secret = False
        if not is_secret:
            return None, Code.MALFORMED
        digest = self.roots.token_digest(secret)
        found = self.store.read(lambda tx: oauth.client_by_secret(tx, digest))
        known = found.secret.client_id if found is not None else passwords.PREFIX
        if not hmac.compare_digest(known.encode(), client_id.encode()) or found is None:
            return None, Code.UNKNOWN
        client = _of(found)
        if client is None or client.terms.is_public:
            return None, Code.UNKNOWN
        why = self._standing(client, address)
        self.book.note(CheckResult(why, client.secret, client.name), address=address, agent=agent)
        return (client if why is Code.OK else None), why

    def _standing(self, client: Client, address: str) -> Code:
        """Whether a client that was recognised may go on: its secret is let in, and it calls from where it may."""
        secret = client.secret
        why = self.book.why_shut(secret)
        if why is not None:
            return why
        if secret.ends_at is not None and self._clock() >= secret.ends_at:
            return Code.EXPIRED
        return Code.OK if client.terms.grants.admits(address) else Code.ADDRESS

    def by_id(self, client_id: str) -> Client | None:
        """A client that has not ended, by its id: for the consent page."""
        if not _CLIENT_ID.fullmatch(client_id):
            return None
        found = self.store.read(lambda tx: oauth.client_by_id(tx, client_id))
        client = _of(found) if found is not None else None
        if client is None or self._standing(client, "") not in {Code.OK, Code.ADDRESS}:
            return None
        return client

    def public(self, client_id: str, address: str = "", agent: str = "") -> Client | None:
        """A public client, which has no secret to show. Raises nothing; None also for one that has a secret."""
        client = self.by_id(client_id)
        if client is None or not client.terms.is_public or self._standing(client, address) is not Code.OK:
            return None
        self.book.note(CheckResult(Code.OK, client.secret, client.name), address=address, agent=agent)
        return client

    def notice(self, client: Client) -> Mapping[str, str]:
        """What goes with the answer to a client whose secret is on its way out."""
        secret = client.secret
        if secret.state is not SecretState.RETIRING:
            return {}
        return self.store.read(lambda tx: endings.of(tx, secret)).headers

    # -- codes ---------------------------------------------------------------------------------------------------------

    def allow(
        self,
        client: Client,
        subject: str,
        scopes: str,
        redirect_uri: str,
        challenge: str,
        note: Callable[[Tx], None],
    ) -> str:
        """A person said yes: the code for the application, good once and for a minute. `note` is written beside it."""
        value, now = _random(), self._clock()
        grant = Grant(
            id=new_id("grt"),
            connection_id=client.secret.connection_id,
            client_id=client.id,
            subject=subject,
            scopes=scopes,
            redirect_uri=redirect_uri,
            created_at=now,
            used_at=None,
            ended_at=None,
            ended_why="",
        )
        code = oauth.Code(self._code_digest(value), grant.id, challenge, now + CODE_S, None)
        prune = self._pruning(now)

        def work(tx: Tx) -> None:
            oauth.add_grant(tx, grant)
            oauth.add_code(tx, code)
            note(tx)
            prune(tx)

        self.store.write(work)
        return value

    def find_code(self, value: str, client: Client) -> tuple[oauth.Code, Grant] | None:
        """An unused code of this client and its grant. One that was used already ends what came of it (RFC 6749 4.1.2)."""
        digest, now = self._code_digest(value), self._clock()

        def look(tx: Tx) -> tuple[oauth.Code, Grant] | None:
            code = oauth.code(tx, digest)
            grant = oauth.grant(tx, code.grant_id) if code is not None else None
            return (code, grant) if code is not None and grant is not None else None

        found = self.store.read(look)
        if found is None or found[1].client_id != client.id:
            return None
        if found[0].used_at is not None:
            self.store.write(lambda tx: _end(tx, found[1], now, "its code was used twice"))
            return None
        if now >= found[0].expires_at or found[1].ended_at is not None:
            return None
        return found

    def redeem(self, client: Client, code: oauth.Code, grant: Grant) -> Pair | None:
        """Tokens for a code, which is taken for good in the same commit. None when somebody was faster: then nobody keeps
        anything of it."""
        now = self._clock()
        access, refresh = passwords.token("t"), passwords.token("r")
        rows = [
            self._access(client, access, grant.scopes, now, grant.id),
            self._refresh(client, refresh, grant, now),
        ]

        def work(tx: Tx) -> bool:
            if not oauth.use_code(tx, code.hash, now):
                _end(tx, grant, now, "its code was used twice")
                return False
            if not oauth.is_able(tx, grant.subject) or not oauth.take_up(tx, grant.id, now):
                return False
            oauth.add_tokens(tx, rows)
            return True

        if not self.store.write(work):
            return None
        return Pair(access, client.terms.lifetime_s, grant.scopes, refresh)

    def _code_digest(self, value: str) -> str:
        return self.roots.token_digest(f"code:{value}")

    # -- tokens --------------------------------------------------------------------------------------------------------

    def mint(self, client: Client, value: str, scopes: str) -> None:
        """Keeps an access token for the client itself. After a power cut it may be unknown: then another is asked for."""
        now = self._clock()
        row = self._access(client, value, scopes, now)
        prune = self._pruning(now)

        def work(tx: Tx) -> None:
            oauth.add_tokens(tx, [row])
            prune(tx)

        self.store.write(work, durable=False)

    def _pruning(self, now: float) -> Callable[[Tx], object]:
        """Now and then, what is long over is deleted beside something else."""
        if now < self._prune_at:
            return lambda _tx: None
        self._prune_at = now + _PRUNE_S
        return lambda tx: oauth.prune(tx, now - _KEEP_S)

    def refresh_token(self, value: str, client: Client) -> tuple[Token, Grant] | None:
        """A refresh token of this client, used or not, and its grant; None when it opens nothing (any more)."""
        try:
            if passwords.parse(value).kind != "r":
                return None
        except InvalidInput:
            return None
        digest, now = self.roots.token_digest(value), self._clock()

        def look(tx: Tx) -> tuple[Token, Grant] | None:
            token = oauth.token(tx, digest)
            grant = oauth.grant(tx, token.grant_id) if token is not None else None
            return (token, grant) if token is not None and grant is not None else None

        found = self.store.read(look)
        if found is None or found[0].kind != REFRESH or found[0].client_id != client.id:
            return None
        token, grant = found
        if token.revoked_at is not None or grant.ended_at is not None or now >= token.expires_at:
            return None
        return found

    def refresh(self, client: Client, presented: str, token: Token, grant: Grant, scopes: str) -> Pair | None:
        """The successors of a refresh token, which is taken for good in the same commit.

        The same token again within the grace gets the very same successors, as long as those were not used: so a hundred
        at once make one family with one living pair, and nobody is locked out. They are derived from the presented value, a
        salt in its row and a key of this hub, hence need not be kept. Any other second use ends the family (RFC 9700
        4.14.2) and gives None.
        """
        now, fresh_salt = self._clock(), _random()

        def work(tx: Tx) -> Pair | None:
            as_is, standing = oauth.token(tx, token.hash), oauth.grant(tx, grant.id)
            if as_is is None or standing is None or standing.ended_at is not None:
                return None
            if not oauth.is_able(tx, grant.subject):
                return None
            if as_is.used_at is None:
                pair = self._derived(client, presented, fresh_salt, scopes)
                rows = [
                    self._access(client, pair.access, scopes, now, grant.id),
                    self._refresh(client, pair.refresh, grant, now),
                ]
                if not oauth.use_token(tx, token.hash, now, fresh_salt, rows[1].hash):
                    return None
                oauth.forget_salt(tx, token.hash)
                oauth.add_tokens(tx, rows)
                return pair
            child = oauth.token(tx, as_is.successor)
            # of two at once the later may commit first, and clocks of two workers differ
            in_time = abs(now - as_is.used_at) <= GRACE_S
            if not in_time or not as_is.salt or child is None or child.used_at is not None:
                _end(tx, grant, now, "a used refresh token was presented again")
                return None
            pair = self._derived(client, presented, as_is.salt, scopes)
            access = oauth.token(tx, self.roots.token_digest(pair.access))
            if access is None:
                return None
            return Pair(pair.access, max(1, int(access.expires_at - now)), access.scopes, pair.refresh)

        return self.store.write(work)

    def _derived(self, client: Client, presented: str, salt: str, scopes: str) -> Pair:
        def value(kind: str) -> str:
            text = f"{kind}:{salt}:{presented}".encode()
            number, digits = int.from_bytes(hmac.digest(self._key, text, hashlib.sha512)), ""
            for _ in range(43):  # of 512 bits: what is left over makes the bias less than 2^-255
                number, digit = divmod(number, 62)
                digits += passwords.BASE62[digit]
            body = f"{passwords.PREFIX}{kind}_{digits}"
            return body + passwords.checksum(body)

        return Pair(value("t"), client.terms.lifetime_s, scopes, value("r"))

    def _access(self, client: Client, value: str, scopes: str, now: float, grant_id: str = "") -> Token:
        return self._row(client, ACCESS, value, scopes, now, client.terms.lifetime_s, grant_id)

    def _refresh(self, client: Client, value: str, grant: Grant, now: float) -> Token:
        return self._row(
            client, REFRESH, value, grant.scopes, now, client.terms.refresh_days * 86400.0, grant.id
        )

    def _row(
        self, client: Client, kind: str, value: str, scopes: str, now: float, lasts_s: float, grant_id: str
    ) -> Token:
        return Token(
            hash=self.roots.token_digest(value),
            id=new_id("tok"),
            kind=kind,
            connection_id=client.secret.connection_id,
            client_id=client.id,
            secret_id=client.secret.version_id,
            grant_id=grant_id,
            scopes=scopes,
            issued_at=now,
            expires_at=now + lasts_s,
        )

    # -- what ends them ------------------------------------------------------------------------------------------------

    def find(self, value: str) -> Token | None:
        """A token by its value, whatever became of it."""
        try:
            if passwords.parse(value).kind not in "tr":
                return None
        except InvalidInput:
            return None
        digest = self.roots.token_digest(value)
        return self.store.read(lambda tx: oauth.token(tx, digest))

    def standing(self, token: Token) -> CheckResult:
        """What the door would say of a token now, wherever its caller is. A used refresh token is not one any more."""
        if token.kind == REFRESH and token.used_at is not None:
            return CheckResult(Code.REVOKED)
        return self.book.look_up_token(token.hash, kind=token.kind)

    def revoke(self, token: Token) -> None:
        """Ends an access token; of a refresh token the whole family, on every worker from this commit on."""
        now = self._clock()

        def work(tx: Tx) -> None:
            oauth.revoke_token(tx, token.hash, now)
            if token.kind == REFRESH:
                oauth.end_grant(tx, token.grant_id, now, "its client revoked it")

        self.store.write(work)


def _end(tx: Tx, grant: Grant, now: float, why: str) -> None:
    """Ends a family that somebody abuses, and puts it on record."""
    if oauth.end_grant(tx, grant.id, now, why):
        facts = {"what": "grant_ended", "grant": grant.id, "client": grant.client_id, "why": why}
        journal.append(
            tx, grant.connection_id, [journal.Entry(now, "", "issued", LineKind.OBSERVED, 0, facts)]
        )


def _of(row: oauth.ClientRow) -> Client | None:
    try:
        kind = kinds.of_row(row.system, row.method)
    except NotFound:
        return None
    if not kind.flows:
        return None
    return Client(
        row.secret.client_id, row.name, row.owner, kind, _terms_of_text(kind, row.settings), row.secret
    )


def _random() -> str:
    """256 bits, for a code or a salt."""
    return os.urandom(32).hex()

"""Signing in and out: password and second factor, throttling, sessions with an idle and an absolute end.

A session's value is in the browser's cookie only; the database has its digest. Every sign-in makes a new value, so one
that was planted beforehand is worth nothing.
"""

from __future__ import annotations

import os
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from keyturn.bootstrap import Keyturn
from keyturn.errors import NotPermitted
from keyturn.operations import events, factors, passwords
from keyturn.operations.rights import Role, Who
from keyturn.storage import people
from keyturn.storage.database import Tx
from keyturn.storage.people import Account, Session

IDLE_S, LONGEST_S = 2 * 3600.0, 12 * 3600.0
HALF_S = 300.0  # between the password and the code
HALF = "password, code missing"
_TOUCH_S = 30.0
_WINDOW_S = 900.0
_MOST = {"pair": 5, "from": 30, "login": 50}  # failures in the window before each further one costs a pause
_LONGEST_PAUSE_S = 900.0


@dataclass(frozen=True)
class SignedIn:
    """A fresh session's value, for the cookie, and whether a code is still missing."""

    value: str
    account: Account
    needs_code: bool


def normal(login: str) -> str:
    """A login as it is stored and looked up."""
    return login.strip().casefold()


def sign_in(hub: Keyturn, login: str, password: str, *, address: str = "", agent: str = "") -> SignedIn:
    """Checks a password. Raises: NotPermitted, in the same words and time whether the login or the password is wrong;
    with `wait_s` when there were too many failures."""
    login = normal(login)
    _not_too_often(hub, login, address)
    found = hub.store.read(lambda tx: people.by_login(tx, login))
    able = found if found is not None and found.kind == people.PERSON else None
    right = passwords.matches(able.password if able else "", password)
    if able is None or not right or able.disabled_at is not None:
        known = login if able is not None else "(unknown)"  # a password is easily typed into the wrong field
        why = (
            "no such login"
            if able is None
            else "wrong password"
            if not right
            else "the account is switched off"
        )
        _failed(hub, login, address, known, why)
    assert able is not None
    if able.totp_at is not None:
        return _begin(hub, able, HALF, address, agent, HALF_S)
    return _welcome(hub, able, "password", address, agent)


def finish(hub: Keyturn, value: str, code: str, *, address: str = "", agent: str = "") -> SignedIn:
    """The second factor: a code of the authenticator, or a recovery code. Raises: NotPermitted."""
    session, account = _look(hub, value)
    if session is None or account is None or session.how != HALF:
        raise NotPermitted("the sign-in took too long", hint="Start again with your password.", begin=True)
    _not_too_often(hub, account.login, address)
    how = factors.check(hub, account, code)
    if not how:
        _failed(hub, account.login, address, account.login, "wrong code")
    hub.store.write(lambda tx: people.end_session(tx, session.digest))
    return _welcome(hub, account, f"password and {how}", address, agent)


def welcome(hub: Keyturn, account: Account, how: str, *, address: str = "", agent: str = "") -> SignedIn:
    """Signs in somebody whom something else vouched for: an invitation, a passkey, single sign-on."""
    if account.disabled_at is not None:
        _failed(hub, account.login, address, account.login, "the account is switched off")
    return _welcome(hub, account, how, address, agent)


def _welcome(hub: Keyturn, account: Account, how: str, address: str, agent: str) -> SignedIn:
    hub.store.write(lambda tx: people.forgive(tx, _keys(hub, account.login, address)["pair"]))
    made = _begin(hub, account, how, address, agent, LONGEST_S)
    events.note(hub, "signed_in", by=account.login, address=address, how=how, agent=agent[:120])
    return made


def _begin(hub: Keyturn, account: Account, how: str, address: str, agent: str, longest_s: float) -> SignedIn:
    value, now = fresh(), time.time()
    session = Session(
        digest(hub, value), account.id, how, now, now, now + longest_s, address, _printable(agent)
    )

    def work(tx: Tx) -> None:
        people.prune_sessions(tx, now, now - IDLE_S)
        people.add_session(tx, session)
        if how != HALF:
            people.change(tx, account.id, seen_at=now)

    hub.store.write(work)
    return SignedIn(value, account, needs_code=how == HALF)


def fresh() -> str:
    """256 random bits for a cookie or a link."""
    return urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")


def digest(hub: Keyturn, value: str) -> str:
    """What is stored of a session's value: keyed, so that a copied database opens no door."""
    return hub.roots.token_digest("session:" + value)


def _printable(agent: str) -> str:
    return "".join(c for c in agent[:200] if c.isprintable() and c.isascii())


def _look(hub: Keyturn, value: str) -> tuple[Session | None, Account | None]:
    if not value or len(value) > 100:
        return None, None
    now, wanted = time.time(), digest(hub, value)

    def work(tx: Tx) -> tuple[Session | None, Account | None]:
        session = people.session(tx, wanted)
        return session, people.by_id(tx, session.account_id) if session else None

    session, account = hub.store.read(work)
    if session is None or account is None or account.disabled_at is not None:
        return None, None
    if now >= session.ends_at or now - session.seen_at >= IDLE_S:
        return None, None
    return session, account


def who(hub: Keyturn, value: str, address: str = "", *, touch: bool = True) -> tuple[Who, Session] | None:
    """Whose session this is, with the roles they hold now. `touch`: it counts as use (an event stream does not)."""
    session, account = _look(hub, value)
    if session is None or account is None or session.how == HALF:
        return None
    now = time.time()
    if touch and now - session.seen_at > _TOUCH_S:
        hub.store.write(lambda tx: people.touch_session(tx, session.digest, now), durable=False)
    return as_who(hub, account, address), session


def is_half(hub: Keyturn, value: str) -> bool:
    """Whether this is a sign-in that waits for its code."""
    session, _ = _look(hub, value)
    return session is not None and session.how == HALF


def as_who(hub: Keyturn, account: Account, address: str = "", scopes: frozenset[str] | None = None) -> Who:
    """An account with its roles. A role that this release does not know gives nothing."""
    held = hub.store.read(lambda tx: people.roles(tx, account.id))
    known = {role.value for role in Role}
    return Who(
        account.login,
        account.id,
        account.name,
        address,
        tuple(sorted({(Role(role), project) for role, project, _ in held if role in known})),
        scopes,
    )


def of(hub: Keyturn, account_id: str) -> list[Session]:
    """A person's sessions that have not ended."""
    now = time.time()
    found = hub.store.read(lambda tx: people.sessions(tx, account_id))
    return [s for s in found if s.how != HALF and now < s.ends_at and now - s.seen_at < IDLE_S]


def sign_out(hub: Keyturn, value: str, *, by: str, address: str = "") -> None:
    """Ends a session. Ending twice is fine."""
    wanted = digest(hub, value)

    def work(tx: Tx) -> None:
        if people.end_session(tx, wanted):
            events.line("signed_out", by=by, address=address)(tx)

    hub.store.write(work)


def sign_out_everywhere(
    hub: Keyturn, account_id: str, *, by: str, address: str = "", but: str = "", one: str = ""
) -> int:
    """Ends a person's sessions, but the one with the digest `but`; or only the one that is named. How many."""

    def work(tx: Tx) -> int:
        account = people.by_id(tx, account_id)
        if one:
            mine = people.session(tx, one)
            ended = people.end_session(tx, one) if mine is not None and mine.account_id == account_id else 0
        else:
            ended = people.end_sessions(tx, account_id, but)
        on = account.login if account else account_id
        events.line("signed_out_elsewhere", by=by, address=address, on=on, sessions=ended)(tx)
        return ended

    return hub.store.write(work)


# -- throttling --------------------------------------------------------------------------------------------------------


def _keys(hub: Keyturn, login: str, address: str) -> dict[str, str]:
    """Fingerprints: what was typed as a login may have been a password."""
    net = _network(address)
    return {
        "pair": hub.roots.fingerprint(f"pair:{login}:{net}"),
        "from": hub.roots.fingerprint(f"from:{net}"),
        "login": hub.roots.fingerprint(f"login:{login}"),
    }


def _network(address: str) -> str:
    """Who holds an IPv6 address mostly holds its whole /64."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(ip_network(f"{parsed}/64", strict=False))
    return str(parsed)


def wait_s(hub: Keyturn, login: str, address: str) -> float:
    """Seconds until this login may be tried again from this address: longer with each failure, never for ever."""
    now, keys = time.time(), _keys(hub, login, address)

    def work(tx: Tx) -> float:
        longest = 0.0
        for kind, key in keys.items():
            count, latest = people.failures(tx, key, now - _WINDOW_S)
            if count >= _MOST[kind]:
                pause = min(_LONGEST_PAUSE_S, 5.0 * 2.0 ** min(count - _MOST[kind], 10))
                longest = max(longest, latest + pause - now)
        return longest

    return hub.store.read(work)


def _not_too_often(hub: Keyturn, login: str, address: str) -> None:
    pause = wait_s(hub, login, address)
    if pause > 0:
        raise NotPermitted(
            "too many failed attempts", hint=f"Wait {_said(pause)}, then try again.", wait_s=pause
        )


def _said(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"


def count_failure(hub: Keyturn, login: str, address: str) -> None:
    """Counts a failed attempt at another door than the password's: a one-time link."""
    now = time.time()
    hub.store.write(lambda tx: people.fail(tx, list(_keys(hub, login, address).values()), now))


def _failed(hub: Keyturn, login: str, address: str, known: str, why: str) -> None:
    """Counts and records a failure. Raises: NotPermitted, always with the same words."""
    now = time.time()

    def work(tx: Tx) -> None:
        people.prune_failures(tx, now - 2 * _WINDOW_S)
        people.fail(tx, list(_keys(hub, login, address).values()), now)
        events.line("sign_in_refused", by=known, address=address, why=why)(tx)

    hub.store.write(work)
    words = "the code is not right" if why == "wrong code" else "the name or the password is not right"
    raise NotPermitted(words, hint="", field="code" if why == "wrong code" else "password")

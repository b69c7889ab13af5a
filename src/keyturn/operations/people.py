"""Accounts: the first administrator by a one-time link, invitations, roles, passwords; service identities and tokens."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput, NotFound, NotPermitted
from keyturn.keymaking import passwords as tokens
from keyturn.model.ids import new_id
from keyturn.model.secret import Secret
from keyturn.operations import events, factors, passwords, rights
from keyturn.operations.rights import Role, Who
from keyturn.operations.sessions import as_who, fresh, normal
from keyturn.storage import people
from keyturn.storage.database import Tx
from keyturn.storage.people import PERSON, SERVICE, Account, Token

SETUP_S, INVITE_S, RESET_S = 24 * 3600.0, 7 * 86400.0, 24 * 3600.0
LETTER = "t"  # of keymaking's token kinds
TOKEN_START = f"{tokens.PREFIX}{LETTER}_"
_LOGIN = re.compile(r"[a-z0-9][a-z0-9._+@-]{0,78}[a-z0-9]|[a-z0-9]")
_LEASE = re.compile(r"lease:.+")
_NOTED_S = 60.0


@dataclass(frozen=True)
class Person:
    """An account as an administrator sees it."""

    account: Account
    held: tuple[tuple[str, str, str], ...]
    sessions: int
    passkeys: int
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Invited:
    """A new account and the code of its one-time link, for the one answer that shows it."""

    account: Account
    code: Secret


# -- the first one -----------------------------------------------------------------------------------------------------


def is_fresh(hub: Keyturn) -> bool:
    """Whether nobody has an account yet."""
    return not hub.store.read(people.are_there)


def setup_code(hub: Keyturn) -> Secret | None:
    """A new code for the one-time setup link, which voids the one before; None once somebody has an account."""
    if not is_fresh(hub):
        return None
    return _invite(hub, "setup", "", SETUP_S)


def set_up(hub: Keyturn, code: str, login: str, name: str, password: str, *, address: str = "") -> Account:
    """The first administrator. Raises: NotPermitted when the link was used, InvalidInput naming the field."""
    now, wanted = time.time(), _digest(hub, code)
    if hub.store.read(lambda tx: people.invited(tx, wanted, now)) != ("setup", ""):
        _no_such_link(hub, address, "setup")
    login = _login(login)
    account = _account(
        PERSON, login, _name(name or login), passwords.hashed(passwords.check(password, login)), login
    )

    def work(tx: Tx) -> None:
        if people.are_there(tx) or not people.use_invitation(tx, wanted, now):
            raise NotPermitted("the setup link was used already", hint="Sign in instead.")
        people.add(tx, account)
        people.set_roles(tx, account.id, "local", [(Role.ADMIN, "")])
        events.line("hub_set_up", by=login, address=address)(tx)

    hub.store.write(work)
    return account


def _invite(hub: Keyturn, purpose: str, account_id: str, last_s: float) -> Secret:
    code, now = fresh(), time.time()
    hub.store.write(lambda tx: people.invite(tx, _digest(hub, code), purpose, account_id, now, now + last_s))
    return Secret(code)


def _digest(hub: Keyturn, code: str) -> str:
    return hub.roots.token_digest("invitation:" + code.strip())


def _no_such_link(hub: Keyturn, address: str, what: str) -> None:
    events.note(hub, "link_refused", by="(unknown)", address=address, what=what)
    raise NotPermitted(
        "this link was used already, or is too old",
        hint="Ask for a new one. The hub prints a new setup link when it starts and nobody has an account.",
        field="link",
    )


def _login(text: str) -> str:
    login = normal(text)
    if not _LOGIN.fullmatch(login):
        raise InvalidInput(
            "a sign-in name has letters, digits and . _ + @ -, for example an e-mail address", field="login"
        )
    return login


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not name or len(name) > 80 or not name.isprintable():
        raise InvalidInput("a name has 1 to 80 characters", field="name")
    return name


def _account(kind: str, login: str, name: str, password: str, by: str) -> Account:
    return Account(new_id("acc"), kind, login, name, password, None, 0, time.time(), by, None, None)


# -- invitations -------------------------------------------------------------------------------------------------------


def invite(hub: Keyturn, who: Who, login: str, name: str, held: Iterable[tuple[str, str]]) -> Invited:
    """A new person with roles, and the link by which they choose a password. Raises: InvalidInput, Conflict."""
    login = _login(login)
    roles = check_roles(held)
    account = _account(PERSON, login, _name(name or login), "", who.login)

    def work(tx: Tx) -> None:
        _add(tx, account)
        people.set_roles(tx, account.id, "local", roles)
        events.line("invited", by=who.login, address=who.address, on=login, roles=_said(roles))(tx)

    hub.store.write(work)
    return Invited(account, _invite(hub, "join", account.id, INVITE_S))


def _add(tx: Tx, account: Account) -> None:
    if not people.add(tx, account):
        raise Conflict(f"there is an account {account.login} already", field="login")


def invite_again(hub: Keyturn, who: Who, account_id: str) -> Invited:
    """A new link for somebody who lost theirs, their password or their authenticator. It voids all of that when used."""
    account = get(hub, account_id).account
    if account.kind != PERSON:
        raise Conflict("a service identity has no password")
    events.note(hub, "link_made", by=who.login, address=who.address, on=account.login)
    return Invited(account, _invite(hub, "join", account.id, RESET_S if account.password else INVITE_S))


def accept(hub: Keyturn, code: str, password: str, *, address: str = "") -> Account:
    """Somebody opens their link and chooses a password; sessions and second factors from before end.

    Raises: NotPermitted when the link was used or is too old, InvalidInput for a weak password.
    """
    now, wanted = time.time(), _digest(hub, code)
    found = hub.store.read(lambda tx: people.invited(tx, wanted, now))
    account = hub.store.read(lambda tx: people.by_id(tx, found[1])) if found and found[0] == "join" else None
    if account is None or account.disabled_at is not None:
        _no_such_link(hub, address, "invitation")
    assert account is not None
    made = passwords.hashed(passwords.check(password, account.login))
    accepted = account

    def work(tx: Tx) -> None:
        if not people.use_invitation(tx, wanted, now):
            raise NotPermitted("this link was used already", hint="Sign in instead.", field="link")
        factors.forget(tx, accepted, by=accepted.login, address=address)
        for each in people.passkeys(tx, accepted.id):
            people.drop_passkey(tx, accepted.id, each.id)
        people.end_sessions(tx, accepted.id)
        people.change(tx, accepted.id, password=made)
        events.line("link_used", by=accepted.login, address=address)(tx)

    hub.store.write(work)
    return replace(account, password=made, totp_at=None)


# -- looking and changing ----------------------------------------------------------------------------------------------


def every(hub: Keyturn, kind: str = PERSON) -> list[Person]:
    """All persons, or all service identities, by login."""

    def work(tx: Tx) -> list[Person]:
        return [_person(tx, account) for account in people.every(tx, kind)]

    return hub.store.read(work)


def _person(tx: Tx, account: Account) -> Person:
    return Person(
        account,
        tuple(people.roles(tx, account.id)),
        len(people.sessions(tx, account.id)),
        len(people.passkeys(tx, account.id)),
        tuple(people.tokens(tx, account.id)) if account.kind == SERVICE else (),
    )


def get(hub: Keyturn, account_id: str) -> Person:
    """One account. Raises: NotFound."""

    def work(tx: Tx) -> Person | None:
        account = people.by_id(tx, account_id)
        return _person(tx, account) if account else None

    found = hub.store.read(work)
    if found is None:
        raise NotFound("there is no such account", field="account")
    return found


def check_roles(held: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Known roles with their projects. Raises: InvalidInput."""
    found = sorted({(role, project.strip()) for role, project in held})
    known = {role.value for role in Role}
    for role, project in found:
        if role not in known:
            raise InvalidInput(f"there is no role {role}", hint=f"Roles: {', '.join(known)}.", field="roles")
        if len(project) > 80:
            raise InvalidInput("a project's name has at most 80 characters", field="project")
    if not found:
        raise InvalidInput("somebody without a role can do nothing: choose one", field="roles")
    return found


def _said(held: Sequence[tuple[str, str]]) -> str:
    return ", ".join(role + (f" in {project}" if project else "") for role, project in held)


def set_roles(hub: Keyturn, who: Who, account_id: str, held: Iterable[tuple[str, str]]) -> None:
    """Gives an account other roles; they count from the next click on. Raises: Conflict for the last administrator."""
    roles = check_roles(held)

    def work(tx: Tx) -> None:
        account = _existing(tx, account_id)
        people.set_roles(tx, account_id, "local", roles)
        _somebody_left(tx)
        events.line("roles_changed", by=who.login, address=who.address, on=account.login, roles=_said(roles))(
            tx
        )

    hub.store.write(work)


def _existing(tx: Tx, account_id: str) -> Account:
    account = people.by_id(tx, account_id)
    if account is None:
        raise NotFound("there is no such account", field="account")
    return account


def _somebody_left(tx: Tx) -> None:
    if not people.count_able(tx, Role.ADMIN):
        raise Conflict(
            "this is the last administrator", hint="Make somebody else administrator first.", field="roles"
        )


def switch(hub: Keyturn, who: Who, account_id: str, *, on: bool) -> None:
    """Switches an account off (its sessions end, its tokens are refused) or on again. Raises: Conflict."""

    def work(tx: Tx) -> None:
        account = _existing(tx, account_id)
        people.change(tx, account_id, disabled_at=None if on else time.time())
        if not on:
            people.end_sessions(tx, account_id)
            _somebody_left(tx)
        said = "account_switched_on" if on else "account_switched_off"
        events.line(said, by=who.login, address=who.address, on=account.login)(tx)

    hub.store.write(work)


def change_password(hub: Keyturn, who: Who, old: str, new: str, *, keep: str = "") -> None:
    """Another password; all sessions but the one with the digest `keep` end. Raises: NotPermitted, InvalidInput."""
    account = get(hub, who.id).account
    if not passwords.matches(account.password, old):
        raise NotPermitted("the present password is not right", field="old")
    if old == new:
        raise InvalidInput("this is the present password", field="password")
    made = passwords.hashed(passwords.check(new, account.login))

    def work(tx: Tx) -> None:
        people.change(tx, account.id, password=made)
        people.end_sessions(tx, account.id, keep)
        events.line("password_changed", by=account.login, address=who.address)(tx)

    hub.store.write(work)


# -- service identities ------------------------------------------------------------------------------------------------


def add_service(hub: Keyturn, who: Who, login: str, name: str, held: Iterable[tuple[str, str]]) -> Account:
    """An identity for a program: roles like a person, no password, tokens instead. Nobody's leaving ends it."""
    login = _login(login)
    roles = check_roles(held)
    account = _account(SERVICE, login, _name(name or login), "", who.login)

    def work(tx: Tx) -> None:
        _add(tx, account)
        people.set_roles(tx, account.id, "local", roles)
        events.line("service_added", by=who.login, address=who.address, on=login, roles=_said(roles))(tx)

    hub.store.write(work)
    return account


def make_token(
    hub: Keyturn, who: Who, account_id: str, name: str, scopes: Iterable[str], days: float | None = 90
) -> tuple[Token, Secret]:
    """A token and its value, which is shown this once. It can do what its identity's roles and its own scopes allow."""
    wanted = sorted(set(scopes))
    for each in wanted:
        if each not in rights.SCOPES and not _LEASE.fullmatch(each):
            raise InvalidInput(
                f"there is no scope {each}", hint=f"Scopes: {', '.join(rights.SCOPES)}.", field="scopes"
            )
    if not wanted:
        raise InvalidInput("a token without a scope can do nothing: choose one", field="scopes")
    if days is not None and not 0 < days <= 3650:
        raise InvalidInput("a token lasts between one day and ten years", field="days")
    value, now = tokens.token(LETTER), time.time()
    made = Token(
        new_id("tok"),
        hub.roots.token_digest(value),
        account_id,
        _name(name),
        " ".join(wanted),
        value[-4:],
        now,
        who.login,
        now + days * 86400 if days is not None else None,
        None,
        None,
        "",
    )

    def work(tx: Tx) -> None:
        account = _existing(tx, account_id)
        if account.kind != SERVICE:
            raise Conflict("only a service identity has tokens", hint="Add one for the program.")
        people.add_token(tx, made)
        facts = {"on": account.login, "token": made.id, "scopes": made.scopes}
        events.line("token_made", by=who.login, address=who.address, **facts)(tx)

    hub.store.write(work)
    return made, Secret(value)


def end_token(hub: Keyturn, who: Who, account_id: str, token_id: str) -> None:
    """Ends a token for good. Raises: NotFound."""

    def work(tx: Tx) -> None:
        account = _existing(tx, account_id)
        if not people.end_token(tx, account_id, token_id, time.time()):
            raise NotFound("there is no such token, or it has ended", field="token")
        events.line("token_ended", by=who.login, address=who.address, on=account.login, token=token_id)(tx)

    hub.store.write(work)


def by_token(hub: Keyturn, value: str, address: str = "") -> Who | None:
    """Whose token this is, limited to its scopes; None when it opens nothing (any more)."""
    now, wanted = time.time(), hub.roots.token_digest(value)

    def work(tx: Tx) -> tuple[Token, Account] | None:
        token = people.token(tx, wanted)
        account = people.by_id(tx, token.account_id) if token else None
        return (token, account) if token and account else None

    found = hub.store.read(work)
    if found is None:
        return None
    token, account = found
    if account.disabled_at is not None or token.ended_at is not None:
        return None
    if token.ends_at is not None and now >= token.ends_at:
        return None
    if token.used_at is None or now - token.used_at > _NOTED_S or token.used_from != address:
        hub.store.write(lambda tx: people.used_token(tx, token.id, now, address), durable=False)
    return as_who(hub, account, address, frozenset(token.scopes.split()))

"""What MySQL and MariaDB offer: one user, one user with two passwords for a while, two users that take turns."""

from __future__ import annotations

import re
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from keyturn.connectors.mysql import hashes, servers
from keyturn.connectors.mysql.servers import END_RIGHT, SET_RIGHT, MariaDB, MySQL, server_of
from keyturn.connectors.mysql.types import (
    DUAL,
    OVERLAP,
    TWO,
    Account,
    Place,
    need_admin,
    pattern_of,
)
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Candidate, Found, Remote, Sample
from keyturn.errors import (
    CallInsideTransaction,
    CapReached,
    Conflict,
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    OutcomeUnknown,
    VendorUnavailable,
)
from keyturn.keymaking.passwords import password
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, Verdict, accepted, rejected, unknown
from keyturn.transport.sql import mysql
from keyturn.transport.sql.acting import admin_of, own, within

# No NUL and nothing beyond the basic plane may stand in a name, quoted or not.
# Source: https://dev.mysql.com/doc/refman/8.4/en/identifiers.html (checked 2026-11-29).
_NAME = re.compile("[\u0001-\uffff]{1,64}")
_REFUSED = "1045"
_DROP_RIGHT = "CREATE USER"


def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
    """One user without a separate administrator has the self path only: a person has to end it."""
    if method != "password":
        raise NotFound(f"mysql has no method {method}")
    pattern = pattern_of(settings)
    if pattern == TWO:
        two = TwoUsers()
        return Capabilities(
            two,
            two,
            two,
            two,
            disabler=two,
            revoker=two,
            dropper=two,
            discoverer=two,
            locator=two,
            reader=two,
        )
    if pattern == OVERLAP:
        both = Overlap()
        return Capabilities(
            both, both, both, both, revoker=both, dropper=both, discoverer=both, locator=both, reader=both
        )
    if pattern == DUAL:
        dual = Dual()
        return Capabilities(
            dual,
            maker=dual,
            setter=dual,
            revoker=dual,
            dropper=dual,
            discoverer=dual,
            locator=dual,
            reader=dual,
        )
    one = OneUser()
    if not settings.get("admin_user"):
        return Capabilities(one, maker=one, setter=one, discoverer=one, locator=one, reader=one)
    return Capabilities(one, one, one, one, revoker=one, dropper=one, discoverer=one, locator=one, reader=one)


class _Users(ABC):
    """What the patterns have in common."""

    @abstractmethod
    def _user(self, place: Place, access: Access, slot: Ref) -> str:
        """The user that `slot` means."""

    def _identify(self, place: Place, account: str, role: str) -> Probe:
        """Judges who the server says was let in."""
        return accepted(account, tenant=place.tenant, rights=_rights(place), acts_as_label=role or account)

    def verify(self, access: Access, material: Material) -> Probe:
        """A fresh login with exactly this material; the server's error number as code."""
        place, until = Place.of(access.settings), time.monotonic() + access.deadline_s
        try:
            return self._enter(place, access, material)
        except CallInsideTransaction:
            raise
        except CredentialRejected as error:
            said = _explain(place, within(access, until), material, error)
            return rejected(str(error.facts["code"]), said)
        except KeyturnError as error:
            if "code" not in error.facts:
                raise  # the settings are wrong; nothing was asked
            wait_s = 5.0 if error.facts["code"] in {"1040", "1203", "1226"} else 0.0
            return unknown(str(error.facts["code"]), f"{error.message}. {error.hint}".strip(), wait_s)

    def bogus(self, material: Material) -> Material:  # noqa: ARG002 - any well-formed one will do
        """A user that does not exist: no failed login counts against a real one."""
        return Material(
            {"user": f"keyturn_nobody_{secrets.token_hex(4)}", "password": password()}, frozenset({"user"})
        )

    def make(self, access: Access, slot: Ref) -> Candidate:
        """What the server will store follows from the material alone, so `set` repeats it and the ref can name it."""
        place = Place.of(access.settings)
        user = self._user(place, access, slot)
        parts = {"user": user, "password": password()}
        if place.plugin == hashes.CACHING:
            parts[hashes.SALT] = hashes.new_salt()
        material = Material(parts, frozenset(parts) - {"password"})
        # Where MySQL works the stored text out itself, the mark is of a text that only we know.
        plugin = hashes.NATIVE if place.pattern == DUAL else place.plugin
        return Candidate(place.ref(user, hashes.stored(plugin, material)), material)

    def locate(self, access: Access, material: Material) -> Ref:
        """The place of this login; where passwords have no places of their own, its fingerprint."""
        place = Place.of(access.settings)
        user = material["user"]
        if place.users and user not in place.users.values():
            raise InvalidInput(f"user {user} is neither user_a nor user_b", field="user")
        plugin = hashes.NATIVE if place.pattern == DUAL else place.plugin
        salted = plugin == hashes.CACHING and hashes.SALT not in material
        return place.ref(user, "" if salted else hashes.stored(plugin, material))

    def read_sample(self, access: Access, material: Material, what: str, limit: int) -> Sample:
        """Counts rows of a table or view (`name` or `database.name`), or of the connection's sample query.

        Counted by the server, none leaves it, in a session that can only read.
        Raises: InvalidInput when nothing is named; PermissionMissing and NotFound as the server says.
        """
        place = Place.of(access.settings)
        table = tuple(what.split(".")) if what else ()
        if len(table) > 2 or not all(map(_NAME.fullmatch, table)):
            raise InvalidInput(
                "a table is named as name or database.name",
                hint="Make a view for a name with a dot in it.",
                field="what",
            )
        if len(table) == 1 and not place.database:
            raise InvalidInput(
                "the connection names no database", hint="Name the table as database.name.", field="what"
            )
        if not table and not place.sample_query:
            raise InvalidInput(
                "nothing is named to read",
                hint="Name a table, or give the connection a sample_query.",
                field="what",
            )
        inner = f"({place.sample_query}\n) keyturn_query"
        if table:
            # Backticks quote in every sql_mode, and one in a name is doubled.
            inner = ".".join("`" + name.replace("`", "``") + "`" for name in table)
        with mysql.login(
            place.login(access, material.get("user", ""), material.get("password", ""))
        ) as session:
            rows = session.read_only(
                f"SELECT count(*) FROM (SELECT 1 FROM {inner} LIMIT {limit:d}) keyturn_sample"
            )
        return Sample(int(rows[0][0] or 0), what or "the sample query")

    def discover(self, access: Access) -> tuple[Found, ...]:
        """The accounts of this connection, other host parts included, with their live sessions."""
        place = Place.of(access.settings)
        names = sorted({*place.users.values(), *([] if place.users else [self._user(place, access, Ref())])})
        with _acting(place, access) as session:
            if admin_of(access) is None:
                rows = session.query("SELECT current_user(), count(*) FROM information_schema.processlist")
                return (Found(str(rows[0][0]), "account", {"sessions": int(rows[0][1] or 1) - 1}),)
            accounts = server_of(session).accounts(session, names)
        return tuple(
            Found(
                f"{each.user}@{each.host}",
                "account",
                {
                    "passwords": len(each.entries),
                    "plugins": tuple(sorted({plugin for plugin, _ in each.entries})),
                    "locked": each.locked,
                    "expired": each.expired,
                    "default_role": each.role,
                    "sessions": each.sessions,
                },
            )
            for each in accounts
        )

    def drop(self, access: Access) -> None:
        """Drops the users, unless views, routines, triggers or events that the administrator sees run as them."""
        place = Place.of(access.settings)
        need_admin(access, _DROP_RIGHT, "drop")
        names = tuple(place.users.values()) or (self._user(place, access, Ref()),)
        with _acting(place, access) as session:
            server = server_of(session)
            accounts = _chosen(place, server.accounts(session, names))
            for name in names:
                _refuse_definer(session, name)
            if accounts:
                server.close(session, accounts)
            for each in accounts:
                servers.end_sessions(session, each.user)
                who = session.compose("{user}@{host}", user=each.user, host=each.host)
                session.change(f"DROP USER IF EXISTS {who}", right=_DROP_RIGHT)

    def _enter(self, place: Place, access: Access, material: Material) -> Probe:
        params = place.login(access, material.get("user", ""), material.get("password", ""))
        with mysql.login(params) as session:
            rows = session.query("SELECT current_user(), coalesce(current_role(), '')")
            account, role = str(rows[0][0]), str(rows[0][1])
            if place.sample_query:
                try:
                    session.read_only(place.sample_query)
                except KeyturnError as error:
                    # The password works, but not for what it is wanted for: it must not be switched to.
                    code = str(error.facts.get("code", "sample_query"))
                    return unknown(code, f"logged in, but the sample query: {error.message}")
        return self._identify(place, account, role)


class OneUser(_Users):
    """One user, one password: the new value ends the old at once."""

    def set(self, access: Access, ref: Ref, material: Material) -> None:  # noqa: ARG002 - there is one place
        """Via the administrator where there is one; else the user changes its own password."""
        place = Place.of(access.settings)
        entry = (place.plugin, hashes.stored(place.plugin, material))
        admin = admin_of(access)
        if admin is None and (access.acting is None or access.acting.get("user") != material["user"]):
            need_admin(access, SET_RIGHT, "set another user's password")
        with _acting(place, access) as session:
            server = server_of(session)
            if admin is None:
                _check_own_plugin(place, session)
                server.write_own(session, entry)
                return
            accounts = _of_connection(place, access, server.accounts(session, (material["user"],)), material)
            _check_plugin(place, accounts)
            if place.end_sessions:
                servers.check_ending(session)
            server.write(session, accounts, (entry,))
            if place.end_sessions:
                with _already_changed():
                    servers.end_sessions(session, material["user"], opened_before=session.connection_id)

    def list(self, access: Access) -> tuple[Remote, ...]:
        """The user's one slot with its fingerprint; left out when no password opens it."""
        place = Place.of(access.settings)
        name = self._user(place, access, Ref())
        with _acting(place, access) as session:
            accounts = _of_connection(place, access, server_of(session).accounts(session, (name,)), None)
        kept = [each for each in accounts if each.entries]
        if not kept:
            return ()
        return (Remote(place.ref(name, kept[0].entries[0][1]), active=not kept[0].locked),)

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Closes the user, if it still holds this value.

        After a rotation the slot holds the successor: then the value is gone already, and closing the user would kill
        the wrong one. So a value we still have is tried first.
        """
        place, until = Place.of(access.settings), time.monotonic() + access.deadline_s
        name = material["user"] if material is not None else self._user(place, access, ref)
        if material is not None:
            probe = self.verify(access, material)
            if probe.verdict is Verdict.REJECTED and probe.code == _REFUSED:
                return
            if probe.verdict is Verdict.UNKNOWN and probe.code not in {"1044", "1049", "1226", "1820"}:
                raise VendorUnavailable(
                    f"whether the value still works is not known: {probe.detail}", code=probe.code
                )
        need_admin(access, f"{SET_RIGHT}, {END_RIGHT}", "revoke its login")
        access = within(access, until)
        with _acting(place, access) as session:
            server = server_of(session)
            accounts = _of_connection(place, access, server.accounts(session, (name,)), material)
            servers.check_ending(session)
            if accounts:
                server.close(session, accounts)
            servers.end_sessions(session, name)

    def _user(self, place: Place, access: Access, slot: Ref) -> str:  # noqa: ARG002 - it is the acting one
        return _only_user(access, slot)


class Overlap(_Users):
    """One user that takes two passwords for a while: MariaDB's `IDENTIFIED VIA ... OR ...`."""

    def set(self, access: Access, ref: Ref, material: Material) -> None:  # noqa: ARG002 - the value says it
        """Puts the new password before the one in use. Two at once are all that clients can cope with.

        Raises: CapReached when two are open already and this is neither.
        """
        place = Place.of(access.settings)
        new = (place.plugin, hashes.stored(place.plugin, material))
        need_admin(access, SET_RIGHT, "open a second password for")
        with _acting(place, access) as session:
            server = _mariadb(session)
            accounts = _of_connection(place, access, server.accounts(session, (material["user"],)), material)
            _check_plugin(place, accounts)
            for each in accounts:
                if len([entry for entry in each.entries if entry != new]) > 1:
                    raise CapReached(
                        f"account {each.user}@{each.host} takes two passwords already",
                        hint="Find out whose they are; end one with ALTER USER, then retry the run.",
                    )
            for number, each in enumerate(accounts):
                with _already_changed() if number else nullcontext():
                    others = (entry for entry in each.entries if entry != new)
                    server.write(session, (each,), (new, *others))

    def list(self, access: Access) -> tuple[Remote, ...]:
        """Each password that opens the user, once."""
        place = Place.of(access.settings)
        name = self._user(place, access, Ref())
        with _acting(place, access) as session:
            accounts = _of_connection(place, access, _mariadb(session).accounts(session, (name,)), None)
        kept = dict.fromkeys((text, each.locked) for each in accounts for _, text in each.entries)
        return tuple(Remote(place.ref(name, text), active=not locked) for text, locked in kept)

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Takes this password away; the other one stays. With the last one the account is closed."""
        place = Place.of(access.settings)
        name = material["user"] if material is not None else self._user(place, access, ref)
        need_admin(access, f"{SET_RIGHT}, {END_RIGHT}", "end a password of")
        with _acting(place, access) as session:
            server = _mariadb(session)
            servers.check_ending(session)
            for each in _at_host(place, server.accounts(session, (name,))):
                kept = tuple(entry for entry in each.entries if place.ref(name, entry[1]).id != ref.id)
                if len(kept) == len(each.entries):
                    continue
                if kept:
                    server.write(session, (each,), kept)
                else:
                    server.close(session, (each,))
                if place.end_sessions or not kept:
                    servers.end_sessions(session, name, opened_before=session.connection_id if kept else None)

    def _user(self, place: Place, access: Access, slot: Ref) -> str:  # noqa: ARG002 - it is the acting one
        return _only_user(access, slot)


class Dual(_Users):
    """One user with MySQL's own second password: RETAIN CURRENT PASSWORD, later DISCARD OLD PASSWORD."""

    def set(self, access: Access, ref: Ref, material: Material) -> None:  # noqa: ARG002 - the value says it
        """Makes the new password the first and the one in use the second.

        A second RETAIN would push out the older one, so nothing is done while two are there that are not this value's.
        Raises: CapReached for those.
        """
        place = Place.of(access.settings)
        need_admin(access, SET_RIGHT, "open a second password for")
        _check_private(place, access)
        with _acting(place, access) as session:
            server = _mysql(session)
            account = _single(place, material["user"], server.accounts(session, (material["user"],)))
            _check_plugin(place, (account,))
            kept, new = account.entries, material["password"]
            if kept and hashes.fits(*kept[0], new) and not account.locked:
                return
            if len(kept) > 1:
                raise CapReached(
                    f"account {account.user}@{account.host} has a second password already",
                    hint="An earlier rotation is open: find out who uses it, then ALTER USER ... DISCARD OLD PASSWORD.",
                )
            if kept:
                server.retain(session, account, new)
            else:
                server.replace(session, account, new)

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:  # noqa: ARG002 - the value says it
        """Ends this value, wherever it is: the second is discarded, the first is replaced by the one that serves."""
        place = Place.of(access.settings)
        need_admin(access, f"{SET_RIGHT}, {END_RIGHT}", "end a password of")
        if material is None:
            raise Conflict(
                "MySQL does not tell which of two passwords this is, and its value is not known here",
                hint="ALTER USER ... DISCARD OLD PASSWORD ends the older one.",
            )
        _check_private(place, access)
        with _acting(place, access) as session:
            server = _mysql(session)
            account = _single(place, material["user"], server.accounts(session, (material["user"],)))
            place_of = [hashes.fits(*entry, material["password"]) for entry in account.entries]
            serving = access.acting.get("password", "") if access.acting is not None else ""
            servers.check_ending(session)
            if place_of == [True]:
                server.close(session, (account,))
            elif place_of == [True, False]:
                if not hashes.fits(*account.entries[1], serving):
                    raise Conflict(
                        "the older password is not the one that serves, so it cannot be made the first again",
                        hint="Find out whose it is; ALTER USER by hand.",
                    )
                server.replace(session, account, serving)
                with _already_changed():
                    server.discard(session, account)
            elif place_of == [False, True]:
                server.discard(session, account)
            elif (
                len(place_of) == len([entry for entry in account.entries if hashes.fits(*entry, serving)]) > 1
            ):
                server.discard(session, account)  # taken back before, but the second was not discarded yet
            if place.end_sessions or place_of in ([], [True]):
                before = None if place_of in ([], [True]) else session.connection_id
                servers.end_sessions(session, material["user"], opened_before=before)

    def _user(self, place: Place, access: Access, slot: Ref) -> str:  # noqa: ARG002 - it is the acting one
        return _only_user(access, slot)


class TwoUsers(_Users):
    """Two users with one default role: one in use, the other free."""

    def set(self, access: Access, ref: Ref, material: Material) -> None:
        """Opens the user with the new value; the administrator does it, as no user may alter the other."""
        place = Place.of(access.settings)
        user = place.user_at(ref)
        if material["user"] != user:
            raise InvalidInput(f"the value was made for {material['user']}, not for {user}", field="user")
        need_admin(access, SET_RIGHT, "open the other user or")
        with _acting(place, access) as session:
            server = server_of(session)
            accounts = _chosen(place, server.accounts(session, (user,)))
            _check_plugin(place, accounts)
            if not accounts:
                raise _no_account(user, place)
            server.write(session, accounts, ((place.plugin, hashes.stored(place.plugin, material)),))

    def list(self, access: Access) -> tuple[Remote, ...]:
        """The users that hold a value, or that somebody is still using. Raises: InvalidInput for a wrong set-up."""
        place = Place.of(access.settings)
        with _acting(place, access) as session:
            accounts = _chosen(place, server_of(session).accounts(session, tuple(place.users.values())))
        _check_pair(place, accounts)
        found = []
        for name in place.users.values():
            rows = [each for each in accounts if each.user == name]
            held = next((each for each in rows if each.entries), None)
            if held is not None:
                found.append(Remote(place.ref(name, held.entries[0][1]), active=not held.locked))
            elif any(each.sessions for each in rows):
                found.append(Remote(place.ref(name), active=False))
        return tuple(found)

    def disable(self, access: Access, ref: Ref) -> None:
        """Locks the user, then ends its sessions: they would live on."""
        self._lock(access, ref, "ACCOUNT LOCK")

    def enable(self, access: Access, ref: Ref) -> None:
        """Unlocks it again, with the value it had."""
        self._lock(access, ref, "ACCOUNT UNLOCK")

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:  # noqa: ARG002 - the slot says it
        """Takes the user's value away, locks it and ends its sessions; the user itself stays, empty.

        It is never dropped: what it defined runs as it, also for the other user.
        """
        place = Place.of(access.settings)
        user = place.user_at(ref)
        need_admin(access, f"{SET_RIGHT}, {END_RIGHT}", "revoke its login")
        with _acting(place, access) as session:
            server = server_of(session)
            accounts = _chosen(place, server.accounts(session, (user,)))
            servers.check_ending(session)
            if accounts:
                server.close(session, accounts)
            servers.end_sessions(session, user)

    def _lock(self, access: Access, ref: Ref, option: str) -> None:
        place = Place.of(access.settings)
        user = place.user_at(ref)
        need_admin(access, f"{SET_RIGHT}, {END_RIGHT}", "switch its login on or off")
        with _acting(place, access) as session:
            accounts = _chosen(place, server_of(session).accounts(session, (user,)))
            if not accounts:
                return
            if option == "ACCOUNT LOCK":
                servers.check_ending(session)
            named = (session.compose("{user}@{host}", user=each.user, host=each.host) for each in accounts)
            session.change(f"ALTER USER {', '.join(named)} {option}", right=SET_RIGHT)
            if option == "ACCOUNT LOCK":
                servers.end_sessions(session, user)

    def _identify(self, place: Place, account: str, role: str) -> Probe:
        found = role.partition("@")[0].strip("`")
        if found != place.role:
            return unknown("default_role", _trap(account.partition("@")[0], place.role))
        return accepted(found, tenant=place.tenant, rights=_rights(place), login_label=account)

    def _user(self, place: Place, access: Access, slot: Ref) -> str:  # noqa: ARG002 - the slot says it
        return place.user_at(slot)


@contextmanager
def _acting(place: Place, access: Access) -> Iterator[mysql.Session]:
    """A fresh session of the administrator, or of the credential itself."""
    admin = admin_of(access)
    if admin is not None:
        with mysql.login(place.login(access, *admin, database=False)) as session:
            yield session
        return
    acting = own(access, SET_RIGHT)
    with mysql.login(
        place.login(access, acting.get("user", ""), acting.get("password", ""), database=False)
    ) as session:
        yield session


@contextmanager
def _already_changed() -> Iterator[None]:
    """An error that would promise that nothing was changed must not, once something was."""
    try:
        yield
    except OutcomeUnknown:
        raise
    except KeyturnError as error:
        raise OutcomeUnknown(
            f"the change was made only in part: {error.message}",
            hint="The same again completes it.",
            code=str(error.facts.get("code", "part")),
        ) from None


def _only_user(access: Access, slot: Ref) -> str:
    named = access.acting.get("user") if access.acting is not None else None
    found = named or slot.label or str(access.settings.get("user") or "")
    if not found:
        raise InvalidInput("the user is not known", field="user")
    return found


def _mariadb(session: mysql.Session) -> MariaDB:
    server = server_of(session)
    if isinstance(server, MySQL) or session.version < (10, 4):
        raise InvalidInput(
            f"{session.product} cannot hold two passwords by OR: MariaDB 10.4 and later can",
            hint="Choose pattern two, or one.",
            field="pattern",
        )
    return server


def _mysql(session: mysql.Session) -> MySQL:
    server = server_of(session)
    if isinstance(server, MariaDB) or session.version < (8, 0, 14):
        other = "overlap" if isinstance(server, MariaDB) else "two"
        raise InvalidInput(
            f"{session.product} has no dual passwords: MySQL 8.0.14 and later have",
            hint=f"Choose pattern {other}.",
            field="pattern",
        )
    return server


def _single(place: Place, user: str, accounts: Sequence[Account]) -> Account:
    """The one account that is meant. Raises: InvalidInput where several are, as stored texts cannot tell whose is whose."""
    found = _at_host(place, accounts)
    if not found:
        raise _no_account(user, place)
    if len(found) > 1:
        hosts = ", ".join(each.host for each in found)
        raise InvalidInput(
            f"user {user} has accounts for several hosts ({hosts})",
            hint="Say which one is meant.",
            field="user_host",
        )
    return found[0]


def _check_private(place: Place, access: Access) -> None:
    """A statement with a password in it goes to a proven server only, or to a host the operator opened."""
    if not place.sslmode.startswith("verify") and not access.network.allows(place.host, place.port):
        raise InvalidInput(
            f"dual passwords need TLS to a proven server, and TLS mode {place.sslmode} proves nothing",
            hint="MySQL takes this password in clear text: choose verify-full.",
            field="sslmode",
        )


def _at_host(place: Place, accounts: Sequence[Account]) -> list[Account]:
    return [each for each in accounts if not place.user_host or each.host == place.user_host]


def _chosen(place: Place, accounts: Sequence[Account]) -> list[Account]:
    """The accounts of a user that is ours altogether: all its rows, or those of the one host part given."""
    return _at_host(place, accounts)


def _of_connection(
    place: Place, access: Access, accounts: Sequence[Account], material: Material | None
) -> list[Account]:
    """Which rows of the user are this connection's: the same name with another host part may be somebody else's.

    Where no host part was given: the rows that hold our present value or the one being written, and else, where no
    password opens any of them or there is just one, those.
    Raises: InvalidInput when that cannot be told.
    """
    name = material["user"] if material is not None else _only_user(access, Ref())
    found = _at_host(place, accounts)
    if not found:
        raise _no_account(name, place)
    if len(found) == 1 or place.user_host:
        return found
    known = [each for each in (access.acting, material) if each is not None and each.get("user") == name]
    ours = [
        each
        for each in found
        if not each.entries
        or any(hashes.fits(*entry, value["password"]) for value in known for entry in each.entries)
    ]
    if not ours:
        hosts = ", ".join(each.host for each in found)
        raise InvalidInput(
            f"user {name} has accounts for several hosts ({hosts}) and none holds the known password",
            hint="Say which one is meant.",
            field="user_host",
        )
    return ours


def _no_account(user: str, place: Place) -> InvalidInput:
    return InvalidInput(
        f"there is no account {user}@{place.user_host or '(any host)'}",
        hint="CREATE USER first, with the host part the clients come from.",
        field="user_host" if place.user_host else "user",
    )


def _check_plugin(place: Place, accounts: Sequence[Account]) -> None:
    """A change of the plugin would lock out clients that cannot speak it: only a person decides that."""
    for each in accounts:
        for plugin, _ in each.entries:
            if plugin != place.plugin:
                raise InvalidInput(
                    f"account {each.user}@{each.host} uses {plugin}, not {place.plugin}",
                    hint=f"Set the field plugin to {plugin}.",
                    field="plugin",
                )


def _check_own_plugin(place: Place, session: mysql.Session) -> None:
    used = session.plugin.removeprefix("client_")
    if used != place.plugin:
        raise InvalidInput(
            f"the server checked this password by {used}, not by {place.plugin}",
            hint=f"Set the field plugin to {used}.",
            field="plugin",
        )


def _check_pair(place: Place, accounts: Sequence[Account]) -> None:
    """The set-up without which the second user would not be the first one's equal."""
    for slot, name in place.users.items():
        rows = [each for each in accounts if each.user == name]
        if not rows:
            raise InvalidInput(
                f"user {name} does not exist", hint=f"CREATE USER {name} ... ACCOUNT LOCK;", field=slot
            )
        if any(each.role != place.role for each in rows):
            raise InvalidInput(
                _trap(name, place.role), hint=f"SET DEFAULT ROLE {place.role} FOR {name};", field=slot
            )
    hosts = [{each.host for each in accounts if each.user == name} for name in place.users.values()]
    if hosts[0] != hosts[1]:
        raise InvalidInput(
            "user_a and user_b are not let in from the same hosts",
            hint="Give both the same host parts, or say in user_host which one is used.",
            field="user_host",
        )


def _trap(user: str, role: str) -> str:
    return (
        f"user {user} does not act with default role {role}: it would not have the rights of the other user"
    )


def _refuse_definer(session: mysql.Session, user: str) -> None:
    """What a dropped user defined fails for everybody: MariaDB drops all the same, so we look."""
    like = session.compose(
        "{like}", like=user.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "@%"
    )
    tables = {
        "views": "table_name",
        "routines": "routine_name",
        "triggers": "trigger_name",
        "events": "event_name",
    }
    found = session.query(
        " UNION ALL ".join(
            f"SELECT '{table}', {column} FROM information_schema.{table} WHERE definer LIKE {like}"
            for table, column in tables.items()
        )
    )
    if found:
        named = ", ".join(f"{name} ({table})" for table, name in found[:5])
        raise Conflict(
            f"user {user} cannot be dropped: {named} run as it",
            hint="Recreate them with another DEFINER or SQL SECURITY INVOKER, then drop again.",
        )


def _rights(place: Place) -> frozenset[str]:
    return frozenset({"USAGE", "sample_query"} if place.sample_query else {"USAGE"})


def _explain(place: Place, access: Access, material: Material, error: KeyturnError) -> str:
    """What went wrong; an administrator can see which of several causes it is. Never changes the verdict."""
    said = f"{error.message}. {error.hint}".strip()
    if admin_of(access) is None or error.facts.get("code") != _REFUSED:
        return said
    name = material.get("user", "")
    try:
        with _acting(place, access) as session:
            accounts = server_of(session).accounts(session, (name,))
    except KeyturnError:
        return said
    if not accounts:
        return f"user {name} does not exist"
    if all(each.locked for each in accounts):
        return f"user {name} is locked, and holds another password or none"
    if not any(each.entries for each in accounts):
        return f"user {name} has no password"
    if any(each.tls not in {"0", "", "1", "ANY"} for each in accounts):
        return (
            f"user {name} needs a client certificate or a certain cipher (REQUIRE), or holds another password"
        )
    return f"user {name} exists and holds another password, or is not let in from this address"

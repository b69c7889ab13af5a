"""What MariaDB and MySQL write differently: where accounts are kept, and how a stored password is put there.

MariaDB's statements were run on 10.11. MySQL's follow its manual (https://dev.mysql.com/doc/refman/8.4/en/alter-user.html,
checked 2026-11-23); no MySQL server could be had, so they were run against the lab's stand-in only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

from keyturn.connectors.mysql import hashes
from keyturn.connectors.mysql.types import Account
from keyturn.errors import (
    InvalidInput,
    KeyturnError,
    NotFound,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
)
from keyturn.transport.sql.mysql import Session

SET_RIGHT = "CREATE USER"
_CHECKS = (
    "SELECT count(*) FROM information_schema.plugins WHERE plugin_type = 'PASSWORD VALIDATION'"
    " AND plugin_status = 'ACTIVE'"
)
Entry = tuple[str, str]


class Server(Protocol):
    """One product's words. Every change takes all accounts in one statement, and says the same when said again."""

    read_right: str

    def accounts(self, session: Session, users: Sequence[str]) -> list[Account]:
        """All rows of these users, whatever their host part. Raises: PermissionMissing."""

    def write(self, session: Session, accounts: Sequence[Account], entries: Sequence[Entry]) -> None:
        """These passwords, newest first, and no others; the accounts are open afterwards."""

    def close(self, session: Session, accounts: Sequence[Account]) -> None:
        """No password opens the accounts any more, and they are locked."""

    def write_own(self, session: Session, entry: Entry) -> None:
        """The password of the account that is logged in."""


class MariaDB:
    """MariaDB 10.4 and later: `IDENTIFIED VIA plugin USING 'stored' OR ...`, accounts in mysql.global_priv."""

    read_right = "SELECT ON mysql.global_priv"

    def accounts(self, session: Session, users: Sequence[str]) -> list[Account]:
        rows = _read(
            session,
            "SELECT user, host, JSON_VALUE(priv,'$.plugin'), JSON_VALUE(priv,'$.authentication_string'),"
            " JSON_QUERY(priv,'$.auth_or'), coalesce(JSON_VALUE(priv,'$.account_locked'), '0'),"
            " coalesce(JSON_VALUE(priv,'$.password_lifetime'), ''), coalesce(JSON_VALUE(priv,'$.default_role'), ''),"
            " (SELECT count(*) FROM information_schema.processlist p WHERE p.user = g.user),"
            " coalesce(JSON_VALUE(priv,'$.ssl_type'), '0')"
            " FROM mysql.global_priv g WHERE JSON_VALUE(priv,'$.is_role') IS NULL AND ",
            users,
            self.read_right,
        )
        return [
            Account(
                user=str(row[0]),
                host=str(row[1]),
                entries=_mariadb_entries(row[2] or hashes.NATIVE, row[3] or "", row[4]),
                locked=row[5] in {"1", "true"},
                expired=False,
                role=str(row[7]),
                sessions=int(row[8] or 0),
                tls=str(row[9]),
            )
            for row in rows
        ]

    def write(self, session: Session, accounts: Sequence[Account], entries: Sequence[Entry]) -> None:
        if session.version < (10, 4):
            raise InvalidInput(f"{session.product} is too old: 10.4 and later are spoken to", field="host")
        ways = " OR ".join(
            f"{plugin} USING {session.compose('{text}', text=kept)}" for plugin, kept in entries
        )
        each = (f"{_account(session, one)} IDENTIFIED VIA {ways}" for one in accounts)
        try:
            session.change(f"ALTER USER {', '.join(each)} ACCOUNT UNLOCK", right=SET_RIGHT)
        except NotFound as error:
            if error.facts.get("code") != "1396" or len(accounts) > 1:
                raise  # of several accounts some may have been changed
            raise self._why_refused(session, accounts[0], error) from None

    def _why_refused(self, session: Session, account: Account, error: NotFound) -> KeyturnError:
        """1396 is one number for an account that is not there and for a value that a check does not take."""
        if (
            session.query("SELECT @@strict_password_validation")[0][0] == "1"
            and session.query(_CHECKS)[0][0] != "0"
        ):
            return PermissionMissing(
                "a password check of the server takes no hashes, only passwords in clear text, which would be in its log",
                hint="Set strict_password_validation=OFF: the generated password is stronger than any check.",
                **{**error.facts, "right": "strict_password_validation=OFF"},
            )
        if any(each.host == account.host for each in self.accounts(session, (account.user,))):
            return ValueRefused(
                "the server refused the value", hint="A check of passwords may be at work.", **error.facts
            )
        return error

    def close(self, session: Session, accounts: Sequence[Account]) -> None:
        nobody = f"{hashes.NATIVE} USING '{hashes.NOBODY}'"
        each = (f"{_account(session, one)} IDENTIFIED VIA {nobody}" for one in accounts)
        session.change(f"ALTER USER {', '.join(each)} ACCOUNT LOCK", right=SET_RIGHT)

    def write_own(self, session: Session, entry: Entry) -> None:
        # In MariaDB the text must be a hash; MySQL would take the same statement's text for the password itself.
        session.change(session.compose("SET PASSWORD = {text}", text=entry[1]))


class MySQL:
    """MySQL 8: `IDENTIFIED WITH plugin AS 0x...`, accounts in mysql.user."""

    read_right = "SELECT ON mysql.user and mysql.default_roles"

    def accounts(self, session: Session, users: Sequence[str]) -> list[Account]:
        rows = _read(
            session,
            "SELECT user, host, plugin, hex(authentication_string), account_locked, password_expired,"
            " hex(coalesce(User_attributes->>'$.additional_password', '')),"
            " coalesce((SELECT max(default_role_user) FROM mysql.default_roles d"
            " WHERE d.user = u.user AND d.host = u.host), ''),"
            " (SELECT count(*) FROM information_schema.processlist p WHERE p.user = u.user), ssl_type"
            " FROM mysql.user u WHERE ",
            users,
            self.read_right,
        )
        found = []
        for row in rows:
            kept = tuple((str(row[2]), _unhexed(text)) for text in (row[3], row[6]) if text)
            gone = row[4] == "Y" and row[5] == "Y"  # how `close` leaves an account
            found.append(
                Account(
                    user=str(row[0]),
                    host=str(row[1]),
                    entries=() if gone else kept,
                    locked=row[4] == "Y",
                    expired=row[5] == "Y",
                    role=str(row[7]),
                    sessions=int(row[8] or 0),
                    tls=str(row[9]),
                )
            )
        return found

    def write(self, session: Session, accounts: Sequence[Account], entries: Sequence[Entry]) -> None:
        if session.version < (8, 0, 14):
            raise InvalidInput(f"{session.product} is too old: 8.0.14 and later are spoken to", field="host")
        ((plugin, kept),) = entries
        way = f"{plugin} AS 0x{kept.encode('latin-1').hex()}"
        each = (f"{_account(session, one)} IDENTIFIED WITH {way}" for one in accounts)
        session.change(f"ALTER USER {', '.join(each)} ACCOUNT UNLOCK", right=SET_RIGHT)

    def close(self, session: Session, accounts: Sequence[Account]) -> None:
        # A hash of nothing anybody knows; expired and locked together mark it as emptied (see `accounts`).
        nobody = "IDENTIFIED WITH caching_sha2_password BY RANDOM PASSWORD"
        each = ", ".join(f"{_account(session, one)} {nobody}" for one in accounts)
        session.change(f"ALTER USER {each} PASSWORD EXPIRE ACCOUNT LOCK", right=SET_RIGHT)

    def write_own(self, session: Session, entry: Entry) -> None:
        del session, entry
        raise PermissionMissing(
            "MySQL takes no hash from a user that changes its own password",
            hint="Give admin_user and admin_password: the password then stays out of the statement.",
            right=SET_RIGHT,
        )

    def retain(self, session: Session, account: Account, password: str) -> None:
        """A new password beside the one in use. MySQL documents this with the password only, not with a hash.

        The statement goes over TLS, and MySQL rewrites it before it logs it.
        """
        self._by_password(session, account, password, "RETAIN CURRENT PASSWORD")

    def replace(self, session: Session, account: Account, password: str) -> None:
        """Another first password; a second one stays as it is. The account is open afterwards."""
        self._by_password(session, account, password, "ACCOUNT UNLOCK")

    def discard(self, session: Session, account: Account) -> None:
        """Ends the second password; none counts as done."""
        session.change(f"ALTER USER {_account(session, account)} DISCARD OLD PASSWORD", right=SET_RIGHT)

    def _by_password(self, session: Session, account: Account, password: str, option: str) -> None:
        plugin = account.entries[0][0] if account.entries else hashes.CACHING
        text = session.compose("{password}", password=password)
        session.change(
            f"ALTER USER {_account(session, account)} IDENTIFIED WITH {plugin} BY {text} {option}",
            right=SET_RIGHT,
        )


def server_of(session: Session) -> MariaDB | MySQL:
    """The product's words, by what it says of itself."""
    return MariaDB() if session.is_mariadb else MySQL()


def _read(session: Session, statement: str, users: Sequence[str], right: str) -> list[tuple[str | None, ...]]:
    names = ", ".join(session.compose("{name}", name=name) for name in users)
    try:
        return session.query(f"{statement}user IN ({names}) ORDER BY user, host")
    except PermissionMissing as error:
        raise PermissionMissing(
            "the administrator may not see which accounts there are",
            hint=f"GRANT {right} TO the administrator.",
            **{**error.facts, "right": right},
        ) from None


def _account(session: Session, account: Account) -> str:
    return session.compose("{user}@{host}", user=account.user, host=account.host)


def _unhexed(text: str | None) -> str:
    return bytes.fromhex(text or "").decode("latin-1")


def _mariadb_entries(plugin: str, kept: str, others: str | None) -> tuple[Entry, ...]:
    """The passwords in the order the server tries them; `{}` in `auth_or` stands for the account's own fields."""
    try:
        ways = json.loads(others or "[{}]")
        found = [(each.get("plugin", plugin), each.get("authentication_string", kept)) for each in ways]
    except (ValueError, AttributeError):
        raise UnexpectedAnswer("an account's passwords are written in a way that is not known here") from None
    return tuple((str(way), str(text)) for way, text in found if text not in {"", hashes.NOBODY})


def end_sessions(session: Session, user: str, *, opened_before: int | None = None) -> None:
    """Ends the user's sessions and waits until they are gone; they outlive every change of an account otherwise.

    With `opened_before` only sessions with a lower number. The change that keeps the user out must be made before, or a
    client simply comes back. Raises: PermissionMissing, OutcomeUnknown when some are still there after a while.
    """
    check_ending(session)
    older = "" if opened_before is None else f" AND id < {opened_before}"
    live = session.compose("SELECT id FROM information_schema.processlist WHERE user = {user}", user=user) + (
        f"{older} AND id <> connection_id()"
    )
    for _ in range(_LOOKS):
        found = session.query(live)
        if not found:
            return
        for (number,) in found:
            session.kill(int(number or 0), right=END_RIGHT)
        session.query("SELECT sleep(0.02)")
    raise OutcomeUnknown(f"sessions of user {user} have not ended yet", code="sessions")


END_RIGHT = "CONNECTION ADMIN and PROCESS (MySQL: CONNECTION_ADMIN and PROCESS)"
_LOOKS = 40


def check_ending(session: Session) -> None:
    """Looks, before anything is changed, whether sessions can be seen and ended.

    Without PROCESS the list shows only our own sessions, which would look like nobody else's. Raises: PermissionMissing.
    """
    rows = session.query(
        "SELECT privilege_type FROM information_schema.user_privileges WHERE grantee = concat(char(39),"
        " substring_index(current_user(), '@', 1), char(39), '@', char(39),"
        " substring_index(current_user(), '@', -1), char(39))"
    )
    held = {str(row[0]).replace("_", " ") for row in rows}
    if "PROCESS" not in held or not held & {"CONNECTION ADMIN", "SUPER"}:
        raise PermissionMissing(
            "the administrator may not see or end other users' sessions",
            hint="GRANT PROCESS, CONNECTION ADMIN ON *.* TO the administrator.",
            right=END_RIGHT,
        )

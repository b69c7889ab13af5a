"""Rows of the OAuth server: what people allowed (grants), codes, and tokens. Digests only, never a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keyturn.storage import issued
from keyturn.storage.database import Row, Tx
from keyturn.storage.issued import Held, IssuedSecret

ACCESS, REFRESH = "access", "refresh"


@dataclass(frozen=True)
class ClientRow:
    """An OAuth client by one of its secrets. `settings` is the credential's, as JSON."""

    secret: IssuedSecret
    name: str
    settings: str
    system: str
    method: str
    owner: str


@dataclass(frozen=True)
class Grant:
    """What a person allowed an application: the family of all tokens that come of it. `subject` is their account."""

    id: str
    connection_id: str
    client_id: str
    subject: str
    scopes: str
    redirect_uri: str
    created_at: float
    used_at: float | None
    ended_at: float | None
    ended_why: str


@dataclass(frozen=True)
class Code:
    """An authorization code. `challenge` is PKCE's, always S256."""

    hash: str
    grant_id: str
    challenge: str
    expires_at: float
    used_at: float | None


@dataclass(frozen=True)
class Token:
    """An access or refresh token. `secret_id`: the version whose secret its client showed for it. A refresh token that was
    exchanged has `used_at`, the salt its successors were derived with, and the digest of the refresh token among them."""

    hash: str
    id: str
    kind: str
    connection_id: str
    client_id: str
    secret_id: str
    grant_id: str
    scopes: str
    issued_at: float
    expires_at: float
    used_at: float | None = None
    salt: str = ""
    successor: str = ""
    revoked_at: float | None = None


# -- clients -----------------------------------------------------------------------------------------------------------

_CLIENT = (
    f"SELECT {issued.FULL}, c.name, c.settings, c.system, c.method, c.owner"
    " FROM issued_secret s JOIN connection c ON c.id = s.connection_id"
)


def _client(row: Row | None) -> ClientRow | None:
    return ClientRow(issued.read(row), *row[issued.WIDTH :]) if row else None


def client_by_secret(tx: Tx, digest: str) -> ClientRow | None:
    """Whose secret has this digest, ended or not: one statement, whether there is such a one or not."""
    return _client(tx.one(f"{_CLIENT} WHERE s.hash = ?", digest))


def client_by_id(tx: Tx, client_id: str) -> ClientRow | None:
    """A client by its id and its newest secret that is let in; by its newest when none is."""
    order = (
        "CASE WHEN s.state IN ('live', 'retiring') THEN 0 ELSE 1 END, s.created_at DESC, s.version_id DESC"
    )
    return _client(tx.one(f"{_CLIENT} WHERE s.client_id = ? ORDER BY {order} LIMIT 1", client_id))


# -- grants ------------------------------------------------------------------------------------------------------------

_GRANT = (
    "id, connection_id, client_id, subject, scopes, redirect_uri, created_at, used_at, ended_at, ended_why"
)
_GRANT_FULL = ", ".join(f"g.{name}" for name in _GRANT.split(", "))


def add_grant(tx: Tx, grant: Grant) -> None:
    """Inserts a grant."""
    tx.run(f"INSERT INTO oauth_grant ({_GRANT}) VALUES (?,?,?,?,?,?,?,?,?,?)", *grant.__dict__.values())


def grant(tx: Tx, grant_id: str) -> Grant | None:
    """The grant of this id."""
    row = tx.one(f"SELECT {_GRANT} FROM oauth_grant WHERE id = ?", grant_id)
    return Grant(*row) if row else None


def live_grants(tx: Tx, subject: str = "") -> list[tuple[Grant, str]]:
    """(grant, application's name) of all that were taken up and have not ended, newest first; one person's when named."""
    which, params = (" AND g.subject = ?", [subject]) if subject else ("", [])
    rows = tx.all(
        f"SELECT {_GRANT_FULL}, c.name FROM oauth_grant g JOIN connection c ON c.id = g.connection_id"
        f" WHERE g.used_at IS NOT NULL AND g.ended_at IS NULL{which} ORDER BY g.created_at DESC, g.id DESC",
        *params,
    )
    return [(Grant(*row[:10]), str(row[10])) for row in rows]


def is_able(tx: Tx, subject: str) -> bool:
    """Whether the person who allowed it may still sign in."""
    row = tx.one("SELECT disabled_at FROM account WHERE id = ?", subject)
    return row is not None and row[0] is None


def take_up(tx: Tx, grant_id: str, at: float) -> bool:
    """Its code was exchanged. False when the grant had ended."""
    sql = "UPDATE oauth_grant SET used_at = ? WHERE id = ? AND ended_at IS NULL"
    return 1 == tx.run(sql, at, grant_id)


def end_grant(tx: Tx, grant_id: str, at: float, why: str) -> bool:
    """Ends a grant and with it every token that came of it. False when it had ended."""
    sql = "UPDATE oauth_grant SET ended_at = ?, ended_why = ? WHERE id = ? AND ended_at IS NULL"
    return 1 == tx.run(sql, at, why, grant_id)


def end_grants_of_client(tx: Tx, client_id: str, at: float, why: str) -> int:
    """Ends everything people allowed a client that is gone."""
    sql = "UPDATE oauth_grant SET ended_at = ?, ended_why = ? WHERE client_id = ? AND ended_at IS NULL"
    return tx.run(sql, at, why, client_id)


# -- codes -------------------------------------------------------------------------------------------------------------


def add_code(tx: Tx, code: Code) -> None:
    """Inserts a code."""
    tx.run(
        "INSERT INTO oauth_code (hash, grant_id, challenge, expires_at, used_at) VALUES (?,?,?,?,?)",
        *code.__dict__.values(),
    )


def code(tx: Tx, digest: str) -> Code | None:
    """The code with this digest, used or not."""
    row = tx.one(
        "SELECT hash, grant_id, challenge, expires_at, used_at FROM oauth_code WHERE hash = ?", digest
    )
    return Code(*row) if row else None


def use_code(tx: Tx, digest: str, at: float) -> bool:
    """Takes a code for good. False when somebody was faster, or it has expired."""
    sql = "UPDATE oauth_code SET used_at = ? WHERE hash = ? AND used_at IS NULL AND expires_at > ?"
    return 1 == tx.run(sql, at, digest, at)


# -- tokens ------------------------------------------------------------------------------------------------------------

_ROW = (
    "hash, id, kind, connection_id, client_id, secret_id, grant_id, scopes, issued_at, expires_at, used_at, salt,"
    " successor, revoked_at"
)
_ROW_FULL = ", ".join(f"t.{name}" for name in _ROW.split(", "))
_ROW_WIDTH = len(_ROW.split(", "))


def add_tokens(tx: Tx, tokens: Sequence[Token]) -> None:
    """Inserts tokens."""
    marks = ",".join("?" for _ in range(_ROW_WIDTH))
    rows = [tuple(each.__dict__.values()) for each in tokens]
    tx.many(f"INSERT INTO oauth_token ({_ROW}) VALUES ({marks})", rows)


def token(tx: Tx, digest: str) -> Token | None:
    """The token with this digest, whatever became of it."""
    row = tx.one(f"SELECT {_ROW} FROM oauth_token WHERE hash = ?", digest)
    return Token(*row) if row else None


@dataclass(frozen=True)
class Presented:
    """A token with the secret it was made with, its credential's name and settings (JSON). Of one that a person allowed:
    their account in `subject`, and whether grant and account still stand."""

    token: Token
    secret: Held
    name: str
    settings: str
    subject: str
    stands: bool


def presented(tx: Tx, digest: str) -> Presented | None:
    """The hot path, one statement."""
    row = tx.one(
        f"SELECT {_ROW_FULL}, {issued.HELD}, c.name, c.settings, g.subject, g.ended_at, a.id, a.disabled_at"
        " FROM oauth_token t JOIN issued_secret s ON s.version_id = t.secret_id"
        " JOIN connection c ON c.id = t.connection_id LEFT JOIN oauth_grant g ON g.id = t.grant_id"
        " LEFT JOIN account a ON a.id = g.subject WHERE t.hash = ?",
        digest,
    )
    if row is None:
        return None
    token, rest = Token(*row[:_ROW_WIDTH]), row[_ROW_WIDTH:]
    name, settings, subject, ended_at, account, disabled_at = rest[issued.HELD_WIDTH :]
    stands = not token.grant_id or (account is not None and ended_at is None and disabled_at is None)
    return Presented(token, issued.held(rest), name, settings, subject or "", stands)


def use_token(tx: Tx, digest: str, at: float, salt: str, successor: str) -> bool:
    """Takes a refresh token for good. False when somebody was faster."""
    sql = "UPDATE oauth_token SET used_at = ?, salt = ?, successor = ? WHERE hash = ? AND used_at IS NULL"
    return 1 == tx.run(sql, at, salt, successor, digest)


def forget_salt(tx: Tx, successor: str) -> None:
    """Its successors were taken up: what they were derived with is not needed any more."""
    tx.run("UPDATE oauth_token SET salt = '' WHERE successor = ?", successor)


def revoke_token(tx: Tx, digest: str, at: float) -> bool:
    """Ends one token. False when it had been."""
    return 1 == tx.run(
        "UPDATE oauth_token SET revoked_at = ? WHERE hash = ? AND revoked_at IS NULL", at, digest
    )


def prune(tx: Tx, before: float) -> int:
    """Deletes what expired before then, and grants that were never taken up; how many tokens. What is left of a family
    still tells its used tokens, for as long as those could be played back."""
    tx.run("DELETE FROM oauth_code WHERE expires_at < ?", before)
    tx.run(
        "DELETE FROM oauth_grant WHERE used_at IS NULL AND created_at < ?"
        " AND NOT EXISTS (SELECT 1 FROM oauth_code k WHERE k.grant_id = oauth_grant.id)",
        before,
    )
    return tx.run("DELETE FROM oauth_token WHERE expires_at < ?", before)

"""What both kinds of database server say alike, whatever number they say it with."""

from __future__ import annotations

from keyturn.errors import InvalidInput, UnexpectedAnswer, VendorUnavailable
from keyturn.transport.sql.conninfo import Login


def no_database(code: str, params: Login) -> InvalidInput:
    """There is no such database."""
    return InvalidInput(
        f"database {params.database} does not exist at {params.host}",
        hint="Check the database's name.",
        field="database",
        code=code,
        host=params.host,
    )


def no_tls(code: str, params: Login, named: str) -> VendorUnavailable:
    """No TLS connection came about; `named` is what the form calls the mode."""
    return VendorUnavailable(
        f"no TLS connection to {params.host} that {named} {params.sslmode} accepts",
        hint="Check that the server speaks TLS and that `ca` is the authority of its certificate.",
        code=code,
        host=params.host,
    )


def unsafe_method(code: str, params: Login, used: str) -> UnexpectedAnswer:
    """The server asks for what would give the password away; `used` says what is answered instead."""
    return UnexpectedAnswer(
        f"{params.host} asks for an authentication method that is not safe here",
        hint=used,
        code=code,
        host=params.host,
    )


def unreachable(code: str, params: Login, said: str) -> VendorUnavailable:
    """Nobody answered, or hung up; `said` is the rest of the sentence."""
    return VendorUnavailable(
        f"{params.host} {said}", hint="Check host, port and firewall.", code=code, host=params.host
    )


def replica(host: str, code: str) -> InvalidInput:
    """It answers and does not write."""
    return InvalidInput(
        f"{host} is a read-only replica",
        hint="Give the primary's address.",
        field="host",
        code=code,
        host=host,
    )

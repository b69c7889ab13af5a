"""Second factors: codes of an authenticator (TOTP) and recovery codes. Passkeys are in `passkeys.py`."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from keyturn.bootstrap import Keyturn
from keyturn.errors import Conflict, InvalidInput
from keyturn.operations import events
from keyturn.storage import people, sealed
from keyturn.storage.database import Tx
from keyturn.storage.people import Account

CODES = 10
_STEP_S = 30
_LETTERS = "23456789abcdefghjkmnpqrstvwxyz"


@dataclass(frozen=True)
class Offer:
    """What an authenticator needs, before it is confirmed: shown once, on the page that sets it up."""

    secret: str
    uri: str


def totp_row(account_id: str) -> str:
    """Where a person's authenticator secret is sealed."""
    return f"account:{account_id}:totp"


def offer(hub: Keyturn, account: Account) -> Offer:
    """A fresh secret, sealed at once but not in force until `confirm`. Raises: Conflict when one is in force."""
    import pyotp

    if account.totp_at is not None:
        raise Conflict("an authenticator is set up already", hint="Remove it first.")
    secret = pyotp.random_base32()
    hub.store.write(hub.secrets.sealing(totp_row(account.id), secret.encode(), time.time()))
    return Offer(secret, pyotp.TOTP(secret).provisioning_uri(name=account.login, issuer_name="Keyturn"))


def offered(hub: Keyturn, account: Account) -> Offer | None:
    """The secret that waits to be confirmed."""
    import pyotp

    kept = hub.secrets.find(totp_row(account.id)) if account.totp_at is None else None
    if kept is None:
        return None
    uri = pyotp.TOTP(kept.decode()).provisioning_uri(name=account.login, issuer_name="Keyturn")
    return Offer(kept.decode(), uri)


def confirm(hub: Keyturn, account: Account, code: str, *, address: str = "") -> list[str]:
    """Puts the offered authenticator in force once it shows a right code: ten recovery codes, shown this once.

    Raises: InvalidInput for a wrong code, Conflict when nothing was offered.
    """
    if account.totp_at is not None:
        raise Conflict("an authenticator is set up already")
    step = _step(hub, account, code)
    if step is None:
        raise InvalidInput(
            "the code is not right",
            hint="Check the clock of your phone and type the newest code.",
            field="code",
        )
    codes = _new_codes()
    now = time.time()

    def work(tx: Tx) -> None:
        people.change(tx, account.id, totp_at=now, totp_step=step)
        people.set_codes(tx, account.id, [_digest(hub, account, each) for each in codes])
        events.line("second_factor_added", by=account.login, address=address)(tx)

    hub.store.write(work)
    return codes


def renew_codes(hub: Keyturn, account: Account, *, address: str = "") -> list[str]:
    """Ten new recovery codes; the old ones are void."""
    if account.totp_at is None:
        raise Conflict("recovery codes go with an authenticator", hint="Set one up first.")
    codes = _new_codes()

    def work(tx: Tx) -> None:
        people.set_codes(tx, account.id, [_digest(hub, account, each) for each in codes])
        events.line("recovery_codes_renewed", by=account.login, address=address)(tx)

    hub.store.write(work)
    return codes


def remove(hub: Keyturn, account: Account, *, address: str = "") -> None:
    """Takes the authenticator and the recovery codes away. Whoever calls has asked for the password again."""
    hub.store.write(lambda tx: forget(tx, account, by=account.login, address=address))


def codes_left(hub: Keyturn, account: Account) -> int:
    """How many recovery codes are unused."""
    return hub.store.read(lambda tx: people.codes_left(tx, account.id))


def forget(tx: Tx, account: Account, *, by: str, address: str) -> None:
    """The same inside a transaction."""
    people.change(tx, account.id, totp_at=None, totp_step=0)
    people.set_codes(tx, account.id, [])
    sealed.destroy(tx, totp_row(account.id))
    if account.totp_at is not None:
        events.line("second_factor_removed", by=by, address=address, on=account.login)(tx)


def check(hub: Keyturn, account: Account, code: str) -> str:
    """By what a code is right: `code`, `recovery code`, or empty. A right one is used up."""
    bare = code.strip().replace(" ", "").replace("-", "").lower()
    if bare.isdigit() and len(bare) == 6:
        step = _step(hub, account, bare)
        used = step is not None and hub.store.write(lambda tx: people.use_totp(tx, account.id, step))
        return "code" if used else ""
    now = time.time()
    if bare and hub.store.write(lambda tx: people.use_code(tx, account.id, _digest(hub, account, bare), now)):
        return "recovery code"
    return ""


def _step(hub: Keyturn, account: Account, code: str) -> int | None:
    """The time step whose code this is: the present one, or one beside it for clocks that differ."""
    import pyotp

    kept = hub.secrets.find(totp_row(account.id))
    if kept is None:
        return None
    now, made = int(time.time() // _STEP_S), pyotp.TOTP(kept.decode())
    bare = code.strip().replace(" ", "")
    matching = [
        now + beside
        for beside in (0, -1, 1)
        if secrets.compare_digest(made.generate_otp(now + beside).encode(), bare.encode())
    ]
    return matching[0] if matching else None


def _new_codes() -> list[str]:
    drawn = ["".join(secrets.choice(_LETTERS) for _ in range(12)) for _ in range(CODES)]
    return [f"{each[:4]}-{each[4:8]}-{each[8:]}" for each in drawn]


def _digest(hub: Keyturn, account: Account, code: str) -> str:
    bare = code.replace("-", "").lower()
    return hub.roots.token_digest(f"recovery:{account.id}:{bare}")

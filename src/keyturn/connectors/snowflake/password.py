"""The password method: one password a user, so the new one ends the old at once. On its way out at the vendor."""

from __future__ import annotations

import secrets

from keyturn.connectors.snowflake import account, client
from keyturn.connectors.snowflake.client import PASSWORD
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Candidate, Remote
from keyturn.errors import (
    CredentialRejected,
    InvalidInput,
    NotFound,
    ValueRefused,
    VendorUnavailable,
)
from keyturn.keymaking import passwords
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, Verdict

_PUBLIC = frozenset({"user"})
_PLACE = Ref(id=PASSWORD, slot=PASSWORD)
_NAME_BYTES = 6
_PRIOR_USE = "PRIOR_USE"
# Said of a password that was right: the user is disabled, must change it, lacks the role, or lacks a second factor.
_RIGHT_BUT = frozenset({"390101", "390106", "390189", "390197"})


def capabilities() -> Capabilities:
    """Everything a password can do; whose login makes a change is decided call by call."""
    slot = Slot()
    return Capabilities(
        verifier=Prober(),
        lister=slot,
        maker=slot,
        setter=slot,
        revoker=slot,
        dropper=account.User(),
        discoverer=account.Account(),
        locator=slot,
        reader=account.Rows(),
    )


class Prober:
    """Logs in anew. Five refused passwords in a row lock the user for 15 minutes, so refusals are spent with care."""

    def verify(self, access: Access, material: Material) -> Probe:
        """Only 390100 is a rejection; Snowflake says it for a wrong password and for a user that does not exist."""
        return account.look(client.own_session(access, material), "Snowflake refuses the password")

    def bogus(self, material: Material) -> Material:
        """A user that does not exist: the same code, and no failed login counts against a real one."""
        del material
        name = f"KEYTURN_NOBODY_{secrets.token_hex(_NAME_BYTES).upper()}"
        return Material({"user": name, "password": passwords.password()}, _PUBLIC)


class Slot:
    """The one place for a password."""

    def list(self, access: Access) -> tuple[Remote, ...]:
        """The password if there is one, since when, and when it was last used to log in as far as history tells."""
        with client.acting_session(access) as session:
            try:
                name = client.name_of(session, access)
                facts = client.facts_of(session, name)
            except NotFound:
                return ()
            if not facts.get(PASSWORD):
                return ()
            used = [each.last_at for each in client.history(session, name) if each.factor == PASSWORD]
        return (
            Remote(
                _PLACE,
                active=not client.is_true(facts.get("DISABLED")),
                # 1969-12-31 means that nobody knows.
                created_at=max(client.instant(facts.get("PASSWORD_LAST_SET_TIME")) or 0.0, 0.0) or None,
                last_used_at=used[0] if used else None,
            ),
        )

    def locate(self, access: Access, material: Material) -> Ref:
        """There is one place, of the user this login names. Raises: InvalidInput when that is another user."""
        wanted = str(access.settings.get("user") or "")
        if wanted.upper() != material.get("user", wanted).upper():
            raise InvalidInput("the password belongs to another user", field="user")
        return _PLACE

    def make(self, access: Access, slot: Ref) -> Candidate:
        """32 characters of all four classes, none of which SQL or a shell knows: the default policy takes 14 to 256."""
        del slot
        user = str(access.settings.get("user") or "")
        return Candidate(_PLACE, Material({"user": user, "password": passwords.password()}, _PUBLIC))

    def set(self, access: Access, ref: Ref, material: Material) -> None:
        """Sets the password. When history refuses it as used before, a login tells whether it is the present one.

        Raises: InvalidInput for a user whose type knows no passwords; nothing was changed then.
        """
        if (ref.slot or ref.id) not in {"", PASSWORD}:
            raise InvalidInput("a user has one password", field="slot")
        try:
            with client.acting_session(access) as session:
                name = client.name_of(session, access)
                _must_take_passwords(client.facts_of(session, name))
                client.set_password(session, name, material["password"])
        except ValueRefused as error:
            if error.facts.get("reason") != _PRIOR_USE:
                raise
            # Nobody else knows a random value: an earlier call of ours set it, and its answer was lost.
            if not self._is_present(access, material):
                raise

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Unsets the password, so that no login can use any; other ways in are left alone.

        One statement, so a lost answer leaves nothing half done, and DESC USER shows it. The user is not disabled here:
        a disabled user may be refused with 390101 before its password is looked at, and then nothing would prove the
        death; `drop` disables it. A password that was changed meanwhile is somebody else's and stays.
        """
        del ref
        access = client.ending(access, material)
        if material is not None and not self._is_present(access, material, or_blocked=True):
            return
        try:
            with client.acting_session(access) as session:
                name = client.name_of(session, access)
                client.unset_password(session, name)
        except NotFound:
            return
        except CredentialRejected:
            if access.admin is not None or material is None or access.acting != material:
                raise
            # It signed its own end, and was ended between the two logins.

    def _is_present(self, access: Access, material: Material, *, or_blocked: bool = False) -> bool:
        """Whether the user holds exactly this password. Raises: VendorUnavailable when it cannot be told."""
        found = Prober().verify(access, material)
        if found.verdict is Verdict.UNKNOWN and not (or_blocked and found.code in _RIGHT_BUT):
            raise VendorUnavailable(
                f"it cannot be told whether the password is the present one ({found.code})",
                hint="The call is made again later.",
                code=found.code,
            )
        return found.verdict is not Verdict.REJECTED


def _must_take_passwords(facts: dict[str, str]) -> None:
    kind = facts.get("TYPE", "").upper()
    if kind in client.SERVICE_TYPES:
        raise InvalidInput(
            f"users of type {kind} have no password",
            hint="Use a key pair, which is what such users are for.",
            field="user",
        )

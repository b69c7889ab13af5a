"""The key-pair method: two public-key slots on a user, both valid at once; every slot is known by its fingerprint."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from keyturn.connectors.snowflake import client
from keyturn.connectors.snowflake.client import SLOTS
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Candidate, Found, Remote
from keyturn.errors import (
    Conflict,
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    PermissionMissing,
    UnexpectedAnswer,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.keymaking import rsa
from keyturn.model.credential import Ref
from keyturn.model.moment import iso
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, accepted, rejected, unknown

_POOL = rsa.KeyPool()  # starts no thread before the first key is asked for


def capabilities() -> Capabilities:
    """Everything a key pair can do; whose login makes a change is decided call by call."""
    slots = Slots()
    return Capabilities(
        verifier=Prober(),
        lister=slots,
        maker=slots,
        setter=slots,
        revoker=slots,
        dropper=User(),
        discoverer=Account(),
        locator=slots,
    )


class Prober:
    """Logs in anew and asks the server who it sees."""

    def verify(self, access: Access, material: Material) -> Probe:
        """Only 390144, the refusal of the key, is a rejection.

        A disabled user (390101) is unknown: its key works again when it is enabled, so taking that for a dead key would
        call a living one dead. So are a lock-out, a role, a network or an authentication policy.
        """
        try:
            with client.own_session(access, material) as session:
                user, account, role = client.whoami(session)
        except CredentialRejected as error:
            return rejected(str(error.facts["code"]), "Snowflake refuses the key")
        except (VendorUnavailable, VendorThrottled, UnexpectedAnswer, NotFound, PermissionMissing) as error:
            found = unknown(_code(error), f"{error.message}. {error.hint}")
            return dataclasses.replace(found, locked=bool(error.facts.get("locked")))
        # A right is one word; a role may be several.
        return accepted(user, tenant=account, rights=frozenset({quote(role)} if role else ()))

    def bogus(self, material: Material) -> Material:
        """A throwaway key: the same user gives the same code as a removed key, and failed key logins lock nobody out.

        The lock-out counts passwords. Source: docs.snowflake.com password policies; that key-pair failures never count
        is not said in so many words, checked 2026-11-23.
        """
        del material
        return Material({"private_key": rsa.generate().private_pem.reveal()})


class Slots:
    """The two key slots of one user."""

    def list(self, access: Access) -> tuple[Remote, ...]:
        """The filled slots with their fingerprints. Snowflake does not tell when a key was last used."""
        with client.acting_session(access) as session:
            found = client.slots_of(session, client.name_of(session, access))
        return tuple(
            Remote(_ref(name, slot.fingerprint), created_at=slot.set_at) for name, slot in found.items()
        )

    def locate(self, access: Access, material: Material) -> Ref:
        """The slot that shows the key's fingerprint, whichever it is: the live one is never assumed.

        Raises: InvalidInput when no slot does.
        """
        wanted = client.pair_of(material).fingerprint
        for remote in self.list(access):
            if remote.ref.fingerprint == wanted:
                return remote.ref
        raise InvalidInput(
            "no slot of this user holds the key",
            hint="Check the user, and the administrator's account.",
            field="user",
        )

    def make(self, access: Access, slot: Ref) -> Candidate:
        """A fresh 2048-bit pair for a named slot; the private key stays an unencrypted PEM, the vault seals it."""
        del access
        name = _named(slot)
        pair = _POOL.take()
        return Candidate(_ref(name, pair.fingerprint), Material({"private_key": pair.private_pem.reveal()}))

    def set(self, access: Access, ref: Ref, material: Material) -> None:
        """Puts the public half into the slot. A slot that holds another key is never overwritten.

        Raises: Conflict when it does; nothing was changed then.
        """
        name, pair = _named(ref), client.pair_of(material)
        if ref.fingerprint not in {"", pair.fingerprint}:
            raise InvalidInput("the key is not the one this slot was promised", field="private_key")
        with client.acting_session(access) as session:
            user = client.name_of(session, access)
            holds = client.slots_of(session, user).get(name)
            if holds is None:
                client.set_key(session, user, name, pair.public_key)
            elif holds.fingerprint != pair.fingerprint:
                raise Conflict(
                    f"{name} holds another key",
                    hint="Find out whose it is; unset it by hand when nobody uses it.",
                    slot=name,
                    fingerprint=holds.fingerprint,
                )

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Empties every slot that holds this very key, wherever somebody has copied it.

        Raises: UnexpectedAnswer when the slot holds somebody else's key, which is left alone.
        """
        fingerprint = ref.fingerprint or (client.pair_of(material).fingerprint if material else "")
        if not fingerprint:
            raise InvalidInput(
                "the key's fingerprint is not known", hint="List the slots.", field="fingerprint"
            )
        with client.acting_session(access) as session:
            user = client.name_of(session, access)
            filled = client.slots_of(session, user)
            ours = tuple(name for name, slot in filled.items() if slot.fingerprint == fingerprint)
            if ours:
                client.unset_keys(session, user, ours)
            elif (ref.slot or ref.id) in filled:
                raise UnexpectedAnswer(
                    f"{ref.slot or ref.id} holds another key than the one to be removed",
                    hint="Ours is gone already; find out who put the other one there. It was not touched.",
                    slot=ref.slot or ref.id,
                    fingerprint=filled[ref.slot or ref.id].fingerprint,
                )


class User:
    """The Snowflake user itself."""

    def drop(self, access: Access) -> None:
        """Disables and drops the user; its sessions end. Needs an administrator: nobody may drop himself."""
        if access.admin is None:
            raise InvalidInput(
                "this needs an administrator", hint="Add one to the connection.", field="admin_user"
            )
        with client.acting_session(access) as session:
            try:
                name = client.name_of(session, access)
            except NotFound:
                return
            client.drop_user(session, name)


class Account:
    """What else in the account is, or could be, an integration."""

    def discover(self, access: Access) -> tuple[Found, ...]:
        """Users and security integrations whose name is like `discover_like`; only what the role may see."""
        like = str(access.settings.get("discover_like") or "%")
        with client.acting_session(access) as session:
            users = client.users(session, like)
            try:
                integrations = client.integrations(session, like)
            except PermissionMissing:
                integrations = []
        return (
            *(_found_user(row) for row in users),
            *(
                Found(
                    str(row["name"]),
                    "security_integration",
                    {"type": str(row.get("type") or ""), "enabled": _is_true(row.get("enabled"))},
                )
                for row in integrations
            ),
        )


def _found_user(row: Mapping[str, Any]) -> Found:
    kind = str(row.get("type") or "PERSON")
    has_key, has_password = _is_true(row.get("has_rsa_public_key")), _is_true(row.get("has_password"))
    flags = {
        "password and no key pair": has_password and not has_key,
        "key pair and password": has_password and has_key,
        "legacy service user": kind == "LEGACY_SERVICE",
        "disabled": _is_true(row.get("disabled")),
    }
    return Found(
        str(row["name"]),
        "user",
        {
            "type": kind,
            "login_name": str(row.get("login_name") or ""),
            "default_role": str(row.get("default_role") or ""),
            "has_key_pair": has_key,
            "has_password": has_password,
            "last_login_at": iso(client.instant(row.get("last_success_login"))),
            "flags": [words for words, holds in flags.items() if holds],
        },
    )


def _ref(slot: str, fingerprint: str) -> Ref:
    return Ref(id=slot, slot=slot, fingerprint=fingerprint)


def _named(ref: Ref) -> str:
    name = ref.slot or ref.id
    if name not in SLOTS:
        raise InvalidInput("not a key slot", hint=f"A user has {' and '.join(SLOTS)}.", field="slot")
    return name


def _is_true(value: Any) -> bool:
    """SHOW mixes real booleans with the words true and false."""
    return str(value).lower() in {"true", "1"}


def _code(error: KeyturnError) -> str:
    return str(error.facts.get("network") or error.facts.get("code") or "unavailable")

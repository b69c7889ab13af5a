"""One database user that is reset in place, or two of one space that take turns."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from keyturn.connectors.sap_datasphere import client
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Candidate, Sample
from keyturn.errors import (
    CallInsideTransaction,
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotFound,
    NotPermitted,
    PermissionMissing,
    UnexpectedAnswer,
)
from keyturn.keymaking.passwords import password
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, accepted, rejected, unknown
from keyturn.transport import hana

SLOTS = ("user_a", "user_b")
_TABLE = re.compile(r"^([A-Za-z0-9_#]{1,127})\.([A-Za-z0-9_./ -]{1,127})$")


def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
    """What can be done without a person depends on who resets, and on how many users there are."""
    if method != "password":
        raise NotFound(f"sap-datasphere has no method {method}")
    users = settings.get("users")
    if users == "two":
        two = TwoUsers()
        return Capabilities(two, issuer=two, revoker=two, locator=two, reader=two)
    one = OneUser()
    if users == "one by the hub":
        return Capabilities(one, issuer=one, revoker=one, locator=one, reader=one)
    return Capabilities(one, locator=one, reader=one)


class OneUser:
    """One user with one password: a new one ends the old at once."""

    def verify(self, access: Access, material: Material) -> Probe:
        """A fresh SQL login, who it is, and the tables this connection is for. HANA's error number as code."""
        settings, user = access.settings, material.get("user", "")
        try:
            with hana.login(_login(access, material), access.network) as session:
                seen = session.text("SELECT CURRENT_USER FROM DUMMY")
                rights = _tables(session, settings)
        except (CallInsideTransaction, InvalidInput, NotPermitted):
            raise
        except CredentialRejected as error:
            return rejected(str(error.facts["code"]), error.message)
        except KeyturnError as error:
            return _unclear(error)
        if seen != user:
            return unknown("another_user", f"logged in as another user than {user}")
        return accepted(
            self._principal(settings, seen), tenant=str(settings["host"]), rights=rights, user_label=seen
        )

    def bogus(self, material: Material) -> Material:
        """A user that does not exist: no refused login counts against a real one."""
        space = material.get("user", "KEYTURN").partition("#")[0]
        nobody = f"{space}#NOBODY_{secrets.token_hex(4).upper()}"
        return Material({"user": nobody, "password": password()}, frozenset({"user"}))

    def read_sample(self, access: Access, material: Material, what: str, limit: int) -> Sample:
        """Counts rows of a table or view, `SCHEMA.NAME` spelled exactly, or of the connection's `read_table`.

        Counted by the server, none leaves it. Raises: NotFound for a table that is not there or hidden (HANA 259).
        """
        named = what or str(access.settings.get("read_table") or "")
        if not named:
            raise InvalidInput(
                "nothing is named to read",
                hint="Name a table as SCHEMA.NAME, or give the connection a read_table.",
                field="what",
            )
        table = _quoted(named, "what" if what else "read_table")
        with hana.login(_login(access, material), access.network) as session:
            try:
                said = session.text(_counting(table, limit))
            except PermissionMissing as error:
                if error.facts.get("code") == "259":
                    raise NotFound(error.message, hint="Spell it exactly: SCHEMA.NAME.", code="259") from None
                raise
        if not (said.isascii() and said.isdigit()):
            raise UnexpectedAnswer("HANA's answer is not a count", code="protocol")
        return Sample(int(said), named)

    def locate(self, access: Access, material: Material) -> Ref:
        """The user is the place."""
        return self._place(access.settings, material.get("user", ""))

    def issue(self, access: Access, slot: Ref) -> bytes:
        """A reset; whoever loses the answer resets again."""
        return client.Tenant(access).reset(self._user(access, slot))

    def read(self, access: Access, receipt: bytes) -> Candidate:
        """The server's new password. With two users it belongs to the one that was idle."""
        parts = {"user": self._made_for(access), "password": client.password_in(receipt)}
        material = Material(parts, frozenset({"user"}))
        return Candidate(self._place(access.settings, parts["user"]), material)

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """A reset whose answer is thrown away. The user, its schema and its data stay."""
        if material is not None and not self._holds(access, material):
            return
        client.Tenant(access).reset(self._user(access, ref))

    def _holds(self, access: Access, material: Material) -> bool:
        """Whether the one place may still hold this value: after a rotation the successor is in it."""
        acting = access.acting
        return acting is None or acting.get("password") == material.get("password")

    def _principal(self, settings: Mapping[str, Any], seen: str) -> str:
        del settings
        return seen

    def _place(self, settings: Mapping[str, Any], user: str) -> Ref:
        del settings
        return Ref(id=user)

    def _user(self, access: Access, slot: Ref) -> str:
        del slot
        return str(access.settings["user"])

    def _made_for(self, access: Access) -> str:
        return str(access.settings["user"])


class TwoUsers(OneUser):
    """Two users of one space; the slot says which."""

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """A reset of the retiring user whose answer is thrown away; the executor sees to it that no newer value is there."""
        if ref.slot not in SLOTS and material is not None:
            ref = self._place(access.settings, material["user"])
        client.Tenant(access).reset(self._user(access, ref))

    def _principal(self, settings: Mapping[str, Any], seen: str) -> str:
        """What the two have in common: who is logged in changes with each rotation."""
        names = _pair(settings)
        if seen not in names.values():
            return seen
        return " or ".join(names[slot] for slot in SLOTS)

    def _place(self, settings: Mapping[str, Any], user: str) -> Ref:
        for slot, name in _pair(settings).items():
            if name == user:
                return Ref(id=slot, slot=slot, label=user)
        raise InvalidInput(f"user {user} is neither user_a nor user_b", field="user")

    def _user(self, access: Access, slot: Ref) -> str:
        names = _pair(access.settings)
        found = names.get(slot.slot or slot.id)
        if found is None:
            raise InvalidInput("it is not known which of the two users is meant", field="user_a")
        return found

    def issue(self, access: Access, slot: Ref) -> bytes:
        """A reset of the idle user; its name goes in front of the answer, which does not have to tell it."""
        user = self._user(access, slot)
        if access.acting is not None and access.acting.get("user") == user:
            raise InvalidInput(f"{user} is in use: resetting it would end what serves", field="user_a")
        return user.encode() + b"\n" + client.Tenant(access).reset(user)

    def read(self, access: Access, receipt: bytes) -> Candidate:
        """The new password with the user it was made for."""
        name, _, raw = receipt.partition(b"\n")
        new = client.password_in(raw or receipt)
        material = Material({"user": name.decode("utf-8", "replace"), "password": new}, frozenset({"user"}))
        return Candidate(self._place(access.settings, material["user"]), material)


def _pair(settings: Mapping[str, Any]) -> dict[str, str]:
    """Both users by slot. Raises: InvalidInput when they cannot take turns."""
    names = {slot: str(settings.get(slot) or "") for slot in SLOTS}
    for slot, name in names.items():
        if not name:
            raise InvalidInput(f"{slot} is needed for two users", field=slot)
    if len(set(names.values())) != 2:
        raise InvalidInput("user_a and user_b are the same user", field="user_b")
    spaces = {name.partition("#")[0] for name in names.values()}
    if len(spaces) != 1:
        raise InvalidInput("both users have to be of one space", field="user_b")
    written = str(settings.get("write_table") or "").partition(".")[0]
    if written in names.values():
        raise InvalidInput(
            "what one user writes into its own schema is closed to the other",
            hint="Use one user for a connection that loads data into its Open SQL schema.",
            field="write_table",
        )
    return names


def _login(access: Access, material: Material) -> hana.Login:
    settings = access.settings
    return hana.Login(
        str(settings["host"]),
        int(settings.get("port") or 443),
        material.get("user", ""),
        material.get("password", ""),
        access.deadline_s,
        tls=bool(settings.get("tls", True)),
    )


def _tables(session: hana.Session, settings: Mapping[str, Any]) -> frozenset[str]:
    """Reads at most one row and writes none; what was allowed. Raises: PermissionMissing with HANA's number."""
    rights = {"CONNECT"}
    if settings.get("read_table"):
        table = _quoted(settings["read_table"], "read_table")
        session.text(_counting(table, 1))
        rights.add("read_table")
    if settings.get("write_table"):
        table = _quoted(settings["write_table"], "write_table")
        session.run(f"INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0")
        rights.add("write_table")
    return frozenset(rights)


def _counting(table: str, most: int) -> str:
    """Counts at most so many rows of a quoted table, as text, which is the one kind of cell that is read."""
    return f"SELECT TO_VARCHAR(COUNT(*)) FROM (SELECT 1 AS ONE FROM {table} LIMIT {most:d})"


def _quoted(text: object, field: str) -> str:
    """Schema and table as quoted names. Raises: InvalidInput; the form is checked again because it goes into SQL."""
    found = _TABLE.fullmatch(str(text))
    if found is None:
        raise InvalidInput(
            "a table is written as SCHEMA.NAME", hint="For example SALES.REVENUE.", field=field
        )
    return f'"{found[1]}"."{found[2]}"'


def _unclear(error: KeyturnError) -> Probe:
    """What says nothing about the password. A lock or a forced change is told, and is no refusal of this value."""
    code = str(error.facts.get("code", "unclear"))
    detail = error.message
    if code == "414":
        detail += ": Enable Password Lifetime is on for it; switch that off, or let it change the password"
    if code in {"258", "259"}:
        detail = f"logged in, but {detail}"
    found = unknown(code, detail)
    if code == "416":
        return Probe(found.verdict, code=code, detail=detail, locked=True)
    return found

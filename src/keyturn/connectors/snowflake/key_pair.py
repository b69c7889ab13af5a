"""The key-pair method: two public-key slots on a user, both valid at once; every slot is known by its fingerprint."""

from __future__ import annotations

from keyturn.connectors.snowflake import account, client
from keyturn.connectors.snowflake.client import SLOTS
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.values import Access, Candidate, Remote
from keyturn.errors import Conflict, InvalidInput, UnexpectedAnswer
from keyturn.keymaking import passwords, rsa
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe

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
        dropper=account.User(),
        discoverer=account.Account(),
        locator=slots,
        reader=account.Rows(),
    )


class Prober:
    """Logs in anew and asks the server who it sees."""

    def verify(self, access: Access, material: Material) -> Probe:
        """Only 390144, the refusal of the key, is a rejection."""
        return account.look(client.own_session(access, material), "Snowflake refuses the key")

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
        for remote in self.list(client.by_itself(access, material)):
            if remote.ref.fingerprint == wanted:
                return remote.ref
        raise InvalidInput(
            "no slot of this user holds the key",
            hint="Check the user, and the administrator's account.",
            field="user",
        )

    def make(self, access: Access, slot: Ref) -> Candidate:
        """A fresh pair of `key_bits` for a named slot.

        The private key stays an unencrypted PEM, the vault seals it; or, where consumers want an encrypted file
        (`key_file`), it is encrypted under a passphrase of its own, made with it.
        """
        name = _named(slot)
        pair = _POOL.take(int(access.settings.get("key_bits") or rsa.MIN_BITS))
        parts = {"private_key": pair.private_pem.reveal()}
        if access.settings.get("key_file") == "encrypted":
            passphrase = passwords.password()
            parts = {"private_key": pair.encrypted_pem(passphrase).reveal(), "passphrase": passphrase}
        return Candidate(_ref(name, pair.fingerprint), Material(parts))

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
        with client.acting_session(client.ending(access, material)) as session:
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


def _ref(slot: str, fingerprint: str) -> Ref:
    return Ref(id=slot, slot=slot, fingerprint=fingerprint)


def _named(ref: Ref) -> str:
    name = ref.slot or ref.id
    if name not in SLOTS:
        raise InvalidInput("not a key slot", hint=f"A user has {' and '.join(SLOTS)}.", field="slot")
    return name

"""What the suite must be given of a row, and the small moves its facts are made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from keyturn.contract.capabilities import Capabilities
from keyturn.contract.manifest import Method
from keyturn.contract.values import Access, Candidate, Remote
from keyturn.errors import KeyturnError
from keyturn.model.card import Card, Strategy
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, Verdict
from keyturn.testing.witness import Witness


class Aim(Protocol):
    """Somewhere on loopback that may stand in for the vendor."""

    host: str
    port: int
    path: Path | None

    @property
    def url(self) -> str:
        """`http://host:port`."""


def _nothing_to_lose(call: str) -> AbstractContextManager[Access]:
    raise AssertionError(f"the row claims `{call}`: give RowUnderTest(lost=...) a way to lose its answer")


def _nobody_consents(url: str) -> str:
    del url
    raise AssertionError("the row claims an authorizer: give RowUnderTest(consent=...) a person")


@dataclass(frozen=True)
class Reads:
    """What a job would read of the row: `what` has `there` items, more than one and fewer than ten.

    `more` are other names with how many each has, `empty` one with none, `absent` names of the right form with nothing
    behind them, or nothing for this account. `any_name` where a name is a mere beginning (a prefix): one that fits nothing
    counts none. `spoil` answers the next read, and no login, with nonsense of a kind of `facts_read.SPOILS`.
    """

    what: str
    there: int
    absent: tuple[str, ...] = ()
    empty: str | None = None
    more: Mapping[str, int] = field(default_factory=dict)
    any_name: bool = False
    spoil: Callable[[str], AbstractContextManager[object]] | None = None


@dataclass
class RowUnderTest:
    """One row with a fresh principal at the vendor (or its stand-in), and the ways to make that vendor misbehave.

    `good` works as `identity`; each of `wrong` is refused with one of `codes`. `access` acts with the administrator
    where there is one. `aimed` is the same access pointed elsewhere. `throttled` makes the next login be told to wait;
    `elsewhere` is a login that works but as another account (None only where `nameless` says why the vendor tells no
    identity). `lost` gives an access with which the answer to one call ("set", "issue", "disable", "revoke",
    "exchange", "refresh") gets lost after its effect. `consent` is a person at the vendor's page, `register` one who
    makes a client for a grant of its own. `patience_s` bounds
    how long an effect may take to show. `reads` is needed where the row claims a reader. `server_speaks_first` where the
    client of the protocol waits for a greeting. `own_words` are lies that are none here: the vendor documents that answer
    as its own no. `secured` are the settings, beside those of `aimed`, with which the row speaks TLS and takes an authority
    (None where it cannot be asked to), and `to_tls` how its protocol comes to TLS: see `liar.tls`.
    """

    name: str
    method: Method
    card: Card
    can: Capabilities
    access: Access
    good: Material
    identity: Mapping[str, str]
    wrong: Sequence[Material]
    codes: frozenset[str]
    aimed: Callable[[Aim], Access]
    throttled: Callable[[], AbstractContextManager[object]]
    elsewhere: Callable[[], AbstractContextManager[tuple[Access, Material]]] | None
    lost: Callable[[str], AbstractContextManager[Access]] = _nothing_to_lose
    consent: Callable[[str], str] = _nobody_consents
    register: Callable[[], Mapping[str, str]] | None = None
    reads: Reads | None = None
    slot: Ref = field(default_factory=Ref)
    nameless: str = ""
    server_speaks_first: bool = False
    own_words: frozenset[str] = frozenset()
    secured: Callable[[str], Mapping[str, Any]] | None = lambda _authority: {}
    to_tls: str = ""
    throttle_says_wait: bool = True
    redirect_uri: str = "http://127.0.0.1:8425/oauth/callback"
    deadline_s: float = 1.0
    patience_s: float = 6.0
    witness: Witness = field(default_factory=Witness)

    def __post_init__(self) -> None:
        self.witness.tell(self.good, *self.wrong, self.access.acting)
        for name, value in (self.access.admin or {}).items():
            field = self.method.field(name) or self.method.field(f"admin_{name}")
            self.witness.tell(value if field is None or field.secret else None)

    @property
    def is_public(self) -> bool:
        """Whether there is no credential: what is about making, refusing or ending one does not apply."""
        return self.card.strategy is Strategy.NOTHING

    def verify(self, material: Material, access: Access | None = None) -> Probe:
        """One test, which never raises; the witness keeps what may be shown of it."""
        self.witness.tell(material)
        try:
            found = self.can.verifier.verify(access or self.access, material)
        except Exception as error:
            self.witness.saw(error) if isinstance(error, KeyturnError) else None
            raise AssertionError(f"verify raised {type(error).__name__} instead of answering") from error
        self.witness.keep(found, found.as_facts())
        return found

    def becomes(self, material: Material, wanted: Verdict, access: Access | None = None) -> Probe:
        """The wanted verdict within `patience_s`; unknown and the opposite may come first while a change spreads."""
        until = time.monotonic() + self.patience_s
        while True:
            found = self.verify(material, access)
            if found.verdict is wanted:
                return found
            if time.monotonic() > until:
                raise AssertionError(
                    f"still {found.verdict.value} ({found.code}: {found.detail}), not {wanted.value}"
                )
            time.sleep(0.1)

    def raises(self, call: Callable[[], object], *kinds: type[KeyturnError]) -> KeyturnError:
        """The call must raise one of `kinds`; the witness sees all of the exception."""
        try:
            call()
        except kinds as error:
            self.witness.saw(error)
            return error
        except Exception as error:
            if isinstance(error, KeyturnError):
                self.witness.saw(error)
            names = ", ".join(kind.__name__ for kind in kinds)
            raise AssertionError(f"raised {type(error).__name__} ({error}), not {names}") from error
        raise AssertionError(f"returned, but had to raise {', '.join(kind.__name__ for kind in kinds)}")

    def hurried(self, access: Access) -> Access:
        """The same access with a deadline that a test can wait for."""
        return replace(access, deadline_s=self.deadline_s)

    # -- moves ---------------------------------------------------------------------------------------------------

    def session(self) -> dict[str, str]:
        """What a consent is begun with."""
        import secrets

        return {
            "state": secrets.token_urlsafe(24),
            "code_verifier": secrets.token_urlsafe(48),
            "redirect_uri": self.redirect_uri,
        }

    def stage(self, access: Access | None = None) -> Candidate:
        """A new credential by whatever way the row has: consent, set, or issue; the witness is told its secrets."""
        using = access or self.access
        if self.can.authorizer is not None:
            if self.card.own_client and self.can.setter is not None and self.can.maker is not None:
                client = self.can.maker.make(using, self.slot)
                self.witness.tell(client.material)
                self.can.setter.set(using, client.ref, client.material)
                using = replace(using, acting=client.material)
            elif self.card.own_client and self.register is not None:
                registered = Material(self.register(), self.good.public)
                self.witness.tell(registered)
                using = replace(using, acting=registered)
            made = self.granted(using)
        elif self.can.setter is not None and self.can.maker is not None:
            made = self.can.maker.make(using, self.slot)
            self.witness.tell(made.material)
            self.can.setter.set(using, made.ref, made.material)
        elif self.can.issuer is not None:
            made = self.can.issuer.read(using, self.can.issuer.issue(using, self.slot))
        else:
            raise AssertionError("the row has no way to make a credential")
        self.witness.tell(made.material)
        self.witness.keep(made)
        return made

    def granted(self, access: Access) -> Candidate:
        """A fresh consent to the client that acts."""
        assert self.can.authorizer is not None
        session = self.session()
        self.witness.tell(session["code_verifier"])
        callback = self.consent(self.can.authorizer.begin(access, session))
        made = self.can.authorizer.read(access, self.can.authorizer.exchange(access, session, callback), None)
        self.witness.tell(made.material)
        return made

    def usable(self, made: Candidate) -> Material:
        """What was set, as one logs in with it: a client needs a consent first."""
        if not self.card.own_client:
            return made.material
        return self.granted(replace(self.access, acting=made.material)).material

    def inventory(self) -> tuple[Remote, ...]:
        """What the vendor lists; nothing where it lists nothing."""
        return self.can.lister.list(self.access) if self.can.lister is not None else ()

    def here(self, ref: Ref) -> Remote | None:
        """The listed credential at this place."""
        return next((each for each in self.inventory() if each.ref.same_place(ref)), None)

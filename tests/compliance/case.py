"""One row as a person would connect it to the lab, with the oracle, the scripted person and the ways to break it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from keyturn.catalog import Catalog
from keyturn.contract.values import Access, NetworkPolicy
from keyturn.model.credential import Ref
from keyturn.model.run import Task
from keyturn.model.secret import Material
from keyturn.operations.forms import read_form
from keyturn.testing import Aim, Reads, RowUnderTest
from tests.compliance.lab import StandIn

DEFINITIONS = Path(__file__).resolve().parents[2] / "demo" / "definitions"
NETWORK = NetworkPolicy(frozenset({"127.0.0.1", "localhost"}))
ME = "integration@acme.example"
OTHER = "admin@acme.example"
FAST = {"settle_create_s": 1.0, "settle_revoke_s": 0.6, "drain_min_s": 0.05}


@dataclass
class Case:
    """One row with a fresh principal.

    `values` is what a person types into the form. `alive` is the oracle: public names of what is alive at the vendor on
    this principal; `of` gives the same name for a material. `person` answers a task.
    """

    system: str
    method: str
    values: Mapping[str, str]
    alive: Callable[[], set[str]]
    of: Callable[[Material], str]
    wrong_values: Mapping[str, str]
    policy: Mapping[str, Any] = field(default_factory=lambda: dict(FAST))
    definition: str = ""
    person: Callable[[Task], dict[str, str]] = lambda task: {}
    first: Callable[[], Material] | None = None
    wrong: Callable[[Material], list[Material]] = lambda good: []
    codes: frozenset[str] = frozenset()
    aim: Callable[[Aim], dict[str, Any]] = lambda aim: {}
    throttled: Callable[[], AbstractContextManager[object]] = nullcontext
    elsewhere: Callable[[Access], AbstractContextManager[tuple[Access, Material]]] | None = None
    lost: Callable[[Access, str], AbstractContextManager[Access]] | None = None
    consent: Callable[[str], str] | None = None
    register: Callable[[], Mapping[str, str]] | None = None  # a person makes a client for the next grant
    other_consent: Callable[[str], str] | None = None  # the same page, another person
    reads: Reads | None = None
    slot: Ref = field(default_factory=Ref)
    nameless: str = ""
    leaves: frozenset[str] = frozenset()  # kinds of debt that a rotation honestly leaves at this vendor
    server_speaks_first: bool = False  # a liar must not wait for the client's first word
    secured: Callable[[str], Mapping[str, Any]] | None = lambda authority: {}
    to_tls: str = ""
    own_words: frozenset[str] = frozenset()  # lies that are the vendor's own documented no
    throttle_says_wait: bool = True
    deadline_s: float = 1.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def definition_hash(self) -> str:
        return hashlib.sha256(self.definition.encode()).hexdigest() if self.definition else ""

    def catalog(self) -> Catalog:
        return Catalog({self.definition_hash: self.definition}.get, extra=self.extra)


def under_test(name: str, case: Case) -> RowUnderTest:
    """The case as the contract suite takes it."""
    catalog = case.catalog()
    row = catalog.row(case.system, case.method, case.values, case.definition_hash)
    settings, material, admin = read_form(name, row.method, case.values)
    row = catalog.row(case.system, case.method, settings, case.definition_hash)
    access = Access(settings, material, admin, 10.0, NETWORK)
    good = material
    if case.first is not None:
        good = case.first()
        access = replace(access, acting=good)
    return RowUnderTest(
        name=name,
        method=row.method,
        card=row.card,
        can=row.can,
        access=access,
        good=good,
        identity=row.can.verifier.verify(access, good).identity,
        wrong=case.wrong(good),
        codes=case.codes,
        aimed=lambda aim: replace(access, settings={**settings, **case.aim(aim)}),
        throttled=case.throttled,
        elsewhere=partial(case.elsewhere, access) if case.elsewhere else None,
        **({"lost": partial(case.lost, access)} if case.lost else {}),
        **({"consent": case.consent} if case.consent else {}),
        register=case.register,
        reads=case.reads,
        slot=case.slot,
        nameless=case.nameless,
        server_speaks_first=case.server_speaks_first,
        own_words=case.own_words,
        secured=case.secured,
        to_tls=case.to_tls,
        throttle_says_wait=case.throttle_says_wait,
        deadline_s=case.deadline_s,
    )


@contextmanager
def undone(begin: Callable[[], object], end: Callable[[], object]) -> Iterator[None]:
    begin()
    try:
        yield
    finally:
        end()


def spoiled(there: StandIn, op: str) -> Callable[[str], AbstractContextManager[object]]:
    """The stand-in answers its next `op` with nonsense of a kind."""
    return lambda kind: undone(partial(there.arm, op, kind), there.disarm)


def url_of(task: Task) -> str:
    return next(str(each["url"]) for each in task.instructions if each.get("url"))


def granted(case: Case, consent: Callable[[str], str]) -> Material:
    """A first grant, as the hub would get it."""
    import secrets

    catalog = case.catalog()
    row = catalog.row(case.system, case.method, case.values, case.definition_hash)
    settings, material, admin = read_form("a row", row.method, case.values)
    access = Access(settings, material, admin, 10.0, NETWORK)
    session = {
        "state": secrets.token_urlsafe(24),
        "code_verifier": secrets.token_urlsafe(48),
        "redirect_uri": "http://127.0.0.1:8425/oauth/callback",
    }
    assert row.can.authorizer is not None
    callback = consent(row.can.authorizer.begin(access, session))
    return row.can.authorizer.read(
        access, row.can.authorizer.exchange(access, session, callback), None
    ).material


@contextmanager
def granted_elsewhere(
    case: Case, consent: Callable[[str], str], access: Access
) -> Iterator[tuple[Access, Material]]:
    yield access, granted(case, consent)

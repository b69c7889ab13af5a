"""What a system's definition says, typed. Read from `connectors/<system>/definition.yaml` by `definitions.system`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from keyturn.model.card import Card

PROVEN = "proven_account"


@dataclass(frozen=True)
class Field:
    """One form field: the CLI prompt, the web form, the API schema and the docs page all come from it.

    Fields with `secret` or `part` become parts of the credential's material; `part` without `secret` is a public part
    (a user name, a key id). `group` "admin" puts them in the administrator's material instead.
    """

    name: str
    label: str
    help: str = ""
    example: str = ""
    pattern: str = ""
    kind: str = "text"  # text | integer | port | boolean | choice | file
    choices: tuple[str, ...] = ()
    default: Any = None
    required: bool = True
    secret: bool = False
    part: bool = False
    group: str = ""
    source: str = ""


@dataclass(frozen=True)
class Source:
    """Where a vendor fact comes from and when it was checked (ISO date)."""

    title: str
    url: str = ""
    checked: str = ""
    unconfirmed: bool = False


EGRESS = "this hub's addresses"


@dataclass(frozen=True)
class Permission:
    """A right somebody needs: the vendor's own name for it, who needs it, what for, and how to grant it.

    Where `who` is `EGRESS`, pages also show the addresses that the operator has named.
    """

    right: str
    who: str
    why: str
    grant: str = ""


@dataclass(frozen=True)
class Readable:
    """Something a job can read: what a job names for it (the form of a name, or a word; empty where nothing need be
    named), what is counted then, and what to mind."""

    name: str
    counts: str
    example: str = ""
    help: str = ""


@dataclass(frozen=True)
class GuideStep:
    """One instruction to a person. Texts may hold `${input.x}`, `${current.x}`, `${pending.x}`, `${retiring.x}`."""

    text: str
    ui_path: tuple[str, ...] = ()
    button: str = ""
    url: str = ""
    warning: str = ""
    hint: str = ""
    who: str = ""


@dataclass(frozen=True)
class Guide:
    """What people do: the guide of a variant."""

    create: tuple[GuideStep, ...] = ()
    revoke: tuple[GuideStep, ...] = ()
    recovery: tuple[GuideStep, ...] = ()
    paste_fields: tuple[str, ...] = ()
    requires_pause: bool = False


@dataclass(frozen=True)
class Variant:
    """Another card for the same method, chosen by the value of a field (one role or two, one agent or two).

    `needs` are fields that it requires besides; `guide`, where given, takes the place of the method's guide.
    """

    name: str
    field: str
    equals: str
    card: Card
    needs: tuple[str, ...] = ()
    guide: Guide | None = None


@dataclass(frozen=True)
class Method:
    """One row: how one authenticates to a system by this method."""

    name: str
    title: str
    direction: str  # outbound | inbound
    summary: str
    fields: tuple[Field, ...]
    card: Card
    principal: tuple[
        str, ...
    ]  # the fields that together name the remote account; PROVEN: whoever the test says it is
    variants: tuple[Variant, ...] = ()
    create_steps: tuple[GuideStep, ...] = ()
    revoke_steps: tuple[GuideStep, ...] = ()
    recovery_steps: tuple[GuideStep, ...] = ()
    paste_fields: tuple[str, ...] = ()
    requires_pause: bool = False
    handover: bool = False  # another party puts every new one in its place: a person has to tell them
    permissions: tuple[Permission, ...] = ()
    reads: tuple[Readable, ...] = ()
    sources: tuple[Source, ...] = ()
    unsupported: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)  # variables of `keyturn lease`: NAME -> expression
    calls: Mapping[str, str] = field(
        default_factory=dict
    )  # what plans show: capability's verb -> the vendor's own words
    rest: Any = None  # a definitions.Definition where the row is declarative

    def card_for(self, settings: Mapping[str, Any]) -> Card:
        """The card that holds for these settings."""
        variant = self.variant_for(settings)
        return self.card if variant is None else variant.card

    def variant_for(self, settings: Mapping[str, Any]) -> Variant | None:
        """The variant that these settings choose, if any."""
        return next((v for v in self.variants if str(settings.get(v.field, "")) == v.equals), None)

    def fitting(self, settings: Mapping[str, Any]) -> Method:
        """The method as these settings make it: the variant's guide, and its needs required."""
        variant = self.variant_for(settings)
        if variant is None:
            return self
        found = self
        if variant.needs:
            fields = tuple(replace(f, required=True) if f.name in variant.needs else f for f in self.fields)
            found = replace(found, fields=fields)
        if variant.guide is not None:
            found = replace(
                found,
                create_steps=variant.guide.create,
                revoke_steps=variant.guide.revoke,
                recovery_steps=variant.guide.recovery,
                paste_fields=variant.guide.paste_fields,
                requires_pause=variant.guide.requires_pause,
            )
        return found

    def field(self, name: str) -> Field | None:
        """The field of this name, if any."""
        return next((f for f in self.fields if f.name == name), None)


@dataclass(frozen=True)
class System:
    """A vendor or kind of endpoint with its methods."""

    name: str
    title: str
    summary: str
    docs: tuple[str, ...]
    methods: tuple[Method, ...]
    category: str = ""  # under which heading it is offered
    single: bool = False  # one connection to it at most, which all jobs and sources share

    def method(self, name: str) -> Method | None:
        """The method of this name, if any."""
        return next((m for m in self.methods if m.name == name), None)

"""What a definition implies: form fields, the capability card, the remote reference of a pasted credential."""

from __future__ import annotations

from collections.abc import Mapping

from keyturn.contract.manifest import Field, Readable
from keyturn.definitions.auth import Basic, Login, NoAuth, OAuth
from keyturn.definitions.expressions import Template
from keyturn.definitions.model import Definition, Input, Part, RequestSpec
from keyturn.model.card import Card, GapClass, Hands, Proof, RevokeScope, Strategy
from keyturn.model.credential import Ref

_AUTOMATIC = {
    "create_then_revoke": (Strategy.MANY_IDS, GapClass.Z0),
    "set_value": (Strategy.SET_ONE, GapClass.Z1),
    "in_place": (Strategy.REGENERATE, GapClass.Z2),
}


def fields(definition: Definition) -> tuple[Field, ...]:
    """Inputs, then the credential's parts, then the administrator's."""
    consent = isinstance(definition.auth, OAuth) and definition.auth.kind == "oauth2_code"
    own = () if consent and not definition.parts else definition.parts
    return (
        *(_input(i) for i in definition.inputs),
        *(_part(p, "") for p in own),
        *(_part(p, "admin") for p in definition.admin_parts),
    )


def _input(source: Input) -> Field:
    return Field(
        name=source.name,
        label=source.title,
        help=source.help,
        example=source.example,
        pattern=source.pattern,
        kind=source.kind,
        choices=source.choices,
        default=source.default,
        required=source.required,
        source=source.source,
    )


def _part(source: Part, group: str) -> Field:
    return Field(
        name=source.name,
        label=source.title,
        help=source.help,
        example=source.example,
        pattern=source.pattern,
        required=source.required,
        secret=source.secret,
        part=True,
        group=group,
        source=source.source,
    )


def card(definition: Definition) -> Card:
    """The capability card: strategy from the mode, grade of proof from what the test and the inventory can show."""
    rotation, manual = definition.rotation, definition.manual
    if isinstance(definition.auth, NoAuth):
        return Card(
            Strategy.NOTHING,
            Hands.AUTOMATIC,
            GapClass.Z0,
            Proof.DA,
            slots=None,
            call_deadline_s=definition.timeout_s,
        )
    strategy, gap = _AUTOMATIC.get(rotation.mode, (Strategy.SUPPLIED, GapClass.Z0))
    if rotation.mode == "reconsent" or _consented(definition):
        strategy = Strategy.CONSENT
    elif rotation.mode == "manual" and _one_at_a_time(definition):
        strategy, gap = Strategy.REGENERATE, GapClass.Z2
    many = strategy in {Strategy.MANY_IDS, Strategy.SUPPLIED, Strategy.CONSENT}
    shared = isinstance(definition.auth, OAuth) and definition.auth.grant_shared
    return Card(
        strategy=strategy,
        hands=Hands.AUTOMATIC if rotation.mode in _AUTOMATIC else Hands.GUIDED,
        gap_class=GapClass.Z2 if manual and manual.requires_pause else gap,
        proof=_proof(definition),
        slots=None if many else 1,
        cap=definition.max_active if many else 0,
        set_is_absolute=rotation.mode == "set_value" and rotation.actor == "manager",
        label_field=rotation.create.marker_field if rotation.create else "",
        inventory=definition.discover is not None,
        last_used=bool(definition.discover and definition.discover.last_used),
        secret_reviewable=definition.reviewable,
        revoke_scope=RevokeScope.GRANT if shared else RevokeScope.CREDENTIAL,
        new_kills_old=strategy in {Strategy.REGENERATE, Strategy.SET_ONE},
        settle_create_s=rotation.settle_create_s,
        settle_revoke_s=rotation.settle_revoke_s,
        prove_times=rotation.consecutive,
        derived_ttl_s=_derived(definition),
        lockout=definition.lockout,
        old_counts=definition.old_counts,
        admin_path=rotation.actor == "manager" and rotation.mode in _AUTOMATIC,
        call_deadline_s=definition.timeout_s,
    )


def _consented(definition: Definition) -> bool:
    auth = definition.auth
    return isinstance(auth, OAuth) and auth.kind == "oauth2_code" and definition.rotation.mode == "manual"


def _one_at_a_time(definition: Definition) -> bool:
    manual = definition.manual
    if manual is not None and manual.effect != "unknown":
        return manual.effect == "old_dies_immediately"
    return not definition.overlap or definition.max_active == 1


def _proof(definition: Definition) -> Proof:
    """D2 needs a test that refuses a bogus credential, and an old value that may be tried without locking the new."""
    check = definition.rotation.dead_check
    tried = definition.test.negative_control and check is not None and bool(check.expect)
    if tried and not definition.old_counts:
        return Proof.D2
    return Proof.D1 if definition.discover is not None else Proof.DA


def _derived(definition: Definition) -> float:
    auth = definition.auth
    if isinstance(auth, OAuth):
        return auth.default_ttl_s
    return auth.ttl_s if isinstance(auth, Login) else 0.0


def ref_of(definition: Definition, parts: Mapping[str, str]) -> Ref:
    """The remote reference inside a credential's own parts, for one that a person pasted; empty without a handle."""
    handle = definition.rotation.create.handle if definition.rotation.create else ""
    return Ref(id=parts.get(handle, "")) if handle else Ref()


def principal_of(definition: Definition) -> tuple[str, ...]:
    """The fields that name the account: as written, else the inputs and the public parts that no rotation changes."""
    if definition.principal:
        return definition.principal
    create = definition.rotation.create
    changed = set(create.extract) if create else set()
    changed |= set(definition.manual.paste_fields) if definition.manual else set()
    stable = tuple(p.name for p in definition.parts if not p.secret and p.name not in changed)
    return (*(i.name for i in definition.inputs), *stable)


def row_of(definition: Definition) -> str:
    """Which `custom-rest` method a user's definition belongs to."""
    if isinstance(definition.auth, NoAuth):
        return "none"
    if isinstance(definition.auth, Basic):
        return "basic"
    return "oauth2" if isinstance(definition.auth, OAuth) else "token"


def readables(definition: Definition) -> tuple[Readable, ...]:
    """The declared samples, as people are told of them."""
    return tuple(
        Readable(
            sample.named.form if sample.named is not None else sample.name,
            sample.title,
            sample.named.example if sample.named is not None else "",
            sample.help,
        )
        for sample in definition.samples
    )


def calls_of(definition: Definition) -> dict[str, str]:
    """The declared calls as a plan shows them: method and path, with the names of what is filled in."""
    rotation = definition.rotation
    found = {"verify": _call(definition.test.request)}
    if definition.samples:
        found["read"] = ", ".join(_call(sample.request) for sample in definition.samples)
    if definition.discover is not None:
        found["list"] = _call(definition.discover.request)
    if rotation.create is not None:
        found["set" if rotation.mode == "set_value" else "issue"] = _call(rotation.create.request)
    if rotation.revoke is not None:
        found["revoke"] = _call(rotation.revoke.request)
    if isinstance(definition.auth, OAuth) and definition.auth.authorize_url is not None:
        token = _shown(definition.auth.token_url)
        found["consent"] = f"GET {_shown(definition.auth.authorize_url)}, POST {token}"
        found["refresh"] = f"POST {token} (refresh_token)"
        if definition.auth.revoke is not None:
            found["revoke"] = f"POST {_shown(definition.auth.revoke.url)}"
    return found


def _call(request: RequestSpec) -> str:
    return f"{request.method} {_shown(request.url or request.path)}"


def _shown(template: Template | None) -> str:
    """A template with its references named, as in `/api-keys/{retiring.key_id}`."""
    if template is None:
        return ""
    return "".join(piece if isinstance(piece, str) else "{" + piece.name + "}" for piece in template.pieces)

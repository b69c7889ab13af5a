"""The connector for the fault matrix's vendor of every shape: its methods, cards and calls, and the scripted person.

Written to the same contract as every real connector. Values and ids come from `keyturn_lab.vendors.shapes`.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from keyturn import boundary
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.manifest import Field, GuideStep, Method, System, Variant
from keyturn.contract.values import Access, Candidate, Remote
from keyturn.errors import (
    CapReached,
    CredentialRejected,
    InvalidInput,
    KeyturnError,
    NotDone,
    NotFound,
    OutcomeUnknown,
    PermissionMissing,
    UnexpectedAnswer,
    ValueRefused,
    VendorThrottled,
    VendorUnavailable,
)
from keyturn.model.card import Card, GapClass, Hands, Lockout, Proof, RevokeScope, Strategy
from keyturn.model.credential import Ref
from keyturn.model.secret import Material
from keyturn.model.verdict import Probe, Verdict, accepted, rejected, unknown
from keyturn_lab.vendors.shapes import Client, Refused, Unanswered
from keyturn_lab.vendors.shapes.client import result

SYSTEM = "shapes"
DEADLINE_S = 0.15  # what the card says: how long an unanswered call is waited out
ANSWER_S = 5.0  # how long one is really waited for: the vendor closes at once where it means silence, a busy machine is slow
SETTLE_S = 0.05
APPLY_LAG_S = 0.05
CAP = 5
LOCKOUT = Lockout(max_failures=5, window_s=3600.0)
AUTHORIZE_URL = "https://shapes.invalid/authorize"
_READS = frozenset({"login", "list"})
_MARKER = "ktlab"  # what the leak scan looks for; the lab's guard has it too but imports a web server
_PUBLIC = frozenset({"key_id", "grant_id", "slot", "user"})

# What `create` must be told so that the vendor behaves as the method's card says.
SHAPES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "two_slots": ("two_slots", {}),
    "many_ids": ("many_ids", {"cap": CAP}),
    "bucket": ("many_ids", {"cap": 2, "strangers": 0}),
    "named_slots": ("named_slots", {}),
    "one_slot": ("one_slot", {}),
    "one_slot_self": (
        "one_slot",
        {
            "admin": False,
            "lockout": {"max_failures": LOCKOUT.max_failures, "window_s": LOCKOUT.window_s},
        },
    ),
    "regenerate": ("regenerate", {}),
    "regenerate_person": ("regenerate", {}),
    "supplied": ("supplied", {"cap": 0}),
    "by_hand": ("many_ids", {"cap": CAP}),
    "grant": ("grant", {}),
}


# -- what the product is told --------------------------------------------------------------------------------------


def capabilities(method: str, settings: Mapping[str, Any]) -> Capabilities:
    """What a method can do. Every call takes its address from `access.settings`. Raises: InvalidInput."""
    del settings
    keys, slots, grants = Keys(), Slots(), Grants()
    found = {
        "two_slots": Capabilities(
            Login(), lister=slots, maker=slots, setter=slots, revoker=slots, dropper=Principal()
        ),
        "many_ids": Capabilities(
            Login(), lister=keys, issuer=keys, disabler=keys, revoker=keys, dropper=Principal()
        ),
        "bucket": Capabilities(
            Login(), lister=keys, issuer=Unlabelled(), disabler=keys, revoker=keys, dropper=Principal()
        ),
        "named_slots": Capabilities(Login(), lister=slots, issuer=slots, revoker=slots, dropper=Principal()),
        "one_slot": Capabilities(Login(), maker=slots, setter=slots, dropper=Principal()),
        "one_slot_self": Capabilities(Login(), maker=slots, setter=slots, dropper=Principal()),
        "regenerate": Capabilities(Login(), issuer=slots, dropper=Principal()),
        "regenerate_person": Capabilities(Login(), dropper=Principal()),
        "supplied": Capabilities(Login(), lister=keys),
        "by_hand": Capabilities(Login(), lister=keys),
        "grant": Capabilities(Login(), revoker=grants, authorizer=grants),
    }.get(method)
    if found is None:
        raise InvalidInput(f"{SYSTEM} has no method {method!r}", field="method")
    return replace(found, locator=Places())


def ref_of(material: Material) -> Ref:
    """Where a value that somebody typed in sits at the vendor. No network."""
    if "grant_id" in material or "key_id" in material:
        return Ref(id=material.get("grant_id") or material["key_id"])
    # who pastes the one key there is names no slot
    return _slot_ref(material.get("slot", "key"), fingerprint(material["secret"]))


def fingerprint(value: str) -> str:
    """What the vendor shows in public of a value."""
    return hashlib.sha256(value.encode()).hexdigest()[:16]


def system(
    *, settle_s: float = SETTLE_S, call_deadline_s: float = DEADLINE_S, apply_lag_s: float = APPLY_LAG_S
) -> System:
    """The whole definition, with cards as fast as a test needs them."""
    fast: dict[str, Any] = {
        "settle_create_s": settle_s,
        "settle_revoke_s": settle_s,
        "call_deadline_s": call_deadline_s,
        "apply_lag_s": apply_lag_s,
    }
    return System(
        name=SYSTEM,
        title="Every shape",
        summary="The fault matrix's vendor",
        docs=(),
        methods=tuple(_method(name, replace(card, **fast)) for name, card in _CARDS.items()),
    )


# A key to the hub's own bucket: two at most, no label, and another party puts each new one in its place.
_BUCKET = Card(
    Strategy.MANY_IDS,
    Hands.AUTOMATIC,
    GapClass.Z0,
    Proof.D2,
    slots=None,
    cap=2,
    inventory=True,
    last_used=True,
    disable_first=True,
)
_CARDS: Mapping[str, Card] = {
    "bucket": _BUCKET,
    "two_slots": Card(
        Strategy.TWO_SLOTS,
        Hands.AUTOMATIC,
        GapClass.Z0,
        Proof.D2,
        slots=2,
        slot_names=("a", "b"),
        set_is_absolute=True,
        inventory=True,
    ),
    "many_ids": Card(
        Strategy.MANY_IDS,
        Hands.AUTOMATIC,
        GapClass.Z0,
        Proof.D2,
        slots=None,
        cap=CAP,
        label_field="label",
        inventory=True,
        last_used=True,
        disable_first=True,
    ),
    "named_slots": Card(
        Strategy.NAMED_SLOTS,
        Hands.AUTOMATIC,
        GapClass.Z0,
        Proof.D2,
        slots=2,
        slot_names=("k1", "k2"),
        inventory=True,
    ),
    "one_slot": Card(
        Strategy.SET_ONE,
        Hands.AUTOMATIC,
        GapClass.Z1,
        Proof.D2,
        set_is_absolute=True,
        new_kills_old=True,
        admin_path=True,
        reconcile_path=True,
    ),
    "one_slot_self": Card(
        Strategy.SET_ONE,
        Hands.AUTOMATIC,
        GapClass.Z1,
        Proof.D1,
        set_is_absolute=True,
        new_kills_old=True,
        lockout=LOCKOUT,
        old_counts=True,
    ),
    "regenerate": Card(Strategy.REGENERATE, Hands.AUTOMATIC, GapClass.Z2, Proof.D2, new_kills_old=True),
    "regenerate_person": Card(Strategy.REGENERATE, Hands.GUIDED, GapClass.Z2, Proof.D2, new_kills_old=True),
    "supplied": Card(
        Strategy.SUPPLIED, Hands.GUIDED, GapClass.Z0, Proof.D2, slots=None, inventory=True, last_used=True
    ),
    "by_hand": Card(
        Strategy.SUPPLIED, Hands.GUIDED, GapClass.Z0, Proof.D2, slots=None, inventory=True, last_used=True
    ),
    "grant": Card(Strategy.CONSENT, Hands.AUTOMATIC, GapClass.Z0, Proof.D2, slots=None),
}


def _method(name: str, card: Card) -> Method:
    return Method(
        name=name,
        title=name.replace("_", " "),
        direction="outbound",
        summary=f"The vendor's shape {SHAPES[name][0]}",
        fields=(*_SETTINGS, *_parts(name)),
        card=card,
        principal=("address", "principal"),
        variants=_variants(name, card),
        create_steps=(GuideStep("Create a key for ${input.principal} and copy it"),),
        revoke_steps=(
            GuideStep(f"Delete the key {_HANDLES.get(name, '${retiring.slot}')} of ${{input.principal}}"),
        ),
        recovery_steps=(GuideStep("Ask the vendor's support to reset ${input.principal}"),),
        paste_fields=_PASTED.get(name, ()),
        requires_pause=name == "regenerate_person",
        handover=name == "bucket",
    )


_PASTED = {
    "supplied": ("key_id", "secret"),
    "by_hand": ("key_id", "secret"),
    "regenerate_person": ("secret",),
}
_HANDLES = dict.fromkeys(("many_ids", "bucket", "supplied", "by_hand", "grant"), "${retiring.key_id}")


def _variants(name: str, card: Card) -> tuple[Variant, ...]:
    if name == "grant":
        whole = replace(card, revoke_scope=RevokeScope.GRANT)
        return (Variant("whole grant", "revoke_scope", "grant", whole),)
    if name in {"two_slots", "supplied"}:
        locking = replace(card, lockout=LOCKOUT, old_counts=True, proof=Proof.D1)
        return (Variant("locking", "lockout", "yes", locking),)
    if name in {"named_slots", "regenerate"}:
        return (Variant("reviewable", "reviewable", "yes", replace(card, secret_reviewable=True)),)
    return ()


_SETTINGS = (
    Field("address", "Where the vendor listens"),
    Field("principal", "Principal"),
    Field("by", "Name in the oracle's history", default="hub", required=False),
    Field("revoke_scope", "What a revoke ends", default="credential", required=False),
    Field("reviewable", "Values can be read again", default="no", required=False),
    Field("lockout", "Wrong logins lock the account", default="no", required=False),
)


def _parts(name: str) -> tuple[Field, ...]:
    secret = Field("secret", "Secret", kind="text", secret=True)
    if name == "grant":
        return (
            Field("grant_id", "Grant", part=True, required=False),
            Field("access_token", "Access token", secret=True, required=False),
            Field("refresh_token", "Refresh token", secret=True, required=False),
        )
    if name in {"many_ids", "bucket", "supplied", "by_hand"}:
        return (Field("key_id", "Key id", part=True), secret)
    slot = Field("slot", "Slot", part=True)
    if name in {"one_slot", "regenerate"}:
        admin = Field(
            "admin_secret", "Administrator's secret", secret=True, group="admin", required=name == "one_slot"
        )
        return (slot, secret, admin)
    return (slot, secret)


# -- the calls -----------------------------------------------------------------------------------------------------


class Login:
    """Logs in, once and afresh."""

    def verify(self, access: Access, material: Material) -> Probe:
        params = {"value": _value(material)}
        if "user" in material:
            params["user"] = material["user"]
        try:
            said = result(_ask(access, "login", **params))
        except Unanswered:
            return unknown("no_answer", "the vendor did not answer")
        except Refused as no:
            return unknown(
                no.error, "the vendor answered with an error", float(no.facts.get("wait_s") or 0.0)
            )
        except ValueError:
            return unknown("unexpected", "the answer is outside the documented shape")
        if said["verdict"] == "accepted":
            return accepted(said["principal"], tenant=said["tenant"], rights=frozenset(said["rights"]))
        if said["verdict"] == "locked":
            return Probe(Verdict.UNKNOWN, code="locked", locked=True, wait_s=float(said["wait_s"] or 0.0))
        return rejected(said["code"])

    def bogus(self, material: Material) -> Material:
        """A user who does not exist, so that it counts against nobody."""
        made_up = {name: _new_value() for name in material if name not in _PUBLIC}
        return Material({**material, **made_up, "user": f"nobody-{secrets.token_hex(4)}"}, _PUBLIC)


class Keys:
    """Credentials with ids, whose values the vendor makes and shows once."""

    def list(self, access: Access) -> tuple[Remote, ...]:
        return tuple(
            Remote(
                Ref(id=each["id"], label=each["label"]),
                active=each["active"],
                created_at=each["created_at"],
                last_used_at=each["last_used_at"],
            )
            for each in _call(access, "list")
        )

    def issue(self, access: Access, slot: Ref) -> bytes:
        return _raw(access, "issue", label=access.marker)

    def read(self, access: Access, receipt: bytes) -> Candidate:
        said = _receipt(receipt)
        parts = {"key_id": said["id"], "secret": said["value"]}
        return Candidate(Ref(id=said["id"], label=said["label"]), Material(parts, _PUBLIC))

    def disable(self, access: Access, ref: Ref) -> None:
        """Also done when it is gone: nothing is more off than that."""
        try:
            _call(access, "disable", id=ref.id)
        except NotFound:
            return

    def enable(self, access: Access, ref: Ref) -> None:
        """Raises: NotFound when it was deleted meanwhile."""
        _call(access, "enable", id=ref.id)

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        held = {"value": material["secret"]} if material else {}
        try:
            _call(access, "delete", id=ref.id, **held)
        except NotFound:
            return


class Unlabelled(Keys):
    """The same where a credential takes no label of ours, as at AWS."""

    def issue(self, access: Access, slot: Ref) -> bytes:
        return _raw(access, "issue", label="")


class Places:
    """Every value here says itself where it sits."""

    def locate(self, access: Access, material: Material) -> Ref:
        return ref_of(material)


class Slots:
    """Credentials in named places, told apart by their public fingerprint."""

    def list(self, access: Access) -> tuple[Remote, ...]:
        return tuple(
            Remote(_slot_ref(each["slot"], each["fingerprint"]), each["active"], each["created_at"])
            for each in _call(access, "list")
        )

    def make(self, access: Access, slot: Ref) -> Candidate:
        if not slot.slot:
            raise InvalidInput("the slot to write is not named", field="slot")
        value = _new_value()
        return Candidate(
            _slot_ref(slot.slot, fingerprint(value)), Material({"slot": slot.slot, "secret": value}, _PUBLIC)
        )

    def set(self, access: Access, ref: Ref, material: Material) -> None:
        _call(access, "set", slot=ref.slot, value=material["secret"])

    def issue(self, access: Access, slot: Ref) -> bytes:
        return _raw(access, "regenerate", slot=slot.slot)

    def read(self, access: Access, receipt: bytes) -> Candidate:
        said = _receipt(receipt)
        parts = {"slot": said["slot"], "secret": said["value"]}
        return Candidate(_slot_ref(said["slot"], said["fingerprint"]), Material(parts, _PUBLIC))

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Names the value as well as the slot: one that holds another value by now is not ours to clear."""
        _call(access, "clear", slot=ref.slot, fingerprint=ref.fingerprint)


class Principal:
    """The remote identity itself."""

    def drop(self, access: Access) -> None:
        try:
            _call(access, "drop")
        except NotFound:
            return


class Grants:
    """OAuth with PKCE, rotating refresh tokens and revocation by token."""

    def begin(self, access: Access, session: Mapping[str, str]) -> str:
        digest = hashlib.sha256(session["code_verifier"].encode()).digest()
        query = {
            "address": str(access.settings["address"]),
            "principal": str(access.settings["principal"]),
            "state": session["state"],
            "redirect_uri": session["redirect_uri"],
            "code_challenge": urlsafe_b64encode(digest).rstrip(b"=").decode(),
        }
        return f"{AUTHORIZE_URL}?{urlencode(query)}"

    def exchange(self, access: Access, session: Mapping[str, str], callback: str) -> bytes:
        """A code used before or run out is InvalidInput too: nothing was changed and only a new consent helps."""
        came = {name: values[0] for name, values in parse_qs(urlsplit(callback).query).items()}
        if "error" in came:
            raise InvalidInput("the consent was not given", hint="Consent again.", field="callback_url")
        if not secrets.compare_digest(came.get("state", ""), session["state"]) or not came.get("code"):
            raise InvalidInput("the callback belongs to another consent", field="callback_url")
        try:
            return _raw(
                access,
                "exchange",
                code=came["code"],
                verifier=session["code_verifier"],
                redirect_uri=session["redirect_uri"],
            )
        except CredentialRejected:
            raise InvalidInput(
                "the code was used already or has run out", hint="Consent again.", field="callback_url"
            ) from None

    def refresh(self, access: Access, material: Material) -> bytes:
        return _raw(access, "refresh", value=material["refresh_token"])

    def read(self, access: Access, receipt: bytes, previous: Material | None) -> Candidate:
        said = _receipt(receipt)
        kept = previous.get("refresh_token", "") if previous else ""
        parts = {
            "grant_id": said["grant_id"],
            "access_token": said["access_token"],
            "refresh_token": said.get("refresh_token", kept),
        }
        return Candidate(
            Ref(id=said["grant_id"]), Material(parts, _PUBLIC), expires_at=float(said["expires_at"])
        )

    def revoke(self, access: Access, ref: Ref, material: Material | None) -> None:
        """Raises: NotDone without the token: only a person can end a grant whose token is lost."""
        if material is None:
            raise NotDone("the grant cannot be revoked without its token", hint="End it at the vendor.")
        _call(access, "revoke", value=material.get("refresh_token") or material["access_token"])


def _slot_ref(slot: str, print_: str) -> Ref:
    return Ref(slot=slot, fingerprint=print_)


def _new_value() -> str:
    return _MARKER + secrets.token_urlsafe(24)


def _value(material: Material) -> str:
    return next((material[name] for name in _VALUES if material.get(name)), "")


_VALUES = ("admin_secret", "secret", "access_token")


def _ask(access: Access, op: str, **params: Any) -> bytes:
    """One call over a fresh connection. Raises: Unanswered."""
    boundary.leaving(SYSTEM)
    client = Client(
        str(access.settings["address"]),
        deadline_s=ANSWER_S,
        by=str(access.settings.get("by") or "hub"),
        keep=False,
    )
    return client.ask(op, principal=str(access.settings["principal"]), **params)


def _raw(access: Access, op: str, **params: Any) -> bytes:
    """The raw answer of a call that succeeded, signed by whoever acts. Raises: our errors only."""
    signer = access.admin or access.acting
    auth = {"auth": _value(signer)} if signer else {}
    try:
        raw = _ask(access, op, **auth, **params)
        result(raw)
        return raw
    except Unanswered as lost:
        if lost.sent and op not in _READS:
            raise OutcomeUnknown(f"the answer to {op} is lost", vendor=SYSTEM, operation=op) from None
        raise VendorUnavailable("the vendor did not answer", vendor=SYSTEM, operation=op) from None
    except Refused as no:
        raise _ours(op, no) from None
    except ValueError:
        raise UnexpectedAnswer(
            "the answer is outside the documented shape", vendor=SYSTEM, operation=op
        ) from None


def _call(access: Access, op: str, **params: Any) -> Any:
    return result(_raw(access, op, **params))


def _receipt(raw: bytes) -> Mapping[str, Any]:
    """What a sealed answer holds. Raises: UnexpectedAnswer."""
    try:
        said = json.loads(raw)["result"]
    except (ValueError, KeyError, TypeError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise UnexpectedAnswer("the sealed answer is outside the documented shape", vendor=SYSTEM)
    return said


def _ours(op: str, no: Refused) -> KeyturnError:
    """Every refusal is documented as "nothing was changed"."""
    facts: dict[str, Any] = {
        "vendor": SYSTEM,
        "operation": op,
        "status": no.facts.get("status"),
        "code": no.error,
    }
    wait_s = float(no.facts.get("wait_s") or 0.0)
    match no.error:
        case "throttled":
            return VendorThrottled("the vendor asks to wait", wait_s=wait_s, **facts)
        case "locked":
            return VendorUnavailable("the account is locked", locked=True, wait_s=wait_s, **facts)
        case "unavailable":
            return VendorUnavailable("the vendor had an error and changed nothing", **facts)
        case "refused":
            return ValueRefused(f"the vendor's {no.facts.get('why')} refuses the value", **facts)
        case "cap":
            return CapReached("the vendor holds as many credentials as it will", **facts)
        case "unauthorized" | "invalid_grant":
            return CredentialRejected(f"the vendor refused the credential that calls {op}", **facts)
        case "forbidden":
            return PermissionMissing("the credential may not do this", right=no.facts.get("right"), **facts)
        case "not_found":
            return NotFound("the vendor has no such credential", **facts)
        case _:
            return InvalidInput("the vendor calls the request malformed", **facts)


# -- what a test does ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Provisioned:
    """A fresh principal as a connection needs it; `said` is the vendor's answer with the strangers' ids."""

    settings: Mapping[str, str]
    material: Material
    ref: Ref
    admin: Material | None
    said: Mapping[str, Any]


def provision(client: Client, method: str, principal: str, **options: Any) -> Provisioned:
    """Creates a principal whose behaviour fits the method's card; `options` are the vendor's, laid over ours."""
    shape, ours = SHAPES[method]
    chosen = {**ours, **options}
    said = client.call("create", principal=principal, shape=shape, options=chosen)
    first = said["credential"]
    if shape == "grant":
        names = ("grant_id", "access_token", "refresh_token")
        material = Material({name: first[name] for name in names}, _PUBLIC)
    elif first["slot"]:
        material = Material({"slot": first["slot"], "secret": first["value"]}, _PUBLIC)
    else:
        material = Material({"key_id": first["id"], "secret": first["value"]}, _PUBLIC)
    settings = {"address": client.address, "principal": principal, "by": "hub"}
    if chosen.get("revoke_scope") == "grant":
        settings["revoke_scope"] = "grant"
    if chosen.get("reviewable"):
        settings["reviewable"] = "yes"
    if chosen.get("lockout") and method != "one_slot_self":
        settings["lockout"] = "yes"
    admin = Material({"admin_secret": said["admin"]}) if said["admin"] else None
    return Provisioned(settings, material, ref_of(material), admin, said)


def person_supplies(client: Client, principal: str) -> str:
    """A person makes a key on the vendor's page and copies it. Raises: Unanswered, Refused."""
    said = client.call("issue", principal=principal, by="person")
    return str(said["value"])


def person_resets(client: Client, principal: str) -> str:
    """A person resets the one key on the vendor's page, which ends the old one, and copies it. Raises: as above."""
    said = client.call("regenerate", principal=principal, by="person")
    return str(said["value"])


def pasted(value: str) -> dict[str, str]:
    """What the person types into the task for a value from `person_supplies`."""
    return {"key_id": value.partition("/")[0], "secret": value}


def person_consents(authorize_url: str, *, deny: bool = False, **consent: Any) -> str:
    """A person agrees in the browser (or not): the address they are sent back to. Raises: Unanswered, Refused.

    `consent` may hold `rights` (a person grants fewer) and `offline` (False: no refresh token).
    """
    asked = {name: values[0] for name, values in parse_qs(urlsplit(authorize_url).query).items()}
    if deny:
        return f"{asked['redirect_uri']}?{urlencode({'error': 'access_denied', 'state': asked['state']})}"
    said = Client(asked["address"], keep=False).call(
        "consent",
        principal=asked["principal"],
        by="person",
        redirect_uri=asked["redirect_uri"],
        challenge=asked["code_challenge"],
        **consent,
    )
    return f"{asked['redirect_uri']}?{urlencode({'code': said['code'], 'state': asked['state']})}"


def person_deletes(client: Client, principal: str, which: str) -> None:
    """A person ends a credential on the vendor's page, by its id or slot; already gone counts as done."""
    try:
        client.call("delete", principal=principal, by="person", id=which)
    except Refused as no:
        if no.error != "not_found":
            raise

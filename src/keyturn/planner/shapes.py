"""The parts plans are put together from, one small function each: what differs between strategies lives here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from shlex import quote

from keyturn.model.card import GapClass, Hands, RevokeScope, Strategy
from keyturn.model.credential import State
from keyturn.model.plan import Goal, Kind, Step, says
from keyturn.planner.situation import Situation

ONE_SLOT = frozenset({Strategy.SET_ONE, Strategy.REGENERATE})


# Made by the hub with the credential itself, so without one and without an administrator there is nothing to act with.
_SELF_MADE = frozenset(
    {Strategy.TWO_SLOTS, Strategy.MANY_IDS, Strategy.NAMED_SLOTS, Strategy.SET_ONE, Strategy.REGENERATE}
)


def call(situation: Situation, verb: str, otherwise: str) -> str:
    """The vendor's own words for a call, as the row's definition gives them."""
    return situation.method.calls.get(verb, otherwise)


def preflight(situation: Situation) -> Step:
    """Look only: nothing is changed before this is green."""
    looks = (
        ["administrator's access works"]
        if situation.has_admin
        else ["current credential works, as the right account"]
    )
    if situation.card.inventory:
        looks.append("inventory matches the ledger")
    if situation.card.slots != 1:
        looks.append("a slot is free")
    return Step("preflight", Kind.PREFLIGHT, "Check before anything changes", call=", ".join(looks))


def free_slot(situation: Situation) -> str:
    """The named slot a new credential goes to: the one the current version is not in."""
    names = situation.card.slot_names
    current = situation.current
    used = current.ref.slot if current else ""
    return next((name for name in names if name != used), "")


def stage(situation: Situation, *, consents: bool = False) -> tuple[Step, ...]:
    """How the new credential comes to be. `consents`: by a person's consent, where the vendor has a page for that."""
    card, slot = situation.card, free_slot(situation)
    asks = (
        consents and "authorizer" in situation.can and (situation.has_admin or situation.current is not None)
    )
    where = f" in slot {slot}" if slot else ""
    final = card.strategy in ONE_SLOT and card.new_kills_old
    if not asks and situation.current is None and not situation.has_admin and card.strategy in _SELF_MADE:
        return (
            Step(
                "stage",
                Kind.ASK,
                "A person brings a credential that works",
                who="person",
                params={"recovery": True},
            ),
        )
    if not asks and card.strategy in {Strategy.TWO_SLOTS, Strategy.SET_ONE, Strategy.ISSUED}:
        one = card.strategy is Strategy.SET_ONE
        by = "administrator" if situation.has_admin else "the credential itself"
        return (
            Step(
                "stage",
                Kind.SET,
                f"Seal a new value, then set it{where}",
                call=f"set the value{where}, signed in as {by}"
                if card.strategy is not Strategy.ISSUED
                else "",
                reversible=not one,
                params={"slot": slot},
            ),
        )
    if asks or card.strategy is Strategy.CONSENT:
        return (
            *_client(situation),
            Step(
                "stage",
                Kind.CONSENT,
                "A person consents in the browser; the answer is sealed, then checked",
                who="person",
                call=call(situation, "consent", "authorization page, then token endpoint"),
            ),
        )
    if card.hands is Hands.GUIDED or "issuer" not in situation.can:
        return (
            Step(
                "stage",
                Kind.ASK,
                f"A person {'resets' if final else 'creates'} the credential and pastes it",
                who="person",
                reversible=not final,
                params={"pause": situation.method.requires_pause},
            ),
        )
    return (
        Step(
            "stage",
            Kind.ISSUE,
            f"Ask the vendor for a new credential{where}",
            call=call(situation, "issue", f"create{where}")
            + (f", labelled in {card.label_field}" if card.label_field else ""),
            reversible=not final,
            params={"slot": slot, **({"pause": True} if final and situation.method.requires_pause else {})},
        ),
    )


def _client(situation: Situation) -> tuple[Step, ...]:
    """Where a grant has a client of its own, that is registered first, beside the one in use."""
    if not situation.card.own_client:
        return ()
    if "setter" in situation.can:
        by = call(situation, "set", "register the client, signed in as administrator")
        return (Step("client", Kind.SET, "Register a second client for the new grant", call=by),)
    title = "A person registers a second client and pastes it"
    return (Step("client", Kind.ASK, title, who="person", params={"client": True}),)


def switch(situation: Situation) -> tuple[Step, ...]:
    """Proof, then the pointer."""
    return (
        Step(
            "prove",
            Kind.PROVE,
            "Log in afresh with the new one; same account, same rights",
            call=call(situation, "verify", "test call"),
        ),
        Step("cutover", Kind.CUTOVER, "Switch consumers to the new one (one local transaction)"),
    )


def jobs(situation: Situation, *, holds: bool = True) -> tuple[Step, ...]:
    """The connection's jobs, with what serves now. `holds`: the old one is kept while one of them cannot read, where
    there is still an old one to keep."""
    if "reader" not in situation.can or not situation.jobs:
        return ()
    names = ", ".join(name for _, name in situation.jobs)
    holds = holds and situation.card.strategy not in ONE_SLOT
    return (
        Step(
            "jobs",
            Kind.JOBS,
            f"Run its jobs with the new one: {names}",
            call=call(situation, "read", "read a small sample"),
            params={"jobs": [job_id for job_id, _ in situation.jobs], "holds": holds},
        ),
    )


def retire(situation: Situation) -> tuple[Step, ...]:
    """How the old one goes: only after its users are gone, reversibly first where that exists, then proven dead."""
    card = situation.card
    dead = Step(
        "prove_dead",
        Kind.PROVE_DEAD,
        "Prove that the old one is dead",
        call=call(situation, "verify", "test call"),
        target="old",
    )
    if card.strategy in ONE_SLOT:
        return (dead,)  # the new value killed it
    drain = Step("drain", Kind.DRAIN, "Wait until nobody uses the old one", who="consumer", target="old")
    told = (handover(),) if situation.method.handover else ()
    if card.strategy is Strategy.CONSENT and (
        card.revoke_scope is not RevokeScope.CREDENTIAL
        or ("revoker" not in situation.can and not card.own_client)
    ):
        if card.revoke_scope is not RevokeScope.CREDENTIAL and "death" not in situation.can:
            dead = replace(
                dead, title="Account for the old one, which shares its grant with the new one", call=""
            )
        return (drain, dead)
    steps = [*told, drain]
    if card.disable_first and "disabler" in situation.can:
        steps.append(
            Step(
                "disable",
                Kind.DISABLE,
                "Turn the old one off (reversible)",
                call=call(situation, "disable", "disable"),
                target="old",
            )
        )
        if situation.policy.soak_s:
            steps.append(Step("soak", Kind.SOAK, "Wait for complaints", target="old"))
    if "revoker" in situation.can:
        steps.append(
            Step(
                "revoke",
                Kind.REVOKE,
                "End the old one",
                call=call(situation, "revoke", "revoke"),
                target="old",
                reversible=False,
            )
        )
    else:
        steps.append(
            Step(
                "revoke",
                Kind.TELL,
                "A person deletes the old one",
                who="person",
                target="old",
                reversible=False,
            )
        )
    return (*steps, dead)


def handover() -> Step:
    """Another party holds this one: somebody tells them, and they put the new one in its place."""
    title = "A person hands the new one over; its first use, or their word, goes on"
    return Step("handover", Kind.HANDOVER, title, who="person")


def leave(situation: Situation) -> tuple[Step, ...]:
    """How the credential of a method that is left goes: nothing of the new method replaces it."""
    drain = Step("drain", Kind.DRAIN, "Wait until nobody uses the old one", who="consumer", target="old")
    alone = situation.card.revoke_scope is RevokeScope.CREDENTIAL and "revoker" in situation.can
    end = Step(
        "revoke",
        Kind.REVOKE if alone else Kind.TELL,
        "End the old one" if alone else "A person ends the old one, and nothing else of the account",
        who="hub" if alone else "person",
        call=call(situation, "revoke", "revoke") if alone else "",
        target="old",
        reversible=False,
    )
    dead = Step(
        "prove_dead",
        Kind.PROVE_DEAD,
        "Prove that the old one is dead",
        call=call(situation, "verify", "test call"),
        target="old",
    )
    return (drain, end, dead)


def other_doors(situation: Situation) -> tuple[Step, ...]:
    """Emergency: every other live version on the principal is ended too.

    So is the one that was just replaced, where it shares its grant with the new one: both die, and another is consented to.
    """
    current = situation.current
    if current is not None and shares_its_grant(situation) and "revoker" not in situation.can:
        return _whole_grant(situation)
    others = [v for v in situation.alive() if current is None or v.id != current.id]
    if "revoker" not in situation.can or not (
        others or (current is not None and shares_its_grant(situation))
    ):
        return ()
    return (
        Step(
            "revoke_others",
            Kind.REVOKE,
            "End every other live version",
            call=call(situation, "revoke", "revoke"),
            target="others",
            reversible=False,
        ),
        Step(
            "prove_others_dead",
            Kind.PROVE_DEAD,
            "Prove that the others are dead",
            call=call(situation, "verify", "test call"),
            target="others",
        ),
    )


def _whole_grant(situation: Situation) -> tuple[Step, ...]:
    """Whoever refreshed with a leaked token holds another of the same grant: only its end ends those, and no call does."""
    return (
        Step(
            "revoke_others",
            Kind.TELL,
            "A person removes the whole grant at the vendor, and then consents once more",
            who="person",
            target="others",
            reversible=False,
            params={"always": True},
        ),
        Step(
            "prove_others_dead",
            Kind.PROVE_DEAD,
            "Prove that the grant is gone, the new consent with it; then begin again",
            call=call(situation, "verify", "test call"),
            target="others",
            params={"whole_grant": True},
        ),
    )


def shares_its_grant(situation: Situation) -> bool:
    """Whether ending one consent ends the others of the same person and client."""
    card = situation.card
    return card.strategy is Strategy.CONSENT and card.revoke_scope is not RevokeScope.CREDENTIAL


def release() -> Step:
    """Before a disconnect: nobody may be using it."""
    return Step("drain", Kind.DRAIN, "Wait until nobody uses it", who="consumer", target="all")


def kill_all(situation: Situation) -> tuple[Step, ...]:
    """Disconnect: disable, then end, then prove, for every live version."""
    steps: list[Step] = []
    if situation.card.disable_first and "disabler" in situation.can:
        steps.append(
            Step(
                "disable",
                Kind.DISABLE,
                "Turn it off (reversible)",
                call=call(situation, "disable", "disable"),
                target="all",
            )
        )
    if "revoker" in situation.can:
        steps.append(
            Step(
                "revoke",
                Kind.REVOKE,
                "End it",
                call=call(situation, "revoke", "revoke"),
                target="all",
                reversible=False,
            )
        )
    else:
        steps.append(
            Step(
                "revoke",
                Kind.TELL,
                "A person ends it at the vendor",
                who="person",
                target="all",
                reversible=False,
            )
        )
    steps.append(
        Step(
            "prove_dead",
            Kind.PROVE_DEAD,
            "Prove that it is dead",
            call=call(situation, "verify", "test call"),
            target="all",
        )
    )
    return tuple(steps)


def rollback(situation: Situation) -> tuple[Step, ...]:
    """Undoing, before the point of no return: point back, take the candidate away, prove it dead."""
    if situation.card.strategy in ONE_SLOT:
        return ()
    card = situation.card
    shared = card.strategy is Strategy.CONSENT and card.revoke_scope is not RevokeScope.CREDENTIAL
    if (
        "revoker" in situation.can or shared
    ):  # a shared grant is not ended at all: that would end the old one too
        remove = Step(
            "remove",
            Kind.REMOVE,
            "Take the new one away again",
            call=call(situation, "revoke", "revoke"),
            target="new",
        )
    else:
        remove = Step("remove", Kind.TELL, "A person deletes the new one", who="person", target="new")
    return (
        Step("flip_back", Kind.FLIP_BACK, "Point consumers back at the old one", target="old"),
        Step("drain_new", Kind.DRAIN, "Wait until nobody uses the new one", who="consumer", target="new"),
        remove,
        Step(
            "candidate_dead",
            Kind.PROVE_DEAD,
            "Prove that the new one is dead",
            call=call(situation, "verify", "test call"),
            target="new",
        ),
    )


def risk(situation: Situation, steps: Sequence[Step]) -> str:
    """The moment, if there is one, in which no credential known to work is sealed, none is on its way, and the vendor
    cannot be asked again (P1). With an administrator it can be; so can it by a person at the vendor's own pages."""
    card = situation.card
    if situation.has_admin or card.strategy not in ONE_SLOT:
        return ""
    kinds = {step.kind for step in steps}
    if Kind.ISSUE in kinds and not card.secret_reviewable:
        return (
            "The call that makes the new credential ends the old one, which signs it. If its answer is lost, no known"
            " credential works until a person brings one."
        )
    if Kind.SET in kinds and card.lockout:
        return (
            "The credential replaces itself, and the vendor locks the account after"
            f" {card.lockout.max_failures} refused logins. If the answer is lost, finding out which one works may lock"
            " it, and then a person must unlock it or bring a new one."
        )
    return ""


def accepting(situation: Situation) -> str:
    """The words in which a risk is accepted; none are asked for where the policy holds them."""
    words = f"{situation.connection.name} may be lost"
    return "" if says(situation.policy.accept, words) else words


def warnings(situation: Situation, goal: Goal) -> tuple[str, ...]:
    """What somebody must know before saying yes."""
    card = situation.card
    said: list[str] = []
    if card.dies_on:
        move = f"`keyturn migrate {quote(situation.connection.name)} --to METHOD` moves to another"
        said.append(f"The vendor withdraws this method by {card.dies_on}: {move}.")
    if card.gap_class is GapClass.Z2 and goal in {Goal.ROTATE, Goal.CONTAIN}:
        said.append(
            "The old credential stops working before the new one is stored: consumers are paused meanwhile."
        )
    if card.revoke_scope is not RevokeScope.CREDENTIAL and goal in {Goal.REVOKE, Goal.DISCONNECT}:
        said.append("Revoking ends every credential of the same grant, here and elsewhere.")
    if goal is Goal.CONTAIN and shares_its_grant(situation):
        said.append("The whole grant is ended, the new consent with it: the person consents twice.")
    if goal in {Goal.REVOKE, Goal.DISCONNECT}:
        said.append("Jobs on this connection fail from then on, until it is reconnected.")
        if situation.sources:
            said.append(f"These sources get nothing from then on: {', '.join(situation.sources)}.")
    if goal is Goal.DISCONNECT and situation.policy.drop_principal and not situation.has_admin:
        said.append("The remote identity stays: deleting it needs an administrator's credential.")
    lost = [v for v in situation.versions if v.state is State.ORPHAN]
    if lost:
        said.append(f"{len(lost)} credential(s) are alive at the vendor without a known value.")
    return tuple(said)

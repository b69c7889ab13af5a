"""Plans per strategy and goal, as tables: the exact steps, the point of no return, the way back. Pure functions."""

from dataclasses import replace

import pytest

from keyturn.errors import Conflict, InvalidInput
from keyturn.model.card import Lockout, RevokeScope
from keyturn.model.credential import Connection, ConnectionState, Provenance, Ref, State, Version
from keyturn.model.ids import ConnectionId, PrincipalId, VersionId
from keyturn.model.plan import Goal, Kind, Plan
from keyturn.model.policy import Policy
from keyturn.planner.plans import plan
from keyturn.planner.situation import Situation
from tests.faults import shapes_connector as shapes

METHODS = tuple(shapes.SHAPES)
SYSTEM = shapes.system()


def version(number=1, state=State.CURRENT, ref=None):
    return Version(
        VersionId(f"v{number}"),
        ConnectionId("c"),
        PrincipalId("p"),
        number,
        state,
        ref or Ref(id=f"k{number}"),
        "",
        Provenance.OURS,
        None,
        None,
        0.0,
    )


def situation(
    method, *, admin=False, state=ConnectionState.ACTIVE, versions=None, policy=None, card=None, **settings
):
    row = SYSTEM.method(method)
    known = [version()] if versions is None else versions
    current = next((v.id for v in known if v.state is State.CURRENT), None)
    connection = Connection(
        ConnectionId("c"),
        "orders",
        "shapes",
        method,
        settings,
        PrincipalId("p"),
        "ann",
        {},
        {},
        state,
        1,
        current,
        "",
        0.0,
    )
    can = frozenset(
        name for name, value in vars(shapes.capabilities(method, {})).items() if value is not None
    )
    return Situation(
        connection,
        row,
        replace(row.card_for(settings), **(card or {})),
        can,
        admin,
        known,
        Policy.read(policy or {}),
    )


def keys(steps):
    return " ".join(step.key for step in steps)


OVERLAP = "preflight stage prove cutover drain revoke prove_dead"
WITH_SWITCH = "preflight stage prove cutover drain disable revoke prove_dead"
IN_PLACE = "preflight stage prove cutover prove_dead"
BACK = "flip_back drain_new remove candidate_dead"


@pytest.mark.parametrize(
    ("method", "steps", "made_by", "no_return", "back", "ended_by"),
    [
        ("two_slots", OVERLAP, Kind.SET, "revoke", BACK, Kind.REVOKE),
        ("many_ids", WITH_SWITCH, Kind.ISSUE, "revoke", BACK, Kind.REVOKE),
        ("named_slots", OVERLAP, Kind.ISSUE, "revoke", BACK, Kind.REVOKE),
        ("one_slot", IN_PLACE, Kind.SET, "stage", "", None),
        ("one_slot_self", IN_PLACE, Kind.SET, "stage", "", None),
        ("regenerate", IN_PLACE, Kind.ISSUE, "stage", "", None),
        ("supplied", OVERLAP, Kind.ASK, "revoke", BACK, Kind.TELL),
        ("grant", OVERLAP, Kind.CONSENT, "revoke", BACK, Kind.REVOKE),
    ],
)
def test_a_rotation_has_exactly_these_steps(method, steps, made_by, no_return, back, ended_by):
    """Each strategy is a shape of plan: how it is made, where it cannot be undone, and how it is undone before that."""
    made = plan(situation(method), Goal.ROTATE)
    assert keys(made.steps) == steps
    assert made.steps[1].kind is made_by
    assert made.steps[made.point_of_no_return()].key == no_return
    assert keys(made.rollback) == back
    assert {s.kind for s in made.steps if s.key == "revoke"} == ({ended_by} if ended_by else set())
    assert (made.strategy, made.gap_class, made.proof) == (
        (card := SYSTEM.method(method).card).strategy,
        card.gap_class,
        card.proof,
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("goal", [Goal.ROTATE, Goal.CONTAIN, Goal.DISCONNECT])
def test_a_frozen_plan_reads_back_as_it_was(method, goal):
    """What a run stores is what was shown."""
    made = plan(situation(method), goal)
    assert Plan.from_json(made.as_json()) == made
    assert len({step.key for step in (*made.steps, *made.rollback)}) == len(made.steps) + len(made.rollback)
    assert all(step.title for step in (*made.steps, *made.rollback))


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_switched_unproven_and_nothing_ends_before_the_switch(method):
    """P2 and P3 are visible in every plan that replaces a credential."""
    for goal in (Goal.ROTATE, Goal.CONTAIN):
        order = [step.kind for step in plan(situation(method), goal).steps]
        assert order.index(Kind.PROVE) < order.index(Kind.CUTOVER)
        enders = [n for n, kind in enumerate(order) if kind in {Kind.REVOKE, Kind.TELL, Kind.DISABLE}]
        assert all(n > order.index(Kind.CUTOVER) for n in enders)
        told_last = order[-1] is Kind.HANDOVER  # an emergency waits for nobody who has to be told
        assert order[-2 if told_last else -1] is Kind.PROVE_DEAD


@pytest.mark.parametrize("method", METHODS)
def test_an_emergency_neither_waits_nor_turns_back(method):
    """Contain has the rotation's steps without drain and soak, tells the other side last, and has no rollback."""
    rotate = plan(situation(method, policy={"soak_s": 9}), Goal.ROTATE)
    contain = plan(situation(method, policy={"soak_s": 9}), Goal.CONTAIN)
    waits = {Kind.DRAIN, Kind.SOAK, Kind.HANDOVER}
    told = [s.key for s in rotate.steps if s.kind is Kind.HANDOVER]  # afterwards
    assert [s.key for s in contain.steps] == [s.key for s in rotate.steps if s.kind not in waits] + told
    assert contain.rollback == ()


def test_an_emergency_ends_every_other_live_version_too():
    """The standby left by an earlier rotation is a second door."""
    others = [version(2), version(1, State.DRAINING)]
    assert keys(plan(situation("many_ids", versions=others), Goal.CONTAIN).steps).endswith(
        "revoke_others prove_others_dead"
    )
    dead = [version(2), version(1, State.DEAD)]
    assert "others" not in keys(plan(situation("many_ids", versions=dead), Goal.CONTAIN).steps)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("goal", "state"), [(Goal.DISCONNECT, "disconnected"), (Goal.REVOKE, "revoked")])
def test_leaving_ends_and_proves_everything(method, goal, state):
    """Users first, then the end, then its proof; a person ends what no call can."""
    made = plan(situation(method), goal)
    order = keys(made.steps).replace("disable ", "")
    assert order == "drain revoke prove_dead close"
    assert made.steps[-1].params == {"state": state}
    assert {s.target for s in made.steps[:-1]} == {"all"}
    by = Kind.REVOKE if shapes.capabilities(method, {}).revoker else Kind.TELL
    assert made.steps[[s.key for s in made.steps].index("revoke")].kind is by
    assert any("fail from then on" in words for words in made.warnings)


def test_the_remote_identity_is_deleted_only_when_asked():
    """`drop_principal` adds one irreversible step before the books are closed."""
    assert "drop" not in keys(plan(situation("many_ids", admin=True), Goal.DISCONNECT).steps)
    made = plan(situation("many_ids", admin=True, policy={"drop_principal": True}), Goal.DISCONNECT)
    assert [(s.key, s.reversible) for s in made.steps[-2:]] == [("drop", False), ("close", True)]


@pytest.mark.parametrize(
    ("method", "admin", "kind"),
    [
        ("two_slots", True, Kind.SET),
        ("two_slots", False, Kind.ASK),
        ("one_slot", True, Kind.SET),
        ("one_slot_self", False, Kind.ASK),
        ("many_ids", True, Kind.ISSUE),
        ("supplied", False, Kind.ASK),
        ("grant", False, Kind.CONSENT),
    ],
)
def test_coming_back_needs_somebody_who_may_still_sign(method, admin, kind):
    """An administrator makes the new one; where the credential signed for itself, a person brings one."""
    made = plan(
        situation(method, admin=admin, state=ConnectionState.DISCONNECTED, versions=[version(1, State.DEAD)]),
        Goal.RECONNECT,
    )
    assert keys(made.steps) == "preflight stage prove cutover close"
    assert made.steps[1].kind is kind


@pytest.mark.parametrize(
    ("goal", "state", "admin", "kind", "back"),
    [
        (Goal.REAUTHORIZE, ConnectionState.ACTIVE, True, Kind.CONSENT, BACK),
        (Goal.REAUTHORIZE, ConnectionState.ACTIVE, False, Kind.CONSENT, BACK),
        (Goal.REAUTHORIZE, ConnectionState.REVOKED, True, Kind.CONSENT, BACK),
        (Goal.RECONNECT, ConnectionState.DISCONNECTED, True, Kind.CONSENT, BACK),
        (Goal.RECONNECT, ConnectionState.DISCONNECTED, False, Kind.ASK, BACK),
        (Goal.ROTATE, ConnectionState.ACTIVE, True, Kind.ISSUE, BACK),
    ],
)
def test_slots_whose_other_half_is_a_consent(goal, state, admin, kind, back):
    """Named slots of a client with a consent page: rotations are automatic, a consent brings what only a person can."""
    known = [version(1, State.CURRENT if state is ConnectionState.ACTIVE else State.DEAD)]
    there = situation("named_slots", admin=admin, state=state, versions=known)
    made = plan(replace(there, can=there.can | {"authorizer"}), goal)
    assert made.steps[1].kind is kind
    assert keys(made.rollback) == back
    if state is ConnectionState.ACTIVE:
        assert keys(made.steps) == OVERLAP, "the old pair is ended like after any rotation"


def test_connections_that_share_a_named_slot_are_not_changed_alone():
    """All of them use the same value: ending it for one ends it for all; leaving is possible and says so."""
    other = situation("named_slots").connection
    there = replace(situation("named_slots", admin=True), siblings=[replace(other, name="second")])
    with pytest.raises(Conflict, match="second"):
        plan(there, Goal.ROTATE)
    assert any("second" in words for words in plan(there, Goal.DISCONNECT).warnings)


def test_a_refresh_is_a_small_rotation():
    """Refresh, proof, switch, and the used token's version is closed; it cannot be undone from its first step on."""
    made = plan(situation("grant"), Goal.REFRESH)
    assert keys(made.steps) == "refresh prove cutover close"
    assert made.point_of_no_return() == 0


def test_a_grant_shared_by_siblings_is_never_revoked():
    """Where a revoke would end the whole grant, the old one is drained and watched, and ends by itself."""
    made = plan(situation("grant", revoke_scope="grant"), Goal.ROTATE)
    assert keys(made.steps) == "preflight stage prove cutover drain prove_dead"
    assert made.point_of_no_return() == len(made.steps)
    assert "shares its grant" in made.steps[-1].title, "nothing there can prove it dead"
    contain = plan(situation("grant", revoke_scope="grant"), Goal.CONTAIN)
    assert keys(contain.steps).endswith("prove_dead revoke_others prove_others_dead"), "a stolen one lives on"
    assert any("consents twice" in w for w in contain.warnings)
    assert any(
        "same grant" in w for w in plan(situation("grant", revoke_scope="grant"), Goal.DISCONNECT).warnings
    )


@pytest.mark.parametrize(
    ("method", "goal", "state", "error"),
    [
        ("many_ids", Goal.RECONNECT, ConnectionState.ACTIVE, Conflict),
        ("many_ids", Goal.ROTATE, ConnectionState.DISCONNECTED, Conflict),
        ("many_ids", Goal.DISCONNECT, ConnectionState.DISCONNECTED, Conflict),
        ("grant", Goal.ROTATE, ConnectionState.REVOKED, Conflict),
        ("many_ids", Goal.REAUTHORIZE, ConnectionState.ACTIVE, InvalidInput),
        ("many_ids", Goal.REFRESH, ConnectionState.ACTIVE, InvalidInput),
    ],
)
def test_a_goal_that_makes_no_sense_is_refused_with_the_way_out(method, goal, state, error):
    """The message names the connection or the method, and the hint the command to use."""
    with pytest.raises(error) as caught:
        plan(situation(method, state=state), goal)
    assert caught.value.hint or "field" in caught.value.facts


@pytest.mark.parametrize(
    ("method", "used", "free"),
    [
        ("two_slots", "a", "b"),
        ("two_slots", "b", "a"),
        ("named_slots", "k1", "k2"),
        ("named_slots", "", "k1"),
    ],
)
def test_the_slot_in_use_is_never_the_target(method, used, free):
    """The new one goes where the current is not."""
    known = [version(ref=Ref(slot=used, fingerprint="f"))] if used else []
    made = plan(situation(method, versions=known, admin=True), Goal.ROTATE)
    assert made.target_slot == free
    assert made.steps[1].params["slot"] == free


@pytest.mark.parametrize(
    ("method", "more", "goal", "said"),
    [
        ("many_ids", {"card": {"dies_on": "2027-03-03"}}, Goal.ROTATE, "2027-03-03"),
        ("regenerate", {}, Goal.ROTATE, "paused"),
        (
            "many_ids",
            {"versions": [version(2), version(1, State.ORPHAN)]},
            Goal.ROTATE,
            "without a known value",
        ),
    ],
)
def test_what_must_be_known_before_saying_yes_is_said(method, more, goal, said):
    """Warnings stand in the plan, before anything happens."""
    assert any(said in words for words in plan(situation(method, **more), goal).warnings)


@pytest.mark.parametrize(("policy", "has"), [({"soak_s": 5}, True), ({}, False), ({"soak_s": 0}, False)])
def test_a_soak_stands_between_off_and_gone_when_asked_for(policy, has):
    """Without an off switch or a wish there is none."""
    assert ("soak" in keys(plan(situation("many_ids", policy=policy), Goal.ROTATE).steps)) is has
    assert "soak" not in keys(plan(situation("two_slots", policy=policy), Goal.ROTATE).steps)


def test_a_grant_with_a_client_of_its_own_begins_with_that_client():
    """Before the consent; by a person where nothing can set one, and then a person deletes the old client as well."""
    by_person = situation("grant", card={"own_client": True, "revoke_scope": RevokeScope.CREDENTIAL})
    by_person = replace(by_person, can=by_person.can - {"setter", "revoker"})
    steps = plan(by_person, Goal.ROTATE).steps
    assert [(s.key, s.kind) for s in steps[1:3]] == [("client", Kind.ASK), ("stage", Kind.CONSENT)]
    assert [s.kind for s in steps[-2:]] == [Kind.TELL, Kind.PROVE_DEAD]
    by_hub = replace(by_person, can=by_person.can | {"maker", "setter", "revoker"}, has_admin=True)
    steps = plan(by_hub, Goal.ROTATE).steps
    assert [(s.key, s.kind) for s in steps[1:3]] == [("client", Kind.SET), ("stage", Kind.CONSENT)]
    assert [s.kind for s in steps[-2:]] == [Kind.REVOKE, Kind.PROVE_DEAD]


def test_consumers_pause_where_the_vendor_resets_the_only_credential():
    """Also when the hub asks for it: whoever goes on with the old value could lock the account."""
    paused = situation("regenerate", admin=True)
    paused = replace(paused, method=replace(paused.method, requires_pause=True))
    (stage,) = (s for s in plan(paused, Goal.ROTATE).steps if s.kind is Kind.ISSUE)
    assert stage.params["pause"] is True
    (stage,) = (s for s in plan(situation("many_ids", admin=True), Goal.ROTATE).steps if s.kind is Kind.ISSUE)
    assert "pause" not in stage.params


LOCKS = Lockout(5, 900.0)


@pytest.mark.parametrize(
    ("method", "admin", "card", "goal", "words"),
    [
        ("regenerate", False, {}, Goal.ROTATE, "answer is lost"),
        ("regenerate", False, {}, Goal.CONTAIN, "answer is lost"),
        ("regenerate", True, {}, Goal.ROTATE, ""),
        ("regenerate", False, {"secret_reviewable": True}, Goal.ROTATE, ""),
        ("regenerate", False, {}, Goal.DISCONNECT, ""),
        ("regenerate_person", False, {"lockout": LOCKS}, Goal.ROTATE, ""),
        ("one_slot_self", False, {"lockout": LOCKS}, Goal.ROTATE, "5 refused logins"),
        ("one_slot_self", False, {"lockout": None}, Goal.ROTATE, ""),
        ("one_slot", True, {"lockout": LOCKS}, Goal.ROTATE, ""),
        ("two_slots", False, {"lockout": LOCKS}, Goal.ROTATE, ""),
        ("grant", False, {}, Goal.ROTATE, ""),
    ],
)
def test_a_moment_in_which_nothing_may_work_is_a_risk(method, admin, card, goal, words):
    """P1: no known credential is sealed, none is on its way, and nobody can ask the vendor again."""
    made = plan(situation(method, admin=admin, card=card), goal)
    assert (words in made.risk) if words else not made.risk
    assert made.accept == ("orders may be lost" if words else "")


def test_a_policy_accepts_the_risk_of_its_own_connection_only():
    """The words name the connection, so that they are not carried from one policy to the next unread."""
    for said, asked in (("Orders  may be LOST", ""), ("billing may be lost", "orders may be lost")):
        made = plan(situation("regenerate", policy={"accept": said}), Goal.ROTATE)
        assert made.risk
        assert made.accept == asked
    with pytest.raises(InvalidInput, match="words"):
        Policy.read({"accept": True})

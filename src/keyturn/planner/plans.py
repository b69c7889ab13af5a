"""One function per goal; the shapes of strategies S1 to S8 are in `shapes.py`."""

from __future__ import annotations

from dataclasses import replace
from shlex import quote

from keyturn.errors import Conflict, InvalidInput
from keyturn.model.card import RevokeScope, Strategy
from keyturn.model.credential import ConnectionState
from keyturn.model.plan import Goal, Kind, Plan, Step
from keyturn.planner import shapes
from keyturn.planner.situation import Situation


def plan(situation: Situation, goal: Goal) -> Plan:
    """The plan for a goal. Raises: InvalidInput or Conflict when the goal makes no sense for this connection."""
    builder = _BUILDERS.get(goal)
    if builder is None:
        raise InvalidInput(f"{goal.value} is not available for {situation.method.title}", field="goal")
    _check_state(situation, goal)
    if situation.card.strategy is Strategy.NOTHING:
        builder = _without_credential
    return _with_siblings(situation, builder(situation, goal))


def _check_state(situation: Situation, goal: Goal) -> None:
    connection = situation.connection
    gone = connection.state in {ConnectionState.DISCONNECTED, ConnectionState.REVOKED}
    if goal is Goal.RECONNECT and not gone:
        raise Conflict(
            f"{connection.name} is connected",
            hint=f"Use `keyturn rotate {quote(connection.name)}` to replace its credential.",
        )
    if goal not in {Goal.RECONNECT, Goal.REAUTHORIZE} and gone:
        raise Conflict(
            f"{connection.name} is {connection.state.value}",
            hint=f"Use `keyturn reconnect {quote(connection.name)}` first.",
        )


_ENDS = frozenset({Kind.DISABLE, Kind.REVOKE, Kind.TELL})
_CHANGES = _ENDS | {Kind.SET, Kind.ISSUE, Kind.ASK}


_ENDINGS = frozenset({Goal.CONTAIN, Goal.DISCONNECT, Goal.REVOKE})


def _with_siblings(situation: Situation, made: Plan) -> Plan:
    """What takes the credential of another connection with it is not done for one alone, unless ending is the goal:
    an emergency and a farewell are always possible, and say whom they take along."""
    if not situation.siblings:
        return made
    card, name = situation.card, situation.connection.name
    steps = [step for step in made.steps if not step.params.get("recovery")]
    # Of two slots another connection may use the one that is free here, or the same one: either way it would lose it.
    shared = card.strategy in {*shapes.ONE_SLOT, Strategy.NAMED_SLOTS, Strategy.TWO_SLOTS}
    one = shared and any(step.kind in _CHANGES for step in steps)
    one = one or (bool(situation.same_value) and any(step.kind in _ENDS for step in steps))
    wide = card.revoke_scope is not RevokeScope.CREDENTIAL and any(step.kind in _ENDS for step in steps)
    if one or wide or any(step.target == "principal" for step in steps):
        others = ", ".join(each.name for each in situation.siblings)
        if made.goal in _ENDINGS and not any(step.target == "principal" for step in steps):
            warning = (
                f"The account at the vendor is also used by {others}: no credential is left there either."
            )
            return replace(made, warnings=(*made.warnings, warning))
        raise Conflict(
            f"{name} shares its account at the vendor with {others}, which would lose its credential too",
            hint="Keep one of them and let all programs lease from it: disconnect each (that ends the account's credential),"
            " then `keyturn reconnect` the one to keep.",
        )
    return made


def _make(situation: Situation, goal: Goal, steps: tuple[Step, ...], rollback: tuple[Step, ...] = ()) -> Plan:
    card, risk = situation.card, shapes.risk(situation, steps)
    return Plan(
        goal=goal,
        system=situation.connection.system,
        method=situation.connection.method,
        strategy=card.strategy,
        gap_class=card.gap_class,
        proof=situation.policy.grade(card),
        steps=steps,
        rollback=rollback,
        warnings=shapes.warnings(situation, goal),
        target_slot=shapes.free_slot(situation),
        used_by=tuple(situation.sources),
        risk=risk,
        accept=shapes.accepting(situation) if risk else "",
    )


def _rotate(situation: Situation, goal: Goal) -> Plan:
    steps = (
        shapes.preflight(situation),
        *shapes.stage(situation, consents=goal is Goal.REAUTHORIZE),
        *shapes.switch(situation),
        *shapes.jobs(situation),
        *shapes.retire(situation),
    )
    return _make(situation, goal, steps, shapes.rollback(situation))


def _reauthorize(situation: Situation, goal: Goal) -> Plan:
    if "authorizer" not in situation.can:
        raise InvalidInput(
            f"{situation.method.title} has nothing to authorize in a browser",
            hint=f"Use `keyturn rotate {quote(situation.connection.name)}`.",
            field="goal",
        )
    if situation.connection.state is ConnectionState.REVOKED:
        return _reconnect(situation, goal)
    return _rotate(situation, goal)


def _without_credential(situation: Situation, goal: Goal) -> Plan:
    """A public address: there is nothing to make and nothing to end, only to begin and to stop using it."""
    if goal in {Goal.DISCONNECT, Goal.REVOKE}:
        return _make(situation, goal, (shapes.release(), _closing(goal)))
    if goal is Goal.RECONNECT:
        back = Step("stage", Kind.SET, "Nothing to bring: the address is public", params={"public": True})
        return _make(situation, goal, (back, *shapes.switch(situation), _closing(goal)))
    name = situation.connection.name
    raise InvalidInput(
        f"{name} has no credential: there is nothing to {goal.value}",
        hint=f"`keyturn test {quote(name)}` tells whether it answers.",
        field="goal",
    )


def _closing(goal: Goal) -> Step:
    ends = {Goal.REVOKE: ConnectionState.REVOKED, Goal.DISCONNECT: ConnectionState.DISCONNECTED}
    state = ends.get(goal, ConnectionState.ACTIVE).value
    return Step("close", Kind.CLOSE, f"Mark the connection {state}", params={"state": state})


def _refresh(situation: Situation, goal: Goal) -> Plan:
    if "authorizer" not in situation.can:
        raise InvalidInput(f"{situation.method.title} has no refresh token", field="goal")
    refresh = Step(
        "refresh",
        Kind.REFRESH,
        "Refresh the grant",
        call=shapes.call(situation, "refresh", "token endpoint, grant_type=refresh_token"),
        reversible=False,
    )
    close = Step("close", Kind.CLOSE, "Retire the used refresh token", params={"supersede": True})
    return _make(situation, goal, (refresh, *shapes.switch(situation), close))


def _contain(situation: Situation, goal: Goal) -> Plan:
    waits = {Kind.DRAIN, Kind.SOAK, Kind.HANDOVER}
    retire = tuple(step for step in shapes.retire(situation) if step.kind not in waits)
    told = (shapes.handover(),) if situation.method.handover else ()  # afterwards: nobody is waited for
    steps = (
        Step("preflight", Kind.PREFLIGHT, "Look at what is alive", params={"lenient": True}),
        *shapes.stage(situation),
        *shapes.switch(situation),
        *retire,
        *shapes.other_doors(situation),
        *shapes.jobs(situation, holds=False),
        *told,
    )
    return _make(situation, goal, steps)


def _disconnect(situation: Situation, goal: Goal) -> Plan:
    steps = [shapes.release(), *shapes.kill_all(situation)]
    if situation.policy.drop_principal and "dropper" in situation.can and situation.has_admin:
        steps.append(
            Step(
                "drop",
                Kind.REVOKE,
                "Give the remote identity up",
                call=f"{shapes.call(situation, 'drop', 'delete')}: {situation.connection.identity.get('principal', 'the user')}",
                target="principal",
                reversible=False,
            )
        )
    return _make(situation, goal, (*steps, _closing(goal)))


def _reconnect(situation: Situation, goal: Goal) -> Plan:
    steps = (
        Step("preflight", Kind.PREFLIGHT, "Check the way in", params={"lenient": True}),
        *shapes.stage(situation, consents=True),
        *shapes.switch(situation),
        *shapes.jobs(situation, holds=False),
        _closing(goal),
    )
    return _make(situation, goal, steps, shapes.rollback(situation))


def _migrate(situation: Situation, goal: Goal) -> Plan:
    """Another way in beside the present one, proven to be the same account; then the present one goes."""
    origin = situation.origin
    if origin is None:
        raise InvalidInput(
            "say which method to move to",
            hint=f"Add --to METHOD; {situation.connection.system} lists them.",
            field="to",
        )
    if situation.card.strategy in shapes.ONE_SLOT:
        raise InvalidInput(
            f"{situation.method.title} holds one value at a time: a step back, which the hub does not take",
            hint="Move to a method that can overlap.",
            field="to",
        )
    steps = (
        replace(shapes.preflight(origin), target="old"),
        Step(
            "preflight_new",
            Kind.PREFLIGHT,
            f"Check that {situation.method.title} can be added",
            call="inventory, a slot is free" if situation.card.inventory else "",
            params={"lenient": True},
        ),
        *shapes.stage(situation, consents=True),
        *shapes.switch(situation),
        *shapes.jobs(situation),
        *shapes.leave(origin),
    )
    made = _make(situation, goal, steps, shapes.rollback(situation))
    rename = (
        f"Programs find other fields from the switch on: {_fields(situation)} instead of {_fields(origin)}."
    )
    return replace(made, proof=origin.policy.grade(origin.card), warnings=(rename, *made.warnings))


def _fields(situation: Situation) -> str:
    return ", ".join(situation.method.env) or "its own"


_BUILDERS = {
    Goal.MIGRATE: _migrate,
    Goal.ROTATE: _rotate,
    Goal.REAUTHORIZE: _reauthorize,
    Goal.REFRESH: _refresh,
    Goal.CONTAIN: _contain,
    Goal.DISCONNECT: _disconnect,
    Goal.REVOKE: _disconnect,
    Goal.RECONNECT: _reconnect,
}

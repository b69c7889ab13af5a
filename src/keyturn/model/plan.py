"""Plans: the exact ordered steps of a run, shown before anything happens and frozen when it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from keyturn.model.card import GapClass, Proof, Strategy


class Goal(StrEnum):
    """What a run is for."""

    ROTATE = "rotate"
    REAUTHORIZE = "reauthorize"
    REFRESH = "refresh"
    REVOKE = "revoke"
    DISCONNECT = "disconnect"
    RECONNECT = "reconnect"
    CONTAIN = "contain"
    MIGRATE = "migrate"


class Kind(StrEnum):
    """The kinds of step; `executor/steps.py` has one function for each."""

    PREFLIGHT = "preflight"  # look only: current works, admin path works, slot free, store writes
    SET = "set"  # we made the value: seal it, then write it to a slot
    ISSUE = "issue"  # the vendor makes the value: seal the answer before reading it
    ASK = "ask"  # a person brings the value
    CONSENT = "consent"  # a person consents in a browser; the answer is exchanged
    REFRESH = "refresh"  # the grant's own refresh
    PROVE = "prove"
    CUTOVER = "cutover"
    JOBS = "jobs"  # the connection's own reads, with the new one
    HANDOVER = "handover"  # another party is told of the new one; its first use, or their word, goes on
    DRAIN = "drain"
    DISABLE = "disable"
    SOAK = "soak"
    REVOKE = "revoke"
    TELL = "tell"  # a person does something at the vendor and brings nothing back
    PROVE_DEAD = "prove_dead"
    REMOVE = "remove"  # rollback: take the candidate away again
    FLIP_BACK = "flip_back"  # rollback after the cut-over
    CLOSE = "close"  # last bookkeeping of a disconnect or revoke


@dataclass(frozen=True)
class Step:
    """One line of a plan.

    `who` is "hub", "person" or "consumer". `call` says in words what is sent where. `reversible` False marks the point
    of no return: from the first such step on, a run only rolls forward. `targets` names the versions acted on, by role:
    "new" (the candidate), "old" (the current at start) or "all".
    """

    key: str
    kind: Kind
    title: str
    who: str = "hub"
    call: str = ""
    target: str = "new"
    reversible: bool = True
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What will happen, who does it, what cannot be undone and how it is undone before that."""

    goal: Goal
    system: str
    method: str
    strategy: Strategy
    gap_class: GapClass
    proof: Proof
    steps: tuple[Step, ...]
    rollback: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    target_slot: str = ""
    used_by: tuple[str, ...] = ()  # the sources that this one credential serves: project/object/source
    risk: str = ""  # the moment in which nothing known may work (P1)
    accept: str = (
        ""  # the words that somebody must say before it starts; empty when the policy says them already
    )

    def as_json(self) -> dict[str, Any]:
        """The frozen form a run stores and `keyturn plan --json` prints."""
        return {
            **self.__dict__,
            "steps": tuple(_as_json(step) for step in self.steps),
            "rollback": tuple(_as_json(step) for step in self.rollback),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of `as_json`."""
        return cls(
            goal=Goal(data["goal"]),
            system=data["system"],
            method=data["method"],
            strategy=Strategy(data["strategy"]),
            gap_class=GapClass(data["gap_class"]),
            proof=Proof(data["proof"]),
            steps=tuple(_step(s) for s in data["steps"]),
            rollback=tuple(_step(s) for s in data["rollback"]),
            warnings=tuple(data["warnings"]),
            target_slot=data["target_slot"],
            used_by=tuple(data.get("used_by", ())),  # plans that were frozen before there were sources
            risk=data.get("risk", ""),  # and before risks were accepted
            accept=data.get("accept", ""),
        )

    def point_of_no_return(self) -> int:
        """Index of the first step that cannot be undone; len(steps) when there is none."""
        return next((i for i, s in enumerate(self.steps) if not s.reversible), len(self.steps))


def says(said: str, words: str) -> bool:
    """Whether somebody said these words; case and spaces do not matter."""
    return " ".join(said.split()).casefold() == " ".join(words.split()).casefold()


def _as_json(step: Step) -> dict[str, Any]:
    return {**step.__dict__, "params": dict(step.params)}


def _step(data: Mapping[str, Any]) -> Step:
    return Step(**{**data, "kind": Kind(data["kind"])})

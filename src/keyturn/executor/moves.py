"""What a step says when it returns."""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.model.run import RunState


@dataclass(frozen=True)
class Done:
    """The step is done; on to the next."""


@dataclass(frozen=True)
class Wait:
    """Go on at `until` (epoch seconds), or sooner when woken. `why` is what a person reads."""

    until: float
    why: str
    state: RunState = RunState.WAITING


@dataclass(frozen=True)
class Back:
    """Do an earlier step of the plan again."""

    to: str
    why: str


@dataclass(frozen=True)
class Abort:
    """Give up: undo what can be undone; after the point of no return wait for somebody instead, unless `final`: then
    there is nothing to wait for and what is left behind was owed."""

    why: str
    final: bool = False


Move = Done | Wait | Back | Abort

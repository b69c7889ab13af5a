"""The demo's rows: each module of this folder says what it connects and what a person does for it.

`PART` names the part of the lab it needs, `rows(part, callback)` gives its connections, and `ACTS`, where people have
something to do, what they do for a task: `(system, kind of task)` to a function of the part and the task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from demo.row import Row

Act = Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, str]]

_MODULES = [
    import_module(f"{__name__}.{name}") for name in sorted(each.name for each in iter_modules(__path__))
]


def rows(world: Mapping[str, Any], callback: str) -> list[Row]:
    """Every row that the lab's parts allow. `callback` is the hub's own."""
    parts = world["parts"]
    return [
        row
        for module in _MODULES
        if module.PART in parts
        for row in module.rows(parts[module.PART], callback)
    ]


def act(parts: Mapping[str, Any], system: str, task: Mapping[str, Any]) -> dict[str, str]:
    """Does what a task asks for; gives the answer. Raises: LookupError when nobody here knows how."""
    for module in _MODULES:
        found: Act | None = getattr(module, "ACTS", {}).get((system, task["kind"]))
        if found is not None:
            return found(parts[module.PART], task)
    raise LookupError(f"nobody in this demo knows how to {task['kind']} at {system}")

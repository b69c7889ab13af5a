"""Every row: each module of this folder adds its own `ROWS`, by name."""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules

from tests.compliance.case import Case
from tests.compliance.lab import Lab

ROWS: dict[str, Callable[[Lab], Case]] = {}
for _module in sorted(each.name for each in iter_modules(__path__)):
    ROWS |= import_module(f"{__name__}.{_module}").ROWS

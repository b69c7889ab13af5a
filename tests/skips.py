"""What may be left out of a run: on a fresh machine what it has no program for, in CI only what no vendor offers."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest


class NotOffered(pytest.skip.Exception):
    """A fact that a row does not claim."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[Any],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI any other skip is a failure."""
    report = yield
    why = call.excinfo.value if call.excinfo else None
    if isinstance(why, pytest.skip.Exception) and not isinstance(why, NotOffered) and os.environ.get("CI"):
        report.outcome, report.longrepr = "failed", f"in CI nothing is left out: {why.msg}"
    return report

"""What holds for all tests."""

from __future__ import annotations

import pytest

from tests import quick, skips, stores

# A file runs in one process: one of these begun last would keep a process busy while the others have nothing to do.
LONGEST = (
    "test_accessibility",
    "test_bucket",
    "test_canary",
    "test_three_people",
    "test_workers",
    "test_crash",
    "test_oauth_apps",
    "test_google",
    "test_matrix",
    "test_snowflake_key_pair",
    "test_issued_pages",
    "test_browser",
    "test_jobs",
    "test_schemathesis",
)


def pytest_configure(config: pytest.Config) -> None:
    """For the lab's tests too, which have no conftest over them."""
    config.pluginmanager.register(skips)
    config.pluginmanager.register(quick)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files first; and on PostgreSQL nothing is asked about SQLite's file."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)
    if not stores.ON_POSTGRESQL:
        return
    left_out = [item for item in items if item.get_closest_marker("sqlite")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]

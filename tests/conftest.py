"""What holds for all tests."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests import quick, skips, stores

# A file runs in one process: one of these begun last would keep a process busy while the others have nothing to do.
LONGEST = (
    "test_matrix",
    "test_accessibility",
    "test_bucket",
    "test_engine",
    "test_jobs",
    "test_stream",
    "test_dynamics",
    "test_workers",
    "test_browser",
    "test_oauth_apps",
    "test_canary",
    "test_schemathesis",
    "test_remote",
    "test_three_people",
    "test_two_workers",
    "test_calls",
    "test_snowflake",
    "test_databricks",
    "test_redshift",
    "test_migrate",
)


def pytest_configure(config: pytest.Config) -> None:
    """For the lab's tests too, which have no conftest over them."""
    config.pluginmanager.register(skips)
    config.pluginmanager.register(quick)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files first; and on PostgreSQL nothing is asked about SQLite's file."""
    turns = {stem: turn for turn, stem in enumerate(LONGEST)}
    items.sort(key=lambda item: turns.get(item.path.stem, len(turns)))
    if not stores.ON_POSTGRESQL:
        return
    left_out = [item for item in items if item.get_closest_marker("sqlite")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """What a test's hubs lived on may be used again."""
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    yield
    if folder and stores.ON_POSTGRESQL:
        stores.give_back(folder)

"""What holds for all tests."""

from __future__ import annotations

import pytest

from tests import stores


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL nothing is asked about SQLite's file."""
    if not stores.ON_POSTGRESQL:
        return
    left_out = [item for item in items if item.get_closest_marker("sqlite")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]

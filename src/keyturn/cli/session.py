"""What one command works on: the settings, and the hub when it needs one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from keyturn.bootstrap import Keyturn
    from keyturn.catalog import Catalog
    from keyturn.settings import Settings

F = TypeVar("F")


@dataclass(frozen=True)
class Session:
    """`environment` None means this process's; `catalog` None means the one that is installed."""

    environment: Mapping[str, str] | None = None
    catalog: Catalog | None = None

    def settings(self) -> Settings:
        """The settings. Raises: InvalidInput naming the variable."""
        from keyturn.settings import Settings

        return Settings.read(self.environment)

    @contextmanager
    def hub(self, *, long_running: bool = False) -> Iterator[Keyturn]:
        """The hub, opened and closed. A long-running program also begins what is due by the clock. Raises: VaultSealed, StoreUnavailable; NotFound before `keyturn init`."""
        from keyturn.bootstrap import open_hub
        from keyturn.operations import debts, jobs, schedule
        from keyturn.operations.hub import require_initialised

        settings = self.settings()
        require_initialised(settings)
        due = schedule.start_due if long_running else None
        hub = open_hub(
            settings,
            catalog=self.catalog,
            try_debt=debts.try_again,
            start_due=due,
            run_job=jobs.run_due if long_running else None,
        )
        try:
            yield hub
        finally:
            hub.close()

    def systems(self) -> Catalog:
        """The catalogue without a hub: `keyturn systems` works before `keyturn init`."""
        from keyturn.operations import systems

        return self.catalog or systems.installed()


pass_session = click.make_pass_decorator(Session)

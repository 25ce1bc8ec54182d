"""How commands reach the fleet: settings, logs, and an event loop."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import uvloop

from opsfleet.app import Fleet, open_fleet, prepare_database
from opsfleet.logs import configure_logging
from opsfleet.settings import Settings, process_environment

Result = TypeVar("Result")


def load_settings(
    overrides: Mapping[str, str | None] | None = None,
    *,
    defaults: Mapping[str, str] | None = None,
    without: Collection[str] = (),
    level: str | None = None,
) -> Settings:
    """Read the settings from the environment, with a command's options on top, and set the logs up.

    `defaults` lie below the environment; variables named in `without` are left out of it.

    Raises:
        SettingsError: when one is unknown or out of range.
    """
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    environment = process_environment(given, defaults=defaults or {}, without=without)
    settings = Settings.from_environment(environment, is_terminal=sys.stderr.isatty())
    configure_logging(settings.log_format, level or settings.log_level, sys.stderr)
    return settings


@asynccontextmanager
async def ready_fleet(settings: Settings) -> AsyncIterator[Fleet]:
    """Open the fleet with its database up to date."""
    async with open_fleet(settings) as fleet:
        await prepare_database(fleet)
        yield fleet


def with_fleet(action: Callable[[Fleet], Awaitable[Result]]) -> Result:
    """Run `action` on the fleet of the environment's settings; only warnings are logged."""
    return with_settings(load_settings(level="warning"), action)


def with_settings(settings: Settings, action: Callable[[Fleet], Awaitable[Result]]) -> Result:
    """Run `action` on the fleet of these settings."""

    async def run() -> Result:
        async with ready_fleet(settings) as fleet:
            return await action(fleet)

    return uvloop.run(run())

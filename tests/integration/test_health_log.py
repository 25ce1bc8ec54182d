"""The log of a cycle, line by line, as an operator reads it and as a machine does."""

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from opsfleet.logs import configure_logging
from opsfleet.polling import PollingEngine
from opsfleet.simulate.behaviour import Behaviour, Report, Status
from opsfleet.simulate.fleet import SimulatedFleet
from opsfleet.store.database import Database
from opsfleet.workers.health import start_health_worker, stop_health_worker
from tests.integration.test_health_worker import Watch
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


async def log_of_a_cycle(database: Database, engine: PollingEngine, format_: Literal["console", "json"]) -> list[str]:
    """Return the lines of a worker that checks 50 servers once: 45 healthy, 3 degraded, 1 critical, 1 unreachable."""
    stream = io.StringIO()
    configure_logging(format_, "info", stream)
    async with SimulatedFleet(servers=50) as agents:
        agents.set_behaviour((7, 8, 9), Behaviour(report=Report(failed_services=1)))
        agents.set_behaviour(20, Behaviour(status=Status(code=500)))
        agents.set_behaviour(30, Behaviour(network="refuse"))
        watch = Watch(database, engine, interval=30.0)
        for number in range(50):
            await watch.add(f"s-{number}", agents.url(number))
        await start_health_worker(watch.worker)
        await until(lambda: bool(watch.worker.get_stats()["cycles"] == 1))
        await stop_health_worker(watch.worker)
    return stream.getvalue().splitlines()


COMPLETE = re.compile(r"Health checks complete: 50 servers checked in \d+\.\d\ds \(✓45 🔶3 ⚠️1 ❌1\)")


async def test_the_console_shows_the_promised_lines(database: Database, engine: PollingEngine) -> None:
    started, starting, complete, alert, stopped = await log_of_a_cycle(database, engine, "console")
    assert started == "INFO  Fleet health worker started (30s interval)"
    assert starting == "INFO  Starting health checks for 50 servers"
    assert complete[:6] == "INFO  "
    assert COMPLETE.fullmatch(complete[6:]), complete
    assert alert == "WARN  Fleet health alert: 1 critical, 1 unreachable servers"
    assert stopped == "INFO  Fleet health worker stopped"


async def test_the_fields_of_a_line_are_fields_of_the_event(database: Database, engine: PollingEngine) -> None:
    events: list[dict[str, Any]] = [json.loads(line) for line in await log_of_a_cycle(database, engine, "json")]
    for event in events:
        assert event.pop("timestamp").endswith("Z")
    started, starting, complete, alert, _ = events
    assert started == {"level": "info", "event": "Fleet health worker started (30s interval)", "interval": 30.0}
    assert starting == {"level": "info", "event": "Starting health checks for 50 servers", "servers": 50}
    assert COMPLETE.fullmatch(complete.pop("event"))
    assert complete.pop("seconds") > 0
    assert complete == {
        "level": "info",
        "servers": 50,
        "healthy": 45,
        "degraded": 3,
        "critical": 1,
        "unreachable": 1,
        "broken": 0,
    }
    assert alert == {
        "level": "warning",
        "event": "Fleet health alert: 1 critical, 1 unreachable servers",
        "critical": 1,
        "unreachable": 1,
    }

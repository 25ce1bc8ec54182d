"""`opsfleet metrics show` draws a server's metrics in the terminal."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.metrics.history import add_row, add_server, execute
from tests.support.product import environment

from opsfleet.cli.charts import GAP
from opsfleet.domain.metrics import Period
from opsfleet.store.database import Database

STEP = Period.FIVE_MINUTES.length


async def show(dsn: str, *arguments: str) -> tuple[int, str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "POSTGRES_", "DATABASE"))
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "opsfleet", "metrics", "show", *arguments),
        env={**kept, **environment(dsn)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def day_of(database: Database, **columns: Any) -> None:
    """Half a day of a server's metrics, up to now, after half a day of nothing."""
    server = await add_server(database, "web-1")
    newest = Period.FIVE_MINUTES.start_of(datetime.now(UTC))
    for number in range(144):
        values = {"cpu_percent": 10.0 + number % 2, "cpu_percent_max": 90.0, "network_rx_bytes": 300_000, **columns}
        await add_row(database, server, "5m", newest - number * STEP, **values)


async def test_a_day_is_drawn_with_its_gap_and_its_figures(dsn: str, database: Database) -> None:
    await day_of(database)
    status, out, _ = await show(dsn, "web-1")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "web-1, the last 24h by 5m"
    assert lines[2] == "cpu  min 10.0 %  avg 10.5 %  max 90.0 %  last 10.0 %"
    foot = lines[5].strip()
    assert len(foot) == 98
    assert foot[:40] == GAP * 40, "half a day without values"
    assert GAP not in foot[60:]
    assert "network-rx  min 1.0 kB/s  avg 1.0 kB/s  max 1.0 kB/s  last 1.0 kB/s" in lines
    assert not any(line.startswith(("memory", "users")) for line in lines), "what has no values is not drawn"


async def test_the_metrics_that_are_asked_for_are_shown(dsn: str, database: Database) -> None:
    await day_of(database, llm_requests=4, llm_cost_usd=0.5)
    status, out, _ = await show(dsn, "web-1", "--range", "1d", "-m", "llm-cost", "-m", "memory", "-m", "llm-requests")
    assert status == 0
    headings = [line.split()[0] for line in out.splitlines()[1:] if line and not line.startswith(" ")]
    assert headings == ["llm-cost", "memory:", "llm-requests"]
    assert "llm-cost  min $0.5000  avg $0.5000  max $0.5000  last $0.5000" in out
    assert "memory: no values" in out


async def test_json_is_what_the_api_says(dsn: str, database: Database) -> None:
    await day_of(database)
    status, out, _ = await show(dsn, "web-1", "--range", "24h", "--json")
    found = json.loads(out)
    assert (status, found["period"]) == (0, "5m")
    assert len(found["timestamps"]) == len(found["columns"]["cpu_percent"])
    assert sum(value is not None for value in found["columns"]["cpu_percent"]) == 144


async def test_without_metrics_one_line_says_so(dsn: str, database: Database) -> None:
    server = await add_server(database, "web-1")
    assert (await show(dsn, "web-1", "--range", "90m"))[:2] == (
        0,
        "No metrics of web-1 in the last 90m; it was never collected from.\n",
    )
    await execute(
        database,
        "INSERT INTO server_last_collections (server_id, collected_at, error) VALUES ($1, $2, 'connection refused')",
        server,
        datetime.now(UTC) - timedelta(days=2),
    )
    status, out, _ = await show(dsn, "web-1")
    assert status == 0
    assert out.startswith("No metrics of web-1 in the last 24h; it was last collected from 2 d ago")
    assert out.endswith(", and since then: connection refused.\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ("web-1", "--range", "soon"),
            "--range is 'soon'; accepted are minutes, hours or days such as 90m, 24h or 30d",
        ),
        (("web-1", "--range", "0h"), "--range is '0h'"),
        (("web-1", "--range", "9999d"), "up to ten years"),
        (("web-1", "--metric", "heat"), "--metric is 'heat'; accepted are cpu, memory, disk, network-rx"),
        (("nobody",), "there is no server named 'nobody'"),
    ],
)
async def test_what_cannot_be_shown_is_one_line_on_stderr(dsn: str, arguments: tuple[str, ...], complaint: str) -> None:
    status, out, err = await show(dsn, *arguments)
    assert (status, out, len(err.splitlines())) == (1, "", 1)
    assert complaint in err

"""`opsfleet partitions` and a start without what an archive needs, as an operator meets them."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from opsfleet.domain.partitions import Month
from opsfleet.store.database import Database
from tests.support.history import add_health, add_metrics, make_month
from tests.support.product import environment

START = "import sys; sys.argv[0] = 'opsfleet'; from opsfleet.cli.main import main; main()"
WITHOUT_PYARROW = "import sys; sys.modules['pyarrow'] = None; " + START


async def run(dsn: str, *arguments: str, code: str = START, **settings: object) -> tuple[int, str, str]:
    """Return exit status, output and errors of a command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        *arguments,
        env={**os.environ, **environment(dsn, **settings)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def test_it_lists_what_there_is_and_what_comes_next_and_changes_nothing(
    dsn: str, database: Database, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    old, current = Month(2026, 1), Month.of(now)
    await make_month(database, old)
    await add_metrics(database, old.start, rows=500)
    await add_health(database, datetime(2031, 5, 6, tzinfo=UTC), rows=1)
    async with database.connection() as connection:
        await connection.execute("ANALYZE server_metrics_aggregated_2026_01_1m")
        await connection.execute("INSERT INTO metrics_rollups_due (period, bucket) VALUES ('5m', '2026-01-05')")
    longer = {"retention_health_days": 36_500, "retention_metrics_1d_days": 36_500}
    status, out, errors = await run(dsn, "partitions", archive_dir=tmp_path, **longer)
    assert (status, errors) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "TABLE MONTH PERIOD ROWS (ESTIMATE) SIZE STATE"
    until = (old.end + timedelta(days=36_500)).strftime("%Y-%m-%d")
    assert any(line.startswith("server_health_checks 2026-01 - ") and f"kept until {until}" in line for line in lines)
    assert any(line.startswith("server_health_checks - - ") and "default: rows waiting" in line for line in lines)
    assert any(line.startswith(f"server_metrics_aggregated {current} 1m ") and "current" in line for line in lines)
    minutes = next(line for line in lines if line.startswith("server_metrics_aggregated 2026-01 1m 500 "))
    assert minutes.endswith("past its retention, kept until it is rolled up")
    move = "make server_health_checks_2031_05 and move the rows of 2031-05 out of server_health_checks_default"
    assert f"next maintenance: {move}" in lines
    async with database.connection() as connection:
        await connection.execute("DELETE FROM metrics_rollups_due")
    _, out, _ = await run(dsn, "partitions", archive_dir=tmp_path, **longer)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert next(line for line in lines if " 2026-01 1m 500 " in line).endswith("dropped at the next maintenance")
    target = tmp_path / "server_metrics_aggregated" / "server_metrics_aggregated_2026_01_1m.parquet"
    assert f"next maintenance: drop server_metrics_aggregated_2026_01_1m, archived before to {target}" in lines
    assert any(line.startswith(f"{current.end:%Y-%m-%d}: make server_health_checks_") for line in lines)


async def test_json_says_the_same_to_programs(dsn: str, database: Database) -> None:
    await make_month(database, Month(2026, 1))
    status, out, errors = await run(dsn, "partitions", "--json")
    assert (status, errors) == (0, "")
    found = json.loads(out)
    rows = {row["name"]: row for row in found["partitions"]}
    minutes = rows["server_metrics_aggregated_2026_01_1m"]
    assert (minutes["table"], minutes["month"], minutes["period"]) == ("server_metrics_aggregated", "2026-01", "1m")
    assert (minutes["state"], minutes["kept_until"]) == ("due", "2026-03-03T00:00:00Z")
    assert minutes["rows_estimate"] is None, "PostgreSQL has not looked yet"
    assert minutes["size_bytes"] > 0
    assert rows["fleet_metrics_default"]["state"] == "empty"
    drop = "drop server_metrics_aggregated_2026_01_1m (not archived: FLEET_ARCHIVE_DIR is not set)"
    assert {"at": None, "action": drop} in found["next_actions"]


async def test_an_empty_database_is_told_what_to_do(empty_dsn: str) -> None:
    status, out, errors = await run(empty_dsn, "partitions")
    assert (status, out) == (1, "")
    assert errors.count("\n") == 1
    assert "run opsfleet migrate" in errors


async def test_a_start_without_pyarrow_stops_with_the_remedy(dsn: str, tmp_path: Path) -> None:
    status, _, errors = await run(dsn, "serve", code=WITHOUT_PYARROW, archive_dir=tmp_path)
    assert status == 1
    assert errors == (
        "opsfleet: FLEET_ARCHIVE_DIR is set, but pyarrow, which writes the archive, is not installed; "
        "install it with: pip install 'opsfleet[archive]'\n"
    )


async def test_the_doctor_names_what_the_archive_lacks(dsn: str, tmp_path: Path) -> None:
    _, out, _ = await run(dsn, "doctor", code=WITHOUT_PYARROW, archive_dir=tmp_path)
    assert "FAIL  archive" in out
    assert "→ pip install 'opsfleet[archive]'" in out
    _, out, _ = await run(dsn, "doctor", archive_dir=tmp_path)
    assert f"history goes to {tmp_path} before it is dropped" in out

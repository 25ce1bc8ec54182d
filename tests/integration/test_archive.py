"""Before history is dropped it is archived: exactly, verified, and whatever happens at whatever moment."""

import asyncio
import signal
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import structlog
from pyarrow import parquet

from opsfleet.domain.partitions import Month, Part
from opsfleet.services import parquet as files
from opsfleet.services.archive import Archive
from opsfleet.services.maintenance import MaintenanceService
from opsfleet.services.retention import RetentionService
from opsfleet.store import part_contents
from opsfleet.store.database import Connection, Database
from opsfleet.store.part_contents import Contents
from tests.support.history import RETENTION, add_health, add_metrics, fetch, make_month, names, sums

JANUARY = Month(2026, 1)
DUE_1M = datetime(2026, 3, 3, tzinfo=UTC)
LATER = datetime(2026, 8, 1, tzinfo=UTC)
MINUTES = "server_metrics_aggregated/server_metrics_aggregated_2026_01_1m.parquet"
HEALTH = "server_health_checks/server_health_checks_2026_01.parquet"


@pytest.fixture
async def january(database: Database) -> Database:
    """A database with a January."""
    await make_month(database, JANUARY)
    await add_metrics(database, JANUARY.start, rows=30_000)
    return database


def service(database: Database, folder: Path) -> RetentionService:
    return RetentionService(database, RETENTION, Archive(folder))


def archived(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def comparable(value: Any) -> Any:
    return str(value) if hasattr(value, "hex") and not isinstance(value, float) else value


async def test_a_part_is_archived_with_every_value_and_then_dropped(january: Database, tmp_path: Path) -> None:
    before = await fetch(january, "SELECT * FROM server_metrics_aggregated WHERE period = '1m' ORDER BY timestamp")
    with structlog.testing.capture_logs() as logs:
        enforced = await service(january, tmp_path).enforce(DUE_1M)
    assert "server_metrics_aggregated_2026_01_1m" in enforced.dropped
    assert archived(tmp_path) == {MINUTES}, "a part without rows makes no file, and nothing unfinished is left"
    table = parquet.read_table(tmp_path / MINUTES)
    assert {
        name: table.schema.field(name).type
        for name in ("timestamp", "server_id", "llm_cost_usd", "network_rx_bytes", "cpu_percent", "sample_count")
    } == {
        "timestamp": pa.timestamp("us", "UTC"),
        "server_id": pa.string(),
        "llm_cost_usd": pa.decimal128(20, 6),
        "network_rx_bytes": pa.int64(),
        "cpu_percent": pa.float32(),
        "sample_count": pa.int16(),
    }
    found = sorted(table.to_pylist(), key=lambda row: row["timestamp"])
    assert found == [{name: comparable(value) for name, value in row.items()} for row in before]
    assert parquet.ParquetFile(tmp_path / MINUTES).metadata.row_group(0).column(0).compression == "ZSTD"
    assert "Partition server_metrics_aggregated_2026_01_1m dropped: past its retention, 30000 rows archived" in [
        line["event"] for line in logs
    ]


@pytest.mark.parametrize("message", [None, "", 'a "quoted", text\nof two lines\\N', "Ünïcødé ✓", "NULL"])
async def test_texts_are_archived_as_they_are(january: Database, tmp_path: Path, message: str | None) -> None:
    details = {"message": message, "list": [1, None, "\n"]}
    await add_health(january, JANUARY.start, rows=3, message=message, details=details)
    (text,) = await fetch(january, "SELECT DISTINCT error_details::text AS text FROM server_health_checks")
    assert "server_health_checks_2026_01" in (await service(january, tmp_path).enforce(LATER)).dropped
    rows = parquet.read_table(tmp_path / HEALTH).to_pylist()
    assert [(row["error_message"], row["error_details"], row["database_healthy"]) for row in rows] == [
        (message, text["text"], None)
    ] * 3
    assert [row["timestamp"].microsecond for row in rows] == [1, 2, 3]


async def test_sums_over_a_whole_fleet_are_archived_exactly(january: Database, tmp_path: Path) -> None:
    async with january.connection() as connection:
        await connection.execute(
            """
            INSERT INTO fleet_metrics (organization_id, period, timestamp, region, environment, servers, sample_count,
                cpu_percent_count, memory_percent_count, disk_percent_count, network_rx_bytes, llm_cost_usd)
            VALUES (gen_random_uuid(), '1m', $1, '', 'production', 1, 1, 1, 1, 1, $2, $3)
            """,
            JANUARY.start,
            Decimal(10**30 + 1),
            Decimal("99999999999999.000001"),
        )
    await service(january, tmp_path).enforce(DUE_1M)
    (row,) = parquet.read_table(tmp_path / "fleet_metrics/fleet_metrics_2026_01_1m.parquet").to_pylist()
    assert (row["network_rx_bytes"], row["llm_cost_usd"]) == (10**30 + 1, Decimal("99999999999999.000001"))
    assert (row["region"], row["cpu_percent_sum"]) == ("", None)


async def test_a_file_that_lacks_rows_is_not_put_in_place_and_the_part_stays(
    january: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await sums(january)
    stream = part_contents.stream

    async def losing(connection: Connection, contents: Contents, sink: Any) -> None:
        async def cut(data: bytes) -> None:
            lines = data.splitlines(keepends=True)
            await sink(b"".join(line for line in lines if b",20000," not in line))

        await stream(connection, contents, cut)

    monkeypatch.setattr(part_contents, "stream", losing)
    with structlog.testing.capture_logs() as logs:
        enforced = await service(january, tmp_path).enforce(DUE_1M)
    assert enforced.put_off == ["server_metrics_aggregated_2026_01_1m"]
    assert archived(tmp_path) == set()
    assert await sums(january) == before
    assert any("does not hold what server_metrics_aggregated_2026_01_1m holds" in line["event"] for line in logs)


async def test_a_folder_that_cannot_be_written_keeps_the_part_and_says_why(january: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with structlog.testing.capture_logs() as logs:
        enforced = await service(january, tmp_path / "file").enforce(DUE_1M)
    assert enforced.put_off == ["server_metrics_aggregated_2026_01_1m"]
    assert "2026_01_1m" in await names(january)
    assert any(str(tmp_path / "file") in line["event"] and line["log_level"] == "error" for line in logs)


async def test_a_value_that_does_not_fit_keeps_the_part(january: Database, tmp_path: Path) -> None:
    async with january.connection() as connection:
        await connection.execute(
            "UPDATE server_metrics_aggregated SET llm_cost_usd = 0.0000001 WHERE active_users = -9"
        )
    enforced = await service(january, tmp_path).enforce(DUE_1M)
    assert enforced.put_off == ["server_metrics_aggregated_2026_01_1m"]
    assert archived(tmp_path) == set()


async def test_rows_that_come_between_archive_and_drop_are_archived_too(
    january: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, late = Archive.store, [True]

    async def with_a_late_row(archive: Archive, database: Database, part: Part) -> Contents:
        contents = await store(archive, database, part)
        if part.table == "server_metrics_aggregated" and late:
            late.pop()
            await add_metrics(january, JANUARY.start, rows=1)
            async with january.connection() as connection:
                await connection.execute(
                    "UPDATE server_metrics_aggregated SET llm_requests = 1000 WHERE period = '1m' AND active_users = -9"
                )
        return contents

    monkeypatch.setattr(Archive, "store", with_a_late_row)
    enforced = await service(january, tmp_path).enforce(DUE_1M)
    assert "server_metrics_aggregated_2026_01_1m" in enforced.dropped
    rows = parquet.read_table(tmp_path / MINUTES).to_pylist()
    assert len(rows) == 30_001
    assert [row["llm_requests"] for row in rows if row["active_users"] == -9] == [1000]


async def test_rows_that_come_after_the_drop_have_a_file_of_their_own(january: Database, tmp_path: Path) -> None:
    await service(january, tmp_path).enforce(LATER)
    expected = (await sums(january, tmp_path))[0]
    await service(january, tmp_path).enforce(datetime(2029, 2, 1, tzinfo=UTC))
    assert "2026_01" not in await names(january)
    for more in (1, 2):
        await add_metrics(january, JANUARY.start, rows=10)
        with structlog.testing.capture_logs() as logs:
            await MaintenanceService(january).ensure_partitions()
        assert "Partition server_metrics_aggregated_2026_01 was missing: 10 rows were moved into it" in [
            line["event"] for line in logs
        ]
        await service(january, tmp_path).enforce(datetime(2029, 2, 1, tzinfo=UTC))
        assert (await sums(january, tmp_path))[0] == expected + 10 * more
    assert archived(tmp_path) == {MINUTES, MINUTES.replace(".", "-2."), MINUTES.replace(".", "-3.")}


KILLED = """
import asyncio, os, signal, sys
from datetime import datetime
from pathlib import Path
from opsfleet.domain.retention import Retention
from opsfleet.services import archive, parquet
from opsfleet.services.archive import Archive
from opsfleet.services.retention import RetentionService
from opsfleet.store import partitions
from opsfleet.store.database import Database

point, dsn, folder, now = sys.argv[1:]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

async def die_at_once(*_):
    die()

trying = partitions._trying
calls = []

async def drop_and_die(attempt):
    found = await trying(attempt)
    calls.append(attempt)
    if len(calls) == 3:  # after the part was given its identity and locked
        die()
    return found

if point == "before verification":
    parquet.totals = die
elif point == "between verification and renaming":
    archive.os.replace = die
elif point == "between renaming and the drop":
    partitions.drop = die_at_once
elif point == "inside the drop":
    partitions._trying = drop_and_die
elif point == "after the drop":
    drop = partitions.drop
    async def drop_then_die(*given):
        await drop(*given)
        die()
    partitions.drop = drop_then_die

retention = Retention(90, {"1m": 30, "5m": 180, "15m": 180, "1h": 1095, "1d": 1095})
asyncio.run(RetentionService(Database(dsn), retention, Archive(Path(folder))).enforce(datetime.fromisoformat(now)))
"""


@pytest.mark.parametrize(
    ("point", "left"),
    [
        ("before verification", (True, False, True)),
        ("between verification and renaming", (True, False, True)),
        ("between renaming and the drop", (True, True, False)),
        ("inside the drop", (True, True, False)),
        ("after the drop", (False, True, False)),
    ],
)
async def test_killed_at_any_moment_no_row_is_lost_or_there_twice(
    january: Database, tmp_path: Path, point: str, left: tuple[bool, bool, bool]
) -> None:
    expected = await sums(january)
    arguments = (point, january.dsn, str(tmp_path), DUE_1M.isoformat())
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, *arguments)
    assert await process.wait() == -signal.SIGKILL
    async with asyncio.timeout(20):
        while await fetch(january, "SELECT FROM pg_locks WHERE locktype = 'advisory'"):
            await asyncio.sleep(0.02)
    found = archived(tmp_path)
    has_part = "2026_01_1m" in await names(january)
    assert (has_part, MINUTES in found, any(name.endswith(".partial") for name in found)) == left
    await service(january, tmp_path).enforce(DUE_1M)
    assert archived(tmp_path) == {MINUTES}
    assert "2026_01_1m" not in await names(january)
    assert await sums(january, tmp_path) == expected


async def test_a_file_that_was_changed_on_disk_is_noticed(january: Database, tmp_path: Path) -> None:
    await service(january, tmp_path).enforce(DUE_1M)
    target = tmp_path / MINUTES
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 0xFF
    target.write_bytes(data)
    with pytest.raises(files.ArchiveError):
        files.totals(target, {"timestamp": "timestamp with time zone", "network_rx_bytes": "bigint"})

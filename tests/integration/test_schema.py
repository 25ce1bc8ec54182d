"""The schema: made once, made the same either way, and fast where it must be."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from opsfleet.domain.partitions import Month, months_to_keep_ready
from opsfleet.services.maintenance import MaintenanceService
from opsfleet.store import partitions
from opsfleet.store.database import Database
from opsfleet.store.migrate import MigrationError, current_revision, known_revisions, migrate, newest_revision
from opsfleet.store.partitions import PartitionedTable

SCHEMA = """
SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT tgrelid::regclass || ' ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT viewname || ' ' || definition FROM pg_views WHERE schemaname = 'public'
ORDER BY 1
"""


async def schema_of(database: Database) -> list[str]:
    async with database.connection() as connection:
        return [row[0] for row in await connection.fetch(SCHEMA)]


async def test_an_empty_database_is_brought_to_the_newest_schema_once(empty_dsn: str) -> None:
    database = Database(empty_dsn)
    first = await migrate(database)
    schema = await schema_of(database)
    assert (first, await migrate(database)) == (newest_revision(), newest_revision())
    assert await schema_of(database) == schema
    await database.close()


async def test_an_upgraded_database_and_a_new_one_are_the_same(empty_dsn: str, dsn: str) -> None:
    upgraded, new = Database(empty_dsn), Database(dsn)
    script = (
        "import asyncio, sys\n"
        "from alembic import command\n"
        "from opsfleet.store.migrations import upgrade\n"
        "step = upgrade.command.upgrade\n"
        "for revision in sys.argv[2:]:\n"
        "    upgrade.command.upgrade = lambda config, _, revision=revision: step(config, revision)\n"
        "    asyncio.run(upgrade.to_head(sys.argv[1]))\n"
    )
    process = await asyncio.create_subprocess_exec(".venv/bin/python", "-c", script, empty_dsn, *known_revisions())
    assert await process.wait() == 0
    await MaintenanceService(upgraded).ensure_partitions()
    assert await schema_of(upgraded) == await schema_of(new)
    await upgraded.close()
    await new.close()


async def test_several_processes_may_migrate_at_once(empty_dsn: str) -> None:
    databases = [Database(empty_dsn) for _ in range(3)]
    assert set(await asyncio.gather(*(migrate(database) for database in databases))) == {newest_revision()}
    for database in databases:
        await database.close()


async def test_a_schema_from_the_future_is_refused_with_a_remedy(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(MigrationError, match=r"9999.*run the newer version"):
        await migrate(database)


async def test_there_is_one_default_organization(database: Database) -> None:
    async with database.connection() as connection:
        assert await connection.fetch("SELECT name, slug FROM organizations") == [("Default", "default")]
        assert await current_revision(connection) == newest_revision()


async def test_this_month_and_the_next_two_have_partitions(database: Database) -> None:
    async with database.connection() as connection:
        present = await partitions.existing(connection, "server_health_checks")
    wanted = {month.partition("server_health_checks") for month in months_to_keep_ready(datetime.now(UTC))}
    assert wanted | {"server_health_checks_default"} == present
    assert await MaintenanceService(database).missing_partitions() == ([], False)


async def insert(connection: Any, moment: datetime) -> None:
    await connection.execute(
        "INSERT INTO server_health_checks (server_id, timestamp, status) VALUES (gen_random_uuid(), $1, 'healthy')",
        moment,
    )


async def test_a_row_without_a_partition_is_kept_and_moved_to_its_month_later(database: Database) -> None:
    far = datetime(2031, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)
    async with database.connection() as connection:
        await insert(connection, far)
        await insert(connection, datetime(2031, 3, 1, tzinfo=UTC))
        assert await connection.fetchval("SELECT count(*) FROM server_health_checks_default") == 2
    made = await MaintenanceService(database).ensure_partitions()
    assert made == ["server_health_checks_2031_02", "server_health_checks_2031_03"]
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM server_health_checks_default") == 0
        assert await connection.fetchval("SELECT timestamp FROM server_health_checks_2031_02") == far
        assert await connection.fetchval("SELECT count(*) FROM server_health_checks") == 2
    assert await MaintenanceService(database).ensure_partitions() == []


async def test_a_partition_dropped_by_hand_comes_back(database: Database) -> None:
    name = Month.of(datetime.now(UTC)).partition("server_health_checks")
    async with database.connection() as connection:
        await connection.execute(f"DROP TABLE {name}")
        await insert(connection, datetime.now(UTC))
    assert await MaintenanceService(database).missing_partitions() == ([name], True)
    assert await MaintenanceService(database).ensure_partitions() == [name]
    async with database.connection() as connection:
        assert await connection.fetchval(f"SELECT count(*) FROM {name}") == 1


async def test_making_a_partition_waits_for_a_writer_only_in_short_tries(database: Database) -> None:
    async with database.connection() as writer:
        transaction = writer.transaction()
        await transaction.start()
        await insert(writer, datetime(2040, 1, 1, tzinfo=UTC))
        table = PartitionedTable("server_health_checks")
        making = asyncio.create_task(partitions.ensure(database, table, [Month(2041, 1)]))
        async with database.connection() as other:
            # While the maker queues for its lock, others can write between its tries.
            for _ in range(3):
                await insert(other, datetime.now(UTC))
        assert not making.done()
        await transaction.commit()
    assert [created.name for created in await making] == ["server_health_checks_2041_01"]


async def test_maintenance_of_several_processes_at_once_is_harmless(database: Database) -> None:
    others = [Database(database.dsn) for _ in range(3)]
    async with database.connection() as connection:
        await connection.execute("DROP TABLE " + Month.of(datetime.now(UTC)).partition("server_health_checks"))
    await asyncio.gather(*(MaintenanceService(other).ensure_partitions() for other in others))
    assert await MaintenanceService(database).missing_partitions() == ([], False)
    for other in others:
        await other.close()


async def filled(database: Database, servers: int = 2_000, checks: int = 10) -> None:
    async with database.connection() as connection:
        await connection.execute(
            """
            INSERT INTO managed_servers (id, organization_id, name, hostname, api_url, api_token_hash,
                api_token_ciphertext, health_status, tags)
            SELECT gen_random_uuid(), o.id, 's-' || n, 'h', 'https://h', '', '', 'healthy', '["web"]'
            FROM organizations o, generate_series(1, $1) n
            """,
            servers,
        )
        await connection.execute(
            """
            INSERT INTO server_health_checks (server_id, timestamp, status)
            SELECT id, date_trunc('minute', now()) - n * interval '1 second', 'healthy'
            FROM managed_servers, generate_series(1, $1) n
            """,
            checks,
        )
        await connection.execute(
            """
            INSERT INTO health_transitions (server_id, organization_id, to_status, at)
            SELECT id, organization_id, 'healthy', now() - n * interval '1 hour'
            FROM managed_servers, generate_series(1, 30) n
            """
        )
        await connection.execute("ANALYZE")


def nodes(plan: dict[str, Any]) -> list[tuple[str, str]]:
    found = [(plan["Node Type"], plan.get("Index Name", plan.get("Relation Name", "")))]
    for inner in plan.get("Plans", []):
        found += nodes(inner)
    return found


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (
            """
            SELECT * FROM server_health_checks WHERE server_id = (SELECT id FROM managed_servers WHERE name = 's-7')
            AND timestamp >= now() - interval '1 day' AND timestamp < now() ORDER BY timestamp DESC LIMIT 100
            """,
            "_pkey",
        ),
        ("SELECT * FROM managed_servers ORDER BY organization_id, name, id LIMIT 100", "managed_servers_organization"),
        (
            """
            SELECT * FROM health_transitions WHERE server_id = (SELECT id FROM managed_servers WHERE name = 's-7')
            ORDER BY at DESC LIMIT 100
            """,
            "health_transitions_pkey",
        ),
    ],
)
async def test_hot_queries_use_their_index(database: Database, query: str, index: str) -> None:
    await filled(database)
    async with database.connection() as connection:
        raw = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {query}")
    plan = nodes(json.loads(raw)[0]["Plan"])
    assert any("Index" in kind and index in name for kind, name in plan), plan
    assert not any(kind == "Seq Scan" and name.startswith("server_health_checks_2") for kind, name in plan), plan


async def test_the_workers_updates_stay_within_their_page_and_announce_nothing(database: Database) -> None:
    await filled(database, servers=200, checks=1)
    heard: list[str] = []
    listener = await asyncpg.connect(database.dsn)
    await listener.add_listener("fleet_registry", lambda *_: heard.append("changed"))
    async with database.connection() as connection:
        for _ in range(3):
            await connection.execute("UPDATE managed_servers SET last_health_check_at = now(), last_seen_at = now()")
        await connection.execute("SELECT pg_stat_force_next_flush()")
        row = await connection.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'managed_servers'"
        )
        assert row is not None
        assert row["n_tup_hot_upd"] >= 0.5 * row["n_tup_upd"] > 0
        await connection.execute("UPDATE managed_servers SET description = 'x', updated_at = now()")
    while not heard:
        await listener.execute("SELECT 1")
    assert heard == ["changed"]
    await listener.close()

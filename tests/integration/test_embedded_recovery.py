"""Whatever was killed, the next start comes up by itself and has everything that was committed."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

import opsfleet.embedded.server as server_module
from opsfleet.embedded import EmbeddedPostgres, EmbeddedPostgresError
from opsfleet.embedded.locks import LockFile
from tests.support.postgres import OtherProcess, postgres_binaries, query, short_folder

# What was committed must outlive the processes, though not the machine.
SETTINGS = {"fsync": "off"}


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder / "fleet"


@pytest.fixture
def server(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    one = EmbeddedPostgres(data_dir, settings=SETTINGS, binaries=postgres_binaries())
    yield one
    one.stop()


@pytest.fixture
def bystander(server: EmbeddedPostgres) -> Iterator[psutil.Process]:
    """A process that has nothing to do with us, of the user that PostgreSQL runs as."""
    user = server.system_user if os.geteuid() == 0 else None
    with subprocess.Popen(["sleep", "600"], user=user) as child:
        yield psutil.Process(child.pid)
        child.kill()


def kill(pid: int | None) -> None:
    process = psutil.Process(pid)
    process.kill()
    process.wait(60)


def test_the_server_that_a_killed_process_left_behind_is_adopted(data_dir: Path, server: EmbeddedPostgres) -> None:
    killed = OtherProcess(data_dir, settings=SETTINGS)
    pid = killed.server_pid()
    query(killed.dsn(), "CREATE TABLE kept AS SELECT 42 AS answer")
    killed.kill()

    server.start()
    assert server.pid == pid
    assert query(server.dsn, "SELECT answer FROM kept") == 42
    server.stop()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_everything_killed_at_once_is_recovered(data_dir: Path, server: EmbeddedPostgres) -> None:
    killed = OtherProcess(data_dir, settings=SETTINGS)
    pid = killed.server_pid()
    query(killed.dsn(), "CREATE TABLE kept AS SELECT generate_series(1, 10000) AS number")
    killed.kill()
    kill(pid)
    assert (data_dir / "postgres/data/postmaster.pid").exists()

    server.start()
    assert server.pid != pid
    assert query(server.dsn, "SELECT count(*) FROM kept") == 10_000


def test_a_server_that_was_killed_is_started_again_at_the_same_address(server: EmbeddedPostgres) -> None:
    server.start()
    dsn = server.dsn
    query(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert not server.ensure_running()

    kill(server.pid)
    assert not server.is_running
    assert server.ensure_running()
    assert server.dsn == dsn
    assert query(dsn, "SELECT answer FROM kept") == 42


def test_a_busy_query_that_outlives_its_server_does_not_block_the_next(
    data_dir: Path, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_ORPHANS_SECONDS", 0.0)
    server.start()

    async def kill_while_busy() -> psutil.Process:
        busy = await asyncpg.connect(server.dsn)
        backend = psutil.Process(busy.get_server_pid())
        # One row that takes for ever: no waiting in between in which the end of the first process would be noticed.
        endless = asyncio.create_task(busy.fetch("SELECT count(*) FROM generate_series(1, 1000000000000) AS n"))
        watcher = await asyncpg.connect(server.dsn)
        while not await watcher.fetchval("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%10000000%')"):
            pass
        await watcher.close()
        await asyncio.to_thread(kill, server.pid)
        assert await asyncio.to_thread(server.ensure_running)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await endless
        busy.terminate()
        return backend

    backend = asyncio.run(kill_while_busy())
    assert not backend.is_running() or backend.status() == psutil.STATUS_ZOMBIE
    assert query(server.dsn, "SELECT 1") == 1


@pytest.mark.parametrize("status", ["ready   ", "starting", ""])
def test_a_process_that_got_the_old_number_is_left_alone(
    server: EmbeddedPostgres, data_dir: Path, bystander: psutil.Process, status: str
) -> None:
    server.start()
    query(server.dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    lines = (data_dir / "postgres/data/postmaster.pid").read_text().splitlines()
    kill(server.pid)
    lines[0], lines[7] = str(bystander.pid), status
    (data_dir / "postgres/data/postmaster.pid").write_text("\n".join(lines) + "\n")
    (data_dir / "postgres/run/.s.PGSQL.5432.lock").write_text("\n".join([*lines[:5], ""]))

    assert server.ensure_running()
    assert server.pid != bystander.pid
    assert query(server.dsn, "SELECT answer FROM kept") == 42
    server.stop()
    assert bystander.status() == psutil.STATUS_SLEEPING


def test_a_broken_process_file_is_not_in_the_way(server: EmbeddedPostgres, data_dir: Path) -> None:
    server.start()
    server.stop()
    for content in ("", "\n", "garbage\n", "0\n", "1\n", "99999999999999\n"):
        (data_dir / "postgres/data/postmaster.pid").write_text(content)
        server.start()
        assert query(server.dsn, "SELECT 1") == 1
        server.stop()


def test_a_server_that_cannot_be_seen_from_here_keeps_its_data(
    server: EmbeddedPostgres, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is held and its process ID means nothing, as it is with a data folder on two containers."""
    monkeypatch.setattr(server_module, "_LOCK_SECONDS", 0.1)
    server.start()
    server.stop()
    unseen = LockFile(data_dir / "postgres/server.lock")
    unseen.exclude()
    with pytest.raises(EmbeddedPostgresError, match="in use by processes that cannot be seen from here"):
        server.start()
    unseen.close()
    server.start()


def test_an_unfinished_cluster_is_never_taken_for_a_whole_one(server: EmbeddedPostgres, data_dir: Path) -> None:
    unfinished = data_dir / "postgres/.unfinished-data-x"
    unfinished.mkdir(parents=True)
    if os.geteuid() == 0:
        data_dir.chmod(0o711)
    (unfinished / "PG_VERSION").write_text("18\n")
    server.start()
    assert query(server.dsn, "SELECT 1") == 1
    assert not unfinished.exists()


def test_a_server_that_cannot_start_says_why(data_dir: Path) -> None:
    settings = {**SETTINGS, "shared_buffers": "nonsense"}
    broken = EmbeddedPostgres(data_dir, settings=settings, binaries=postgres_binaries())
    with pytest.raises(EmbeddedPostgresError, match=r"could not start.*postgresql\.conf.*contains errors"):
        broken.start()
    assert not broken.is_running


def test_a_server_that_is_interrupted_shuts_down_and_is_started_again(server: EmbeddedPostgres) -> None:
    server.start()
    process = psutil.Process(server.pid)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert server.ensure_running()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")
def test_in_a_container_that_may_not_look_into_processes_the_server_is_still_adopted(data_dir: Path) -> None:
    without = ["setpriv", "--bounding-set", "-sys_ptrace"]
    killed = OtherProcess(data_dir, settings=SETTINGS, prefix=without)
    pid = killed.server_pid()
    killed.kill()
    next_one = OtherProcess(data_dir, settings=SETTINGS, prefix=without)
    assert next_one.server_pid() == pid
    next_one.leave()
    assert next_one.exit_status == 0
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

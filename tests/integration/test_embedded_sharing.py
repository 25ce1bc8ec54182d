"""Several processes work with one data folder, and come and go as they like."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from opsfleet.embedded import EmbeddedPostgres, EmbeddedPostgresError
from tests.support.postgres import THROW_AWAY, OtherProcess, postgres_binaries, query, short_folder


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder / "fleet"


def server(data_dir: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(data_dir, settings=THROW_AWAY, binaries=postgres_binaries())


def test_the_second_joins_and_the_last_one_out_stops_the_server(data_dir: Path) -> None:
    first, second = server(data_dir), server(data_dir)
    first.start()
    second.start()
    process = psutil.Process(first.pid)
    assert second.pid == first.pid
    assert second.dsn == first.dsn

    first.stop()
    assert query(second.dsn, "SELECT 1") == 1

    second.stop()
    process.wait(60)
    assert not second.is_running
    assert second.pid is None


def test_starting_and_stopping_twice_does_it_once(data_dir: Path) -> None:
    one = server(data_dir)
    one.start()
    pid = one.pid
    one.start()
    assert one.pid == pid
    one.stop()
    one.stop()
    assert not one.is_running


def test_an_address_is_only_known_after_the_start(data_dir: Path) -> None:
    one = server(data_dir)
    with pytest.raises(EmbeddedPostgresError, match="call start first"):
        _ = one.dsn
    with pytest.raises(EmbeddedPostgresError, match="call start first"):
        one.ensure_running()


def test_what_was_stored_is_there_after_the_next_start(data_dir: Path) -> None:
    one = server(data_dir)
    one.start()
    query(one.dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    one.stop()
    one.start()
    assert query(one.dsn, "SELECT answer FROM kept") == 42
    one.stop()


def test_many_that_start_a_new_folder_at_once_share_one_server(data_dir: Path) -> None:
    others = [OtherProcess(data_dir) for _ in range(4)]
    try:
        pids = {other.server_pid() for other in others}
        assert len(pids) == 1
        process = psutil.Process(pids.pop())
    finally:
        for other in others:
            other.leave()
    process.wait(60)
    assert [other.exit_status for other in others] == [0] * 4


def test_a_command_beside_the_service_leaves_its_database_alone(data_dir: Path) -> None:
    service = server(data_dir)
    service.start()
    command = OtherProcess(data_dir)
    assert command.server_pid() == service.pid
    command.leave()
    assert query(service.dsn, "SELECT 1") == 1
    service.stop()


def test_the_one_that_started_it_may_leave_first(data_dir: Path) -> None:
    command = OtherProcess(data_dir)
    pid = command.server_pid()
    service = server(data_dir)
    service.start()
    command.leave()
    assert service.pid == pid
    assert query(service.dsn, "SELECT 1") == 1
    service.stop()
    psutil.wait_procs([p for p in psutil.process_iter() if p.pid == pid], timeout=60)
    assert not service.is_running


def test_one_that_is_killed_no_longer_counts(data_dir: Path) -> None:
    command = OtherProcess(data_dir)
    process = psutil.Process(command.server_pid())
    service = server(data_dir)
    service.start()
    command.kill()
    service.stop()
    process.wait(60)


def test_a_process_that_ends_without_a_stop_stops_the_server_on_its_way_out(data_dir: Path) -> None:
    command = OtherProcess(data_dir, forgets_to_stop=True)
    process = psutil.Process(command.server_pid())
    command.leave()
    process.wait(60)
    assert command.exit_status == 0


def test_ctrl_c_in_our_terminal_does_not_reach_the_server(data_dir: Path) -> None:
    one = server(data_dir)
    one.start()
    assert one.pid is not None
    assert os.getpgid(one.pid) != os.getpgrp()
    assert os.getsid(one.pid) != os.getsid(0)
    one.stop()


def test_a_server_that_somebody_else_is_shutting_down_is_started_anew(data_dir: Path) -> None:
    """SIGTERM lets clients finish first; a client that stays would keep the next start waiting."""
    command = OtherProcess(data_dir, connects=True)
    process = psutil.Process(command.server_pid())
    process.send_signal(signal.SIGTERM)
    service = server(data_dir)
    while b"stopping" not in (data_dir / "postgres/data/postmaster.pid").read_bytes():
        assert process.is_running()
    service.start()
    assert service.pid != process.pid
    assert query(service.dsn, "SELECT 1") == 1
    command.kill()
    service.stop()

"""What postmaster.pid says, whole, half-written and broken."""

import os
from pathlib import Path

import pytest

from opsfleet.embedded.postmaster import PidFile, find_postmaster, read_pid_file

WHOLE = "4711\n/srv/data\n1790000000\n5432\n/srv/run\n\n  5432001         0\nready   \n"


def test_a_running_server_s_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "postmaster.pid").write_text(WHOLE)
    assert read_pid_file(tmp_path) == PidFile(pid=4711, socket_dir="/srv/run", status="ready", single_user=False)


@pytest.mark.parametrize("lines", range(1, 8))
def test_a_file_that_is_not_all_written_yet_is_not_ready(tmp_path: Path, lines: int) -> None:
    (tmp_path / "postmaster.pid").write_text("\n".join(WHOLE.splitlines()[:lines]))
    file = read_pid_file(tmp_path)
    assert file is not None
    assert (file.pid, file.status) == (4711, "")


def test_single_user_mode_is_a_negative_number(tmp_path: Path) -> None:
    (tmp_path / "postmaster.pid").write_text("-4711\n/srv/data\n")
    file = read_pid_file(tmp_path)
    assert file is not None
    assert (file.pid, file.single_user) == (4711, True)


@pytest.mark.parametrize("content", ["", "\n", "garbage", "\0\0"])
def test_a_broken_file_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "postmaster.pid").write_text(content)
    assert read_pid_file(tmp_path) is None


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert read_pid_file(tmp_path) is None
    assert find_postmaster(tmp_path) is None


def test_a_process_that_is_no_postgresql_is_no_server(tmp_path: Path) -> None:
    (tmp_path / "postmaster.pid").write_text(WHOLE.replace("4711", str(os.getpid())))
    assert find_postmaster(tmp_path) is None

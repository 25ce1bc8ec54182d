"""Locks between processes, on files: the kernel lets go of them whatever way a process ends."""

import fcntl
import os
from pathlib import Path


class LockFile:
    """An open file to lock. Locks of two LockFiles of the same file exclude each other, within one process too."""

    def __init__(self, path: Path) -> None:
        # The folder may belong to another user than we are: never follow a link that user has put there.
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        owner = path.parent.stat()
        if os.geteuid() == 0 and os.fstat(self._file).st_uid != owner.st_uid:
            os.fchown(self._file, owner.st_uid, owner.st_gid)

    def fileno(self) -> int:
        """Return the descriptor; a child that inherits it holds the lock as long as it lives."""
        return self._file

    def share(self) -> None:
        """Take the lock together with others; blocks while somebody has it alone."""
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def exclude(self) -> None:
        """Take the lock alone; blocks while anybody has it."""
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def try_exclude(self) -> bool:
        """Take the lock alone if nobody else has it. Where this fails, a lock shared before is given up too."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Give the lock up and keep the file open."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, which gives up the lock unless a child has inherited it."""
        os.close(self._file)

"""The folders around a cluster: who owns them, who may enter, and where the socket is."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from opsfleet.embedded.accounts import Account
from opsfleet.embedded.cluster import PORT
from opsfleet.embedded.errors import EmbeddedPostgresError

_SOCKET = f".s.PGSQL.{PORT}"
_LONGEST_SOCKET_PATH = 107  # bytes; sun_path of unix(7) less its closing zero
# initdb starts the server through a shell, with the path between double quotes; postmaster.pid has a path in a line.
_UNQUOTABLE = set('"$`\\\r\n')
_ELSEWHERE = "socket-folder"


def prepare_home(home: Path, account: Account) -> None:
    """Make `home` and what is missing above it, and see that `account` can reach it.

    No permission of an existing folder above the data folder, `home`'s parent, is changed.
    """
    data_dir = home.parent
    if _UNQUOTABLE & set(str(data_dir)):
        raise EmbeddedPostgresError(
            f"PostgreSQL cannot work in {str(data_dir)!r}: name a folder without quotation marks, $, `, \\ and line "
            "breaks in FLEET_DATA_DIR."
        )
    if not data_dir.exists():
        _make_folders(data_dir, 0o700 if account.is_us else 0o711)
    elif not data_dir.is_dir():
        raise EmbeddedPostgresError(f"The data folder {data_dir} is a file: name a folder in FLEET_DATA_DIR.")
    blocked = account.first_unreachable(data_dir)
    if blocked == data_dir and not any(data_dir.iterdir()):
        # An empty folder was made for us, only too tightly. Whoever may enter it can still not list it.
        data_dir.chmod(stat.S_IMODE(data_dir.stat().st_mode) | 0o011)
        blocked = account.first_unreachable(data_dir)
    if blocked is not None:
        raise EmbeddedPostgresError(
            f"PostgreSQL cannot run as root, and the user {account.name} whom it runs as may not enter {blocked}: name "
            "a folder elsewhere, such as /var/lib/opsfleet, in FLEET_DATA_DIR."
        )
    home.mkdir(mode=0o700, exist_ok=True)
    if not account.is_us and home.stat().st_uid != account.uid:
        # Not owned by PostgreSQL's user, so that nothing root writes or runs in it can be swapped; open to that user's
        # group alone.
        os.chown(home, data_dir.stat().st_uid, account.gid)
        home.chmod(0o710)


def own_folder(folder: Path, account: Account) -> None:
    """Make a folder that is private to `account`."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not account.is_us:
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)


def make_socket_dir(home: Path, account: Account) -> Path:
    """Return a folder, private to `account`, for the socket.

    It lies in `home`, unless its path is longer than the kernel takes or holds a comma, which clients split hosts at.
    Then it is a folder elsewhere whose name is kept in `home`, the same one as long as it exists.
    """
    near = home / "run"
    if len(os.fsencode(near / _SOCKET)) <= _LONGEST_SOCKET_PATH and "," not in str(near):
        own_folder(near, account)
        return near
    known = _socket_dir_elsewhere(home)
    if known is not None and _is_private(known, account.uid):
        return known
    # Not the temporary folder of the environment, which may be long and out of the other user's reach; and for root
    # /run first, because a service may have a /tmp of its own that commands beside it do not see.
    for parent in (Path("/run"), Path(f"/run/user/{account.uid}"), Path("/tmp")):  # noqa: S108
        with contextlib.suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix="opsfleet-", dir=parent))
            own_folder(folder, account)
            if account.first_unreachable(folder) is not None:
                folder.rmdir()
                continue
            (home / _ELSEWHERE).unlink(missing_ok=True)
            with (home / _ELSEWHERE).open("x") as file:
                file.write(str(folder))
            return folder
    raise EmbeddedPostgresError(
        f"The path {home} is too long for a Unix socket and neither /run nor /tmp can be written to: name a shorter "
        "folder in FLEET_DATA_DIR."
    )


def remove_socket(folder: Path) -> None:
    """Remove what a dead server has left of its socket."""
    for name in (_SOCKET, f"{_SOCKET}.lock"):
        (folder / name).unlink(missing_ok=True)


def forget_socket_dir(home: Path) -> None:
    """Remove the socket's folder if it is not in `home`; to be called when the server has ended."""
    folder = _socket_dir_elsewhere(home)
    if folder is None:
        return
    with contextlib.suppress(OSError):
        if _is_private(folder, (home / "data").stat().st_uid):
            remove_socket(folder)
            folder.rmdir()
        (home / _ELSEWHERE).unlink(missing_ok=True)


def _socket_dir_elsewhere(home: Path) -> Path | None:
    try:
        return Path((home / _ELSEWHERE).read_text())
    except OSError:
        return None


def _is_private(folder: Path, uid: int) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid and not found.st_mode & 0o077


def _make_folders(folder: Path, mode: int) -> None:
    """Make a folder and those above it, which are open to all whatever our umask."""
    if not folder.parent.exists():
        _make_folders(folder.parent, 0o755)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(mode)

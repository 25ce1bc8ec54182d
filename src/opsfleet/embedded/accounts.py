"""Which user of the operating system PostgreSQL runs as, and whether that user can reach a folder."""

import os
import pwd
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from opsfleet.embedded.errors import EmbeddedPostgresError

# Programs get nothing of our environment: a PGHOST or PGOPTIONS of the user's must not reach PostgreSQL, nor its log
# speak another language. initdb tries every time zone it knows of unless it is told one.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

# Who runs PostgreSQL for root, the best first. See docs/decisions/0003-embedded-postgresql.md.
FOR_ROOT = ("opsfleet", "postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the operating system."""

    name: str
    uid: int
    gid: int

    @property
    def is_us(self) -> bool:
        """Whether this process already runs as this user."""
        return self.uid == os.geteuid()

    def start(
        self,
        command: list[str],
        *,
        output: int,
        pass_fds: Iterable[int] = (),
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start a program as this user, in a session of its own so that Ctrl-C in our terminal does not reach it."""
        try:
            return subprocess.Popen(  # noqa: S603 - no shell, and no part of the command comes from outside
                command,
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",  # the user need not be allowed into our current folder
                env=ENVIRONMENT,
                umask=0o077,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
                user=None if self.is_us else self.uid,
                group=None if self.is_us else self.gid,
                extra_groups=None if self.is_us else [],
            )
        except PermissionError as error:
            raise EmbeddedPostgresError(
                f"The user {self.name} may not run {command[0]}: if its disk is mounted noexec, name a folder on "
                "another one in FLEET_DATA_DIR; in a container, leave it the right to change to another user."
            ) from error

    def run(self, command: list[str], text: str = "") -> tuple[int, str]:
        """Run a program to its end as this user, with `text` as its input; returns its exit status and output."""
        with self.start(command, output=subprocess.PIPE, stdin=subprocess.PIPE) as process:
            output, _ = process.communicate(text.encode())
        return process.returncode, output.decode(errors="replace")

    def first_unreachable(self, folder: Path) -> Path | None:
        """Return the topmost folder on the way to `folder`, itself included, that this user may not enter."""
        if self.is_us:
            return None
        path = [*reversed(folder.parents), folder]
        # Asked of the kernel as that user, not worked out from mode bits: access control lists count as well.
        script = 'for folder; do test -x "$folder" || { printf %s "$folder"; exit 1; }; done'
        status, output = self.run(["/bin/sh", "-c", script, "sh", *map(str, path)])
        return None if status == 0 else Path(output)


def choose_account(data_dir: Path, cluster: Path) -> Account:
    """Choose who runs PostgreSQL on `cluster` in `data_dir`; the owner of what exists wins.

    As an ordinary user that is always this user. As root it is the owner of the cluster, else the owner of the data
    folder, else the first of FOR_ROOT that exists.
    """
    owner = _owner(cluster)
    us = os.geteuid()
    if us != 0:
        if owner not in {None, us}:
            raise EmbeddedPostgresError(
                f"The database in {data_dir} belongs to the user {_name(owner or 0)}: run this as that user or as "
                "root, or name another folder in FLEET_DATA_DIR."
            )
        return _account(us)
    owner = owner if owner is not None else _owner(data_dir) or None
    if owner == 0:
        raise EmbeddedPostgresError(
            f"The database in {cluster} belongs to root, as whom PostgreSQL refuses to run: give it to an ordinary "
            "user with chown -R."
        )
    if owner is not None:
        return _account(owner)
    for name in FOR_ROOT:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        if found.pw_uid != 0:
            return Account(found.pw_name, found.pw_uid, found.pw_gid)
    raise EmbeddedPostgresError(
        "PostgreSQL refuses to run as root and there is no other user to run it as: add the system user opsfleet "
        "with useradd --system opsfleet."
    )


def current_account() -> Account:
    """Return the user that this process runs as, with or without a name."""
    return Account(_name(os.geteuid()), os.geteuid(), os.getegid())


def _account(uid: int) -> Account:
    try:
        found = pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedPostgresError(
            f"PostgreSQL needs a name for the user ID {uid} and there is none: add a line for it to /etc/passwd."
        ) from None
    return Account(found.pw_name, found.pw_uid, found.pw_gid)


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except (FileNotFoundError, NotADirectoryError):
        return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)

"""A running server, told from its postmaster.pid and never mistaken for another process."""

import contextlib
import signal
from dataclasses import dataclass
from pathlib import Path

import psutil

from opsfleet.embedded.errors import EmbeddedPostgresError

_READY = {"ready", "standby"}


@dataclass(frozen=True, slots=True)
class PidFile:
    """What postmaster.pid says. Its lines are described in PostgreSQL's src/include/utils/pidfile.h."""

    pid: int
    socket_dir: str
    status: str
    single_user: bool


@dataclass(frozen=True, slots=True)
class Postmaster:
    """The first process of a running server, which the others descend from."""

    process: psutil.Process
    cluster: Path

    @property
    def pid(self) -> int:
        """The process ID."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether that very process still runs; another one that got its ID later does not count."""
        with contextlib.suppress(psutil.Error):
            return self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE
        return False

    @property
    def socket_dir(self) -> str | None:
        """The folder of the socket, once the server accepts connections on it."""
        file = read_pid_file(self.cluster)
        return file.socket_dir if file and file.pid == self.pid and file.status in _READY else None

    @property
    def is_stopping(self) -> bool:
        """Whether it has been asked to shut down."""
        file = read_pid_file(self.cluster)
        return file is not None and file.pid == self.pid and file.status == "stopping"

    def wait(self, seconds: float) -> bool:
        """Wait until the process has ended, at most so long; returns whether it has."""
        try:
            self.process.wait(seconds)
        except psutil.TimeoutExpired:
            return not self.is_running
        except psutil.NoSuchProcess:
            return True
        return True

    def stop(self, patience: float) -> None:
        """Shut the server down, the gentle way first; each harsher one comes after `patience` seconds.

        None of them loses what was committed: after the harsher ones the next start recovers it from the log.
        """
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            with contextlib.suppress(psutil.NoSuchProcess):
                self.process.send_signal(number)
            if self.wait(patience):
                return


def read_pid_file(cluster: Path) -> PidFile | None:
    """Read the postmaster.pid of a cluster; lines that are not written yet come out empty."""
    try:
        text = (cluster / "postmaster.pid").read_text(errors="replace")
    except OSError:
        return None
    lines = [*text.splitlines(), *[""] * 8]
    try:
        # The first byte of a line may be written before the rest, but the process ID is written in one go.
        pid = int(lines[0])
    except ValueError:
        return None
    # A server in single-user mode writes its process ID as a negative number.
    return PidFile(pid=abs(pid), socket_dir=lines[4], status=lines[7].strip(), single_user=pid < 0)


def find_postmaster(cluster: Path) -> Postmaster | None:
    """Find the live server of a cluster, whoever started it.

    The process that postmaster.pid names must be a PostgreSQL of the cluster's owner that works in the cluster: after
    a crash or a restart of the machine, its number may be anybody's.
    """
    file = read_pid_file(cluster)
    if file is None or file.pid <= 1:
        return None
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(file.pid)
        if _works_in(process, cluster):
            if file.single_user:
                raise EmbeddedPostgresError(
                    f"The database in {cluster} is in use by PostgreSQL in single-user mode, process {file.pid}: "
                    "finish with that first."
                )
            return Postmaster(process, cluster)
    return None


def kill_orphans(cluster: Path) -> None:
    """Kill what a dead server has left running; only to be called when the first process is gone.

    They end by themselves as soon as they notice, but one that is busy with a long query does not.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if _works_in(process, cluster):
                process.kill()


def _works_in(process: psutil.Process, cluster: Path) -> bool:
    if process.uids().real != cluster.stat().st_uid or process.status() == psutil.STATUS_ZOMBIE:
        return False
    # In a container root may lack the right to see where another user's process works; its command line is public.
    command = process.cmdline()
    try:
        return process.name().startswith("postgres") and process.cwd() == str(cluster)
    except psutil.AccessDenied:
        return Path(command[0]).name == "postgres" and str(cluster) in command if command else False

"""One PostgreSQL server for everybody who works with one data folder."""

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from opsfleet.embedded.accounts import Account, choose_account
from opsfleet.embedded.binaries import copied_binaries, major_version, packaged_binaries, remove_other_copies
from opsfleet.embedded.cluster import (
    ROLE,
    address,
    check_major_version,
    configure,
    create_cluster,
    ensure_database,
    failure,
    prune_logs,
    server_command,
)
from opsfleet.embedded.errors import EmbeddedPostgresError, from_os_error
from opsfleet.embedded.folders import forget_socket_dir, make_socket_dir, own_folder, prepare_home, remove_socket
from opsfleet.embedded.locks import LockFile
from opsfleet.embedded.postmaster import Postmaster, find_postmaster, kill_orphans

_FOLDER = "postgres"
_LOOK_SECONDS = 0.02
_STOP_SECONDS = 60.0
_ORPHANS_SECONDS = 5.0
_LOCK_SECONDS = 30.0
# Recovery after a crash reads up to max_wal_size; on a slow disk that takes minutes.
_READY_SECONDS = 900.0


class EmbeddedPostgres:
    """Real PostgreSQL on a Unix socket, with everything it needs in the folder `postgres` of `data_dir`.

    Several processes may use one data folder: the first to come starts the server, the last to leave stops it. Methods
    block and may be called from any thread; they raise `EmbeddedPostgresError`.

    `settings` are settings of PostgreSQL, by name, that overrule ours. `binaries` is a folder with another
    installation's programs (PostgreSQL 15 or later), which the user that PostgreSQL runs as must be able to read.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        database: str = "opsfleet",
        settings: Mapping[str, str] | None = None,
        binaries: Path | None = None,
    ) -> None:
        self._data_dir = Path(os.path.realpath(data_dir))
        self._database = database
        self._settings = dict(settings or {})
        self._given_binaries = binaries
        self._home = self._data_dir / _FOLDER
        self._cluster = self._home / "data"
        self._durable = self._settings.get("fsync") != "off"
        self._mutex = threading.RLock()
        self._account: Account | None = None
        self._gate: LockFile | None = None
        self._users: LockFile | None = None
        self._postmaster: Postmaster | None = None
        self._socket_dir: str | None = None
        self._process_id = os.getpid()

    def start(self) -> None:
        """Start the server, or join the one that runs; returns when it accepts connections. Idempotent."""
        with self._mutex, self._sentences():
            if self._users is not None:
                self.ensure_running()
                return
            self._account = choose_account(self._data_dir, self._cluster)
            prepare_home(self._home, self._account)
            gate, users = LockFile(self._home / "start.lock"), LockFile(self._home / "users.lock")
            try:
                gate.exclude()
                users.share()
                self._bring_up(self._account)
            except BaseException:
                self._leave(gate, users)
                raise
            gate.release()
            self._gate, self._users, self._process_id = gate, users, os.getpid()
            # Covers a caller that was cancelled while it waited for us in a thread.
            atexit.register(self.stop)

    def stop(self) -> None:
        """Let go of the server, and shut it down unless another process uses it. Idempotent."""
        with self._mutex, self._sentences():
            gate, users = self._gate, self._users
            if gate is None or users is None or self._process_id != os.getpid():
                return
            self._gate = self._users = None
            atexit.unregister(self.stop)
            gate.exclude()
            self._leave(gate, users)

    def ensure_running(self) -> bool:
        """Start the server again if it has ended without our doing; returns whether it had.

        Cheap while all is well: to be called every few seconds.
        """
        with self._mutex, self._sentences():
            if self._gate is None or self._account is None:
                raise EmbeddedPostgresError("The embedded database has not been started: call start first.")
            prune_logs(self._home)
            if self.is_running:
                return False
            self._gate.exclude()
            try:
                self._bring_up(self._account)
            finally:
                self._gate.release()
            return True

    @property
    def is_running(self) -> bool:
        """Whether the server that we started or joined still runs."""
        return self._postmaster is not None and self._postmaster.is_running

    @property
    def pid(self) -> int | None:
        """The ID of the server's first process, or None when it does not run."""
        return self._postmaster.pid if self._postmaster is not None and self._postmaster.is_running else None

    @property
    def dsn(self) -> str:
        """The address of the database for asyncpg, SQLAlchemy and libpq; there is no password in it."""
        if self._socket_dir is None:
            raise EmbeddedPostgresError("The embedded database has no address yet: call start first.")
        return address(ROLE, self._database, self._socket_dir)

    @property
    def system_user(self) -> str:
        """The name of the operating system's user that PostgreSQL runs as."""
        return (self._account or choose_account(self._data_dir, self._cluster)).name

    @property
    def log_dir(self) -> Path:
        """The folder of PostgreSQL's own log."""
        return self._home / "log"

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise from_os_error(error, self._data_dir) from error

    def _bring_up(self, account: Account) -> None:
        """Join the server that runs, or start one; to be called with the gate closed."""
        with contextlib.closing(LockFile(self._home / "server.lock")) as alive:
            postmaster = self._join(alive) or self._launch(account, alive)
        socket_dir = postmaster.socket_dir
        if socket_dir is None:
            raise EmbeddedPostgresError(f"PostgreSQL ended as soon as it had started: {self._why()}.")
        ensure_database(self._binaries(account), account, socket_dir, self._database)
        self._postmaster, self._socket_dir = postmaster, socket_dir

    def _join(self, alive: LockFile) -> Postmaster | None:
        """Return the running server, or None with `alive` taken when nothing of a server is left."""
        began = time.monotonic()
        while True:
            postmaster = find_postmaster(self._cluster)
            if postmaster is not None and self._await_ready(postmaster):
                return postmaster
            if alive.try_exclude():
                return None
            # Either a server too young to have written postmaster.pid, or what a killed one has left behind.
            waited = time.monotonic() - began
            if waited > _ORPHANS_SECONDS:
                kill_orphans(self._cluster)
            if waited > _LOCK_SECONDS:
                raise EmbeddedPostgresError(
                    f"The database in {self._data_dir} is in use by processes that cannot be seen from here, perhaps "
                    "in another container: stop them, or name another folder in FLEET_DATA_DIR."
                )
            time.sleep(_LOOK_SECONDS)

    def _launch(self, account: Account, alive: LockFile) -> Postmaster:
        """Start a server that inherits `alive`, and make the cluster first if there is none."""
        major = major_version(self._given_binaries or packaged_binaries())
        if self._cluster.exists():
            check_major_version(self._cluster, major)
        binaries = self._binaries(account)
        remove_other_copies(self._home, binaries)
        if not self._cluster.exists():
            create_cluster(self._cluster, binaries, account, major=major, durable=self._durable)
        own_folder(self.log_dir, account)
        socket_dir = make_socket_dir(self._home, account)
        # PostgreSQL only asks whether the process that these name exists, and refuses to start when the number is by
        # now somebody else's. That no server of this cluster is alive, we know better.
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)
        remove_socket(socket_dir)
        configure(self._home, account, self._settings)
        output = self._home / "start.log"
        output.unlink(missing_ok=True)
        with output.open("xb") as file:
            # The server and all that descends from it inherit the lock, and so prove that they are alive to whoever
            # comes after us, even from another container, where their process IDs mean nothing.
            child = account.start(
                server_command(self._home, self._cluster, binaries, socket_dir),
                output=file.fileno(),
                pass_fds=[alive.fileno()],
            )
        postmaster = Postmaster(psutil.Process(child.pid), self._cluster)
        # Whether we or another process stops it: a child must be waited for, or it stays in the process table.
        threading.Thread(target=child.wait, name="embedded-postgres-reaper", daemon=True).start()
        try:
            if not self._await_ready(postmaster):
                raise EmbeddedPostgresError(f"PostgreSQL could not start in {self._home}: {self._why()}.")
        except BaseException:
            postmaster.stop(_STOP_SECONDS)
            raise
        return postmaster

    def _await_ready(self, postmaster: Postmaster) -> bool:
        """Wait until the server accepts connections; returns False when it ends instead."""
        deadline = time.monotonic() + _READY_SECONDS
        while postmaster.socket_dir is None:
            if postmaster.is_stopping:
                # Somebody asked for it, perhaps in the way that waits for all clients to leave first.
                postmaster.stop(_STOP_SECONDS)
            if postmaster.wait(_LOOK_SECONDS):
                return False
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"PostgreSQL runs in {self._home} but accepts no connections: see its log in {self.log_dir}."
                )
        return True

    def _leave(self, gate: LockFile, users: LockFile) -> None:
        """Give up our use, and shut the server down if it was the last; to be called with the gate closed."""
        try:
            if users.try_exclude():
                postmaster = find_postmaster(self._cluster) or self._postmaster
                if postmaster is not None:
                    postmaster.stop(_STOP_SECONDS)
                forget_socket_dir(self._home)
        finally:
            self._postmaster = None
            for lock in (users, gate):
                lock.release()  # a fork of this process may have inherited the file
                lock.close()

    def _binaries(self, account: Account) -> Path:
        if self._given_binaries is not None:
            return self._given_binaries
        return packaged_binaries() if account.is_us else copied_binaries(self._home, durable=self._durable)

    def _why(self) -> str:
        return failure(self._home, self._home / "start.log")

"""A cluster's folder: making it, its configuration, and its log."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from opsfleet.embedded.accounts import Account
from opsfleet.embedded.errors import EmbeddedPostgresError

ROLE = "opsfleet"
SUPERUSER = "postgres"
PORT = 5432
LOG_FILES_KEPT = 10

_UNFINISHED = ".unfinished-data-"
_BUILTIN_LOCALES_SINCE = 17
_PEER_MAP = "opsfleet"

# For one application on a small machine that writes results every few seconds and keeps months of history. ALTER SYSTEM
# overrules every one of them.
DEFAULTS: Mapping[str, str] = {
    "max_connections": "50",
    "shared_buffers": "128MB",
    "effective_cache_size": "1GB",
    "maintenance_work_mem": "64MB",
    "huge_pages": "try",
    "jit": "off",  # compiling costs more than our short queries take
    # Results arrive evenly: fewer checkpoints write the same pages less often. Recovery after a crash reads at most
    # this much, in seconds.
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "synchronous_commit": "on",
    "random_page_cost": "1.1",
    # Partitions grow fast and are dropped whole: look at them often, but in small bites.
    "autovacuum_naptime": "30s",
    "autovacuum_max_workers": "2",
    "autovacuum_vacuum_insert_scale_factor": "0.1",
    "autovacuum_analyze_scale_factor": "0.05",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "logging_collector": "on",
    "log_filename": "postgresql-%Y%m%d-%H%M%S.log",
    "log_rotation_size": "10MB",
    "log_rotation_age": "7d",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_checkpoints": "off",
    "log_min_duration_statement": "5s",
    "log_lock_waits": "on",
    "cluster_name": "opsfleet",
}

_BOOTSTRAP = f"""
SELECT 'CREATE ROLE {ROLE} LOGIN CREATEDB' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') \\gexec
SELECT 'GRANT pg_monitor TO {ROLE}' WHERE NOT pg_has_role('{ROLE}', 'pg_monitor', 'MEMBER') \\gexec
SELECT format('CREATE DATABASE %I OWNER {ROLE}', :'database')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \\gexec
"""  # noqa: S608


def create_cluster(cluster: Path, binaries: Path, account: Account, *, major: int, durable: bool) -> None:
    """Make a new cluster owned by `account`; it appears whole, by one rename, or not at all."""
    home = cluster.parent
    for leftover in home.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=home))
    if not account.is_us:
        os.chown(unfinished, account.uid, account.gid)
    command = [str(binaries / "initdb"), "-D", str(unfinished), "-U", SUPERUSER, "-E", "UTF8", "--locale=C"]
    command += ["--auth-local=peer", "--auth-host=reject", "--data-checksums", "--no-instructions"]
    if major >= _BUILTIN_LOCALES_SINCE:
        # Sorts by code point whatever the machine's libraries are, and still knows upper from lower case.
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if not durable:
        command += ["--no-sync"]
    status, output = account.run(command)
    if status != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise EmbeddedPostgresError(
            f"PostgreSQL could not make its files in {home}: {_reason(output)}; make room there or name another folder "
            "in FLEET_DATA_DIR."
        )
    unfinished.rename(cluster)
    if durable:
        _sync(home)


def check_major_version(cluster: Path, major: int) -> None:
    """Refuse a cluster of another major version than the programs'."""
    found = (cluster / "PG_VERSION").read_text().strip()
    if found != str(major):
        raise EmbeddedPostgresError(
            f"The database in {cluster} was made by PostgreSQL {found} and this is PostgreSQL {major}: dump it with "
            f"the version of opsfleet that made it and load the dump into a new folder named in FLEET_DATA_DIR."
        )


def configure(home: Path, account: Account, settings: Mapping[str, str]) -> None:
    """Write the configuration next to the cluster, where the user that PostgreSQL runs as can only read it."""
    values = {**DEFAULTS, "log_directory": str(home / "log"), **settings}
    lines = [f"{name} = {_quoted(value)}" for name, value in values.items()]
    _write(home / "postgresql.conf", "# Written anew at every start; change a setting with ALTER SYSTEM.\n", lines)
    _write(home / "pg_hba.conf", "", [f"local all all peer map={_PEER_MAP}"])
    # Whoever the kernel says is on the other end of the socket must be one of these. Root is, because it may read the
    # files anyhow.
    people = dict.fromkeys(["root", account.name])
    lines = [f'{_PEER_MAP} "{person}" {role}' for person in people for role in (ROLE, SUPERUSER)]
    _write(home / "pg_ident.conf", "", lines)


def server_command(home: Path, cluster: Path, binaries: Path, socket_dir: Path) -> list[str]:
    """Return the command of the server; what no ALTER SYSTEM may change stands here."""
    fixed = {
        "config_file": str(home / "postgresql.conf"),
        "hba_file": str(home / "pg_hba.conf"),
        "ident_file": str(home / "pg_ident.conf"),
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": '"' + str(socket_dir).replace('"', '""') + '"',
        "unix_socket_permissions": "0700",
    }
    command = [str(binaries / "postgres"), "-D", str(cluster)]
    for name, value in fixed.items():
        command += ["-c", f"{name}={value}"]
    return command


def address(role: str, database: str, socket_dir: str) -> str:
    """Return the address of a database on the socket in `socket_dir`, as PostgreSQL's clients understand it."""
    return f"postgresql://{role}@/{quote(database, safe='')}?host={quote(socket_dir, safe='/')}&port={PORT}"


def ensure_database(binaries: Path, account: Account, socket_dir: str, database: str) -> None:
    """Connect, and make the role and the database that are not there yet."""
    connection = address(SUPERUSER, "postgres", socket_dir)
    options = ["--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", f"--set=database={database}"]
    status, output = account.run([str(binaries / "psql"), *options, f"--dbname={connection}"], _BOOTSTRAP)
    if status != 0:
        raise EmbeddedPostgresError(
            f"The embedded database runs but cannot be used: {_reason(output)}; make room if its disk is full, and "
            f"see the log next to {socket_dir}."
        )


def failure(home: Path, output: Path) -> str:
    """Say in PostgreSQL's own words why it has ended; `output` is what it wrote before it opened its log."""
    for path in [output, *reversed(_logs(home)[-1:])]:
        with contextlib.suppress(OSError):
            words = re.findall(r"(?:FATAL|PANIC): +(.+)", path.read_text(errors="replace"))
            if words:
                return str(words[-1]).strip()
    with contextlib.suppress(OSError):
        return _reason(output.read_text(errors="replace"))
    return "it gave no reason"


def prune_logs(home: Path) -> None:
    """Remove all but the newest files of the log; PostgreSQL bounds the size of each but not their number."""
    for path in _logs(home)[:-LOG_FILES_KEPT]:
        path.unlink(missing_ok=True)


def _logs(home: Path) -> list[Path]:
    return sorted((home / "log").glob("postgresql-*.log"))


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line or "FATAL:" in line or "could not" in line]
    line = (errors or lines or ["it gave no reason"])[-1]
    return line.split("error: ", 1)[-1].split("FATAL:", 1)[-1].strip()


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _write(path: Path, head: str, lines: list[str]) -> None:
    handle, unfinished = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(head + "\n".join(lines) + "\n")
        os.fchmod(handle, 0o644)
    Path(unfinished).replace(path)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

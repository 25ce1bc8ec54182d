"""Every key of the configuration, each with its flag, what it accepts and what it means."""

from collections.abc import Callable
from typing import Any

import msgspec

from opsfleet_agent import values


class Option(msgspec.Struct, frozen=True):
    """One key. Its flag is `--` and `flag`; `shown` is false for a value that no message may repeat."""

    key: str
    parse: Callable[[Any], Any]
    accepted: str
    help: str
    many: bool = False
    shown: bool = True
    flag_name: str | None = None

    @property
    def flag(self) -> str:
        """The flag on the command line; for a list it is given once for each entry."""
        return "--" + (self.flag_name or self.key.replace("_", "-"))


OPTIONS = (
    Option("host", values.listen_host, "an IP address of this machine, or localhost", "the address to listen on"),
    Option("port", values.port, "a whole number from 0 to 65535, 0 for any free port", "the port to listen on"),
    Option(
        "token_sha256",
        values.sha256,
        "the 64 hexadecimal digits that `opsfleet-agent token` prints",
        "the SHA-256 hash of the bearer token that callers present",
        shown=False,
    ),
    Option("token_file", values.path, "an absolute path", "a file whose first word is the SHA-256 hash of the token"),
    Option("tls_certificate", values.path, "an absolute path", "the certificate chain in PEM, server first"),
    Option("tls_key", values.path, "an absolute path", "the private key of the certificate in PEM, not encrypted"),
    Option("insecure_http", values.flag, "true or false", "allow an address beyond loopback without TLS"),
    Option(
        "database",
        values.postgresql_address,
        "HOST:PORT, or the absolute path of a socket or of its folder",
        "the PostgreSQL server to check",
    ),
    Option("database_user", values.text, "the name of a role", "the role that the check of PostgreSQL names"),
    Option("redis", values.redis_address, "HOST:PORT, or the absolute path of a socket", "the Redis server to check"),
    Option("redis_user", values.text, "the name of a user", "the Redis user, when it is not the default one"),
    Option("redis_password_file", values.path, "an absolute path", "a file that holds the password for Redis"),
    Option("units", values.unit, "names of systemd units", "systemd units that must run", many=True, flag_name="unit"),
    Option(
        "processes",
        values.text,
        "names of processes, or beginnings of command lines",
        "processes that must run",
        many=True,
        flag_name="process",
    ),
    Option(
        "disks",
        values.path,
        "absolute paths",
        "folders whose file systems are measured; the fullest one is reported",
        many=True,
        flag_name="disk",
    ),
    Option(
        "network_interfaces",
        values.text,
        "names of network interfaces",
        "interfaces whose traffic is counted; without it, every one that is hardware",
        many=True,
        flag_name="network-interface",
    ),
    Option(
        "application_file",
        values.path,
        "an absolute path",
        "a JSON file that an application keeps up to date with llm_requests, llm_cost_usd, active_users, total_users",
    ),
    Option(
        "application_max_age_seconds",
        values.seconds,
        "a number of seconds above 0",
        "ignore the application file when it is older than this",
    ),
    Option(
        "version", values.text, "text", "the version to report; without it, the agent's own", flag_name="server-version"
    ),
    Option("log_level", values.log_level, "debug, info, warning or error", "the least severe lines that are logged"),
)

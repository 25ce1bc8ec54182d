"""What the configuration accepts: one function for each kind of value, raising `ValueError` for anything else.

A value comes from TOML with its type or from a flag as text; both mean the same.
"""

import math
import re
from ipaddress import ip_address
from typing import Any

import msgspec

# systemd.unit(5), "Unit names"; without glob characters, and no leading dash that systemctl would take for a flag.
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*", re.ASCII)
_UNIT_KINDS = ("service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})", re.ASCII)


class Address(msgspec.Struct, frozen=True):
    """Where a component listens: a Unix socket when `path` is set, else `host` and `port`."""

    host: str = ""
    port: int = 0
    path: str | None = None


def text(value: Any) -> str:
    """Return text that is not empty and has no control characters."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError
    return value.strip()


def path(value: Any) -> str:
    """Return an absolute path."""
    if not text(value).startswith("/"):
        raise ValueError
    return text(value)


def flag(value: Any) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError
    return value


def port(value: Any) -> int:
    """Return a port; 0 lets the system choose one."""
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 65535:
        raise ValueError
    return number


def seconds(value: Any) -> float:
    """Return a positive, finite number of seconds."""
    number = float(value) if isinstance(value, str) else value
    if not isinstance(number, int | float) or isinstance(number, bool) or not math.isfinite(number) or number <= 0:
        raise ValueError
    return float(number)


def listen_host(value: Any) -> str:
    """Return an address to listen on; `localhost` is 127.0.0.1."""
    host = text(value)
    return "127.0.0.1" if host == "localhost" else str(ip_address(host))


def sha256(value: Any) -> str:
    """Return a SHA-256 hash in lower-case hexadecimal."""
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError
    return value.lower()


def log_level(value: Any) -> str:
    """Return the name of a log level."""
    if value not in {"debug", "info", "warning", "error"}:
        raise ValueError
    return str(value)


def unit(value: Any) -> str:
    """Return the full name of a systemd unit; a name without a type is a service, as for systemctl."""
    name = text(value)
    if not _UNIT.fullmatch(name) or len(name) > 255:
        raise ValueError
    return name if name.rpartition(".")[2] in _UNIT_KINDS and "." in name else name + ".service"


def postgresql_address(value: Any) -> Address:
    """Return the address of a PostgreSQL server; a path may be its socket or the folder that its socket is in."""
    return _address(value, default_port=5432)


def redis_address(value: Any) -> Address:
    """Return the address of a Redis server."""
    return _address(value, default_port=6379)


def _address(value: Any, *, default_port: int) -> Address:
    whole = text(value)
    if whole.startswith("/"):
        return Address(path=whole)
    if whole.startswith("["):
        host, bracket, rest = whole[1:].partition("]")
        ip_address(host)
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError
        port_text = rest[1:] if rest else None
    elif whole.count(":") > 1:
        host, port_text = str(ip_address(whole)), None
    else:
        host, colon, after = whole.partition(":")
        if not _HOST_NAME.fullmatch(host):
            raise ValueError
        port_text = after if colon else None
    number = default_port if port_text is None else port(port_text)
    if number == 0:
        raise ValueError
    return Address(host=host, port=number)

"""The configuration: a TOML file, overruled by flags, checked as a whole before anything starts."""

import os
import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import msgspec

from opsfleet_agent import values
from opsfleet_agent.options import OPTIONS, Option
from opsfleet_agent.values import Address

DEFAULT_PATH = "/etc/opsfleet-agent/agent.toml"
DEFAULT_PORT = 9100
MAX_FILE_BYTES = 64 * 1024


class ConfigError(Exception):
    """The configuration cannot be used; the message is one line for the person who wrote it."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The values of every option, checked. `options.OPTIONS` says what each of them means."""

    host: str
    port: int = DEFAULT_PORT
    token_sha256: str | None = None
    token_file: str | None = None
    tls_certificate: str | None = None
    tls_key: str | None = None
    insecure_http: bool = False
    database: Address | None = None
    database_user: str = "opsfleet_agent"
    redis: Address | None = None
    redis_user: str | None = None
    redis_password_file: str | None = None
    units: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    disks: tuple[str, ...] = ("/",)
    network_interfaces: tuple[str, ...] = ()
    application_file: str | None = None
    application_max_age_seconds: float | None = None
    version: str | None = None
    log_level: str = "info"


def load(path: str | None, flags: Mapping[str, Any], *, serving: bool = True) -> Config:
    """Read the file at `path`, let `flags` overrule it, and check the whole.

    Without `path` the default file is read if there is one. `serving` demands what a listening agent needs: a token,
    and TLS beyond loopback.

    Raises:
        ConfigError: for the first thing that is wrong.
    """
    given: dict[str, Any] = {}
    if path is not None or os.path.lexists(DEFAULT_PATH):
        path = path or DEFAULT_PATH
        given = _accepted(_read_toml(path), path)
    given |= _accepted(flags, "command line")
    tls = "tls_certificate" in given
    config = Config(**{"host": "0.0.0.0" if tls else "127.0.0.1"} | given)  # noqa: S104 - with TLS only, see below
    _check_pairs(config)
    if config.token_file is not None:
        config = msgspec.structs.replace(config, token_sha256=_read_token_hash(config.token_file))
    if serving:
        _check_serving(config)
    return config


def read_secret(key: str, path: str) -> str:
    """Return the text of the small file at `path` without the white space around it.

    Raises:
        ConfigError: when the file cannot be read, is empty or is no text. The message never repeats its content.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES).decode().strip()
    except OSError as error:
        raise ConfigError(f"{key} = {path!r}: {error.strerror}; a file that the agent may read is accepted") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{key} = {path!r}: it does not hold UTF-8 text, and only that is accepted") from None
    if not content:
        raise ConfigError(f"{key} = {path!r}: the file is empty; a file that holds the value is accepted")
    return content


def _read_toml(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ConfigError(
                f"--config = {path!r}: the file is too large; at most {MAX_FILE_BYTES} bytes are accepted"
            )
        return tomllib.loads(content.decode())
    except OSError as error:
        reason = f"{error.strerror}; a TOML file that the agent may read is accepted"
        raise ConfigError(f"--config = {path!r}: {reason}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config = {path!r}: {error}; a TOML file is accepted") from None


def _accepted(given: Mapping[str, Any], origin: str) -> dict[str, Any]:
    options = {option.key: option for option in OPTIONS}
    accepted = {}
    for key, value in given.items():
        if key not in options:
            # The value may be a secret under a mistyped name.
            raise ConfigError(f"{origin}: {key} is not a known key; accepted are {', '.join(options)}")
        accepted[key] = _parsed(options[key], value, origin)
    return accepted


def _parsed(option: Option, value: Any, origin: str) -> Any:
    try:
        if not option.many:
            return option.parse(value)
        if not isinstance(value, list):
            raise ValueError
        return tuple(dict.fromkeys(option.parse(entry) for entry in value))
    except ValueError:
        # A table or an address with a name before it may hold a password.
        secret = isinstance(value, dict) or ("@" in str(value) and not option.many)
        shown = repr(value) if option.shown and not secret else "(not shown)"
        kind = "a list of " if option.many else ""
        raise ConfigError(
            f"{origin}: {option.key} = {shown} is not accepted; accepted: {kind}{option.accepted}"
        ) from None


def _check_pairs(config: Config) -> None:
    if config.tls_certificate is None and config.tls_key is not None:
        raise ConfigError(f"tls_key = {config.tls_key!r} needs tls_certificate, the certificate of that key")
    if config.tls_key is None and config.tls_certificate is not None:
        raise ConfigError(f"tls_certificate = {config.tls_certificate!r} needs tls_key, the key of that certificate")
    if config.token_sha256 is not None and config.token_file is not None:
        raise ConfigError(f"token_file = {config.token_file!r}: accepted without token_sha256 only, and both are given")
    if config.redis_password_file is not None:
        read_secret("redis_password_file", config.redis_password_file)
    elif config.redis_user is not None:
        raise ConfigError(f"redis_user = {config.redis_user!r} needs redis_password_file, the password of that user")


def _check_serving(config: Config) -> None:
    if config.token_sha256 is None:
        raise ConfigError("token_sha256 is missing; accepted: the 64 digits that `opsfleet-agent token` prints")
    if config.tls_certificate is None and not config.insecure_http and not ip_address(config.host).is_loopback:
        raise ConfigError(
            f"host = {config.host!r} without TLS is not accepted; accepted: a loopback address, or tls_certificate "
            "and tls_key, or --insecure-http to send the token in the clear"
        )


def _read_token_hash(path: str) -> str:
    try:
        return values.sha256(read_secret("token_file", path).split(maxsplit=1)[0])
    except ValueError:
        raise ConfigError(
            f"token_file = {path!r}: its first word is no SHA-256 hash; accepted: the 64 hexadecimal digits that "
            "`opsfleet-agent token` prints"
        ) from None

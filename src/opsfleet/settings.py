"""The settings: one typed class, and the only place that knows the environment's variables.

Each field says which variable it comes from, what it means and what is accepted; `docs/reference/settings.md` is made
from that.
"""

import base64
import binascii
import difflib
import os
from collections.abc import Collection, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, quote, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo

Network = IPv4Network | IPv6Network

KEY_BYTES = 32
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_DATABASE_PARTS = ("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB")


class SettingsError(Exception):
    """A variable is unknown or wrong; the message is one line that names it, its value and what is accepted."""


class DatabaseSettings(BaseModel):
    """An external PostgreSQL, as one address that holds the password: never to be shown."""

    model_config = ConfigDict(frozen=True)

    url: SecretStr

    @property
    def dsn(self) -> str:
        """The address for the driver."""
        return self.url.get_secret_value()


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(ip_network(part.strip(), strict=False) for part in value.split(",") if part.strip())


Networks = Annotated[tuple[Network, ...], BeforeValidator(_networks)]


def _setting(default: Any, meaning: str, accepted: str, *, name: str | None = None, **limits: Any) -> Any:
    return Field(default, description=meaning, json_schema_extra={"accepted": accepted, "variable": name}, **limits)


def _number(default: float, meaning: str, low: float, high: float) -> Any:
    return _setting(default, meaning, f"a number from {low:g} to {high:,}", ge=low, le=high, allow_inf_nan=False)


def _whole(default: int, meaning: str, low: int, high: int) -> Any:
    return _setting(default, meaning, f"a whole number from {low} to {high:,}", ge=low, le=high)


class Settings(BaseModel):
    """All settings, checked. Made by `from_environment`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    health_interval: float = _number(30, "Seconds between health cycles.", 1, 86_400)
    metrics_interval: float = _number(60, "Seconds between metrics cycles.", 1, 86_400)
    health_batch_size: int = _whole(10, "Servers launched together in a health cycle, at the gentlest.", 1, 100_000)
    metrics_batch_size: int = _whole(5, "Servers launched together in a metrics cycle, at the gentlest.", 1, 100_000)
    health_batch_delay: float = _number(0.5, "Seconds between batches of a health cycle, at the gentlest.", 0, 3_600)
    metrics_batch_delay: float = _number(1.0, "Seconds between batches of a metrics cycle, at the gentlest.", 0, 3_600)
    request_timeout: float = _number(
        10, "Seconds for one whole request to a server; connecting takes at most half of it.", 0.1, 300
    )
    max_in_flight: int = _whole(5_000, "Requests to servers that are open at a time, at most.", 1, 1_000_000)
    results_buffer: int = _whole(
        500_000, "Results that wait in memory while the database is away, at most; then the oldest go.", 1, 100_000_000
    )
    http_allow: Networks = _setting(
        (ip_network("127.0.0.0/8"), ip_network("::1/128")),
        "Networks to which plain `http://` is allowed; everywhere else `https://` with a valid certificate.",
        "networks such as 10.0.0.0/8, separated by commas",
    )
    network_deny: Networks = _setting(
        (ip_network("169.254.0.0/16"), ip_network("fe80::/10")),
        "Networks never called, whatever the URL says.",
        "networks such as 10.0.0.0/8, separated by commas",
    )
    network_allow: Networks = _setting(
        (), "When set, only these networks are called.", "networks such as 10.0.0.0/8, separated by commas"
    )
    data_dir: Path = _setting(
        Path("/var/lib/opsfleet"),
        "Embedded database and generated key. Unless set: `/var/lib/opsfleet` for root, `$XDG_DATA_HOME/opsfleet` or "
        "`~/.local/share/opsfleet` for others.",
        "an absolute path",
    )
    secret_key: SecretStr | None = _setting(
        None,
        "Key that encrypts server tokens. Generated beside the embedded database; required with an external one.",
        "32 bytes in base64 or hexadecimal, as from: openssl rand -base64 32",
    )
    bootstrap_admin_token: SecretStr | None = _setting(
        None,
        "A bearer token with all rights in the default organization, for automation and first use.",
        "8 to 4096 printable ASCII characters without spaces",
    )
    bootstrap_admin_email: str | None = _setting(
        None,
        "Mail address of the first user of the dashboard. Without effect yet: the dashboard's sign-in is not there.",
        "a mail address",
        max_length=254,
        pattern=r"^\S+@\S+$",
    )
    bootstrap_admin_password: SecretStr | None = _setting(
        None,
        "Password of the first user of the dashboard. Without effect yet: the dashboard's sign-in is not there.",
        "at least 12 characters",
    )
    database: DatabaseSettings | None = _setting(
        None,
        "The external database; the embedded one unless set. Instead: `POSTGRES_HOST`, `POSTGRES_PORT`, "
        "`POSTGRES_USER`, `POSTGRES_PASSWORD` and `POSTGRES_DB`.",
        "postgresql://user:password@host:5432/database",
        name="DATABASE_URL",
    )
    retention_health_days: int = _whole(90, "Days that health checks are kept.", 1, 36_500)
    retention_metrics_1m_days: int = _whole(30, "Days that metrics by the minute are kept.", 1, 36_500)
    retention_metrics_5m_days: int = _whole(180, "Days that metrics by 5 minutes are kept.", 1, 36_500)
    retention_metrics_15m_days: int = _whole(180, "Days that metrics by 15 minutes are kept.", 1, 36_500)
    retention_metrics_1h_days: int = _whole(1_095, "Days that metrics by the hour are kept.", 1, 36_500)
    retention_metrics_1d_days: int = _whole(1_095, "Days that metrics by the day are kept.", 1, 36_500)
    archive_dir: Path | None = _setting(None, "Folder for data archived before it is dropped.", "an absolute path")
    host: str = _setting(
        "127.0.0.1", "Address that the control plane listens on.", "an address or a host name", min_length=1
    )
    port: int = _whole(8080, "Port that the control plane listens on; 0 takes a free one.", 0, 65_535)
    role: Literal["all", "api", "worker"] = _setting("all", "What this process does.", "all, api or worker")
    log_format: Literal["console", "json"] = _setting(
        "json", "How logs look. Unless set: `console` on a terminal, else `json`.", "console or json"
    )
    log_level: Literal["debug", "info", "warning", "error", "critical"] = _setting(
        "info", "What is logged at least.", "debug, info, warning, error or critical"
    )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], *, is_terminal: bool = False) -> Self:
        """Read the settings out of an environment; `is_terminal` says whether logs go to a person's terminal.

        Raises:
            SettingsError: for the first variable that is unknown, wrong or missing.
        """
        given = _with_files(environ)
        _refuse_unknown(environ)
        values: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            text = given.get(variable_of(name, field), "").strip()
            if text:
                values[name] = {"url": text} if name == "database" else text
        values.setdefault("log_format", "console" if is_terminal else "json")
        values.setdefault("data_dir", default_data_dir(environ))
        parts = _database_of_parts(given)
        if parts is not None:
            if "database" in values:
                raise SettingsError("DATABASE_URL and POSTGRES_* are both set; use one of them")
            values["database"] = {"url": parts}
        try:
            settings = cls(**values)
        except ValidationError as error:
            raise _wrong(cls, error, values) from None
        settings._check("DATABASE_URL" if parts is None else "POSTGRES_HOST")
        return settings

    @property
    def secret_key_bytes(self) -> bytes:
        """The 32 bytes of `secret_key`, which must be set."""
        key = key_of(self.secret_key.get_secret_value()) if self.secret_key is not None else None
        assert key is not None
        return key

    def _check(self, database_variable: str) -> None:
        """Check what concerns more than one value, or a secret's form."""
        if self.secret_key is not None and key_of(self.secret_key.get_secret_value()) is None:
            raise _unaccepted(type(self), "secret_key", None)
        token = self.bootstrap_admin_token
        if token is not None:
            text = token.get_secret_value()
            if not 8 <= len(text) <= 4096 or not all("!" <= sign <= "~" for sign in text):
                raise _unaccepted(type(self), "bootstrap_admin_token", None)
        password = self.bootstrap_admin_password
        if password is not None and len(password.get_secret_value()) < 12:
            raise _unaccepted(type(self), "bootstrap_admin_password", None)
        for name in ("data_dir", "archive_dir"):
            path = getattr(self, name)
            if path is not None and not path.is_absolute():
                raise _unaccepted(type(self), name, str(path))
        if self.database is None:
            return
        objection = _objection(self.database.dsn)
        if objection is not None:
            accepted = accepted_by(type(self).model_fields["database"])
            raise SettingsError(f"{database_variable} is not accepted as it is: {objection}; accepted is {accepted}")
        if self.secret_key is None:
            raise SettingsError(
                "FLEET_SECRET_KEY is not set; with an external database it must be "
                "32 bytes in base64 or hexadecimal, as from: openssl rand -base64 32"
            )


def process_environment(
    overrides: Mapping[str, str], *, defaults: Mapping[str, str], without: Collection[str] = ()
) -> dict[str, str]:
    """Return this process's environment less the variables `without`, over `defaults` and under `overrides`."""
    own = {name: value for name, value in os.environ.items() if name not in without}
    return {**defaults, **own, **overrides}


def variable_of(name: str, field: FieldInfo) -> str:
    """Return the name of the variable that a field of `Settings` comes from."""
    extra = field.json_schema_extra
    own = extra.get("variable") if isinstance(extra, dict) else None
    return str(own) if own else f"FLEET_{name.upper()}"


def accepted_by(field: FieldInfo) -> str:
    """Return what a field of `Settings` accepts, in words."""
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["accepted"])


def is_secret(name: str) -> bool:
    """Say whether a field of `Settings` must not be shown and may be given as a file."""
    return name in {"secret_key", "bootstrap_admin_token", "bootstrap_admin_password", "database"}


def key_of(text: str) -> bytes | None:
    """Return the 32 bytes that `text` holds in base64 (either alphabet) or hexadecimal, or None."""
    try:
        if len(text) == 2 * KEY_BYTES:
            return bytes.fromhex(text)
        key = base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        return None
    return key if len(key) == KEY_BYTES else None


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Return where the data goes unless somebody says."""
    if os.geteuid() == 0:
        return Path("/var/lib/opsfleet")
    base = environ.get("XDG_DATA_HOME", "")
    if base.startswith("/"):
        return Path(base) / "opsfleet"
    home = environ.get("HOME", "")
    if not home.startswith("/"):
        raise SettingsError("FLEET_DATA_DIR is not set, and HOME names no folder to keep the data in; set one of them")
    return Path(home) / ".local" / "share" / "opsfleet"


def _known_variables() -> dict[str, bool]:
    """Return the variables that we know, and whether each is a secret."""
    known = {variable_of(name, field): is_secret(name) for name, field in Settings.model_fields.items()}
    return {**known, **{part: part == "POSTGRES_PASSWORD" for part in _DATABASE_PARTS}}


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    known = _known_variables()
    accepted = [*known, *(f"{name}_FILE" for name, secret in known.items() if secret)]
    for name in sorted(environ):
        if name.startswith("FLEET_") and name not in accepted:
            close = difflib.get_close_matches(name, accepted, 1, 0.6)
            hint = f"did you mean {close[0]}?" if close else "docs/reference/settings.md lists those there are"
            raise SettingsError(f"{name} is not a setting; {hint}")


def _with_files(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with each secret's file read."""
    given = dict(environ)
    for name, secret in _known_variables().items():
        path = environ.get(f"{name}_FILE")
        if not secret or not path:
            continue
        if environ.get(name):
            raise SettingsError(f"{name} and {name}_FILE are both set; use one of them")
        try:
            given[name] = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SettingsError(f"{name}_FILE is {path!r}, which cannot be read: {reason}") from None
        if not given[name].strip():
            raise SettingsError(f"{name}_FILE is {path!r}, which is empty; it must hold the value of {name}")
    return given


def _database_of_parts(given: Mapping[str, str]) -> str | None:
    """Return the address that the POSTGRES_* variables make together, or None when none is set."""
    parts = {name: given[name] for name in _DATABASE_PARTS if given.get(name)}
    if not parts:
        return None
    for name in ("POSTGRES_HOST", "POSTGRES_USER", "POSTGRES_DB"):
        if name not in parts:
            raise SettingsError(f"{name} is not set, though {next(iter(parts))} is; an external database needs it")
    port = parts.get("POSTGRES_PORT", "5432")
    if not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise SettingsError(f"POSTGRES_PORT is {port!r}; accepted is a whole number from 1 to 65,535")
    password = f":{quote(parts['POSTGRES_PASSWORD'], safe='')}" if "POSTGRES_PASSWORD" in parts else ""
    user, host, name = (
        quote(parts["POSTGRES_USER"], safe=""),
        parts["POSTGRES_HOST"],
        quote(parts["POSTGRES_DB"], safe=""),
    )
    if host.startswith("/"):
        return f"postgresql://{user}{password}@/{name}?host={quote(host)}&port={port}"
    return f"postgresql://{user}{password}@{f'[{host}]' if ':' in host else host}:{port}/{name}"


def _objection(dsn: str) -> str | None:
    """Return what stands against the address of a database, without showing any of it, or None."""
    try:
        url = urlsplit(dsn)
        for host in url.netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{host}").port
    except ValueError:
        return "its host or port cannot be read (signs such as / and @ in a password are written %2F and %40)"
    if url.scheme not in {"postgresql", "postgres"}:
        return "it does not begin with postgresql://"
    if not set(parse_qs(url.query).get("sslmode", ())) <= set(SSL_MODES):
        return f"its sslmode is none of {', '.join(SSL_MODES)}"
    return None


def _wrong(cls: type[Settings], error: ValidationError, values: Mapping[str, Any]) -> SettingsError:
    name = str(error.errors()[0]["loc"][0])
    return _unaccepted(cls, name, None if is_secret(name) else str(values.get(name)))


def _unaccepted(cls: type[Settings], name: str, value: str | None) -> SettingsError:
    field = cls.model_fields[name]
    shown = f"is {value!r}" if value is not None else "is not accepted as it is"
    return SettingsError(f"{variable_of(name, field)} {shown}; accepted is {accepted_by(field)}")

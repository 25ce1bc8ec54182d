"""Logs: one event each, as a calm line for people or as JSON for machines.

The event is a whole sentence; its fields stand beside it and are shown only in JSON. The standard library's loggers
(uvicorn's among them) go the same way.
"""

import logging
import re
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer

Event = MutableMapping[str, Any]

_LEVELS = {"warning": "WARN", "critical": "ERROR", "exception": "ERROR"}
_SECRET_NAME = re.compile(r"token|password|secret|authorization|api_key|ciphertext|cookie", re.IGNORECASE)
_BEARER = re.compile(r"(bearer\s+)[\x21-\x7e]+", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^/:@\s]*:)[^@/\s]+@")
_URL_QUERY = re.compile(r"([?&]\w*(?:token|password|secret|api_key)\w*=)[^&\s\"']+", re.IGNORECASE)
_HIDDEN = "***"


def configure_logging(format: Literal["console", "json"], level: str, stream: TextIO) -> None:  # noqa: A002
    """Send all logs of this process to `stream` in `format`, from `level` (debug, info, warning, …) up."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Local variables are not shown: somewhere among them is the caller's token.
        structlog.processors.format_exc_info
        if format == "console"
        else ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
        hide_secrets,
    ]
    render: Any = (
        console_line if format == "console" else structlog.processors.JSONRenderer(ensure_ascii=False, default=_text)
    )
    structlog.reset_defaults()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True


def console_line(_: Any, __: str, event: Event) -> str:
    """Return an event as a line: level, sentence; below it the traceback of an error."""
    level = str(event.get("level", "info"))
    line = f"{_LEVELS.get(level, level.upper()):<5} {event.get('event', '')}"
    trace = event.get("exception")
    return f"{line}\n{trace}" if trace else line


def hide_secrets(_: Any, __: str, event: Event) -> Event:
    """Blot out what looks like a secret, however deep: a second wall, for nothing secret is logged on purpose."""
    for name, value in event.items():
        event[name] = _HIDDEN if _SECRET_NAME.search(name) else _hidden(value)
    return event


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, dict):
        return {
            name: _HIDDEN if isinstance(name, str) and _SECRET_NAME.search(name) else _hidden(item)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_hidden(item) for item in value]
    if isinstance(value, BaseException | bytes):
        return _text(value)
    return value


def _text(value: object) -> str:
    return _clean(str(value))


def _clean(text: str) -> str:
    if "earer" in text.lower() or "://" in text:
        text = _BEARER.sub(rf"\1{_HIDDEN}", text)
        text = _URL_PASSWORD.sub(rf"\1{_HIDDEN}@", text)
        text = _URL_QUERY.sub(rf"\1{_HIDDEN}", text)
    return text

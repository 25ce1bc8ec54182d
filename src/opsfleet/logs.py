"""Logs: one event, for a console or as JSON."""

import logging
from typing import Any, TextIO

import structlog


def configure_logging(format: str, level: str, stream: TextIO) -> None:
    """Interim."""
    processors: list[Any] = [structlog.stdlib.add_log_level] if False else []
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(stream),
        processors=[*processors, structlog.processors.add_log_level, structlog.processors.format_exc_info, lambda _, __, e: f"{e['level'].upper():<5} {e['event']}" + ("\n" + e["exception"] if "exception" in e else "")],
    )

"""What an operator reads in the log, and what must never stand there."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from opsfleet.logs import configure_logging

Format = Literal["console", "json"]
FORMATS: tuple[Format, ...] = ("console", "json")


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Put the process's logging back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def log_to(format: Format, level: str = "info") -> io.StringIO:  # noqa: A002
    stream = io.StringIO()
    configure_logging(format, level, stream)
    return stream


def only_event(stream: io.StringIO) -> dict[str, Any]:
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    event: dict[str, Any] = json.loads(lines[0])
    return event


def test_the_console_shows_the_sentence_after_its_level() -> None:
    stream = log_to("console", "debug")
    logger = structlog.get_logger("test")
    logger.info("Health checks complete: 50 servers checked in 2.34s (✓45 🔶3 ⚠️1 ❌1)", servers=50)
    logger.warning("Fleet health alert: 1 critical, 1 unreachable servers")
    logger.error("PARTITION MISSING: server_metrics_aggregated_2026_02 does not exist!")
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("INFO  Health checks complete: 50 servers checked in 2.34s (✓45 🔶3 ⚠️1 ❌1)")
    assert lines[1:] == [
        "WARN  Fleet health alert: 1 critical, 1 unreachable servers",
        "ERROR PARTITION MISSING: server_metrics_aggregated_2026_02 does not exist!",
    ]


def test_json_has_the_sentence_and_its_fields_beside_it() -> None:
    stream = log_to("json")
    structlog.get_logger().warning("Fleet health alert: ⚠️1", critical=1)
    event = only_event(stream)
    assert event.pop("timestamp").endswith("Z")
    assert event == {"level": "warning", "event": "Fleet health alert: ⚠️1", "critical": 1}


@pytest.mark.parametrize("format_", FORMATS)
def test_what_is_less_severe_than_the_level_is_not_written(format_: Format) -> None:
    stream = log_to(format_, "warning")
    structlog.get_logger().info("calm")
    logging.getLogger("library").info("calm")
    assert stream.getvalue() == ""


def test_uvicorn_and_the_standard_library_go_the_same_way() -> None:
    logging.getLogger("uvicorn.error").addHandler(logging.StreamHandler(io.StringIO()))
    stream = log_to("json")
    for name in ("uvicorn.error", "asyncio", "library"):
        logging.getLogger(name).warning("%s speaks", name)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["uvicorn.error speaks", "asyncio speaks", "library speaks"]
    assert {event["level"] for event in events} == {"warning"}


def test_setting_up_again_does_not_double_the_lines() -> None:
    log_to("console")
    stream = log_to("console")
    structlog.get_logger().info("once")
    logging.getLogger("library").warning("once")
    assert stream.getvalue() == "INFO  once\nWARN  once\n"


def test_an_exception_has_one_traceback_on_the_console() -> None:
    stream = log_to("console")
    try:
        raise RuntimeError("no route")
    except RuntimeError as error:
        structlog.get_logger().error("Request failed", exc_info=error)
    text = stream.getvalue()
    assert text.startswith("ERROR Request failed\nTraceback")
    assert text.count("Traceback") == 1
    assert text.endswith("RuntimeError: no route\n")


def test_an_exception_is_structured_in_json() -> None:
    stream = log_to("json")
    try:
        raise RuntimeError("no route")
    except RuntimeError:
        structlog.get_logger().exception("Request failed")
    (trace,) = only_event(stream)["exception"]
    assert (trace["exc_type"], trace["exc_value"]) == ("RuntimeError", "no route")


@pytest.mark.parametrize("format_", FORMATS)
def test_a_secret_logged_by_mistake_is_blotted_out(format_: Format) -> None:
    stream = log_to(format_, "debug")
    structlog.get_logger().error(
        "Refused: Bearer hunter2-in-header by postgresql://fleet:hunter2@db/ops",
        api_token="hunter2",
        password="hunter2",
        authorization="Basic hunter2",
        secret_key="hunter2",
        api_key="hunter2",
        api_token_ciphertext="hunter2",
        server="web-1",
    )
    logging.getLogger("library").error("sent Authorization: Bearer hunter2")
    text = stream.getvalue()
    assert "hunter2" not in text
    assert "Refused: Bearer ***" in text
    assert "postgresql://fleet:***@db/ops" in text


@pytest.mark.parametrize("format_", FORMATS)
def test_an_error_tells_no_secret_of_its_text_its_causes_or_its_local_variables(format_: Format) -> None:
    stream = log_to(format_)

    def call(headers: dict[str, str], dsn: str) -> None:
        try:
            raise ConnectionError(f"cannot open {dsn}")
        except ConnectionError as cause:
            raise RuntimeError(f"refused {headers}") from cause

    for logger in (structlog.get_logger(), logging.getLogger("library")):
        try:
            local_api_token = "hunter2-local"
            call({"authorization": "Bearer hunter2"}, "postgresql://fleet:hunter2@db/ops?password=hunter2&ssl=on")
        except RuntimeError as error:
            assert local_api_token
            logger.error("Request failed", exc_info=error)
    text = stream.getvalue()
    assert text.count("Request failed") == 2
    assert text.count("cannot open postgresql://fleet:***@db/ops?password=***&ssl=on") == 2
    assert "hunter2" not in text.replace('local_api_token = "hunter2-local"', "")


def test_secrets_inside_of_fields_are_blotted_out_too() -> None:
    stream = log_to("json")
    structlog.get_logger().error(
        "Refused",
        request={"headers": [("accept", "*/*"), ("x", "Bearer hunter2")], "api_token": "hunter2", 5: "Bearer hunter2"},
        raw=[b"Authorization: Bearer hunter2"],
        error=RuntimeError("Bearer hunter2"),
        other={RuntimeError("Bearer hunter2")},
        servers=3,
    )
    assert "hunter2" not in stream.getvalue()
    event = only_event(stream)
    assert event["request"]["headers"] == [["accept", "*/*"], ["x", "Bearer ***"]]
    assert event["request"]["api_token"] == "***"
    assert event["servers"] == 3

"""A fault of ours is answered in the one shape of errors, and stands in the log once, without the caller's token."""

import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Literal

import aiohttp
import pytest
import structlog
from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from opsfleet.api.application import create_application
from opsfleet.cli.serve import Server
from opsfleet.logs import configure_logging
from opsfleet.settings import Settings
from tests.support.product import environment, leave_signals_alone

HEADERS = {"Authorization": "Bearer hunter2"}

router = APIRouter()


@router.get("/broken")
async def broken(request: Request) -> None:
    """Fail with everything about the caller at hand."""
    authorization = request.headers["authorization"]
    raise RuntimeError(f"cannot serve {authorization}")


@router.get("/half")
async def half() -> StreamingResponse:
    """Fail in the middle of the answer."""

    async def content() -> AsyncIterator[bytes]:
        yield b"first"
        raise RuntimeError("no second")

    return StreamingResponse(content())


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    settings = Settings.from_environment(environment("postgresql://nobody@127.0.0.1:9/nothing"))
    server = Server(create_application((router,)), settings)
    leave_signals_alone(server)
    task = await server.start()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@pytest.mark.parametrize("format_", ["console", "json"])
async def test_it_is_logged_once_and_without_the_token(format_: Literal["console", "json"]) -> None:
    stream = io.StringIO()
    configure_logging(format_, "info", stream)
    async with (
        serving() as url,
        aiohttp.ClientSession() as session,
        session.get(f"{url}/broken", headers=HEADERS) as response,
    ):
        problem = await response.json(content_type="application/problem+json")
        assert response.status == 500
        assert response.headers["X-Request-Id"] == problem["request_id"]
    assert (problem["code"], problem["status"]) == ("internal", 500)
    text = stream.getvalue()
    assert "Request failed: GET /broken" in text
    assert text.count("cannot serve Bearer ***") == 1
    assert "hunter2" not in text


async def test_an_answer_under_way_is_broken_off_and_that_is_logged_once() -> None:
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    async with serving() as url, aiohttp.ClientSession() as session, session.get(f"{url}/half") as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["level"] for event in events] == ["error"]
    assert "no second" in json.dumps(events[0]["exception"])

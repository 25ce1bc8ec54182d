"""What callers of the agent see, the careless and the malicious ones too."""

import asyncio
import socket
import struct

import pytest

from opsfleet_agent.http.messages import Request, Response, json_response
from opsfleet_agent.http.router import Router


async def echo(request: Request) -> Response:
    return json_response({"method": request.method, "path": request.path, "body": request.body.decode()})


async def test_many_requests_share_one_connection(listening):
    running = await listening(echo)
    caller = await running.call()
    for path in ("/health", "/health?now=1", "/api/v1/metrics/current"):
        caller.ask(path)
        answer = await caller.answer()
        assert answer.status == 200
        assert answer.headers["connection"] == "keep-alive"
        assert answer.headers["content-type"] == "application/json"
        assert answer.document["path"] == path.partition("?")[0]
    assert running.listener.connections == 1


async def test_a_request_may_arrive_byte_by_byte(listening):
    caller = await (await listening(echo)).call()
    for byte in b"POST /a HTTP/1.1\r\nAuthorization: Bearer right-token\r\nContent-Length: 2\r\n\r\nhi":
        caller.send(bytes([byte]))
        await caller.writer.drain()
    assert (await caller.answer()).document == {"method": "POST", "path": "/a", "body": "hi"}


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Authorization: Bearer wrong\r\n",
        "Authorization: Basic right-token\r\n",
        "Authorization: right-token\r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer wrong\r\nAuthorization: Bearer right-token\r\n",
    ],
)
async def test_a_caller_without_the_token_learns_nothing(listening, authorization):
    running = await listening(echo)
    for path in ("/health", "/no-such-path"):
        caller = await running.call()
        caller.ask(path, token=None, extra=authorization)
        answer = await caller.answer()
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "bearer"
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.document["code"] == "unauthenticated"
        assert await caller.is_closed()


async def test_refusals_are_logged_once_a_minute_and_without_what_was_presented(listening, caplog):
    running = await listening(echo)
    for _ in range(3):
        caller = await running.call()
        caller.ask("/health", token="a-secret-of-somebody")
        await caller.answer()
    assert len(caplog.records) == 1
    assert "127.0.0.1" in caplog.text
    assert "a-secret-of-somebody" not in caplog.text


async def test_the_body_of_a_stranger_is_never_waited_for(listening):
    caller = await (await listening(echo)).call()
    caller.ask("/health", "POST", token="wrong", extra="Content-Length: 60000\r\n", body="x" * 1000)
    assert (await caller.answer()).status == 401
    assert await caller.is_closed()


async def test_unknown_paths_and_methods_are_named(listening):
    router = Router()
    router.add("GET", "/health", echo)
    caller = await (await listening(router.answer)).call()
    caller.ask("/nothing")
    answer = await caller.answer()
    assert (answer.status, answer.document["code"]) == (404, "not_found")
    caller.ask("/health", "POST", extra="Content-Length: 0\r\n")
    answer = await caller.answer()
    assert (answer.status, answer.document["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "get"
    caller.ask("/health")
    assert (await caller.answer()).status == 200


async def test_what_fails_inside_is_a_500_without_its_reason(listening, caplog):
    async def fail(_: Request) -> Response:
        raise RuntimeError("the reason")

    caller = await (await listening(fail)).call()
    caller.ask("/health")
    answer = await caller.answer()
    assert answer.status == 500
    assert b"the reason" not in answer.body
    assert "the reason" in caplog.text
    caller.ask("/health")
    assert (await caller.answer()).status == 500


async def test_head_is_answered_without_a_body(listening):
    router = Router()
    router.add("GET", "/health", echo)
    caller = await (await listening(router.answer)).call()
    caller.ask("/health", "HEAD")
    head = await caller.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")
    caller.ask("/health")
    assert (await caller.answer()).status == 200


async def test_many_strangers_at_once_stay_within_the_limit(listening):
    running = await listening(echo, connections=3)
    callers = await asyncio.gather(*(running.call() for _ in range(30)))
    closed = [asyncio.create_task(caller.is_closed()) for caller in callers]
    while sum(task.done() for task in closed) < 27:
        await asyncio.wait([task for task in closed if not task.done()], return_when=asyncio.FIRST_COMPLETED)
    assert running.listener.connections == 3
    for task in closed:
        task.cancel()


@pytest.mark.parametrize("rubbish", ["\x16\x03\x01 hello\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "x" * 100])
async def test_rubbish_is_refused_and_the_connection_closed(listening, rubbish):
    caller = await (await listening(echo)).call()
    caller.send(rubbish)
    assert (await caller.answer()).status == 400
    assert await caller.is_closed()


@pytest.mark.parametrize("head", ["GET /" + "a" * 20000, "GET / HTTP/1.1\r\nX: " + "a" * 20000])
async def test_a_head_without_end_is_refused(listening, head):
    caller = await (await listening(echo)).call()
    caller.send(head)
    assert (await caller.answer()).status == 431
    assert await caller.is_closed()


async def test_a_body_that_is_too_large_is_refused_by_its_length_alone(listening):
    caller = await (await listening(echo, body=10)).call()
    caller.ask("/a", "POST", extra="Content-Length: 11\r\n")
    assert (await caller.answer()).status == 413
    assert await caller.is_closed()


@pytest.mark.parametrize("chunk", ["5\r\nhello\r\n", "1;" + "x" * 60 + "\r\na\r\n"])
async def test_a_body_of_chunks_without_end_is_refused(listening, chunk):
    caller = await (await listening(echo, head=1000, body=1000)).call()
    caller.ask("/a", "POST", extra="Transfer-Encoding: chunked\r\n", body=chunk * 400)
    assert (await caller.answer()).status == 413
    assert await caller.is_closed()


async def test_a_body_of_chunks_is_taken_in(listening):
    caller = await (await listening(echo)).call()
    caller.ask("/a", "POST", extra="Transfer-Encoding: chunked\r\n", body="2\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n")
    assert (await caller.answer()).document["body"] == "hello"


async def test_a_caller_may_ask_before_it_sends_its_body(listening):
    caller = await (await listening(echo)).call()
    caller.ask("/a", "POST", extra="Content-Length: 2\r\nExpect: 100-continue\r\n")
    assert (await caller.answer()).status == 100
    caller.send("hi")
    assert (await caller.answer()).document["body"] == "hi"


async def test_a_second_request_before_the_answer_is_left_to_be_repeated(listening):
    caller = await (await listening(echo)).call()
    caller.ask("/first", body="GET /second HTTP/1.1\r\nAuthorization: Bearer wrong\r\n\r\n")
    answer = await caller.answer()
    assert answer.document == {"method": "GET", "path": "/first", "body": ""}
    assert answer.headers["connection"] == "close"
    assert await caller.is_closed()


async def test_bytes_after_an_offered_upgrade_do_no_harm(listening):
    caller = await (await listening(echo)).call()
    caller.ask("/a", extra="Connection: Upgrade\r\nUpgrade: h2c\r\n", body="PRI * HTTP/2.0\r\n\r\n")
    answer = await caller.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")


@pytest.mark.parametrize("first", ["", "GET /health HTT", "GET /health HTTP/1.1\r\nX: y\r\n"])
async def test_a_caller_that_does_not_go_on_is_dropped(listening, first):
    caller = await (await listening(echo, arrival=0.05)).call()
    caller.send(first)
    assert await caller.is_closed()


async def test_a_kept_connection_is_dropped_when_it_is_idle_for_too_long(listening):
    caller = await (await listening(echo, idle=0.05)).call()
    caller.ask("/health")
    assert (await caller.answer()).status == 200
    assert await caller.is_closed()


async def test_strangers_cannot_crowd_out_the_control_plane(listening):
    running = await listening(echo, connections=3)
    control_plane = await running.call()
    control_plane.ask("/health")
    await control_plane.answer()
    strangers = [await running.call() for _ in range(8)]
    assert all([await stranger.is_closed() for stranger in strangers[:-2]])
    assert running.listener.connections == 3
    control_plane.ask("/health")
    assert (await control_plane.answer()).status == 200
    again = await running.call()
    again.ask("/health")
    assert (await again.answer()).status == 200


async def test_callers_with_the_token_are_limited_too(listening):
    running = await listening(echo, connections=2)
    for _ in range(2):
        caller = await running.call()
        caller.ask("/health")
        await caller.answer()
    assert await (await running.call()).is_closed()


async def test_a_caller_that_closes_its_side_still_gets_its_answer(listening):
    asked, go = asyncio.Event(), asyncio.Event()

    async def slowly(request: Request) -> Response:
        asked.set()
        await go.wait()
        return await echo(request)

    caller = await (await listening(slowly)).call()
    caller.ask("/health")
    await asked.wait()
    caller.writer.write_eof()
    go.set()
    assert (await caller.answer()).status == 200
    assert await caller.is_closed()


async def test_a_caller_that_resets_the_connection_ends_its_request(listening):
    asked, ended = asyncio.Event(), asyncio.Event()

    async def for_ever(_: Request) -> Response:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    caller = await (await listening(for_ever)).call()
    caller.ask("/health")
    await asked.wait()
    # Without lingering, closing resets the connection (socket(7)).
    caller.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.writer.transport.abort()
    await ended.wait()


async def test_stopping_lets_the_running_request_end_and_closes_the_idle(listening):
    asked, go = asyncio.Event(), asyncio.Event()

    async def slowly(request: Request) -> Response:
        if request.path == "/slow":
            asked.set()
            await go.wait()
        return await echo(request)

    running = await listening(slowly)
    idle, busy = await running.call(), await running.call()
    idle.ask("/health")
    await idle.answer()
    busy.ask("/slow")
    await asked.wait()
    stopping = asyncio.create_task(running.listener.stop())
    assert await idle.is_closed()
    go.set()
    answer = await busy.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    await stopping
    with pytest.raises(ConnectionRefusedError):
        await running.call()


async def test_stopping_does_not_wait_for_ever(listening):
    asked = asyncio.Event()

    async def for_ever(_: Request) -> Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    running = await listening(for_ever, stop=0.05)
    caller = await running.call()
    caller.ask("/health")
    await asked.wait()
    await running.listener.stop()
    assert running.listener.connections == 0


async def test_a_caller_that_does_not_read_is_dropped(listening):
    async def much(_: Request) -> Response:
        return json_response("x" * 20_000_000)

    caller = await (await listening(much, unsent=1000)).call()
    caller.writer.transport.pause_reading()
    caller.ask("/health")
    caller.writer.transport.resume_reading()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await caller.answer()

"""What each way to answer, or not to, comes to."""

import pytest

from opsfleet.polling import FaultKind
from tests.support import rogue
from tests.unit.polling.conftest import MakeEngine, target_of, turns_until

ANSWERS = {
    "ok": (rogue.ok, 200, rogue.OK_BODY),
    "http10_with_length": (rogue.http10_with_length, 200, rogue.OK_BODY),
    "http10_without_length": (rogue.http10_without_length, 200, rogue.OK_BODY),
    "no_content": (rogue.no_content, 204, b""),
    "moved": (rogue.moved, 301, b""),
    "unauthorized": (rogue.unauthorized, 401, b""),
    "broken_inside": (rogue.broken_inside, 500, b"oops"),
    "chunked": (rogue.chunked, 200, rogue.OK_BODY),
    "continue_first": (rogue.continue_first, 200, rogue.OK_BODY),
    "connection_close": (rogue.connection_close, 200, rogue.OK_BODY),
    "offers_http2": (rogue.offers_http2, 200, rogue.OK_BODY),
    "length_too_small": (rogue.length_too_small, 200, rogue.OK_BODY[:5]),
    "two_answers": (rogue.two_answers, 200, rogue.OK_BODY),
    "answer_and_a_piece": (rogue.answer_and_a_piece, 200, rogue.OK_BODY),
    "invalid_json": (rogue.json(rogue.INVALID_JSON), 200, rogue.INVALID_JSON),
    "not_a_number": (rogue.json(rogue.NOT_A_NUMBER), 200, rogue.NOT_A_NUMBER),
    "deep": (rogue.json(rogue.DEEP), 200, rogue.DEEP),
    "wrong_types": (rogue.json(rogue.WRONG_TYPES), 200, rogue.WRONG_TYPES),
    "no_body": (rogue.json(b""), 200, b""),
    "body_at_the_limit": (rogue.json(b" " * 1024 * 1024), 200, b" " * 1024 * 1024),
}


@pytest.mark.parametrize(("behaviour", "status", "body"), ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_is_given_as_it_came(
    make_engine: MakeEngine, behaviour: rogue.Behaviour, status: int, body: bytes
) -> None:
    engine = make_engine()
    async with rogue.server(behaviour) as server:
        target = target_of(server)
        for _ in range(3):  # on a fresh connection and, where the server keeps it, on a kept one
            outcome = await engine.poll(target, "/health")
            assert outcome.fault is None
            assert (outcome.status, outcome.body) == (status, body)
            assert outcome.elapsed is not None
            assert outcome.target is target
        assert server.requests == 3


FAULTS = {
    "reset_on_accept": (rogue.reset_on_accept, FaultKind.RESET, "connection reset"),
    "reset_after_request": (rogue.reset_after_request, FaultKind.RESET, "connection reset"),
    "close_after_request": (rogue.close_after_request, FaultKind.RESET, "connection closed without an answer"),
    "too_large_then_close": (
        rogue.length_too_large_then_close,
        FaultKind.TRUNCATED,
        "answer truncated: connection closed inside its body",
    ),
    "continue_then_cut": (
        rogue.continue_then_cut,
        FaultKind.TRUNCATED,
        "answer truncated: connection closed inside its body",
    ),
    "chunked_cut": (rogue.chunked_cut, FaultKind.TRUNCATED, "answer truncated: connection closed inside its body"),
    "cut_inside_headers": (
        rogue.answering(b"HTTP/1.1 200 OK\r\nContent-Ty", close=True),
        FaultKind.TRUNCATED,
        "answer truncated: connection closed inside its head",
    ),
    "chunked_broken": (rogue.chunked_broken, FaultKind.PROTOCOL, "not a valid HTTP answer, in its body"),
    "big_body": (rogue.big_body, FaultKind.TOO_LARGE, "body over 1 MiB"),
    "just_too_big": (rogue.json(b" " * (1024 * 1024 + 1)), FaultKind.TOO_LARGE, "body over 1 MiB"),
    "endless_body": (rogue.endless_body, FaultKind.TOO_LARGE, "body over 1 MiB"),
    "endless_headers": (rogue.endless_headers, FaultKind.TOO_LARGE, "headers over 64 KiB"),
    "endless_interim": (rogue.endless_interim, FaultKind.TOO_LARGE, "headers over 64 KiB"),
    "banner": (rogue.banner, FaultKind.PROTOCOL, "not a valid HTTP answer, in its head"),
    "upgrade": (rogue.upgrade, FaultKind.PROTOCOL, "not an HTTP answer: it changed the protocol"),
}


@pytest.mark.parametrize(("behaviour", "kind", "message"), FAULTS.values(), ids=FAULTS)
async def test_a_broken_answer_is_named(
    make_engine: MakeEngine, behaviour: rogue.Behaviour, kind: FaultKind, message: str
) -> None:
    engine = make_engine()
    async with rogue.server(behaviour) as server:
        target = target_of(server)
        for _ in range(2):
            outcome = await engine.poll(target, "/health")
            assert outcome.fault is not None
            fault = outcome.fault
            if behaviour is rogue.reset_on_accept or behaviour is rogue.reset_after_request:
                # Loopback is fast enough for either to be seen as a plain end.
                assert fault.kind is kind
            else:
                assert (fault.kind, fault.message) == (kind, message)
            assert (outcome.status, outcome.body, outcome.elapsed) == (0, b"", None)
        assert server.connections == 2


TIMEOUTS = {
    "before_reading": (rogue.hang_before_reading, "waiting"),
    "before_headers": (rogue.hang_before_headers(), "waiting"),
    "inside_headers": (rogue.hang_inside_headers, "head"),
    "inside_body": (rogue.hang_inside_body, "body"),
    "length_too_large": (rogue.length_too_large_then_hang, "body"),
    "drip": (rogue.drip(1.0), "head"),
}


@pytest.mark.parametrize(("behaviour", "phase"), TIMEOUTS.values(), ids=TIMEOUTS)
async def test_a_host_that_hangs_times_out(make_engine: MakeEngine, behaviour: rogue.Behaviour, phase: str) -> None:
    engine = make_engine(request_timeout=0.4)
    async with rogue.server(behaviour) as server:
        outcome = await engine.poll(target_of(server), "/health")
    assert outcome.fault is not None
    assert (outcome.fault.kind, outcome.fault.message) == (FaultKind.TIMEOUT, "timed out after 0.4 s")
    assert outcome.fault.facts == {"phase": phase, "seconds": 0.4}


async def test_a_closed_port_refuses(make_engine: MakeEngine) -> None:
    engine = make_engine()
    with rogue.closed_port() as port:
        outcome = await engine.poll(target_of(port), "/health")
    assert outcome.fault is not None
    assert (outcome.fault.kind, outcome.fault.message) == (FaultKind.REFUSED, "connection refused")


async def test_a_reset_inside_the_body_is_a_truncated_answer(make_engine: MakeEngine) -> None:
    engine = make_engine(request_timeout=5.0)

    async with rogue.server(rogue.reset_inside_body) as server:
        target = target_of(server)
        results = []
        engine.submit(target, "/health", results.append)
        await server.until(lambda: server.requests == 1)
        await turns_until(lambda: engine._hosts[target.key].connection.phase == "body")
        server.cue.set()
        await turns_until(lambda: results)
    assert results[0].fault.kind is FaultKind.TRUNCATED
    assert results[0].fault.message == "answer truncated: connection reset inside its body"


async def test_ipv6(make_engine: MakeEngine) -> None:
    engine = make_engine()
    async with rogue.server(rogue.ok, host="::1") as server:
        outcome = await engine.poll(target_of(server), "/health")
        assert outcome.status == 200
        assert f"Host: [::1]:{server.port}\r\n".encode() in server.heads[0]


async def test_redirects_are_not_followed(make_engine: MakeEngine) -> None:
    engine = make_engine()
    async with rogue.server(rogue.ok) as elsewhere:
        moved = rogue.status("302 Found", f"Location: http://127.0.0.1:{elsewhere.port}/health")
        async with rogue.server(moved) as server:
            outcome = await engine.poll(target_of(server), "/health")
            assert outcome.status == 302
            assert server.requests == 1
        assert elsewhere.connections == 0


async def test_an_answer_leaves_nothing_behind_in_an_idle_connection(make_engine: MakeEngine) -> None:
    engine = make_engine()
    async with rogue.server(rogue.json(b" " * 500_000)) as server:
        target = target_of(server)
        outcome = await engine.poll(target, "/health")
        assert len(outcome.body) == 500_000
        connection = engine._hosts[target.key].connection
        assert connection is not None
        assert connection.take_body() == b""
        assert connection.phase == "body"
        assert connection._head == b""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec
import pytest

from opsfleet.simulate.behaviour import Behaviour, Delivery, MetricsReport, Report, Status
from opsfleet.simulate.fleet import SimulatedFleet
from opsfleet.simulate.latency import Constant
from opsfleet.simulate.rules import Rule, Servers, When
from opsfleet.simulate.scenario import Scenario
from opsfleet_agent import wire

Ask = Callable[..., Awaitable[bytes]]
TOKEN = {"Authorization": "Bearer simulated-token"}


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


async def test_each_address_is_a_server_of_its_own() -> None:
    async with SimulatedFleet(300) as fleet, aiohttp.ClientSession(headers=TOKEN) as session:
        for index in (0, 1, 299):
            async with session.get(fleet.url(index) + "/health") as answer:
                assert answer.status == 200
                assert wire.health_decoder.decode(await answer.read()).hostname == fleet.server(index).hostname
        async with session.get(fleet.url(5) + "/api/v1/metrics/current") as answer:
            assert msgspec.json.decode(await answer.read(), type=wire.Metrics).total_services
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(f"http://127.1.2.100:{fleet.port}/health")
        assert fleet.requests == 4


async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with SimulatedFleet(1) as fleet, aiohttp.ClientSession(headers=TOKEN) as session:
        for _ in range(5):
            for path in ("/health", "/api/v1/metrics/current", "/elsewhere"):
                async with session.get(fleet.url(0) + path) as answer:
                    await answer.read()
        assert fleet.requests == 15
        assert fleet.accepted == fleet.connections == 1


async def test_values_follow_the_clock() -> None:
    now = 1_790_000_000.0
    async with SimulatedFleet(1, clock=lambda: now) as fleet, aiohttp.ClientSession(headers=TOKEN) as session:
        async with session.get(fleet.url(0) + "/health") as answer:
            first = await answer.json()
        now += 30
        async with session.get(fleet.url(0) + "/health") as answer:
            assert (await answer.json())["uptime_seconds"] == first["uptime_seconds"] + 30


@pytest.mark.parametrize("token", [None, "wrong", "simulated-toke"])
async def test_without_the_right_token_nothing_is_told(ask: Ask, token: str | None) -> None:
    async with SimulatedFleet(1) as fleet:
        answer = await ask(fleet, 0, token=token)
        assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
        assert b"WWW-Authenticate: Bearer" in answer


async def test_other_requests_get_the_usual_refusals(ask: Ask) -> None:
    async with SimulatedFleet(1) as fleet:
        assert (await ask(fleet, 0, "/nothing")).startswith(b"HTTP/1.1 404 ")
        assert (await ask(fleet, 0, method="DELETE")).startswith(b"HTTP/1.1 405 ")
        assert (await ask(fleet, 0, "/health?verbose=1")).startswith(b"HTTP/1.1 200 ")
        reader, writer = await asyncio.open_connection("127.1.0.1", fleet.port)
        writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()


async def test_a_request_may_come_in_pieces_and_several_at_once() -> None:
    whole = b"GET /health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer simulated-token\r\n\r\n"
    async with SimulatedFleet(1) as fleet:
        reader, writer = await asyncio.open_connection("127.1.0.1", fleet.port)
        for start in range(0, len(whole), 7):
            writer.write(whole[start : start + 7])
            await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.split(b"Length: ")[1].split()[0]))
        writer.write(whole * 40 + whole.replace(b"Host: x", b"Connection: close"))
        assert (await reader.read()).count(b"HTTP/1.1 200 OK") == 41
        writer.close()


async def test_a_scenario_says_which_server_fails(ask: Ask) -> None:
    scenario = Scenario(
        rules=[
            Rule(servers=Servers(first=1), report=Report(failed_services=2, database="down")),
            Rule(servers=Servers(indexes=[2]), status=Status(503)),
            Rule(servers=Servers(indexes=[3]), status=Status(302, location="http://127.0.0.1/"), endpoint="health"),
        ]
    )
    async with SimulatedFleet(4, scenario=scenario) as fleet:
        assert wire.health_decoder.decode(body_of(await ask(fleet, 0))).services.failed == 0
        unwell = wire.health_decoder.decode(body_of(await ask(fleet, 1)))
        assert unwell.database.status == "down"
        assert unwell.services.failed == len(unwell.services.failing) == 2
        assert unwell.services.healthy is False
        measured = msgspec.json.decode(body_of(await ask(fleet, 1, wire.METRICS_PATH)), type=wire.Metrics)
        assert measured.failed_services == 2
        assert (await ask(fleet, 2)).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"Location: http://127.0.0.1/\r\n" in await ask(fleet, 3)
        assert (await ask(fleet, 3, wire.METRICS_PATH)).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_the_later_rule_is_stronger_and_different_keys_add_up(ask: Ask) -> None:
    scenario = Scenario(
        rules=[
            Rule(status=Status(500), latency=Constant(1), delivery=Delivery("close")),
            Rule(status=Status(503), when=When(start=100)),
        ]
    )
    now = 1_000.0
    async with SimulatedFleet(1, scenario=scenario, clock=lambda: now) as fleet:
        assert (await ask(fleet, 0)).startswith(b"HTTP/1.1 500 ")
        now += 100
        answer = await ask(fleet, 0)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Connection: close" in answer


async def test_a_test_changes_a_server_while_it_runs(ask: Ask) -> None:
    async with SimulatedFleet(3) as fleet, aiohttp.ClientSession(headers=TOKEN) as session:

        async def statuses() -> list[int]:
            found = []
            for index in range(3):
                async with session.get(fleet.url(index) + "/health") as answer:
                    found.append(answer.status)
            return found

        assert await statuses() == [200, 200, 200]
        fleet.set_behaviour(range(1, 3), Behaviour(status=Status(500)))
        assert await statuses() == [200, 500, 500]
        fleet.set_behaviour(2, None)
        assert await statuses() == [200, 500, 200]
        fleet.set_behaviour(1, Behaviour(metrics=MetricsReport(cpu_percent=99.5)))
        measured = msgspec.json.decode(body_of(await ask(fleet, 1, wire.METRICS_PATH)), type=wire.Metrics)
        assert measured.cpu_percent == 99.5
        assert measured.total_services
        with pytest.raises(ValueError, match="drop cannot begin later"):
            fleet.set_behaviour(0, Behaviour(network="drop"))


@pytest.mark.parametrize("how", ["truncated", "not-json", "nan", "empty"])
@pytest.mark.parametrize("path", [wire.HEALTH_PATH, wire.METRICS_PATH])
async def test_what_is_not_json_cannot_be_decoded(ask: Ask, how: str, path: str) -> None:
    async with SimulatedFleet(1, scenario=Scenario(rules=[Rule(malformed=how)])) as fleet:
        answer = await ask(fleet, 0, path)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(body_of(answer))


async def test_what_is_json_but_wrong(ask: Ask) -> None:
    async with SimulatedFleet(1) as fleet:
        fleet.set_behaviour(0, Behaviour(malformed="wrong-types"))
        with pytest.raises(msgspec.ValidationError):
            wire.health_decoder.decode(body_of(await ask(fleet, 0)))
        fleet.set_behaviour(0, Behaviour(malformed="too-large"))
        assert len(body_of(await ask(fleet, 0))) > wire.MAX_BODY_BYTES
        fleet.set_behaviour(0, Behaviour(malformed="deep"))
        assert body_of(await ask(fleet, 0)).count(b"{") > 10_000
        fleet.set_behaviour(0, Behaviour(malformed="not-http"))
        assert (await ask(fleet, 0)).startswith(b"SSH-2.0-")


async def test_a_large_answer_reaches_a_client_that_reads_late() -> None:
    async with SimulatedFleet(1) as fleet, aiohttp.ClientSession(headers=TOKEN, read_bufsize=1024) as session:
        fleet.set_behaviour(0, Behaviour(malformed="too-large"))
        for _ in range(3):
            async with session.get(fleet.url(0) + "/health") as answer:
                assert len(await answer.read()) > wire.MAX_BODY_BYTES
        assert fleet.accepted == 1


async def test_an_answer_may_come_in_drops(ask: Ask) -> None:
    async with SimulatedFleet(1) as fleet:
        fleet.set_behaviour(0, Behaviour(delivery=Delivery("drip", bytes_per_second=20_000)))
        assert wire.health_decoder.decode(body_of(await ask(fleet, 0))).status == "ok"


async def test_a_connection_may_end_in_the_middle_of_a_body() -> None:
    async with SimulatedFleet(1) as fleet:
        fleet.set_behaviour(0, Behaviour(delivery=Delivery("reset", after_bytes=9)))
        reader, writer = await asyncio.open_connection("127.1.0.1", fleet.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer simulated-token\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(100)
        writer.close()


async def test_a_body_without_length_ends_with_its_connection(ask: Ask) -> None:
    async with SimulatedFleet(1) as fleet:
        fleet.set_behaviour(0, Behaviour(delivery=Delivery("slow-close", seconds=0.01)))
        answer = await ask(fleet, 0)
        assert b"Content-Length" not in answer
        assert wire.health_decoder.decode(body_of(answer)).status == "ok"

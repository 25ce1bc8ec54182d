"""Names, asked of a real DNS server on loopback."""

import asyncio
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import cast

import pytest

from opsfleet.polling import FaultKind, ResolutionError, Resolver, dns
from tests.support import rogue
from tests.unit.polling.conftest import MakeEngine, target_of, turns_until

A, AAAA = 1, 28


class DnsServer(asyncio.DatagramProtocol):
    """Answers from `records`; names in `silent` get no answer, unknown ones NXDOMAIN."""

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        self.ttl = 300
        self.silent: set[str] = set()
        self.questions: Counter[tuple[str, int]] = Counter()
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name, end = [], 12
        while data[end]:
            name.append(data[end + 1 : end + 1 + data[end]].decode())
            end += 1 + data[end]
        question = data[12 : end + 5]
        (kind,) = struct.unpack("!H", data[end + 1 : end + 3])
        host = ".".join(name).lower()
        self.questions[host, kind] += 1
        if host in self.silent:
            return
        answers = [
            b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, self.ttl, len(packed)) + packed
            for packed in (ip_address(text).packed for text in self.records.get(host, []))
            if len(packed) == (4 if kind == A else 16)
        ]
        code = 0 if host in self.records else 3
        header = data[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(answers), 0, 0)
        self._transport.sendto(header + question + b"".join(answers), addr)


@asynccontextmanager
async def _serving() -> AsyncIterator[DnsServer]:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        DnsServer, local_addr=("127.0.0.1", 0), family=socket.AF_INET
    )
    server.address = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    try:
        yield server
    finally:
        transport.close()


@pytest.fixture
async def names(nothing_left: None) -> AsyncIterator[DnsServer]:
    async with _serving() as server:
        yield server


@pytest.fixture
async def resolver(names: DnsServer) -> AsyncIterator[Resolver]:
    resolver = Resolver(timeout=0.2, tries=1, nameservers=[names.address])
    yield resolver
    await resolver.close()


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


async def test_an_address_is_nobody_to_ask_for(names: DnsServer, resolver: Resolver) -> None:
    for address in ("192.0.2.1", "::1", "fe80::1%eth0"):
        assert await resolver.resolve(address) == [address]
    assert not names.questions


async def test_answers_are_kept_as_long_as_they_say(
    names: DnsServer, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(dns, "time", clock)
    names.ttl = 60
    names.records["a.example"] = ["127.0.0.1"]
    assert await resolver.resolve("a.example") == ["127.0.0.1"]
    names.records["a.example"] = ["127.0.0.2"]
    clock.now += 59
    assert await resolver.resolve("a.example") == ["127.0.0.1"]
    assert names.questions["a.example", A] == 1
    clock.now += 2
    assert resolver._ares is not None
    await resolver._ares.close()  # c-ares keeps answers too, by a clock that nobody puts forward
    resolver._ares = None
    assert await resolver.resolve("a.example") == ["127.0.0.2"]
    assert names.questions["a.example", A] == 2


async def test_an_answer_without_time_to_live_is_not_kept(names: DnsServer, resolver: Resolver) -> None:
    names.ttl = 0
    names.records["a.example"] = ["127.0.0.1"]
    for times in (1, 2):
        assert await resolver.resolve("a.example") == ["127.0.0.1"]
        assert names.questions["a.example", A] == times


async def test_both_families_are_asked_for(names: DnsServer, resolver: Resolver) -> None:
    names.records["both.example"] = ["127.0.0.1", "::1"]
    assert sorted(await resolver.resolve("both.example")) == ["127.0.0.1", "::1"]


async def test_the_same_question_is_asked_once_at_a_time(names: DnsServer, resolver: Resolver) -> None:
    names.records["a.example"] = ["127.0.0.1"]
    answers = await asyncio.gather(*(resolver.resolve("a.example") for _ in range(20)))
    assert answers == [["127.0.0.1"]] * 20
    assert names.questions["a.example", A] == 1


async def test_a_caller_that_leaves_takes_the_answer_from_nobody(names: DnsServer, resolver: Resolver) -> None:
    names.records["a.example"] = ["127.0.0.1"]
    leaving = asyncio.create_task(resolver.resolve("a.example"))
    staying = asyncio.create_task(resolver.resolve("a.example"))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == ["127.0.0.1"]
    assert leaving.cancelled()


async def test_a_name_that_does_not_exist_is_asked_again_next_time(names: DnsServer, resolver: Resolver) -> None:
    for times in (1, 2):
        with pytest.raises(ResolutionError, match=r"^cannot resolve no\.example: \w.*[^.]$"):
            await resolver.resolve("no.example")
        assert names.questions["no.example", A] == times
    names.records["no.example"] = ["127.0.0.1"]
    assert await resolver.resolve("no.example") == ["127.0.0.1"]


async def test_a_name_without_address(names: DnsServer, resolver: Resolver) -> None:
    names.records["empty.example"] = []
    with pytest.raises(ResolutionError, match=r"^cannot resolve empty\.example: "):
        await resolver.resolve("empty.example")


async def test_a_server_that_is_silent(names: DnsServer, resolver: Resolver) -> None:
    names.silent.add("lost.example")
    with pytest.raises(ResolutionError, match=r"^cannot resolve lost\.example: \w"):
        await resolver.resolve("lost.example")


@pytest.mark.parametrize("name", ["a" * 70 + ".example", "a..example", "", "ü" * 70])
async def test_names_that_are_none(resolver: Resolver, name: str) -> None:
    with pytest.raises(ResolutionError, match=r"^cannot resolve "):
        await resolver.resolve(name)


async def test_closing_with_a_question_open(names: DnsServer) -> None:
    resolver = Resolver(timeout=30.0, tries=1, nameservers=[names.address])
    names.silent.add("lost.example")
    asking = asyncio.create_task(resolver.resolve("lost.example"))
    await turns_until(lambda: names.questions)
    await resolver.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await resolver.close()


async def test_the_engine_says_which_name_failed(make_engine: MakeEngine, names: DnsServer) -> None:
    engine = make_engine(resolver=Resolver(timeout=0.2, tries=1, nameservers=[names.address]))
    outcome = await engine.poll(target_of(80, host="no.example"), "/health")
    assert outcome.fault is not None
    assert outcome.fault.kind is FaultKind.DNS
    assert outcome.fault.message.startswith("cannot resolve no.example: ")
    assert outcome.fault.facts == {"host": "no.example"}


async def test_a_name_server_that_is_slower_than_the_deadline(make_engine: MakeEngine, names: DnsServer) -> None:
    engine = make_engine(resolver=Resolver(timeout=30.0, tries=1, nameservers=[names.address]), request_timeout=0.4)
    names.silent.add("lost.example")
    outcome = await engine.poll(target_of(80, host="lost.example"), "/health")
    assert outcome.fault is not None
    assert (outcome.fault.kind, outcome.fault.message) == (
        FaultKind.TIMEOUT,
        "resolving the name timed out after 0.2 s",
    )


async def test_a_name_with_two_addresses_is_reached_at_the_second(make_engine: MakeEngine, names: DnsServer) -> None:
    engine = make_engine(resolver=Resolver(timeout=2.0, tries=1, nameservers=[names.address]))
    names.records["two.example"] = ["127.0.0.9", "127.0.0.1"]
    async with rogue.server(rogue.ok) as server:
        outcome = await engine.poll(target_of(server, host="two.example"), "/health")
        assert outcome.status == 200
        assert f"Host: two.example:{server.port}\r\n".encode() in server.heads[0]

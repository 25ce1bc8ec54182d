"""When this machine runs out of descriptors, no host is blamed for it."""

import asyncio
import errno
import json
import sys

import pytest

from opsfleet.polling import FaultKind, faults
from opsfleet.polling import engine as engine_module
from tests.support import rogue
from tests.unit.polling.conftest import MakeEngine, Outcomes, target_of

# A process of its own, so that only the engine under test runs out.
CLIENT = """
import asyncio, json, os, resource, sys
from ipaddress import ip_network
import uvloop
from opsfleet.polling import Limits, NetworkPolicy, PollingEngine, Target

port, mode = int(sys.argv[1]), sys.argv[2]

async def main():
    seconds = 2.0 if mode == "by others" else 60.0
    engine = PollingEngine(Limits(request_timeout=seconds), NetworkPolicy(http_allow=[ip_network("127.0.0.0/8")]))
    targets = [Target(number, "127.0.0.1", port, False) for number in range(60)]

    async def round():
        outcomes = await asyncio.gather(*(engine.poll(target, "/health") for target in targets))
        return [outcome.fault.kind if outcome.fault else outcome.status for outcome in outcomes]

    warm = await engine.poll(targets[0], "/health")
    engine.forget(0)
    await asyncio.sleep(0)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, used + 20))
    taken = []
    if mode == "by others":
        try:
            while True:
                taken.append(open("/dev/null"))
        except OSError:
            pass
    results = [await round()]
    for file in taken:
        file.close()
    results.append(await round())
    await engine.close()
    os.write(1, json.dumps({"rounds": results, "left": engine.connections}).encode())

uvloop.run(main())
"""


async def _run(port: int, mode: str) -> dict[str, object]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, str(port), mode, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    assert err == b""
    return json.loads(out)


async def test_more_hosts_than_descriptors_are_all_reached() -> None:
    async with rogue.server(rogue.ok) as server:
        result = await _run(server.port, "by us")
    assert result == {"rounds": [[200] * 60, [200] * 60], "left": 0}


async def test_descriptors_that_others_took_blame_no_host() -> None:
    async with rogue.server(rogue.ok) as server:
        result = await _run(server.port, "by others")
    assert result == {"rounds": [["local"] * 60, [200] * 60], "left": 0}


async def test_a_limit_that_we_ran_into_is_tried_again_later(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(max_connections=20)
    async with rogue.server(rogue.ok) as server:
        targets = [target_of(server) for _ in range(20)]

        async def connections_after_a_round() -> int:
            outcomes = Outcomes()
            for target in targets:
                engine.submit(target, "/health", outcomes)
            await outcomes.reach(20)
            assert {outcome.status for outcome in outcomes.all} == {200}
            return engine.connections

        for target in targets[:5]:
            assert (await engine.poll(target, "/health")).status == 200
        engine._dialing.add(None)  # one more is tried, and fails
        assert engine._make_room()
        engine._dialing.clear()
        assert await connections_after_a_round() == 5
        monkeypatch.setattr(engine_module, "RECOVERY", 0.0)
        assert await connections_after_a_round() > 5
        assert await connections_after_a_round() == 20


async def test_an_address_that_we_cannot_call_from_costs_the_others_nothing(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connecting to an IPv6 address on a machine with IPv6 switched off gives EADDRNOTAVAIL."""
    engine = make_engine()
    async with rogue.server(rogue.ok) as server:
        outcomes = Outcomes()
        for _ in range(30):
            engine.submit(target_of(server), "/health", outcomes)
        await outcomes.reach(30)

        async def no_address(*args: object, **options: object) -> None:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

        class Loop:
            create_connection = staticmethod(no_address)

            def __getattr__(self, name: str) -> object:
                return getattr(asyncio.get_running_loop(), name)

        monkeypatch.setattr(engine, "_loop", Loop())
        outcome = await engine.poll(target_of(1, host="::1"), "/health")
        assert outcome.fault is not None
        assert outcome.fault.kind is FaultKind.LOCAL
        assert engine.connections == 30
        assert engine._max_connections == engine.limits.max_connections


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL])
def test_what_we_lack_is_a_local_fault(number: int) -> None:
    fault = faults.connect_fault(OSError(number, "lacking"), "example.org")
    assert fault.kind is FaultKind.LOCAL
    assert fault.facts["errno"] == errno.errorcode[number]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OSError(errno.EHOSTUNREACH, "x"), FaultKind.NO_ROUTE, "no route to host"),
        (OSError(errno.ENETUNREACH, "x"), FaultKind.NO_ROUTE, "network unreachable"),
        (OSError(errno.EPROTO, "protocol error"), FaultKind.NO_ROUTE, "cannot connect: protocol error"),
        (ConnectionRefusedError(), FaultKind.REFUSED, "connection refused"),
        (ConnectionAbortedError(), FaultKind.RESET, "connection reset"),
        (TimeoutError(errno.ETIMEDOUT, "x"), FaultKind.TIMEOUT, "connecting timed out"),
    ],
)
def test_what_the_host_or_its_network_did(error: OSError, kind: FaultKind, message: str) -> None:
    fault = faults.connect_fault(error, "example.org")
    assert (fault.kind, fault.message) == (kind, message)


def test_a_deadline_missed_for_want_of_descriptors_is_ours() -> None:
    assert faults.timeout_fault(5.0, "room").kind is FaultKind.LOCAL
    assert faults.timeout_fault(5.0, "resolve").message == "resolving the name timed out after 5 s"

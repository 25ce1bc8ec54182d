"""One kept connection for each host: how it is used, repeated, given up and made anew."""

import psutil
import pytest

from opsfleet.polling import FaultKind
from tests.support import rogue
from tests.unit.polling.conftest import MakeEngine, Outcomes, target_of, turns_until


async def test_a_connection_is_kept_for_the_next_poll(make_engine: MakeEngine) -> None:
    engine = make_engine()
    async with rogue.server(rogue.ok) as server:
        target = target_of(server)
        for _ in range(5):
            assert (await engine.poll(target, "/health")).status == 200
        assert (server.connections, server.requests) == (1, 5)
        assert engine.connections == 1


async def test_two_polls_at_once_share_the_connection_one_after_the_other(make_engine: MakeEngine) -> None:
    engine = make_engine()
    outcomes = Outcomes()
    async with rogue.server(rogue.on_cue()) as server:
        target = target_of(server)
        for path in ("/health", "/metrics", "/third"):
            engine.submit(target, path, outcomes)
        await server.until(lambda: server.requests == 1)
        server.cue.set()
        await outcomes.reach(3)
        assert [outcome.path for outcome in outcomes.all] == ["/health", "/metrics", "/third"]
        assert [head.split()[1] for head in server.heads] == [b"/health", b"/metrics", b"/third"]
        assert (server.connections, server.most_held) == (1, 1)


@pytest.mark.parametrize("behaviour", [rogue.stale, rogue.stale_by_reset])
async def test_a_stale_connection_is_repeated_on_a_fresh_one(
    make_engine: MakeEngine, behaviour: rogue.Behaviour
) -> None:
    engine = make_engine()
    async with rogue.server(behaviour) as server:
        target = target_of(server)
        assert (await engine.poll(target, "/health")).status == 200
        assert (await engine.poll(target, "/health")).status == 200
        assert (server.connections, server.requests) == (2, 3)


async def test_a_stale_connection_is_repeated_only_once(make_engine: MakeEngine) -> None:
    engine = make_engine()

    async def behave(client: rogue.Client) -> None:
        await client.request()
        if client.server.connections == 1:
            await client.send(rogue.answer())
            await client.request()

    async with rogue.server(behave) as server:
        target = target_of(server)
        assert (await engine.poll(target, "/health")).status == 200
        outcome = await engine.poll(target, "/health")
        assert outcome.fault is not None
        assert outcome.fault.kind is FaultKind.RESET
        assert (server.connections, server.requests) == (2, 3)


async def test_a_kept_connection_that_dies_inside_the_answer_is_not_repeated(make_engine: MakeEngine) -> None:
    engine = make_engine()

    async def behave(client: rogue.Client) -> None:
        await client.request()
        await client.send(rogue.answer())
        await client.request()
        await client.send(rogue.answer()[:-5])

    async with rogue.server(behave) as server:
        target = target_of(server)
        await engine.poll(target, "/health")
        outcome = await engine.poll(target, "/health")
        assert outcome.fault is not None
        assert outcome.fault.kind is FaultKind.TRUNCATED
        assert server.requests == 2


async def test_a_repeat_that_finds_the_port_closed_says_so(make_engine: MakeEngine) -> None:
    engine = make_engine()
    async with rogue.server(rogue.ok) as server:
        target = target_of(server)
        assert (await engine.poll(target, "/health")).status == 200
    outcome = await engine.poll(target, "/health")
    assert outcome.fault is not None
    assert outcome.fault.kind is FaultKind.REFUSED


async def test_an_idle_connection_that_the_server_closes_is_forgotten(make_engine: MakeEngine) -> None:
    engine = make_engine()
    async with rogue.server(rogue.close_idle) as server:
        target = target_of(server)
        assert (await engine.poll(target, "/health")).status == 200
        assert engine.connections == 1
        server.cue.set()
        await turns_until(lambda: engine.connections == 0)
        assert (await engine.poll(target, "/health")).status == 200
        assert (server.connections, server.requests) == (2, 2)


async def test_data_that_nobody_asked_for_ends_the_connection_and_reaches_nobody(make_engine: MakeEngine) -> None:
    engine = make_engine()
    async with rogue.server(rogue.unasked) as server:
        target = target_of(server)
        assert (await engine.poll(target, "/health")).status == 200
        server.cue.set()
        await turns_until(lambda: engine.connections == 0)
        assert (await engine.poll(target, "/health")).status == 200
        assert server.connections == 2


@pytest.mark.parametrize("behaviour", [rogue.two_answers, rogue.answer_and_a_piece])
async def test_more_than_one_answer_in_a_piece_spoils_neither_this_poll_nor_the_next(
    make_engine: MakeEngine, behaviour: rogue.Behaviour
) -> None:
    engine = make_engine()
    async with rogue.server(behaviour) as server:
        target = target_of(server)
        for _ in range(2):
            outcome = await engine.poll(target, "/health")
            assert (outcome.status, outcome.body) == (200, rogue.OK_BODY)
        assert server.connections == 2


async def test_a_changed_target_gets_a_fresh_connection_and_its_new_token(make_engine: MakeEngine) -> None:
    engine = make_engine()
    async with rogue.server(rogue.ok) as server, rogue.server(rogue.ok) as moved:
        await engine.poll(target_of(server, key="a", token="old"), "/health")
        await engine.poll(target_of(server, key="a", token="new"), "/health")
        await engine.poll(target_of(moved, key="a", token="new"), "/health")
        assert b"Bearer old" in server.heads[0]
        assert b"Bearer new" in server.heads[1]
        assert (server.connections, moved.connections) == (2, 1)
        await server.until(lambda: server.open == 0)
        assert engine.connections == 1


async def test_a_target_changed_during_its_poll_is_used_from_the_next_poll_on(make_engine: MakeEngine) -> None:
    engine = make_engine()
    outcomes = Outcomes()
    async with rogue.server(rogue.on_cue()) as server:
        old, new = target_of(server, key="a", token="old"), target_of(server, key="a", token="new")
        engine.submit(old, "/health", outcomes)
        await server.until(lambda: server.requests == 1)
        engine.submit(new, "/health", outcomes)
        server.cue.set()
        await outcomes.reach(2)
        assert [outcome.target for outcome in outcomes.all] == [old, new]
        assert b"Bearer old" in server.heads[0]
        assert b"Bearer new" in server.heads[1]


async def test_a_forgotten_target_is_disconnected(make_engine: MakeEngine) -> None:
    engine = make_engine()
    async with rogue.server(rogue.ok) as server:
        target = target_of(server)
        await engine.poll(target, "/health")
        engine.forget(target.key)
        engine.forget(target.key)
        engine.forget("never seen")
        await server.until(lambda: server.open == 0)
        assert engine._hosts == {}
        assert (await engine.poll(target, "/health")).status == 200
        assert server.connections == 2


async def test_a_target_forgotten_during_its_poll_still_answers_and_is_disconnected_then(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine()
    outcomes = Outcomes()
    async with rogue.server(rogue.on_cue()) as server:
        target = target_of(server)
        engine.submit(target, "/health", outcomes)
        await server.until(lambda: server.requests == 1)
        engine.forget(target.key)
        server.cue.set()
        await outcomes.reach(1)
        assert outcomes.all[0].status == 200
        await server.until(lambda: server.open == 0)
        assert engine._hosts == {}


async def test_few_connections_reach_many_hosts(make_engine: MakeEngine) -> None:
    engine = make_engine(max_connections=3)
    most = 0

    async with rogue.server(rogue.ok) as server:

        def count() -> None:
            nonlocal most
            ours = [
                connection
                for connection in psutil.Process().net_connections("tcp4")
                if connection.raddr and connection.raddr.port == server.port and connection.status == "ESTABLISHED"
            ]
            most = max(most, len(ours))

        server.on_connect = count
        targets = [target_of(server) for _ in range(10)]
        for _ in range(3):
            outcomes = Outcomes()
            for target in targets:
                engine.submit(target, "/health", outcomes)
            await outcomes.reach(10)
            assert {outcome.status for outcome in outcomes.all} == {200}
            assert {outcome.target for outcome in outcomes.all} == set(targets)
            assert engine.connections <= 3
        assert server.requests == 30
        assert 1 <= most <= 3


async def test_the_least_recently_used_connection_goes_first(make_engine: MakeEngine) -> None:
    engine = make_engine(max_connections=2)
    async with rogue.server(rogue.ok) as server:
        first, second, third = (target_of(server) for _ in range(3))
        for target in (first, second, first, third, first):
            assert (await engine.poll(target, "/health")).status == 200
        assert server.connections == 3  # `first` kept its own throughout
        await engine.poll(second, "/health")
        assert server.connections == 4


async def test_a_request_that_cannot_be_written_blames_nobody(make_engine: MakeEngine) -> None:
    engine = make_engine()
    async with rogue.server(rogue.ok) as server:
        outcome = await engine.poll(target_of(server, token="tökén"), "/health")
        assert outcome.fault is not None
        assert outcome.fault.kind is FaultKind.LOCAL
        assert "tökén" not in outcome.fault.message
        assert server.requests == 0

"""How many requests are open at a time, and that nobody waits for those that hang."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from opsfleet.polling import FaultKind, Outcome
from opsfleet.polling import engine as engine_module
from tests.support import rogue
from tests.unit.polling.conftest import MakeEngine, Outcomes, target_of, turns_until


async def test_no_more_requests_are_open_than_allowed(make_engine: MakeEngine) -> None:
    engine = make_engine(max_in_flight=4, patience=1000.0)
    outcomes = Outcomes()
    async with rogue.server(rogue.on_cue()) as server:
        for _ in range(20):
            engine.submit(target_of(server), "/health", outcomes)
        assert (engine.in_flight, engine.queued) == (4, 16)
        await server.until(lambda: server.held == 4)
        server.cue.set()
        await outcomes.reach(20)
        assert server.most_held <= 4
        assert {outcome.status for outcome in outcomes.all} == {200}
        assert (engine.in_flight, engine.queued) == (0, 0)


@pytest.mark.parametrize("behaviour", [rogue.hang_before_headers(), rogue.drip(1.0)], ids=["hangs", "drips"])
async def test_a_slow_host_delays_no_other(make_engine: MakeEngine, behaviour: rogue.Behaviour) -> None:
    engine = make_engine(request_timeout=60.0)
    slow, fast = Outcomes(), Outcomes()
    async with rogue.server(behaviour) as hanging, rogue.server(rogue.ok) as good:
        engine.submit(target_of(hanging), "/health", slow)
        await hanging.until(lambda: hanging.requests == 1)
        targets = [target_of(good) for _ in range(10)]
        for _ in range(3):
            for target in targets:
                engine.submit(target, "/health", fast)
        await fast.reach(30)
        assert len(slow) == 0
        await engine.close()
        assert [outcome.fault.kind for outcome in slow.all if outcome.fault] == [FaultKind.LOCAL]


async def test_hosts_that_hang_do_not_use_up_the_room(make_engine: MakeEngine) -> None:
    engine = make_engine(request_timeout=60.0, max_in_flight=4, patience=0.2)
    hung, good = Outcomes(), Outcomes()
    async with rogue.server(rogue.hang_before_headers()) as hanging, rogue.server(rogue.ok) as server:
        for _ in range(8):
            engine.submit(target_of(hanging), "/health", hung)
        for _ in range(20):
            engine.submit(target_of(server), "/health", good)
        await good.reach(20)
        assert {outcome.status for outcome in good.all} == {200}
        assert len(hung) == 0
        assert engine._doubtful_in_flight <= 2
        await engine.close()
        assert len(hung) == 8
        assert len(good) == 20


async def test_every_poll_that_hangs_ends_once(make_engine: MakeEngine) -> None:
    engine = make_engine(request_timeout=0.3, max_in_flight=4, patience=0.1)
    outcomes = Outcomes()
    async with rogue.server(rogue.hang_before_headers()) as hanging, rogue.server(rogue.on_cue()) as server:
        server.cue.set()
        bad = [target_of(hanging) for _ in range(8)]
        for target in [*bad, *(target_of(server) for _ in range(20))]:
            engine.submit(target, "/health", outcomes)
        await outcomes.reach(28)
        ends = Counter(outcome.target for outcome in outcomes.all)
        assert set(ends.values()) == {1}
        timed_out = {outcome.target for outcome in outcomes.all if outcome.fault}
        assert timed_out == set(bad)
        assert all(engine._hosts[target.key].doubtful for target in bad)
        # The next round starts with what is known of them: half of the room is theirs at most.
        for target in bad:
            engine.submit(target, "/health", outcomes)
        assert (engine.in_flight, engine.queued) == (2, 6)
        await engine.close()
        assert len(outcomes) == 36


async def test_a_host_that_hung_is_like_any_other_once_it_answers(make_engine: MakeEngine) -> None:
    engine = make_engine(request_timeout=0.4)
    async with rogue.server(rogue.hang_before_headers()) as hanging:
        target = target_of(hanging)
        outcome = await engine.poll(target, "/health")
        assert outcome.fault is not None
        assert engine._hosts[target.key].doubtful
        hanging.behaviour = rogue.ok
        assert (await engine.poll(target, "/health")).status == 200
        assert not engine._hosts[target.key].doubtful


async def test_a_changed_target_is_not_held_to_have_hung(make_engine: MakeEngine) -> None:
    engine = make_engine(request_timeout=0.4, max_in_flight=2)
    async with rogue.server(rogue.hang_before_headers()) as hanging, rogue.server(rogue.ok) as good:
        await engine.poll(target_of(hanging, key="a"), "/health")
        assert engine._hosts["a"].doubtful
        outcomes = Outcomes()
        engine.submit(target_of(good, key="a"), "/health", outcomes)
        assert not engine._hosts["a"].doubtful
        await outcomes.reach(1)
        assert outcomes.all[0].status == 200


async def test_a_poll_after_the_other_from_within_the_sink(make_engine: MakeEngine) -> None:
    engine = make_engine(max_in_flight=1)
    outcomes = Outcomes()
    async with rogue.server(rogue.ok) as server:
        target = target_of(server)

        def again(outcome: Outcome) -> None:
            outcomes(outcome)
            if len(outcomes) < 50:
                engine.submit(target, "/health", again)

        engine.submit(target, "/health", again)
        await outcomes.reach(50)
        assert {outcome.status for outcome in outcomes.all} == {200}


async def test_a_sink_that_raises_harms_nobody(make_engine: MakeEngine) -> None:
    engine = make_engine(max_in_flight=2)
    outcomes = Outcomes()
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))

    def raises(outcome: Outcome) -> None:
        raise RuntimeError("a broken sink")

    async with rogue.server(rogue.ok) as server:
        target = target_of(server)
        for number in range(10):
            engine.submit(target_of(server), "/health", raises if number % 2 else outcomes)
            engine.submit(target, "/health", raises if number % 2 else outcomes)
        await outcomes.reach(10)
        await server.until(lambda: server.requests == 20)
        await turns_until(lambda: engine.in_flight == 0)
    assert {outcome.status for outcome in outcomes.all} == {200}
    assert [str(report["exception"]) for report in reports] == ["a broken sink"] * 10


async def test_close_ends_every_poll_once(make_engine: MakeEngine) -> None:
    engine = make_engine(max_in_flight=3)
    outcomes = Outcomes()
    async with rogue.server(rogue.hang_before_headers()) as server:
        targets = [target_of(server) for _ in range(6)]
        for target in [*targets, *targets]:  # in flight, waiting for room, and waiting for the one before
            engine.submit(target, "/health", outcomes)
        await server.until(lambda: server.requests == 3)
        await engine.close()
        assert Counter(outcome.target for outcome in outcomes.all) == dict.fromkeys(targets, 2)
        assert {outcome.fault.message for outcome in outcomes.all if outcome.fault} == {
            "not polled: polling has stopped"
        }
        engine.submit(targets[0], "/health", outcomes)
        assert len(outcomes) == 13
        await engine.close()


async def test_close_right_after_submit_leaves_no_count_behind(make_engine: MakeEngine) -> None:
    engine = make_engine()
    outcomes = Outcomes()
    async with rogue.server(rogue.ok) as server:
        engine.submit(target_of(server), "/health", outcomes)
        await engine.close()
        assert len(outcomes) == 1
        assert engine.connections == 0
        assert server.requests == 0


async def test_close_while_connecting(make_engine: MakeEngine) -> None:
    engine = make_engine()
    outcomes = Outcomes()
    authority = rogue.Authority()
    async with rogue.server(rogue.hang_before_reading) as server:
        target = target_of(server, tls=True, ca_certificate=authority.certificate)
        engine.submit(target, "/health", outcomes)
        await server.until(lambda: server.connections == 1)
        await engine.close()
        assert [outcome.fault.kind for outcome in outcomes.all if outcome.fault] == [FaultKind.LOCAL]


async def test_a_pause_of_this_process_is_nobodys_fault(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "PAUSE", 0.5)
    engine = make_engine(request_timeout=2.0)
    outcomes = Outcomes()
    async with rogue.server(rogue.on_cue()) as server:
        engine.submit(target_of(server), "/health", outcomes)
        await server.until(lambda: server.held == 1)
        looked = asyncio.Event()
        tick = engine._tick

        def look() -> None:
            tick()
            looked.set()

        monkeypatch.setattr(engine, "_tick", look)
        assert engine._ticking is not None
        engine._ticking.cancel()
        engine._ticking = asyncio.get_running_loop().call_later(0.05, engine._tick)
        time.sleep(2.5)  # noqa: ASYNC251  the process stands still: there is no event to wait for
        await looked.wait()
        assert len(outcomes) == 0
        server.cue.set()
        await outcomes.reach(1)
        assert outcomes.all[0].status == 200


async def test_polls_can_be_ended_all_at_once_and_others_follow(make_engine: MakeEngine) -> None:
    engine = make_engine(max_in_flight=4, patience=1000.0)
    outcomes, later = Outcomes(), Outcomes()
    async with rogue.server(rogue.on_cue()) as server:
        targets = [target_of(server) for _ in range(20)]
        for target in [*targets, targets[0]]:
            engine.submit(target, "/health", outcomes)
        await server.until(lambda: server.held == 4)
        engine.end_polls()
        assert [outcome.fault.kind for outcome in outcomes.all if outcome.fault] == [FaultKind.LOCAL] * 21
        assert (engine.in_flight, engine.queued) == (0, 0)
        requests = server.requests
        server.cue.set()
        engine.submit(targets[0], "/health", later)
        await later.reach(1)
        assert later.all[0].status == 200
        assert server.requests == requests + 1, "nothing that had waited was sent"

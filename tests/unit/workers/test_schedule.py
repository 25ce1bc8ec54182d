"""The schedule is fixed, and no wall clock has a say in it."""

import asyncio
import time

import pytest

from opsfleet.workers.schedule import ticks


async def test_ticks_are_numbered_and_the_first_comes_at_once() -> None:
    seen = []
    async for number, _ in ticks(0.01):
        seen.append(number)
        if len(seen) == 4:
            break
    assert seen[0] == 0
    assert seen == sorted(set(seen))


async def test_ticks_that_passed_meanwhile_are_left_out_and_the_grid_is_kept() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    moments = []
    async for number, _ in ticks(0.05):
        moments.append((number, loop.time() - start))
        if number == 0:
            time.sleep(0.12)  # noqa: ASYNC251 - the process does not run
        if number >= 4:
            break
    numbers = [number for number, _ in moments]
    assert numbers[:2] == [0, 3], "the ticks at 0.05 and 0.10 have passed"
    assert all(moment >= number * 0.05 - 0.002 for number, moment in moments)


async def test_a_jump_of_the_wall_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    async for number, _ in ticks(0.01):
        seen.append(number)
        monkeypatch.setattr(time, "time", lambda: -1e9 if len(seen) % 2 else 1e12)
        if len(seen) == 4:
            break
    assert len(seen) == 4

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.request import Request, urlopen

import msgspec
import pytest

from opsfleet.simulate.process import fleet_process
from opsfleet.simulate.rules import Rule
from opsfleet.simulate.scenario import Scenario

Ask = Callable[..., Awaitable[bytes]]
COMMAND = (sys.executable, "-m", "opsfleet", "simulate", "--base-port", "0")


async def started(*options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *COMMAND, *options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


def test_a_child_process_answers_when_it_says_it_is_ready() -> None:
    scenario = Scenario(rules=[Rule(probability=0)])
    with fleet_process(1_000, scenario=scenario, token="t") as fleet:
        row = fleet.registrations()[999]
        request = Request(row["api_url"] + "/health", headers={"Authorization": f"Bearer {row['api_token']}"})
        with urlopen(request, timeout=10) as answer:
            assert msgspec.json.decode(answer.read())["hostname"] == row["hostname"]
        assert fleet.cpu_seconds() > 0


def test_a_child_that_cannot_start_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        fleet_process(1) as fleet,
        pytest.raises(OSError, match="did not start"),
        fleet_process(1, port=fleet.port),
    ):
        pass
    assert "in use" in capfd.readouterr().err


async def test_the_command_writes_what_import_reads_and_stops_when_told(tmp_path: Path) -> None:
    file = tmp_path / "servers.json"
    process = await started("--servers", "20", "--scenario", "demo", "--write-import", str(file))
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line.startswith("Simulating 20 servers at http://127.1.0.1:")
    rows = msgspec.json.decode(file.read_bytes())["servers"]
    assert len(rows) == 20
    with await asyncio.to_thread(
        urlopen,
        Request(rows[0]["api_url"] + "/health", headers={"Authorization": "Bearer simulated-token"}),
        timeout=20,
    ) as answer:
        assert answer.status == 200
    process.send_signal(signal.SIGTERM)
    _, complaints = await process.communicate()
    assert process.returncode == 0
    assert complaints == b""


async def test_the_command_ends_by_itself() -> None:
    process = await started("--servers", "1", "--for", "0.1")
    await process.communicate()
    assert process.returncode == 0


async def test_a_wrong_scenario_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text("[[rules]]\nstatus = { cod = 500 }\n")
    process = await started("--scenario", str(file))
    _, complaints = await process.communicate()
    assert process.returncode == 1
    assert complaints.decode().count("\n") == 1
    assert "rules[0].status: Object contains unknown field `cod`; accepted: code, location" in complaints.decode()

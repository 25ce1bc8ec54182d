"""`opsfleet costs` on a real database."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.integration.costs.conftest import Spending
from tests.support.product import environment


async def test_the_command_shows_costs_and_writes_csv(spending: Spending, dsn: str, tmp_path: Any) -> None:
    today = datetime.now(UTC).date()
    await spending.spend(await spending.server("=web[red]", region="eu"), today, "12.5")
    end = (today + timedelta(days=1)).isoformat()

    async def run(*arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "opsfleet", "costs", *arguments,
            env={**os.environ, **environment(dsn)}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode == 0
        return output.decode()

    file = tmp_path / "costs.csv"
    table, raw, _, budget = await asyncio.gather(
        run("--end", end),
        run("--json", "--by", "region", "--end", end),
        run("--csv", str(file), "--end", end),
        run("budget", "set", "100"),
    )
    assert "=web[red]" in table
    assert "12.50" in table
    assert json.loads(raw)["items"][0]["cost_usd"] == "12.500000"
    assert file.read_bytes().startswith(b"server_id,server,cost_usd,")
    assert b",'=web[red],12.500000,10,100.0,0.000000,0,\r\n" in file.read_bytes()
    assert "$12.50 spent of $100.00 (12.5 %), ok" in budget
    streamed, shown, removed = await asyncio.gather(
        run("--csv", "-", "--end", end), run("budget"), run("budget", "remove", "--month", f"{today:%Y-%m}")
    )
    assert streamed.encode() == file.read_bytes()
    assert "$12.50 spent" in shown
    assert f"Removed the budget of {today:%Y-%m}." in removed

"""`opsfleet demo`: a living fleet within a minute."""

import asyncio
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.panel import Panel

from opsfleet.app import Fleet, build_application
from opsfleet.cli.fleet import load_settings
from opsfleet.cli.output import console
from opsfleet.cli.serve import Server, StartError
from opsfleet.domain.errors import FleetError, InvalidImportError
from opsfleet.domain.ids import DEFAULT_ORGANIZATION
from opsfleet.settings import Settings
from opsfleet.simulate.fleet import simulated_registrations
from opsfleet.vault import token_hash

CHILD_SECONDS = 20.0
"""How long the simulated fleet and the agent may take to start, and to stop."""

DEMO_HEALTH_INTERVAL = "5"
DEMO_METRICS_INTERVAL = "15"

_DATABASE = (
    "DATABASE_URL", "DATABASE_URL_FILE", "POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_USER", "POSTGRES_PASSWORD",
    "POSTGRES_PASSWORD_FILE", "POSTGRES_DB", "FLEET_BOOTSTRAP_ADMIN_TOKEN_FILE",
)  # fmt: skip


def demo(
    servers: Annotated[int, typer.Option(min=1, max=20_000, help="Simulated servers.")] = 50,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; a free one near FLEET_PORT unless given.")
    ] = None,
    seconds: Annotated[float | None, typer.Option("--for", min=1, help="Stop by itself after so many seconds.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Use the configured database and keep the data.")] = False,
) -> None:
    """Run everything on this machine: database, simulated fleet, one real agent, workers, API."""
    token = secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory(prefix="opsfleet-demo-", ignore_cleanup_errors=True) as folder:
        overrides = {"FLEET_BOOTSTRAP_ADMIN_TOKEN": token, "FLEET_ROLE": "all"}
        if not keep:
            # Another user runs the database when we are root: it must be able to pass through.
            Path(folder).chmod(0o711)
            overrides["FLEET_DATA_DIR"] = str(Path(folder) / "data")
        defaults = {
            "FLEET_HEALTH_INTERVAL": DEMO_HEALTH_INTERVAL,
            "FLEET_METRICS_INTERVAL": DEMO_METRICS_INTERVAL,
            "FLEET_PORT": str(port or _free_port(8080)),
            "FLEET_LOG_FORMAT": "console",
        }
        if port is not None:
            overrides["FLEET_PORT"] = str(port)
        settings = load_settings(overrides, defaults=defaults, without=() if keep else _DATABASE)
        with suppress(KeyboardInterrupt):
            uvloop.run(_run(settings, servers, token, seconds))


async def _run(settings: Settings, servers: int, token: str, seconds: float | None) -> None:
    agent_token, fleet_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    fleet_port, agent_port = _free_port(9101, "0.0.0.0"), _free_port(9100)  # noqa: S104 - only looked at
    simulate = [sys.executable, "-m", "opsfleet", "simulate", "--servers", str(servers), "--base-port", str(fleet_port),
                "--token", fleet_token, "--scenario", "demo"]  # fmt: skip
    agent = [sys.executable, "-m", "opsfleet_agent", "--host", "127.0.0.1", "--port", str(agent_port),
             "--token-sha256", token_hash(agent_token).hex()]  # fmt: skip
    app = build_application(settings)
    server = Server(app, settings)
    async with _child(simulate, fleet_port), _child(agent, agent_port):
        try:
            serving = await server.start()
        except StartError:
            raise typer.Exit(3) from None
        try:
            rows = simulated_registrations(servers, port=fleet_port, token=fleet_token)
            rows.append(_this_machine(agent_port, agent_token))
            await _register(app.state.fleet, rows)
            _explain(settings, token, servers)
            await asyncio.wait([serving], timeout=seconds)
        finally:
            server.should_exit = True
            await asyncio.gather(serving, return_exceptions=True)


async def _register(fleet: Fleet, rows: list[dict[str, Any]]) -> None:
    try:
        await fleet.servers.import_many(DEFAULT_ORGANIZATION, rows)
    except InvalidImportError:
        # Data kept from an earlier demo: its servers answer at other ports and with other tokens now.
        for row in rows:
            with suppress(FleetError):
                known = await fleet.servers.find(DEFAULT_ORGANIZATION, row["name"])
                await fleet.servers.remove(DEFAULT_ORGANIZATION, known.id)
        await fleet.servers.import_many(DEFAULT_ORGANIZATION, rows)


def _this_machine(port: int, token: str) -> dict[str, Any]:
    return {
        "name": "this-machine",
        "hostname": socket.gethostname() or "localhost",
        "api_url": f"http://127.0.0.1:{port}",
        "api_token": token,
        "description": "The machine that this demo runs on, watched by a real agent.",
        "region": "local",
        "environment": "demo",
        "tags": ["real"],
    }


def _explain(settings: Settings, token: str, servers: int) -> None:
    url = f"http://{settings.host}:{settings.port}"
    console().print(
        Panel(
            f"Ops-Center Fleet watches {servers} simulated servers and this machine.\n\n"
            f"API          {url}/docs\n"
            f"Admin token  {token}\n\n"
            f'curl -H "Authorization: Bearer {token}" \\\n  {url}/api/v1/fleet/servers?limit=3\n\n'
            "Some of the servers will fail: watch the lines below. Ctrl-C ends it.",
            title="opsfleet demo",
            expand=False,
        ),
        soft_wrap=True,
    )


@asynccontextmanager
async def _child(command: list[str], port: int) -> AsyncIterator[None]:
    """Run a command until the end of the block; the block begins when it listens on `port`."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL, start_new_session=True)
    try:
        async with asyncio.timeout(CHILD_SECONDS):
            while not await _listens(port):
                if process.returncode is not None:
                    raise typer.Exit(3)
                await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), CHILD_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _free_port(wanted: int, host: str = "127.0.0.1") -> int:
    """Return `wanted`, or the next port that nobody listens on."""
    for port in range(wanted, wanted + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise typer.BadParameter(f"no free port from {wanted} to {wanted + 99}")

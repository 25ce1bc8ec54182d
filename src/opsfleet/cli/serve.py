"""`opsfleet serve`: the product."""

from typing import Annotated

import typer
import uvicorn
from fastapi import FastAPI

from opsfleet.app import build_application
from opsfleet.cli.fleet import load_settings
from opsfleet.settings import Settings

GRACE_SECONDS = 10


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (FLEET_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (FLEET_PORT).")] = None,
    role: Annotated[str | None, typer.Option(help="all, api or worker (FLEET_ROLE).")] = None,
) -> None:
    """Migrate the database, then serve the API and run the workers."""
    settings = load_settings(
        {"FLEET_HOST": host, "FLEET_PORT": str(port) if port is not None else None, "FLEET_ROLE": role}
    )
    run_server(settings)


def run_server(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then stop in good order; exits with 3 when the start fails."""
    server = uvicorn.Server(server_config(build_application(settings), settings))
    server.run()
    if not server.started:
        raise typer.Exit(3)


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return how the application is served."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )

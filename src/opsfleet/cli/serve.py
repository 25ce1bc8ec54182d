"""`opsfleet serve`: the product."""

import asyncio
from socket import socket
from typing import Annotated

import typer
import uvicorn
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

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
    """Serve until SIGTERM or SIGINT, then stop in good order; raises what kept the application from starting."""
    server = Server(build_application(settings), settings)
    server.run()
    if not server.started:
        raise typer.Exit(3)


class Startable:
    """An application that keeps what kept it from starting, for the caller to tell, instead of logging it."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self.failure: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the application's whole life."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failed = False

        async def send_unless_failed(message: Message) -> None:
            nonlocal failed
            failed = message["type"] == "lifespan.startup.failed"
            if not failed:
                await send(message)

        try:
            await self._app(scope, receive, send_unless_failed)
        except Exception as error:
            if failed:
                self.failure = error
                await send({"type": "lifespan.startup.failed", "message": ""})
            raise


class Server(uvicorn.Server):
    """Serves an application; `serving` is set once it takes requests."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self.application = Startable(app)
        config = uvicorn.Config(
            self.application,
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
        super().__init__(config)
        self.serving = asyncio.Event()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Run the application's lifespan and begin to listen; raises what kept the application from starting."""
        try:
            await super().startup(sockets)
        except SystemExit:
            if self.application.failure is None:
                raise
            raise self.application.failure from None
        if self.started:
            self.serving.set()

    async def start(self) -> asyncio.Task[None]:
        """Return the task that serves, once it takes requests; raises what kept it from that.

        Raises:
            StartError: when it ended before it took any, though the application started.
        """
        serving = asyncio.create_task(self.serve(), name="server")
        ready = asyncio.create_task(self.serving.wait())
        await asyncio.wait([serving, ready], return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            await serving
            raise StartError("the control plane did not start; the log says why")
        return serving


class StartError(Exception):
    """The server ended before it took a request."""

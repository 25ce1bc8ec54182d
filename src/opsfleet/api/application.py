"""The FastAPI application: routers, errors, request ids."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opsfleet import __version__
from opsfleet.api import costs, discovery, errors, health, series, servers, summary, system, workers
from opsfleet.domain.ids import new_id

_TAGS = [
    {"name": "servers", "description": "The registry of managed servers."},
    {"name": "health", "description": "Health checks, their history, and changes of health."},
    {"name": "metrics", "description": "Metrics over time, and collecting them now."},
    {"name": "costs", "description": "What language models cost, and budgets for it."},
    {"name": "workers", "description": "The background workers."},
    {"name": "system", "description": "The control plane itself."},
]

ALL_ROUTERS = (
    servers.router,
    discovery.router,
    health.router,
    series.router,
    summary.router,
    costs.router,
    workers.router,
    system.router,
)
SYSTEM_ROUTERS = (system.router,)


class RequestIds:
    """Gives each request an id, which problems and the header `X-Request-Id` carry."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", []).append((b"x-request-id", request_id.encode()))
            await send(message)

        await self._app(scope, receive, send_with_id)


def create_application(
    routers: tuple[APIRouter, ...] = ALL_ROUTERS,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
) -> FastAPI:
    """Return the application; its `state` gets `services`, `own_metrics` and `metrics_open` before it serves."""
    app = FastAPI(
        title="Ops-Center Fleet",
        version=__version__,
        summary="One control plane that watches and operates many servers.",
        description="Errors are `application/problem+json` (RFC 9457) with a stable `code`. Lists are paged by cursor.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_tags=_TAGS,
        redoc_url=None,
        lifespan=lifespan,
    )
    for router in routers:
        app.include_router(router)
    errors.install(app)
    app.add_middleware(RequestIds)
    return app

"""Errors as HTTP: one shape, RFC 9457 `application/problem+json`. The only place that knows statuses."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opsfleet.api.schemas import Problem
from opsfleet.domain.errors import FleetError, InvalidError, InvalidImportError, TooLargeError

STATUSES: Mapping[str, int] = {
    "malformed": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "name_taken": 409,
    "server_not_active": 409,
    "changed_meanwhile": 409,
    "too_large": 413,
    "invalid": 422,
    "invalid_import": 422,
    "check_failed": 503,
    "database_unavailable": 503,
}

RETRY_AFTER_SECONDS = 5

_TITLES = {
    "malformed": "The request cannot be read",
    "unauthenticated": "Who are you?",
    "forbidden": "Not allowed",
    "not_found": "Not found",
    "name_taken": "The name is taken",
    "server_not_active": "The server is not active",
    "changed_meanwhile": "It was changed meanwhile",
    "too_large": "The request is too large",
    "invalid": "Some values are not accepted",
    "invalid_import": "Some rows are not accepted",
    "check_failed": "The check could not be made",
    "database_unavailable": "The database is away",
}

logger = structlog.get_logger(__name__)


def problem(
    request: Request,
    code: str,
    status: int,
    detail: str,
    *,
    errors: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a problem response. `code` is stable; `detail` is a sentence for people."""
    body: dict[str, Any] = {
        "type": f"urn:opsfleet:problem:{code}",
        "title": _TITLES.get(code, HTTPStatus(status).phrase),
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": getattr(request.state, "request_id", None),
    }
    if errors is not None:
        body["errors"] = errors
    return Response(msgspec.json.encode(body), status, headers=headers, media_type="application/problem+json")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of an operation, for the OpenAPI document."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "model": Problem,
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Make every error of the application a problem response."""
    app.add_exception_handler(FleetError, _fleet_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(UnexpectedErrors)


class UnexpectedErrors:
    """Answers for an exception that nothing else took, and logs it once.

    A handler of the framework for `Exception` would answer too, but raise it again for the server to log a second time.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        except Exception as error:
            if started:
                raise  # too late to answer: the server logs it and breaks the connection
            request = Request(scope)
            logger.error(f"Request failed: {request.method} {request.url.path}", exc_info=error)
            detail = "something went wrong on our side; the log has the details"
            await problem(request, "internal", 500, detail)(scope, receive, send)


async def _fleet_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, FleetError)
    status = STATUSES[error.code]
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return problem(request, error.code, status, error.message, errors=_errors(error), headers=headers)


def _errors(error: FleetError) -> list[dict[str, Any]] | None:
    if isinstance(error, TooLargeError):
        return [{"field": "body", "message": error.message}]
    if isinstance(error, InvalidError):
        return [{"field": item.field, "message": item.message} for item in error.errors]
    if isinstance(error, InvalidImportError):
        return [
            {"row": row.row, "name": row.name, "field": f"servers.{row.row}.{item.field}", "message": item.message}
            for row in error.rows
            for item in row.errors
        ]
    return None


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [
        {"field": ".".join(str(part) for part in item["loc"][1:]) or str(item["loc"][0]), "message": item["msg"]}
        for item in error.errors()
    ]
    return problem(request, "invalid", 422, f"{errors[0]['field']}: {errors[0]['message']}", errors=errors)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, f"http_{error.status_code}")
    detail = {
        404: f"there is nothing at {request.url.path}",
        405: f"{request.method} is not possible at {request.url.path}",
    }.get(error.status_code, str(error.detail))
    return problem(request, code, error.status_code, detail, headers=error.headers)

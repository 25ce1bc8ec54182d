"""Reading request bodies within their limits, writing responses, and cursors."""

import asyncio
import base64
import binascii
import dataclasses
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
from fastapi import Request, Response
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from opsfleet.domain.errors import FieldError, InvalidError, MalformedError, TooLargeError
from opsfleet.domain.health import HealthCheck

MAX_BODY_BYTES = 1024 * 1024
MAX_IMPORT_BYTES = 64 * 1024 * 1024
MAX_DRAINED_BYTES = 16 * 1024 * 1024
"""So much beyond the limit of a body is read and thrown away, that its sender may hear why it is refused."""

MAX_DRAIN_SECONDS = 2.0

_BYTE = re.compile(r"\(byte (\d+)\)")


async def read_json(request: Request, limit: int = MAX_BODY_BYTES) -> Any:
    """Return the request's body, decoded; it may be any JSON value.

    Raises:
        TooLargeError: when it is over `limit` bytes, once the rest of it was read or is too much.
        MalformedError: when it is not JSON.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise MalformedError(f"the content type is {kind[:100]!r}; it must be application/json")
    announced = request.headers.get("content-length", "0")
    stream = request.stream()
    if announced.isdigit() and int(announced) > limit:
        waits = request.headers.get("expect", "").lower() == "100-continue"  # then nothing of it was sent yet
        if not waits and int(announced) <= limit + MAX_DRAINED_BYTES:
            await _drain(stream, int(announced))
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in stream:
        size += len(chunk)
        if size > limit:
            chunks.clear()
            await _drain(stream, limit + MAX_DRAINED_BYTES - size)
            raise _too_large(limit)
        chunks.append(chunk)
    try:
        return msgspec.json.decode(b"".join(chunks))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        found = _BYTE.search(str(error))
        raise MalformedError(f"the body is not JSON at byte {found.group(1) if found else size}") from None
    except RecursionError:
        raise MalformedError("the body is nested too deep") from None


async def _drain(stream: AsyncIterator[bytes], most: int) -> None:
    """Read the rest of a body, up to `most` bytes: who sends everything before reading misses an earlier answer."""
    with suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(MAX_DRAIN_SECONDS):
            async for chunk in stream:
                most -= len(chunk)
                if most <= 0:
                    return


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the body is over {limit // (1024 * 1024)} MiB")


def json_response(value: object, status: int = 200) -> Response:
    """Return `value` (dataclasses, dicts, lists, dates, ids) as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the request body of an operation, for the OpenAPI document."""
    schema = model.model_json_schema()
    for name, definition in schema.pop("$defs", {}).items():
        schema = _inline(schema, f"#/$defs/{name}", definition)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _inline(schema: Any, reference: str, definition: dict[str, Any]) -> Any:
    if isinstance(schema, dict):
        if schema.get("$ref") == reference:
            return definition
        return {key: _inline(value, reference, definition) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_inline(item, reference, definition) for item in schema]
    return schema


def health_check(check: HealthCheck) -> dict[str, Any]:
    """Return a health check as it travels."""
    return {
        "server_id": check.server_id,
        "timestamp": check.timestamp,
        "status": check.status,
        "response_time_ms": round(check.response_time_ms, 3) if check.response_time_ms is not None else None,
        "database_healthy": check.database_healthy,
        "redis_healthy": check.redis_healthy,
        "services_healthy": check.services_healthy,
        "error_message": check.error_message,
        "error_details": check.error_details,
    }


def as_dict(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, not copied deeply."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def encode_cursor(*parts: object) -> str:
    """Return an opaque cursor that holds `parts`."""
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode().rstrip("=")


def decode_cursor(cursor: str, length: int) -> list[str]:
    """Return the `length` texts that a cursor holds.

    Raises:
        InvalidError: when it was not made by `encode_cursor` for this list.
    """
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        parts = msgspec.json.decode(raw, type=list[str])
    except (binascii.Error, ValueError, msgspec.DecodeError):
        parts = []
    if len(parts) != length:
        raise InvalidError([FieldError("cursor", "must be the next_cursor of the page before")])
    return parts


def moment_of(name: str, text: str) -> datetime:
    """Return a moment (UTC) from RFC 3339 text.

    Raises:
        InvalidError: when it is none; `name` is the field at fault.
    """
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidError([FieldError(name, "must be a time with its zone, such as 2026-01-26T14:30:15Z")])
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidError([FieldError(name, "must lie in the years 1 to 9999, in UTC")]) from None

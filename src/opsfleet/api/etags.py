"""Answers that a client may keep and ask again for: `ETag` and `304 Not Modified` (RFC 9110, 8.8.3 and 13.1.2)."""

import hashlib

import msgspec
from fastapi import Request, Response


def json_unless_known(request: Request, value: object) -> Response:
    """Return `value` as JSON with its entity tag, or 304 when the caller has exactly that already."""
    body = msgspec.json.encode(value)
    tag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if _is_known(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def _is_known(given: str, tag: str) -> bool:
    tags = [one.strip().removeprefix("W/") for one in given.split(",")]
    return tag in tags or tags == ["*"]

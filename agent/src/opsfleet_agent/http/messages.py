"""Requests and answers."""

import time
from http import HTTPStatus
from typing import Any

import msgspec

from opsfleet_agent.wire import encode

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"


class Request(msgspec.Struct, frozen=True):
    """A whole request of a caller that presented an accepted token. Names of headers are in lower case."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes


class Response(msgspec.Struct, frozen=True):
    """An answer; its body is JSON."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: dict[str, str] = {}

    def to_bytes(self, *, keep_alive: bool, head_only: bool = False) -> bytes:
        """Return the answer as it is sent, by HTTP/1.1 (RFC 9112); to a HEAD request without the body."""
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S GMT', time.gmtime())}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            "Cache-Control: no-store",
            f"Connection: {'keep-alive' if keep_alive else 'close'}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
        return head if head_only else head + self.body


def json_response(document: Any) -> Response:
    """Return `document` as the answer."""
    return Response(encode(document))


def problem(status: int, code: str, detail: str, **headers: str) -> Response:
    """Return a refusal (RFC 9457). `detail` is one sentence; underscores in names of `headers` are dashes."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(encode(document), status, PROBLEM_JSON, named)

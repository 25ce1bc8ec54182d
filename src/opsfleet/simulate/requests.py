"""Reading requests: the careful way, used for the first request of each kind on a connection."""

from typing import NamedTuple

import httptools

from opsfleet_agent.wire import HEALTH_PATH, METRICS_PATH

MAX_REQUEST_BYTES = 64 * 1024

_HEALTH = HEALTH_PATH.encode()
_METRICS = METRICS_PATH.encode()


class Request(NamedTuple):
    """What matters of a request. `endpoint` is "health", "metrics" or "" for any other path.

    `plain` says that it can be answered well: an authorized GET of an endpoint on a connection to be kept.
    """

    endpoint: str
    method: bytes
    authorized: bool
    keep_alive: bool
    plain: bool


class BadRequestError(Exception):
    """What came is not an HTTP request, or is too large for one."""


class RequestReader:
    """Takes requests out of a stream of bytes."""

    def __init__(self, authorization: bytes) -> None:
        self._authorization = authorization
        self._parser = httptools.HttpRequestParser(self)
        self._complete: list[Request] = []
        self._target = b""
        self._authorized = False
        self._partial = 0
        self.between = True
        """Whether no request has begun that has not ended."""

    def feed(self, data: bytes) -> list[Request]:
        """Return the requests that are complete with `data`; raises BadRequestError."""
        self._complete = []
        self._partial += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise BadRequestError(str(error)) from None
        if self.between:
            self._partial = 0
        elif self._partial > MAX_REQUEST_BYTES:
            raise BadRequestError("request too large")
        return self._complete

    # httptools

    def on_message_begin(self) -> None:
        """Forget the request before."""
        self.between = False
        self._target = b""
        self._authorized = False

    def on_url(self, url: bytes) -> None:
        """Collect the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Compare the token."""
        if name.lower() == b"authorization":
            self._authorized = value == self._authorization

    def on_message_complete(self) -> None:
        """Keep what matters."""
        path = self._target.partition(b"?")[0]
        endpoint = "health" if path == _HEALTH else "metrics" if path == _METRICS else ""
        method = self._parser.get_method()
        keep_alive = self._parser.should_keep_alive()
        plain = bool(endpoint) and method == b"GET" and self._authorized and keep_alive
        self._complete.append(Request(endpoint, method, self._authorized, keep_alive, plain))
        self.between = True

"""Decides what each request gets: the usual answer at once, or whatever the rules of the server say."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from opsfleet.simulate.answers import (
    NOT_HTTP,
    failure,
    malformed,
    reported_health,
    reported_metrics,
    response,
)
from opsfleet.simulate.behaviour import Behaviour, Delivery
from opsfleet.simulate.connection import Connection
from opsfleet.simulate.requests import Request

_WELL = Behaviour()
_KEYS = tuple(Behaviour.__struct_fields__)
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


class _Parts(NamedTuple):
    status: int
    body: bytes
    headers: bytes = b""


class Responder:
    """Answers the requests of all connections. `clock` returns Unix time in seconds."""

    def __init__(self, token: str, clock: Callable[[], float], random: Random) -> None:
        self.authorization = b"Bearer " + token.encode()
        self.requests = 0
        self._clock = clock
        self._random = random
        self._started = clock()
        self._loop = asyncio.get_running_loop()

    def answer(self, connection: Connection, request: Request) -> None:
        """Answer a request, now or later or never."""
        self.requests += 1
        station = connection.station
        if station.rules or not request.plain:
            self._answer_by_rules(connection, request)
            return
        now = self._clock()
        body = station.machine.health(now) if request.endpoint == "health" else station.machine.metrics(now)
        connection.reply(_OK % (len(body), body))

    def refuse(self, connection: Connection) -> None:
        """Answer what is no request, and close."""
        connection.send(response(b'{"error":"Bad Request"}', 400, keep_alive=False))
        connection.done(close=True)

    def resets_at_once(self, connection: Connection) -> bool:
        """Say whether the server of a new connection refuses connections."""
        return bool(connection.station.rules) and self._behaviour(connection, "").network == "refuse"

    def _behaviour(self, connection: Connection, endpoint: str) -> Behaviour:
        """Return the sum of the rules that apply: of each key, what the strongest rule says."""
        station = connection.station
        elapsed = self._clock() - self._started
        found: dict[str, object] = {}
        for rule in station.rules:
            if rule.applies(endpoint, elapsed, station.machine.phase, self._random):
                for key in _KEYS:
                    value = getattr(rule, key)
                    if value is not None:
                        found.setdefault(key, value)
        return Behaviour(**found) if found else _WELL  # type: ignore[arg-type]

    def _answer_by_rules(self, connection: Connection, request: Request) -> None:
        behaviour = self._behaviour(connection, request.endpoint)
        if behaviour.network == "refuse":
            connection.reset()
        elif behaviour.network is None:
            # A black hole leaves the connection busy for ever.
            seconds = 0.0 if behaviour.latency is None else behaviour.latency.seconds(self._random)
            if seconds > 0:
                connection.timer = self._loop.call_later(seconds, self._deliver, connection, request, behaviour)
            else:
                self._deliver(connection, request, behaviour)

    def _deliver(self, connection: Connection, request: Request, behaviour: Behaviour) -> None:
        connection.timer = None
        if behaviour.malformed == "not-http" and behaviour.status is None:
            connection.send(NOT_HTTP)
            connection.done(close=True)
            return
        status, body, headers = self._parts(connection, request, behaviour)
        delivery = behaviour.delivery
        if delivery is None or delivery.kind == "close":
            keep_alive = request.keep_alive and delivery is None
            connection.send(response(body, status, keep_alive=keep_alive, headers=headers))
            connection.done(close=not keep_alive)
            return
        length = delivery.kind != "slow-close"
        data = response(body, status, keep_alive=request.keep_alive, length=length, headers=headers)
        if delivery.kind == "slow-close":
            connection.send(data)
            connection.timer = self._loop.call_later(delivery.seconds, connection.close)
        elif delivery.kind == "reset":
            connection.send(data[: len(data) - len(body) + delivery.after_bytes])
            connection.reset()
        else:
            self._drip(connection, memoryview(data), delivery, request.keep_alive)

    def _parts(self, connection: Connection, request: Request, behaviour: Behaviour) -> _Parts:
        """Return status, body and additional headers."""
        if not request.authorized:
            return _Parts(401, b'{"error":"Unauthorized"}', b"WWW-Authenticate: Bearer\r\n")
        if not request.endpoint:
            return _Parts(404, b'{"error":"Not Found"}')
        if request.method != b"GET":
            return _Parts(405, b'{"error":"Method Not Allowed"}', b"Allow: GET\r\n")
        if behaviour.status is not None:
            body, headers = failure(behaviour.status)
            return _Parts(behaviour.status.code, body, headers)
        machine, now = connection.station.machine, self._clock()
        if request.endpoint == "health":
            body = machine.health(now)
            if behaviour.report is not None:
                body = reported_health(body, behaviour.report)
        else:
            body = machine.metrics(now)
            if behaviour.report is not None or behaviour.metrics is not None:
                body = reported_metrics(body, behaviour.report, behaviour.metrics)
        if behaviour.malformed is not None:
            body = malformed(body, behaviour.malformed, request.endpoint)
        return _Parts(200, body)

    def _drip(self, connection: Connection, left: memoryview, delivery: Delivery, keep_alive: bool) -> None:
        """Send a little now and the rest later, at most ten times a second."""
        connection.timer = None
        size = max(1, int(delivery.bytes_per_second / 10))
        connection.send(bytes(left[:size]))
        if not connection.is_open:
            return
        if len(left) <= size:
            connection.done(close=not keep_alive)
            return
        pause = size / delivery.bytes_per_second
        connection.timer = self._loop.call_later(pause, self._drip, connection, left[size:], delivery, keep_alive)

"""The polling engine: one GET request at a time to each of very many hosts.

The hot path (a request on a kept connection) is callbacks alone: no task, future or timer for each request. Tasks
exist only while connecting. `docs/decisions/0002-polling-engine.md` has the measurements behind this.
"""

import asyncio
import ssl
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from time import time
from typing import cast

from opsfleet.polling import faults, tls
from opsfleet.polling.connection import Connection
from opsfleet.polling.deadlines import DeadlineQueue
from opsfleet.polling.dns import ResolutionError, Resolver
from opsfleet.polling.host import Host
from opsfleet.polling.network import NetworkPolicy
from opsfleet.polling.outcome import Fault, FaultKind, Outcome, Sink
from opsfleet.polling.target import Target

TICK = 0.05
"""Seconds between looks at the deadlines: how late a timeout can be."""

PAUSE = 2.0
"""A gap of this many seconds between two ticks means that this process did not run; hosts are not blamed for it."""


RECOVERY = 60.0
"""Seconds after which a limit of the operating system that we ran into is tried again."""

# Faults that say less of the host than what another of its addresses answered.
_SAYS_LITTLE = frozenset({FaultKind.LOCAL, FaultKind.DENIED, FaultKind.NO_ROUTE})


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of an engine.

    `request_timeout` is in seconds for one whole request, of which connecting may take half. `max_in_flight` requests
    are open at a time, on at most `max_connections` connections, idle ones included. While others wait, a request that
    is open for more than `patience` seconds gives up its place and is repeated in the lane of the doubtful hosts, which
    may use half of the room.
    """

    request_timeout: float = 10.0
    max_in_flight: int = 5_000
    max_connections: int = 16_000
    patience: float = 1.0


class PollingEngine:
    """Polls hosts over HTTP/1.1, on one event loop.

    Each host has one connection, kept alive, and one request on it at a time; further polls of the host wait for it.
    Each submitted poll ends with exactly one call of its sink.
    """

    def __init__(self, limits: Limits, policy: NetworkPolicy, resolver: Resolver | None = None) -> None:
        self.limits = limits
        self._policy = policy
        self._resolver = resolver or Resolver()
        self._contexts = tls.TlsContexts()
        self._loop = asyncio.get_running_loop()
        self._hosts: dict[Hashable, Host] = {}
        self._idle: OrderedDict[Host, None] = OrderedDict()
        self._open = 0
        self._dialing: set[asyncio.Task[None]] = set()
        self._all_closed = asyncio.Event()
        self._set_room(limits.max_connections)
        self._exhausted_at = 0.0
        self._starved = 0
        self._in_flight = 0
        self._doubtful_in_flight = 0
        self._ready: deque[Host] = deque()
        self._doubtful: deque[Host] = deque()
        self._deadlines: DeadlineQueue[Host] = DeadlineQueue(limits.request_timeout)
        self._connect_deadlines: DeadlineQueue[Host] = DeadlineQueue(limits.request_timeout / 2)
        self._ticking: asyncio.TimerHandle | None = None
        self._last_tick = 0.0
        self._paused = 0.0
        self._closed = False

    @property
    def in_flight(self) -> int:
        """The number of requests that are open now."""
        return self._in_flight

    @property
    def queued(self) -> int:
        """The number of polls that wait for room."""
        return len(self._ready) + len(self._doubtful)

    @property
    def connections(self) -> int:
        """The number of connections, idle ones and those being made included."""
        return self._open + len(self._dialing)

    def submit(self, target: Target, path: str, sink: Sink) -> None:
        """Poll `path` on `target` and give the outcome to `sink`. Returns at once."""
        if self._closed:
            sink(Outcome(target, path, time(), None, 0, b"", Fault(FaultKind.LOCAL, "not polled: polling has stopped")))
            return
        host = self._hosts.get(target.key)
        if host is None:
            host = self._hosts[target.key] = Host(self, target)
        host.forgotten = False
        if host.sink is not None:
            host.wait(target, path, sink)
            return
        host.take(target, path, sink)
        self._admit(host)

    async def poll(self, target: Target, path: str) -> Outcome:
        """Poll `path` on `target` and return the outcome."""
        outcome: asyncio.Future[Outcome] = self._loop.create_future()

        def sink(result: Outcome) -> None:
            if not outcome.done():
                outcome.set_result(result)

        self.submit(target, path, sink)
        return await outcome

    def forget(self, key: Hashable) -> None:
        """Drop what is known of a target; a poll under way still ends."""
        host = self._hosts.get(key)
        if host is None:
            return
        if host.sink is None:
            self.drop_connection(host)
            del self._hosts[key]
        else:
            host.forgotten = True

    def end_polls(self) -> None:
        """End every poll, under way or waiting, with a local fault, and close all connections; new polls may follow."""
        closed, self._closed = self._closed, True  # no poll that ends here makes room for another
        fault = Fault(FaultKind.LOCAL, "not polled: polling has stopped")
        self._ready.clear()
        self._doubtful.clear()
        for host in list(self._hosts.values()):
            self._interrupt(host)
            while host.sink is not None:
                self._finish(host, None, 0, b"", fault)
        self._hosts.clear()
        self._closed = closed

    async def close(self) -> None:
        """Close all connections. Polls under way end with a local fault."""
        self._closed = True
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        self.end_polls()
        await asyncio.gather(*self._dialing, return_exceptions=True)
        await self._resolver.close()
        if self._open:
            await self._all_closed.wait()

    # admission

    def _set_room(self, connections: int) -> None:
        self._max_connections = connections
        self._max_in_flight = min(self.limits.max_in_flight, connections)
        self._max_doubtful = max(1, self._max_in_flight // 2)

    def _admit(self, host: Host) -> None:
        """Start the host's current poll, or let it wait for room."""
        if host.doubtful:
            if self._doubtful_in_flight >= self._max_doubtful or self._in_flight >= self._max_in_flight:
                self._doubtful.append(host)
                self._keep_ticking()
                return
        elif self._in_flight >= self._max_in_flight:
            self._ready.append(host)
            self._keep_ticking()
            return
        self._start(host)

    def _admit_waiting(self) -> None:
        while self._ready and self._in_flight < self._max_in_flight:
            self._start(self._ready.popleft())
        while (
            self._doubtful and self._in_flight < self._max_in_flight and self._doubtful_in_flight < self._max_doubtful
        ):
            self._start(self._doubtful.popleft())

    def _start(self, host: Host) -> None:
        self._in_flight += 1
        if host.doubtful:
            self._doubtful_in_flight += 1
        host.in_flight = True
        host.sequence += 1
        now = self._loop.time() - self._paused
        self._deadlines.add(now, host, host.sequence)
        if self._ticking is None:
            self._keep_ticking()
        connection = host.connection
        if connection is None:
            self._connect(host)
        else:
            del self._idle[host]
            connection.send(host.request())

    def _release(self, host: Host) -> None:
        """Give back the room of a poll that is over or put off."""
        host.sequence += 1
        if host.in_flight:
            host.in_flight = False
            self._in_flight -= 1
            if host.doubtful:
                self._doubtful_in_flight -= 1

    def _finish(self, host: Host, elapsed: float | None, status: int, body: bytes, fault: Fault | None) -> None:
        sink = host.sink
        assert sink is not None
        outcome = Outcome(host.target, host.path, time(), elapsed, status, body, fault)
        self._release(host)
        host.sink = None
        host.doubtful = fault is not None and fault.kind is FaultKind.TIMEOUT
        try:
            sink(outcome)
        except Exception as error:  # one sink must not take the others' polls down
            self._loop.call_exception_handler({"message": "a polling sink raised", "exception": error})
        if host.sink is None:
            if host.waiting:
                host.take(*host.waiting.popleft())
                if not self._closed:
                    self._admit(host)
            elif host.forgotten:
                self.drop_connection(host)
                self._hosts.pop(host.target.key, None)
        if (self._ready or self._doubtful) and not self._closed:
            self._admit_waiting()

    # connecting

    def _connect(self, host: Host) -> None:
        if self.connections >= self._max_connections:
            self._at_limit()
        self._connect_deadlines.add(self._loop.time() - self._paused, host, host.sequence)
        host.step = "resolve"
        task = self._loop.create_task(self._establish(host, host.sequence))
        host.connecting = task
        self._dialing.add(task)
        # A task that is cancelled before its first step never comes to its own end.
        task.add_done_callback(self._dialing.discard)

    async def _establish(self, host: Host, sequence: int) -> None:
        connection: Connection | None = None
        fault: Fault | None = None
        try:
            request = host.request()
            connection, fault = await self._dial(host)
        except Exception as error:  # whatever the libraries raise ends this poll, no other
            fault = Fault(FaultKind.LOCAL, f"not polled: {error}", {"error": type(error).__name__})
        finally:
            self._dialing.discard(cast("asyncio.Task[None]", asyncio.current_task()))
        if host.sequence != sequence:
            if connection is not None:
                connection.abort()
            return
        host.connecting = None
        if connection is None:
            assert fault is not None
            self._finish(host, None, 0, b"", fault)
            return
        host.connection = connection
        connection.send(request)

    async def _dial(self, host: Host) -> tuple[Connection | None, Fault | None]:
        """Try the addresses of the host in turn; return a connection, or the fault that says most of the host.

        Each address but the last has an equal share of the time, so that one that hangs leaves some for the others.
        """
        target = host.target
        try:
            addresses = [target.host] if target.is_address else await self._resolver.resolve(target.host)
        except ResolutionError as error:
            return None, Fault(FaultKind.DNS, str(error), {"host": target.host})
        context: ssl.SSLContext | None = None
        if target.tls:
            try:
                context = self._contexts.get(target.ca_certificate)
            except ValueError as error:
                return None, Fault(FaultKind.TLS, str(error))
        host.step = "connect"
        telling: Fault | None = None
        share = self._connect_deadlines.duration / len(addresses)
        for number, address in enumerate(addresses, 1):
            objection = self._policy.objection(address, target.tls)
            if objection is not None:
                telling = telling or Fault(FaultKind.DENIED, objection, {"address": address})
                continue
            try:
                if number == len(addresses):
                    return await self._dial_address(host, address, context), None
                async with asyncio.timeout(share):
                    return await self._dial_address(host, address, context), None
            except OSError as error:
                fault = faults.connect_fault(error, target.host)
                if tls.is_expired(error):
                    fault = await self._expired_fault(error, target, address)
                if telling is None or (telling.kind in _SAYS_LITTLE and fault.kind not in _SAYS_LITTLE):
                    telling = fault
        return None, telling

    async def _dial_address(self, host: Host, address: str, context: ssl.SSLContext | None) -> Connection:
        target = host.target
        delay = TICK
        while True:
            try:
                _, connection = await self._loop.create_connection(
                    lambda: Connection(host),
                    address,
                    target.port,
                    ssl=context,
                    server_hostname=target.host if context else None,
                )
            except OSError as error:
                if isinstance(error, ssl.SSLError) or not faults.is_exhaustion(error):
                    raise
                if not self._make_room():
                    raise
                # Descriptors of dropped connections are free after the loop's next turns.
                host.step = "room"
                self._starved += 1
                try:
                    await asyncio.sleep(delay)
                finally:
                    self._starved -= 1
                host.step = "connect"
                delay = min(2 * delay, 1.0)
            else:
                return connection

    def _make_room(self) -> bool:
        """We hit a limit that we did not know: keep fewer connections for a while. False when we have none to end."""
        held = self._open + len(self._dialing) - self._starved - 1
        if held <= 0:
            return False
        now = self._loop.time()
        # Many find out at once: the first makes room for several, each other for itself.
        self._evict(max(1, len(self._idle) // 20) if now > self._exhausted_at + TICK else 1)
        self._exhausted_at = now
        self._set_room(min(self._max_connections, held))
        return True

    def _at_limit(self) -> None:
        """Make room for one more connection, or find out whether there is more room again."""
        if self._max_connections < self.limits.max_connections and self._loop.time() > self._exhausted_at + RECOVERY:
            self._set_room(self.limits.max_connections)
        else:
            self._evict(1)

    async def _expired_fault(self, error: OSError, target: Target, address: str) -> Fault:
        """Ask for the certificate once more, without sending anything, to say when it expired."""
        assert isinstance(error, ssl.SSLError)
        expired_on = None
        try:
            transport, _ = await self._loop.create_connection(
                asyncio.Protocol, address, target.port, ssl=tls.TlsContexts.unverified(), server_hostname=target.host
            )
            try:
                expired_on = tls.not_after(transport.get_extra_info("ssl_object").getpeercert(binary_form=True))
            finally:
                transport.abort()
        except (OSError, ValueError, TypeError, AttributeError):
            pass  # the sentence goes without the date
        return tls.fault_of(error, target.host, expired_on)

    # connections

    def drop_connection(self, host: Host) -> None:
        """Close the host's connection, if it has one."""
        connection = host.connection
        if connection is not None:
            host.connection = None
            self._idle.pop(host, None)
            connection.abort()

    def _evict(self, count: int) -> int:
        """Close up to `count` idle connections, the least recently used first; return how many."""
        evicted = 0
        while evicted < count and self._idle:
            self.drop_connection(next(iter(self._idle)))
            evicted += 1
        return evicted

    def on_answer(self, host: Host, connection: Connection) -> None:
        """Take the answer that `connection` read."""
        if connection.reusable:
            self._idle[host] = None
        else:
            host.connection = None
            connection.abort()
        self._finish(host, connection.elapsed, connection.status, connection.take_body(), None)

    def on_failure(self, host: Host, connection: Connection, fault: Fault, *, stale: bool) -> None:
        """Take the fault that ended the request on `connection`."""
        if host.connection is connection:
            host.connection = None
        if stale and not host.repeated:
            host.repeated = True
            self._connect(host)
            return
        self._finish(host, None, 0, b"", fault)

    def on_opened(self) -> None:
        """Take note of one more open connection."""
        self._open += 1

    def on_closed(self, host: Host, connection: Connection) -> None:
        """Take note that `connection` is gone."""
        self._open -= 1
        if not self._open and self._closed:
            self._all_closed.set()
        if host.connection is connection:
            host.connection = None
            self._idle.pop(host, None)

    def _interrupt(self, host: Host) -> None:
        """Stop whatever goes on for the host, without an outcome."""
        if host.connecting is not None:
            host.connecting.cancel()
            host.connecting = None
        self.drop_connection(host)

    # deadlines

    def _keep_ticking(self) -> None:
        if self._ticking is None and not self._closed:
            self._last_tick = self._loop.time()
            self._ticking = self._loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        self._ticking = None
        moment = self._loop.time()
        gap = moment - self._last_tick
        if gap > PAUSE:
            self._paused += gap - TICK
        now = moment - self._paused
        for host, sequence in self._connect_deadlines.expired(now):
            if host.sequence == sequence and host.connecting is not None:
                self._time_out(host, self._connect_deadlines.duration, host.step)
        for host, sequence in self._deadlines.expired(now):
            if host.sequence == sequence:
                phase = host.connection.phase if host.connection is not None else host.step
                self._time_out(host, self._deadlines.duration, phase)
        if self._ready and self._in_flight >= self._max_in_flight:
            self._put_off_slow(now)
        self._admit_waiting()
        if self._in_flight or self._ready or self._doubtful:
            self._keep_ticking()

    def _time_out(self, host: Host, seconds: float, phase: str) -> None:
        self._interrupt(host)
        self._finish(host, None, 0, b"", faults.timeout_fault(seconds, phase))

    def _put_off_slow(self, now: float) -> None:
        """Let those that waited long enough for an answer make room, so that hanging hosts hold up nobody."""
        wanted = len(self._ready)
        for host, sequence in self._deadlines.older_than(now, self.limits.patience):
            if wanted <= 0:
                break
            if host.sequence == sequence and not host.doubtful:
                self._interrupt(host)
                self._release(host)
                host.doubtful = True
                host.repeated = False
                self._doubtful.append(host)
                wanted -= 1

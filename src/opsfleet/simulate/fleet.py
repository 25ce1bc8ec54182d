"""A simulated fleet inside the running event loop."""

import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from random import Random
from socket import socket
from types import TracebackType
from typing import Any, Self

from opsfleet.simulate.addresses import MAX_SERVERS, address_of, index_of
from opsfleet.simulate.behaviour import Behaviour
from opsfleet.simulate.connection import Connection, Station
from opsfleet.simulate.hub import Hub, open_listener
from opsfleet.simulate.machine import Machine
from opsfleet.simulate.responder import Responder
from opsfleet.simulate.rules import Rule
from opsfleet.simulate.scenario import Scenario
from opsfleet.simulate.servers import DEFAULT_TOKEN, SimulatedServer, server_of, simulated_registrations
from opsfleet.simulate.silence import open_silence

__all__ = ["SimulatedFleet", "simulated_registrations"]


class SimulatedFleet:
    """`servers` simulated servers on one port of as many loopback addresses, within `async with`.

    Port 0 takes a free one. `clock` returns Unix time in seconds; what servers report is a function of the scenario's
    seed, the server and this time.

    Raises:
        OSError: when the port is taken, on entry.
    """

    def __init__(
        self,
        servers: int,
        *,
        port: int = 0,
        scenario: Scenario | None = None,
        token: str = DEFAULT_TOKEN,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not 1 <= servers <= MAX_SERVERS:
            raise ValueError(f"a simulated fleet has 1 to {MAX_SERVERS} servers, not {servers}")
        self.servers = servers
        self.port = port
        self.token = token
        self.scenario = scenario or Scenario()
        self._clock = clock
        self._stations: dict[int, Station] = {}
        self._live: dict[int, Behaviour] = {}
        self._chosen = [
            (rule, None if rule.servers.everyone else frozenset(rule.servers.chosen(servers, self._seed_of(position))))
            for position, rule in enumerate(self.scenario.rules)
        ]
        self._closing = ExitStack()
        self._hub: Hub | None = None
        self._responder: Responder | None = None

    async def __aenter__(self) -> Self:
        if sys.platform != "linux":
            raise OSError("the simulated fleet needs Linux: elsewhere 127.0.0.1 is the only loopback address")
        dropping = self._dropping()
        with ExitStack() as undo:
            listener = undo.enter_context(open_listener(self.port, shared=bool(dropping)))
            self.port = listener.getsockname()[1]
            for index in dropping:
                undo.enter_context(open_silence(address_of(index), self.port))
            # A seeded choice for a game, not for a secret.
            self._responder = Responder(self.token, self._clock, Random(self.scenario.seed))  # noqa: S311
            self._hub = Hub(listener, self._welcome)
            undo.callback(self._hub.close)
            self._closing = undo.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.close()

    @property
    def requests(self) -> int:
        """How many requests have come, answered or not."""
        return self._responder.requests if self._responder else 0

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._hub.open_connections if self._hub else 0

    @property
    def accepted(self) -> int:
        """How many connections have been accepted."""
        return self._hub.accepted if self._hub else 0

    @property
    def pauses(self) -> int:
        """How often accepting had to wait for a free descriptor."""
        return self._hub.pauses if self._hub else 0

    def server(self, index: int) -> SimulatedServer:
        """Return server `index`, from 0."""
        return server_of(index)

    def url(self, index: int) -> str:
        """Return the `api_url` of server `index`."""
        return f"http://{address_of(index)}:{self.port}"

    def registrations(self) -> list[dict[str, Any]]:
        """Return what registers the servers with the control plane."""
        return simulated_registrations(self.servers, port=self.port, token=self.token)

    def set_behaviour(self, which: int | Iterable[int], behaviour: Behaviour | None) -> None:
        """Let servers behave so from their next request on, whatever the scenario says; None ends it.

        A `Rule` adds times and a probability; its choice of servers does not count here. Whether a server drops
        attempts to connect is settled at the start.
        """
        if behaviour is not None and behaviour.network == "drop":
            raise ValueError("network = drop cannot begin later: put it in the scenario")
        for index in (which,) if isinstance(which, int) else which:
            if behaviour is None:
                self._live.pop(index, None)
            else:
                self._live[index] = behaviour
            station = self._stations.get(index)
            if station is not None:
                station.rules = self._rules_of(index)

    def _dropping(self) -> list[int]:
        """Return the servers that drop attempts to connect, ascending."""
        found: set[int] = set()
        for rule, chosen in self._chosen:
            if rule.network == "drop":
                found.update(range(self.servers) if chosen is None else chosen)
        return sorted(found)

    def _seed_of(self, position: int) -> str:
        return f"{self.scenario.seed}/{position}"

    def _station(self, index: int) -> Station:
        station = self._stations.get(index)
        if station is None:
            station = Station(index, Machine(index, self.scenario.seed), self._rules_of(index))
            self._stations[index] = station
        return station

    def _rules_of(self, index: int) -> tuple[Rule, ...]:
        rules = [rule for rule, chosen in self._chosen if chosen is None or index in chosen]
        live = self._live.get(index)
        if live is not None:
            rules.append(live if isinstance(live, Rule) else Rule(**_given(live)))
        return tuple(reversed(rules))

    def _welcome(self, hub: Hub, sock: socket, address: str) -> Connection | None:
        index = index_of(address)
        if not 0 <= index < self.servers:
            sock.close()
            return None
        assert self._responder is not None
        connection = Connection(hub, self._responder, sock, self._station(index))
        if connection.station.rules and self._responder.resets_at_once(connection):
            connection.reset()
            return None
        return connection


def _given(behaviour: Behaviour) -> dict[str, Any]:
    return {key: getattr(behaviour, key) for key in Behaviour.__struct_fields__}

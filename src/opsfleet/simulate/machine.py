"""What a simulated server measures of itself: plausible values, a function of the server, the seed and the time."""

from math import cos, pi, sin

from opsfleet.simulate.servers import ROLES, mixed, server_of

DAY = 86_400.0
_TURN = 2 * pi
_SWING = 0.8
"""How far the load of a day departs from its mean; below 1, so that a counter never falls."""

_DATABASE_ROLES = frozenset({"web", "api", "worker", "llm", "db"})
_CACHE_ROLES = frozenset({"web", "api", "worker", "llm", "cache"})
_LLM_ROLES = frozenset({"api", "worker", "llm"})
_USER_ROLES = frozenset({"web", "api"})

_VERSIONS = ("3.3.0", "3.3.0", "3.3.0", "3.2.4")


def _health_template(role: str) -> bytes:
    parts = ['{"status":"ok","version":"%b","hostname":"%b","uptime_seconds":%d']
    if role in _DATABASE_ROLES:
        parts.append('"database":{"status":"ok","latency_ms":%.2f}')
    if role in _CACHE_ROLES:
        parts.append('"redis":{"status":"ok","latency_ms":%.2f}')
    parts.append('"services":{"healthy":true,"active":%d,"failed":0,"total":%d,"failing":[]}}')
    return ",".join(parts).encode()


_HEALTH = {role: _health_template(role) for role in ROLES}
_METRICS = (
    b'{"cpu_percent":%.1f,"memory_percent":%.1f,"disk_percent":%.2f,"network_rx_bytes":%d,"network_tx_bytes":%d,'
    b'"active_services":%d,"failed_services":0,"total_services":%d,"llm_requests":%b,"llm_cost_usd":%b,'
    b'"active_users":%b,"total_users":%b}'
)


class Machine:
    """The state of simulated server `index`. Times are Unix times in seconds.

    A load with a daily curve moves the CPU and the rates of the counters; the machine restarts every 20 to 80 days,
    and its counters with it.
    """

    __slots__ = ("_bits", "_hostname", "_restarts_every", "_role", "_template", "_version", "phase", "services")

    def __init__(self, index: int, seed: int = 0) -> None:
        server = server_of(index)
        self._bits = bits = mixed(index, 100 + seed)
        self._hostname = server.hostname.encode()
        self._role = server.role
        self._template = _HEALTH[server.role]
        self._version = _VERSIONS[bits & 3].encode()
        self.phase = (bits >> 11) / (1 << 53)
        self._restarts_every = DAY * (20 + 60 * self._share(8))
        self.services = 6 + (bits >> 2) % 11

    def _share(self, shift: int) -> float:
        """Return a number of 0 to 1 that belongs to the machine; the next is 8 bits further."""
        return (self._bits >> shift & 0xFF) / 0xFF

    def uptime(self, now: float) -> float:
        """Return the seconds since the machine last started."""
        return (now + self.phase * self._restarts_every) % self._restarts_every

    def health(self, now: float) -> bytes:
        """Return the body of the answer to `GET /health`."""
        wave = sin(now / 7.0 + self.phase * _TURN)
        uptime = (now + self.phase * self._restarts_every) % self._restarts_every
        services = self.services
        role = self._role
        database = role in _DATABASE_ROLES
        if database and role in _CACHE_ROLES:
            return self._template % (
                self._version, self._hostname, uptime, 1.4 + wave, 0.5 + 0.3 * wave, services, services,
            )  # fmt: skip
        if database:
            return self._template % (self._version, self._hostname, uptime, 0.9 + 0.5 * wave, services, services)
        if role in _CACHE_ROLES:
            return self._template % (self._version, self._hostname, uptime, 0.3 + 0.2 * wave, services, services)
        return self._template % (self._version, self._hostname, uptime, services, services)

    def metrics(self, now: float) -> bytes:
        """Return the body of the answer to `GET /api/v1/metrics/current`."""
        share = self._share
        uptime = self.uptime(now)
        turn = _TURN / DAY
        # Half a day's work lies around 14:00 local time; the phase spreads the servers by two hours around it.
        angle = turn * (now - 8 * 3_600) + self.phase * 0.5
        load = 0.5 + 0.5 * sin(angle)
        ripple = 3 * sin(now / 61 + self.phase * 40) + 2 * sin(now / 17 + self.phase * 90)
        cpu = min(99.0, max(0.5, 5 + 20 * share(16) + (10 + 35 * share(24)) * load + ripple))
        memory = min(97.0, 25 + 35 * share(32) + 12 * load + 0.3 * ripple + min(12.0, uptime / DAY * 0.4))
        disk = 15 + 45 * share(40) + 30 * ((now / (30 * DAY) + self.phase) % 1.0)
        # The integral of 1 + _SWING * sin(angle) over the uptime: what a counter has seen, in seconds of mean load.
        seen = uptime - _SWING / turn * (cos(angle) - cos(angle - turn * uptime))
        role = self._role
        null = b"null"
        requests = cost = active = total = null
        if role in _LLM_ROLES:
            count = int(seen * (0.02 + 0.5 * share(48)) * (4 if role == "llm" else 1))
            requests = b"%d" % count
            cost = b"%.6f" % (count * (0.0008 + 0.004 * share(56)))
        if role in _USER_ROLES:
            users = 40 + int(400 * share(48))
            total = b"%d" % users
            active = b"%d" % int(users * (0.04 + 0.35 * load))
        rate = 20_000 + 900_000 * share(24)
        return _METRICS % (
            cpu, memory, disk, seen * rate, seen * rate * (0.2 + share(56)), self.services, self.services,
            requests, cost, active, total,
        )  # fmt: skip

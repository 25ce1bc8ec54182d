"""Who the simulated servers are: names, regions, environments and roles that look like a real fleet."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from opsfleet.simulate.addresses import address_of

DEFAULT_PORT = 9101
DEFAULT_TOKEN = "simulated-token"  # noqa: S105 - guards nothing

REGIONS = (
    "eu-central",
    "us-east",
    "eu-west",
    "us-west",
    "ap-southeast",
    "ap-northeast",
    "sa-east",
    "af-south",
)
ENVIRONMENTS = ("production", "staging", "development")
ROLES = ("web", "api", "worker", "db", "cache", "llm", "queue", "storage")

_REGION_WEIGHTS = (22, 20, 16, 14, 11, 9, 5, 3)
_ENVIRONMENT_WEIGHTS = (70, 20, 10)
_ROLE_WEIGHTS = (30, 22, 16, 10, 7, 6, 5, 4)


@dataclass(frozen=True, slots=True)
class SimulatedServer:
    """One simulated server. What it is depends on `index` alone, so two processes agree about it."""

    index: int
    name: str
    hostname: str
    address: str
    region: str
    environment: str
    role: str
    tags: tuple[str, ...]

    def url(self, port: int) -> str:
        """Return the `api_url` at which it answers."""
        return f"http://{self.address}:{port}"

    def registration(self, port: int, token: str) -> dict[str, Any]:
        """Return what registers it with the control plane."""
        bits = mixed(self.index, 5)
        return {
            "name": self.name,
            "hostname": self.hostname,
            "api_url": self.url(port),
            "api_token": token,
            "region": self.region,
            "environment": self.environment,
            "tags": list(self.tags),
            "metadata": {
                "simulated": True,
                "role": self.role,
                "zone": f"{self.region}-{'abc'[bits % 3]}",
                "cpu_cores": 4 << (bits >> 2) % 4,
                "memory_gb": 8 << (bits >> 4) % 5,
            },
        }


def mixed(index: int, stream: int) -> int:
    """Return 64 bits that look random and depend on `index` and `stream` alone (splitmix64's finalizer)."""
    bits = (index * 0x9E3779B97F4A7C15 + (stream + 1) * 0xD1B54A32D192ED03) & 0xFFFFFFFFFFFFFFFF
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return bits ^ bits >> 31


def server_of(index: int) -> SimulatedServer:
    """Return server `index`, from 0."""
    region = _pick(REGIONS, _REGION_WEIGHTS, mixed(index, 0))
    environment = _pick(ENVIRONMENTS, _ENVIRONMENT_WEIGHTS, mixed(index, 1))
    role = _pick(ROLES, _ROLE_WEIGHTS, mixed(index, 2))
    name = f"{region}-{role}-{index + 1:04d}"
    tags = (role, "customer-facing") if role in {"web", "api"} else (role,)
    if mixed(index, 3) % 20 == 0:
        tags = (*tags, "canary")
    return SimulatedServer(index, name, f"{name}.example.net", address_of(index), region, environment, role, tags)


def simulated_servers(servers: int) -> list[SimulatedServer]:
    """Return the first `servers` servers."""
    return [server_of(index) for index in range(servers)]


def simulated_registrations(
    servers: int, *, port: int = DEFAULT_PORT, token: str = DEFAULT_TOKEN
) -> list[dict[str, Any]]:
    """Return what registers the first `servers` servers: rows for `POST /servers` or `opsfleet servers import`."""
    return [server.registration(port, token) for server in simulated_servers(servers)]


def _pick(choices: tuple[str, ...], weights: tuple[int, ...], bits: int) -> str:
    return _ladder(choices, weights)[bits % sum(weights)]


@lru_cache(maxsize=8)
def _ladder(choices: tuple[str, ...], weights: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(choice for choice, weight in zip(choices, weights, strict=True) for _ in range(weight))

"""Rules: which servers do what, and when."""

from collections.abc import Iterable
from random import Random
from typing import Annotated, Literal

import msgspec

from opsfleet.simulate.behaviour import Behaviour, Positive, Share
from opsfleet.simulate.servers import ENVIRONMENTS, REGIONS, ROLES, server_of

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Index = Annotated[int, msgspec.Meta(ge=0)]


class Servers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which servers; each key narrows the choice.

    `first` and `last` are indexes and inclusive. `percent` is taken at the end: of the servers that the other keys
    leave, so many in a hundred, chosen by the scenario's seed.
    """

    percent: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    first: Index | None = None
    last: Index | None = None
    indexes: list[Index] | None = None
    regions: list[str] | None = None
    environments: list[str] | None = None
    roles: list[str] | None = None

    def __post_init__(self) -> None:
        for key, named, known in (
            ("regions", self.regions, REGIONS),
            ("environments", self.environments, ENVIRONMENTS),
            ("roles", self.roles, ROLES),
        ):
            for name in named or ():
                if name not in known:
                    raise ValueError(f"{key}: {name} is none of {', '.join(known)}")

    @property
    def everyone(self) -> bool:
        """Whether no key narrows the choice."""
        return self == Servers()

    def chosen(self, servers: int, seed: str) -> list[int]:
        """Return the chosen indexes below `servers`, ascending."""
        found = [index for index in self._candidates(servers) if self._described(index)]
        if self.percent is not None:
            # A seeded choice for a game, not for a secret.
            sample = Random(seed).sample(found, round(len(found) * self.percent / 100))  # noqa: S311
            found = sorted(sample)
        return found

    def _candidates(self, servers: int) -> Iterable[int]:
        first = self.first or 0
        last = servers - 1 if self.last is None else min(self.last, servers - 1)
        if self.indexes is not None:
            return sorted({index for index in self.indexes if first <= index <= last})
        return range(first, last + 1)

    def _described(self, index: int) -> bool:
        if self.regions is None and self.environments is None and self.roles is None:
            return True
        server = server_of(index)
        return (
            (self.regions is None or server.region in self.regions)
            and (self.environments is None or server.environment in self.environments)
            and (self.roles is None or server.role in self.roles)
        )


class When(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At which times, in seconds since the start: from `start` for `duration`, and again every `repeat`.

    Without `duration` it lasts for ever, without `repeat` it comes once. All servers of the rule share these times.
    """

    start: Seconds = 0.0
    duration: Positive | None = None
    repeat: Positive | None = None

    def __post_init__(self) -> None:
        if self.repeat is not None and (self.duration is None or self.duration > self.repeat):
            raise ValueError("repeat needs a duration, which must not be longer than repeat")

    def active(self, elapsed: float) -> bool:
        """Say whether `elapsed` seconds after the start is such a time."""
        since = elapsed - self.start
        if since < 0:
            return False
        if self.repeat is not None:
            since %= self.repeat
        return self.duration is None or since < self.duration


class Flap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """On and off: active for the share `duty` of every `period` seconds, at another time for each server."""

    period: Positive
    duty: Share = 0.5

    def active(self, elapsed: float, phase: float) -> bool:
        """Say so for a server whose `phase` is 0 to 1."""
        return (elapsed / self.period + phase) % 1.0 < self.duty


Endpoint = Literal["health", "metrics"]


class Rule(Behaviour, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A behaviour of some servers at some times. `probability` is that of each request to be met with it."""

    name: str = ""
    servers: Servers = Servers()
    when: When | None = None
    flap: Flap | None = None
    endpoint: Endpoint | None = None
    probability: Share = 1.0

    def __post_init__(self) -> None:
        if self.network == "drop" and not self.always:
            raise ValueError("network = drop cannot have when, flap, endpoint or probability")

    @property
    def always(self) -> bool:
        """Whether every request meets the behaviour."""
        return self.when is None and self.flap is None and self.endpoint is None and self.probability == 1.0

    def applies(self, endpoint: str, elapsed: float, phase: float, random: Random) -> bool:
        """Say whether a request `elapsed` seconds after the start meets this behaviour."""
        return (
            (self.endpoint is None or self.endpoint == endpoint)
            and (self.when is None or self.when.active(elapsed))
            and (self.flap is None or self.flap.active(elapsed, phase))
            and (self.probability == 1.0 or random.random() < self.probability)
        )

"""What a simulated server can do instead of answering well."""

from typing import Annotated, Literal

import msgspec

from opsfleet.simulate.latency import Latency
from opsfleet_agent import wire

Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
HttpStatus = Annotated[int, msgspec.Meta(ge=200, le=599)]
Count = Annotated[int, msgspec.Meta(ge=0)]

Network = Literal["black-hole", "refuse", "drop"]
"""`black-hole` accepts and never answers; `refuse` resets the connection at once; `drop` does not even accept."""

ReportedStatus = Literal["ok", "degraded", "critical"]

Malformed = Literal["truncated", "not-json", "wrong-types", "nan", "too-large", "deep", "empty", "not-http"]
"""What is wrong with the body, or, for `not-http`, with the whole answer."""


DeliveryKind = Literal["drip", "slow-close", "reset", "close"]


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An HTTP status other than 200, with a short JSON error as its body. `location` serves redirects."""

    code: HttpStatus
    location: str | None = None


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the server says of itself in `/health`; absent keys stay as they are.

    `failed_services` counts in the metrics too.
    """

    status: ReportedStatus | None = None
    database: str | None = None
    redis: str | None = None
    failed_services: Count | None = None


class MetricsReport(wire.Metrics, forbid_unknown_fields=True):
    """Values of the metrics that are not the usual ones."""


class Delivery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the bytes of an answer travel.

    `drip` sends `bytes_per_second`; `slow-close` gives no length and closes only after `seconds`; `reset` resets the
    connection after `after_bytes` of the body; `close` closes after each answer, as a server without keep-alive.
    """

    kind: DeliveryKind
    bytes_per_second: Positive = 1.0
    seconds: Positive = 5.0
    after_bytes: Count = 20


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a server does; absent keys change nothing.

    `network` leaves nothing for the others to do; `status` replaces the body, which `report` and `metrics` change
    before `malformed` spoils it; `latency` and `delivery` go with any answer.
    """

    network: Network | None = None
    status: Status | None = None
    malformed: Malformed | None = None
    report: Report | None = None
    metrics: MetricsReport | None = None
    latency: Latency | None = None
    delivery: Delivery | None = None

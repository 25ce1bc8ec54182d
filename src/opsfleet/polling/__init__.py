"""Fast HTTP polling of many hosts.

`PollingEngine.submit(target, path, sink)` sends one GET request to a target and gives its `Outcome` to the sink.
Nothing here knows what the answers mean.
"""

from opsfleet.polling.dns import ResolutionError, Resolver
from opsfleet.polling.engine import Limits, PollingEngine
from opsfleet.polling.network import NetworkPolicy
from opsfleet.polling.outcome import Fault, FaultKind, Outcome, Sink
from opsfleet.polling.target import Target

__all__ = [
    "Fault",
    "FaultKind",
    "Limits",
    "NetworkPolicy",
    "Outcome",
    "PollingEngine",
    "ResolutionError",
    "Resolver",
    "Sink",
    "Target",
]

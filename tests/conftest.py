"""What every test shares: the event loop of the product, and no opinion on the machine's speed."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, settings

# How fast this machine is says nothing of whether the code is right.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    """Run asynchronous tests on the loop that the control plane runs on."""
    return {"uvloop": uvloop.new_event_loop}

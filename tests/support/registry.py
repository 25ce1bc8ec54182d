"""What tests of the registry share."""

from typing import Any

SERVERS = "/api/v1/fleet/servers"
CLOSED = "http://127.0.0.1:9"
"""Nobody listens there."""


def row(name: str, /, **more: Any) -> dict[str, Any]:
    """Return a server that can be registered, though nobody answers there."""
    return {"name": name, "hostname": f"{name}.example.com", "api_url": CLOSED, "api_token": "very-secret"} | more

"""The command `opsfleet`: one module per command."""

from opsfleet.cli.main import app, main

__all__ = ["app", "main"]

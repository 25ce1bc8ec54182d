"""Ops-Center Fleet: one control plane that watches and operates many servers."""

__version__ = "0.1.0"

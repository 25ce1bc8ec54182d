"""The agent of Ops-Center Fleet: a small process on a managed server that answers the agent contract."""

__version__ = "0.1.0"

"""Embedded PostgreSQL: real PostgreSQL as a child process, on a Unix socket, with its data in one folder."""

from opsfleet.embedded.errors import EmbeddedPostgresError
from opsfleet.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]

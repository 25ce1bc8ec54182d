"""Log lines on standard error: one line each, time in UTC first. No secret is ever put into one."""

import logging
import time

logger = logging.getLogger("opsfleet_agent")


class _Formatter(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return line if record.exc_info else line.replace("\n", " ")


def set_up(level: str) -> None:
    """Write lines of `level` and above to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # asyncio's own lines (lost connections, slow callbacks) are of no use to an operator below this.
    logging.getLogger("asyncio").setLevel(logging.WARNING)

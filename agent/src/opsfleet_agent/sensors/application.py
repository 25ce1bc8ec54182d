"""What an application on the machine says of itself, through a JSON file that it keeps up to date."""

import math
import os
import stat
import time
from typing import Any

import msgspec

from opsfleet_agent.log import logger

MAX_BYTES = 64 * 1024
COUNTS = ("llm_requests", "active_users", "total_users")


class Application(msgspec.Struct, frozen=True):
    """The values that only an application knows; each may be missing. The names are the contract's."""

    llm_requests: int | None = None
    llm_cost_usd: float | None = None
    active_users: int | None = None
    total_users: int | None = None


class ApplicationSensor:
    """Reads the file again whenever it changed. What is wrong with it is logged when it begins, and is no error."""

    def __init__(self, path: str | None, max_age: float | None = None) -> None:
        self._path = path
        self._max_age = max_age
        self._read_as: tuple[int, int, int] | None = None
        self._values = Application()
        self._complaint = ""

    def measure(self) -> Application:
        """Return the values of the file; none when it is missing, too old or not readable."""
        if self._path is None:
            return self._values
        try:
            # Not blocking, because opening a pipe would wait for a writer.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                return self._measure(file)
        except FileNotFoundError:
            return self._nothing("does not exist")
        except OSError as error:
            return self._nothing(f"cannot be read: {error.strerror}")

    def _measure(self, file: Any) -> Application:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            return self._nothing("is not a regular file")
        if found.st_size > MAX_BYTES:
            return self._nothing(f"is larger than {MAX_BYTES} bytes")
        if self._max_age is not None and time.time() - found.st_mtime > self._max_age:
            return self._nothing(f"was not written for {self._max_age:g} s")
        read_as = (found.st_ino, found.st_mtime_ns, found.st_size)
        if read_as == self._read_as:
            return self._values
        try:
            content = msgspec.json.decode(file.read(MAX_BYTES), type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._nothing("does not hold a JSON object")
        accepted = {key: content[key] for key in Application.__struct_fields__ if _is_accepted(key, content.get(key))}
        dropped = [key for key in Application.__struct_fields__ if content.get(key) is not None and key not in accepted]
        self._read_as, self._values = read_as, Application(**accepted)
        self._complain(f"has values that are not accepted: {', '.join(dropped)}" if dropped else "")
        return self._values

    def _nothing(self, complaint: str) -> Application:
        self._read_as, self._values = None, Application()
        self._complain(complaint)
        return self._values

    def _complain(self, complaint: str) -> None:
        if complaint and complaint != self._complaint:
            logger.warning("the application file %s %s", self._path, complaint)
        self._complaint = complaint


def _is_accepted(key: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if key in COUNTS else int | float):
        return False
    return math.isfinite(value) and 0 <= value < 2**63

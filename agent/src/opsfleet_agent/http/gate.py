"""Who may ask, and how refusals are logged."""

import time
from collections.abc import Callable

from opsfleet_agent.http.messages import Response, problem
from opsfleet_agent.log import logger
from opsfleet_agent.tokens import AcceptedTokens

LOG_INTERVAL = 60.0


class Gate:
    """Lets callers with an accepted token through. Refusals are logged once a minute, so nobody can fill the log."""

    def __init__(self, tokens: AcceptedTokens, clock: Callable[[], float] = time.monotonic) -> None:
        self._tokens = tokens
        self._clock = clock
        self._next_line = clock()
        self._refused = 0

    def refusal(self, authorization: bytes | None, caller: str) -> Response | None:
        """Return the answer for a caller who may not ask, and None for one who may."""
        if authorization is not None and self._tokens.accept(authorization):
            return None
        self._refused += 1
        if self._clock() >= self._next_line:
            logger.warning("requests without an accepted token: %d, last from %s", self._refused, caller)
            self._refused = 0
            self._next_line = self._clock() + LOG_INTERVAL
        detail = "A bearer token is needed." if authorization is None else "The bearer token is not accepted."
        return problem(401, "unauthenticated", detail, WWW_Authenticate="Bearer")

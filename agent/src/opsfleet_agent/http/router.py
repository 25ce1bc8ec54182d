"""From a method and a path to what answers it."""

from collections.abc import Awaitable, Callable

from opsfleet_agent.http.messages import Request, Response, problem

Handler = Callable[[Request], Awaitable[Response]]


class Router:
    """The routes. A path that is not known is 404, a method that a path does not have is 405."""

    def __init__(self) -> None:
        self._routes: dict[str, dict[str, Handler]] = {}

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Let `handler` answer `method` at `path`."""
        self._routes.setdefault(path, {})[method] = handler

    async def answer(self, request: Request) -> Response:
        """Return the answer to `request`."""
        methods = self._routes.get(request.path)
        if methods is None:
            return problem(404, "not_found", "There is nothing at this path.")
        handler = methods.get(request.method)
        if handler is None:
            allowed = ", ".join(sorted(methods))
            return problem(405, "method_not_allowed", f"This path accepts {allowed}.", Allow=allowed)
        return await handler(request)

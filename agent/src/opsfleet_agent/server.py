"""The agent as a whole: puts its parts together and runs until it is told to stop."""

import asyncio
import signal
import ssl

from opsfleet_agent import __version__
from opsfleet_agent.components import Components
from opsfleet_agent.config import Config, ConfigError
from opsfleet_agent.health import HealthReporter
from opsfleet_agent.http.gate import Gate
from opsfleet_agent.http.listener import Listener
from opsfleet_agent.http.messages import Request, Response, json_response
from opsfleet_agent.http.router import Router
from opsfleet_agent.http.tls import server_context
from opsfleet_agent.log import logger
from opsfleet_agent.metrics import MetricsReporter
from opsfleet_agent.tokens import AcceptedTokens
from opsfleet_agent.wire import HEALTH_PATH, METRICS_PATH, Health


def router_for(config: Config) -> Router:
    """Return the routes of the contract, answered as `config` says."""
    components = Components(config)
    health = HealthReporter(components, config.version or __version__)
    metrics = MetricsReporter(config, components)

    async def answer_health(_: Request) -> Response:
        return json_response(await health.report())

    async def answer_metrics(_: Request) -> Response:
        return json_response(await metrics.report())

    router = Router()
    router.add("GET", HEALTH_PATH, answer_health)
    router.add("GET", METRICS_PATH, answer_metrics)
    return router


class ListenError(Exception):
    """The address cannot be listened on now, but may be later: it is taken, or the network is not up yet."""


async def serve(config: Config) -> None:
    """Answer requests until SIGTERM or SIGINT; SIGHUP reads the certificate anew.

    Raises:
        ConfigError: when the certificate cannot be used.
        ListenError: when the address cannot be listened on.
    """
    assert config.token_sha256 is not None
    gate = Gate(AcceptedTokens(config.token_sha256))
    listener = Listener(gate, router_for(config).answer, context=tls_context(config))
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGHUP, _reload_certificate, config, listener)
    try:
        port = await listener.start(config.host, config.port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ListenError(f"host = {config.host!r}, port = {config.port}: {reason}") from None
    shown = f"[{config.host}]" if ":" in config.host else config.host
    logger.info("listening on %s://%s:%d", "http" if config.tls_certificate is None else "https", shown, port)
    await stopped.wait()
    logger.info("stopping")
    await listener.stop()


async def check(config: Config) -> Health:
    """Return the health document of now, without listening."""
    return await HealthReporter(Components(config), config.version or __version__).report()


def tls_context(config: Config) -> ssl.SSLContext | None:
    """Return the TLS settings, or None for plain HTTP.

    Raises:
        ConfigError: when the certificate or its key cannot be used.
    """
    if config.tls_certificate is None or config.tls_key is None:
        return None
    try:
        return server_context(config.tls_certificate, config.tls_key)
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise ConfigError(
            f"tls_certificate = {config.tls_certificate!r}, tls_key = {config.tls_key!r}: {reason}; accepted: PEM "
            "files of a certificate and its key, not encrypted, that the agent may read"
        ) from None


def _reload_certificate(config: Config, listener: Listener) -> None:
    try:
        listener.use(tls_context(config))
    except ConfigError as error:
        logger.error("the certificate stays as it was: %s", error)
    else:
        logger.info("the certificate was read anew")

"""The components that the configuration names, each with its check and a short memory of the result."""

from opsfleet_agent.cached import Cached
from opsfleet_agent.checks.postgresql import postgresql_check
from opsfleet_agent.checks.processes import ProcessesCheck
from opsfleet_agent.checks.redis import redis_check
from opsfleet_agent.checks.services import ServicesCheck
from opsfleet_agent.checks.units import UnitsCheck
from opsfleet_agent.config import Config
from opsfleet_agent.wire import ComponentHealth, ServicesHealth

# Long enough that many callers cost no more than one, short enough that every poll sees a new result.
CACHE_SECONDS = 5.0


class Components:
    """The checks of the configured components; one that is not configured is None."""

    def __init__(self, config: Config) -> None:
        self.database: Cached[ComponentHealth] | None = None
        self.redis: Cached[ComponentHealth] | None = None
        self.services: Cached[ServicesHealth] | None = None
        if config.database is not None:
            check = postgresql_check(config.database, config.database_user)
            self.database = Cached(check.check, CACHE_SECONDS)
        if config.redis is not None:
            check = redis_check(config.redis, config.redis_user, config.redis_password_file)
            self.redis = Cached(check.check, CACHE_SECONDS)
        total = len(config.units) + len(config.processes)
        if total:
            services = ServicesCheck(UnitsCheck(config.units), ProcessesCheck(config.processes), total)
            self.services = Cached(services.check, CACHE_SECONDS)

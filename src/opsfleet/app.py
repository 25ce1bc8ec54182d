"""The composition root: builds everything from the settings. The only place that knows everything."""

import asyncio
import gc
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address

import structlog
from fastapi import FastAPI

from opsfleet.api.application import ALL_ROUTERS, SYSTEM_ROUTERS, create_application
from opsfleet.api.dependencies import Services
from opsfleet.api.own_metrics import own_metrics
from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.domain.metrics import Period
from opsfleet.domain.retention import Retention
from opsfleet.domain.uptime import gap_after
from opsfleet.embedded import EmbeddedPostgres
from opsfleet.polling import Limits, NetworkPolicy, PollingEngine
from opsfleet.services.access import AccessService
from opsfleet.services.archive import Archive, can_archive
from opsfleet.services.costs import CostService
from opsfleet.services.discovery import DiscoveryService
from opsfleet.services.fleet_gauges import FleetGaugesService
from opsfleet.services.health import HealthService
from opsfleet.services.leases import Lease
from opsfleet.services.maintenance import MaintenanceService
from opsfleet.services.metrics import MetricsService
from opsfleet.services.partition_overview import PartitionOverviewService
from opsfleet.services.readiness import ReadinessService
from opsfleet.services.retention import RetentionService
from opsfleet.services.rollups import RollupService
from opsfleet.services.series import SeriesService
from opsfleet.services.servers import ServerService
from opsfleet.services.summary import SummaryService
from opsfleet.services.targets import TargetSource
from opsfleet.services.uptime import UptimeService
from opsfleet.services.workers import WorkerService
from opsfleet.settings import Settings, SettingsError
from opsfleet.store.database import Database
from opsfleet.store.migrate import migrate
from opsfleet.vault import Vault, load_or_create_secret_key
from opsfleet.workers.health import FleetHealthWorker
from opsfleet.workers.jobs import JobRunner, roll_up_job
from opsfleet.workers.leadership import Leadership
from opsfleet.workers.maintenance import MaintenanceWorker
from opsfleet.workers.metrics import FleetMetricsWorker
from opsfleet.workers.polling import Pacing
from opsfleet.workers.publisher import StatisticsPublisher
from opsfleet.workers.tenure import Tenure

RESERVED_DESCRIPTORS = 500
"""Kept back for the database, clients of the API, logs and files."""

DATABASE_CHECK_SECONDS = 2.0

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the commands and the application work with."""

    settings: Settings
    database: Database
    engine: PollingEngine
    servers: ServerService
    health: HealthService
    uptime: UptimeService
    metrics: MetricsService
    costs: CostService
    series: SeriesService
    summary: SummaryService
    workers: WorkerService
    maintenance: MaintenanceService
    retention: RetentionService
    partitions: PartitionOverviewService
    vault: Vault


@asynccontextmanager
async def open_fleet(settings: Settings) -> AsyncIterator[Fleet]:
    """Build everything but the workers and the API; the embedded database runs as long as the block."""
    async with AsyncExitStack() as stack:
        if settings.database is None:
            embedded = EmbeddedPostgres(settings.data_dir)
            await asyncio.to_thread(embedded.start)
            stack.push_async_callback(asyncio.to_thread, embedded.stop)
            watch = asyncio.create_task(_keep_running(embedded), name="embedded-postgres")
            stack.push_async_callback(_end, watch)
            dsn = embedded.dsn
            key = await asyncio.to_thread(_secret_key, settings)
        else:
            dsn = settings.database.dsn
            key = _secret_key(settings)
        database = Database(dsn)
        stack.push_async_callback(database.close)
        vault = Vault(key)
        policy = NetworkPolicy(allow=settings.network_allow, deny=settings.network_deny, http_allow=settings.http_allow)
        limits = Limits(
            request_timeout=settings.request_timeout,
            max_in_flight=settings.max_in_flight,
            max_connections=max(1, raise_descriptor_limit() - RESERVED_DESCRIPTORS),
        )
        engine = PollingEngine(limits, policy)
        stack.push_async_callback(engine.close)
        maintenance = MaintenanceService(database)
        gap = gap_after(settings.health_interval)
        kept = _retention(settings)
        archive = Archive(settings.archive_dir) if settings.archive_dir is not None else None
        yield Fleet(
            settings=settings,
            database=database,
            engine=engine,
            servers=ServerService(database, vault, policy),
            health=HealthService(database, engine, vault, gap_after=gap),
            uptime=UptimeService(database, gap),
            metrics=MetricsService(database, engine, vault, maintenance),
            costs=CostService(database),
            series=SeriesService(database, kept.metrics),
            summary=SummaryService(database),
            workers=WorkerService(database, settings.role),
            maintenance=maintenance,
            retention=RetentionService(database, kept, archive),
            partitions=PartitionOverviewService(database, kept, archive),
            vault=vault,
        )


def begin_tenure(fleet: Fleet, lease: Lease) -> Tenure:
    """Return new workers that poll and store under `lease`."""
    settings = fleet.settings
    source = TargetSource(fleet.database, fleet.vault)
    health = FleetHealthWorker(
        source,
        fleet.engine,
        Pacing(
            settings.health_interval, settings.health_batch_size, settings.health_batch_delay, settings.results_buffer
        ),
        service=fleet.health,
        lease=lease,
    )
    metrics = FleetMetricsWorker(
        source,
        fleet.engine,
        Pacing(
            settings.metrics_interval,
            settings.metrics_batch_size,
            settings.metrics_batch_delay,
            settings.results_buffer,
        ),
        service=fleet.metrics,
        maintenance=fleet.maintenance,
        lease=lease,
    )
    return Tenure(lease, source, fleet.engine, health, metrics)


@asynccontextmanager
async def run_workers(fleet: Fleet) -> AsyncIterator[Leadership]:
    """Run the workers as long as the block, or stand by while another process runs them."""
    settings = fleet.settings
    leadership = Leadership(fleet.database, fleet.workers.instance_id, lambda lease: begin_tenure(fleet, lease))
    publisher = StatisticsPublisher(
        fleet.workers,
        leadership.statistics,
        lambda: leadership.state,
        shortest_interval=min(settings.health_interval, settings.metrics_interval),
    )
    maintenance = MaintenanceWorker(fleet.maintenance, fleet.retention)
    jobs = JobRunner(fleet.database, [roll_up_job(RollupService(fleet.database, fleet.maintenance))])
    await leadership.start()
    publisher.start()
    maintenance.start()
    jobs.start()
    try:
        yield leadership
    finally:
        await jobs.stop()
        await maintenance.stop()
        await leadership.stop()
        await publisher.stop()


@asynccontextmanager
async def show_presence(fleet: Fleet) -> AsyncIterator[None]:
    """List this process, which runs no workers, among the instances as long as the block."""
    publisher = StatisticsPublisher(fleet.workers, dict, lambda: "none")
    publisher.start()
    try:
        yield
    finally:
        await publisher.stop()


def build_application(settings: Settings) -> FastAPI:
    """Return the application that `settings.role` asks for; its lifespan runs everything else.

    Raises:
        SettingsError: when the settings ask for what is not installed.
    """
    if settings.archive_dir is not None and settings.role != "api" and not can_archive():
        raise SettingsError(
            "FLEET_ARCHIVE_DIR is set, but pyarrow, which writes the archive, is not installed; "
            "install it with: pip install 'opsfleet[archive]'"
        )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            fleet = await stack.enter_async_context(open_fleet(settings))
            await prepare_database(fleet)
            leadership = None
            if settings.role != "api":
                leadership = await stack.enter_async_context(run_workers(fleet))
            else:
                await stack.enter_async_context(show_presence(fleet))
            app.state.fleet = fleet
            app.state.services = _services(fleet, leadership)
            app.state.own_metrics = own_metrics(leadership.statistics if leadership is not None else None)
            app.state.metrics_open = is_loopback(settings.host)
            spare_the_collector()
            yield

    return create_application(SYSTEM_ROUTERS if settings.role == "worker" else ALL_ROUTERS, lifespan)


def spare_the_collector() -> None:
    """Let the garbage collector look less often, and never again at what lives from now on until the end.

    Results are made by the ten thousand and freed by their counts; looking for cycles among them took a third of the
    processor time of a metrics cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def prepare_database(fleet: Fleet) -> str:
    """Bring schema and partitions up to date; return the schema's revision."""
    revision = await migrate(fleet.database)
    await fleet.maintenance.ensure_partitions()
    return revision


def _services(fleet: Fleet, leadership: Leadership | None) -> Services:
    token = fleet.settings.bootstrap_admin_token
    if token is None:
        logger.warning("No FLEET_BOOTSTRAP_ADMIN_TOKEN is set: the API will refuse every caller")
    return Services(
        access=AccessService(token.get_secret_value() if token else None),
        servers=fleet.servers,
        health=fleet.health,
        uptime=fleet.uptime,
        metrics=fleet.metrics,
        costs=fleet.costs,
        series=fleet.series,
        summary=fleet.summary,
        workers=fleet.workers,
        readiness=ReadinessService(
            fleet.database, fleet.workers, lambda: leadership is not None and leadership.stands_by_well
        ),
        discovery=DiscoveryService(fleet.database),
        gauges=FleetGaugesService(fleet.database, fleet.settings.metrics_interval),
    )


def _retention(settings: Settings) -> Retention:
    return Retention(
        settings.retention_health_days,
        {
            Period.MINUTE.value: settings.retention_metrics_1m_days,
            Period.FIVE_MINUTES.value: settings.retention_metrics_5m_days,
            Period.QUARTER.value: settings.retention_metrics_15m_days,
            Period.HOUR.value: settings.retention_metrics_1h_days,
            Period.DAY.value: settings.retention_metrics_1d_days,
        },
    )


def _secret_key(settings: Settings) -> bytes:
    if settings.secret_key is not None:
        return settings.secret_key_bytes
    return load_or_create_secret_key(settings.data_dir)


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open descriptors to the hard one and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = max(soft, 1_048_576)
    if soft < hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _keep_running(embedded: EmbeddedPostgres) -> None:
    """Start the embedded database again when it ends without our doing."""
    while True:
        await asyncio.sleep(DATABASE_CHECK_SECONDS)
        try:
            if await asyncio.to_thread(embedded.ensure_running):
                logger.warning("The embedded database had ended and was started again")
        except Exception as error:  # tried again at the next look
            logger.error(f"The embedded database cannot be started: {error}")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


__all__ = ["DatabaseUnavailableError", "Fleet", "build_application", "open_fleet", "prepare_database", "run_workers"]

"""Anybody in charge can ask whether the workers run, of any process."""

from datetime import datetime
from typing import Any

from tests.support.product import Product, running_product

STATUS = "/api/v1/fleet/workers/status"

HEALTH_KEYS = {
    "running", "interval_seconds", "checks_performed", "checks_successful", "checks_failed", "success_rate", "last_run",
    "last_duration_seconds",
}  # fmt: skip
METRICS_KEYS = {
    "running", "interval_seconds", "collections_performed", "collections_successful", "collections_failed",
    "success_rate", "total_metrics_collected", "last_run", "last_duration_seconds",
}  # fmt: skip


async def test_the_status_has_the_promised_keys_and_counts(dsn: str, agents: Any) -> None:
    async with running_product(dsn, health_interval=1) as product:
        await product.register("good", agents.url(0))
        await product.register("gone", "http://127.0.0.1:9")
        status = await product.until(STATUS, lambda body: body["health_worker"].get("checks_performed", 0) >= 4)
        health = status["health_worker"]
        assert set(health) >= HEALTH_KEYS | {"cycles_skipped", "lag_seconds", "results_buffered", "results_dropped"}
        assert set(status["metrics_worker"]) >= METRICS_KEYS
        assert health["running"] is True
        assert health["interval_seconds"] == 1
        assert health["checks_performed"] == health["checks_successful"] + health["checks_failed"]
        assert health["checks_failed"] >= 1
        assert 0 < health["success_rate"] < 100
        assert datetime.fromisoformat(health["last_run"]).tzinfo is not None
        assert len(status["instances"]) == 1
        assert datetime.fromisoformat(status["timestamp"]).tzinfo is not None


async def test_the_metrics_worker_has_its_half(dsn: str, agents: Any) -> None:
    async with running_product(dsn, health_interval=1, metrics_interval=1) as product:
        await product.register("good", agents.url(0))
        status = await product.until(STATUS, lambda body: body["metrics_worker"].get("collections_successful", 0) >= 2)
        metrics = status["metrics_worker"]
        assert set(metrics) >= METRICS_KEYS | {"cycles_skipped", "lag_seconds", "results_buffered", "results_dropped"}
        assert (metrics["running"], metrics["interval_seconds"], metrics["success_rate"]) == (True, 1, 100.0)
        assert metrics["total_metrics_collected"] >= 2 * 8
        assert datetime.fromisoformat(metrics["last_run"]).tzinfo is not None


async def test_another_process_answers_for_the_worker_and_notices_its_end(dsn: str) -> None:
    async with running_product(dsn, role="api") as api:
        status = await api.get(STATUS)
        assert status["health_worker"]["running"] is False
        assert (await api.call("GET", "/readyz"))[0] == 503
        async with running_product(dsn, role="worker", health_interval=1) as worker:
            await api.until(STATUS, lambda body: body["health_worker"]["running"])
            assert await api.get("/readyz") == {
                "status": "ok",
                "checks": {"database": "ok", "schema": "ok", "workers": "ok"},
            }
            assert (await worker.call("GET", "/healthz"))[0] == 200
            assert (await worker.call("GET", STATUS))[0] == 404, "a worker serves no API"
        assert (await api.get(STATUS))["health_worker"]["running"] is False


async def test_a_worker_that_falls_silent_does_not_run(product: Product) -> None:
    await product.until(STATUS, lambda body: body["health_worker"]["running"])
    async with product.fleet.database.connection() as connection:
        await connection.execute(
            "INSERT INTO fleet_workers SELECT gen_random_uuid(), role, host, pid, started_at, "
            "now() + interval '1 day', statistics FROM fleet_workers"
        )
        await connection.execute("UPDATE fleet_workers SET heartbeat_at = now() - interval '4 hours'")
        # This process publishes again within seconds; until then it counts as silent.
    status = await product.get(STATUS)
    assert len(status["instances"]) == 2


async def test_the_probes_need_no_token_and_own_metrics_are_open_on_loopback(product: Product) -> None:
    assert await product.call("GET", "/healthz", headers={}) == (200, {"status": "ok"})
    status, text = await product.call("GET", "/metrics", headers={})
    assert status == 200
    assert "opsfleet_health_checks_total" in text
    assert "opsfleet_health_worker_running 1.0" in text


async def test_own_metrics_need_a_token_when_others_can_reach_us(dsn: str) -> None:
    async with running_product(dsn, host="0.0.0.0") as product:
        assert (await product.call("GET", "/metrics", headers={}))[0] == 401
        assert (await product.call("GET", "/metrics"))[0] == 200

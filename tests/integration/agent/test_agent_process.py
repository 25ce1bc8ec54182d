"""The agent as its operators and the control plane meet it: a process, a port, a token."""

import asyncio
import json
import re
import shutil
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import trustme

from opsfleet_agent.wire import Health, Metrics, decode_object

HEADERS = {"Authorization": "Bearer right-token"}


def calling(
    agent: Any, headers: dict[str, str] = HEADERS, trust: ssl.SSLContext | bool = True
) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=1, ssl=trust)
    return aiohttp.ClientSession(agent.url, headers=headers, connector=connector)


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "opsfleet_agent", *arguments], check=False, capture_output=True, text=True
    )


async def test_the_control_plane_polls_health_and_metrics_on_one_connection(start_agent, tmp_path):
    application = tmp_path / "application.json"
    application.write_text('{"llm_requests": 7, "llm_cost_usd": 0.25, "active_users": 2, "total_users": 3}')
    agent = await start_agent("--application-file", str(application), "--server-version", "3.3.0")
    async with calling(agent) as control_plane:
        for _ in range(2):
            answer = await control_plane.get("/health")
            assert answer.status == 200
            health = msgspec.json.decode(await answer.read(), type=Health)
            assert (health.status, health.version) == ("ok", "3.3.0")
            assert health.hostname
            assert health.uptime_seconds is not None
            assert health.uptime_seconds > 0
            # What is not configured is not there.
            assert not {"database", "redis", "services"} & decode_object(await answer.read()).keys()

            answer = await control_plane.get("/api/v1/metrics/current")
            metrics = msgspec.json.decode(await answer.read(), type=Metrics)
            assert metrics.memory_percent is not None
            assert 0 < metrics.memory_percent < 100
            assert metrics.disk_percent is not None
            assert (metrics.llm_requests, metrics.llm_cost_usd) == (7, 0.25)
            assert (metrics.active_users, metrics.total_users) == (2, 3)
            assert metrics.total_services is None


async def test_a_real_database_is_seen_to_go_and_nobody_signs_in(start_agent, database_server):
    # A new agent each time, since one keeps what it found out for some seconds.
    async def health() -> Health:
        agent = await start_agent("--database", database_server.folder)
        async with calling(agent) as control_plane:
            return msgspec.json.decode(await (await control_plane.get("/health")).read(), type=Health)

    good = await health()
    assert (good.status, good.database.status) == ("ok", "ok")
    assert good.database.latency_ms > 0
    # The check leaves no lines in the log of a database that asks for passwords.
    assert "opsfleet_agent" not in database_server.log()
    database_server.stop()
    bad = await health()
    assert (bad.status, bad.database.status, bad.database.latency_ms) == ("critical", "refused", None)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
async def test_a_real_redis_answers_to_its_password(start_agent, tmp_path):
    (tmp_path / "password").write_text("geheim")
    socket = tmp_path / "redis.sock"
    redis = await asyncio.create_subprocess_exec(
        *("redis-server", "--port", "0", "--unixsocket", str(socket), "--requirepass", "geheim", "--save", ""),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await redis.stdout.readuntil(b"ready to accept connections")
        for flags, status in (([], "password_required"), (["--redis-password-file", f"{tmp_path}/password"], "ok")):
            agent = await start_agent("--redis", str(socket), *flags)
            async with calling(agent) as control_plane:
                assert (await (await control_plane.get("/health")).json())["redis"]["status"] == status
    finally:
        redis.terminate()
        await redis.communicate()


async def test_services_that_do_not_run_are_in_health_and_metrics(start_agent):
    agent = await start_agent("--process", "no-such-process", "--process", Path(sys.executable).name + " -m nothing")
    async with calling(agent) as control_plane:
        health = await (await control_plane.get("/health")).json()
        metrics = await (await control_plane.get("/api/v1/metrics/current")).json()
    assert health["status"] == "degraded"
    assert health["services"]["failing"][0] == "no-such-process"
    assert (metrics["active_services"], metrics["failed_services"], metrics["total_services"]) == (0, 2, 2)


async def test_a_new_token_opens_the_agent_and_is_never_logged(start_agent):
    printed = run("token").stdout
    token, hashed = re.findall(r"^opsfleet_\S+$|[0-9a-f]{64}", printed, re.MULTILINE)
    agent = await start_agent("--log-level", "debug", token=token)
    async with calling(agent, headers={}) as caller:
        assert (await caller.get("/health", headers={"Authorization": f"Bearer {token}"})).status == 200
        refused = await caller.get("/health", headers={"Authorization": f"Bearer {hashed}"})
        assert refused.status == 401
        assert (await refused.json(content_type="application/problem+json"))["code"] == "unauthenticated"
    assert await agent.stop() == 0
    assert not [line for line in agent.lines if token in line or hashed in line]


async def test_being_told_to_stop_it_closes_kept_connections_and_ends_well(start_agent):
    agent = await start_agent()
    async with calling(agent) as control_plane:
        assert (await control_plane.get("/health")).status == 200
        assert await agent.stop() == 0
        assert "stopping" in agent.lines[-1]
        with pytest.raises(aiohttp.ClientConnectorError):
            await control_plane.get("/health")


def write_certificate(authority: trustme.CA, folder: Path) -> None:
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "certificate.pem")


def resident_kilobytes(pid: int) -> int:
    return int(re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0])


async def test_a_renewed_certificate_is_used_after_a_reload_and_memory_stays_small(start_agent, tmp_path):
    old, new = trustme.CA(), trustme.CA()
    write_certificate(old, tmp_path)
    files = ["--tls-certificate", f"{tmp_path}/certificate.pem", "--tls-key", f"{tmp_path}/key.pem"]
    agent = await start_agent("--host", "127.0.0.1", *files)
    assert agent.url.startswith("https://")

    async def health_trusting(authority: trustme.CA) -> int:
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        async with calling(agent, trust=trust) as control_plane:
            return (await control_plane.get("/health")).status

    assert await health_trusting(old) == 200
    (tmp_path / "certificate.pem").write_text("rubbish")
    agent.process.send_signal(signal.SIGHUP)
    await agent.line_with("stays as it was")
    assert await health_trusting(old) == 200
    write_certificate(new, tmp_path)
    agent.process.send_signal(signal.SIGHUP)
    await agent.line_with("read anew")
    assert await health_trusting(new) == 200
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await health_trusting(old)
    assert resident_kilobytes(agent.process.pid) < 40 * 1024


async def test_a_port_that_is_taken_is_named(start_agent):
    port = (await start_agent()).url.rpartition(":")[2]
    ended = await asyncio.to_thread(run, "--port", port, "--token-sha256", "0" * 64)
    # Not 2, with which systemd would not try again.
    assert ended.returncode == 1
    assert port in ended.stderr
    assert "address already in use" in ended.stderr.lower()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--port", "x"], "port = 'x'"),
        (["--colour=red"], "--colour"),
        (["--config", "/nowhere/agent.toml"], "/nowhere/agent.toml"),
        (["paint"], "paint"),
        (["--token-sha256", "0" * 64, "--tls-certificate", "/nowhere/c", "--tls-key", "/nowhere/k"], "/nowhere/c"),
    ],
)
def test_a_mistake_ends_the_start_with_one_line(flags, words):
    ended = run(*flags)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(ended.stderr.splitlines()) == 1
    assert words in ended.stderr


@pytest.mark.parametrize(
    ("flags", "code", "status"), [([], 0, "ok"), (["--process", "nothing-like-it"], 1, "degraded")]
)
def test_an_operator_looks_at_health_in_the_terminal(flags, code, status):
    ended = run("check", *flags)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert json.loads(ended.stdout)["status"] == status

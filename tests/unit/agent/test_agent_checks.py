"""What the agent finds out about components, good and odd ones."""

import asyncio
import os
import subprocess
import sys

import pytest

from opsfleet_agent.cached import Cached
from opsfleet_agent.checks.component import ComponentCheck
from opsfleet_agent.checks.postgresql import postgresql_check, status_of
from opsfleet_agent.checks.processes import ProcessesCheck, matches
from opsfleet_agent.checks.redis import redis_check
from opsfleet_agent.checks.services import ServicesCheck
from opsfleet_agent.checks.units import UnitsCheck
from opsfleet_agent.values import Address


class Component:
    """A component that says what a test wants said, and remembers what it heard."""

    def __init__(self, says: list[bytes | None]) -> None:
        self.says = says
        self.heard = b""
        self.conversations = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.conversations += 1
        try:
            for words in self.says:
                self.heard += await reader.read(1000)
                if words is None:
                    break
                writer.write(words)
                await writer.drain()
            else:
                self.heard += await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def component():
    servers = []

    async def start(*says: bytes | None) -> tuple[Component, Address]:
        spoken = Component(list(says))
        server = await asyncio.start_server(spoken, "127.0.0.1", 0)
        servers.append(server)
        return spoken, Address("127.0.0.1", server.sockets[0].getsockname()[1])

    yield start
    for server in servers:
        server.close()


def error(code: str) -> bytes:
    fields = f"SFATAL\0VFATAL\0C{code}\0Mno\0\0".encode()
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


@pytest.mark.parametrize(
    ("says", "status"),
    [
        (b"R\x00\x00\x00\x08\x00\x00\x00\x0a", "ok"),
        (error("28000"), "ok"),
        (error("3D000"), "ok"),
        (error("57P03"), "not_ready"),
        (error("53300"), "too_many_connections"),
        (error("XX000"), "error"),
        (b"E\x00\x00\x00\x05\x00", "error"),
        (b"E\x7f\xff\xff\xff", "protocol_error"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "protocol_error"),
        (None, "closed"),
    ],
)
async def test_what_postgresql_says_is_understood(component, says, status):
    spoken, address = await component(says)
    health = await postgresql_check(address, "watcher").check()
    assert health.status == status
    assert (health.latency_ms is not None) == (status == "ok")
    assert b"user\0watcher\0" in spoken.heard


def test_an_error_of_postgresql_without_a_code_is_an_error():
    assert status_of(b"") == "error"


@pytest.mark.parametrize(
    ("says", "status"),
    [
        (b"+PONG\r\n", "ok"),
        (b"-NOAUTH Authentication required.\r\n", "password_required"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "loading"),
        (b"-ERR max number of clients reached\r\n", "too_many_connections"),
        (b"-SOMETHING else\r\n", "error"),
        (b"$4\r\nPONG\r\n", "protocol_error"),
        (b"x" * 100_000, "protocol_error"),
        (None, "closed"),
    ],
)
async def test_what_redis_says_is_understood(component, says, status):
    spoken, address = await component(says)
    assert (await redis_check(address, None, None).check()).status == status
    assert spoken.heard.startswith(b"*1\r\n$4\r\nPING\r\n")


@pytest.mark.parametrize(
    ("says", "status"),
    [((b"+OK\r\n", b"+PONG\r\n"), "ok"), ((b"-WRONGPASS invalid username-password pair\r\n",), "wrong_password")],
)
async def test_redis_may_want_a_password(component, tmp_path, says, status):
    file = tmp_path / "password"
    file.write_text("geheim-ß\n")
    spoken, address = await component(*says)
    check = redis_check(address, "watcher", str(file))
    assert (await check.check()).status == status
    assert spoken.heard.startswith("*3\r\n$4\r\nAUTH\r\n$7\r\nwatcher\r\n$9\r\ngeheim-ß\r\n".encode())
    file.unlink()
    assert (await check.check()).status == "password_unreadable"


async def test_a_component_that_is_silent_is_a_timeout(component):
    _, address = await component(b"")

    async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> str:
        await reader.readexactly(1)
        raise AssertionError

    assert (await ComponentCheck("database", address, listen, timeout=0.02).check()).status == "timeout"


async def test_a_component_that_is_not_there_is_refused(tmp_path, unused_tcp_port_factory):
    assert (await postgresql_check(Address("127.0.0.1", unused_tcp_port_factory()), "u").check()).status == "refused"
    assert (await postgresql_check(Address(path=str(tmp_path)), "u").check()).status == "refused"
    assert (await redis_check(Address(path=str(tmp_path / "socket")), None, None).check()).status == "refused"


async def test_a_component_may_be_behind_a_unix_socket(tmp_path):
    for name, says in ((".s.PGSQL.5432", b"R\0\0\0\x08\0\0\0\0"), ("redis.sock", b"+PONG\r\n")):
        server = await asyncio.start_unix_server(Component([says]), tmp_path / name)
        check = (
            postgresql_check(Address(path=str(tmp_path)), "u")
            if says.startswith(b"R")
            else redis_check(Address(path=str(tmp_path / name)), None, None)
        )
        assert (await check.check()).status == "ok"
        server.close()


async def test_a_change_is_logged_once(component, caplog):
    _, address = await component(b"-LOADING\r\n")
    check = redis_check(address, None, None)
    for _ in range(3):
        await check.check()
    assert [record.getMessage() for record in caplog.records] == ["redis is loading, it was ok"]


async def test_what_was_found_out_serves_all_callers_for_a_while():
    now, calls, go = [0.0], [], asyncio.Event()

    async def find() -> int:
        calls.append(1)
        await go.wait()
        return len(calls)

    cached = Cached(find, 5.0, clock=lambda: now[0])
    impatient, patient = asyncio.create_task(cached.get()), asyncio.create_task(cached.get())
    await asyncio.sleep(0)
    impatient.cancel()
    go.set()
    assert await patient == 1
    assert await cached.get() == 1
    now[0] = 5.0
    assert await cached.get() == 2


@pytest.fixture
def systemctl(tmp_path):
    """Makes a `systemctl` that behaves as a test wants."""

    def make(script: str) -> str:
        program = tmp_path / "systemctl"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return str(program)

    return make


def block(unit: str, state: str) -> str:
    return f"Id={unit}\nLoadState=loaded\nActiveState={state}\nSubState=x\n"


async def test_units_that_do_not_run_are_named(systemctl, tmp_path):
    names = ["a.service", "b.service", "alias.service", "d.timer"]
    (tmp_path / "answer").write_text(
        "\n".join(
            [
                block("a.service", "active"),
                block("b.service", "failed"),
                block("other.service", "reloading"),
                block("d.timer", "inactive"),
            ]
        )
    )
    program = systemctl(f'echo "$@" > {tmp_path}/asked; cat {tmp_path}/answer')
    assert await UnitsCheck(names, program=program).failing() == ["b.service", "d.timer"]
    asked = (tmp_path / "asked").read_text().split()
    assert asked[0] == "show"
    assert asked[asked.index("--") + 1 :] == names


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'Failed to connect to bus: Host is down' >&2; exit 1", "Failed to connect to bus"),
        ("exit 3", "3"),
        ("echo Id=a.service", "not understood"),
        ("exec sleep 60", "no answer within"),
    ],
)
async def test_units_of_a_systemd_that_cannot_be_asked_do_not_run(systemctl, caplog, script, reason):
    check = UnitsCheck(["a.service"], program=systemctl(script), timeout=0.3)
    assert await check.failing() == ["a.service"]
    assert await check.failing() == ["a.service"]
    assert len(caplog.records) == 1
    assert reason in caplog.text


async def test_units_without_any_systemd_do_not_run(tmp_path):
    assert await UnitsCheck(["a.service"], program=str(tmp_path / "none")).failing() == ["a.service"]


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("python3", True),
        ("python3 -m app", True),
        ("/usr/bin/python3 -m app", True),
        ("/usr/bin/python3", True),
        ("worker", True),
        ("python", False),
        ("python3 -m ap", False),
        ("app", False),
        ("usr/bin/python3", False),
    ],
)
def test_a_process_is_known_by_its_name_or_the_beginning_of_its_command_line(entry, found):
    assert matches(entry, "worker", ["/usr/bin/python3", "-m", "app", "--port", "1"]) is found


def test_a_process_may_have_rewritten_its_command_line():
    assert matches("nginx: master process", "nginx", ["nginx: master process /usr/sbin/nginx"])
    assert not matches("nginx", "kworker", [])


def test_a_process_is_found_until_it_ends_and_found_again():
    entry = f"opsfleet-agent-test-process-{os.getpid()}"  # another run of this test may be going on

    def start() -> "subprocess.Popen[bytes]":
        # `-c` code that blocks until its input ends; the name is the first word of the command line.
        code = "import sys; sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read()"
        process = subprocess.Popen(
            [entry, "-c", code], executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        return process

    now = [0.0]
    check = ProcessesCheck([entry, "no-such-process"], clock=lambda: now[0])
    for _ in range(2):
        assert check.failing() == [entry, "no-such-process"]
        with start() as process:
            assert check.failing() == ["no-such-process"]
            process.kill()
            # It has ended and stays a zombie, since this wait does not take it away.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert check.failing() == [entry, "no-such-process"]


def test_the_search_for_processes_costs_little_of_a_processor():
    now, searches = [0.0], []
    check = ProcessesCheck(["no-such-process"], clock=lambda: now[0])

    def search(_: set[str]) -> None:
        searches.append(now[0])
        now[0] += 0.1

    check._search = search
    for now[0] in (0.0, 10.0, 20.0, 20.2, 30.0):
        check.failing()
    assert searches == [0.0, 20.2]


async def test_services_are_units_and_processes_together(systemctl):
    units = UnitsCheck(
        ["a.service", "b.service"], program=systemctl("echo ActiveState=active; echo; echo ActiveState=x")
    )
    services = ServicesCheck(units, ProcessesCheck(["no-such-process"]), total=3)
    health = await services.check()
    assert (health.healthy, health.active, health.failed, health.total) == (False, 1, 2, 3)
    assert health.failing == ["b.service", "no-such-process"]

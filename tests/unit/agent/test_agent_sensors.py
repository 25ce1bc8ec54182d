"""What the sensors read, and what they do where nothing can be read."""

import json
import os
import threading
from typing import NamedTuple

import psutil
import pytest

from opsfleet_agent.sensors.application import Application, ApplicationSensor
from opsfleet_agent.sensors.cpu import CpuSensor
from opsfleet_agent.sensors.disk import DiskSensor
from opsfleet_agent.sensors.memory import memory_percent
from opsfleet_agent.sensors.network import NetworkSensor, Traffic


class Times(NamedTuple):
    user: float
    system: float
    idle: float
    iowait: float
    guest: float


class Counter(NamedTuple):
    bytes_recv: int
    bytes_sent: int


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def fail(*_, **__):
    raise PermissionError


@pytest.fixture
def processor(monkeypatch):
    times = {"now": Times(10.0, 10.0, 80.0, 0.0, 5.0)}
    monkeypatch.setattr(psutil, "cpu_times", lambda: times["now"])
    return times


def test_processors_are_measured_from_one_question_to_the_next(processor):
    clock = Clock()
    sensor = CpuSensor(clock=clock)
    assert sensor.measure() is None
    clock.now += 60
    processor["now"] = Times(40.0, 20.0, 130.0, 10.0, 30.0)
    # 40 s of work (guests are in user time already) and 60 s of none.
    assert sensor.measure() == 40.0
    processor["now"] = Times(90.0, 20.0, 130.0, 10.0, 30.0)
    clock.now += 0.5
    assert sensor.measure() == 40.0
    clock.now += 0.5
    assert sensor.measure() == 100.0
    clock.now += 60
    assert sensor.measure() == 100.0


def test_processors_that_cannot_be_read_have_no_value(processor, monkeypatch):
    clock = Clock()
    sensor = CpuSensor(clock=clock)
    clock.now += 60
    monkeypatch.setattr(psutil, "cpu_times", fail)
    assert sensor.measure() is None


def test_real_figures_are_in_range():
    memory = memory_percent()
    assert memory is not None
    assert 0 < memory < 100
    traffic = NetworkSensor(["lo"]).measure()
    assert traffic is None or min(traffic) >= 0


def test_memory_that_cannot_be_read_has_no_value(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", fail)
    assert memory_percent() is None


@pytest.fixture
def interfaces(monkeypatch):
    counters = {"eth0": Counter(1000, 2000), "lo": Counter(7, 7)}
    monkeypatch.setattr(psutil, "net_io_counters", lambda **_: dict(counters))
    monkeypatch.setattr("opsfleet_agent.sensors.network.INTERFACES", "/nonexistent")
    return counters


def test_traffic_counts_from_the_start_of_the_agent_and_only_grows(interfaces):
    sensor = NetworkSensor()
    assert sensor.measure() == Traffic(0, 0)
    interfaces["eth0"] = Counter(1010, 2020)
    interfaces["lo"] = Counter(1000, 1000)
    assert sensor.measure() == Traffic(10, 20)
    del interfaces["eth0"]
    interfaces["eth1"] = Counter(5, 0)
    assert sensor.measure() == Traffic(15, 20)
    interfaces["eth1"] = Counter(3, 1)
    assert sensor.measure() == Traffic(18, 21)


def test_bytes_that_pass_two_interfaces_count_once(interfaces, monkeypatch, tmp_path):
    (tmp_path / "eth0" / "device").mkdir(parents=True)
    (tmp_path / "docker0").mkdir()
    monkeypatch.setattr("opsfleet_agent.sensors.network.INTERFACES", str(tmp_path))
    sensors = NetworkSensor(), NetworkSensor(["docker0", "gone0"])
    interfaces |= {"docker0": Counter(50, 50), "eth0": Counter(1050, 2050)}
    assert [sensor.measure() for sensor in sensors] == [Traffic(50, 50), Traffic(50, 50)]


def test_traffic_that_cannot_be_read_has_no_value(interfaces, monkeypatch):
    sensor = NetworkSensor()
    monkeypatch.setattr(psutil, "net_io_counters", fail)
    assert sensor.measure() is None


async def test_the_fullest_disk_is_reported():
    usage = {"/": 40.0, "/data": 90.5, "/gone": None}
    assert await DiskSensor(list(usage), usage=usage.__getitem__).measure() == 90.5
    assert await DiskSensor(["/gone"], usage=usage.__getitem__).measure() is None


async def test_a_real_disk_is_measured_and_a_missing_one_is_not():
    percent = await DiskSensor(["/"]).measure()
    assert percent is not None
    assert 0 <= percent <= 100
    assert await DiskSensor(["/no/such/folder"]).measure() is None


async def test_a_disk_that_does_not_answer_costs_one_thread_and_comes_back():
    go, calls = threading.Event(), []

    def stuck(path: str) -> float:
        calls.append(path)
        go.wait()
        return 50.0

    sensor = DiskSensor(["/stuck"], timeout=0.01, usage=stuck)
    assert [await sensor.measure() for _ in range(3)] == [None, None, None]
    assert calls == ["/stuck"]
    go.set()
    assert sensor._asked is not None
    await sensor._asked
    assert await sensor.measure() == 50.0
    assert calls == ["/stuck"]


@pytest.fixture
def application(tmp_path):
    return tmp_path / "application.json"


def test_an_application_gives_its_own_figures(application):
    sensor = ApplicationSensor(str(application))
    assert sensor.measure() == Application()
    application.write_text(json.dumps({"llm_requests": 12, "llm_cost_usd": 0.5, "active_users": 1, "other": "x"}))
    assert sensor.measure() == Application(llm_requests=12, llm_cost_usd=0.5, active_users=1)
    application.write_text(json.dumps({"llm_requests": 130, "total_users": None}))
    assert sensor.measure() == Application(llm_requests=130)
    application.unlink()
    assert sensor.measure() == Application()


def test_what_an_application_gets_wrong_is_left_out_and_logged_once(application, caplog):
    values = {"llm_requests": -1, "llm_cost_usd": "1", "active_users": True, "total_users": 3.5}
    application.write_text(json.dumps(values))
    sensor = ApplicationSensor(str(application))
    assert sensor.measure() == sensor.measure() == Application()
    assert len(caplog.records) == 1
    for name in values:
        assert name in caplog.text


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff{}", b'{"llm_cost_usd": 1e999}', b" " * 100_000])
def test_an_unreadable_application_file_is_no_error(application, content):
    application.write_bytes(content)
    assert ApplicationSensor(str(application)).measure() == Application()


def test_neither_a_pipe_nor_a_folder_holds_the_agent_up(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        assert ApplicationSensor(str(path)).measure() == Application()


def test_old_figures_are_none(application):
    application.write_text('{"active_users": 5}')
    assert ApplicationSensor(str(application), max_age=3600).measure().active_users == 5
    os.utime(application, (1, 1))
    assert ApplicationSensor(str(application), max_age=3600).measure().active_users is None

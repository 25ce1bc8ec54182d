import subprocess
import sys
from collections import Counter

from opsfleet.domain.registration import registration_of
from opsfleet.simulate.servers import ENVIRONMENTS, REGIONS, server_of, simulated_registrations, simulated_servers


def test_ten_thousand_servers_look_like_a_fleet() -> None:
    servers = simulated_servers(10_000)
    assert len({server.name for server in servers}) == len({server.address for server in servers}) == 10_000
    regions = Counter(server.region for server in servers)
    environments = Counter(server.environment for server in servers)
    assert set(regions) == set(REGIONS)
    assert set(environments) == set(ENVIRONMENTS)
    assert environments["production"] > environments["staging"] > environments["development"]


def test_every_server_can_be_registered() -> None:
    rows = simulated_registrations(200, port=9200, token="secret")
    registrations = [registration_of(row) for row in rows]
    assert registrations[41].api_url == "http://127.1.0.42:9200"
    assert registrations[41].api_token == "secret"
    assert registrations[41].name.endswith("-0042")
    assert registrations[41].metadata["simulated"] is True
    assert all(registration.tags for registration in registrations)


def test_another_process_makes_the_same_servers() -> None:
    program = "from opsfleet.simulate.servers import server_of; print(server_of(4711))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.strip() == str(server_of(4711))

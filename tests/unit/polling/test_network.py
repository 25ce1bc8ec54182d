"""Which addresses may be called."""

from ipaddress import ip_network

import pytest

from opsfleet.polling import FaultKind, NetworkPolicy, Resolver
from tests.support import rogue
from tests.unit.polling.conftest import LOOPBACK, MakeEngine, target_of

V4, V6 = ip_network("10.0.0.0/8"), ip_network("fd00::/8")


@pytest.mark.parametrize(
    ("policy", "address", "tls", "objection"),
    [
        (NetworkPolicy(), "192.0.2.1", True, None),
        (NetworkPolicy(), "192.0.2.1", False, "address 192.0.2.1 may be called only over https"),
        (NetworkPolicy(http_allow=[V4]), "10.1.2.3", False, None),
        (NetworkPolicy(http_allow=[V4]), "11.1.2.3", False, "address 11.1.2.3 may be called only over https"),
        (NetworkPolicy(deny=[V4]), "10.1.2.3", True, "address 10.1.2.3 is in a denied network"),
        (NetworkPolicy(deny=[V4], http_allow=[V4]), "10.1.2.3", False, "address 10.1.2.3 is in a denied network"),
        (NetworkPolicy(deny=[V4], allow=[V4]), "10.1.2.3", True, "address 10.1.2.3 is in a denied network"),
        (NetworkPolicy(deny=[V4]), "fd00::1", True, None),
        (NetworkPolicy(deny=[V6]), "fd00::1", True, "address fd00::1 is in a denied network"),
        (NetworkPolicy(deny=[V4]), "::ffff:10.1.2.3", True, "address 10.1.2.3 is in a denied network"),
        (NetworkPolicy(deny=[V4]), "::ffff:a01:203", True, "address 10.1.2.3 is in a denied network"),
        (NetworkPolicy(allow=[V4]), "::ffff:10.1.2.3", True, None),
        (NetworkPolicy(allow=[V4]), "10.1.2.3", True, None),
        (NetworkPolicy(allow=[V4]), "192.0.2.1", True, "address 192.0.2.1 is in no allowed network"),
        (NetworkPolicy(allow=[V4]), "fd00::1", True, "address fd00::1 is in no allowed network"),
        (NetworkPolicy(deny=[ip_network("fe80::/10")]), "fe80::1%1", True, "address fe80::1%1 is in a denied network"),
    ],
)
def test_rules(policy: NetworkPolicy, address: str, tls: bool, objection: str | None) -> None:
    assert policy.objection(address, tls) == objection


async def test_a_denied_address_is_never_connected_to(make_engine: MakeEngine) -> None:
    engine = make_engine(policy=NetworkPolicy(deny=LOOPBACK, http_allow=LOOPBACK))
    async with rogue.server(rogue.ok) as server:
        for host in ("127.0.0.1", "::ffff:127.0.0.1", "localhost"):
            outcome = await engine.poll(target_of(server, host=host), "/health")
            assert outcome.fault is not None
            assert outcome.fault.kind is FaultKind.DENIED
            assert outcome.fault.message.endswith(" is in a denied network")
        assert server.connections == 0


async def test_a_name_from_the_hosts_file_is_reached(make_engine: MakeEngine) -> None:
    engine = make_engine()
    async with rogue.server(rogue.ok) as server:
        outcome = await engine.poll(target_of(server, host="localhost"), "/health")
        assert outcome.status == 200
        assert f"Host: localhost:{server.port}\r\n".encode() in server.heads[0]


class Known(Resolver):
    """Knows the addresses of every name."""

    def __init__(self, *addresses: str) -> None:
        super().__init__()
        self.addresses = list(addresses)

    async def resolve(self, host: str) -> list[str]:
        return self.addresses


async def test_a_name_does_not_lead_around_the_rules(make_engine: MakeEngine) -> None:
    policy = NetworkPolicy(deny=[ip_network("127.0.0.2/32")], http_allow=LOOPBACK)
    engine = make_engine(policy=policy, resolver=Known("127.0.0.2"))
    async with rogue.server(rogue.ok, host="127.0.0.2") as server:
        outcome = await engine.poll(target_of(server, host="innocent.example"), "/health")
        assert outcome.fault is not None
        assert outcome.fault.message == "address 127.0.0.2 is in a denied network"
        assert server.connections == 0


async def test_the_allowed_one_of_several_addresses_is_called(make_engine: MakeEngine) -> None:
    policy = NetworkPolicy(deny=[ip_network("127.0.0.2/32")], http_allow=LOOPBACK)
    engine = make_engine(policy=policy, resolver=Known("127.0.0.2", "127.0.0.1"))
    async with rogue.server(rogue.ok) as server:
        assert (await engine.poll(target_of(server, host="two.example"), "/health")).status == 200


async def test_the_second_address_is_tried_when_the_first_refuses(make_engine: MakeEngine) -> None:
    engine = make_engine(resolver=Known("127.0.0.3", "127.0.0.1"))
    async with rogue.server(rogue.ok) as server:
        assert (await engine.poll(target_of(server, host="two.example"), "/health")).status == 200


async def test_the_second_address_is_tried_when_the_first_hangs(make_engine: MakeEngine) -> None:
    engine = make_engine(resolver=Known("127.0.0.3", "127.0.0.1"), request_timeout=1.0)
    authority = rogue.Authority()
    async with (
        rogue.server(rogue.ok, tls=authority.context("two.example")) as server,
        rogue.server(rogue.hang_before_reading, host="127.0.0.3", port=server.port) as hanging,
    ):
        target = target_of(server, host="two.example", tls=True, ca_certificate=authority.certificate)
        assert (await engine.poll(target, "/health")).status == 200
        assert hanging.connections == 1


async def test_of_several_faults_the_one_that_says_most_is_told(make_engine: MakeEngine) -> None:
    policy = NetworkPolicy(deny=[ip_network("127.0.0.2/32")], http_allow=LOOPBACK)
    engine = make_engine(policy=policy, resolver=Known("127.0.0.2", "127.0.0.1"))
    with rogue.closed_port() as port:
        outcome = await engine.poll(target_of(port, host="two.example"), "/health")
    assert outcome.fault is not None
    assert outcome.fault.kind is FaultKind.REFUSED

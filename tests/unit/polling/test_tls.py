"""Certificates that are right, and the words for those that are not."""

from collections.abc import Callable

import pytest

from opsfleet.polling import FaultKind
from opsfleet.polling.tls import TlsContexts
from tests.support import rogue
from tests.unit.polling.conftest import MakeEngine, Outcomes, target_of


@pytest.fixture(scope="module")
def authority() -> rogue.Authority:
    return rogue.Authority()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_verified_connection_is_kept(make_engine: MakeEngine, authority: rogue.Authority, host: str) -> None:
    engine = make_engine()
    async with rogue.server(rogue.ok, tls=authority.context(), host=host) as server:
        target = target_of(server, tls=True, ca_certificate=authority.certificate)
        for _ in range(3):
            assert (await engine.poll(target, "/health")).status == 200
        assert (server.connections, server.requests) == (1, 3)
        assert engine.connections == 1


async def test_a_stale_connection_is_repeated_over_tls_too(make_engine: MakeEngine, authority: rogue.Authority) -> None:
    engine = make_engine()
    async with rogue.server(rogue.stale, tls=authority.context()) as server:
        target = target_of(server, tls=True, ca_certificate=authority.certificate)
        for _ in range(2):
            assert (await engine.poll(target, "/health")).status == 200
        assert (server.connections, server.requests) == (2, 3)


BAD = {
    "wrong name": (lambda one: one.context("example.org"), "certificate is not valid for 127.0.0.1"),
    "expired": (lambda one: one.expired(), "certificate expired on 2020-03-01"),
    "not yet valid": (lambda one: one.not_yet_valid(), "certificate is not valid yet"),
}


@pytest.mark.parametrize(("context", "message"), BAD.values(), ids=BAD)
async def test_a_bad_certificate_is_named(
    make_engine: MakeEngine, authority: rogue.Authority, context: Callable[[rogue.Authority], object], message: str
) -> None:
    engine = make_engine()
    async with rogue.server(rogue.ok, tls=context(authority)) as server:
        outcome = await engine.poll(target_of(server, tls=True, ca_certificate=authority.certificate), "/health")
        assert outcome.fault is not None
        assert (outcome.fault.kind, outcome.fault.message) == (FaultKind.TLS, message)
        assert server.requests == 0


@pytest.mark.parametrize("trusted", [None, rogue.Authority().certificate], ids=["system", "another bundle"])
async def test_an_unknown_authority_is_not_trusted(
    make_engine: MakeEngine, authority: rogue.Authority, trusted: str | None
) -> None:
    engine = make_engine()
    async with rogue.server(rogue.ok, tls=authority.context()) as server:
        outcome = await engine.poll(target_of(server, tls=True, ca_certificate=trusted), "/health")
        assert outcome.fault is not None
        assert outcome.fault.kind is FaultKind.TLS
        assert outcome.fault.message == "certificate is not signed by a trusted authority"
        assert server.requests == 0


async def test_plain_http_on_a_tls_port(make_engine: MakeEngine, authority: rogue.Authority) -> None:
    engine = make_engine()
    async with rogue.server(rogue.answering(rogue.answer(), close=True)) as server:
        target = target_of(server, tls=True, ca_certificate=authority.certificate)

        async def plain(client: rogue.Client) -> None:
            await client.reader.read(1)
            await client.send(rogue.answer(b"", "400 Bad Request"))
            await client.until_gone()

        server.behaviour = plain
        outcome = await engine.poll(target, "/health")
        assert outcome.fault is not None
        assert outcome.fault.kind is FaultKind.TLS
        assert outcome.fault.message.startswith("TLS failed: ")


async def test_tls_on_a_plain_port(make_engine: MakeEngine, authority: rogue.Authority) -> None:
    engine = make_engine()
    async with rogue.server(rogue.ok, tls=authority.context()) as server:
        outcome = await engine.poll(target_of(server), "/health")
        assert outcome.fault is not None
        assert outcome.fault.kind in {FaultKind.RESET, FaultKind.PROTOCOL}


async def test_a_handshake_that_hangs_times_out(make_engine: MakeEngine, authority: rogue.Authority) -> None:
    engine = make_engine(request_timeout=0.6)
    async with rogue.server(rogue.hang_before_reading) as server:
        outcome = await engine.poll(target_of(server, tls=True, ca_certificate=authority.certificate), "/health")
        assert outcome.fault is not None
        assert (outcome.fault.kind, outcome.fault.message) == (FaultKind.TIMEOUT, "connecting timed out after 0.3 s")
        assert outcome.fault.facts["phase"] == "connect"
        assert engine.connections == 0


@pytest.mark.parametrize("behaviour", [rogue.reset_on_accept, rogue.close_after_request])
async def test_a_handshake_that_is_cut_off(
    make_engine: MakeEngine, authority: rogue.Authority, behaviour: rogue.Behaviour
) -> None:
    engine = make_engine()

    async def behave(client: rogue.Client) -> None:
        await client.reader.read(1)
        if behaviour is rogue.reset_on_accept:
            client.reset()

    async with rogue.server(behave) as server:
        outcome = await engine.poll(target_of(server, tls=True, ca_certificate=authority.certificate), "/health")
        assert outcome.fault is not None
        assert outcome.fault.kind in {FaultKind.RESET, FaultKind.TLS}


async def test_closing_with_tls_requests_under_way(make_engine: MakeEngine, authority: rogue.Authority) -> None:
    engine = make_engine()
    outcomes = Outcomes()
    async with rogue.server(rogue.hang_before_headers(), tls=authority.context()) as server:
        for _ in range(3):
            target = target_of(server, tls=True, ca_certificate=authority.certificate)
            engine.submit(target, "/health", outcomes)
        await server.until(lambda: server.requests == 3)
        await engine.close()
        assert len(outcomes) == 3


@pytest.mark.parametrize(
    "bundle", ["", "nonsense", "zürich", "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----"]
)
async def test_a_bundle_that_is_none_is_a_fault_of_the_target(make_engine: MakeEngine, bundle: str) -> None:
    engine = make_engine()
    async with rogue.server(rogue.ok) as server:
        outcome = await engine.poll(target_of(server, tls=True, ca_certificate=bundle), "/health")
        assert outcome.fault is not None
        assert outcome.fault.kind is FaultKind.TLS
        assert outcome.fault.message == "the CA certificate is not a PEM certificate"
        assert server.connections == 0


def test_contexts_are_made_once_for_each_bundle_and_the_oldest_go(authority: rogue.Authority) -> None:
    contexts = TlsContexts(keep=2)
    mine = contexts.get(authority.certificate)
    assert contexts.get(authority.certificate) is mine
    assert contexts.get(None) is not mine
    assert contexts.get(authority.certificate) is mine
    contexts.get(rogue.Authority().certificate)
    assert contexts.get(authority.certificate) is mine
    assert len(contexts._contexts) == 2

"""The agent's TLS, with real handshakes."""

import ssl

import pytest
import trustme

from opsfleet_agent.http.messages import Request, Response, json_response
from opsfleet_agent.http.tls import server_context

authority = trustme.CA()


async def echo(request: Request) -> Response:
    return json_response(request.body.decode())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    return str(folder / "certificate.pem"), str(folder / "key.pem")


def trusting() -> ssl.SSLContext:
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    trust.set_alpn_protocols(["http/1.1"])
    return trust


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_caller_that_verifies_the_certificate_is_answered(listening, files, version):
    trust = trusting()
    trust.minimum_version = trust.maximum_version = version
    running = await listening(echo, server_context(*files), trust)
    caller = await running.call()
    assert caller.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    for body in ("", "x" * 50_000):
        caller.ask("/a", "POST", extra=f"Content-Length: {len(body)}\r\n", body=body)
        answer = await caller.answer()
        assert (answer.status, answer.document) == (200, body)


async def test_the_caller_is_told_that_the_connection_ends(listening, files):
    running = await listening(echo, server_context(*files), trusting())
    caller = await running.call()
    caller.ask("/a", token="wrong")
    assert (await caller.answer()).status == 401
    assert await caller.is_closed()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_versions_are_refused(listening, files):
    trust = trusting()
    trust.minimum_version = ssl.TLSVersion.TLSv1
    trust.maximum_version = ssl.TLSVersion.TLSv1_1
    trust.set_ciphers("ALL:@SECLEVEL=0")
    running = await listening(echo, server_context(*files), trust)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await running.call()


async def test_a_caller_that_does_not_trust_the_certificate_leaves_nothing_behind(listening, files):
    running = await listening(echo, server_context(*files), ssl.create_default_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        await running.call()
    running.trust = trusting()
    caller = await running.call()
    caller.ask("/a")
    assert (await caller.answer()).status == 200


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01\x02\x00"])
async def test_a_handshake_without_end_is_dropped(listening, files, first):
    running = await listening(echo, server_context(*files), None, arrival=0.05)
    caller = await running.call()
    caller.send(first)
    assert await caller.is_closed()


async def test_plain_http_is_told_that_this_is_tls(listening, files):
    running = await listening(echo, server_context(*files), None)
    caller = await running.call()
    caller.ask("/health")
    alert = await caller.reader.read()
    assert b"HTTP/1.1" not in alert
    assert alert == b"" or alert[0] == 21  # an alert record: RFC 8446, section 5.1


async def test_unfinished_handshakes_are_counted(listening, files):
    running = await listening(echo, server_context(*files), None, connections=2)
    strangers = [await running.call() for _ in range(4)]
    assert all([await stranger.is_closed() for stranger in strangers[:2]])
    assert running.listener.connections == 2


async def test_a_new_certificate_serves_new_connections(listening, files):
    running = await listening(echo, server_context(*files), trusting())
    kept = await running.call()
    old = kept.writer.get_extra_info("peercert")["serialNumber"]
    issued = authority.issue_cert("127.0.0.1")
    with issued.private_key_pem.tempfile() as key, issued.cert_chain_pems[0].tempfile() as certificate:
        running.listener.use(server_context(certificate, key))
    new = await running.call()
    assert new.writer.get_extra_info("peercert")["serialNumber"] != old
    for caller in (kept, new):
        caller.ask("/a")
        assert (await caller.answer()).status == 200

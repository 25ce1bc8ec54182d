"""Requests as they go over the wire."""

import pytest

from opsfleet.polling import Target


@pytest.mark.parametrize(
    ("host", "port", "tls", "authority"),
    [
        ("prod.example", 8443, True, "prod.example:8443"),
        ("prod.example", 443, True, "prod.example"),
        ("prod.example", 443, False, "prod.example:443"),
        ("prod.example", 80, False, "prod.example"),
        ("prod.example", 80, True, "prod.example:80"),
        ("192.0.2.1", 8084, False, "192.0.2.1:8084"),
        ("2001:db8::1", 443, True, "[2001:db8::1]"),
        ("2001:db8::1", 8443, True, "[2001:db8::1]:8443"),
    ],
)
def test_the_host_header_names_the_port_unless_it_is_the_usual_one(
    host: str, port: int, tls: bool, authority: str
) -> None:
    lines = Target("a", host, port, tls).request("/health").split(b"\r\n")
    assert lines[:2] == [b"GET /health HTTP/1.1", f"Host: {authority}".encode()]


def test_the_whole_request() -> None:
    target = Target("a", "prod.example", 443, True, path_prefix="/ops", token="secret")
    assert target.request("/api/v1/metrics/current") == (
        b"GET /ops/api/v1/metrics/current HTTP/1.1\r\n"
        b"Host: prod.example\r\n"
        b"Authorization: Bearer secret\r\n"
        b"User-Agent: opsfleet\r\n"
        b"Accept: application/json\r\n"
        b"\r\n"
    )


def test_without_a_token_nothing_is_claimed() -> None:
    assert b"Authorization" not in Target("a", "prod.example", 443, True).request("/health")


def test_a_target_shows_no_secret() -> None:
    assert "secret" not in repr(Target("a", "prod.example", 443, True, token="secret", ca_certificate="secret"))


def test_a_target_may_be_asked_for_another_format() -> None:
    lines = Target("a", "prod.example", 443, True, accept="text/plain").request("/metrics").split(b"\r\n")
    assert b"Accept: text/plain" in lines
    assert b"Accept: application/json" not in lines

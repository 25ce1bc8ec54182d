"""What may be registered, and what a person is told when it may not."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsfleet.domain.api_urls import ApiUrl, parse_api_url
from opsfleet.domain.errors import InvalidError
from opsfleet.domain.registration import change_of, registration_of, token_of

GOOD: dict[str, Any] = {
    "name": "prod-east-1",
    "hostname": "prod-east-1.example.com",
    "api_url": "https://prod-east-1.example.com:9100",
    "api_token": "secret-token",
}


def test_the_least_that_can_be_registered() -> None:
    registration = registration_of(GOOD)
    assert registration.name == "prod-east-1"
    assert registration.tags == ()
    assert registration.metadata == {}
    assert "secret-token" not in repr(registration)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://a.example.com", ApiUrl(True, "a.example.com", 443, "")),
        ("http://127.0.0.1:9100/", ApiUrl(False, "127.0.0.1", 9100, "")),
        ("https://[::1]:8443/agent/", ApiUrl(True, "::1", 8443, "/agent")),
        ("HTTPS://Server.Example.COM:9100", ApiUrl(True, "server.example.com", 9100, "")),
        ("https://bücher.example", ApiUrl(True, "xn--bcher-kva.example", 443, "")),
        ("https://my_host:9100", ApiUrl(True, "my_host", 9100, "")),
    ],
)
def test_accepted_urls(url: str, parts: ApiUrl) -> None:
    assert parse_api_url(url) == parts


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://a.example.com", "https:// or http://"),
        ("a.example.com:9100", "https:// or http://"),
        ("", "https:// or http://"),
        ("https://", "name a host"),
        ("https://user:pass@a.example.com", "user name"),
        ("https://a.example.com?x=1", "query"),
        ("https://a.example.com#top", "fragment"),
        ("https://a.example.com:99999", "URL such as"),
        ("https://a.example.com:0", "between 1 and 65535"),
        ("https://a b.example.com", "spaces"),
        ("https://a.example.com\r\nX: y", "control characters"),
        ("https://2130706433", "four decimal numbers"),
        ("https://0x7f.1", "four decimal numbers"),
        ("https://127.1", "four decimal numbers"),
        ("https://0177.0.0.1", "four decimal numbers"),
        ("https://-bad-.example.com", "valid host name"),
        ("https://a..example.com", "valid host name"),
        ("https://[::1", "URL such as"),
        ("https://[fe80::1%25eth0]", "IPv6"),
        ("https://" + "a" * 3_000, "at most 2048"),
    ],
)
def test_refused_urls_say_what_is_accepted(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("?", "\\?")):
        parse_api_url(url)


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"name": None}, "name", "required"),
        ({"name": "  "}, "name", "empty"),
        ({"name": 5}, "name", "text"),
        ({"name": "x" * 201}, "name", "at most 200"),
        ({"name": "a\x00b"}, "name", "control"),
        ({"name": "\ud800"}, "name", "control"),
        ({"hostname": None}, "hostname", "required"),
        ({"api_url": "gopher://x"}, "api_url", "https://"),
        ({"api_token": ""}, "api_token", "1 to 4096"),
        ({"api_token": "has space"}, "api_token", "no spaces"),
        ({"api_token": "line\r\nX-Evil: 1"}, "api_token", "no spaces"),
        ({"api_token": None}, "api_token", "required"),
        ({"tags": "web"}, "tags", "list"),
        ({"tags": ["ok", 5]}, "tags.1", "text"),
        ({"tags": [""]}, "tags.0", "1 to 100"),
        ({"tags": ["x"] * 10_000}, "tags", "at most 100"),
        ({"metadata": [1]}, "metadata", "object"),
        ({"metadata": {"a": "\x00"}}, "metadata", "null characters"),
        ({"metadata": {"a": list(range(2_000))}}, "metadata", "at most 1000"),
        ({"surprise": 1}, "surprise", "not a field"),
    ],
)
def test_each_wrong_field_is_named(change: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidError) as caught:
        registration_of({**GOOD, **change})
    assert [(error.field, words in error.message) for error in caught.value.errors] == [(field, True)]


def test_deep_metadata_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(50):
        deep = {"a": deep}
    with pytest.raises(InvalidError, match="nested at most 10 deep"):
        registration_of({**GOOD, "metadata": deep})


def test_all_wrong_fields_are_named_at_once() -> None:
    with pytest.raises(InvalidError) as caught:
        registration_of({"api_url": "x", "tags": 1})
    assert {error.field for error in caught.value.errors} == {"name", "hostname", "api_url", "api_token", "tags"}


def test_something_else_than_an_object_is_refused() -> None:
    for raw in (None, [], "x", 5):
        with pytest.raises(InvalidError, match="must be an object"):
            registration_of(raw)


def test_right_to_left_names_and_emoji_are_fine() -> None:
    assert registration_of({**GOOD, "name": "شبكة-1 🚀"}).name == "شبكة-1 🚀"


def test_duplicate_tags_become_one() -> None:
    assert registration_of({**GOOD, "tags": ["web", "web ", "eu"]}).tags == ("web", "eu")


def test_a_change_takes_any_subset_and_a_status() -> None:
    assert change_of({"status": "maintenance", "region": None}) == {"status": "maintenance", "region": None}
    assert change_of({}) == {}


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"status": "broken"}, "status"),
        ({"status": None}, "status"),
        ({"name": None}, "name"),
        ({"api_token": "x"}, "api_token"),
        ({"id": 1}, "id"),
    ],
)
def test_a_change_refuses_what_cannot_be_changed(raw: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidError) as caught:
        change_of(raw)
    assert [error.field for error in caught.value.errors] == [field]


def test_a_token_stands_alone() -> None:
    assert token_of({"api_token": "new"}) == "new"
    with pytest.raises(InvalidError):
        token_of({"api_token": "new", "name": "x"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@given(raw=st.dictionaries(st.sampled_from([*GOOD, "tags", "metadata", "region", "zzz"]), json_values))
def test_no_object_does_anything_else_than_pass_or_be_named_wrong(raw: dict[str, Any]) -> None:
    with suppress(InvalidError):
        assert registration_of(raw).name


def test_a_node_exporter_needs_no_token_and_an_agent_does() -> None:
    without = {name: value for name, value in GOOD.items() if name != "api_token"}
    assert registration_of(GOOD).kind == "agent"
    assert registration_of({**GOOD, "kind": None}).kind == "agent"
    exporter = registration_of({**without, "kind": "node_exporter"})
    assert (exporter.kind, exporter.api_token) == ("node_exporter", None)
    assert registration_of({**GOOD, "kind": "node_exporter"}).api_token == "secret-token"
    for kind in ({}, {"kind": "agent"}, {"kind": None}):
        with pytest.raises(InvalidError) as found:
            registration_of({**without, **kind})
        assert [(error.field, error.message) for error in found.value.errors] == [("api_token", "is required")]


@pytest.mark.parametrize("kind", ["", "Agent", "prometheus", 7, ["agent"]])
def test_an_unknown_kind_is_refused_with_those_that_are_known(kind: Any) -> None:
    with pytest.raises(InvalidError) as found:
        registration_of({**GOOD, "kind": kind})
    assert [(error.field, error.message) for error in found.value.errors] == [
        ("kind", "must be one of agent, node_exporter")
    ]
    with pytest.raises(InvalidError):
        change_of({"kind": kind})

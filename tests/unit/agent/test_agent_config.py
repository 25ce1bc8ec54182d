"""What an operator may write, and what is said about the rest."""

import hashlib
from pathlib import Path

import pytest

from opsfleet_agent.config import ConfigError, load
from opsfleet_agent.options import OPTIONS
from opsfleet_agent.tokens import AcceptedTokens, new_token, sha256
from opsfleet_agent.values import Address

HASH = hashlib.sha256(b"token").hexdigest()
REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "agent.md"


@pytest.fixture
def written(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "agent.toml"
        path.write_text(text)
        return str(path)

    return write


def test_little_has_to_be_written(written):
    config = load(written(f'token_sha256 = "{HASH.upper()}"'), {})
    assert (config.host, config.port, config.token_sha256) == ("127.0.0.1", 9100, HASH)
    assert config.disks == ("/",)


def test_with_tls_the_agent_is_reachable_from_outside(written):
    lines = [f'token_sha256 = "{HASH}"', 'tls_certificate = "/c.pem"', 'tls_key = "/k.pem"']
    assert load(written("\n".join(lines)), {}).host == "0.0.0.0"
    assert load(written("\n".join([*lines, 'host = "::1"'])), {}).host == "::1"


def test_flags_overrule_the_file(written):
    path = written(f'token_sha256 = "{HASH}"\nport = 1\nunits = ["nginx", "nginx.service", "backup.timer"]')
    config = load(path, {"port": "2", "processes": ["redis-server"], "host": "localhost"})
    assert (config.host, config.port, config.processes) == ("127.0.0.1", 2, ("redis-server",))
    assert config.units == ("nginx.service", "backup.timer")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("db.internal", Address("db.internal", 5432)),
        ("127.0.0.1:6000", Address("127.0.0.1", 6000)),
        ("[::1]:6000", Address("::1", 6000)),
        ("[::1]", Address("::1", 5432)),
        ("::1", Address("::1", 5432)),
        ("/run/postgresql", Address(path="/run/postgresql")),
    ],
)
def test_a_database_is_an_address_or_a_socket(text, address):
    assert load(None, {"database": text}, serving=False).database == address


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("prot = 9100", ["prot", "port"]),
        ("[database]\nhost = 1", ["database", "HOST:PORT"]),
        ("port = 70000", ["port", "70000", "0 to 65535"]),
        ("port = true", ["port", "True"]),
        ('host = "example.com"', ["host", "example.com", "IP address"]),
        ('token_sha256 = "abc"', ["token_sha256", "64 hexadecimal digits"]),
        ('token_file = "relative"', ["token_file", "absolute"]),
        ('units = "nginx"', ["units", "nginx", "a list of"]),
        ('units = ["-x"]', ["units", "-x"]),
        ('units = ["a*"]', ["units", "a*"]),
        ("processes = [1]", ["processes", "1"]),
        ('database = "a:b:c"', ["database", "a:b:c"]),
        ('database = "host:0"', ["database", "host:0"]),
        ('redis = "ho st"', ["redis", "ho st"]),
        ('insecure_http = "yes"', ["insecure_http", "yes", "true or false"]),
        ("application_max_age_seconds = 0", ["application_max_age_seconds", "0", "above 0"]),
        ("application_max_age_seconds = nan", ["application_max_age_seconds", "nan"]),
        ('log_level = "loud"', ["log_level", "loud", "warning"]),
        ('tls_key = "/k.pem"', ["tls_key", "tls_certificate"]),
        ('tls_certificate = "/c.pem"', ["tls_certificate", "tls_key"]),
        ('redis_user = "u"', ["redis_user", "redis_password_file"]),
        ('redis_password_file = "/nowhere/p"', ["redis_password_file", "/nowhere/p", "No such file"]),
        ('host = "0.0.0.0"', ["host", "0.0.0.0", "TLS", "--insecure-http"]),
        ('host = "::"', ["host", "'::'", "TLS"]),
        ("port = x", ["--config", "line 2", "TOML"]),
    ],
)
def test_a_mistake_is_named_in_one_line(written, line, words):
    with pytest.raises(ConfigError) as caught:
        load(written(f"{'' if 'token_sha' in line else f'token_sha256 = {HASH!r}'}\n{line}"), {})
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_token_in_the_place_of_its_hash_is_not_repeated(written):
    token = new_token()
    for text in (f'token_sha256 = "{token}"', f'token = "{token}"'):
        with pytest.raises(ConfigError) as caught:
            load(written(text), {})
        assert token not in str(caught.value)


@pytest.mark.parametrize("line", ['redis = "redis://:hunter2@host"', '[redis]\npassword = "hunter2"'])
def test_a_password_in_a_wrong_place_is_not_repeated(written, line):
    with pytest.raises(ConfigError) as caught:
        load(written(line), {})
    assert "redis" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_without_a_token_nothing_is_served(written):
    with pytest.raises(ConfigError, match="token_sha256 is missing"):
        load(written(""), {})


def test_plain_http_beyond_loopback_has_to_be_wanted(written):
    path = written(f'token_sha256 = "{HASH}"\nhost = "192.0.2.1"')
    assert load(path, {"insecure_http": True}).host == "192.0.2.1"


def test_the_hash_may_be_in_a_file_of_its_own(written, tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{HASH}  -\n")
    assert load(None, {"token_file": str(file)}).token_sha256 == HASH
    file.write_text("a-token")
    with pytest.raises(ConfigError) as caught:
        load(None, {"token_file": str(file)})
    assert "token_file" in str(caught.value)
    assert "a-token" not in str(caught.value)
    with pytest.raises(ConfigError, match="both"):
        load(None, {"token_file": str(file), "token_sha256": HASH})


def test_a_file_that_is_named_has_to_exist(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load(str(tmp_path / "missing.toml"), {})


def test_new_tokens_are_accepted_by_their_hash_only():
    one, other = new_token(), new_token()
    accepted = AcceptedTokens(sha256(one.encode()))
    assert accepted.accept(f"Bearer {one}".encode())
    assert accepted.accept(f"bearer  {one}".encode())
    assert not accepted.accept(f"Bearer {other}".encode())
    assert not accepted.accept(f"Bearer {sha256(one.encode())}".encode())
    assert not accepted.accept(b"Bearer \xff")


def test_every_option_is_in_the_reference():
    reference = REFERENCE.read_text()
    for option in OPTIONS:
        assert f"| `{option.key}` | `{option.flag}` |" in reference

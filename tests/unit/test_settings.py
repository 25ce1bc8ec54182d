"""What an operator may set, and what is said when it is wrong."""

from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsfleet.settings import Settings, SettingsError, default_data_dir

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
KEY_BYTES = b"01234567890123456789012345678901"
EXTERNAL = {"POSTGRES_HOST": "db", "POSTGRES_USER": "fleet", "POSTGRES_DB": "ops", "FLEET_SECRET_KEY": KEY}


def refusal(environ: dict[str, str]) -> str:
    """Return the one line that an environment is refused with."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environ)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_nothing_needs_to_be_set() -> None:
    settings = Settings.from_environment({})
    assert (settings.health_interval, settings.health_batch_size, settings.health_batch_delay) == (30, 10, 0.5)
    assert (settings.metrics_interval, settings.metrics_batch_size, settings.metrics_batch_delay) == (60, 5, 1)
    assert (settings.request_timeout, settings.max_in_flight, settings.results_buffer) == (10, 5_000, 500_000)
    assert settings.http_allow == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert settings.network_deny == (ip_network("169.254.0.0/16"), ip_network("fe80::/10"))
    assert settings.network_allow == ()
    assert (settings.host, settings.port, settings.role) == ("127.0.0.1", 8080, "all")
    assert (settings.retention_health_days, settings.retention_metrics_1m_days) == (90, 30)
    assert settings.database is None
    assert settings.secret_key is None


def test_what_is_set_is_used() -> None:
    settings = Settings.from_environment(
        {"FLEET_HEALTH_INTERVAL": "15", "FLEET_NETWORK_ALLOW": "10.0.0.0/8, fd00::/8", "FLEET_ROLE": "worker"}
    )
    assert settings.health_interval == 15
    assert settings.network_allow == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert settings.role == "worker"


def test_an_empty_value_is_the_default() -> None:
    assert Settings.from_environment(
        {"FLEET_HEALTH_INTERVAL": "", "FLEET_SECRET_KEY": ""}
    ) == Settings.from_environment({})


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.from_environment({}).port = 1


@pytest.mark.parametrize(("is_terminal", "expected"), [(True, "console"), (False, "json")])
def test_logs_are_for_people_on_a_terminal_unless_set(is_terminal: bool, expected: str) -> None:
    assert Settings.from_environment({}, is_terminal=is_terminal).log_format == expected
    assert Settings.from_environment({"FLEET_LOG_FORMAT": "json"}, is_terminal=is_terminal).log_format == "json"


@given(st.integers().filter(lambda seconds: not 1 <= seconds <= 86_400))
def test_an_interval_out_of_range_is_named_with_what_is_accepted(seconds: int) -> None:
    message = refusal({"FLEET_METRICS_INTERVAL": str(seconds)})
    for part in ("FLEET_METRICS_INTERVAL", str(seconds), "1 to 86,400"):
        assert part in message


@given(st.floats(1, 86_400))
def test_every_interval_in_range_is_accepted(seconds: float) -> None:
    assert Settings.from_environment({"FLEET_METRICS_INTERVAL": repr(seconds)}).metrics_interval == seconds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FLEET_HEALTH_INTERVAL", "nan"),
        ("FLEET_HEALTH_INTERVAL", "soon"),
        ("FLEET_HEALTH_BATCH_SIZE", "0"),
        ("FLEET_HEALTH_BATCH_SIZE", "1.5"),
        ("FLEET_HEALTH_BATCH_DELAY", "-0.1"),
        ("FLEET_REQUEST_TIMEOUT", "0.05"),
        ("FLEET_REQUEST_TIMEOUT", "301"),
        ("FLEET_MAX_IN_FLIGHT", "0"),
        ("FLEET_PORT", "65536"),
        ("FLEET_ROLE", "both"),
        ("FLEET_LOG_FORMAT", "xml"),
        ("FLEET_LOG_LEVEL", "loud"),
        ("FLEET_HTTP_ALLOW", "10.0.0.0/33"),
        ("FLEET_DATA_DIR", "data"),
        ("FLEET_RETENTION_HEALTH_DAYS", "0"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    message = refusal({name: value})
    assert name in message
    assert repr(value) in message


def test_a_mistyped_variable_is_refused_with_the_likely_one() -> None:
    message = refusal({"FLEET_SECRET_KYE": "hunter2"})
    assert "FLEET_SECRET_KYE" in message
    assert "did you mean FLEET_SECRET_KEY?" in message
    assert "hunter2" not in message


def test_other_programs_variables_are_none_of_our_business() -> None:
    Settings.from_environment({"PATH": "/bin", "POSTGRES_INITDB_ARGS": "-k"})


class TestDatabase:
    def test_its_parts_become_an_address_that_survives_odd_signs(self) -> None:
        settings = Settings.from_environment({**EXTERNAL, "POSTGRES_PASSWORD": "p@ss/w:rd", "POSTGRES_PORT": "6432"})
        assert settings.database is not None
        assert settings.database.dsn == "postgresql://fleet:p%40ss%2Fw%3Ard@db:6432/ops"

    def test_it_may_be_on_a_socket_or_at_an_ipv6_address(self) -> None:
        for host, expected in {
            "/run/postgresql": "postgresql://fleet@/ops?host=/run/postgresql&port=5432",
            "fd00::5": "postgresql://fleet@[fd00::5]:5432/ops",
        }.items():
            settings = Settings.from_environment({**EXTERNAL, "POSTGRES_HOST": host})
            assert settings.database is not None
            assert settings.database.dsn == expected

    @pytest.mark.parametrize("missing", ["POSTGRES_HOST", "POSTGRES_USER", "POSTGRES_DB"])
    def test_a_missing_part_is_named(self, missing: str) -> None:
        assert missing in refusal({name: value for name, value in EXTERNAL.items() if name != missing})

    def test_two_ways_at_once_are_refused(self) -> None:
        message = refusal({**EXTERNAL, "DATABASE_URL": "postgresql://fleet:hunter2@db/ops"})
        assert "DATABASE_URL" in message
        assert "POSTGRES_" in message
        assert "hunter2" not in message

    def test_another_product_is_refused_without_showing_the_password(self) -> None:
        message = refusal({"DATABASE_URL": "mysql://fleet:hunter2@db/ops", "FLEET_SECRET_KEY": KEY})
        assert "DATABASE_URL" in message
        assert "postgresql://" in message
        assert "hunter2" not in message

    @pytest.mark.parametrize("variable", ["DATABASE_URL", "DATABASE_URL_FILE"])
    @pytest.mark.parametrize(
        "address",
        [
            "postgresql://fleet:hunter2@db:abc/ops",
            "postgresql://fleet:hunter2@db:70000/ops",
            "postgresql://fleet:hunter2@db:5432,other:abc/ops",
            "postgresql://fleet:hunter2@[bad/ops",
            "postgresql://fleet:hunter2/2@db/ops",
            "postgresql://fleet:hunter2@db/ops?sslmode=bogus",
            "hunter2",
        ],
    )
    def test_a_malformed_address_is_refused_unseen(self, address: str, variable: str, tmp_path: Path) -> None:
        (tmp_path / "address").write_text(address)
        value = address if variable == "DATABASE_URL" else str(tmp_path / "address")
        message = refusal({variable: value, "FLEET_SECRET_KEY": KEY})
        assert "DATABASE_URL" in message
        assert "postgresql://user:password@host:5432/database" in message
        assert "hunter2" not in message
        assert "bogus" not in message

    @pytest.mark.parametrize(
        "address",
        [
            "postgres://fleet@db/ops",
            "postgresql://fleet:p%2Fw@db1:5432,db2:5433/ops?sslmode=verify-full",
            "postgresql://fleet@[fd00::5]:5432/ops",
            "postgresql:///ops?host=/run/postgresql",
        ],
    )
    def test_every_usual_form_of_an_address_is_accepted(self, address: str) -> None:
        settings = Settings.from_environment({"DATABASE_URL": address, "FLEET_SECRET_KEY": KEY})
        assert settings.database is not None
        assert settings.database.dsn == address

    def test_a_part_that_spoils_the_address_is_named(self) -> None:
        assert "POSTGRES_HOST" in refusal({**EXTERNAL, "POSTGRES_HOST": "[bad"})

    def test_it_needs_a_key_and_the_refusal_says_how_to_make_one(self) -> None:
        message = refusal({"DATABASE_URL": "postgresql://fleet@db/ops"})
        assert "FLEET_SECRET_KEY" in message
        assert "openssl rand -base64 32" in message


class TestSecrets:
    @pytest.mark.parametrize("written", [KEY, KEY.rstrip("="), KEY_BYTES.hex()])
    def test_the_key_is_accepted_in_base64_and_hexadecimal(self, written: str) -> None:
        assert Settings.from_environment({"FLEET_SECRET_KEY": written}).secret_key_bytes == KEY_BYTES

    @pytest.mark.parametrize("written", ["hunter2", "a passphrase that is long", KEY_BYTES.hex()[:-2], "z" * 64])
    def test_anything_else_is_refused_unseen(self, written: str) -> None:
        message = refusal({"FLEET_SECRET_KEY": written})
        assert "openssl rand -base64 32" in message
        assert written not in message

    def test_none_appears_in_anything_printed(self) -> None:
        settings = Settings.from_environment(
            {
                "DATABASE_URL": "postgresql://fleet:hunter2@db/ops",
                "FLEET_SECRET_KEY": KEY,
                "FLEET_BOOTSTRAP_ADMIN_TOKEN": "hunter2-hunter2-hunter2",
            }
        )
        for text in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
            assert "hunter2" not in text
            assert KEY not in text

    def test_each_can_be_a_file(self, tmp_path: Path) -> None:
        key, password = tmp_path / "key", tmp_path / "password"
        key.write_text(KEY + "\n")
        password.write_text("p w\n")
        environ = {name: value for name, value in EXTERNAL.items() if name != "FLEET_SECRET_KEY"}
        settings = Settings.from_environment(
            {**environ, "FLEET_SECRET_KEY_FILE": str(key), "POSTGRES_PASSWORD_FILE": str(password)}
        )
        assert settings.secret_key_bytes == KEY_BYTES
        assert settings.database is not None
        assert ":p%20w@" in settings.database.dsn

    def test_a_value_and_a_file_at_once_are_refused(self, tmp_path: Path) -> None:
        message = refusal({"FLEET_SECRET_KEY": KEY, "FLEET_SECRET_KEY_FILE": str(tmp_path / "key")})
        assert "FLEET_SECRET_KEY_FILE" in message

    def test_a_file_that_cannot_be_used_is_named(self, tmp_path: Path) -> None:
        empty, binary = tmp_path / "empty", tmp_path / "binary"
        empty.write_text("\n")
        binary.write_bytes(b"\xff\xfe")
        for file in (empty, binary, tmp_path / "missing", tmp_path):
            message = refusal({"FLEET_SECRET_KEY_FILE": str(file)})
            assert "FLEET_SECRET_KEY_FILE" in message
            assert str(file) in message

    def test_what_is_no_secret_cannot_be_a_file(self) -> None:
        assert "FLEET_PORT_FILE" in refusal({"FLEET_PORT_FILE": "/etc/port"})


class TestDataFolder:
    def test_root_has_the_systems(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.geteuid", lambda: 0)
        assert default_data_dir({"HOME": "/root"}) == Path("/var/lib/opsfleet")

    def test_others_have_their_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        assert default_data_dir({"HOME": "/home/ada"}) == Path("/home/ada/.local/share/opsfleet")
        assert default_data_dir({"HOME": "/home/ada", "XDG_DATA_HOME": "/data"}) == Path("/data/opsfleet")
        assert default_data_dir({"HOME": "/home/ada", "XDG_DATA_HOME": "data"}) == Path(
            "/home/ada/.local/share/opsfleet"
        )

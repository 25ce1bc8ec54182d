"""Server tokens at rest: readable with the right key in the right row, and no other way."""

import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsfleet.settings import Settings
from opsfleet.vault import Vault, VaultError, load_or_create_secret_key, token_hash

KEY = bytes(range(32))
ROW, OTHER_ROW = b"row 1", b"row 2"


@given(plain=st.text(), context=st.binary(), key=st.binary(min_size=32, max_size=32))
def test_what_was_encrypted_is_read_again(plain: str, context: bytes, key: bytes) -> None:
    sealed = Vault(key).encrypt(plain, context=context)
    assert Vault(key).decrypt(sealed, context=context) == plain


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_bit_can_be_changed_unnoticed(place: int, bit: int) -> None:
    vault = Vault(KEY)
    sealed = bytearray(vault.encrypt("a token", context=ROW))
    sealed[place % len(sealed)] ^= 1 << bit
    with pytest.raises(VaultError):
        vault.decrypt(bytes(sealed), context=ROW)


@given(st.binary(max_size=80))
def test_rubbish_is_refused(rubbish: bytes) -> None:
    with pytest.raises(VaultError):
        Vault(KEY).decrypt(rubbish, context=ROW)


def test_every_shortened_ciphertext_is_refused() -> None:
    vault = Vault(KEY)
    sealed = vault.encrypt("a token", context=ROW)
    for length in range(len(sealed)):
        with pytest.raises(VaultError):
            vault.decrypt(sealed[:length], context=ROW)


def test_a_ciphertext_is_worth_nothing_in_another_row() -> None:
    vault = Vault(KEY)
    with pytest.raises(VaultError, match="another row"):
        vault.decrypt(vault.encrypt("a token", context=ROW), context=OTHER_ROW)


def test_a_wrong_key_is_told_from_damage() -> None:
    sealed = Vault(KEY).encrypt("a token", context=ROW)
    with pytest.raises(VaultError, match="another key"):
        Vault(KEY[::-1]).decrypt(sealed, context=ROW)


def test_the_same_token_never_looks_the_same_twice() -> None:
    vault = Vault(KEY)
    assert len({vault.encrypt("a token", context=ROW) for _ in range(1_000)}) == 1_000


def test_neither_token_nor_key_is_in_the_ciphertext_or_a_message() -> None:
    sealed = Vault(KEY).encrypt("a token", context=ROW)
    assert b"a token" not in sealed
    with pytest.raises(VaultError) as caught:
        Vault(KEY).decrypt(sealed, context=OTHER_ROW)
    assert "a token" not in str(caught.value)


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(VaultError, match="31 bytes"):
        Vault(KEY[:-1])


def test_a_token_is_recognised_by_its_sha256() -> None:
    assert token_hash("a token") == hashlib.sha256(b"a token").digest()


class TestKeptKey:
    def test_it_is_made_once_for_its_owner_only(self, tmp_path: Path) -> None:
        key = load_or_create_secret_key(tmp_path / "data")
        assert len(key) == 32
        assert load_or_create_secret_key(tmp_path / "data") == key
        assert stat.S_IMODE((tmp_path / "data" / "secret.key").stat().st_mode) == 0o600
        assert [file.name for file in (tmp_path / "data").iterdir()] == ["secret.key"]

    def test_all_who_come_at_once_get_the_same(self, tmp_path: Path) -> None:
        with ThreadPoolExecutor(16) as threads:
            keys = set(threads.map(load_or_create_secret_key, [tmp_path] * 64))
        assert len(keys) == 1

    def test_the_file_serves_as_the_settings_key_when_moving_to_an_external_database(self, tmp_path: Path) -> None:
        key = load_or_create_secret_key(tmp_path)
        settings = Settings.from_environment({"FLEET_SECRET_KEY_FILE": str(tmp_path / "secret.key")})
        assert settings.secret_key_bytes == key

    @pytest.mark.parametrize("content", [b"", b"hunter2\n", b"\xff" * 32])
    def test_a_damaged_one_is_never_replaced(self, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "secret.key"
        file.write_bytes(content)
        with pytest.raises(VaultError, match=r"secret\.key") as caught:
            load_or_create_secret_key(tmp_path)
        assert "hunter2" not in str(caught.value)
        assert file.read_bytes() == content

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(VaultError, match="file/data"):
            load_or_create_secret_key(tmp_path / "file" / "data")

"""Secrets at rest: AES-256-GCM (NIST SP 800-38D), each bound to the row that it belongs to.

A ciphertext is one byte of format version, four bytes that identify the key, a nonce of twelve random bytes, and the
sealed text with its tag of sixteen bytes.
"""

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32

_VERSION = 1
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12
_HEAD_BYTES = 1 + _KEY_ID_BYTES + _NONCE_BYTES
_KEY_FILE = "secret.key"


class VaultError(Exception):
    """A secret cannot be read, or the key cannot be had; the message is one sentence without the secret."""


class Vault:
    """Encrypts and decrypts short texts with one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise VaultError(f"the secret key has {len(key)} bytes; it must have {KEY_BYTES}")
        self._cipher = AESGCM(key)
        self._key_id = hashlib.sha256(b"opsfleet key id" + key).digest()[:_KEY_ID_BYTES]

    def encrypt(self, plain: str, *, context: bytes) -> bytes:
        """Return `plain` sealed, so that it opens only with the same `context` (such as its row's id)."""
        nonce = os.urandom(_NONCE_BYTES)
        return bytes([_VERSION]) + self._key_id + nonce + self._cipher.encrypt(nonce, plain.encode(), context)

    def decrypt(self, ciphertext: bytes, *, context: bytes) -> str:
        """Return the text that was sealed.

        Raises:
            VaultError: when it was sealed with another key or context, or was changed.
        """
        if len(ciphertext) <= _HEAD_BYTES or ciphertext[0] != _VERSION:
            raise VaultError("the stored secret has an unknown format")
        if ciphertext[1 : 1 + _KEY_ID_BYTES] != self._key_id:
            raise VaultError("the stored secret was encrypted with another key than FLEET_SECRET_KEY")
        nonce = ciphertext[1 + _KEY_ID_BYTES : _HEAD_BYTES]
        try:
            return self._cipher.decrypt(nonce, ciphertext[_HEAD_BYTES:], context).decode()
        except InvalidTag:
            raise VaultError("the stored secret was changed, or belongs to another row") from None


def token_hash(token: str) -> bytes:
    """Return the SHA-256 of a token, by which it is recognised. Tokens are random, so no salt is needed."""
    return hashlib.sha256(token.encode()).digest()


def load_or_create_secret_key(data_dir: Path) -> bytes:
    """Return the key kept in `data_dir`, made on first use and readable by its owner only.

    Several processes may come at once: the first one's key is everybody's.

    Raises:
        VaultError: when the file cannot be read or written, or holds no key.
    """
    file = data_dir / _KEY_FILE
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            _create(file)
        key = bytes.fromhex(file.read_text().strip())
    except OSError as error:
        raise VaultError(f"the secret key {file} cannot be used: {error.strerror}") from None
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise VaultError(f"the secret key {file} is damaged; put the right one back, or stored tokens are lost")
    return key


def _create(file: Path) -> None:
    """Write a new key beside `file` and link it there, unless somebody else was faster: never half a key."""
    draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(KEY_BYTES) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink()

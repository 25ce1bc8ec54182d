"""Secrets at rest: AES-256-GCM, bound to the row they belong to."""

import hashlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class VaultError(Exception):
    pass


class Vault:
    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)
        self._id = hashlib.sha256(b"id" + key).digest()[:4]

    def encrypt(self, plain: str, *, context: bytes) -> bytes:
        nonce = os.urandom(12)
        return b"\x01" + self._id + nonce + self._aead.encrypt(nonce, plain.encode(), context)

    def decrypt(self, ciphertext: bytes, *, context: bytes) -> str:
        try:
            return self._aead.decrypt(ciphertext[5:17], ciphertext[17:], context).decode()
        except InvalidTag:
            raise VaultError("cannot decrypt") from None


def token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def load_or_create_secret_key(data_dir: Path) -> bytes:
    p = data_dir / "secret.key"
    if not p.exists():
        p.write_bytes(os.urandom(32)); p.chmod(0o600)
    return p.read_bytes()

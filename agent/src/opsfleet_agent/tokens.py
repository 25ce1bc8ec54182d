"""Bearer tokens. The agent keeps only their SHA-256 hashes."""

import hashlib
import hmac


def new_token() -> str:
    """Return a new random token: 256 bits, safe in a header."""
    import secrets  # noqa: PLC0415 - a running agent never makes one, and need not hold this in memory

    return "opsfleet_" + secrets.token_urlsafe(32)


def sha256(token: bytes) -> str:
    """Return the hash of `token` in lower-case hexadecimal. A random token of 256 bits needs no salt or stretching."""
    return hashlib.sha256(token).hexdigest()


class AcceptedTokens:
    """The tokens that callers may present, by their hashes."""

    def __init__(self, *hashes: str) -> None:
        self._hashes = hashes

    def accept(self, authorization: bytes) -> bool:
        """Tell whether the value of an `Authorization` header (RFC 6750, section 2.1) holds an accepted token.

        The comparison takes the same time for every token that is not accepted.
        """
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        presented = sha256(token.strip())
        accepted = False
        for known in self._hashes:
            accepted |= hmac.compare_digest(presented, known)
        return accepted

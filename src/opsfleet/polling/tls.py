"""TLS contexts, and certificate errors in words."""

import hashlib
import ssl
from collections import OrderedDict
from datetime import datetime

from cryptography import x509

from opsfleet.polling.outcome import Fault, FaultKind

# Numbers of OpenSSL's X509_V_ERR_*.
_NOT_YET_VALID = 9
_EXPIRED = 10
_SELF_SIGNED = (18, 19)
_UNKNOWN_ISSUER = (2, 20, 21)
_WRONG_NAME = (62, 64)


class TlsContexts:
    """Client contexts with verification: one for the system's authorities, one for each own CA bundle.

    Contexts cost memory and time to make, so the most recently used are kept.
    """

    def __init__(self, *, keep: int = 1_000) -> None:
        self._keep = keep
        self._contexts: OrderedDict[bytes, ssl.SSLContext] = OrderedDict()

    def get(self, ca_certificate: str | None) -> ssl.SSLContext:
        """Return the verifying context that trusts `ca_certificate` (PEM) or, without one, the system's authorities.

        Raises:
            ValueError: when `ca_certificate` holds no certificate.
        """
        if ca_certificate is not None and not (ca_certificate and ca_certificate.isascii()):
            raise ValueError("the CA certificate is not a PEM certificate")
        name = b"" if ca_certificate is None else hashlib.sha256(ca_certificate.encode()).digest()
        context = self._contexts.get(name)
        if context is not None:
            self._contexts.move_to_end(name)
            return context
        try:
            context = ssl.create_default_context(cadata=ca_certificate)
        except ssl.SSLError as error:
            raise ValueError("the CA certificate is not a PEM certificate") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        self._contexts[name] = context
        if len(self._contexts) > self._keep:
            self._contexts.popitem(last=False)
        return context

    @staticmethod
    def unverified() -> ssl.SSLContext:
        """Return a context that looks at a certificate without trusting it. Nothing may be sent over it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


def is_expired(error: BaseException) -> bool:
    """Say whether verification failed because a certificate's time is over."""
    return isinstance(error, ssl.SSLCertVerificationError) and error.verify_code == _EXPIRED


def not_after(der: bytes) -> datetime:
    """Return the end of validity (UTC) of a certificate in DER."""
    return x509.load_der_x509_certificate(der).not_valid_after_utc


def fault_of(error: ssl.SSLError, host: str, expired_on: datetime | None = None) -> Fault:
    """Put a TLS error into one sentence. `expired_on` is the peer certificate's end, when it is known."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        reason = (error.reason or "handshake failed").lower().replace("_", " ")
        return Fault(FaultKind.TLS, f"TLS failed: {reason}", {"reason": error.reason or ""})
    code = error.verify_code
    facts: dict[str, object] = {"verify_code": code, "reason": error.verify_message}
    if code == _EXPIRED:
        if expired_on is None:
            return Fault(FaultKind.TLS, "certificate expired", facts)
        facts["expired_on"] = expired_on.isoformat()
        return Fault(FaultKind.TLS, f"certificate expired on {expired_on:%Y-%m-%d}", facts)
    if code == _NOT_YET_VALID:
        return Fault(FaultKind.TLS, "certificate is not valid yet", facts)
    if code in _SELF_SIGNED:
        return Fault(FaultKind.TLS, "certificate is self-signed and not trusted", facts)
    if code in _UNKNOWN_ISSUER:
        return Fault(FaultKind.TLS, "certificate is not signed by a trusted authority", facts)
    if code in _WRONG_NAME:
        return Fault(FaultKind.TLS, f"certificate is not valid for {host}", facts)
    return Fault(FaultKind.TLS, f"certificate not accepted: {error.verify_message}", facts)

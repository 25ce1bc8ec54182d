"""TLS of a connection, done in memory.

asyncio's own TLS holds 256 KiB for each connection and counts a connection only after its handshake. Here a connection
costs a tenth of that, and one that never ends its handshake falls under the same limits as any other.
"""

import ssl

READ_BYTES = 16 * 1024


class TlsError(Exception):
    """The caller does not speak TLS, or none that is accepted."""


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """Return the settings: TLS 1.2 with forward secrecy and AEAD ciphers, or TLS 1.3.

    Raises:
        OSError: when a file cannot be read or does not hold what it should.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key, password=_refuse_passphrase)
    return context


class Tls:
    """The TLS of one connection: bytes of the network on one side, plain bytes on the other."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken = False

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the network and return the plain bytes that they hold, which may be none.

        Raises:
            TlsError: when the connection cannot go on; `unsent` may then hold an alert.
        """
        self._incoming.write(data)
        plain = []
        try:
            if not self._shaken:
                self._object.do_handshake()
                self._shaken = True
            while piece := self._object.read(READ_BYTES):
                plain.append(piece)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        except ssl.SSLError as error:
            raise TlsError(error.reason or "TLS failed") from None
        return b"".join(plain)

    def send(self, plain: bytes) -> None:
        """Encrypt `plain`; what goes to the network is then in `unsent`.

        Raises:
            TlsError: when the connection cannot go on.
        """
        try:
            # An empty write would be an empty record.
            if plain:
                self._object.write(plain)
        except ssl.SSLError as error:
            raise TlsError(error.reason or "TLS failed") from None

    def end(self) -> None:
        """Say that nothing follows; what goes to the network is then in `unsent`."""
        try:
            self._object.unwrap()
        except (ssl.SSLError, ValueError):
            # The caller's own farewell is not waited for.
            return

    def unsent(self) -> bytes:
        """Return the bytes for the network, once."""
        return self._outgoing.read()


def _refuse_passphrase() -> str:
    # Without this, OpenSSL would ask at the terminal and wait.
    raise OSError("the key is encrypted")

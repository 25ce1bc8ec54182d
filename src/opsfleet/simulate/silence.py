"""Addresses that drop every attempt to connect, as a firewall does."""

import socket
from contextlib import suppress


def open_silence(address: str, port: int) -> socket.socket:
    """Return a socket that makes the kernel drop each SYN to `address` and `port` until it is closed.

    A listener whose queue is full drops them, and a queue of length 0 is full with one connection that nobody accepts;
    see `sk_acceptq_is_full` in Linux. The address takes precedence over the fleet's wildcard listener, which must have
    SO_REUSEPORT too.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address, port))
        sock.listen(0)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as filler:
            filler.setblocking(False)
            # On loopback the kernel completes the handshake within this very call.
            with suppress(BlockingIOError):
                filler.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return sock

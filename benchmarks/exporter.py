"""A minimal exporter on every loopback address: 12 values in Prometheus' text format, as cheaply as possible."""

import asyncio
import socket
import sys

import uvloop

_VALUES = "".join(f"fleet_value_{number} {number * 1.5}\n" for number in range(12)).encode()
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n" % len(_VALUES) + _VALUES
)


class Exporter(asyncio.Protocol):
    """Answers every request alike."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(_ANSWER)  # type: ignore[attr-defined]


async def main(port: int) -> None:
    """Serve until terminated."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    listener.bind(("0.0.0.0", port))
    listener.listen(4096)
    server = await asyncio.get_running_loop().create_server(Exporter, sock=listener)
    await server.serve_forever()


uvloop.run(main(int(sys.argv[1])))

"""Names to addresses, without a thread each, cached for as long as their records say."""

import asyncio
import socket
import time
from ipaddress import ip_address

import aiodns

MAX_TTL = 24 * 3600.0


class ResolutionError(Exception):
    """A name could not be resolved; the message is one readable sentence."""


class Resolver:
    """Resolves names through c-ares (hosts file included) and keeps answers for their time to live.

    Concurrent questions for one name are asked once. Failures are not kept here, so the next poll asks again (c-ares
    keeps a "no such name" for as long as the zone says). Addresses come in the order of preference of RFC 6724.
    """

    def __init__(self, *, timeout: float = 2.0, tries: int = 2, nameservers: list[str] | None = None) -> None:
        self._timeout = timeout
        self._tries = tries
        self._nameservers = nameservers
        self._ares: aiodns.DNSResolver | None = None
        self._answers: dict[str, tuple[float, list[str]]] = {}
        self._questions: dict[str, asyncio.Task[list[str]]] = {}

    async def resolve(self, host: str) -> list[str]:
        """Return the addresses of `host`, at least one. An address is returned as it is.

        Raises:
            ResolutionError: when there is no such name, no address, or no answer in time.
        """
        if is_address(host):
            return [host]
        answer = self._answers.get(host)
        if answer is not None and answer[0] > time.monotonic():
            return answer[1]
        question = self._questions.get(host)
        if question is None:
            question = asyncio.create_task(self._ask(host))
            self._questions[host] = question
            question.add_done_callback(lambda done: self._answered(host, done))
        # One impatient caller must not take the answer away from the others.
        return await asyncio.shield(question)

    async def close(self) -> None:
        """End open questions and free the channel."""
        questions = list(self._questions.values())
        for question in questions:
            question.cancel()
        await asyncio.gather(*questions, return_exceptions=True)
        if self._ares is not None:
            await self._ares.close()
            self._ares = None

    def _answered(self, host: str, question: asyncio.Task[list[str]]) -> None:
        self._questions.pop(host, None)
        if not question.cancelled():
            question.exception()  # marks it as seen when every caller has gone

    async def _ask(self, host: str) -> list[str]:
        if self._ares is None:
            self._ares = aiodns.DNSResolver(nameservers=self._nameservers, timeout=self._timeout, tries=self._tries)
        try:
            result = await self._ares.getaddrinfo(host, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as error:
            reason = error.args[1] if len(error.args) > 1 else str(error)
            raise ResolutionError(f"cannot resolve {host}: {reason}") from None
        except UnicodeError:
            raise ResolutionError(f"cannot resolve {host}: not a valid name") from None
        addresses: list[str] = []
        ttl = min([MAX_TTL, *(float(alias.ttl) for alias in result.cnames)])
        for node in result.nodes:
            address = node.addr[0]
            text = address.decode() if isinstance(address, bytes) else str(address)
            if text not in addresses:
                addresses.append(text)
            ttl = min(ttl, float(node.ttl))
        if not addresses:
            raise ResolutionError(f"cannot resolve {host}: it has no address")
        if ttl > 0:
            self._answers[host] = (time.monotonic() + ttl, addresses)
        else:
            self._answers.pop(host, None)
        return addresses


def is_address(host: str) -> bool:
    """Say whether `host` is an IPv4 or IPv6 address rather than a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True

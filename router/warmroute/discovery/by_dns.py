"""The addresses of a DNS name are workers: A, else AAAA records of `name:port`, or SRV records.

A name is asked again when its TTL has passed, within a floor and a ceiling. Addresses of both families are
mostly the same machines twice, so IPv6 counts only where there is no IPv4. Of SRV records those of the
lowest priority are taken, as clients must; their weights are shares, not speeds, and are not read.

No answer (a time-out, SERVFAIL) is a failure: the workers stay. An answer that knows nothing (NXDOMAIN, no
records) is what a DNS server says too while it starts or reloads its zone, so it must come `gone_after`
times in a row.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final

import dns.asyncresolver
import dns.exception
import dns.resolver

from warmroute.config.names import DnsName, is_address
from warmroute.discovery.backoff import Backoff
from warmroute.discovery.found import Found, Report, in_words

if TYPE_CHECKING:
    from dns.resolver import Answer

# One question, all servers and retries together; a resolver that needs longer is down.
_TIMEOUT_S: Final = 5.0

# Each question has a socket of its own, and an SRV answer may name a thousand hosts.
_QUESTIONS_AT_ONCE: Final = 32

# What fits a datagram everywhere; a longer answer is cut by the server and asked for again by TCP.
_DATAGRAM_BYTES: Final = 1232

_PORT: Final = 53

# `[address]`, or one without colons, and perhaps a port; what is left is an IPv6 address without brackets.
_SERVER: Final = re.compile(r"(?:\[([^]]*)\]|([^][:]*))(?::([0-9]{1,5}))?")


class DnsSource:
    """State: the name and the resolver; how often in a row nothing was known of the name."""

    kind = "dns"

    def __init__(
        self,
        name: DnsName,
        resolver: dns.asyncresolver.Resolver,
        floor_s: float,
        ceiling_s: float,
        gone_after: int,
    ) -> None:
        self.target = name.name if name.port is None else f"{name.name}:{name.port}"
        self._name = name
        self._resolver = resolver
        self._floor_s = floor_s
        self._ceiling_s = ceiling_s
        self._gone_after = gone_after
        self._empty = 0

    async def run(self, report: Report) -> None:
        """Writes. Asks until it is cancelled."""
        backoff = Backoff(self._floor_s, self._ceiling_s)
        while True:
            try:
                workers, ttl_s = await self._ask()
            except (dns.exception.DNSException, OSError, ValueError) as error:
                report.failed(in_words(error))
                await asyncio.sleep(backoff.next_s())
                continue
            backoff.reset()
            self._empty = 0 if workers else self._empty + 1
            if workers or self._empty >= self._gone_after:
                report.found(workers)
            else:
                report.failed("nothing is known of the name")
            await asyncio.sleep(min(max(ttl_s, self._floor_s), self._ceiling_s) if workers else self._floor_s)

    async def _ask(self) -> tuple[list[Found], float]:
        """The workers and the time that this holds. Raises DNSException, OSError and ValueError."""
        name = self._name
        if name.port is not None:
            addresses, ttl_s = await self._addresses(name.name)
            return [Found(name.backend(address, name.port)) for address in addresses], ttl_s
        answer = await self._records(name.name, "SRV")
        if answer is None:
            return [], 0.0
        lowest = min(record.priority for record in answer)
        ttl_s = float(answer.ttl)
        records = [record for record in answer if record.priority == lowest]
        turn = asyncio.Semaphore(_QUESTIONS_AT_ONCE)

        async def resolved(host: str) -> tuple[list[str], float]:
            async with turn:
                return await self._addresses(host)

        asked = await asyncio.gather(*(resolved(record.target.to_text()) for record in records))
        workers = []
        for record, (addresses, address_ttl_s) in zip(records, asked, strict=True):
            if addresses:
                ttl_s = min(ttl_s, address_ttl_s)
            workers += [Found(name.backend(address, record.port)) for address in addresses]
        return workers, ttl_s

    async def _addresses(self, name: str) -> tuple[list[str], float]:
        for kind in ("A", "AAAA"):
            answer = await self._records(name, kind)
            if answer is not None:
                return sorted(record.address for record in answer), float(answer.ttl)
        return [], 0.0

    async def _records(self, name: str, kind: str) -> _Records | None:
        """None: the name has none. Raises DNSException and OSError where that is not known."""
        try:
            answer: Answer = await self._resolver.resolve(
                name, kind, search=True, raise_on_no_answer=False, lifetime=_TIMEOUT_S
            )
        except dns.resolver.NXDOMAIN:
            return None
        return None if answer.rrset is None else _Records(answer)


class _Records(list[Any]):
    """Records of one kind, whose fields depend on the kind, and how long they hold."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.ttl: int = answer.chaining_result.minimum_ttl


def resolver_for(server: str | None) -> dns.asyncresolver.Resolver:
    """The system's resolver, or one for `address` or `address:port`. Raises ValueError and DNSException."""
    resolver = dns.asyncresolver.Resolver(configure=server is None)
    if server is not None:
        found = _SERVER.fullmatch(server)
        address, port = (server, None) if found is None else (found[1] or found[2], found[3])
        resolver.port = int(port or _PORT)
        if not is_address(address) or not 0 < resolver.port <= 65535:
            raise ValueError(f"expected an address or address:port, got {server!r}")
        resolver.nameservers = [address]
    resolver.use_edns(0, 0, _DATAGRAM_BYTES)
    return resolver

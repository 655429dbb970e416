"""A DNS server on a UDP socket of its own: a test writes the records, breaks it, and sees what was asked."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


@dataclass
class DnsServer:
    """State: the zone, how it fails, the questions so far."""

    socket: socket.socket
    records: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """By name without its last dot, and kind."""
    ttl_s: int = 0
    fails: dns.rcode.Rcode | None = None
    """Answered instead of what is known."""
    silent: bool = False
    questions: list[tuple[str, str]] = field(default_factory=list)

    @property
    def address(self) -> str:
        host, port = self.socket.getsockname()
        return f"{host}:{port}"

    def asked(self, name: str) -> int:
        """How often this name was asked for, whatever kind of record."""
        return sum(question == name for question, _ in self.questions)

    def serve(self) -> None:
        """Until the socket is closed."""
        while True:
            try:
                data, client = self.socket.recvfrom(4096)
            except OSError:
                return
            if not data:
                return
            answer = self._answer(dns.message.from_wire(data))
            if answer is not None:
                with contextlib.suppress(OSError):
                    self.socket.sendto(answer.to_wire(), client)

    def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        self.questions.append((name, kind))
        if self.silent:
            return None
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        if self.fails is not None:
            answer.set_rcode(self.fails)
        elif records := self.records.get((name, kind)):
            answer.answer.append(dns.rrset.from_text(question.name, self.ttl_s, "IN", kind, *records))
        elif not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer


@contextlib.contextmanager
def dns_server() -> Iterator[DnsServer]:
    """A server for the block's time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        server = DnsServer(one)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", one.getsockname())  # an empty datagram ends it
            thread.join(20)
            assert not thread.is_alive()

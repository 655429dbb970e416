"""The HTTP front of a real router: whatever clients send, it answers in form or closes, and mixes nothing up.

Oracles. Every connection ends, with whole answers and nothing between them. What was valid is answered 200,
in order, with its own nonce. No connection ever sees a nonce that was not sent on it. The router's log has no
traceback, its books are empty behind every few batches, and it serves on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import httptools

from fuzzing.grammar import NONCE, Made, made
from fuzzing.mutation import mutate, pieces
from fuzzing.target import Finding
from live.fake_worker import Call, fake_workers
from live.front import CHAT, Front
from live.processes import Process, spawn_router

# Connections at a time, so that those that wait for a time-out hold up no others.
BATCH = 128

# Behind what a case sends. Whatever the case left open, the connection ends with this or with a time-out.
LAST = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"

PATIENCE_S = 30.0

# Short, since many a case ends with one; yet no pause of a busy machine between a connection's opening and
# its first bytes is to look like a client that went silent.
_TIMEOUT_S = "2"

_FLAGS = (
    "--no-model-discovery", "--health-interval-s", "0.5", "--max-body-bytes", "1MiB",
    "--head-timeout-s", _TIMEOUT_S, "--body-timeout-s", _TIMEOUT_S, "--keepalive-timeout-s", _TIMEOUT_S,
    "--eject-after-failures", "1000000",
)  # fmt: skip


def answers_nonces(call: Call, ahead: bytearray) -> None:
    """What a worker does from a request's head on: it answers with all nonces, as a stream if one was asked
    for."""
    call.body = call.read_whole(ahead)
    found = [nonce.decode() for nonce in NONCE.findall(call.line.encode() + call.body)]
    if b'"stream": true' not in call.body:
        call.answer(json.dumps({"nonces": found}).encode())
        return
    call.stream()
    for nonce in found:
        call.chunk(b"data: %b\n\n" % nonce.encode())
    call.chunk(b"data: [DONE]\n\n")
    call.end()


class FrontTarget:
    """State: the router and its workers."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._nonces: set[bytes] = set()
        """Of all requests so far."""

    def once(self, chance: random.Random) -> int:
        """Plays a batch of connections. Raises Finding."""
        cases = [connection_case(chance) for _ in range(BATCH)]
        seen = asyncio.run(self._play([bits for _, _, bits in cases]))
        self._nonces |= {request.nonce for requests, _, _ in cases for request in requests}
        for (requests, valid, bits), data in zip(cases, seen, strict=True):
            judge(requests, b"".join(bits), data, self._nonces, valid=valid)
        return BATCH

    def play(self, data: bytes) -> None:
        """Plays one connection's bytes, as they are. Raises Finding."""
        (seen,) = asyncio.run(self._play([[data]]))
        judge([], data, seen, self._nonces, valid=False)

    def settle(self) -> None:
        """Looks at the log, the books, and whether the router serves. Raises Finding."""
        faults = self._front.router.faults()
        if faults:
            raise Finding("the router's log: " + "\n".join(faults[:40]))
        try:
            self._front.wait_idle()
            status = self._front.ask(CHAT).status
        except (AssertionError, OSError) as error:
            raise Finding(f"the router does not serve on: {error}") from error
        if status != 200:
            raise Finding(f"the router does not serve on: {status}")
        for worker in self._front.workers:
            worker.calls.clear()

    async def _play(self, cases: list[list[bytes]]) -> list[bytes]:
        return await asyncio.gather(*(self._connection(bits) for bits in cases))

    async def _connection(self, bits: list[bytes]) -> bytes:
        data = b"".join(bits)
        try:
            async with asyncio.timeout(PATIENCE_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._front.router.port)
                sending = asyncio.create_task(_send(writer, [*bits, LAST]))
                try:
                    return await reader.read(-1)
                except ConnectionError:
                    return b""  # cut: what was on its way is lost with it
                finally:
                    sending.cancel()
                    writer.transport.abort()
        except TimeoutError:
            raise Finding(f"neither an answer nor an end within {PATIENCE_S:g} s", data) from None
        except OSError as error:
            raise Finding(f"the router takes no connection: {error}", data) from error


async def _send(writer: asyncio.StreamWriter, bits: list[bytes]) -> None:
    with contextlib.suppress(ConnectionError):
        for bit in bits:
            writer.write(bit)
            await writer.drain()
            await asyncio.sleep(0)


def connection_case(chance: random.Random) -> tuple[list[Made], bool, list[bytes]]:
    """Requests of one connection, whether they are still valid, and their bytes in pieces."""
    requests = [made(chance) for _ in range(chance.choice((1, 1, 2, 3, 6)))]
    data = b"".join(request.data for request in requests)
    valid = chance.random() < 0.3
    if not valid:
        data = mutate(chance, data)
    return requests, valid, pieces(chance, data)


class _Answers:
    """llhttp's callbacks. State: the answers so far."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.bodies: list[bytes] = []
        self.fields: list[bytes] = []
        self.open = False

    def on_message_begin(self) -> None:
        """Called by llhttp."""
        self.open = True
        self.bodies.append(b"")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by llhttp."""
        self.fields += name, value

    def on_body(self, body: bytes) -> None:
        """Called by llhttp."""
        self.bodies[-1] += body

    def on_message_complete(self) -> None:
        """Called by llhttp."""
        self.open = False
        self.statuses.append(self.parser.get_status_code())

    parser: httptools.HttpResponseParser

    def said(self) -> bytes:
        """Reads. All of it but metrics, which name the models that anybody asked for."""
        pages = (body for body in self.bodies if not body.startswith(b"# HELP"))
        return b"\n".join([*self.fields, *pages])


def judge(requests: list[Made], sent: bytes, seen: bytes, nonces: set[bytes], *, valid: bool) -> None:
    """Looks at what a connection brought; `nonces` are those of everybody. Raises Finding."""
    answers = _Answers()
    parser = answers.parser = httptools.HttpResponseParser(answers)
    try:
        parser.feed_data(seen)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise Finding(f"what was answered is not HTTP ({error}): {seen[-300:]!r}", sent) from error
    if answers.open:
        raise Finding(f"the last answer is not whole: {seen[-300:]!r}", sent)
    own = {request.nonce for request in requests} | set(NONCE.findall(sent))
    strangers = nonces.intersection(NONCE.findall(answers.said())) - own
    if strangers:
        raise Finding(f"an answer to somebody else: {strangers}", sent)
    internal = [body for status, body in zip(answers.statuses, answers.bodies, strict=True) if status == 500]
    if internal:
        raise Finding(f"a fault inside the router: {internal[0][:300]!r}", sent)
    if valid:
        _judge_valid(requests, answers, sent)


def _judge_valid(requests: list[Made], answers: _Answers, sent: bytes) -> None:
    final = [
        (status, body) for status, body in zip(answers.statuses, answers.bodies, strict=True) if status >= 200
    ]
    if len(final) != len(requests) + 1:
        raise Finding(f"{len(requests) + 1} requests, {len(final)} answers: {answers.statuses}", sent)
    for request, (status, body) in zip(requests, final, strict=False):
        if request.served and (status != 200 or NONCE.findall(body) != [request.nonce]):
            raise Finding(f"{status} and not its own answer: {body[:300]!r}", sent)


@contextlib.contextmanager
def front_target(folder: Path) -> Iterator[FrontTarget]:
    """A router in front of two workers."""
    with fake_workers(2) as workers:
        listed = [word for worker in workers for word in ("--backend", worker.url)]
        router = spawn_router(folder / "router.log", *listed, *_FLAGS)
        front = Front(router, workers)
        for worker in workers:
            worker.on_head = answers_nonces
        try:
            yield FrontTarget(front)
        finally:
            Process.kill(router)

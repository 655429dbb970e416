"""The worker's side: where answers end, what is passed on, and the token counts in their tails.

Oracles. Bytes mean the same whatever pieces they come in: fed whole and fed in pieces, an answer has the
same head, the same body and the same end, or is refused both times. What is valid ends where it ends. A
real router passes a valid answer on byte for byte, and cuts or refuses what is damaged. Token counts are
found in any cut of a stream, and nothing makes their reader raise.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path

from fuzzing.mutation import mutate, pieces
from fuzzing.target import Finding
from live.fake_worker import Call, chunk, fake_workers
from live.front import CHAT_PATH, STREAM, Front
from live.processes import Process, spawn_router
from live.wire import request
from warmroute.usage import TAIL_BYTES, find_usage
from warmroute.wire.answers import AnswerHeads, BadAnswer, body_of

# A damaged answer may go on behind its end: no valid one follows on its connection.
_FLAGS = (
    "--no-model-discovery", "--first-byte-timeout-s", "1", "--idle-timeout-s", "1", "--retries", "0",
    "--eject-after-failures", "1000000", "--idle-connections-per-worker", "0",
)  # fmt: skip

Read = tuple[object, ...]
"""All that was made of an answer."""


def made_answer(chance: random.Random) -> tuple[bytes, bytes]:
    """A valid answer's head and body."""
    status = chance.choice((b"200 OK", b"200 OK", b"201 Created", b"404 Not Found", b"429 Slow", b"200 \xfc"))
    fields = b"".join(
        chance.sample(
            (b"Content-Type: application/json\r\n", b"date: today\r\n", b"x:\r\n", b"server: uvicorn\r\n",
             b"x-y: a\tb\r\n", b"set-cookie: a=b\r\nset-cookie: c=d\r\n"), chance.randrange(4),
        )
    )  # fmt: skip
    events = [_event(chance) for _ in range(chance.randrange(1, 12))]
    if chance.random() < 0.6:
        body = b"".join(map(chunk, events)) + b"0\r\n" + chance.choice((b"", b"", b"x-sum: 0\r\n")) + b"\r\n"
        return b"HTTP/1.1 %b\r\n%btransfer-encoding: chunked\r\n\r\n" % (status, fields), body
    body = b"".join(events)
    return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n" % (status, fields, len(body)), body


def _event(chance: random.Random) -> bytes:
    return b"data: %b\n\n" % chance.choice(
        (b"[DONE]", b"0\r\n\r\n", b'{"choices": []}', b'{"usage": null}', b"x" * chance.randrange(1, 9000),
         b"HTTP/1.1 200 OK\r\n\r\n", b'{"text": "\\"usage\\": {}"}', b"\0\xff")
    )  # fmt: skip


def read_whole(bits: list[bytes]) -> Read:
    """What the worker's side makes of an answer that comes in these pieces."""
    heads, held, body, taken = AnswerHeads(), b"", None, b""
    said: Read = ()
    ended = 0
    try:
        for bit in bits:
            data = bit
            if body is None:
                held += data
                found = heads.read(held)
                if found is None:
                    continue
                head, length, end = found
                said = (head.status, head.line, head.keep_alive, length, end)
                body = body_of(head, length, payload=False)
                data, ended = held[end:], end
            if not body.done:
                used = body.feed(data)
                taken += data[:used]
                ended += used
    except BadAnswer:
        return ("refused",)
    return (*said, taken, ended, body is not None and body.done)


class AnswersTarget:
    """State: a router, its worker, and what the worker says next."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._bits: list[bytes] = []
        front.script(self._say)

    def once(self, chance: random.Random) -> int:
        """Reads some answers in pieces, counts tokens, and passes one on. Raises Finding."""
        for _ in range(20):
            self._read(chance)
            self._count(chance)
        self._pass_on(chance)
        return 41

    def settle(self) -> None:
        """Looks at the log and the books. Raises Finding."""
        faults = self._front.router.faults()
        if faults:
            raise Finding("the router's log: " + "\n".join(faults[:40]))
        try:
            self._front.wait_idle()
        except AssertionError as error:
            raise Finding(str(error)) from error
        for worker in self._front.workers:
            worker.calls.clear()

    def _read(self, chance: random.Random) -> None:
        head, body = made_answer(chance)
        data, valid = head + body, chance.random() < 0.3
        if not valid:
            data = mutate(chance, data)
        at_once = read_whole([data])
        in_pieces = read_whole(pieces(chance, data))
        if at_once != in_pieces:
            raise Finding(f"whole {str(at_once)[:300]}, in pieces {str(in_pieces)[:300]}", data)
        if valid and at_once[-3:] != (body, len(data), True):
            raise Finding(f"not read as it was written: {str(at_once)[:300]}", data)

    def _count(self, chance: random.Random) -> None:
        prompt, completion, cached = (chance.randrange(1, 10**6) for _ in range(3))
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        told = b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
        parts = [_event(chance), _event(chance), told, b"data: [DONE]\n\n"]
        data = b"".join(map(chunk, parts)) + b"0\r\n\r\n"
        found = find_usage(data[-TAIL_BYTES:])
        if found is None or (found.prompt_tokens, found.cached_tokens) != (prompt, cached):
            raise Finding(f"counts not found: {found}", data)
        damaged = mutate(chance, data)
        try:
            find_usage(damaged[-TAIL_BYTES:], damaged[:TAIL_BYTES])
        except Exception as error:
            raise Finding(f"the counts' reader raised {error!r}", damaged) from error

    def _pass_on(self, chance: random.Random) -> None:
        head, body = made_answer(chance)
        data, valid = head + body, chance.random() < 0.5
        if not valid:
            data = mutate(chance, data)
        self._bits = pieces(chance, data)
        with self._front.connect() as connection:
            connection.send(request("POST", CHAT_PATH, STREAM, connection="close"))
            try:
                seen = connection._rest()
            except ConnectionResetError:
                if valid:
                    raise Finding("a valid answer was cut", data) from None
                return
            except TimeoutError:
                raise Finding("neither an answer nor an end", data) from None
        if not seen.startswith(b"HTTP/1.1 "):
            raise Finding(f"no answer: {seen[:300]!r}", data)
        if valid and not seen.endswith(b"\r\n\r\n" + body):
            raise Finding(f"not passed on byte for byte: {seen[-300:]!r}", data)

    def _say(self, call: Call) -> None:
        for bit in self._bits:
            call.write(bit)
        threading.Event().wait(0.001)  # what is in the socket leaves before its end
        call.close()


@contextlib.contextmanager
def answers_target(folder: Path) -> Iterator[AnswersTarget]:
    """A router in front of one worker."""
    with fake_workers(1) as workers:
        router = spawn_router(folder / "router.log", "--backend", workers[0].url, *_FLAGS)
        try:
            yield AnswersTarget(Front(router, workers))
        finally:
            Process.kill(router)

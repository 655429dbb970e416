"""One question to many workers, on behalf of an operator.

Rules kept. So many at a time, each with a deadline of its own and an answer of bounded length; what one
worker does, or does not, is no other one's affair. No redirect is followed: a worker does not send the router
elsewhere. Nothing here touches the books: these are no inference requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from warmroute.questions import UNASKED

if TYPE_CHECKING:
    from warmroute.gateway import Gateway
    from warmroute_policies.types import WorkerId

# As many sockets and answers in memory; a fleet of 256 is asked in as many rounds of the slowest.
AT_ONCE: Final = 16

# vLLM's metrics page is some 100 KB per model, SGLang's server info some 20 KB.
ANSWER_BYTES_MAX: Final = 4 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one worker said. Status 0: nothing, and `body` is why, in words."""

    worker: WorkerId
    status: int
    body: bytes
    content_type: str = "application/json"

    @property
    def ok(self) -> bool:
        """Reads. Whether it did what it was asked."""
        return 200 <= self.status < 300

    @property
    def why(self) -> str:
        """Reads. What went wrong, for people."""
        if not self.status:
            return self.body.decode()
        text = " ".join(self.body[:200].decode("utf-8", "replace").split())
        return f"answered {self.status}{': ' if text else ''}{text}"


async def ask(
    gateway: Gateway,
    worker: WorkerId,
    method: str,
    paths: Sequence[str],
    deadline_s: float,
    body: bytes | None = None,
) -> Answer:
    """The answer of the first of these paths that the worker knows: engines have several names for one."""
    answer = Answer(worker, 0, b"was not asked")
    try:
        async with asyncio.timeout(deadline_s):
            for path in paths:
                answer = await _call(gateway, worker, method, path, body)
                if answer.status not in (404, 405, 501):
                    break
    except TimeoutError:
        return Answer(worker, 0, f"did not answer within {deadline_s:g} s".encode())
    return answer


async def over(workers: Sequence[WorkerId], call: Callable[[WorkerId], Awaitable[T]]) -> list[T]:
    """Calls for every worker, `AT_ONCE` at a time; results in the workers' order."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(worker: WorkerId) -> T:
        async with places:
            return await call(worker)

    return await asyncio.gather(*(one(worker) for worker in workers))


async def _call(gateway: Gateway, worker: WorkerId, method: str, path: str, body: bytes | None) -> Answer:
    known = gateway.workers.get(worker)
    if known is None:
        return Answer(worker, 0, b"has left")
    headers = [(b"content-type", b"application/json")] if body else []
    try:
        async with gateway.questioner.stream(known.pool, method, path, headers=headers, body=body) as answer:
            data = bytearray()
            async for piece in answer.aiter_bytes():
                data += piece
                if len(data) > ANSWER_BYTES_MAX:
                    return Answer(worker, 0, f"answered more than {ANSWER_BYTES_MAX} bytes".encode())
            kind = answer.headers.get("content-type", "application/octet-stream")
            return Answer(worker, answer.status_code, bytes(data), kind)
    except UNASKED as error:
        return Answer(worker, 0, f"could not be asked: {str(error) or type(error).__name__}".encode())


class Shared(Generic[T]):
    """State: one round of questions under way, or its result for as long as it is fresh. Whoever asks
    meanwhile gets that, so that a crowd costs the workers what one asker does."""

    def __init__(self, fresh_s: float) -> None:
        self._fresh_s = fresh_s
        self._round: asyncio.Task[T] | None = None
        self._stale_at = 0.0

    async def get(self, make: Callable[[], Awaitable[T]]) -> T:
        """The result of `make`, its own call or a recent one's. Raises what that raised."""
        loop = asyncio.get_running_loop()
        if self._round is None or (self._round.done() and loop.time() >= self._stale_at):
            self._round = loop.create_task(self._run(make))
        return await asyncio.shield(self._round)

    async def _run(self, make: Callable[[], Awaitable[T]]) -> T:
        try:
            return await make()
        finally:
            self._stale_at = asyncio.get_running_loop().time() + self._fresh_s

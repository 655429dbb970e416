"""Who keeps a thing that this router did not see being created: it was restarted since, or another router was
asked. Workers are asked for it, each by a GET of which only the status is read.

Rules kept. A worker that has it ends the search; where nobody has it, but one answered with another refusal
than "not found" (it does not know the key, it finds the id malformed), the client gets that worker's own
answer. Questions over all searches are bounded (`owner_search_at_a_time`), and each has `health_timeout_s`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from warmroute.owners import IdTap, nobody_owns, owner_left, owner_unknown
from warmroute.questions import UNASKED
from warmroute.wire.replies import RouterError
from warmroute_policies.types import WorkerId

if TYPE_CHECKING:
    from warmroute.exchange import Exchange
    from warmroute.gateway import Gateway
    from warmroute.owners import Kept

Fields = Sequence[tuple[bytes, bytes]]
"""Of the client's head, names in lower case."""

# A worker's key comes with the client's request.
_PASSED_ON: Final = (b"authorization", b"x-api-key")

# A page of a list; a page of metrics is as large.
_ANSWER_BYTES_MAX: Final = 4 << 20

_NOT_FOUND: Final = 404

# Whoever may not ask one worker may not ask the silent ones either.
_FORBIDDEN: Final = (401, 403)


class Told(NamedTuple):
    """A worker's answer. `status` 0: there was none."""

    worker: WorkerId
    status: int
    body: bytes = b""


class OwnerSearch:
    """State: how many questions may be on their way, and what came of the searches."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._places = asyncio.Semaphore(gateway.settings.owner_search_at_a_time)
        self.outcomes = {"found": 0, "not_found": 0, "unknown": 0}
        """Searches so far."""

    async def find(self, thing: str, fields: Fields) -> WorkerId | RouterError:
        """Writes. The worker that has the thing, or that shall refuse the request; else what to tell the
        client. Remembers an owner."""
        workers = list(self._gateway.workers)
        tasks = [asyncio.create_task(self._has(worker, thing, fields)) for worker in workers]
        forbids: WorkerId | None = None
        refuses: WorkerId | None = None
        silent = 0
        try:
            for answered in asyncio.as_completed(tasks):
                worker, status, _ = await answered
                if 200 <= status < 300:
                    self.outcomes["found"] += 1
                    self._gateway.owners.learn(thing, worker)
                    return worker
                if not status or status >= 500:
                    silent += 1
                elif status in _FORBIDDEN:
                    forbids = worker
                elif status != _NOT_FOUND:
                    refuses = worker
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if forbids is not None:
            return forbids
        if silent or not workers:
            self.outcomes["unknown"] += 1
            return owner_unknown(thing, silent, len(workers))
        self.outcomes["not_found"] += 1
        return nobody_owns(thing, len(workers)) if refuses is None else refuses

    async def ask(self, worker: WorkerId, target: str, fields: Fields) -> Told:
        """Writes. A worker's answer to a GET, whole if it is not too large."""
        return await self._get(worker, target, fields, _ANSWER_BYTES_MAX)

    async def _has(self, worker: WorkerId, thing: str, fields: Fields) -> Told:
        return await self._get(worker, thing, fields, 0)

    async def _get(self, worker: WorkerId, target: str, fields: Fields, bytes_max: int) -> Told:
        """`bytes_max` 0: the body is not read."""
        known = self._gateway.workers.get(worker)
        if known is None:  # it left while the others were asked
            return Told(worker, 0)
        passed_on = [(name, value) for name, value in fields if name in _PASSED_ON]
        try:
            async with (
                self._places,
                asyncio.timeout(self._gateway.settings.health_timeout_s),
                self._gateway.questioner.stream(known.pool, "GET", target, headers=passed_on) as answer,
            ):
                body = bytearray()
                if bytes_max:
                    async for piece in answer.aiter_bytes():
                        body += piece
                        if len(body) > bytes_max:
                            return Told(worker, 0)
                return Told(worker, answer.status_code, bytes(body))
        except UNASKED:  # a time that is over is an OSError
            return Told(worker, 0)


def owner_is_known(exchange: Exchange, kept: Kept) -> bool:
    """Writes. Whether the worker is known that has to take the request, if any has to. Else the client is
    told, or the exchange is started again when all workers have been asked."""
    gateway, thing = exchange.gateway, kept.thing or exchange.parsed.kept
    if kept.creates:
        exchange.tap = IdTap(gateway.owners, kept.creates)
    if not thing or exchange.owner is not None:
        return True
    exchange.owner = owner = gateway.owners.find(thing)
    if owner is None:
        exchange.connecting = asyncio.get_running_loop().create_task(_find_owner(exchange, thing))
        return False
    if owner not in gateway.workers:
        exchange.refuse(owner_left(thing, owner))
        return False
    return True


async def _find_owner(exchange: Exchange, thing: str) -> None:
    found = await exchange.gateway.owner_search.find(thing, exchange.plan.head.fields)
    exchange.connecting = None
    if isinstance(found, RouterError):
        exchange.refuse(found)
    elif found not in exchange.gateway.workers:
        exchange.refuse(owner_left(thing, found))
    else:
        exchange.owner = found
        exchange.let_in_at = monotonic()  # looking for it was not its worker's time
        exchange.start()

"""The router asks its workers: are you well (active health checks), and what are you (discovery).

One loop per worker. A worker is asked for its models, its KV cache and its start time when it is first met,
after any failed check (it may have come back as something else, or with an empty cache), and about once a
minute. It is not called healthy before it has been asked: until its models are known, any request would
seem to fit.

Rules kept. Nothing that a worker answers ends its loop; what is odd is logged once and not again until it
was right in between. Answers are read up to a limit, and one round has one deadline, whatever is slow.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import msgspec

from warmroute import engines
from warmroute.engines import KvCache
from warmroute.questions import UNASKED
from warmroute.tls import why_not_connected

if TYPE_CHECKING:
    from warmroute.gateway import Gateway
    from warmroute.pool import WorkerPool
    from warmroute.workers import Worker

log = logging.getLogger("warmroute.watch")

# Adapters come and go, engines are reconfigured; nobody waits for the router to notice.
_DISCOVERY_INTERVAL_S = 60.0

# vLLM's metrics page is some 100 KB per model.
_ANSWER_BYTES_MAX = 4 << 20

T = TypeVar("T")


class Unanswered(Exception):
    """A worker did not answer a question, or not with 2xx; the message says what happened."""

    def __init__(self, why: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(why)


async def ask(gateway: Gateway, pool: WorkerPool, path: str, deadline: float) -> bytes:
    """GET, until the loop's time is `deadline`. Raises Unanswered."""
    try:
        async with (
            asyncio.timeout_at(deadline),
            gateway.questioner.stream(pool, "GET", path) as answer,
        ):
            if not answer.is_success:
                raise Unanswered(f"GET {path} answered {answer.status_code}", answer.status_code)
            body = bytearray()
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > _ANSWER_BYTES_MAX:
                    raise Unanswered(f"GET {path} answered more than {_ANSWER_BYTES_MAX} bytes")
            return bytes(body)
    except TimeoutError:
        raise Unanswered(f"GET {path} was not answered in time") from None
    except UNASKED as error:
        raise Unanswered(f"GET {path} failed: {_root_of(error)}") from error


async def first_round(gateway: Gateway) -> None:
    """Writes. Asks every worker once, all at the same time; takes at most `health_timeout_s`."""
    async with asyncio.TaskGroup() as group:
        for worker in gateway.workers.values():
            group.create_task(_Watch(gateway, worker).round())


async def watch_workers(gateway: Gateway) -> None:
    """Writes. Watches every worker, those too that are added later, until it is cancelled."""
    async with asyncio.TaskGroup() as group:
        loops: dict[Worker, asyncio.Task[None]] = {}
        while True:
            gateway.workers.changed.clear()
            present = set(gateway.workers.values())
            for worker in loops.keys() - present:
                loops.pop(worker).cancel()
            for worker in present - loops.keys():
                loops[worker] = group.create_task(_Watch(gateway, worker).run())
            await gateway.workers.changed.wait()


class _Watch:
    """The questions to one worker. State: when it is asked what it is, and what the log blamed it for."""

    def __init__(self, gateway: Gateway, worker: Worker) -> None:
        self._gateway = gateway
        self._worker = worker
        self._worker_id = worker.pool.worker_id
        self._discovery_due_at = 0.0
        self._started_at_s: float | None = None
        """As the metrics page told it in this round."""
        self._told: set[str] = set()

    async def run(self) -> None:
        """Writes. Asks until it is cancelled."""
        if self._worker.contacted.is_set():
            self._discovery_due_at = monotonic() + _DISCOVERY_INTERVAL_S
            # Many workers, met in one moment, are not asked in one moment ever after.
            await asyncio.sleep(self._gateway.settings.health_interval_s * random.random())
        while True:
            await self.round()
            await asyncio.sleep(self._gateway.settings.health_interval_s)

    async def round(self) -> None:
        """Writes. One check, and discovery when it is due."""
        worker, gateway = self._worker, self._gateway
        deadline = asyncio.get_running_loop().time() + gateway.settings.health_timeout_s
        why: str | None = None
        try:
            if gateway.settings.health_checks:
                await self._ask(gateway.settings.health_path, deadline)
        except Unanswered as error:
            why = str(error)
            self._discovery_due_at = 0.0  # it may be restarting, too quickly to be called unhealthy
        was_well = worker.checks.well
        well = worker.checks.seen(why, monotonic())
        if well and why is None and (not was_well or monotonic() >= self._discovery_due_at):
            await self._discover(deadline)
        if gateway.workers.get(self._worker_id) is worker:
            gateway.workers.checked(self._worker_id, well, why)
        worker.contacted.set()

    async def _ask(self, path: str, deadline: float) -> bytes:
        """GET. Raises Unanswered."""
        return await ask(self._gateway, self._worker.pool, path, deadline)

    # --- discovery ------------------------------------------------------------------------------

    async def _discover(self, deadline: float) -> None:
        """Writes. What the worker is. What it does not tell this time stays as it was told before."""
        gateway, worker = self._gateway, self._worker
        self._started_at_s = None
        models, cache = await asyncio.gather(self._models(deadline), self._kv_cache(deadline))
        if gateway.workers.get(self._worker_id) is not worker:
            return  # it was removed while it was asked
        learned = worker.learned
        if models is not None:
            learned = msgspec.structs.replace(learned, models=models)
        if cache is not None:
            learned = msgspec.structs.replace(learned, kv_cache=cache)
        restarted = engines.has_restarted(learned.started_at_s, self._started_at_s)
        if restarted or learned.started_at_s is None:
            learned = msgspec.structs.replace(learned, started_at_s=self._started_at_s)
        if learned != worker.learned:
            worker.learned = learned
            gateway.workers.describe(self._worker_id, worker.backend, learned)
            log.info("worker described itself", extra={"worker": self._worker_id, **_in_short(worker)})
        if restarted:
            gateway.workers.restarted(self._worker_id)
        if gateway.kv_events.asks(worker):
            await gateway.kv_events.discover(worker, lambda path: self._answer(path, deadline))
        self._discovery_due_at = monotonic() + _DISCOVERY_INTERVAL_S

    async def _models(self, deadline: float) -> tuple[dict[str, object], ...] | None:
        if self._worker.backend.model or not self._gateway.settings.model_discovery:
            return None
        return await self._complaining(
            "models",
            "it gets requests for any model",
            lambda: self._read("/v1/models", engines.read_models, deadline),
        )

    async def _kv_cache(self, deadline: float) -> KvCache | None:
        return await self._complaining(
            "KV cache", "its size is learned from answers", lambda: self._find_kv_cache(deadline)
        )

    async def _find_kv_cache(self, deadline: float) -> KvCache:
        """Asks where the engine told before, else everywhere. Raises Unanswered."""
        known = self._worker.learned.kv_cache
        readers: dict[str, Callable[[bytes], KvCache | None]] = {"/metrics": self._read_metrics}
        if known is None or known.engine == "sglang":
            readers["/server_info"] = readers["/get_server_info"] = self._read_server_info
        failed = []
        for path, reader in readers.items():
            try:
                cache = await self._read(path, reader, deadline)
            except Unanswered as error:
                failed.append(str(error))
                continue
            if cache is not None and cache.capacity_tokens is not None:
                return cache
        raise Unanswered("; ".join(failed) or "neither /metrics nor /server_info says")

    def _read_metrics(self, body: bytes) -> KvCache | None:
        """Writes. The start time stands beside the KV cache, and may where no cache is told."""
        text = body.decode("utf-8", "replace")
        self._started_at_s = engines.read_start_time(text)
        return engines.read_metrics(text, self._worker.pool.rank)

    def _read_server_info(self, body: bytes) -> KvCache | None:
        return engines.read_server_info(body, self._worker.pool.rank)

    async def _answer(self, path: str, deadline: float) -> bytes | None:
        """GET. None: no answer."""
        try:
            return await self._ask(path, deadline)
        except Unanswered:
            return None

    async def _read(self, path: str, reader: Callable[[bytes], T], deadline: float) -> T:
        """Raises Unanswered, where the answer cannot be read too."""
        body = await self._ask(path, deadline)
        try:
            return reader(body)
        except ValueError as error:
            raise Unanswered(f"GET {path}: {error}") from error

    async def _complaining(self, what: str, then: str, ask: Callable[[], Awaitable[T]]) -> T | None:
        """The answer, or None. A worker that does not tell is logged once."""
        try:
            answer = await ask()
        except Unanswered as error:
            if what not in self._told:
                self._told.add(what)
                log.warning(
                    "worker does not tell its %s, so %s", what, then,
                    extra={"worker": self._worker_id, "why": str(error)},
                )  # fmt: skip
            return None
        self._told.discard(what)
        return answer


def _root_of(error: BaseException) -> str:
    """What the system said ("Connection refused") beneath the layers of the client library."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return why_not_connected(found)
        found = found.__cause__ or found.__context__
    return str(error) or type(error).__name__


def _in_short(worker: Worker) -> dict[str, object]:
    learned = worker.learned
    cache = learned.kv_cache
    return {
        "models": [model["id"] for model in learned.models],
        "kv_capacity_tokens": None if cache is None else cache.capacity_tokens,
        "block_tokens": None if cache is None else cache.block_tokens,
    }

"""What an operator tells all engines at once: empty your caches, start and stop your profiler.

The names are SGLang's, where vLLM has another one that is used. Control that is about one request or one
engine's inside (abort, sleep, weights) is not passed on: it belongs to whoever runs that engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from warmroute import audit
from warmroute.control.audited import actor_of, changing_route
from warmroute.control.auth import change_guard
from warmroute.control.errors import Refused, refusals
from warmroute.fanout import Answer, ask, over
from warmroute.gateway import Gateway
from warmroute.wire.replies import RouterError

_FLUSH: Final = {"sglang": ("/flush_cache",), "vllm": ("/reset_prefix_cache",)}
_FLUSH_ANY: Final = ("/flush_cache", "/reset_prefix_cache")

# Options of a profiler are a few words.
_BODY_BYTES_MAX: Final = 64 << 10


class Failed(BaseModel):
    """A worker that did not do it."""

    worker: str
    error: str


class ToldAll(BaseModel):
    """What the workers did."""

    status: Literal["success", "partial_success", "failure"]
    message: str
    total_http_workers: int
    total_workers: int
    successful: list[str]
    failed: list[Failed]


class Flushed(ToldAll):
    """Caches that are empty now."""

    workers_flushed: int


_Responses = dict[int | str, dict[str, Any]]
_PARTIAL: Final[_Responses] = {206: {"model": ToldAll, "description": "Some workers did it"}}
_NOBODY: Final[_Responses] = {502: {"model": ToldAll, "description": "No worker did it"}}


def endpoints(gateway: Gateway) -> APIRouter:
    """/flush_cache, /start_profile and /stop_profile, behind an admin key."""
    router = APIRouter(
        tags=["workers"],
        dependencies=[Depends(change_guard(gateway))],
        route_class=changing_route(),
        responses=refusals(401, 403),
    )

    flushes: _Responses = {
        206: {**_PARTIAL[206], "model": Flushed},
        502: {**_NOBODY[502], "model": Flushed},
    }

    @router.get("/flush_cache", responses=flushes, operation_id="flush_cache_get")
    @router.post("/flush_cache", responses=flushes)
    async def flush_cache(request: Request, response: Response) -> Flushed:
        """Empties the prefix caches of all workers, and forgets what those that did it were believed to hold.
        206 when some did not, 502 when none did. SGLang refuses while requests run; vLLM needs
        VLLM_SERVER_DEV_MODE=1, and keeps what running requests use."""

        def paths(worker: str) -> Sequence[str]:
            cache = gateway.workers[worker].learned.kv_cache
            return _FLUSH_ANY if cache is None else _FLUSH.get(cache.engine, _FLUSH_ANY)

        known = {worker: gateway.workers[worker] for worker in gateway.workers}
        answers = await _tell(gateway, {worker: paths(worker) for worker in known}, None)
        for answer in answers:
            if answer.ok and gateway.workers.get(answer.worker) is known[answer.worker]:
                gateway.workers.cache_flushed(answer.worker)
        done = _report("flush_cache", "flushed", answers, request, response)
        return Flushed(**done.model_dump(), workers_flushed=len(done.successful))

    @router.post("/start_profile", responses={**_PARTIAL, **_NOBODY, **refusals(413)})
    async def start_profile(request: Request, response: Response) -> ToldAll:
        """Starts the profilers of all workers; the body is passed on."""
        body = await _small_body(request)
        answers = await _tell(gateway, dict.fromkeys(gateway.workers, ("/start_profile",)), body)
        return _report("start_profile", "started", answers, request, response)

    @router.post("/stop_profile", responses={**_PARTIAL, **_NOBODY})
    async def stop_profile(request: Request, response: Response) -> ToldAll:
        """Stops them."""
        answers = await _tell(gateway, dict.fromkeys(gateway.workers, ("/stop_profile",)), None)
        return _report("stop_profile", "stopped", answers, request, response)

    return router


async def _small_body(request: Request) -> bytes | None:
    """Raises Refused."""
    body = await request.body()
    if len(body) > _BODY_BYTES_MAX:
        raise Refused(RouterError(413, "body_too_large", f"more than {_BODY_BYTES_MAX} bytes of options"))
    return body or None


async def _tell(gateway: Gateway, paths: dict[str, Sequence[str]], body: bytes | None) -> list[Answer]:
    deadline_s = gateway.settings.engine_call_timeout_s
    return await over(
        list(paths), lambda worker: ask(gateway, worker, "POST", paths[worker], deadline_s, body)
    )


def _report(action: str, verb: str, answers: list[Answer], request: Request, response: Response) -> ToldAll:
    """What came of it; sets the status and leaves a line."""
    done = [answer.worker for answer in answers if answer.ok]
    failed = [Failed(worker=answer.worker, error=answer.why) for answer in answers if not answer.ok]
    status: Literal["success", "partial_success", "failure"] = "success"
    if failed:
        status = "partial_success" if done else "failure"
        response.status_code = 206 if done else 502
    message = f"{verb} on {len(done)} of {len(answers)} workers"
    outcome = "done" if status == "success" else status
    audit.tell(action, f"{len(answers)} workers", actor_of(request), outcome=outcome, after=message)
    return ToldAll(
        status=status,
        message=message,
        total_http_workers=len(answers),
        total_workers=len(answers),
        successful=done,
        failed=failed,
    )

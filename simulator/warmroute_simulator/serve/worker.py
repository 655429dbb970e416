"""One worker behind HTTP: a request's way from its path to the engine.

Operator endpoints answer at once. What generates passes the fault that is set, the API key, the dialect's
parser, the model's name and the context length, and then waits for the engine. The order of these checks and
the error JSON are vLLM's.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import xxhash

from warmroute_simulator.engine import (
    EngineConfig,
    EngineKind,
    EngineRequest,
    Finished,
    FinishReason,
    PagedCache,
    make_engine,
)
from warmroute_simulator.serve import operations, reports, tokens
from warmroute_simulator.serve.clock import EngineClock
from warmroute_simulator.serve.dialects import chat, completions, embeddings, generate, messages, responses
from warmroute_simulator.serve.dialects.base import (
    ApiError,
    BadRequest,
    Call,
    Meta,
    NotFound,
    Unauthorized,
)
from warmroute_simulator.serve.driver import EngineDriver
from warmroute_simulator.serve.faults import FaultBox, FaultSpec
from warmroute_simulator.serve.generation import Generation
from warmroute_simulator.serve.http import Exchange, HttpConnection

if TYPE_CHECKING:
    from warmroute_simulator.serve.app import Fleet
    from warmroute_simulator.serve.kv_events import Publisher

VERSION = "0.32.0-simulated"
"""The vLLM release whose answers the shapes were taken from."""
SGLANG_VERSION = "0.5.23-simulated"

_DIALECTS: dict[str, Callable[[bytes | bytearray], Call]] = {
    "/v1/chat/completions": chat.parse,
    "/v1/completions": completions.parse,
    "/v1/responses": responses.parse,
    "/v1/messages": messages.parse,
    "/generate": generate.parse,
}


class WorkerSettings(msgspec.Struct, frozen=True):
    """What all workers of one process have in common."""

    engine: EngineConfig
    model: str
    max_model_len: int
    speed: float = 1.0
    seed: int = 0
    api_keys: tuple[str, ...] = ()

    @property
    def kind(self) -> EngineKind:
        """Whose scheduler, and whose operator endpoints."""
        return self.engine.kind


class Worker:
    """One engine, its connections and counters. A `Service` of the HTTP server."""

    def __init__(
        self, index: int, settings: WorkerSettings, fleet: Fleet, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.index, self.settings = index, settings
        self.model = settings.model
        self.version = VERSION if settings.kind == "vllm" else SGLANG_VERSION
        self.cache = PagedCache(settings.engine.capacity_blocks)
        self.engine = make_engine(settings.engine, self.cache)
        self.started_at_s = time.time()
        """Since 1970. The cache began empty then; a reset is no restart."""
        self.driver = EngineDriver(self.engine, EngineClock(settings.speed), loop)
        self.faults = FaultBox()
        self.ttft = reports.Histogram(reports.TTFT_BUCKETS_S)
        self.finished: dict[str, int] = {"stop": 0, "length": 0}
        self.connections: set[HttpConnection] = set()
        self.fleet = fleet
        self.kv_events: Publisher | None = None
        self._next_id = 0

    def accept(self) -> bool:
        return self.faults.take("refuse") is None

    def set_fault(self, spec: FaultSpec) -> None:
        self.faults.set(spec)
        factor = spec.factor if spec.kind == "slow" else 1.0
        self.driver.set_rate(self.settings.speed / factor)
        if spec.kind == "refuse":
            for connection in list(self.connections):
                if connection.idle:
                    connection.break_off(after_flush=False)

    def publish(self, publisher: Publisher) -> None:
        """Writes. From now on it is told what the cache holds."""
        self.kv_events = publisher
        self.driver.on_changes = publisher.tell

    def reset_cache(self) -> None:
        """Writes. Forgets all that no running request uses."""
        self.engine.reset_prefix_cache()
        if self.kv_events is not None:
            self.kv_events.cleared()

    def handle(self, exchange: Exchange) -> None:
        request = exchange.request
        path = request.path
        try:
            if path.startswith("/v1/"):
                self._check_key(exchange)
            if request.method == "POST":
                if path in _DIALECTS or path == "/v1/embeddings":
                    self._inference(exchange)
                else:
                    operations.post(self, exchange)
            elif request.method in ("GET", "HEAD"):
                operations.get(self, exchange)
            else:
                exchange.respond(*operations.NOT_FOUND)
        except ApiError as error:
            body = error.anthropic_body() if path.startswith("/v1/messages") else error.body()
            exchange.respond(error.status, body)

    # What generates.

    def _inference(self, exchange: Exchange) -> None:
        fault = self.faults.take("hang", "error_500", "error_503", "die_midstream")
        if fault is not None and self.broken(exchange, fault):
            return
        request = exchange.request
        if request.path == "/v1/embeddings":
            self._embed(exchange)
            return
        call = _DIALECTS[request.path](request.body)
        self.check_model(call.model)
        prompt_tokens = len(call.tokens) // tokens.TOKEN_BYTES
        room = self.settings.max_model_len - prompt_tokens
        if room < 1 or (call.max_tokens or 1) > room:
            raise BadRequest(
                f"This model's maximum context length is {self.settings.max_model_len} tokens. However, you "
                f"requested {call.max_tokens or 0} output tokens and your prompt contains {prompt_tokens} "
                "input tokens. Please reduce the length of the input prompt or the number of requested "
                "output tokens.",
                "input_tokens",
            )
        seed = xxhash.xxh3_64_intdigest(call.tokens, self.settings.seed)
        natural = min(tokens.natural_length(seed), room)
        words = tokens.answer_words(seed, call.max_tokens or natural)
        size = self.settings.engine.block_tokens
        keys = tokens.TokenBlocks(call.tokens + b"".join(words), size, call.salt)
        request_id = self._new_id()
        answer_id = call.id_prefix + self._answer_id(exchange, request_id)
        meta = Meta(answer_id, call.model or self.model, int(time.time()))
        answer = call.answer(call, meta)
        reason = FinishReason.LENGTH if call.max_tokens else FinishReason.STOP
        generation = Generation(self, exchange, request_id, answer, words, prompt_tokens, call.stream, fault)
        self.driver.submit(
            EngineRequest(request_id, prompt_tokens, len(words), keys, reason, call.stream), generation
        )

    def broken(self, exchange: Exchange, fault: FaultSpec) -> bool:
        """Apply a fault that hits before the engine; False when it hits later."""
        if fault.kind == "die_midstream":
            if fault.after_chunks == 0:
                exchange.abort()
            return fault.after_chunks == 0
        if fault.kind != "hang":
            status = 500 if fault.kind == "error_500" else 503
            error = {
                "message": "injected fault",
                "type": "InternalServerError",
                "param": None,
                "code": status,
            }
            exchange.respond(status, msgspec.json.encode({"error": error}))
        return True

    def _embed(self, exchange: Exchange) -> None:
        call = embeddings.parse(exchange.request.body)
        self.check_model(call.model)
        for prompt in call.inputs:
            if len(prompt) // tokens.TOKEN_BYTES > self.settings.max_model_len:
                raise BadRequest(
                    f"This model's maximum context length is {self.settings.max_model_len} tokens", "input"
                )
        job = _EmbeddingJob(self, exchange, call)
        for prompt in call.inputs:
            request_id = self._new_id()
            job.waiting.add(request_id)
            keys = tokens.TokenBlocks(prompt, self.settings.engine.block_tokens)
            self.driver.submit(
                EngineRequest(request_id, len(prompt) // tokens.TOKEN_BYTES, 0, keys, FinishReason.STOP), job
            )

    # Checks.

    def _check_key(self, exchange: Exchange) -> None:
        if not self.settings.api_keys:
            return
        headers = exchange.request.headers
        given = headers.get(b"authorization", b"").removeprefix(b"Bearer ") or headers.get(b"x-api-key", b"")
        if not any(hmac.compare_digest(given, key.encode()) for key in self.settings.api_keys):
            raise Unauthorized("Unauthorized")

    def check_model(self, model: str | None) -> None:
        """SGLang answers to any name; vLLM only to its own, and to none."""
        if model is not None and model != self.model and self.settings.kind == "vllm":
            raise NotFound(f"The model `{model}` does not exist.", "model")

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _answer_id(self, exchange: Exchange, request_id: int) -> str:
        given = exchange.request.headers.get(b"x-request-id")
        return given.decode("latin-1") if given else f"{self.index:04x}{request_id:012x}"


class _EmbeddingJob:
    """The sink of all inputs of one embedding request; answers when the last one is through."""

    def __init__(self, worker: Worker, exchange: Exchange, call: embeddings.EmbeddingCall) -> None:
        self.waiting: set[int] = set()
        self._worker, self._exchange, self._call = worker, exchange, call
        exchange.on_disconnect = self._client_gone

    def on_first_token(self, cached_tokens: int, ttft_s: float) -> None:
        """An embedding has no tokens."""

    def on_tokens(self, count: int) -> None:
        """An embedding has no tokens."""

    def on_finished(self, event: Finished) -> None:
        self.waiting.discard(event.request_id)
        if not self.waiting:
            self._worker.finished[event.reason] += 1
            self._exchange.respond(200, embeddings.answer(self._call, self._call.model or self._worker.model))

    def _client_gone(self) -> None:
        for request_id in self.waiting:
            self._worker.driver.abort(request_id)

"""Between parsing and routing: a request's prompt as token blocks, where they can be told.

Little new text is done at once, on the loop; a long prompt in a thread, while the request waits; where there
is no tokenizer an engine is asked. A request whose tokens cannot be told, or not in time, goes on without
them.

Rules kept. No fault here costs a request. What waits is bounded, and so is each wait. Places where prompts
ended are found and kept on the loop alone. Results are checked for ever: engines' counts are compared with
those here, and of those that went on from an earlier turn a few are done again as a whole, in a thread. A
model whose turns do not go on from each other rightly is done as a whole from then on; one whose prompts
engines count otherwise is not done at all. Both are said in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from warmroute.dialects import Parser, openai, sglang, vllm
from warmroute.tokens import asked, counts
from warmroute.tokens.asked import Text, Untold, Why
from warmroute.tokens.by_engine import Engines
from warmroute.tokens.jobs import ChatJob, IdsJob, Job, TextJob, TooMuch
from warmroute.tokens.memory import NEAR_STRETCHES, Memory
from warmroute.tokens.rules import Rules
from warmroute.tokens.sglang_rules import SGLANG
from warmroute.tokens.told import Told
from warmroute.tokens.vllm_rules import VLLM
from warmroute_policies.kv_blocks import root_of
from warmroute_policies.types import RoutingRequest

if TYPE_CHECKING:
    from warmroute.exchange import Exchange
    from warmroute.gateway import Gateway
    from warmroute.tokens.model import TokenModel
    from warmroute_policies.types import Usage

log: Final = logging.getLogger("warmroute.tokens")

# What engines are and which sizes of block they use changes by the minute; looking costs some microseconds.
_LOOK_EVERY_S: Final = 0.25

# Of the prompts that went on from a former turn one in so many is done again as a whole, until enough were
# right, and then one in more: one of 128,000 tokens keeps a thread busy for 16 ms, as 50 turns do the loop.
_CHECK_EVERY: Final = 32
_CHECKED_ENOUGH: Final = 16
_CHECK_SELDOM: Final = 1024

# Counts of engines that were others, in a row, after which turns do not go on from each other, and after
# which the model is not done at all. A few may be a client's own, who uses what only that engine knows.
_WRONG_ONWARDS_MAX: Final = 3
_WRONG_MAX: Final = 8

# Seeds by adapter and tenant; clients make tenants up.
_ROOTS_MAX: Final = 4096


class _Fleet(NamedTuple):
    """What the workers are, as of a moment ago."""

    sizes: tuple[int, ...]
    """Of blocks, in tokens. None: nobody tells what it holds, so that no tokens are needed."""
    rules: Rules
    """vLLM's, unless all engines that told what they are are SGLang."""
    adapters: Mapping[str, str]
    """To their base models."""


class Tokens:
    """State: the models' tokenizers, places where prompts ended, prompts that wait, what was counted.

    To be closed with `close`.
    """

    def __init__(self, gateway: Gateway, models: Mapping[str, TokenModel], *, asks: bool) -> None:
        """`models`: by the name that requests use; "" is for any other. `asks`: engines, where there is
        none."""
        settings = gateway.settings
        self._gateway = gateway
        self._models = models
        self._engines = Engines(gateway) if asks else None
        self._inline_bytes = settings.tokenizer_inline_bytes
        self._timeout_s = settings.tokenizer_timeout_s
        self._waiting_max = settings.tokenizer_waiting_max
        self.memory = Memory(settings.tokenizer_memory_bytes)
        self._threads = ThreadPoolExecutor(settings.tokenizer_threads, thread_name_prefix="tokens")
        self.waiting = 0
        """Prompts in threads, before them, and at engines."""
        self.counts = counts.TokenCounts()
        self._fleet = _Fleet((), VLLM, {})
        self._look_at = 0.0
        self._roots: dict[tuple[str, str], int] = {}
        self._wrong: dict[str, int] = {}
        """By model, counts of engines that were others, in a row."""
        self._distrusted: set[str] = set()
        self._readers: dict[Parser, Callable[[Exchange, RoutingRequest, _Fleet], Job]] = {
            openai.chat: self._chat,
            openai.completions: self._completion,
            sglang.generate: self._generate,
            vllm.generate: self._generate,
        }

    def close(self) -> None:
        """Writes. What waits is given up."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    # --- a request's way ----------------------------------------------------------------------------------

    def tell(self, exchange: Exchange, request: RoutingRequest) -> RoutingRequest | None:
        """Writes. The request with its tokens, or without where they cannot be told. None: it has to wait,
        and its exchange's `told` is called then."""
        began = monotonic()
        job: Job | None = None
        fleet = self._fleet if began < self._look_at else self._look(began)
        if not fleet.sizes or not exchange.parsed.material or exchange.owner is not None:
            return request
        try:
            reader = self._readers.get(exchange.parse)
            if reader is None:
                raise Untold(Why.ENDPOINT)
            job = reader(exchange, request, fleet)
            if job.bytes > self._inline_bytes or (job.model is None and not isinstance(job, IdsJob)):
                return self._later(exchange, request, job)
            told = job.run(self._inline_bytes, slowly=False)
        except Untold as error:
            self.counts.untold[error.why] += 1
            return request
        except TooMuch:
            assert job is not None
            return self._later(exchange, request, job)
        except Exception:  # a fault of ours must not cost the client an answer
            log.exception("a prompt's tokens could not be told")
            self.counts.untold[Why.FAULT] += 1
            return request
        how = counts.ONWARDS if job.went_on else counts.WHOLE
        request = self._settled(exchange, request, job, told, how, began)
        if job.went_on:
            self._check(job, told, request)
        if job.model is not None and job.model.asks_to_learn():
            self._threads.submit(_learn, job.model)
        return request

    def _later(self, exchange: Exchange, request: RoutingRequest, job: Job) -> RoutingRequest | None:
        if self.waiting >= self._waiting_max:
            self.counts.untold[Why.BUSY] += 1
            return request
        self.waiting += 1
        exchange.connecting = task = asyncio.get_running_loop().create_task(
            self._wait(exchange, request, job)
        )
        task.add_done_callback(self._waits_no_longer)  # one that is cancelled at once never runs
        return None

    def _waits_no_longer(self, _: asyncio.Task[None]) -> None:
        self.waiting -= 1

    async def _wait(self, exchange: Exchange, request: RoutingRequest, job: Job) -> None:
        began, how = monotonic(), counts.THREAD
        try:
            async with asyncio.timeout(self._timeout_s):
                if job.model is None and not isinstance(job, IdsJob):
                    how = counts.ENGINE
                    if self._engines is None:
                        raise Untold(Why.NO_TOKENIZER)
                    question, fields = job.question(request.model), exchange.plan.head.fields
                    answer = await self._engines.ask(request.model, question, fields)
                    told = await self._in_thread(partial(job.answered, answer))
                else:
                    told = await self._in_thread(partial(job.run, 0, slowly=True))
            request = self._settled(exchange, request, job, told, how, began)
        except Untold as error:
            self.counts.untold[error.why] += 1
        except TimeoutError:
            self.counts.untold[Why.LATE] += 1
        except Exception:  # a fault of ours must not cost the client an answer
            log.exception("a prompt's tokens could not be told")
            self.counts.untold[Why.FAULT] += 1
        exchange.connecting = None
        exchange.told(request)

    def _in_thread(self, work: Callable[[], Told]) -> asyncio.Future[Told]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _settled(
        self, exchange: Exchange, request: RoutingRequest, job: Job, told: Told, how: str, began: float
    ) -> RoutingRequest:
        """The request with its tokens; where its prompt ends is remembered."""
        if isinstance(job, ChatJob) and told.place is not None:
            self.memory.keep(
                told.place, job.place if job.went_on else None, request.blocks, exchange.parsed.material
            )
        self.counts.told[how] += 1
        self.counts.seconds.observe(monotonic() - began)
        exchange.told_tokens, exchange.went_on = told.prompt.tokens, job.went_on
        return msgspec.structs.replace(request, exact=told.prompt, prompt_tokens=told.prompt.tokens)

    # --- what is asked for --------------------------------------------------------------------------------

    def _chat(self, exchange: Exchange, request: RoutingRequest, fleet: _Fleet) -> Job:
        model, root = self._model(request.model, fleet), self._root(exchange, fleet)
        if request.model in self._gateway.images.names:
            raise Untold(Why.MEDIA)
        chat, messages = asked.read_chat(exchange.body, exchange.parsed.material)
        chat.check()
        material, place = exchange.parsed.material, None
        if model is not None and model.goes_on:
            options = model.options(chat, fleet.rules)
            place = self.memory.find(request.blocks, material, options, NEAR_STRETCHES)
            if place is not None and any(size not in place.runs for size in fleet.sizes):
                place = None
        return ChatJob(model, fleet.sizes, root, chat, material, messages, fleet.rules, place)

    def _completion(self, exchange: Exchange, request: RoutingRequest, fleet: _Fleet) -> Job:
        return self._text_or_ids(asked.read_completion(exchange.body), exchange, request, fleet)

    def _generate(self, exchange: Exchange, request: RoutingRequest, fleet: _Fleet) -> Job:
        return self._text_or_ids(asked.read_generate(exchange.body), exchange, request, fleet)

    def _text_or_ids(
        self, prompt: Text | list[int], exchange: Exchange, request: RoutingRequest, fleet: _Fleet
    ) -> Job:
        root = self._root(exchange, fleet)
        if isinstance(prompt, Text):
            return TextJob(self._model(request.model, fleet), fleet.sizes, root, prompt)
        return IdsJob(fleet.sizes, root, prompt)

    def _model(self, name: str, fleet: _Fleet) -> TokenModel | None:
        """Raises Untold where there is none, and nobody to ask."""
        model = self._models.get(name)
        if model is None:
            model = self._models.get(fleet.adapters.get(name, ""), self._models.get(""))
        if model is None and self._engines is None:
            raise Untold(Why.NO_TOKENIZER)
        if name in self._distrusted:
            raise Untold(Why.DISTRUSTED)
        return model

    def _root(self, exchange: Exchange, fleet: _Fleet) -> int:
        """The seed of the prompt's blocks."""
        parsed = exchange.parsed
        lora = parsed.model if parsed.model in fleet.adapters else ""
        root = self._roots.get((lora, parsed.cache_salt))
        if root is None:
            if len(self._roots) >= _ROOTS_MAX:
                self._roots.clear()
            root = self._roots[lora, parsed.cache_salt] = root_of(lora, parsed.cache_salt)
        return root

    def _look(self, now: float) -> _Fleet:
        """What the workers are now."""
        gateway = self._gateway
        engines: set[str] = set()
        adapters: dict[str, str] = {}
        for worker in gateway.workers.values():
            if worker.learned.kv_cache is not None:
                engines.add(worker.learned.kv_cache.engine)
            for model in worker.learned.models:
                if isinstance(model.get("parent"), str):
                    adapters[model["id"]] = model["parent"]
        rules = SGLANG if engines == {SGLANG.name} else VLLM
        self._fleet = _Fleet(gateway.balancer.known.block_sizes(), rules, adapters)
        self._look_at = now + _LOOK_EVERY_S
        return self._fleet

    # --- whether it was right -----------------------------------------------------------------------------

    def judge(self, exchange: Exchange, usage: Usage) -> None:
        """Writes. An engine told how many tokens a prompt had that was told here."""
        if usage.prompt_tokens is None:
            return
        name = exchange.parsed.model
        self.counts.checks["engine"] += 1
        if usage.prompt_tokens == exchange.told_tokens:
            self._wrong.pop(name, None)
            return
        self.counts.differences["engine"] += 1
        wrong = self._wrong[name] = self._wrong.get(name, 0) + 1
        model = self._models.get(name, self._models.get(""))
        if exchange.went_on and model is not None and model.goes_on and wrong >= _WRONG_ONWARDS_MAX:
            self._not_onwards(model, name, "engines count its prompts otherwise")
        elif wrong >= _WRONG_MAX and name not in self._distrusted:
            self._distrusted.add(name)
            log.error(
                "prompts have other numbers of tokens than engines say: without exact tokens from now on",
                extra={"model": name, "engine": usage.prompt_tokens, "router": exchange.told_tokens},
            )

    def _check(self, job: Job, told: Told, request: RoutingRequest) -> None:
        """A prompt that went on from an earlier one may be done again as a whole, when a thread has time."""
        assert job.model is not None
        every = _CHECK_EVERY if job.model.checked < _CHECKED_ENOUGH else _CHECK_SELDOM
        if request.request_id % every or not isinstance(job, ChatJob) or self.waiting * 2 > self._waiting_max:
            return
        self.waiting += 1
        loop = asyncio.get_running_loop()

        def done(whole: Future[Told]) -> None:
            loop.call_soon_threadsafe(self._checked, job, told, request.model, whole)

        self._threads.submit(partial(job.whole, slowly=True)).add_done_callback(done)

    def _checked(self, job: ChatJob, told: Told, name: str, whole: Future[Told]) -> None:
        self.waiting -= 1
        if whole.cancelled():
            return
        assert job.model is not None
        self.counts.checks["check"] += 1
        if whole.exception() is None and whole.result().prompt == told.prompt:
            job.model.checked += 1
            return
        self.counts.differences["check"] += 1
        self._not_onwards(job.model, name, "a prompt was another when it was done as a whole")

    def _not_onwards(self, model: TokenModel, name: str, why: str) -> None:
        if model.goes_on:
            model.goes_on = False
            self._wrong.pop(name, None)
            self.memory.clear()
            log.warning(
                "turns do not go on from each other with this model's chat template: each prompt is done "
                "as a whole from now on",
                extra={"model": name, "why": why},
            )


def _learn(model: TokenModel) -> None:
    try:
        model.learn()
    except Exception:  # a fault of ours costs no more than the time that learning would have saved
        log.exception("what a template writes could not be learned")

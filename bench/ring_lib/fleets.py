"""The engines behind everybody, and what they say themselves of their caches.

The built-in fleet is one process of `simulator serve`, started afresh for every run: caches are cold and no
contestant finds what another left. A fleet that is given by its URLs is asked to empty its caches instead.
The truth about hits is the engines' counters, not what an answer says of itself: some routers change
answers.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from ring_lib.processes import Process

ENGINES = 8
PRESET = "llama-3.1-8b-l40s"
MODEL = "m"

_COUNTER = re.compile(r"^vllm:(prefix_cache_queries|prefix_cache_hits)_total\{[^}]*\} (\S+)$", re.MULTILINE)
_READY_WITHIN_S = 30.0


class FleetFailed(Exception):
    """The engines did not come up, or do not say what is needed; the message says what."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What one engine counted since it was started, in tokens."""

    prompt_tokens: float
    cached_tokens: float

    def since(self, before: Truth) -> Truth:
        """Reads."""
        return Truth(self.prompt_tokens - before.prompt_tokens, self.cached_tokens - before.cached_tokens)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Engines that serve."""

    urls: tuple[str, ...]
    model: str
    pid: int | None
    """Of the built-in engines' process."""

    async def truth(self) -> list[Truth]:
        """Reads. Of each engine. Raises FleetFailed."""
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            try:
                pages = await asyncio.gather(*(http.get(f"{url}/metrics") for url in self.urls))
            except httpx.HTTPError as error:
                raise FleetFailed(f"an engine does not say what it counted: {error!r}") from None
        return [counted(page.text) for page in pages]


def counted(page: str) -> Truth:
    """What a page of metrics says. Raises FleetFailed."""
    found = {name: float(value) for name, value in _COUNTER.findall(page)}
    try:
        return Truth(found["prefix_cache_queries"], found["prefix_cache_hits"])
    except KeyError as error:
        raise FleetFailed(f"an engine does not count {error}") from None


@asynccontextmanager
async def simulated(core: int, log: Path, seed: int) -> AsyncIterator[Fleet]:
    """Eight built-in engines on this core, until the end. Raises FleetFailed."""
    command = [
        *(sys.executable, "-m", "warmroute_simulator", "serve"),
        *("--workers", str(ENGINES), "--port", "0", "--preset", PRESET, "--model", MODEL),
        *("--seed", str(seed), "--kv-events"),
    ]
    with Process(command, core, log, {}) as process:
        yield Fleet(await _announced(process), MODEL, process.pid)


async def _announced(process: Process) -> tuple[str, ...]:
    async with asyncio.timeout(_READY_WITHIN_S):
        while True:
            urls = tuple(re.findall(r"^ready (\S+)$", process.output(), re.MULTILINE))
            if len(urls) == ENGINES:
                return urls
            if not process.alive:
                raise FleetFailed(f"the engines ended: {process.last_words()}")
            await asyncio.sleep(0.05)


async def given(urls: Sequence[str], model: str) -> Fleet:
    """Writes. The engines at these URLs, with empty caches. Raises FleetFailed."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        for url in urls:
            try:
                answer = await http.post(f"{url}/reset_prefix_cache")
            except httpx.HTTPError as error:
                raise FleetFailed(f"{url}: {error!r}") from None
            if answer.is_error:
                raise FleetFailed(
                    f"{url}/reset_prefix_cache answers {answer.status_code}: caches would not be cold; vLLM"
                    " has it with VLLM_SERVER_DEV_MODE=1"
                )
    return Fleet(tuple(urls), model, None)

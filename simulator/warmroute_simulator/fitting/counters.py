"""A coarse fit from the metrics page of vLLM or SGLang, before and after some time.

The page holds sums, so what single requests were like is lost. A run is made up that looks like it on
average (Poisson arrivals at the measured rate, lengths as in the page's histograms, every prompt with the
mean share of hits), and two speeds and the host time of a request are adjusted until its means of TTFT, TPOT
and E2E are the measured ones. Nothing can be held back, and a burst that the page does not show counts as
slowness.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Final

from warmroute_simulator.engine import EngineConfig
from warmroute_simulator.fitting.agreement import Agreement, Compared
from warmroute_simulator.fitting.measured import MeasuredRequest
from warmroute_simulator.fitting.parameters import SCALES, rounded
from warmroute_simulator.fitting.replay import Replay, Simulated
from warmroute_simulator.fitting.search import Counter, Fitted, best_scales, least
from warmroute_simulator.traces.files import TraceError, numbered_lines

MADE_UP: Final = 400
"""Requests of the made-up run: their means differ from those of a longer one by a few per cent."""

_LINE: Final = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')

Buckets = list[tuple[float, float]]
"""Upper bounds, and how many requests were counted up to each."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What the page tells of the time between. Means are over requests."""

    source: str
    requests: float
    engines: int
    prompt_tokens: float
    output_tokens: float
    cached_share: float
    ttft_s: float | None
    tpot_s: float | None
    e2e_s: float | None
    prompt_buckets: Buckets
    output_buckets: Buckets
    kv_tokens: int | None
    """KV capacity of one engine, where the page tells it."""


class _Page:
    """Samples by name and labels, summed over engines. State: the sums, the engines seen."""

    def __init__(self, path: Path) -> None:
        self.sums: dict[str, float] = {}
        self.buckets: dict[str, dict[float, float]] = {}
        self.engines: set[str] = set()
        self.kv_tokens: int | None = None
        for number, line in numbered_lines(path):
            text = line.decode("utf-8", "replace")
            found = _LINE.match(text)
            if text.startswith("#") or found is None:
                continue
            name, labels = found[1], dict(_LABEL.findall(found[2] or ""))
            prefix, _, rest = name.partition(":")
            if prefix not in ("vllm", "sglang"):
                continue
            try:
                value = float(found[3])
            except ValueError:
                raise TraceError(path.name, number, name, "a number", found[3]) from None
            self._add(rest, labels, value)
        if not self.sums:
            raise TraceError(path.name, 0, None, "samples called vllm:… or sglang:…", "none")

    def _add(self, name: str, labels: dict[str, str], value: float) -> None:
        if "engine" in labels:
            self.engines.add(labels["engine"])
        if name == "cache_config_info":
            blocks, size = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
            if blocks.isdecimal() and size.isdecimal():
                self.kv_tokens = int(blocks) * int(size)
        elif name == "max_total_num_tokens":
            self.kv_tokens = int(value)
        elif name.endswith("_bucket"):
            bounds = self.buckets.setdefault(name.removesuffix("_bucket"), {})
            bound = float(labels.get("le", "inf").replace("+Inf", "inf"))
            bounds[bound] = bounds.get(bound, 0.0) + value
        else:
            self.sums[name] = self.sums.get(name, 0.0) + value


def read_counters(after: Path, before: Path | None) -> Counted:
    """The time between two scrapes; `before` None: since the engine's start. Raises TraceError."""
    late = _Page(after)
    early = None if before is None else _Page(before)

    def sum_of(name: str) -> float:
        return late.sums.get(name, 0.0) - (0.0 if early is None else early.sums.get(name, 0.0))

    def mean(*names: str) -> float | None:
        for name in names:
            count = sum_of(f"{name}_count")
            if count > 0:
                return sum_of(f"{name}_sum") / count
        return None

    def buckets(*names: str) -> Buckets:
        for name in names:
            if name in late.buckets:
                past = {} if early is None else early.buckets.get(name, {})
                return [(bound, n - past.get(bound, 0.0)) for bound, n in sorted(late.buckets[name].items())]
        return []

    ttft = mean("time_to_first_token_seconds")
    tpot = mean(
        "inter_token_latency_seconds",
        "request_time_per_output_token_seconds",
        "time_per_output_token_seconds",
    )
    e2e = mean("e2e_request_latency_seconds")
    requests = max(
        sum_of(f"{name}_count") for name in ("time_to_first_token_seconds", "e2e_request_latency_seconds")
    )
    prompts, outputs = sum_of("prompt_tokens_total"), sum_of("generation_tokens_total")
    if requests < 1 or prompts < 1 or outputs < 1 or ttft is None or (tpot is None and e2e is None):
        raise TraceError(
            after.name, 0, None,
            "answered requests in time_to_first_token_seconds, in inter_token_latency_seconds or "
            "e2e_request_latency_seconds, in prompt_tokens_total and generation_tokens_total",
            "none in some of them",
        )  # fmt: skip
    hits = sum_of("prefix_cache_hits_total") or sum_of("cached_tokens_total")
    asked = sum_of("prefix_cache_queries_total") or prompts
    return Counted(
        after.name, requests, max(1, len(late.engines)), prompts / requests, outputs / requests,
        min(max(hits / asked, 0.0), 1.0), ttft, tpot, e2e,
        buckets("request_prompt_tokens", "prompt_tokens_histogram"),
        buckets("request_generation_tokens", "generation_tokens_histogram"), late.kv_tokens,
    )  # fmt: skip


def made_up(counted: Counted, seconds: float, seed: int = 0) -> list[MeasuredRequest]:
    """A run of one engine that looks like what was counted in `seconds`. Its times are the means."""
    chance = Random(seed)
    rate = counted.requests / counted.engines / seconds
    prompts = _lengths(counted.prompt_buckets, counted.prompt_tokens, chance)
    outputs = _lengths(counted.output_buckets, counted.output_tokens, chance)
    ttft = counted.ttft_s or 0.0
    requests, now = [], 0.0
    for prompt, output in zip(prompts, outputs, strict=True):
        cached = min(round(prompt * counted.cached_share), prompt - 1)
        e2e = counted.e2e_s or ttft + (counted.tpot_s or 0.0) * (output - 1)
        requests.append(MeasuredRequest(now, prompt, output, e2e, ttft, cached))
        now += chance.expovariate(rate)
    return requests


def fit_counters(
    counted: Counted, seconds: float, start: EngineConfig, simulated_once: Callable[[], None] = lambda: None
) -> tuple[Fitted, Agreement]:
    """Speeds and host time that give the means. Raises ValueError as `search.fit` does."""
    requests = made_up(counted, seconds)
    replay = Replay(requests, start.block_tokens)
    measured = (counted.ttft_s, counted.tpot_s, counted.e2e_s)

    def residuals(config: EngineConfig) -> list[float]:
        told = zip(measured, _means(requests, replay.run(config)), strict=True)
        return [log(simulated / mean) for mean, simulated in told if mean]

    counter = Counter(residuals, simulated_once)
    config = best_scales(counter, start, (0.0, 0.0))
    config = rounded(least(counter, config, SCALES, start))
    means = _means(requests, replay.run(config))
    ttft, tpot, e2e = (
        None if mean is None else Compared(mean, simulated, simulated / mean - 1, None)
        for mean, simulated in zip(measured, means, strict=True)
    )
    return Fitted(config, counter.count), Agreement(len(requests), ttft, tpot, e2e, None)


def _means(requests: list[MeasuredRequest], simulated: Simulated) -> tuple[float, float, float]:
    """TTFT, TPOT and E2E. TPOT is the mean over tokens, as vLLM's inter-token latency is."""
    tokens = sum(request.output_tokens - 1 for request in requests)
    ttft, e2e = fmean(simulated.ttft_s), fmean(simulated.e2e_s)
    return ttft, (e2e - ttft) * len(requests) / max(1, tokens), e2e


def _lengths(buckets: Buckets, mean: float, chance: Random) -> list[int]:
    """As the histogram has them, in random order, with the mean that the sums tell."""
    drawn = [mean] * MADE_UP
    total = buckets[-1][1] if buckets else 0.0
    if total > 0:
        drawn = [_quantile(buckets, total * (index + 0.5) / MADE_UP) for index in range(MADE_UP)]
        chance.shuffle(drawn)
    scale = mean / max(fmean(drawn), 1e-9)
    return [max(1, round(length * scale)) for length in drawn]


def _quantile(buckets: Buckets, rank: float) -> float:
    low, below = 0.0, 0.0
    for bound, upto in buckets:
        if upto >= rank and bound < inf:
            return low + (bound - low) * (rank - below) / max(upto - below, 1e-9)
        low, below = (bound, upto) if bound < inf else (low, below)
    return low

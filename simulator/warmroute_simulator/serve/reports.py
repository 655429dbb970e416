"""What a worker tells about itself: /metrics in vLLM's or SGLang's names, /__state, /v1/loads."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from warmroute_simulator.serve.worker import Worker

# vLLM's buckets for the time to the first token, seconds.
TTFT_BUCKETS_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip


class Histogram:
    """Counts per bucket, and the sum. Written by `observe`."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str, labels: str) -> list[str]:
        total, lines = 0, []
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {total}')
        return [*lines, f"{name}_count{{{labels}}} {total}", f"{name}_sum{{{labels}}} {self.sum}"]


def vllm_metrics(worker: Worker) -> bytes:
    engine, totals = worker.engine, worker.engine.totals
    labels = f'engine="0",model_name="{worker.model}"'
    config = engine.config
    lines: list[str] = []

    def one(kind: str, name: str, value: float, more: str = "") -> None:
        lines.append(f"# TYPE vllm:{name} {kind}")
        lines.append(f"vllm:{name}{{{labels}{more}}} {value}")

    one("gauge", "num_requests_running", engine.running)
    one("gauge", "num_requests_waiting", engine.waiting)
    one("gauge", "kv_cache_usage_perc", engine.kv_usage)
    cache = f',block_size="{config.block_tokens}",num_gpu_blocks="{config.capacity_blocks}"'
    cache += f',kv_cache_size_tokens="{config.capacity_blocks * config.block_tokens}"'
    one("gauge", "cache_config_info", 1, cache + ',cache_dtype="auto",enable_prefix_caching="True"')
    one("counter", "prefix_cache_queries_total", totals.prompt_tokens)
    one("counter", "prefix_cache_hits_total", totals.cached_tokens)
    one("counter", "prompt_tokens_total", totals.prompt_tokens)
    one("counter", "prompt_tokens_cached_total", totals.cached_tokens)
    one("counter", "generation_tokens_total", totals.output_tokens)
    one("counter", "num_preemptions_total", totals.preemptions)
    lines.append("# TYPE vllm:request_success_total counter")
    for reason, count in worker.finished.items():
        lines.append(f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {count}')
    lines.append("# TYPE vllm:time_to_first_token_seconds histogram")
    lines += worker.ttft.lines("vllm:time_to_first_token_seconds", labels)
    lines.append("# TYPE process_start_time_seconds gauge")
    lines.append(f"process_start_time_seconds {worker.started_at_s}")
    return "\n".join(lines).encode() + b"\n"


def sglang_metrics(worker: Worker) -> bytes:
    engine, totals = worker.engine, worker.engine.totals
    labels = f'engine_type="unified",model_name="{worker.model}",tp_rank="0",pp_rank="0"'
    config = engine.config
    lines: list[str] = []

    def one(kind: str, name: str, value: float, more: str = "") -> None:
        lines.append(f"# TYPE sglang:{name} {kind}")
        lines.append(f"sglang:{name}{{{labels}{more}}} {value}")

    one("gauge", "num_running_reqs", engine.running)
    one("gauge", "num_queue_reqs", engine.waiting)
    one("gauge", "token_usage", engine.kv_usage)
    one("gauge", "num_used_tokens", engine.cache.in_use * config.block_tokens)
    one("gauge", "max_total_num_tokens", config.capacity_blocks * config.block_tokens)
    one("gauge", "page_size", config.block_tokens)
    one("gauge", "num_pages", config.capacity_blocks)
    one("gauge", "kv_evictable_tokens", engine.cache.evictable * config.block_tokens)
    one("gauge", "kv_available_tokens", engine.cache.free * config.block_tokens)
    one("gauge", "cache_hit_rate", _hit_rate(worker))
    one("counter", "prompt_tokens_total", totals.prompt_tokens)
    one("counter", "cached_tokens_total", totals.cached_tokens, ',cache_source="device"')
    one("counter", "generation_tokens_total", totals.output_tokens)
    one("counter", "num_requests_total", totals.finished)
    lines.append("# TYPE sglang:time_to_first_token_seconds histogram")
    lines += worker.ttft.lines("sglang:time_to_first_token_seconds", labels)
    return "\n".join(lines).encode() + b"\n"


def sglang_loads(worker: Worker) -> dict[str, object]:
    engine = worker.engine
    tokens = engine.config.block_tokens
    load = {
        "dp_rank": 0,
        "num_running_reqs": engine.running,
        "num_waiting_reqs": engine.waiting,
        "num_waiting_uncached_tokens": engine.waiting_tokens,
        "num_used_tokens": engine.cache.in_use * tokens,
        "max_total_num_tokens": engine.cache.capacity * tokens,
        "token_usage": engine.kv_usage,
        "cache_hit_rate": _hit_rate(worker),
    }
    return {"version": worker.version, "loads": [load]}


def state(worker: Worker) -> dict[str, object]:
    """The truth about a worker, for tests and measurements. Times are engine seconds: without queueing in
    the process, real seconds times `--speed`."""
    engine, totals, cache = worker.engine, worker.engine.totals, worker.engine.cache
    told: dict[str, object] = {} if worker.kv_events is None else {"kv_events": worker.kv_events.report()}
    return told | {
        "worker": worker.index,
        "model": worker.model,
        "running": engine.running,
        "waiting": engine.waiting,
        "blocks": {
            "capacity": cache.capacity,
            "free": cache.free,
            "private": cache.private,
            "referenced": cache.referenced,
            "cached": cache.evictable,
            "evicted_total": cache.evictions,
        },
        "block_tokens": engine.config.block_tokens,
        "totals": {
            "requests": totals.requests,
            "finished": totals.finished,
            "aborted": totals.aborted,
            "prompt_tokens": totals.prompt_tokens,
            "cached_tokens": totals.cached_tokens,
            "output_tokens": totals.output_tokens,
            "preemptions": totals.preemptions,
            "hit_rate": _hit_rate(worker),
            "mean_ttft_s": totals.ttft_sum_s / totals.first_tokens if totals.first_tokens else None,
        },
        "connections": len(worker.connections),
        "fault": worker.faults.spec.kind,
    }


def fleet_totals(workers: list[Worker]) -> dict[str, object]:
    """The sums over all workers of one process."""
    names = (
        "requests",
        "finished",
        "aborted",
        "prompt_tokens",
        "cached_tokens",
        "output_tokens",
        "preemptions",
    )
    sums: dict[str, object] = {
        name: sum(getattr(worker.engine.totals, name) for worker in workers) for name in names
    }
    prompt = sum(worker.engine.totals.prompt_tokens for worker in workers)
    cached = sum(worker.engine.totals.cached_tokens for worker in workers)
    sums["hit_rate"] = cached / prompt if prompt else 0.0
    return sums


def _hit_rate(worker: Worker) -> float:
    totals = worker.engine.totals
    return totals.cached_tokens / totals.prompt_tokens if totals.prompt_tokens else 0.0

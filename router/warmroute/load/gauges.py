"""What a /metrics page tells of an engine's load: vLLM, SGLang, llama.cpp.

    vLLM         vllm:num_requests_running, _waiting, vllm:kv_cache_usage_perc        a sample per engine
    SGLang       sglang:num_running_reqs, num_queue_reqs, token_usage                 per dp, tp and pp rank
    llama.cpp    llamacpp:requests_processing, requests_deferred, kv_cache_usage_ratio

Data-parallel engines behind one URL add up; the ranks of one tensor-parallel group say the same, and the
largest counts. A page is some 100 KB: it is searched for these names and not parsed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from warmroute.load.numbers import RANKS_MAX, both, count, decimal, mean, share, total
from warmroute_policies.types import LoadReport

_SAMPLE: Final = re.compile(
    rb"^(vllm:num_requests_running|vllm:num_requests_waiting|vllm:kv_cache_usage_perc"
    rb"|sglang:num_running_reqs|sglang:num_queue_reqs|sglang:token_usage"
    rb"|llamacpp:requests_processing|llamacpp:requests_deferred|llamacpp:kv_cache_usage_ratio)"
    rb"(?:\{([^\n]*)\})? ([^\s]+)",
    re.MULTILINE,
)

_RANK: Final = re.compile(rb'(?:^|,)(?:engine|dp_rank)="([^"]{1,64})"')

# Running, waiting, share of the KV cache.
_NAMES: Final = (
    (b"vllm:num_requests_running", b"vllm:num_requests_waiting", b"vllm:kv_cache_usage_perc"),
    (b"sglang:num_running_reqs", b"sglang:num_queue_reqs", b"sglang:token_usage"),
    (b"llamacpp:requests_processing", b"llamacpp:requests_deferred", b"llamacpp:kv_cache_usage_ratio"),
)


def read_gauges(body: bytes) -> LoadReport:
    """The load on a page. Raises ValueError where the page holds none of these names."""
    samples: dict[bytes, dict[bytes, float | None]] = {}
    for name, labels, text in _SAMPLE.findall(body):
        ranks = samples.setdefault(name, {})
        found = _RANK.search(labels)
        rank = b"" if found is None else found[1]
        if rank in ranks or len(ranks) < RANKS_MAX:
            ranks[rank] = _larger(ranks.get(rank, -1.0), decimal(text))
    for names in _NAMES:
        if any(name in samples for name in names):
            return _report(samples, *names)
    raise ValueError("none of the gauges that tell an engine's load")


def _larger(before: float | None, value: float | None) -> float | None:
    """What is no number spoils its rank: it is not told."""
    return None if before is None or value is None else max(before, value)


def _report(
    samples: Mapping[bytes, Mapping[bytes, float | None]], running: bytes, waiting: bytes, usage: bytes
) -> LoadReport:
    waits = total(map(count, samples.get(waiting, {}).values()))
    return LoadReport(
        both(total(map(count, samples.get(running, {}).values())), waits),
        waits,
        kv_usage=mean([share(value) for value in samples.get(usage, {}).values()]),
    )

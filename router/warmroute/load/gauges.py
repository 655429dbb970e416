"""What a /metrics page tells of an engine's load: vLLM, SGLang, llama.cpp.

    vLLM         vllm:num_requests_running, _waiting, vllm:kv_cache_usage_perc        a sample per engine
    SGLang       sglang:num_running_reqs, num_queue_reqs, token_usage                 per dp, tp and pp rank
    llama.cpp    llamacpp:requests_processing, requests_deferred, kv_cache_usage_ratio

Data-parallel engines behind one URL add up; the ranks of one tensor-parallel group say the same, and the
largest counts. A page is some 100 KB: it is searched for these names and not parsed.
"""

from __future__ import annotations

import re
from typing import Final

from warmroute.load.numbers import RANKS_MAX, both, count, decimal, mean, share, total
from warmroute_policies.types import LoadReport

_RANK: Final = re.compile(rb'[{,](?:engine|dp_rank)="([^"]{1,64})"')

_BEHIND_A_NAME: Final = (b"{", b" ")

# Running, waiting, share of the KV cache.
_NAMES: Final = (
    (b"vllm:num_requests_running", b"vllm:num_requests_waiting", b"vllm:kv_cache_usage_perc"),
    (b"sglang:num_running_reqs", b"sglang:num_queue_reqs", b"sglang:token_usage"),
    (b"llamacpp:requests_processing", b"llamacpp:requests_deferred", b"llamacpp:kv_cache_usage_ratio"),
)


def read_gauges(body: bytes) -> LoadReport:
    """The load on a page. Raises ValueError where the page holds none of these names."""
    page = b"\n" + body
    for running, waiting, usage in _NAMES:
        ranks = [_by_rank(page, name) for name in (running, waiting, usage)]
        if any(ranks):
            run, wait, use = ranks
            waits = total(map(count, wait.values()))
            return LoadReport(
                both(total(map(count, run.values())), waits),
                waits,
                kv_usage=mean([share(value) for value in use.values()]),
            )
    raise ValueError("none of the gauges that tell an engine's load")


def _by_rank(page: bytes, name: bytes) -> dict[bytes, float | None]:
    """The samples of one name. What is no number spoils its rank: it is not told."""
    found: dict[bytes, float | None] = {}
    start = b"\n" + name
    at = page.find(start)
    while at >= 0:
        begin = at + len(start)
        at = page.find(start, begin)
        end = page.find(b"\n", begin)
        rest = page[begin : end if end >= 0 else len(page)]
        if rest[:1] not in _BEHIND_A_NAME:
            continue
        labels, brace, value = rest.rpartition(b"}")
        words = (value if brace else rest).split()
        rank_found = _RANK.search(labels)
        rank = b"" if rank_found is None else rank_found[1]
        if rank in found or len(found) < RANKS_MAX:
            before, number = found.get(rank, 0.0), decimal(words[0]) if words else None
            found[rank] = None if before is None or number is None or number < 0 else max(before, number)
    return found

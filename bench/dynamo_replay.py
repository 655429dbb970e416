"""NVIDIA Dynamo's own offline replay of a trace, for comparison; runs in an environment of its own.

    PYTHON bench/dynamo_replay.py TRACE.jsonl    (PYTHON has ai-dynamo-runtime; `bench/simulator.py` makes it)

Prints one line of JSON: what it found and what the process cost. Written in Rust, without a network, its
router in the same process, eight mock vLLM workers of 16,384 blocks of 64 tokens.
"""

from __future__ import annotations

import json
import resource
import sys


def main() -> None:
    from dynamo._core import KvRouterConfig, run_mocker_trace_replay

    outcome = run_mocker_trace_replay(
        [sys.argv[1]],
        extra_engine_args={"engine": {"block_size": 64, "num_gpu_blocks": 16384}},
        router_mode="kv_router",
        router_config=KvRouterConfig(overlap_score_credit=1.0),
        num_workers=8,
        trace_block_size=512,
        replay_mode="offline",
    )
    spent = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "cpu_s": spent.ru_utime + spent.ru_stime,
                "hit_rate": outcome.summary["prefix_cache_reused_ratio"],
                "mean_ttft_s": outcome.summary["mean_ttft_ms"] / 1000,
            }
        )
    )


if __name__ == "__main__":
    main()

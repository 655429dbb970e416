"""How vLLM is started on the CPU, with its KV events on a socket of the file system."""

from __future__ import annotations

import json
from pathlib import Path

from e2e.engines.engine import (
    BLOCK_TOKENS,
    BLOCKS,
    CONTEXT_TOKENS,
    MODEL_NAME,
    MOST_RUNNING,
    Engine,
    core,
    free_port,
)


def vllm(home: Path, folder: Path, number: int, model: str = "tiny-llama", blocks: int = BLOCKS) -> Engine:
    """Engine `number`; `home` is what setup.sh made, `folder` gets its log and sockets. POST
    /reset_prefix_cache empties its cache."""
    (program,) = home.glob("vllm-*/bin/vllm")
    port = free_port()
    events = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        # An ipc endpoint is bound by the engine; tcp://127.0.0.1 would be connected to.
        "endpoint": f"ipc://{folder}/kv-{number}.ipc",
        "replay_endpoint": f"ipc://{folder}/kv-replay-{number}.ipc",
        "topic": f"kv@127.0.0.1:{port}@{MODEL_NAME}",
    }
    command = [
        *(str(program), "serve", str(home / model), "--served-model-name", MODEL_NAME),
        *("--load-format", "dummy", "--dtype", "bfloat16", "--enforce-eager"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--block-size", str(BLOCK_TOKENS), "--num-gpu-blocks-override", str(blocks)),
        *("--max-model-len", str(CONTEXT_TOKENS), "--max-num-seqs", str(MOST_RUNNING)),
        *("--distributed-executor-backend", "uni"),
        # `cached_tokens` in answers, and a /load that counts.
        *("--enable-prefix-caching", "--enable-prompt-tokens-details", "--enable-server-load-tracking"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        *("--kv-events-config", json.dumps(events)),
    ]
    environment = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        # A core per engine; unset, two engines may share one.
        "VLLM_CPU_OMP_THREADS_BIND": str(core(number)),
        "OMP_NUM_THREADS": "1",
        # GiB, the smallest that it takes; BLOCKS bounds the cache far below.
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # Without this the executor `uni` is replaced by one with another process and 0.5 GB more.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "PYTHONHASHSEED": "0",
        # Responses are kept, and can be asked for.
        "VLLM_ENABLE_RESPONSES_API_STORE": "1",
        # /reset_prefix_cache and the like.
        "VLLM_SERVER_DEV_MODE": "1",
    }
    return Engine("vllm", f"http://127.0.0.1:{port}", folder / f"vllm-{number}.log", command, environment)

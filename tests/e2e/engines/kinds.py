"""What the kinds of engines have in common for a test: how each is started, and how to see that it works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import httpx

from e2e.engines.engine import Engine
from e2e.engines.llamacpp import llamacpp
from e2e.engines.sglang import sglang
from e2e.engines.vllm import vllm

KINDS: Final[Mapping[str, Callable[[Path, Path, int], Engine]]] = {
    "vllm": vllm,
    "sglang": sglang,
    "llamacpp": llamacpp,
}

_RUNNING: Final = {
    "vllm": ("vllm:num_requests_running", "vllm:num_requests_waiting"),
    "sglang": ("sglang:num_running_reqs", "sglang:num_queue_reqs"),
    "llamacpp": ("llamacpp:requests_processing", "llamacpp:requests_deferred"),
}
_GENERATED: Final = {
    "vllm": "vllm:generation_tokens_total",
    "sglang": "sglang:generation_tokens_total",
    "llamacpp": "llamacpp:tokens_predicted_total",
}


def metric(engine: Engine, *names: str) -> float:
    """The sum over all series of these metrics."""
    page = httpx.get(f"{engine.url}/metrics", trust_env=False, timeout=20).text
    lines = (line for line in page.splitlines() if not line.startswith("#"))
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].split()[0] in names)


def generated_tokens(engine: Engine) -> float:
    """All that it has generated. SGLang and llama.cpp count a request when it ends, vLLM every step."""
    return metric(engine, _GENERATED[engine.kind])


def in_progress(engine: Engine) -> float:
    """Requests that the engine runs or keeps waiting, by what is freshest of all that it tells."""
    if engine.kind == "vllm":
        load: int = httpx.get(f"{engine.url}/load", trust_env=False, timeout=20).json()["server_load"]
        return load
    if engine.kind == "sglang":
        ranks = httpx.get(f"{engine.url}/v1/loads", trust_env=False, timeout=20).json()["loads"]
        return float(sum(rank["num_running_reqs"] + rank["num_waiting_reqs"] for rank in ranks))
    return metric(engine, *_RUNNING[engine.kind])


def computing(engine: Engine) -> float:
    """Requests in the engine's scheduler, by its counters; they follow its steps, and so come late."""
    return metric(engine, *_RUNNING[engine.kind])

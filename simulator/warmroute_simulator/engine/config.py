"""What one simulated worker is: latencies, KV capacity and scheduler limits."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal, get_args

from warmroute_policies.latency import DEFAULT_PRESET, PRESETS, LatencyCoefficients
from warmroute_policies.parameters import suggestion

EngineKind = Literal["vllm", "sglang"]
"""Whose scheduler: decodes and prefill in one step, or prefill first. See `vllm` and `sglang`."""

DEFAULT_BLOCK_TOKENS = 16
"""vLLM's default block size on GPUs."""
DEFAULT_MAX_NUM_SEQS = 256
"""vLLM's usual `--max-num-seqs` for a server; the presets are fitted up to 256 sequences."""
DEFAULT_STEP_TOKENS = 8192
"""vLLM's `--max-num-batched-tokens` and SGLang's `--chunked-prefill-size` on GPUs of 80 GB and more."""
DEFAULT_PREFILL_TOKENS = 16_384
"""SGLang's `--max-prefill-tokens`."""


@dataclass(frozen=True)
class Deployment:
    """A preset beside its latencies: the model's name, what the KV cache holds, how long a prompt may be."""

    model: str
    kv_tokens: int
    max_model_len: int = 131_072


# KV tokens = (0.9 · GPU memory − weights − (2.5 + 0.6·TP) GiB) / KV bytes per token, bf16. KV bytes per token
# are 2 · layers · KV heads · head size · 2: 131,072 for Llama-3.1-8B, 327,680 for 70B, 147,456 for Qwen3-8B
# and 262,144 for Qwen3-32B. An engine's own log is better: `--kv-tokens` overrides.
DEPLOYMENTS: dict[str, Deployment] = {
    "llama-3.1-8b-h100": Deployment("llama-3.1-8b", 441_000),
    "llama-3.1-8b-h100-sglang": Deployment("llama-3.1-8b", 441_000),
    "llama-3.1-8b-h200": Deployment("llama-3.1-8b", 885_000),
    "llama-3.1-8b-a100": Deployment("llama-3.1-8b", 441_000),
    "llama-3.1-8b-l40s": Deployment("llama-3.1-8b", 184_000),
    "llama-3.1-70b-h100-tp4": Deployment("llama-3.1-70b", 494_000),
    "llama-3.1-70b-h100-tp4-sglang": Deployment("llama-3.1-70b", 494_000),
    "llama-3.1-70b-h100-tp8": Deployment("llama-3.1-70b", 1_430_000),
    "llama-3.1-70b-h200-tp4": Deployment("llama-3.1-70b", 1_200_000),
    "llama-3.1-70b-a100-tp4": Deployment("llama-3.1-70b", 494_000),
    "qwen3-8b-h100": Deployment("qwen3-8b", 390_000, 40_960),
    "qwen3-8b-h200": Deployment("qwen3-8b", 784_000, 40_960),
    "qwen3-32b-h100-tp2": Deployment("qwen3-32b", 323_000, 40_960),
    "qwen3-32b-fp8-h200-sglang": Deployment("qwen3-32b", 378_000, 40_960),
}


@dataclass(frozen=True)
class EngineConfig:
    """One worker. Raises ValueError when a limit is not positive."""

    latency: LatencyCoefficients = PRESETS[DEFAULT_PRESET]
    kv_tokens: int = DEPLOYMENTS[DEFAULT_PRESET].kv_tokens
    """KV cache capacity; rounded down to whole blocks."""
    kind: EngineKind = "vllm"
    block_tokens: int = DEFAULT_BLOCK_TOKENS
    max_num_seqs: int = DEFAULT_MAX_NUM_SEQS
    """Sequences that may run at once; the others wait."""
    step_tokens: int = DEFAULT_STEP_TOKENS
    """Tokens that one step may compute. vLLM: decodes and chunks of prefill together
    (`--max-num-batched-tokens`). SGLang: chunks of prefill (`--chunked-prefill-size`)."""
    prefill_tokens: int = DEFAULT_PREFILL_TOKENS
    """SGLang only: tokens of whole prompts that one prefill step takes up (`--max-prefill-tokens`)."""
    overlap: bool = True
    """The host decides on the next step while this one runs, so that who comes now may join the step after
    the next. vLLM's asynchronous scheduling and SGLang's overlap schedule, both on by default."""
    step_overhead_s: float = 0.0
    """Host time added to every step. 0: with `overlap` the host works beside the GPU, and the presets then
    agree with measured time per output token within 6 to 8 % (`bench/fidelity.py`). What a host that works
    between the steps takes per sequence belongs to `latency.d1`: 39 µs for vLLM 0.12."""
    request_overhead_s: float = 0.0
    """Host time between a request's arrival and the moment from which the scheduler knows of it: HTTP,
    tokenizer, the way to the engine's process."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(EngineKind):
            raise ValueError(f"no engine `{self.kind}`{suggestion(self.kind, get_args(EngineKind))}")
        for name in ("block_tokens", "max_num_seqs", "step_tokens", "prefill_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.capacity_blocks < 1:
            raise ValueError(f"kv_tokens must hold at least one block of {self.block_tokens} tokens")
        if self.kind == "vllm" and self.step_tokens < self.max_num_seqs:
            raise ValueError(
                "step_tokens must be at least max_num_seqs: each running sequence needs one token"
            )
        for name in ("step_overhead_s", "request_overhead_s"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"{name} must not be negative, and not {getattr(self, name)}")

    @property
    def capacity_blocks(self) -> int:
        return self.kv_tokens // self.block_tokens

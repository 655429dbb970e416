"""What one simulated worker is: latencies, KV capacity and scheduler limits."""

from __future__ import annotations

from dataclasses import dataclass

from warmroute_policies.latency import DEFAULT_PRESET, PRESETS, LatencyCoefficients

DEFAULT_BLOCK_TOKENS = 16
"""vLLM's default block size on GPUs."""
DEFAULT_MAX_NUM_SEQS = 256
"""vLLM's usual `--max-num-seqs` for a server; the presets are fitted up to 256 sequences."""
DEFAULT_STEP_TOKENS = 8192
"""vLLM's `--max-num-batched-tokens` for an API server on an H100."""


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
    block_tokens: int = DEFAULT_BLOCK_TOKENS
    max_num_seqs: int = DEFAULT_MAX_NUM_SEQS
    """Sequences that may run at once; the others wait."""
    step_tokens: int = DEFAULT_STEP_TOKENS
    """Tokens that one step may compute: decodes and chunks of prefill together."""
    step_overhead_s: float = 0.0
    """Host time added to every step. 0: current engines prepare the next step while the GPU works, and
    the presets then agree with measured time per output token within 1 to 7 %."""

    def __post_init__(self) -> None:
        for name in ("block_tokens", "max_num_seqs", "step_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.capacity_blocks < 1:
            raise ValueError(f"kv_tokens must hold at least one block of {self.block_tokens} tokens")
        if self.step_tokens < self.max_num_seqs:
            raise ValueError(
                "step_tokens must be at least max_num_seqs: each running sequence needs one token"
            )
        if self.step_overhead_s < 0:
            raise ValueError("step_overhead_s must not be negative")

    @property
    def capacity_blocks(self) -> int:
        return self.kv_tokens // self.block_tokens

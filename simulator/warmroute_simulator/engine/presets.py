"""What `--preset` accepts: the name of a built-in preset, or a JSON file that `simulator fit` wrote.

A preset is all that is known of one model on one kind of worker: latencies, KV capacity, whose scheduler and
its limits, host overheads. It makes an `EngineConfig`; what a command line says beside it wins.

    {"schema": 1, "name": "my-fleet", "model": "llama-3.1-8b", "kind": "vllm", "kv_tokens": 41408,
     "latency": {"w0": …, "c0": …, "c1": …, "c2": …, "d0": …, "d1": …, "d2": …}, …}

Fields that are left out have the defaults of `Preset`; a field that is unknown is an error, since a misspelt
limit would otherwise be ignored.
"""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

import msgspec

from warmroute_policies.latency import PRESETS, LatencyCoefficients
from warmroute_policies.parameters import suggestion
from warmroute_simulator.engine.config import (
    DEFAULT_BLOCK_TOKENS,
    DEFAULT_MAX_NUM_SEQS,
    DEFAULT_PREFILL_TOKENS,
    DEFAULT_STEP_TOKENS,
    DEPLOYMENTS,
    Deployment,
    EngineConfig,
    EngineKind,
)

SCHEMA = 1


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model on one kind of worker. Fields as in `EngineConfig` and `Deployment`."""

    schema: int = SCHEMA
    name: str
    model: str
    kind: EngineKind = "vllm"
    latency: LatencyCoefficients
    kv_tokens: int
    max_model_len: int = Deployment.max_model_len
    block_tokens: int = DEFAULT_BLOCK_TOKENS
    max_num_seqs: int = DEFAULT_MAX_NUM_SEQS
    step_tokens: int = DEFAULT_STEP_TOKENS
    prefill_tokens: int = DEFAULT_PREFILL_TOKENS
    overlap: bool = True
    step_overhead_s: float = 0.0
    request_overhead_s: float = 0.0
    provenance: dict[str, Any] = {}
    """Where the numbers come from: source, rows, errors. Nothing reads it but people."""

    @property
    def deployment(self) -> Deployment:
        return Deployment(self.model, self.kv_tokens, self.max_model_len)

    def engine(self, **changes: Any) -> EngineConfig:
        """The worker that the preset describes, with `changes` to fields of `EngineConfig`.

        Raises ValueError when the limits contradict each other.
        """
        fields: dict[str, Any] = {
            "latency": self.latency,
            "kv_tokens": self.kv_tokens,
            "kind": self.kind,
            "block_tokens": self.block_tokens,
            "max_num_seqs": self.max_num_seqs,
            "step_tokens": self.step_tokens,
            "prefill_tokens": self.prefill_tokens,
            "overlap": self.overlap,
            "step_overhead_s": self.step_overhead_s,
            "request_overhead_s": self.request_overhead_s,
        }
        return EngineConfig(**(fields | changes))


def load_preset(name_or_path: str | Path) -> Preset:
    """Raises ValueError when there is no such preset or file, or when the file is none of ours."""
    name = str(name_or_path)
    if name in PRESETS:
        deployment = DEPLOYMENTS[name]
        return Preset(
            name=name,
            model=deployment.model,
            kind="sglang" if name.endswith("-sglang") else "vllm",
            latency=PRESETS[name],
            kv_tokens=deployment.kv_tokens,
            max_model_len=deployment.max_model_len,
        )
    path = Path(name_or_path)
    if path.suffix == ".json" or path.is_file():
        return _read(path)
    raise ValueError(f"no preset `{name}`{suggestion(name, PRESETS)}; or a .json file of `simulator fit`")


def save_preset(preset: Preset, path: Path) -> None:
    """Writes the file that `load_preset` reads. Raises OSError."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(preset)) + b"\n")


def _read(path: Path) -> Preset:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"no preset file {path}") from None
    try:
        preset = msgspec.json.decode(content, type=Preset)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: not a preset: {error}") from None
    if preset.schema != SCHEMA:
        raise ValueError(f"{path}: schema {preset.schema}, but this version reads {SCHEMA}")
    for field in preset.latency.__struct_fields__:
        value = getattr(preset.latency, field)
        if not (isfinite(value) and value >= 0):
            raise ValueError(f"{path}: latency.{field} must be a number from 0 on, not {value}")
    try:
        preset.engine()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return preset

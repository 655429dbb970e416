"""What an engine tells about itself: pure readers of its answers, and what the router makes of them.

vLLM tells its KV cache as labels of a metric, SGLang in `/server_info` and as gauges. What is not told
stays None: a guessed capacity would be believed. Engines' answers are input like any other, so every
reader takes anything and finds what it knows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf
from typing import Any

import msgspec

from warmroute.config.backends import Backend
from warmroute.config.core import worker_spec
from warmroute.config.settings import Settings
from warmroute.dialects.request import MODEL_CHARS_MAX
from warmroute_policies.types import WorkerSpec

# A worker's list of models is cut here: a base model with some hundred adapters fits.
MODELS_MAX = 1000

# A cache of a trillion tokens is a wrong number.
_TOKENS_MAX = 10**12

_LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')

# As prometheus_client writes it for its own process: without labels. A page with labels is about others.
_START = re.compile(r"^process_start_time_seconds (\S+)", re.MULTILINE)

# Nobody starts an engine twice in a second, and some exporters compute the time from a clock that is
# adjusted.
_START_TOLERANCE_S = 1.0

_METRIC = re.compile(
    r"^(vllm:cache_config_info|sglang:max_total_num_tokens|sglang:page_size)\{(.*)\} (\S+)", re.MULTILINE
)


# Model objects are listed to clients as they are; one that cannot be written out would hide all the others.
_DEPTH_MAX = 32


class KvCache(msgspec.Struct, frozen=True):
    """An engine's KV cache, as far as it was told."""

    engine: str
    """"vllm" or "sglang"."""
    capacity_tokens: int | None = None
    block_tokens: int | None = None


class Learned(msgspec.Struct, frozen=True):
    """What one worker has told. None and empty: not told."""

    models: tuple[dict[str, Any], ...] = ()
    """Model objects as they stand in its `/v1/models`."""
    kv_cache: KvCache | None = None
    started_at_s: float | None = None
    """When its process started, by its own clock, seconds since 1970."""


def _is_deep(value: Any, left: int = _DEPTH_MAX) -> bool:
    """Whether there are more lists in lists than anybody reads."""
    if not left:
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_is_deep(one, left - 1) for one in inner)


def read_models(body: bytes) -> tuple[dict[str, Any], ...]:
    """The model objects of a `/v1/models` answer. Raises ValueError when it is not such a list."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        raise ValueError("no list of models under `data`")  # noqa: TRY004  # a value from outside
    models: dict[str, dict[str, Any]] = {}
    for item in data:
        name = item.get("id") if isinstance(item, dict) else None
        if isinstance(name, str) and 0 < len(name) <= MODEL_CHARS_MAX and len(models) < MODELS_MAX:
            models.setdefault(name, {"id": name} if _is_deep(item) else item)
    return tuple(models.values())


def read_metrics(text: str, only: int | None = None) -> KvCache | None:
    """The KV cache from a Prometheus page of vLLM or SGLang; None when it is neither's, or does not tell.

    Data-parallel ranks behind one URL have a cache each: theirs are added up, or it is that of `only` one.
    """
    vllm: dict[str, dict[str, str]] = {}
    tokens: dict[str, int] = {}
    page_tokens: int | None = None
    for name, labels_text, value in _METRIC.findall(text):
        labels = dict(_LABEL.findall(labels_text))
        if name == "vllm:cache_config_info":
            vllm[labels.get("engine", "0")] = labels
        elif name == "sglang:page_size":
            page_tokens = _tokens(value)
        else:  # the ranks of one tensor-parallel group report the same cache
            rank, count = labels.get("dp_rank", "0"), _tokens(value)
            if count is not None:
                tokens[rank] = max(tokens.get(rank, 0), count)
    if only is not None:
        vllm = {rank: labels for rank, labels in vllm.items() if rank == str(only)}
        tokens = {rank: count for rank, count in tokens.items() if rank == str(only)}
    if vllm:
        capacities = [_vllm_tokens(labels) for labels in vllm.values()]
        blocks = [_tokens(labels.get("block_size")) for labels in vllm.values()]
        return KvCache("vllm", _sum(capacities), blocks[0])
    if tokens:
        return KvCache("sglang", sum(tokens.values()), page_tokens)
    return None


def read_start_time(text: str) -> float | None:
    """When the process behind a Prometheus page started, seconds since 1970; None when it does not tell.

    vLLM's page tells; that of several API servers behind one port does not, nor does SGLang's.
    """
    found = _START.search(text)
    try:
        started_at_s = float(found[1]) if found else 0.0
    except ValueError:
        return None
    return started_at_s if 0.0 < started_at_s < inf else None


def has_restarted(before_s: float | None, now_s: float | None) -> bool:
    """Whether the second start time that a worker told is that of a later process. None tells nothing.

    An earlier one does not count: behind one URL may be several engines, and the youngest speaks for all.
    """
    return before_s is not None and now_s is not None and now_s - before_s > _START_TOLERANCE_S


def _vllm_tokens(labels: Mapping[str, str]) -> int | None:
    """Newer versions tell tokens, older ones blocks."""
    tokens = _tokens(labels.get("kv_cache_size_tokens"))
    if tokens is not None:
        return tokens
    blocks, size = _tokens(labels.get("num_gpu_blocks")), _tokens(labels.get("block_size"))
    return None if blocks is None or size is None else blocks * size


def read_server_info(body: bytes, only: int | None = None) -> KvCache | None:
    """The KV cache from SGLang's `/server_info`; None when it is not SGLang's, or does not tell. That of all
    data-parallel ranks, or of `only` one.

    Where the capacity stands differs by version: on top, or in the states of the data-parallel ranks.
    """
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    states = document.get("internal_states")
    ranks = [state for state in states if isinstance(state, dict)] if isinstance(states, list) else []
    if only is not None:
        ranks = ranks[only : only + 1]
    capacity = _sum([_tokens(state.get("max_total_num_tokens")) for state in ranks])
    if capacity is None:
        capacity = _tokens(document.get("max_total_num_tokens"))
        if capacity is not None:
            capacity *= 1 if only is not None else _tokens(document.get("dp_size")) or 1
    if capacity is None:
        return None
    return KvCache("sglang", capacity, _tokens(document.get("page_size")))


def learned_spec(backend: Backend, learned: Learned, settings: Settings) -> WorkerSpec:
    """A worker as the core should know it: what the operator gave, else what the engine told, else the
    settings' own figure for workers that do not tell."""
    spec = worker_spec(backend, settings)
    changes: dict[str, Any] = {}
    if not backend.model and learned.models:
        changes["models"] = tuple(model["id"] for model in learned.models)
    cache = learned.kv_cache
    if cache is not None:
        if backend.kv_capacity_tokens is None and cache.capacity_tokens is not None:
            changes["kv_capacity_tokens"] = cache.capacity_tokens
        if cache.block_tokens is not None:
            changes["engine_block_tokens"] = cache.block_tokens
    return msgspec.structs.replace(spec, **changes)


def _tokens(value: object) -> int | None:
    """A positive whole number, written as a number or as text; anything else is "not told"."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return int(number) if 1 <= number <= _TOKENS_MAX and number == int(number) else None


def _sum(parts: list[int | None]) -> int | None:
    """The sum; None when there are no parts, or one of them is not told."""
    known = [part for part in parts if part is not None]
    return sum(known) if known and len(known) == len(parts) else None

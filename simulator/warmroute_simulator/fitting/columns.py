"""What the columns of measured requests may be called; `rows` says what they mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

ARRIVAL: Final = (
    "arrival", "arrived", "queued_ts", "arrival_ts", "arrival_time", "start", "start_ts", "start_time",
    "timestamp",
)  # fmt: skip
PROMPT: Final = ("prompt_tokens", "input_tokens", "input_toks", "input_length", "prompt_len", "isl")
OUTPUT: Final = (
    "output_tokens", "output_toks", "output_length", "completion_tokens", "output_len", "osl",
)  # fmt: skip
TTFT: Final = ("ttft", "time_to_first_token")
FIRST_AT: Final = ("first_token_ts", "first_token_time", "first_token")
E2E: Final = ("e2e", "e2e_latency", "latency", "duration")
END_AT: Final = (
    "last_token_ts", "last_token_time", "end", "end_ts", "end_time", "finished_ts",
)  # fmt: skip
TPOT: Final = ("tpot", "time_per_output_token")
CACHED: Final = ("cached_tokens", "num_cached_tokens", "hit_tokens", "hit")
WORKER: Final = ("worker", "worker_id", "engine", "instance", "backend")
BLOCKS: Final = ("block_ids", "hash_ids")
REQUEST: Final = ("request_id", "id")


@dataclass(frozen=True, slots=True)
class Column:
    """Where a quantity stands, and what it is multiplied with."""

    name: str
    factor: float = 1.0


def found(names: Iterable[str], known: Sequence[str], *, timed: bool = False) -> Column | None:
    """The first of the `known` names that there is; `timed`: with or without a unit of time."""
    present = set(names)
    for name in known:
        if name in present:
            return Column(name)
        if timed:
            for suffix, factor in (("_s", 1.0), ("_ms", 0.001)):
                if name + suffix in present:
                    return Column(name + suffix, factor)
    return None

"""How long requests took: a column for each latency, and what many of them have in common.

    TTFT  time to first token: from the arrival at the router to the first token at the client
    TPOT  time per output token: (end − first token) ÷ (output tokens − 1), for answers of two tokens or more
    E2E   end to end: from the arrival to the last token at the client

A quantile is by nearest rank: the smallest value that at least that share of all values do not exceed. It
is thus always a latency that some request had, and the p99 of fewer than a hundred is the slowest.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import ceil, fsum, nan
from operator import sub

import msgspec

from warmroute_simulator.simulation.records import Records


class Spread(msgspec.Struct, frozen=True):
    """Mean and quantiles of one quantity, in its unit."""

    mean: float
    p50: float
    p90: float
    p99: float


def spread(values: Sequence[float]) -> Spread | None:
    """Reads. Over the values that are numbers (`nan`: not measured); None when there are none."""
    ordered = sorted(value for value in values if value == value)  # nan alone differs from itself
    if not ordered:
        return None
    # fsum: the same last digit whatever the order and the Python version.
    mean = fsum(ordered) / len(ordered)
    return Spread(mean, quantile(ordered, 0.5), quantile(ordered, 0.9), quantile(ordered, 0.99))


def quantile(ordered: Sequence[float], share: float) -> float:
    """Reads. By nearest rank, of values in ascending order, of which there is at least one."""
    # A share such as 0.07 × 100 is a little more than 7 in binary: not yet the next rank.
    return ordered[max(ceil(share * len(ordered) - 1e-9), 1) - 1]


def ttft_s(records: Records) -> array[float]:
    """Reads. By row; `nan` where no token came."""
    return array("d", map(sub, records.first_token_s, records.arrived_s))


def e2e_s(records: Records) -> array[float]:
    """Reads. By row; `nan` where the request did not end."""
    return array("d", map(sub, records.finished_s, records.arrived_s))


def tpot_s(records: Records) -> array[float]:
    """Reads. By row; `nan` where the request did not end, or has fewer than two output tokens."""
    columns = zip(records.finished_s, records.first_token_s, records.trace.output_tokens, strict=True)
    return array("d", [(end - first) / (tokens - 1) if tokens > 1 else nan for end, first, tokens in columns])

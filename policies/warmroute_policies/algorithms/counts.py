"""What the rules that count requests have in common: the load of a worker, and rows for people.

Rules kept here. Load is work in flight after the request would have joined, per unit of weight:
(B_i + 1) / w_i, so that of two idle workers the faster one is preferred. These rules do not price in
seconds: a share's name carries its unit, and `total_s` is the order of preference, the least first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf

from warmroute_policies.policy import View
from warmroute_policies.types import CostShares


def loads(view: View) -> list[float]:
    """Reads. By slot: requests in flight per weight with one more; `inf` for a slot that is not eligible."""
    fleet = view.fleet
    return [gate + (b + 1) / w for gate, b, w in zip(view.gate_s, fleet.inflight, fleet.weight, strict=True)]


def rows(
    view: View, total: Callable[[int], float], shares: Callable[[int], Mapping[str, float]]
) -> list[CostShares]:
    """Reads. One row per worker; `total` and `shares` are asked for eligible slots alone."""
    result = []
    for slot, spec in view.fleet.slots():
        eligible = view.gate_s[slot] == 0.0
        result.append(
            CostShares(
                worker=spec.worker_id,
                eligible=eligible,
                total_s=total(slot) if eligible else inf,
                shares_s={
                    "inflight_requests": float(view.fleet.inflight[slot]),
                    **(shares(slot) if eligible else {}),
                },
                predicted_hit_tokens=view.hits.get(slot, 0),
            )
        )
    return result

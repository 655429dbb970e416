"""U4: one server as fast as all workers together; its mean time to first token, and its goodput.

Whatever N workers do to requests, one server of their joint speed can do as well: it shares its time among
those that they compute at a moment. It may interrupt at will, knows everything beforehand, decodes for
nothing, and of each request it only has to do the work that none can be spared (`PrefillTime.work_s`, after
the hits of U1). So what this server cannot reach, no fleet can.

    mean      shortest remaining work first, which is the least there is for one server that may interrupt
    goodput   most requests whose first token is in time (`goodput`), of those whose floor (U3) is

Both get worse with load, where U3 stays. Below the knee U3 is the larger bound on the mean, so the larger
one is reported. Requests come when the trace or a run says: a bound for these arrivals and no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush, heapreplace
from math import fsum

import msgspec

from warmroute_simulator.bounds.floor import Misses, floors_s
from warmroute_simulator.bounds.goodput import most_in_time
from warmroute_simulator.bounds.prefill import PrefillTime


class ServerBounds(msgspec.Struct, frozen=True):
    """What no fleet of that speed can beat."""

    ttft_mean_s: float
    """No mean is lower: the larger one of the pooled server's and of the floors'."""
    goodput_share: float
    """No larger share of the requests has a TTFT within `slo_ttft_s`, 0 to 1."""
    slo_ttft_s: float


def server_bounds(
    misses: Misses, arrivals_s: Sequence[float], workers: Sequence[PrefillTime], slo_ttft_s: float
) -> ServerBounds | None:
    """Reads. None when there are no requests. `arrivals_s` is by row of the trace.

    A mixed fleet's server is as fast as if each worker had only the work at which it is best.

    Raises ValueError when there is no worker, or the SLO is not positive.
    """
    if not (workers and slo_ttft_s > 0):
        raise ValueError(f"a fleet needs at least one worker, and the SLO, {slo_ttft_s} s, must be above 0")
    if not misses.rows:
        return None
    floors = floors_s(misses, workers)
    works = map(workers[0].work_s, misses.missing_tokens, misses.prompt_tokens)
    speed = fsum(worker.speed_over(workers[0]) for worker in workers)
    jobs = sorted(
        (arrivals_s[row], work / speed, floor)
        for row, work, floor in zip(misses.rows, works, floors, strict=True)
    )
    overhead_s = min(worker.request_overhead_s for worker in workers)
    mean_s = overhead_s + shortest_first_mean_s([(arrival, work) for arrival, work, _ in jobs])
    can_be = [(arrival, work) for arrival, work, floor in jobs if floor <= slo_ttft_s]
    return ServerBounds(
        max(mean_s, fsum(floors) / len(jobs)),
        most_in_time(can_be, slo_ttft_s - overhead_s) / len(jobs),
        slo_ttft_s,
    )


def shortest_first_mean_s(jobs: Sequence[tuple[float, float]]) -> float:
    """Reads. Mean time from arrival to end on one server that always does the shortest remaining work.

    `jobs`: arrivals and works in seconds, in the order of arrival, at least one.
    """
    remaining: list[float] = []
    ends: list[float] = []
    now = 0.0
    for arrival, work in jobs:
        while remaining and now < arrival:
            if now + remaining[0] > arrival:
                heapreplace(remaining, remaining[0] - (arrival - now))
                break
            now += heappop(remaining)
            ends.append(now)
        now = max(now, arrival)
        heappush(remaining, work)
    while remaining:
        now += heappop(remaining)
        ends.append(now)
    return (fsum(ends) - fsum(arrival for arrival, _ in jobs)) / len(jobs)

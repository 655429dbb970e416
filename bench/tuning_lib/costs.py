"""What a point costs, when it is played on several workloads: one number for all of them.

    cost(point, seed) = mean over the cells of ln TTFT(point, cell, seed)
    gain(point, seed) = cost(point, seed) − cost(defaults, seed)
                      = mean over the cells of ln (TTFT(point, cell, seed) / TTFT(defaults, cell, seed))

e to the gain is the geometric mean of the ratios: twice as long on one workload and half as long on another
make nothing, and a cell of seconds counts no more than one of milliseconds.

The search is given costs and takes the difference itself. Of gains it could not tell whether seeds change
anything: those of the defaults are 0 with every seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, fsum, log

from routing_lib.statistics import Interval, mean_interval
from routing_lib.store import Run


def cost(runs: Sequence[Run]) -> float:
    """Reads. Of the runs of a point with a seed, one of each cell. Raises ValueError when there are none."""
    if not runs:
        raise ValueError("a cost of no runs")
    return fsum(log(run.ttft_mean_s) for run in runs) / len(runs)


def ratio_over_cells(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> Interval:
    """Reads. Geometric mean over cells and seeds of ours over theirs, and its interval over seeds. Both have
    a row for each cell and in it a value for each seed.

    Raises ValueError when there are no cells, or fewer than two seeds.
    """
    if not ours:
        raise ValueError("a ratio over no cells")
    logs = [
        [log(our / their) for our, their in zip(*cell, strict=True)]
        for cell in zip(ours, theirs, strict=True)
    ]
    by_seed = [fsum(values) / len(values) for values in zip(*logs, strict=True)]
    return Interval(*map(exp, mean_interval(by_seed)))

"""One run of a study: a policy at a load with a seed, from the trace to its report.

`Setup` is all that the runs of a study share and `Cell` what tells them apart; both are plain values that
may be sent to another process, which reads the trace for itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from warmroute_policies.events import PolicySpec
from warmroute_policies.spelling import policy_text
from warmroute_simulator.bounds.hits import HitBounds, hit_bounds
from warmroute_simulator.bounds.infinite import infinite_hit_tokens
from warmroute_simulator.bounds.pages import Pages
from warmroute_simulator.bounds.touches import Touches
from warmroute_simulator.report.curves import Curves, curves
from warmroute_simulator.report.model import Report, Slo
from warmroute_simulator.report.summary import summarize
from warmroute_simulator.simulation.config import RunConfig
from warmroute_simulator.simulation.load import at_load
from warmroute_simulator.simulation.records import Explanation, Records
from warmroute_simulator.simulation.run import simulate
from warmroute_simulator.study.settings import remarks, settings_of
from warmroute_simulator.traces.trace import Trace


@dataclass(frozen=True, slots=True)
class Setup:
    """What the runs of a study share."""

    run: RunConfig
    """Its policy, seed and speed are each cell's own."""
    slo: Slo = field(default_factory=Slo)
    with_bounds: bool = True
    skip_s: float = 0.0
    """Requests that come before this are left out of latencies."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What tells a run apart from the others of its study."""

    policy: PolicySpec
    load: float | None = None
    """Share of the fleet's capacity (`simulation.load`); None: as the setup's arrivals say."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a cell."""

    report: Report
    records: Records
    explanations: dict[int, Explanation]


def run_cell(
    trace: Trace,
    setup: Setup,
    cell: Cell,
    *,
    progress: Callable[[int], None] | None = None,
    explain: frozenset[int] = frozenset(),
) -> Run:
    """Simulates and reports. Raises ConfigError for a policy that cannot be made, ValueError for a load that
    the trace cannot be played at."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    arrivals = setup.run.arrivals
    if cell.load is not None:
        arrivals = at_load(arrivals, cell.load, trace, setup.run.fleet)
    policy = PolicySpec(cell.policy.name, cell.policy.params, cell.seed)
    config = with_moments(trace, replace(setup.run, policy=policy, arrivals=arrivals, seed=cell.seed))
    records, explanations = simulate(trace, config, progress=progress, explain=explain)
    bounds = _bounds(records, config) if setup.with_bounds else None
    report = summarize(
        records,
        policy=policy_text(cell.policy),
        seed=cell.seed,
        slo=setup.slo,
        bounds=bounds,
        wall_s=time.perf_counter() - wall_s,
        cpu_s=time.process_time() - cpu_s,
        skip_s=setup.skip_s,
        settings=settings_of(trace, replace(config, scenario=setup.run.scenario), cell.load),
        notes=remarks(trace, config, records),
    )
    return Run(report, records, explanations)


def with_moments(trace: Trace, config: RunConfig) -> RunConfig:
    """Closed loop: how long a run will be is known when it was run. Per cents of a scenario are taken of the
    same run in which nothing happens."""
    if not trace.closed_loop or all(happening.at_share is None for happening in config.scenario):
        return config
    steady, _ = simulate(trace, replace(config, scenario=()))
    span_s = max((at for at in steady.arrived_s if at == at), default=0.0)
    moments = (replace(found, at_s=found.moment(span_s), at_share=None) for found in config.scenario)
    return replace(config, scenario=tuple(moments))


def curves_of(run: Run, setup: Setup) -> Curves:
    """What a page draws of the run, with what one endless cache would have hit over time."""
    records = run.records
    touches = Touches(Pages(records.trace, setup.run.page_tokens), records.admitted)
    return curves(records, run.report, infinite_hit_tokens(touches))


def _bounds(records: Records, config: RunConfig) -> HitBounds:
    """For the sequence in which engines took requests up, and a cache as large as all of theirs."""
    pool_tokens = sum(worker.engine.capacity_blocks * worker.engine.block_tokens for worker in config.fleet)
    return hit_bounds(records.trace, records.admitted, config.page_tokens, pool_tokens)

"""One run as it is asked for, and how it is made: from an order, as it travels to a process, to a `Run`."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from routing_lib.factors import FLEETS, Place, TraceFactor, workers_of
from routing_lib.store import Bounds, Key, Run
from routing_lib.traces import Source
from warmroute_policies.config import BalancerConfig
from warmroute_policies.events import PolicySpec
from warmroute_policies.spelling import parse_policy
from warmroute_simulator.bounds.floor import ttft_floor
from warmroute_simulator.bounds.prefill import PrefillTime
from warmroute_simulator.engine.presets import load_preset
from warmroute_simulator.report.model import Report, Slo
from warmroute_simulator.simulation.arrivals import ArrivalPlan
from warmroute_simulator.simulation.config import RunConfig
from warmroute_simulator.simulation.fleet import WorkerPlan
from warmroute_simulator.simulation.records import Records
from warmroute_simulator.study.cell import Cell, Setup, run_cell
from warmroute_simulator.study.rate import offered_per_s
from warmroute_simulator.traces.trace import Trace


class NobodyAnswered(Exception):
    """A run without a single answer has no latencies."""


@dataclass(frozen=True, slots=True)
class Order:
    """One run."""

    key: Key
    source: Source
    with_bounds: bool = False


def order_of(
    factor: TraceFactor, place: Place, load: float, policy: str, seed: int, *, with_bounds: bool = False
) -> Order:
    """Reads. A run at a place."""
    source = factor.source(workers_of(place.fleet))
    key = Key(
        source.text,
        place.fleet,
        place.kv_tokens,
        factor.idle_cap_s,
        factor.limits.ttft_s,
        factor.limits.tpot_s,
        load,
        policy,
        seed,
    )
    return Order(key, source, with_bounds)


def played(order: Order, trace: Trace, digest: str) -> Run:
    """Reads. The run. Raises ConfigError for a policy that cannot be made, ValueError for a load that the
    trace cannot be played at, KeyboardInterrupt when Ctrl-C came, NobodyAnswered."""
    key = order.key
    setup = _setup(order)
    run = run_cell(trace, setup, Cell(parse_policy(key.policy), key.load, key.seed))
    report = run.report
    if report.partial:
        raise KeyboardInterrupt
    if report.ttft_s is None or report.e2e_s is None or report.hit_rate is None:
        raise NobodyAnswered("no request was answered")
    return Run(
        key=key,
        digest=digest,
        requests=len(trace),
        outcomes={name: count for name, count in report.outcomes.items() if count},
        ttft_mean_s=report.ttft_s.mean,
        ttft_p50_s=report.ttft_s.p50,
        ttft_p90_s=report.ttft_s.p90,
        ttft_p99_s=report.ttft_s.p99,
        tpot_mean_s=0.0 if report.tpot_s is None else report.tpot_s.mean,
        tpot_p99_s=0.0 if report.tpot_s is None else report.tpot_s.p99,
        e2e_mean_s=report.e2e_s.mean,
        hit_rate=report.hit_rate,
        goodput_share=report.goodput.share or 0.0,
        goodput_per_s=report.goodput.requests_per_s,
        offered_per_s=offered_per_s(trace, report),
        imbalance=report.imbalance or 1.0,
        cpu_s=report.cpu_s,
        bounds=_bounds(report, run.records, setup) if order.with_bounds else None,
    )


def fleet_of(fleet: str, kv_tokens: int) -> tuple[WorkerPlan, ...]:
    """Reads. The workers of a level of the factor "fleet"."""
    plans: list[WorkerPlan] = []
    for count, name in FLEETS[fleet]:
        engine = load_preset(name).engine(kv_tokens=kv_tokens)
        plans += [WorkerPlan(f"w{len(plans) + number}", engine, name) for number in range(count)]
    return tuple(plans)


def _setup(order: Order) -> Setup:
    key = order.key
    fleet = fleet_of(key.fleet, key.kv_tokens)
    run = RunConfig(
        fleet,
        PolicySpec(""),
        balancer=BalancerConfig(default_price=fleet[0].price),
        arrivals=ArrivalPlan(idle_cap_s=inf if key.idle_cap_s is None else key.idle_cap_s),
    )
    return Setup(run, Slo(key.ttft_limit_s, key.tpot_limit_s), with_bounds=order.with_bounds)


def _bounds(report: Report, records: Records, setup: Setup) -> Bounds | None:
    engines = [PrefillTime.of(worker.engine) for worker in setup.run.fleet]
    floor = ttft_floor(records.trace, records.admitted, setup.run.page_tokens, engines)
    hits = report.bounds
    if floor is None or hits.single_infinite is None or hits.pooled_lru is None or hits.pooled_belady is None:
        return None
    return Bounds(hits.single_infinite, hits.pooled_lru, hits.pooled_belady, floor.mean, floor.p99)

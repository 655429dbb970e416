"""One run: a place, what is wrong there, a seed; and what is kept of it.

The later half, and those after the first 200, are counted in the order in which requests came: what is
learned is learned from those before. Latencies are of requests that were answered.

Records do not say when a router drops a belief. So the run is watched: whenever a request has ended, the
balancer's count of restarts that it noticed is looked at, and the worker is that of the request.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf
from typing import Final

import msgspec

from beliefs_lib.levels import LOSSES, START_S, Loss, Variant, load_of
from beliefs_lib.restarts import Restart, Sent, restart_of
from routing_lib.factors import Place, TraceFactor, workers_of
from routing_lib.orders import fleet_of
from routing_lib.traces import Source
from warmroute_policies.capacity import Lesson
from warmroute_policies.config import BalancerConfig
from warmroute_policies.events import PolicySpec
from warmroute_simulator.simulation.arrivals import ArrivalPlan
from warmroute_simulator.simulation.collector import rare_collections
from warmroute_simulator.simulation.config import RunConfig
from warmroute_simulator.simulation.load import at_load
from warmroute_simulator.simulation.records import Outcome, Records
from warmroute_simulator.simulation.run import Simulation, simulate
from warmroute_simulator.simulation.scenario import Happening, Kind
from warmroute_simulator.traces.trace import Trace

POLICY: Final = "cache_aware"
LEARNING_REQUESTS: Final = 200
"""By then prices are to be learned: 25 for each of eight workers."""


@dataclass(frozen=True, slots=True)
class Task:
    """One run as it is asked for."""

    place: Place
    source: Source
    idle_cap_s: float | None
    variant: Variant
    seed: int


class Played(msgspec.Struct, frozen=True):
    """What came of a run."""

    trace: str
    variant: str
    seed: int
    requests: int
    sessions: int
    answered: int
    hit_rate: float
    """Of the later half."""
    ttft_mean_s: float
    ttft_learned_s: float
    """Mean of those after the first 200."""
    noticed_restarts: int
    """As routers think; of a run in which no cache was lost: false alarms."""
    restarts: list[Restart]
    cpu_s: float


def task_of(factor: TraceFactor, place: Place, variant: Variant, seed: int) -> Task:
    """Reads."""
    return Task(place, factor.source(workers_of(place.fleet)), factor.idle_cap_s, variant, seed)


def played(task: Task) -> Played:
    """Reads. Raises KeyboardInterrupt when Ctrl-C came."""
    began_s = time.process_time()
    trace = _trace(task.source, task.source.key(task.seed))
    with rare_collections():
        config = config_of(task, trace)
        records, dropped, noticed = watched(trace, config, lopsided=task.variant.lopsided)
    if records.partial:
        raise KeyboardInterrupt
    rows = in_order(records)
    return Played(
        trace=task.place.trace,
        variant=task.variant.name,
        seed=task.seed,
        requests=len(trace),
        sessions=trace.session_count,
        answered=sum(outcome == Outcome.OK for outcome in records.outcome),
        hit_rate=hit_rate(records, rows[len(rows) // 2 :]),
        ttft_mean_s=ttft_mean_s(records, rows),
        ttft_learned_s=ttft_mean_s(records, rows[LEARNING_REQUESTS:]),
        noticed_restarts=noticed,
        restarts=[
            restart_of(
                promised(records, rows, happening.worker, happening.at_s),
                next((at for at in dropped.get(happening.worker, ()) if at > happening.at_s), None),
            )
            for happening in config.scenario
            if happening.kind is not Kind.START
        ],
        cpu_s=time.process_time() - began_s,
    )


def config_of(task: Task, trace: Trace) -> RunConfig:
    """Reads. The run of that trace, with moments in seconds."""
    place, variant = task.place, task.variant
    fleet = fleet_of(place.fleet, place.kv_tokens)
    plan = ArrivalPlan(idle_cap_s=inf if task.idle_cap_s is None else task.idle_cap_s)
    arrivals = at_load(plan, load_of(place), trace, fleet)
    config = RunConfig(
        fleet,
        PolicySpec(POLICY, {}, task.seed),
        balancer=BalancerConfig(
            default_price=fleet[0].price,
            capacity_feedback=variant.capacity_feedback,
            learn_prices=variant.learn_prices,
        ),
        arrivals=arrivals,
        seed=task.seed,
        routers=variant.routers,
        spread=variant.spread,
        signals=variant.signals,
        price_error=variant.price_error,
        capacity_error=variant.capacity_error,
    )
    return config if variant.loss is None else replace(config, scenario=_losses(trace, config, variant.loss))


def _losses(trace: Trace, config: RunConfig, loss: Loss) -> tuple[Happening, ...]:
    """When so many requests have come in the same run in which nothing happens: in closed loop that is known
    when it was run."""
    steady, _ = simulate(trace, config)
    came = [steady.arrived_s[row] for row in in_order(steady)]
    moments = [(worker, came[int(share * len(came))]) for share, worker in LOSSES]
    if loss is Loss.FLUSH:
        return tuple(Happening(Kind.FLUSH, worker, at_s) for worker, at_s in moments)
    ends = [Happening(Kind.DIE, worker, at_s) for worker, at_s in moments]
    return (*ends, *(Happening(Kind.START, worker, at_s + START_S) for worker, at_s in moments))


def watched(
    trace: Trace, config: RunConfig, *, lopsided: bool = False
) -> tuple[Records, dict[int, list[float]], int]:
    """Reads. The run; by worker when the first router dropped what it believed of it; how many restarts all
    routers noticed."""
    dropped: dict[int, list[float]] = {}
    known = 0

    def ended(_: int) -> None:
        nonlocal known
        noticed = lessons[Lesson.RESTARTED]
        if noticed > known:
            known = noticed
            records, now = simulation.records, simulation.kernel.now
            for row, at in enumerate(records.finished_s):
                if at == now:
                    dropped.setdefault(records.worker[row], []).append(now)

    simulation = Simulation(trace, config, ended, frozenset())
    if lopsided:
        halve(simulation)
    routers = simulation.routers
    lessons = routers[0].balancer.beliefs.lessons
    try:
        found = simulation.run()
    finally:
        simulation.let_go()
    return found, dropped, sum(router.balancer.beliefs.lessons[Lesson.RESTARTED] for router in routers)


def halve(simulation: Simulation) -> None:
    """Writes. From its beginning only the first router sends to the later half of the workers."""
    fleet = simulation.config.fleet

    def leave(worker: int) -> None:
        for router in simulation.routers[1:]:
            router.drain(fleet[worker].worker_id, True)

    for worker in range(len(fleet) // 2, len(fleet)):
        simulation.kernel.at(0.0, leave, worker)


def in_order(records: Records) -> list[int]:
    """Reads. Rows that came, the first one first."""
    came = [row for row, at in enumerate(records.arrived_s) if at == at]
    return sorted(came, key=records.arrived_s.__getitem__)


def hit_rate(records: Records, rows: Sequence[int]) -> float:
    """Reads. Of the prompt tokens that engines took up; 0 where they took up none."""
    prompts, ends = records.trace.prompts, records.trace.tree.ends
    taken = [row for row in rows if records.hit_tokens[row] >= 0]
    tokens = sum(ends[prompts[row]] for row in taken)
    return sum(records.hit_tokens[row] for row in taken) / tokens if tokens else 0.0


def ttft_mean_s(records: Records, rows: Sequence[int]) -> float:
    """Reads. Of those that were answered. Raises ValueError when none was."""
    answered = [row for row in rows if records.outcome[row] == Outcome.OK]
    if not answered:
        raise ValueError("no request was answered")
    waits = (records.first_token_s[row] - records.arrived_s[row] for row in answered)
    return sum(waits) / len(answered)


def promised(records: Records, rows: Sequence[int], worker: int, after_s: float) -> list[Sent]:
    """Reads. Requests that were sent to the worker after that moment and promised a hit there."""
    return [
        Sent(
            records.arrived_s[row],
            records.finished_s[row],
            records.predicted_tokens[row],
            records.hit_tokens[row],
        )
        for row in rows
        if records.worker[row] == worker
        and records.arrived_s[row] > after_s
        and records.predicted_tokens[row] > 0
        and records.hit_tokens[row] >= 0
    ]


@lru_cache(maxsize=1)
def _trace(source: Source, key: int) -> Trace:
    """A recording is read once for each process; two need not fit into memory."""
    return source.read(key)

"""Routers that hear of engines' loads see each other; one that is alone hears nothing new."""

from __future__ import annotations

import dataclasses

import pytest

from warmroute_policies.events import PolicySpec
from warmroute_policies.types import LoadReport
from warmroute_simulator.engine import EngineConfig
from warmroute_simulator.generators.registry import generate
from warmroute_simulator.simulation.config import RunConfig
from warmroute_simulator.simulation.fleet import WorkerPlan
from warmroute_simulator.simulation.kernel import Kernel
from warmroute_simulator.simulation.load import at_load
from warmroute_simulator.simulation.records import Records
from warmroute_simulator.simulation.run import Simulation, simulate
from warmroute_simulator.simulation.told import LoadSignals
from warmroute_simulator.simulation.worker import SimulatedWorker
from warmroute_simulator.traces.prompts import ROOT, PromptTree
from warmroute_simulator.traces.trace import Trace

PRESET = "llama-3.1-8b-h100"
SIGNALS = [LoadSignals(), LoadSignals(0.1, 0.05, tokens=False), LoadSignals(0.3, 2.0)]


def chats() -> Trace:
    return generate("chat:requests=400", 1)


def config(policy: str, trace: Trace, signals: LoadSignals | None, routers: int = 1) -> RunConfig:
    fleet = tuple(WorkerPlan(f"w{number}", EngineConfig(), PRESET) for number in range(4))
    plain = RunConfig(fleet, PolicySpec(policy), routers=routers, signals=signals)
    return dataclasses.replace(plain, arrivals=at_load(plain.arrivals, 0.7, trace, fleet))


def columns(records: Records) -> dict[str, str]:
    """What became of requests, comparable although times may be nan. A run ends with the last word that
    somebody hears."""
    names = [field.name for field in dataclasses.fields(records) if field.name not in ("trace", "ended_s")]
    return {name: repr(getattr(records, name)) for name in names}


@pytest.mark.parametrize("signals", SIGNALS)
@pytest.mark.parametrize("policy", ["cache_aware", "least_requests"])
def test_a_router_alone_decides_as_if_it_heard_nothing(policy: str, signals: LoadSignals) -> None:
    trace = chats()
    deaf, _ = simulate(trace, config(policy, trace, None))
    hearing, _ = simulate(trace, config(policy, trace, signals))
    assert columns(hearing) == columns(deaf)


def test_a_run_with_signals_is_the_same_every_time() -> None:
    trace = chats()
    first, second = (simulate(trace, config("cache_aware", trace, SIGNALS[0], 2))[0] for _ in range(2))
    assert columns(first) == columns(second)


def excess(routers: int, signals: LoadSignals | None, *, one_sided: bool) -> float:
    """How many requests more than the least busy worker had the one that was chosen, in the mean. One-sided:
    the second router has half of the workers alone."""
    trace = generate("chat:requests=1000", 1)
    found = []

    class Watched(Simulation):
        def _dispatch(self, flight: object) -> None:
            loads = [worker.engine.running + worker.engine.waiting for worker in self.workers]
            super()._dispatch(flight)  # type: ignore[arg-type]
            found.append(loads[flight.worker] - min(loads))  # type: ignore[attr-defined]

    plan = config("least_requests", trace, signals, routers)
    simulation = Watched(trace, plan, None, frozenset())
    if one_sided:

        def halve(_: int) -> None:
            for number in (2, 3):
                simulation.routers[1].drain(f"w{number}", True)

        simulation.kernel.at(0.0, halve)
    try:
        simulation.run()
    finally:
        simulation.let_go()
    return sum(found) / len(found)


def test_what_one_router_cannot_even_out_the_others_do() -> None:
    deaf, hearing = (excess(3, signals, one_sided=True) for signals in (None, SIGNALS[0]))
    assert hearing < 0.5 * deaf


def test_routers_that_share_all_workers_do_not_run_after_each_other() -> None:
    deaf, hearing = (excess(3, signals, one_sided=False) for signals in (None, SIGNALS[0]))
    assert hearing < deaf + 2.0


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_what_waits_is_what_is_neither_cached_nor_computed(kind: str) -> None:
    tree, kernel = PromptTree(), Kernel()
    first, second, third = (tree.add(ROOT, tokens) for tokens in (1600, 500, 500))
    config = EngineConfig(kind=kind, max_num_seqs=1)  # type: ignore[arg-type]
    worker = SimulatedWorker(0, "w0", config, tree, kernel, lambda number, events: None)
    assert worker.load(tokens=True) == LoadReport(0, 0, 0, 0.0)
    worker.submit(1, 1600, 5, [first])
    kernel.run()
    for row, prompt, tokens in ((2, second, 500), (3, first, 1600), (4, third, 500)):
        worker.submit(row, tokens, 5, [prompt])
    worker.engine.advance(kernel.now + 1e-4)
    report = worker.load(tokens=True)
    assert (report.requests, report.waiting_requests) == (3, 2)
    # All of the first prompt is cached but its last page, of which a token is always computed.
    assert report.waiting_tokens == 500 + config.block_tokens
    assert worker.load(tokens=False).waiting_tokens is None
    assert 0.0 < (report.kv_usage or 0.0) < 1.0


def test_signals_of_no_time_are_refused() -> None:
    for every_s, lag_s in ((0.0, 0.5), (-1.0, 0.5), (0.5, -0.1), (float("nan"), 0.0)):
        with pytest.raises(ValueError, match="intervals above 0"):
            LoadSignals(every_s, lag_s)

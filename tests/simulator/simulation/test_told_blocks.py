"""Exact mode on virtual time: what simulated engines tell is what their caches hold, whatever happens."""

from __future__ import annotations

import random

import pytest

from warmroute_policies.events import PolicySpec
from warmroute_simulator.engine import EngineConfig, EngineRequest, Finished, TreeCache, make_engine
from warmroute_simulator.generators.registry import generate
from warmroute_simulator.simulation.config import RunConfig
from warmroute_simulator.simulation.fleet import WorkerPlan
from warmroute_simulator.simulation.records import Outcome, Records
from warmroute_simulator.simulation.run import simulate
from warmroute_simulator.simulation.scenario import parse_happening
from warmroute_simulator.traces.prompts import ROOT, PromptTree

CHATS = "chat:requests=400,sessions_per_s=0.3,turns=4-8,message_tokens=50-400,output_tokens=20-150"

# Room for a few conversations: blocks are evicted all the time.
SMALL = EngineConfig(kv_tokens=12_000)


def errors(records: Records, since_s: float = 0.0) -> list[int]:
    """Predicted less actual hit tokens of the requests that were answered at the first attempt."""
    return [
        predicted - hit
        for predicted, hit, outcome, attempts, arrived_s in zip(
            records.predicted_tokens,
            records.hit_tokens,
            records.outcome,
            records.attempts,
            records.arrived_s,
            strict=True,
        )
        if outcome == Outcome.OK and attempts == 1 and arrived_s >= since_s
    ]


def played(seed: int, *, kv_events: bool, happenings: tuple[str, ...] = (), routers: int = 1) -> Records:
    config = RunConfig(
        tuple(WorkerPlan(f"w{number}", SMALL, "llama-3.1-8b-h100") for number in range(3)),
        PolicySpec("cache_aware"),
        scenario=tuple(found for text in happenings for found in parse_happening(text, 3)),
        kv_events=kv_events,
        routers=routers,
    )
    return simulate(generate(CHATS, seed), config)[0]


@pytest.mark.parametrize("seed", range(3))
def test_hits_are_predicted_but_for_what_is_evicted_while_a_request_is_on_its_way(seed: int) -> None:
    told, believed = errors(played(seed, kv_events=True)), errors(played(seed, kv_events=False))
    assert sum(map(bool, told)) <= 0.01 * len(told), f"seed {seed}: {[error for error in told if error]}"
    assert sum(map(bool, believed)) > 0.05 * len(believed), f"seed {seed}"


@pytest.mark.parametrize(
    "happenings",
    [("200:flush:0",), ("200:die:0", "260:start:0"), ("200:start:1",), ("100:die:2", "101:start:2")],
)
def test_knowledge_is_right_again_after_whatever_happens(happenings: tuple[str, ...]) -> None:
    records = played(7, kv_events=True, happenings=happenings)
    later = errors(records, since_s=265.0)
    assert len(later) > 50
    assert sum(map(abs, later)) <= 0.01 * sum(records.hit_tokens)


def test_replicas_know_of_each_others_traffic() -> None:
    together = played(3, kv_events=True, routers=3)
    apart = played(3, kv_events=False, routers=3)
    assert sum(map(abs, errors(together))) < sum(map(abs, errors(apart))) / 10
    assert sum(together.hit_tokens) > sum(apart.hit_tokens)


@pytest.mark.parametrize("seed", range(10))
def test_changes_add_up_to_what_is_held(seed: int) -> None:
    chance, tree = random.Random(seed), PromptTree()
    nodes = [ROOT]
    for _ in range(200):
        nodes.append(tree.add(chance.choice(nodes[-40:]), chance.randint(1, 60)))
    engine_config = EngineConfig(kv_tokens=100 * 16)
    cache = TreeCache(engine_config.capacity_blocks, engine_config.block_tokens, tree.ends)
    cache.changes = []
    engine, told, now = make_engine(engine_config, cache), set[tuple[int, int]](), 0.0
    for number in range(150):
        prompt = chance.choice(nodes[1:])
        if tree.ends[prompt] < 1000:
            engine.submit(EngineRequest(number, tree.ends[prompt], 5, tree.path(prompt)), now)
        if chance.random() < 0.02:
            engine.reset_prefix_cache()
        now += chance.random()
        ended = [event for event in engine.advance(now) if isinstance(event, Finished)]
        assert all(event.request_id <= number for event in ended)
        for change in cache.changes:
            blocks = {(change.node, place) for place in range(change.first, change.last)}
            assert blocks, f"seed {seed}"
            assert told.isdisjoint(blocks) if change.stored else told >= blocks, f"seed {seed}"
            told = told | blocks if change.stored else told - blocks
        cache.changes = []
        held = {(part.node, place) for part in cache.held() for place in range(part.last)}
        assert told == held, f"seed {seed}"

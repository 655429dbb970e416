"""Measured requests through the engine, and how far apart the two are."""

from __future__ import annotations

import random
from array import array
from dataclasses import replace

import pytest

from warmroute_policies.latency import PRESETS
from warmroute_simulator.engine import Engine, EngineConfig, EngineRequest, Finished
from warmroute_simulator.engine.steps import step_seconds
from warmroute_simulator.fitting.agreement import agreement
from warmroute_simulator.fitting.heads import common_heads
from warmroute_simulator.fitting.known_hits import KnownHits
from warmroute_simulator.fitting.measured import MeasuredRequest, Measurement
from warmroute_simulator.fitting.parameters import ALL, OVERHEADS, SCALES, named, rounded, varied
from warmroute_simulator.fitting.replay import Replay, Simulated

from .conftest import made_up


def test_a_measured_hit_is_not_computed_again() -> None:
    latency = PRESETS["llama-3.1-8b-h100"]
    request = MeasuredRequest(3.0, 1000, 1, 1.0, cached_tokens=500)
    simulated = Replay([request], 16).run(EngineConfig())
    assert simulated.ttft_s[0] == pytest.approx(step_seconds(latency, [(496, 504)], 0, 0))


def test_known_blocks_are_hit_when_they_were_computed_before() -> None:
    blocks = tuple(range(62))
    requests = [MeasuredRequest(at, 1000, 1, 1.0, blocks=blocks) for at in (0.0, 1.0)]
    first, second = Replay(requests, 16).run(EngineConfig()).ttft_s
    latency = PRESETS["llama-3.1-8b-h100"]
    assert first == pytest.approx(step_seconds(latency, [(0, 1000)], 0, 0))
    assert second == pytest.approx(step_seconds(latency, [(992, 8)], 0, 0))


def test_requests_of_different_workers_do_not_meet() -> None:
    together = [MeasuredRequest(0.0, 4000, 5, 1.0, worker=worker) for worker in ("a", "a")]
    apart = [replace(request, worker=worker) for request, worker in zip(together, "ab", strict=True)]
    alone = Replay(apart[:1], 16).run(EngineConfig())
    assert list(Replay(apart, 16).run(EngineConfig()).e2e_s) == [alone.e2e_s[0]] * 2
    assert Replay(together, 16).run(EngineConfig()).e2e_s[0] > alone.e2e_s[0]


@pytest.mark.parametrize("seed", [1, 2])
def test_no_block_of_known_hits_is_lost_or_made(seed: int) -> None:
    print("seed", seed)
    chance = random.Random(seed)
    config = EngineConfig(kv_tokens=2000, max_num_seqs=8, step_tokens=256)
    cache = KnownHits(config.capacity_blocks)
    engine, now, hits, told = Engine(config, cache), 0.0, {}, {}
    for number in range(300):
        now += chance.expovariate(20)
        prompt = chance.randint(1, 400)
        hits[number] = chance.randrange(prompt) // 16
        head = chance.randint(0, hits[number])
        for event in engine.advance(now):
            if isinstance(event, Finished):
                told[event.request_id] = event.cached_tokens
        engine.submit(EngineRequest(number, prompt, chance.randint(1, 100), [hits[number], head]), now)
        assert cache.free + cache.private == cache.capacity
        assert cache.free >= 0
    while (at := engine.next_event_at()) is not None:
        told |= {e.request_id: e.cached_tokens for e in engine.advance(at) if isinstance(e, Finished)}
    assert told == {number: blocks * 16 for number, blocks in hits.items()}
    assert cache.free == cache.capacity
    assert engine.totals.preemptions > 0


def test_a_common_head_is_held_once_and_a_conversations_past_by_itself() -> None:
    def asked(prompt: int, output: int, hit: int, worker: str = "a") -> MeasuredRequest:
        return MeasuredRequest(0.0, prompt, output, 1.0, cached_tokens=hit, worker=worker)

    begins = [asked(400 + number, 33, 160) for number in range(3)]
    goes_on = asked(900, 50, 432)  # 400 + 33 − 1 tokens: the first one's conversation
    elsewhere = asked(900, 50, 432, "b")
    alone = asked(700, 10, 320)
    cold = asked(500, 10, 0)
    requests = [*begins, goes_on, elsewhere, alone, cold]
    assert common_heads(requests, 16) == [10, 10, 10, 10, 0, 0, 0]


def test_errors_of_means_and_of_requests_are_told_apart() -> None:
    requests = [MeasuredRequest(0.0, 10, 11, 2.0, 1.0), MeasuredRequest(4.0, 10, 11, 6.0, 1.0)]
    simulated = Simulated(array("d", [1.5, 0.5]), array("d", [3.5, 5.0]))
    told = agreement(requests, simulated, range(2))
    assert told.ttft_s is not None
    assert told.e2e_s is not None
    assert told.tpot_s is not None
    assert told.output_tokens_per_s is not None
    assert (told.ttft_s.error, told.ttft_s.request_error) == (0.0, 0.5)
    assert told.e2e_s.error == pytest.approx(8.5 / 8 - 1)
    assert (told.tpot_s.measured, told.tpot_s.simulated) == pytest.approx((0.3, 0.325))
    # 22 tokens: from 0 to 10 s measured, to 9 s simulated.
    assert told.output_tokens_per_s.error == pytest.approx(10 / 9 - 1)


def test_what_was_not_measured_is_not_compared() -> None:
    told = agreement(
        [MeasuredRequest(0.0, 10, 1, 2.0)], Simulated(array("d", [1]), array("d", [2])), range(1)
    )
    assert (told.ttft_s, told.tpot_s) == (None, None)
    assert told.e2e_s is not None


def test_the_load_on_the_first_requests_is_all_who_came_before_the_last_of_them_ended() -> None:
    requests = [MeasuredRequest(float(at), 10, 5, 2.5) for at in range(6)]
    assert [r.arrival_s for r in Measurement("", requests).overlapping(2)] == [0, 1, 2, 3]


def test_parameters_scale_coefficients_and_add_host_time(truth: EngineConfig) -> None:
    start = [parameter.start(truth) for parameter in ALL]
    assert rounded(varied(truth, ALL, start)) == truth
    twice = varied(truth, SCALES, (0.6931471805599453, 0.0, 3.0))
    assert twice.latency.c1 == pytest.approx(2 * truth.latency.c1)
    assert twice.latency.d2 == truth.latency.d2
    assert twice.request_overhead_s == pytest.approx(0.03)
    assert varied(truth, OVERHEADS, (1.0, 2.0)).step_overhead_s == pytest.approx(0.01)


def test_parameters_go_by_name() -> None:
    assert named("all") == ALL
    assert [parameter.names for parameter in named("c1,d2")] == [("c1",), ("d2",)]
    with pytest.raises(ValueError, match="did you mean `scales`"):
        named("scale")


def test_what_is_made_up_is_what_a_replay_gives(truth: EngineConfig) -> None:
    measurement = made_up(truth, 50, seed=3, rate=2.0, workers=2)
    simulated = Replay(measurement.requests, 16).run(truth)
    assert list(simulated.e2e_s) == [request.e2e_s for request in measurement.requests]

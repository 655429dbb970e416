"""When a request joins: who is ready, how far ahead the host decides, and what a run of equal steps is."""

from __future__ import annotations

import random
from math import inf

import pytest

from warmroute_policies.latency import LatencyCoefficients
from warmroute_simulator.engine import (
    Admitted,
    Engine,
    EngineConfig,
    EngineKind,
    EngineRequest,
    Event,
    Finished,
    FirstToken,
)
from warmroute_simulator.engine.steps import Run

TEN_MS = LatencyCoefficients(w0=10.0, c0=0.0, c1=0.0, c2=0.0, d0=10.0, d1=0.0, d2=0.0)
"""Every step takes 10 ms, whatever it computes."""


def engine_of(**changes: object) -> Engine:
    return Engine(EngineConfig(latency=TEN_MS, **changes))  # type: ignore[arg-type]


def asks(request_id: int, output_tokens: int, prompt_tokens: int = 20) -> EngineRequest:
    return EngineRequest(request_id, prompt_tokens, output_tokens, [])


def drain(engine: Engine) -> list[Event]:
    events: list[Event] = []
    while (at := engine.next_event_at()) is not None:
        events += engine.advance(at)
    return events


def first_token_ms(engine: Engine, arrives_at: float, **others: object) -> float:
    """A long answer is being decoded, in steps of 10 ms from 0 on; when does a newcomer get its token?"""
    engine.submit(asks(1, 100), 0.0)
    engine.advance(arrives_at)
    engine.submit(asks(2, 1), arrives_at)
    [at] = [event.at for event in drain(engine) if isinstance(event, FirstToken) and event.request_id == 2]
    return at * 1000


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_without_overlap_a_request_joins_the_next_step(kind: EngineKind) -> None:
    # It comes at 33 ms: the step that runs ends at 40, its own at 50.
    assert first_token_ms(engine_of(overlap=False, kind=kind), 0.033) == pytest.approx(50)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_with_overlap_it_joins_the_step_after_the_next(kind: EngineKind) -> None:
    # The step from 40 to 50 ms was decided on at 30.
    assert first_token_ms(engine_of(kind=kind), 0.033) == pytest.approx(60)


def test_an_idle_engine_decides_at_once() -> None:
    engine = engine_of()
    engine.submit(asks(1, 1), 0.0)
    drain(engine)
    engine.submit(asks(2, 1), 0.033)
    [finished] = [event for event in drain(engine) if isinstance(event, Finished)]
    assert finished.at == pytest.approx(0.043)


@pytest.mark.parametrize(("overlap", "expected_ms"), [(False, 70), (True, 80)])
def test_a_request_waits_for_the_host_before_the_scheduler_knows_of_it(
    overlap: bool, expected_ms: float
) -> None:
    # It comes at 33 ms and is ready at 58, in the step from 50 to 60.
    engine = engine_of(overlap=overlap, request_overhead_s=0.025)
    engine.submit(asks(1, 100), 0.0)
    engine.advance(0.033)
    engine.submit(asks(2, 1), 0.033)
    [first] = [event for event in drain(engine) if isinstance(event, FirstToken) and event.request_id == 2]
    # The long answer started at 25 ms, so the steps end at 35, 45, 55, 65, …
    assert first.at * 1000 == pytest.approx(expected_ms + 5)


def test_the_host_time_of_requests_that_come_together_is_spent_together() -> None:
    engine = engine_of(request_overhead_s=0.025)
    engine.submit(asks(1, 1), 0.0)
    engine.submit(asks(2, 1), 0.001)
    firsts = [event.at for event in drain(engine) if isinstance(event, FirstToken)]
    assert firsts == pytest.approx([0.035, 0.045])


def test_a_request_whose_predecessor_was_aborted_still_waits_for_the_host() -> None:
    engine = engine_of(request_overhead_s=0.025)
    engine.submit(asks(1, 1), 0.0)
    engine.submit(asks(2, 1), 0.010)
    engine.abort(1)
    assert engine.next_event_at() == pytest.approx(0.035)
    assert [type(event) for event in engine.advance(0.04)] == [Admitted]


def test_another_pace_holds_from_the_next_step_on() -> None:
    engine = engine_of()
    engine.submit(asks(1, 10), 0.0)
    engine.advance(0.025)
    slow = LatencyCoefficients(w0=20.0, c0=0.0, c1=0.0, c2=0.0, d0=20.0, d1=0.0, d2=0.0)
    engine.reconfigure(EngineConfig(latency=slow))
    [finished] = [event for event in drain(engine) if isinstance(event, Finished)]
    # Three steps of 10 ms have begun by then, seven are left.
    assert finished.at == pytest.approx(0.030 + 7 * 0.020)


def test_an_engine_keeps_its_kind() -> None:
    with pytest.raises(ValueError, match="keeps its kind"):
        engine_of().reconfigure(EngineConfig(kind="sglang"))


@pytest.mark.parametrize("seed", range(20))
def test_a_runs_closed_form_agrees_with_adding_up_its_steps(seed: int) -> None:
    print("seed", seed)
    chance = random.Random(seed)
    first, grow, steps = chance.uniform(1e-4, 0.1), chance.choice((0.0, chance.uniform(0, 0.01))), 200
    run = Run(chance.uniform(0, 1e4), first, [], decodes=True)
    run.grow_s, run.steps = grow, steps
    starts = [run.started_at]
    for step in range(steps):
        starts.append(starts[-1] + first + grow * step)
    for _ in range(50):
        now = chance.uniform(starts[0], starts[-1])
        ended = sum(end <= now for end in starts[1:])
        assert run.ended_by(now) == ended
        # The first step that starts at or after `now`, and with overlap one more.
        until = next(index for index, start in enumerate(starts) if start >= now)
        assert run.steps_before(now, overlap=False) == max(1, until)
        assert run.steps_before(now, overlap=True) == min(steps, until) + 1
    assert run.steps_before(inf, overlap=False) > steps

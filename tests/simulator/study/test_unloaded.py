"""The sequence of a trace on a fleet without waiting."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from warmroute_policies.latency import PRESETS
from warmroute_simulator.bounds.prefill import PrefillTime
from warmroute_simulator.engine import EngineConfig
from warmroute_simulator.engine.steps import step_seconds
from warmroute_simulator.simulation.arrivals import ArrivalPlan, Starts
from warmroute_simulator.study.unloaded import unloaded
from warmroute_simulator.traces.prompts import ROOT, PromptTree
from warmroute_simulator.traces.trace import Trace

ENGINE = EngineConfig(PRESETS["qwen3-8b-h100"])


def test_open_loop_comes_as_recorded_at_the_speed_asked_for() -> None:
    trace = Trace("open", PromptTree())
    for arrival_s in (4.0, 0.0, 2.0):
        trace.add(trace.tree.add(ROOT, 100), 5, arrival_s=arrival_s)
    sequence = unloaded(trace, ArrivalPlan(speed=2.0), Random(0), ENGINE)
    assert list(sequence.order) == [1, 2, 0]
    assert list(sequence.arrived_s) == [2.0, 0.0, 1.0]


def test_a_turn_comes_after_the_service_of_the_former_alone_and_the_thinking() -> None:
    trace = Trace("two turns", PromptTree(), closed_loop=True)
    question = trace.tree.add(ROOT, 20_000)
    answer = trace.tree.add(question, 11)
    first = trace.add(question, 11, answer=answer, session=0)
    second = trace.add(trace.tree.add(answer, 50), 1, session=0, after=first, think_s=3.0)
    third = trace.add(question, 2, session=0, after=second, think_s=3.0)
    trace.add(question, 1, session=0, after=third)
    sequence = unloaded(trace, ArrivalPlan(starts=Starts.RECORDED), Random(0), ENGINE)
    prefill = PrefillTime.of(ENGINE)
    served = [
        prefill.alone_s(20_000, 20_000) + 10 * step_seconds(ENGINE.latency, [], 1, 20_005),
        prefill.alone_s(50, 20_061),
        prefill.alone_s(1, 20_000) + step_seconds(ENGINE.latency, [], 1, 20_000),
    ]
    expected = [0.0, served[0] + 3, served[0] + served[1] + 6, sum(served) + 6]
    assert list(sequence.arrived_s) == pytest.approx(expected)


def test_lanes_let_sessions_come_between_each_other() -> None:
    trace = Trace("sessions", PromptTree(), closed_loop=True)
    for session in range(10):
        former = -1
        for _ in range(5):
            former = trace.add(trace.tree.add(ROOT, 64), 2, session=session, after=former, think_s=1.0)
    one = unloaded(trace, ArrivalPlan(lanes=1), Random(1), ENGINE)
    four = unloaded(trace, ArrivalPlan(lanes=4), Random(1), ENGINE)
    assert sorted(one.order) == sorted(four.order) == list(range(50))

    def changes(order: list[int]) -> int:
        return sum(a // 5 != b // 5 for a, b in pairwise(order))

    assert changes(list(one.order)) == 9
    assert changes(list(four.order)) > 9
    assert max(four.arrived_s) < max(one.arrived_s)
    again = unloaded(trace, ArrivalPlan(lanes=4), Random(1), ENGINE)
    assert again.order == four.order

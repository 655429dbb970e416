"""A trace in two halves."""

from __future__ import annotations

from random import Random

import pytest

from warmroute_simulator.generators.registry import generate
from warmroute_simulator.study.halves import halves, picked
from warmroute_simulator.traces.prompts import ROOT, PromptTree
from warmroute_simulator.traces.trace import NO_SESSION, NOTHING, Trace

OPEN = ("chat:requests=120", "shared_prefix:requests=90", "uniform:requests=50")
CLOSED = (
    "agents:requests=150,steps=3-12,fan_out_probability=0.1,sub_steps=2",
    "chat:requests=80,closed_loop=true",
)


@pytest.mark.parametrize("spec", OPEN)
def test_open_loop_is_divided_in_the_middle_of_its_time(spec: str) -> None:
    trace = generate(spec, 3)
    first, second = halves(trace)
    assert len(first) + len(second) == len(trace)
    middle_s = (trace.arrivals_s[0] + trace.arrivals_s[-1]) / 2
    assert list(first.arrivals_s) == [at - trace.arrivals_s[0] for at in trace.arrivals_s if at <= middle_s]
    assert second.arrivals_s[0] == 0.0
    assert second.arrivals_s[-1] == pytest.approx(trace.arrivals_s[-1] - trace.arrivals_s[len(first)])
    assert list(first.prompts) + list(second.prompts) == list(trace.prompts)
    assert list(first.output_tokens) + list(second.output_tokens) == list(trace.output_tokens)


@pytest.mark.parametrize("spec", CLOSED)
@pytest.mark.parametrize("seed", range(3))
def test_closed_loop_is_divided_by_sessions_and_none_is_cut(spec: str, seed: int) -> None:
    trace = generate(spec, seed)
    parts = halves(trace)
    assert abs(parts[0].session_count - parts[1].session_count) <= 1
    assert parts[0].session_count + parts[1].session_count == trace.session_count
    assert sum(len(part) for part in parts) == len(trace)
    for part in parts:
        assert part.closed_loop
        for row, before in enumerate(part.after):
            assert before < row
            assert before == NOTHING or part.sessions[before] == part.sessions[row]
            assert all(other < row for other in part.also_after.get(row, ()))


@pytest.mark.parametrize("seed", range(20))
def test_a_picked_row_keeps_all_that_it_was(seed: int) -> None:
    chance = Random(seed)
    trace = generate("agents:requests=200,steps=3-12,fan_out_probability=0.1,sub_steps=2", seed)
    sessions = {session for session in range(trace.session_count) if chance.random() < 0.5} or {0}
    rows = [row for row, session in enumerate(trace.sessions) if session in sessions]
    part = picked(trace, rows, "some")
    number = {row: place for place, row in enumerate(rows)}
    renamed: dict[int, int] = {}
    for place, row in enumerate(rows):
        assert part.prompts[place] == trace.prompts[row]
        assert part.answers[place] == trace.answers[row]
        assert part.think_s[place] == trace.think_s[row]
        assert part.after[place] == (NOTHING if trace.after[row] == NOTHING else number[trace.after[row]])
        assert part.also_after.get(place, ()) == tuple(
            number[other] for other in trace.also_after.get(row, ())
        )
        assert renamed.setdefault(trace.sessions[row], part.sessions[place]) == part.sessions[place]
    assert sorted(renamed.values()) == list(range(len(sessions))), f"seed {seed}"


def test_sessions_that_began_first_are_the_first_half_whatever_their_numbers() -> None:
    tree = PromptTree()
    trace = Trace("three", tree, closed_loop=True)
    for session, start_s in enumerate((9.0, 1.0, 5.0)):
        trace.add(tree.add(ROOT, 100), 10, arrival_s=start_s, session=session)
    first, second = halves(trace)
    assert list(first.prompts) == [trace.prompts[1], trace.prompts[2]]
    assert list(first.arrivals_s) == [0.0, 4.0]
    assert list(second.arrivals_s) == [0.0]


def test_arrivals_on_a_coarse_clock_stay_on_it() -> None:
    tree = PromptTree()
    trace = Trace("ticks", tree, quantum_s=3.0)
    for at in (0.0, 3.0, 9.0, 12.0):
        trace.add(tree.add(ROOT, 10), 1, arrival_s=at)
    first, second = halves(trace)
    assert (list(first.arrivals_s), list(second.arrivals_s)) == ([0.0, 3.0], [0.0, 3.0])
    assert second.quantum_s == 3.0
    assert list(second.sessions) == [NO_SESSION, NO_SESSION]


def test_what_cannot_be_divided_says_so() -> None:
    tree = PromptTree()
    trace = Trace("once", tree)
    trace.add(tree.add(ROOT, 10), 1)
    with pytest.raises(ValueError, match="once cannot be divided into two halves: all of it is one moment"):
        halves(trace)

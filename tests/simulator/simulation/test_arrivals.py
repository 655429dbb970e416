"""When requests come."""

from __future__ import annotations

from math import inf, isnan
from random import Random

import pytest

from warmroute_simulator.simulation.arrivals import RAMP_S, ArrivalPlan, Arrivals, Starts
from warmroute_simulator.simulation.kernel import Kernel
from warmroute_simulator.traces.prompts import ROOT, PromptTree
from warmroute_simulator.traces.trace import Trace

SERVICE_S = 2.0


class Clients:
    """Everybody is answered after `SERVICE_S`; rows in `failing` fail. State: who came when, who is alive."""

    def __init__(
        self, trace: Trace, plan: ArrivalPlan, seed: int = 0, failing: frozenset[int] = frozenset()
    ) -> None:
        self.kernel = Kernel()
        self.came: list[tuple[float, int]] = []
        self.failing = failing
        self.arrivals = Arrivals(trace, plan, Random(seed), self.kernel, self.arrive)
        self.arrivals.begin()
        self.kernel.run()

    def arrive(self, row: int) -> None:
        self.came.append((self.kernel.now, row))
        self.kernel.at(
            self.kernel.now + SERVICE_S, lambda row: self.arrivals.ended(row, row not in self.failing), row
        )

    @property
    def rows(self) -> list[int]:
        return [row for _, row in self.came]


def open_trace(*arrivals_s: float, quantum_s: float = 0.0) -> Trace:
    tree = PromptTree()
    trace = Trace("open", tree, quantum_s=quantum_s)
    for at in arrivals_s:
        trace.add(tree.add(ROOT, 10), 5, arrival_s=at)
    return trace


def sessions(count: int, turns: int, think_s: float = 1.0) -> Trace:
    tree = PromptTree()
    trace = Trace("closed", tree, closed_loop=True)
    for session in range(count):
        row = -1
        for _ in range(turns):
            row = trace.add(tree.add(ROOT, 10), 5, session=session, after=row, think_s=think_s)
    return trace


def test_open_loop_requests_come_when_the_trace_says_at_the_speed_that_was_asked_for() -> None:
    clients = Clients(open_trace(0.0, 10.0, 4.0), ArrivalPlan(speed=2.0))
    assert clients.came == [(0.0, 0), (2.0, 2), (5.0, 1)]
    assert clients.arrivals.left == 0


def test_a_coarse_clock_is_spread_inside_its_ticks_and_the_seed_says_how() -> None:
    trace = open_trace(*[3.0 * (number // 50) for number in range(200)], quantum_s=3.0)
    first, again, other = (Clients(trace, ArrivalPlan(), seed) for seed in (1, 1, 2))
    assert first.came == again.came != other.came
    for at, row in first.came:
        assert trace.arrivals_s[row] <= at < trace.arrivals_s[row] + 3.0
    gaps = [after - before for (before, _), (after, _) in zip(first.came, first.came[1:], strict=False)]
    assert max(gaps) < 0.5


def test_a_turn_comes_a_think_time_after_the_answer_before_it() -> None:
    clients = Clients(sessions(1, 3, think_s=1.0), ArrivalPlan(lanes=1))
    assert clients.came == [(1.0, 0), (4.0, 1), (7.0, 2)]
    assert clients.arrivals.session_started_s[0] == 0.0
    assert clients.arrivals.session_ended_s[0] == 9.0


def test_no_think_time_is_longer_than_the_cap() -> None:
    assert Clients(sessions(1, 2, think_s=500.0), ArrivalPlan(idle_cap_s=60.0)).came == [
        (60.0, 0),
        (122.0, 1),
    ]


def test_a_lane_holds_one_session_at_a_time_and_all_sessions_are_played() -> None:
    clients = Clients(sessions(20, 3), ArrivalPlan(lanes=4))
    started, ended = clients.arrivals.session_started_s, clients.arrivals.session_ended_s
    for at in started:
        assert sum(start <= at < end for start, end in zip(started, ended, strict=True)) <= 4
    assert len(clients.came) == 60
    assert {lane * RAMP_S / 4 for lane in range(4)} <= set(started)


def test_the_order_of_sessions_is_drawn_by_the_seed() -> None:
    trace = sessions(20, 1)
    assert Clients(trace, ArrivalPlan(), 1).rows == Clients(trace, ArrivalPlan(), 1).rows
    assert Clients(trace, ArrivalPlan(), 1).rows != Clients(trace, ArrivalPlan(), 2).rows


def test_poisson_starts_come_at_their_rate() -> None:
    print("seed 3")
    plan = ArrivalPlan(starts=Starts.POISSON, sessions_per_s=4.0)
    started = sorted(Clients(sessions(2000, 1), plan, 3).arrivals.session_started_s)
    assert 2000 / started[-1] == pytest.approx(4.0, rel=0.1)


def test_recorded_starts_are_those_of_the_trace() -> None:
    trace = sessions(3, 1, think_s=0.0)
    for row, at in enumerate((20.0, 0.0, 10.0)):
        trace.arrivals_s[row] = at
    clients = Clients(trace, ArrivalPlan(starts=Starts.RECORDED, speed=2.0))
    assert clients.came == [(0.0, 1), (5.0, 2), (10.0, 0)]


def test_a_parent_waits_for_all_of_its_sub_agents() -> None:
    """Row 0 spawns 1 and 2, which run side by side; row 2 thinks longest, and row 3 comes after both."""
    tree = PromptTree()
    trace = Trace("agents", tree, closed_loop=True)
    trace.add(tree.add(ROOT, 10), 5, session=0)
    trace.add(tree.add(ROOT, 10), 5, session=0, after=0, think_s=1.0)
    trace.add(tree.add(ROOT, 10), 5, session=0, after=0, think_s=4.0)
    trace.add(tree.add(ROOT, 10), 5, session=0, after=1, also_after=(2,), think_s=0.5)
    assert Clients(trace, ArrivalPlan()).came == [(0.0, 0), (3.0, 1), (6.0, 2), (8.5, 3)]


def test_a_failure_ends_its_session_and_the_lane_goes_on_with_the_next() -> None:
    trace = sessions(2, 3)
    order = Clients(trace, ArrivalPlan(lanes=1)).rows
    failing = order[1]
    clients = Clients(trace, ArrivalPlan(lanes=1), failing=frozenset({failing}))
    assert clients.rows == [*order[:2], *order[3:]]
    assert clients.arrivals.left == 0
    assert isnan(clients.arrivals.session_ended_s[trace.sessions[failing]])
    assert not isnan(clients.arrivals.session_ended_s[1 - trace.sessions[failing]])


def test_a_failure_beside_a_thinking_sub_agent_ends_the_session_once() -> None:
    tree = PromptTree()
    trace = Trace("agents", tree, closed_loop=True)
    for session in range(2):
        root = trace.add(tree.add(ROOT, 10), 5, session=session)
        trace.add(tree.add(ROOT, 10), 5, session=session, after=root, think_s=1.0)
        trace.add(tree.add(ROOT, 10), 5, session=session, after=root, think_s=9.0)
    first = Clients(trace, ArrivalPlan(lanes=1)).rows[0]
    clients = Clients(trace, ArrivalPlan(lanes=1), failing=frozenset({first + 1}))
    assert first + 2 not in clients.rows
    assert len(clients.rows) == 5
    assert clients.arrivals.left == 0


@pytest.mark.parametrize(
    "wrong", [{"speed": 0.0}, {"lanes": 0}, {"sessions_per_s": -1.0}, {"idle_cap_s": 0.0}]
)
def test_a_plan_that_would_never_end_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be above 0"):
        ArrivalPlan(**wrong)  # type: ignore[arg-type]


def test_a_trace_without_requests_is_over_at_once() -> None:
    assert Clients(open_trace(), ArrivalPlan(idle_cap_s=inf)).came == []

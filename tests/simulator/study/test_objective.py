"""What a search makes small, and the two numbers that a sweep goes by."""

from __future__ import annotations

from math import fsum, nan
from statistics import mean

import pytest

from warmroute_policies.events import PolicySpec
from warmroute_simulator.engine import EngineConfig
from warmroute_simulator.generators.registry import generate
from warmroute_simulator.report.model import Report, Slo
from warmroute_simulator.report.summary import summarize
from warmroute_simulator.simulation.arrivals import ArrivalPlan, Starts
from warmroute_simulator.simulation.config import RunConfig
from warmroute_simulator.simulation.fleet import WorkerPlan
from warmroute_simulator.simulation.records import Outcome, Records
from warmroute_simulator.simulation.scenario import scenario
from warmroute_simulator.study.cell import Cell, Run, Setup, run_cell
from warmroute_simulator.study.objective import STRETCHES, Objective, costs
from warmroute_simulator.study.rate import attainment, offered_per_s
from warmroute_simulator.traces.prompts import ROOT, PromptTree
from warmroute_simulator.traces.trace import Trace

SLO = Slo(ttft_s=1.0, tpot_s=0.1)


def by_hand() -> tuple[Records, Report]:
    """Twenty requests, one a second; the k-th waits k tenths of a second and answers 11 tokens in one second
    more; the last two fail and are never tried. The run lasts 40 seconds."""
    tree = PromptTree()
    trace = Trace("twenty", tree)
    for row in range(20):
        trace.add(tree.add(ROOT, 100), 11, arrival_s=float(row))
    records = Records.of(trace, ["w0"])
    for row in range(20):
        records.arrived_s[row] = float(row)
        records.first_token_s[row] = row + row / 10
        records.finished_s[row] = row + row / 10 + 1
        records.outcome[row] = Outcome.OK
    records.finished_s[17] = 40.0
    records.outcome[18], records.first_token_s[18], records.finished_s[18] = Outcome.FAILED, nan, nan
    records.outcome[19] = Outcome.NOT_RUN
    records.arrived_s[19] = records.first_token_s[19] = records.finished_s[19] = nan
    records.ended_s = 40.0
    report = summarize(records, policy="p", seed=0, slo=SLO, bounds=None, wall_s=0.0, cpu_s=0.0)
    return records, report


def test_latencies_are_means_in_which_an_unanswered_request_took_the_whole_run() -> None:
    records, report = by_hand()
    found = costs(records, report, Objective.TTFT_MEAN)
    assert report.span_s == 40.0
    assert found.whole == pytest.approx((sum(row / 10 for row in range(18)) + 40 + 40) / 20)
    assert found.stretches == pytest.approx([(4 * k + 1) / 20 for k in range(9)] + [40.0])


def test_the_p99_of_few_requests_is_the_slowest_and_an_unanswered_one_is_slowest_of_all() -> None:
    found = costs(*by_hand(), Objective.TTFT_P99)
    assert found.whole == 40.0
    assert found.stretches == pytest.approx([(2 * k + 1) / 10 for k in range(9)] + [40.0])


def test_goodput_costs_the_share_of_requests_that_miss_either_limit() -> None:
    """Rows 0 to 10 wait a second at most, and one token a tenth of a second is no miss."""
    records, report = by_hand()
    found = costs(records, report, Objective.GOODPUT)
    assert found.whole == 9 / 20
    assert found.stretches == [0.0] * 5 + [0.5] + [1.0] * 4
    assert attainment(report) == 11 / 20
    assert report.goodput.share == 11 / 20


def test_whole_requests_are_measured_to_their_last_token() -> None:
    found = costs(*by_hand(), Objective.E2E_MEAN)
    waits = [row / 10 + 1 for row in range(17)]
    assert found.whole == pytest.approx((sum(waits) + 23 + 40 + 40) / 20)


STEADY = ArrivalPlan()


def played(
    trace: Trace,
    plan: ArrivalPlan = STEADY,
    *,
    workers: int = 2,
    skip_s: float = 0.0,
    happens: str = "steady",
) -> Run:
    fleet = tuple(WorkerPlan(f"w{number}", EngineConfig(), "llama-3.1-8b-h100") for number in range(workers))
    happenings = tuple(scenario(happens, workers))
    config = RunConfig(fleet, PolicySpec(""), scenario=happenings, arrivals=plan)
    setup = Setup(config, SLO, with_bounds=False, skip_s=skip_s)
    return run_cell(trace, setup, Cell(PolicySpec("round_robin")))


@pytest.mark.parametrize("skip_s", [0.0, 3.0])
def test_where_all_are_answered_the_cost_is_the_reports_number(skip_s: float) -> None:
    run = played(generate("chat:requests=200,sessions_per_s=8", 1), skip_s=skip_s)
    report = run.report
    assert report.outcomes["ok"] == 200
    assert report.ttft_s is not None
    assert report.e2e_s is not None
    for objective, number in (
        (Objective.TTFT_MEAN, report.ttft_s.mean),
        (Objective.TTFT_P99, report.ttft_s.p99),
        (Objective.E2E_MEAN, report.e2e_s.mean),
        (Objective.GOODPUT, 1 - (report.goodput.share or 0)),
    ):
        found = costs(run.records, report, objective)
        assert found.whole == pytest.approx(number)
        assert len(found.stretches) <= STRETCHES
    assert attainment(report) == report.goodput.share


def test_tenths_together_are_the_whole() -> None:
    run = played(generate("chat:requests=200,sessions_per_s=8", 1))
    found = costs(run.records, run.report, Objective.E2E_MEAN)
    assert len(found.stretches) == STRETCHES
    assert fsum(found.stretches) / STRETCHES == pytest.approx(found.whole)


def test_requests_that_a_dead_worker_took_along_count_as_missed() -> None:
    trace = generate("agents:requests=200,steps=3-9,sessions_per_s=2", 1)
    run = played(trace, happens="death")
    outcomes = run.report.outcomes
    assert outcomes["not_run"] + outcomes["failed"] > 0
    assert attainment(run.report) <= outcomes["ok"] / len(trace)
    assert attainment(run.report) == run.report.goodput.requests / len(trace)


def test_requests_that_no_cache_can_hold_count_as_missed() -> None:
    tree = PromptTree()
    trace = Trace("one long", tree)
    for row, tokens in enumerate((100, 1_000_000, 100, 100)):
        trace.add(tree.add(ROOT, tokens), 5, arrival_s=float(row))
    run = played(trace)
    assert run.report.outcomes["refused"] == 1
    assert attainment(run.report) == 0.75


def test_requests_that_end_after_the_last_one_came_count_by_how_late_they_were() -> None:
    """At a hundred times the pace nearly all wait, and all of them are measured."""
    run = played(generate("chat:requests=300", 1), ArrivalPlan(speed=100.0), workers=1)
    assert run.report.outcomes["ok"] == 300
    assert run.report.span_s > 2 * max(run.records.arrived_s)
    times = zip(run.records.first_token_s, run.records.arrived_s, strict=True)
    late = [first - at > SLO.ttft_s for first, at in times]
    assert attainment(run.report) <= 1 - mean(late) < 0.9


def test_what_is_offered_is_the_traces_pace_times_the_speed() -> None:
    trace = generate("uniform:requests=101", 1)
    run = played(trace, ArrivalPlan(speed=2.0))
    span_s = trace.arrivals_s[-1] - trace.arrivals_s[0]
    assert offered_per_s(trace, run.report) == pytest.approx(2 * 101 / span_s)


def test_what_is_offered_by_sessions_is_their_rate_times_their_length() -> None:
    trace = generate("agents:requests=100,steps=2-6,sessions_per_s=3", 1)
    run = played(trace, ArrivalPlan(starts=Starts.POISSON, sessions_per_s=0.5))
    assert offered_per_s(trace, run.report) == pytest.approx(0.5 * 100 / trace.session_count)
    run = played(trace, ArrivalPlan(starts=Starts.LANES, lanes=4))
    assert offered_per_s(trace, run.report) == pytest.approx(100 / run.report.span_s)
    run = played(trace, ArrivalPlan(speed=2.0))
    span_s = max(trace.arrivals_s) - min(trace.arrivals_s)
    assert offered_per_s(trace, run.report) == pytest.approx(2 * 100 / span_s)

"""What a page draws is what the records hold, thinned out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import nan
from random import Random

import msgspec
import pytest

from warmroute_simulator.report.curves import ECDF_POINTS, Curves, Mark, curves, ecdf, slowest_rows
from warmroute_simulator.report.model import Report, Slo
from warmroute_simulator.report.summary import summarize
from warmroute_simulator.simulation.records import Happened, Outcome, Records
from warmroute_simulator.traces.prompts import PromptTree
from warmroute_simulator.traces.trace import Trace

MakeRun = Callable[..., Records]


def report_of(records: Records, skip_s: float = 0.0) -> Report:
    return summarize(
        records, policy="p", seed=0, slo=Slo(), bounds=None, wall_s=0.0, cpu_s=0.0, skip_s=skip_s
    )


@pytest.mark.parametrize("seed", range(5))
def test_an_ecdf_says_what_share_of_values_is_at_most_so_large(seed: int) -> None:
    chance = Random(seed)
    values = [chance.lognormvariate(0, 2) for _ in range(chance.randrange(1, 3000))]
    drawn = ecdf([*values, nan])
    assert drawn is not None
    assert len(drawn.shares) == len(drawn.values_s) <= ECDF_POINTS
    assert all(one <= other for one, other in pairwise(drawn.values_s))
    for share, value in zip(drawn.shares, drawn.values_s, strict=True):
        # Four digits are kept, of the value and of the share.
        at_most = sum(other <= value * 1.001 for other in values) / len(values)
        below = sum(other < value * 0.999 for other in values) / len(values)
        assert below - 1e-3 <= share <= at_most + 1e-3, f"seed {seed}"


def test_an_ecdf_does_not_reach_beyond_what_was_seen() -> None:
    few, many = ecdf([1.0, 2.0]), ecdf([float(value) for value in range(10_000)])
    assert few is not None
    assert many is not None
    assert few.shares[-1] == 0.5
    assert many.shares[-1] == 0.999
    assert ecdf([nan]) is None


def test_hit_rates_over_time_are_of_those_that_came_then(records: Records) -> None:
    hits = curves(records, report_of(records), [0, 500, 250, 496]).hits
    assert (len(hits.edges_s), hits.edges_s[0], hits.edges_s[-1]) == (61, 0.0, 7.0)
    known = [(place, rate) for place, rate in enumerate(hits.rates) if rate is not None]
    width_s = 7.0 / 60
    assert known == [(0, 0.0), (int(1 / width_s), 0.4), (int(2 / width_s), 0.0), (int(6 / width_s), 0.992)]
    assert [rate for rate in hits.infinite if rate is not None] == [0.0, 0.25, 0.25, 0.992]


def test_waits_over_time_are_of_those_that_came_then_and_ended_well(records: Records) -> None:
    waits = curves(records, report_of(records)).waits
    width_s = 7.0 / 60
    known = {place: value for place, value in enumerate(waits.p90_s) if value is not None}
    assert known == {0: 1.0, int(1 / width_s): 0.5, int(2 / width_s): 3.0}


def test_what_happened_is_marked_at_its_time_since_the_first_arrival_if_it_mattered(records: Records) -> None:
    for row in range(5):
        records.arrived_s[row] += 2.0
    records.ended_s += 2.0
    before, after = Happened(0.0, "slow w1 ×2"), Happened(500.0, "flush w0")
    records.happened = [before, Happened(4.5, "die w0"), after]
    assert curves(records, report_of(records)).marks == [Mark(0.0, "slow w1 ×2"), Mark(2.5, "die w0")]


def test_without_a_bound_over_time_there_is_none(records: Records) -> None:
    assert curves(records, report_of(records)).hits.infinite == []


def test_many_samples_become_few_means(make_run: MakeRun) -> None:
    records = make_run(1, workers=3)
    load = curves(records, report_of(records)).load
    assert len(records.samples) == 400
    assert len(load.times_s) == len(load.workers[2].running) == 80
    group = records.samples[5:10]
    assert load.workers[2].running[1] == pytest.approx(
        sum(sample.running[2] for sample in group) / 5, rel=1e-3
    )
    assert load.workers[0].kv_used[1] == pytest.approx(
        sum(sample.kv_used[0] for sample in group) / 5, rel=1e-3
    )


def test_the_slowest_are_those_that_waited_longest(make_run: MakeRun) -> None:
    records = make_run(2)
    waits = [records.first_token_s[row] - records.arrived_s[row] for row in range(400)]
    rows = slowest_rows(records, report_of(records), 5)
    assert rows == sorted(range(400), key=lambda row: -waits[row])[:5]
    drawn = curves(records, report_of(records))
    assert [slow.row for slow in drawn.slowest[:5]] == rows
    assert drawn.slowest[0].prompt_tokens == records.trace.prompt_tokens(rows[0])


def test_a_warm_up_is_left_out_as_in_the_report(make_run: MakeRun) -> None:
    records = make_run(3)
    late = curves(records, report_of(records, skip_s=1800.0))
    assert min(slow.arrived_s for slow in late.slowest) >= records.arrived_s[0] + 1800.0
    assert late.ttft != curves(records, report_of(records)).ttft


def test_a_run_without_requests_has_empty_curves() -> None:
    empty = Records.of(Trace("empty", PromptTree()), ["http://a"])
    drawn = curves(empty, report_of(empty))
    assert (drawn.ttft, drawn.session, drawn.slowest, drawn.load.times_s) == (None, None, [], [])


def test_curves_survive_the_way_between_processes(make_run: MakeRun) -> None:
    records = make_run(4)
    records.outcome[7] = Outcome.FAILED
    drawn = curves(records, report_of(records))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(drawn), type=Curves) == drawn

"""A report's numbers: by hand, and against naive sums over made-up runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import nan
from statistics import fmean

import msgspec
import pytest

from warmroute_simulator.bounds.hits import HitBounds
from warmroute_simulator.report.latencies import Spread
from warmroute_simulator.report.model import BoundValues, Goodput, PromptTokens, Report, Slo, decode, encode
from warmroute_simulator.report.summary import summarize
from warmroute_simulator.simulation.records import Outcome, Records
from warmroute_simulator.traces.prompts import PromptTree
from warmroute_simulator.traces.trace import Trace

BOUNDS = HitBounds(single_infinite=0.5, pooled_lru=0.25, pooled_belady=0.4)


def report_of(
    records: Records,
    *,
    slo: Slo | None = None,
    bounds: HitBounds | None = None,
    wall_s: float = 0.0,
    skip_s: float = 0.0,
    skip_share: float = 0.0,
) -> Report:
    return summarize(
        records,
        policy="cache_aware",
        seed=7,
        slo=slo or Slo(),
        bounds=bounds,
        wall_s=wall_s,
        cpu_s=wall_s,
        skip_s=skip_s,
        skip_share=skip_share,
        settings={"preset": "llama-3.1-8b-h100"},
    )


def test_hits_are_over_requests_that_an_engine_took_up(records: Records) -> None:
    report = report_of(records)
    assert report.hit_rate == (800 + 496) / (1000 + 2000 + 1000 + 500)
    assert report.predicted_hit_rate == (900 + 400) / 4500


def test_prompt_tokens_add_up(records: Records) -> None:
    assert report_of(records).prompt_tokens == PromptTokens(4500, 1296, 600, 100, 2500, 4)


def test_the_prediction_error_counts_both_ways_and_the_bias_does_not(records: Records) -> None:
    error = report_of(records).prediction_error
    assert error is not None
    assert error.mean_abs_tokens == (100 + 96) / 4
    assert error.bias_tokens == (100 - 96) / 4


def test_latencies_are_of_requests_that_ended_well(records: Records) -> None:
    report = report_of(records)
    assert report.ttft_s == Spread(1.5, 1.0, 3.0, 3.0)
    assert report.tpot_s == Spread(0.1, 0.1, 0.1, 0.1)
    assert report.e2e_s == Spread(2.5, 2.0, 5.0, 5.0)
    assert report.session_s == Spread(2.0, 2.0, 2.0, 2.0)
    assert report.span_s == 7.0
    assert report.output_tokens_per_s == (11 + 1 + 21) / 7


def test_what_happened_is_counted(records: Records) -> None:
    report = report_of(records)
    assert report.requests == 5
    assert {kind: count for kind, count in report.outcomes.items() if count} == {
        "ok": 3, "failed": 1, "refused": 1,
    }  # fmt: skip
    assert report.retried == 1
    assert report.reasons == {"cold": 2, "warm": 2}
    assert (report.evicted_tokens, report.preemptions) == (640, 1)
    assert report.skipped == 2
    trace, refused, failed = report.notes
    assert trace == "two lines were skipped"
    assert refused.startswith("refused, ")
    assert failed.startswith("failed, ")


def test_goodput_holds_requests_to_both_limits(records: Records) -> None:
    assert report_of(records).goodput == Goodput(2.0, 0.1, 2, 2 / 5, 2 / 7)
    assert report_of(records, slo=Slo(2.0, 0.05)).goodput.requests == 1  # the answer of one token
    assert report_of(records, slo=Slo(0.1, 0.1)).goodput.requests == 0


def test_imbalance_is_the_busiest_workers_computed_tokens_over_the_mean(records: Records) -> None:
    report = report_of(records)
    assert report.imbalance == 2200 / ((2200 + 1004) / 2)
    first, second = report.per_worker
    assert first.hit_rate == 800 / 3000
    assert first.computed_share == 2200 / 3204
    assert (first.busy_share, second.busy_share) == (0.5, 1.0)


def test_distances_from_bounds_are_in_points(records: Records) -> None:
    report = report_of(records, bounds=BOUNDS)
    assert report.bounds == BoundValues(0.5, 0.25, 0.4)
    assert report.below_bounds_points.single_infinite == pytest.approx(50 - 28.8)
    assert report.below_bounds_points.pooled_lru == pytest.approx(25 - 28.8)


def test_a_warm_up_is_left_out_of_latencies_and_not_of_hits(records: Records) -> None:
    whole, late = report_of(records), report_of(records, skip_s=2.0)
    assert late.ttft_s == Spread(3.0, 3.0, 3.0, 3.0)
    assert late.session_s is None
    assert late.goodput == Goodput(2.0, 0.1, 0, 0.0, 0.0)
    assert (late.warm_up.skip_s, late.warm_up.requests) == (2.0, 2)
    assert (late.hit_rate, late.requests) == (whole.hit_rate, 5)


def test_a_warm_up_by_share_ends_where_that_share_has_arrived(records: Records) -> None:
    report = report_of(records, skip_share=0.4)
    assert (report.warm_up.skip_s, report.warm_up.requests) == (2.0, 2)


@pytest.mark.parametrize(("skip_s", "skip_share"), [(-1.0, 0.0), (0.0, 1.0), (0.0, -0.1), (nan, 0.0)])
def test_a_warm_up_that_leaves_nothing_is_an_error(
    records: Records, skip_s: float, skip_share: float
) -> None:
    with pytest.raises(ValueError, match="warm-up"):
        report_of(records, skip_s=skip_s, skip_share=skip_share)


def test_a_run_that_was_interrupted_says_so_and_spans_until_then(records: Records) -> None:
    records.partial, records.ended_s = True, 10.0
    records.outcome[4] = Outcome.NOT_RUN
    records.arrived_s[4] = nan
    report = report_of(records)
    assert report.partial
    assert (report.span_s, report.requests) == (10.0, 4)
    assert report.goodput.share == 2 / 4


def test_a_run_without_a_single_request_has_no_numbers_and_is_written_all_the_same() -> None:
    empty = Records.of(Trace("empty", PromptTree()), ["http://a"])
    report = report_of(empty)
    assert (report.hit_rate, report.ttft_s, report.imbalance, report.session_s) == (None, None, None, None)
    assert json.loads(encode(report))["ttft_s"] is None
    assert decode(encode(report)) == report


def test_the_keys_that_others_rely_on_are_all_there(records: Records) -> None:
    written = json.loads(encode(report_of(records, bounds=BOUNDS)))
    promised = [
        "schema",
        "trace",
        "policy",
        "workers",
        "seed",
        "requests",
        "hit_rate",
        "predicted_hit_rate",
        "ttft_s",
        "tpot_s",
        "e2e_s",
        "session_s",
        "output_tokens_per_s",
        "imbalance",
        "evicted_tokens",
        "bounds",
        "wall_s",
        "cpu_s",
    ]
    assert list(written)[: len(promised)] == promised
    assert written["schema"] == 1
    for spread in ("ttft_s", "tpot_s", "e2e_s"):
        assert list(written[spread]) == ["mean", "p50", "p90", "p99"]
    assert list(written["bounds"]) == ["single_infinite", "pooled_lru", "pooled_belady"]


@pytest.mark.parametrize("seed", range(3))
def test_equal_runs_are_equal_bytes_but_for_the_time_they_took(
    make_run: Callable[..., Records], seed: int
) -> None:
    one, two = (report_of(make_run(seed), wall_s=wall_s) for wall_s in (1.0, 2.0))
    assert encode(one) != encode(two)
    assert encode(one) == encode(msgspec.structs.replace(two, wall_s=1.0, cpu_s=1.0))


@pytest.mark.parametrize("seed", range(5))
def test_totals_agree_with_naive_sums(make_run: Callable[..., Records], seed: int) -> None:
    records = make_run(seed, requests=200)
    report = report_of(records)
    rows = range(200)
    prompts = [records.trace.prompt_tokens(row) for row in rows]
    assert report.hit_rate == sum(records.hit_tokens) / sum(prompts)
    assert report.ttft_s is not None
    assert report.ttft_s.mean == pytest.approx(
        fmean(records.first_token_s[row] - records.arrived_s[row] for row in rows)
    )
    tokens = report.prompt_tokens
    parts = (
        tokens.reused, tokens.elsewhere, tokens.after_eviction, tokens.first_time, tokens.forgotten
    )  # fmt: skip
    assert tokens.total == sum(parts)
    assert min(parts) >= 0
    assert sum(report.reasons.values()) == 200
    assert sum(worker.computed_share or 0 for worker in report.per_worker) == pytest.approx(1)
    assert report.imbalance is not None
    assert report.imbalance >= 1

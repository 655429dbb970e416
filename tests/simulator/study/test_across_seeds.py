"""Cells of a comparison over their seeds."""

from __future__ import annotations

import msgspec
import pytest

from warmroute_simulator.report.latencies import Spread
from warmroute_simulator.report.model import Report, Slo
from warmroute_simulator.report.summary import summarize
from warmroute_simulator.simulation.records import Records
from warmroute_simulator.study.across_seeds import differences, summaries
from warmroute_simulator.traces.prompts import PromptTree
from warmroute_simulator.traces.trace import Trace

EMPTY = summarize(
    Records.of(Trace("t", PromptTree()), ["http://a"]),
    policy="",
    seed=0,
    slo=Slo(),
    bounds=None,
    wall_s=0.0,
    cpu_s=0.0,
)


def report(policy: str, seed: int, hit_rate: float | None, load: float = 1.0, ttft_s: float = 1.0) -> Report:
    return msgspec.structs.replace(
        EMPTY,
        policy=policy,
        seed=seed,
        hit_rate=hit_rate,
        ttft_s=Spread(ttft_s, ttft_s, ttft_s, ttft_s),
        settings={"load": load},
    )


def test_seeds_of_one_cell_become_one_summary() -> None:
    cells = summaries(
        [report("a", 0, 0.2), report("b", 0, 0.5), report("a", 1, 0.4), report("a", 0, 0.9, 2.0)]
    )
    assert [(cell.policy, cell.settings["load"], cell.seeds) for cell in cells] == [
        ("a", 1.0, [0, 1]),
        ("b", 1.0, [0]),
        ("a", 2.0, [0]),
    ]
    hits = cells[0].keys["hit_rate"]
    assert (hits.low, hits.high) == (0.2, 0.4)
    assert hits.mean == pytest.approx(0.3)
    assert cells[1].keys["hit_rate"].low is None
    assert cells[0].keys["ttft_s.p99"].mean == 1.0


def test_what_one_seed_did_not_measure_has_no_mean() -> None:
    (cell,) = summaries([report("a", 0, 0.2), report("a", 1, None)])
    assert "hit_rate" not in cell.keys
    assert "session_s.mean" not in cell.keys
    assert "ttft_s.mean" in cell.keys


def test_policies_are_compared_seed_by_seed() -> None:
    reports = [report("a", seed, 0.5 + seed / 100) for seed in range(4)]
    reports += [report("b", seed, 0.4 + seed / 100) for seed in (3, 1, 2, 9)]
    (found,) = differences(reports, "b")
    assert (found.policy, found.versus, found.seeds) == ("a", "b", [1, 2, 3])
    hits = found.keys["hit_rate"]
    assert hits.low == pytest.approx(0.1)
    assert hits.high == pytest.approx(0.1)


def test_policies_without_a_seed_or_a_cell_in_common_are_not_compared() -> None:
    assert differences([report("a", 0, 0.5), report("b", 1, 0.4)], "b") == []
    assert differences([report("a", 0, 0.5, 1.0), report("b", 0, 0.4, 2.0)], "b") == []
    assert differences([report("a", 0, 0.5)], "unheard of") == []


def test_other_cells_beside_it_do_not_change_a_summary() -> None:
    own = [report("a", seed, seed / 10) for seed in range(5)]
    alone = summaries(own)[0]
    among = summaries([report("z", 0, 0.1), *own, report("b", 2, 0.3)])[1]
    assert alone == among

"""What a point costs, when the defaults stand, and a small study from its plan to its page."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from math import log
from pathlib import Path

import msgspec
import pytest

from judged import MADE, result
from live.polling import eventually
from routing_lib.agenda import Agenda
from routing_lib.factors import TraceFactor, traces
from routing_lib.plan import OURS, plan_of
from routing_lib.progress import Progress
from routing_lib.results import Result, encoded
from routing_lib.runs import Runs
from routing_lib.statistics import Interval
from routing_lib.store import Key, Run, Store
from routing_lib.traces import made_up
from routing_lib.verdicts import Metric
from tuning_lib.costs import cost, ratio_over_cells
from tuning_lib.page import OWN_COMMAND, SHOWN, page, sentence
from tuning_lib.playing import Playing
from tuning_lib.results import CellChecked, PointTried, Tuning, decoded, gathered
from tuning_lib.searched import searched
from tuning_lib.verdicts import Word, behind, rank_of_defaults, ranked, ratio, verdict, word_of
from tuning_lib.workloads import LEAST_SHARE, TUNED_ON, UNSEEN, cells_of, plan_of_tuning
from warmroute_policies.events import PolicySpec
from warmroute_simulator.cli import COMMANDS
from warmroute_simulator.commands import tune
from warmroute_simulator.report.model import Slo
from warmroute_simulator.study.ranges import space_of
from warmroute_simulator.study.search import LEAST_BUDGET, SEEDS

DOCS = Path(__file__).parents[2] / "docs"
BENCH = Path(__file__).parents[2] / "bench" / "tuning.py"
KNOWN = traces(Path())
LEVEL = Interval(1.0, 0.99, 1.01)

FEW = {
    "shared_prefix": TraceFactor(
        "a few", Slo(), "why not", lambda _: made_up("shared_prefix:groups=5,prefix_tokens=2000", 30)
    ),
    "rag": TraceFactor("a few", Slo(), "why not", lambda _: made_up("rag:documents=30", 30)),
}


def run(ttft_s: float, seed: int = 0) -> Run:
    key = Key("rag", "8", 1_000_000, None, 1.0, 0.1, 0.8, OURS, seed)
    return Run(
        key=key,
        digest="",
        requests=10,
        outcomes={"ok": 10},
        ttft_mean_s=ttft_s,
        ttft_p50_s=1.0,
        ttft_p90_s=1.0,
        ttft_p99_s=1.0,
        tpot_mean_s=1.0,
        tpot_p99_s=1.0,
        e2e_mean_s=1.0,
        hit_rate=1.0,
        goodput_share=1.0,
        goodput_per_s=1.0,
        offered_per_s=1.0,
        imbalance=1.0,
        cpu_s=1.0,
    )


def a_cell(
    trace: str, defaults: Sequence[float] | Result, found: Sequence[float] | Result, share: float = 0.8
) -> CellChecked:
    both = (one if isinstance(one, Result) else result(one) for one in (defaults, found))
    return CellChecked(trace, "8", 1_000_000, share, share, *both)


def a_tuning(tuned_on: Sequence[float], unseen: Sequence[float], others: int = 2) -> Tuning:
    """What was found took so many times what the defaults took, by seed."""
    times = [1.0, 2.0, 4.0]
    found = [factor * time for factor, time in zip(tuned_on, times, strict=True)]
    elsewhere = [factor * time for factor, time in zip(unseen, times, strict=True)]
    worse = [PointTried({"price": 3.0 + number}, {0: 0.1 + number}) for number in range(others)]
    tried = [
        PointTried({"price": 2.0}, {0: 0.0, 1: 0.0, 2: 0.0}),
        *worse,
        PointTried({"price": 1.5}, dict(enumerate(map(log, tuned_on)))),
    ]
    return Tuning(
        schema=1,
        mode="published",
        made=MADE,
        policy=OURS,
        found=f"{OURS}:price=1.5",
        found_params={"price": 1.5},
        ranges=["price=0.25..16:log"],
        budget=40,
        trials=8,
        seeds=[0, 1, 2],
        absent=[],
        tried=tried,
        tuned_on=[a_cell("mooncake", times, found)],
        unseen=[a_cell("rag", times, elsewhere), a_cell("azure", times, times)],
    )


WON = a_tuning((0.8, 0.8, 0.8), (0.81, 0.81, 0.81))
LEFT = a_tuning((0.99, 0.99, 0.99), (0.99, 1.0, 1.01))
MADE_TO_MEASURE = a_tuning((0.8, 0.8, 0.8), (1.21, 1.21, 1.21))


# --- costs --------------------------------------------------------------------------------------


def test_the_difference_of_two_costs_is_the_mean_logarithm_of_the_ratios() -> None:
    """Twice as long in one cell and half as long in another is as good; 8 for 1 in one of three is twice."""
    defaults = cost([run(1.0), run(0.1), run(30.0)])
    assert cost([run(2.0), run(0.05), run(30.0)]) - defaults == pytest.approx(0.0)
    assert cost([run(8.0), run(0.1), run(30.0)]) - defaults == pytest.approx(log(2))


def test_a_cost_of_no_runs_is_refused() -> None:
    with pytest.raises(ValueError, match="no runs"):
        cost([])
    with pytest.raises(ValueError, match="no cells"):
        ratio_over_cells([], [])


def test_the_ratio_over_cells_is_paired_by_seed() -> None:
    """The second seed is ten times as hard for both: of the ratio it is to say nothing."""
    found = ratio_over_cells([[0.5, 5.0], [2.0, 20.0]], [[1.0, 10.0], [1.0, 10.0]])
    assert found == pytest.approx((1.0, 1.0, 1.0))
    found = ratio_over_cells([[0.5, 20.0]], [[1.0, 10.0]])
    assert found == pytest.approx((1.0, 0.5, 2.0))


# --- halves -------------------------------------------------------------------------------------


def test_the_halves_are_all_traces_and_share_none() -> None:
    assert not set(TUNED_ON) & set(UNSEEN)
    assert {*TUNED_ON, *UNSEEN} == set(KNOWN)
    assert len(TUNED_ON) == len(UNSEEN)


def test_both_halves_have_recorded_and_made_up_traces_open_and_closed() -> None:
    closed = {"agentic", "chat_agents"}
    for half in (TUNED_ON, UNSEEN):
        assert {KNOWN[name].source(8).path is None for name in half} == {True, False}
        assert {name in closed for name in half} == {True, False}


@pytest.mark.parametrize("mode", ["quick", "published"])
def test_the_cells_are_the_routing_studys_at_usual_loads_and_above(mode: str) -> None:
    plan, routing = plan_of_tuning(mode, KNOWN), plan_of(mode, KNOWN)
    assert set(plan.cells) == {cell for cell in routing.cells if cell.share >= LEAST_SHARE}
    halves = [cells_of(plan, half) for half in (TUNED_ON, UNSEEN)]
    assert sorted(halves[0] + halves[1]) == sorted(plan.cells)
    assert all(halves)
    assert (plan.references, plan.policies, plan.seeds) == (routing.references, (), (0, 1, 2))


# --- verdicts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tuned_on", "unseen", "word"),
    [
        (Interval(0.985, 0.98, 0.99), LEVEL, Word.STAND),
        (Interval(0.985, 0.98, 0.99), Interval(1.1, 1.05, 1.2), Word.STAND),
        (Interval(0.985, 0.98, 0.99), Interval(0.97, 0.96, 0.99), Word.BETTER),
        (Interval(0.97, 0.96, 0.98), Interval(0.97, 0.96, 0.99), Word.BETTER),
        (Interval(0.97, 0.96, 0.98), LEVEL, Word.ELSEWHERE),
        (Interval(0.97, 0.96, 0.98), Interval(1.1, 1.05, 1.2), Word.ELSEWHERE),
        (LEVEL, LEVEL, Word.STAND),
    ],
)
def test_defaults_stand_where_they_are_near_the_best_and_not_worse_elsewhere(
    tuned_on: Interval, unseen: Interval, word: Word
) -> None:
    assert word_of(tuned_on, unseen) is word


def test_what_leaves_requests_unanswered_is_not_better() -> None:
    cell = a_cell("rag", [1.0, 1.0, 1.0], result([0.5, 0.5, 0.5], unanswered=0.02))
    tuning = msgspec.structs.replace(WON, unseen=[cell])
    assert verdict(WON).word is Word.BETTER
    assert verdict(tuning).word is Word.STAND
    assert "leaves more requests unanswered in 1 cell." in sentence(tuning)
    assert "80 %, 8 workers, 1M †" in page(tuning)
    assert "workers, 1M †" not in page(WON)


def test_half_of_a_half_that_is_better_by_a_fifth_makes_a_tenth() -> None:
    assert ratio(WON.unseen, Metric.MEAN).value == pytest.approx(0.9)
    assert ratio(WON.unseen, Metric.P99).value == pytest.approx(0.9)
    assert behind(0.8) == pytest.approx(0.25)


def test_the_defaults_are_ranked_among_all_points() -> None:
    assert rank_of_defaults(WON) == 2
    assert [point.params["price"] for point in ranked(WON)] == [1.5, 2.0, 3.0, 4.0]
    assert rank_of_defaults(a_tuning((1.0, 1.0, 1.0), (1.0, 1.0, 1.0))) == 1


# --- the page -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tuning", "said"),
    [
        (LEFT, "**The defaults stand.** With `cache_aware:price=1.5` the mean TTFT is 1.0 % lower"),
        (LEFT, "0.0 % lower on the other, which is within chance."),
        (WON, "**What was found is better.** With `cache_aware:price=1.5` the mean TTFT is 20.0 % lower"),
        (WON, "and 10.0 % lower on the other."),
        (MADE_TO_MEASURE, "**What was found does not carry over.** With"),
        (
            MADE_TO_MEASURE,
            "20.0 % lower than with the defaults on the half that was tuned on, and 10.0 % higher",
        ),
        (
            msgspec.structs.replace(LEFT, found=OURS, found_params={"price": 2.0}),
            "**The defaults stand.** Of 2 points that were played with all seeds, these among them, none is",
        ),
    ],
)
def test_the_page_says_who_is_better_and_by_how_much(tuning: Tuning, said: str) -> None:
    assert said in sentence(tuning)
    assert sentence(tuning) in page(tuning)


def test_the_page_has_both_halves_the_parameters_and_the_best_points() -> None:
    text = page(WON)
    assert "| tuned on | mooncake | 1 | 0.800 (0.800–0.800) | 0.800 (0.800–0.800) | 25.0 % |" in text
    assert "| not seen | rag, azure | 2 | 0.900 (0.900–0.900) | 0.900 (0.900–0.900) | 11.1 % |" in text
    assert "| `price` | `0.25..16:log` | 2 | 1.5 |" in text
    assert "| 1 | **found** | 1.5 | 3 | 0.800 |\n| 2 | defaults | 2 | 3 | 1.000 |\n" in text
    assert "1 of 4 points are better" not in text
    assert "1 of 4 points is better than the defaults" in text


def test_defaults_that_are_not_among_the_best_are_shown_below_them() -> None:
    better = [PointTried({"price": 5.0 + number}, {0: -0.1}) for number in range(SHOWN + 2)]
    text = page(msgspec.structs.replace(WON, tried=[*WON.tried, *better]))
    assert f"| {SHOWN + 4} | defaults | 2 | 3 | 1.000 |" in text
    assert f"{SHOWN + 3} of {SHOWN + 6} points are better than the defaults" in text
    assert f"\n| {SHOWN + 1} |" not in text


def test_a_quick_look_says_on_top_that_it_is_one_and_absent_traces_are_named() -> None:
    quick = page(msgspec.structs.replace(WON, mode="quick", absent=["agentic"]))
    assert quick.index("`mode: quick`: a look, no measurement") < quick.index("## Verdict")
    assert "Left out, since their files were not there: agentic." in quick
    assert "mode: quick" not in page(WON)
    assert "Left out" not in page(WON)


def test_the_page_ends_with_a_command_that_simulator_tune_takes() -> None:
    (command,) = re.findall(r"^simulator (.*)$", page(WON), re.MULTILINE)
    assert command == OWN_COMMAND.format(policy=OURS).removeprefix("simulator ")
    name, *options = command.split()
    assert name in COMMANDS
    parser = argparse.ArgumentParser()
    tune.add_arguments(parser)
    assert parser.parse_args(options).policy == OURS


def test_tables_have_as_many_columns_in_every_row() -> None:
    tables = re.findall(r"(?:^\|.*\n)+", page(WON), re.MULTILINE)
    assert len(tables) == 4
    for found in tables:
        assert len({line.count("|") for line in found.splitlines()}) == 1, found


def test_the_page_in_the_repository_is_that_of_its_results() -> None:
    found = decoded((DOCS / "tuning.json").read_bytes())
    assert (DOCS / "tuning.md").read_text(encoding="utf-8") == page(found), "run bench/tuning.py --render"


def test_results_of_another_schema_are_refused() -> None:
    with pytest.raises(ValueError, match="schema 2, but this version reads 1"):
        decoded(encoded(msgspec.structs.replace(WON, schema=2)))


def test_points_that_only_looked_better_are_told() -> None:
    lucky = PointTried({"price": 9.0}, {0: -0.1})
    beaten = PointTried({"price": 8.0}, {0: -0.1, 1: 0.1, 2: 0.1})
    tried = [WON.tried[0], lucky, beaten]
    tuning = msgspec.structs.replace(LEFT, found=OURS, found_params={"price": 2.0}, tried=tried)
    assert "Of 2 points that were played with all seeds" in sentence(tuning)
    assert sentence(tuning).endswith("; of the others, played with fewer, 1 looked better.")


# --- all of it ----------------------------------------------------------------------------------


def played(path: Path) -> tuple[Tuning, int]:
    """A study of few requests, and how many runs it asked for."""
    agenda = Agenda(plan_of_tuning("quick", FEW), Store(path, "these sources"))
    space = space_of(PolicySpec(OURS))
    with Runs(1, "these sources") as runs:
        playing = Playing(runs, agenda.store, Progress())
        found = searched(agenda, playing, space, LEAST_BUDGET)
    return gathered(agenda, space, LEAST_BUDGET, found, MADE, []), len(playing.used)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tuning, int, Path]:
    path = tmp_path_factory.mktemp("tuning") / "runs.jsonl"
    return *played(path), path


def _key(line: bytes) -> str:
    return str(msgspec.json.decode(line, type=Run).key)


def test_a_study_has_its_trials_its_check_and_its_page(small: tuple[Tuning, int, Path]) -> None:
    tuning, _, _ = small
    assert [tuning.policy, tuning.seeds, tuning.mode] == [OURS, [0, 1, 2], "quick"]
    assert {cell.trace for cell in tuning.tuned_on} == {"shared_prefix"}
    assert {cell.trace for cell in tuning.unseen} == {"rag"}
    assert tuning.trials == sum(len(point.gains) for point in tuning.tried) <= LEAST_BUDGET
    defaults, *others = tuning.tried
    assert defaults.gains == {0: 0.0, 1: 0.0, 2: 0.0}
    assert others
    assert list(tuning.found_params) == [text.partition("=")[0] for text in tuning.ranges]
    for cell in (*tuning.tuned_on, *tuning.unseen):
        assert len(cell.defaults.ttft_mean_s) == len(cell.found.ttft_mean_s) == SEEDS
    assert sentence(tuning) in page(tuning)


def test_what_the_search_went_by_is_what_the_check_finds(small: tuple[Tuning, int, Path]) -> None:
    tuning, _, _ = small
    (best,) = [point for point in tuning.tried if point.params == tuning.found_params]
    assert set(best.gains) == {0, 1, 2}
    gain = sum(best.gains.values()) / SEEDS
    assert log(ratio(tuning.tuned_on, Metric.MEAN).value) == pytest.approx(gain, abs=1e-3)
    assert gain <= 0


def test_the_same_study_again_plays_nothing_and_finds_the_same(small: tuple[Tuning, int, Path]) -> None:
    tuning, used, path = small
    lines = path.read_bytes().splitlines()
    again, used_again = played(path)
    assert encoded(again) == encoded(tuning)
    assert used == used_again == len(lines) == len(path.read_bytes().splitlines())


def test_a_study_that_was_cut_short_plays_the_rest_and_no_more(
    small: tuple[Tuning, int, Path], tmp_path: Path
) -> None:
    tuning, used, path = small
    lines = path.read_bytes().splitlines(keepends=True)
    rest = tmp_path / "runs.jsonl"
    rest.write_bytes(b"".join(lines[: -len(lines) // 5]))
    again, used_again = played(rest)
    assert encoded(again) == encoded(tuning)
    assert used_again == used
    assert sorted(map(_key, rest.read_bytes().splitlines())) == sorted(map(_key, lines))


def test_ctrl_c_keeps_the_runs_that_are_done_and_writes_no_page(tmp_path: Path) -> None:
    state, page_data = tmp_path / "runs.jsonl", tmp_path / "tuning.json"
    command = [sys.executable, str(BENCH), "--quick", "--traces", str(tmp_path), "--state", str(state)]
    command += ["--json", str(page_data), "--processes", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        eventually(state.exists, "a run is done", patience_s=60)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"runs are in {state}, the same command goes on" in said
    assert not page_data.exists()


def test_a_study_survives_its_file_and_gives_the_same_page(small: tuple[Tuning, int, Path]) -> None:
    tuning, _, _ = small
    assert decoded(encoded(tuning)) == tuning
    assert page(decoded(encoded(tuning))) == page(tuning)

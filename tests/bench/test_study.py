"""A small study from its plan to its page: the same in one process and in two, and wherever it was cut."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from judged import MADE
from live.polling import eventually
from routing_lib.agenda import Agenda
from routing_lib.factors import Cell, Place, TraceFactor
from routing_lib.gathered import gathered
from routing_lib.page import page
from routing_lib.plan import OURS, Plan
from routing_lib.results import Quality, decoded, encoded
from routing_lib.runs import RunFailed, Runs
from routing_lib.store import Store, digest_of_sources
from routing_lib.traces import made_up
from warmroute_simulator.report.model import Slo

TRACES = {
    "rag": TraceFactor(
        "a few documents", Slo(ttft_s=0.25), "why not", lambda _: made_up("rag:documents=30", 40)
    ),
    "azure": TraceFactor(
        "nothing shared", Slo(ttft_s=0.2), "why not", lambda _: made_up("uniform:rate_per_s=5", 40)
    ),
}
PLACES = (Place("rag", "4", 250_000), Place("azure", "mixed", 250_000))
PLAN = Plan(
    mode="published",
    traces=TRACES,
    cells=tuple(Cell(place, share) for place in PLACES for share in (0.6, 1.1)),
    policies=(OURS, "random"),
    references=(OURS,),
    seeds=(0, 1, 2),
    capacity_at=PLACES[:1],
    capacity_seeds=(0, 1),
)


def agenda(path: Path, plan: Plan = PLAN) -> Agenda:
    return Agenda(plan, Store(path, "these sources"))


def play(found: Agenda, processes: int = 1, runs: int | None = None) -> int:
    """Plays all of it, or so many runs; how many that were."""
    played = 0
    with Runs(processes, found.store.digest) as driver:
        while (orders := found.orders()) and played != runs:
            for run in islice(driver.play(orders), None if runs is None else runs - played):
                found.store.add(run)
                played += 1
    return played


def timeless(found: Agenda) -> Quality:
    return gathered(found, MADE, [])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Agenda:
    found = agenda(tmp_path_factory.mktemp("whole") / "runs.jsonl")
    play(found)
    return found


def test_two_processes_find_what_one_finds(whole: Agenda, tmp_path: Path) -> None:
    other = agenda(tmp_path / "runs.jsonl")
    assert play(other, processes=2) == len(whole.store)
    assert encoded(timeless(other)) == encoded(timeless(whole))


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_study_that_was_cut_short_plays_the_rest_and_no_more(
    whole: Agenda, tmp_path: Path, cut: int
) -> None:
    file = tmp_path / "runs.jsonl"
    assert play(agenda(file), runs=cut) == cut
    rest = agenda(file)
    assert play(rest) == len(whole.store) - cut
    assert encoded(timeless(rest)) == encoded(timeless(whole))


def test_nothing_is_asked_for_twice_and_nothing_is_left_in_the_end(whole: Agenda) -> None:
    orders = agenda(Path("nowhere")).orders()
    assert len({order.key for order in orders}) == len(orders)
    assert whole.orders() == []
    assert whole.left() == 0
    assert agenda(Path("nowhere")).left() > 0
    assert len(whole.used()) == len(whole.store)


def test_what_was_played_survives_its_file(whole: Agenda) -> None:
    found = timeless(whole)
    assert decoded(encoded(found)) == found
    assert [(cell.trace, cell.share) for cell in found.cells] == [
        ("rag", 0.6),
        ("rag", 1.1),
        ("azure", 0.6),
        ("azure", 1.1),
    ]
    assert "| rag |" in page(found)


def test_loads_are_shares_of_the_places_knee(whole: Agenda) -> None:
    found = timeless(whole)
    knees = {(knee.trace, knee.fleet): knee.load for knee in found.knees}
    for cell in found.cells:
        knee = knees[cell.trace, cell.fleet]
        assert knee is not None
        assert cell.load == pytest.approx(min(cell.share * knee, 10), rel=1e-3)


def test_a_cells_bounds_are_those_of_its_sequence(whole: Agenda) -> None:
    for cell in timeless(whole).cells:
        bounds = cell.bounds
        assert bounds.pooled_lru <= bounds.pooled_belady <= bounds.single_infinite
        ours = cell.results[OURS]
        assert ours.hit_rate[0] <= bounds.single_infinite
        assert bounds.ttft_floor_mean_s <= ours.ttft_mean_s[0]
        assert bounds.ttft_floor_p99_s <= ours.ttft_p99_s[0]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_fails_is_named(tmp_path: Path, processes: int) -> None:
    lost = agenda(tmp_path / "runs.jsonl", replace(PLAN, references=("no_such_policy",)))
    with pytest.raises(RunFailed, match=r"no_such_policy on \S+, fleet \w+, load \S+, seed 0: ConfigError"):
        play(lost, processes)
    assert len(lost.store) == 0


def test_a_process_that_dies_is_told_with_the_run_that_it_was_at(tmp_path: Path) -> None:
    killed = agenda(tmp_path / "runs.jsonl", replace(PLAN, references=("studied:Killed",)))
    with pytest.raises(RunFailed, match=r"studied:Killed on .*: its process ended, exit code -9"):
        play(killed, 2)


def test_ctrl_c_keeps_the_runs_that_are_done_and_the_same_command_goes_on(tmp_path: Path) -> None:
    bench = Path(__file__).parents[2] / "bench" / "routing.py"
    state = tmp_path / "runs.jsonl"
    command = [sys.executable, str(bench), "--quick", "--traces", str(tmp_path), "--state", str(state)]
    command += ["--json", str(tmp_path / "quality.json"), "--processes", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        eventually(lambda: state.exists() and b"\n" in state.read_bytes(), "a run is done", patience_s=60)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"runs are in {state}, the same command goes on" in said
    assert len(Store(state, digest_of_sources())) == len(state.read_bytes().splitlines()) >= 1
    assert not (tmp_path / "quality.json").exists()

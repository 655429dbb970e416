"""Runs in several processes: the same results as in one, and an end to whatever goes wrong."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from studied import Counted
from warmroute_policies.events import PolicySpec
from warmroute_policies.spelling import parse_policy
from warmroute_simulator.engine import EngineConfig
from warmroute_simulator.report.model import Report
from warmroute_simulator.simulation.arrivals import ArrivalPlan
from warmroute_simulator.simulation.config import RunConfig
from warmroute_simulator.simulation.fleet import WorkerPlan
from warmroute_simulator.study.cell import Cell, Setup
from warmroute_simulator.study.objective import Objective
from warmroute_simulator.study.pool import Pool, RunFailed
from warmroute_simulator.study.task import Part, Result, Task

FLEET = tuple(WorkerPlan(f"w{number}", EngineConfig(), "llama-3.1-8b-h100") for number in range(3))
SETUP = Setup(RunConfig(FLEET, PolicySpec("")))
CHAT = "chat:requests=60,sessions_per_s=6"


def tasks(*policies: str, seeds: int = 2, part: Part = Part.WHOLE) -> list[Task]:
    return [
        Task(
            SETUP,
            Cell(parse_policy(policy), load, seed),
            part,
            with_curves=True,
            objective=Objective.TTFT_MEAN,
        )
        for policy in policies
        for load in (0.5, 1.2)
        for seed in range(seeds)
    ]


def timeless(results: list[Result | None]) -> list[tuple[Report, object]]:
    found: list[tuple[Report, object]] = []
    for result in results:
        assert result is not None
        report = msgspec.structs.replace(result.report, wall_s=0.0, cpu_s=0.0)
        found.append((report, (result.offered_per_s, result.costs, result.curves)))
    return found


@pytest.mark.parametrize("of_seeds", [False, True], ids=["recorded", "made-up"])
def test_results_are_the_same_in_one_and_in_several_processes(tmp_path: Path, of_seeds: bool) -> None:
    source = Counted(CHAT, tmp_path / "log", of_seeds)
    asked = tasks("cache_aware", "random", "session_sticky:inner=power_of_two") + tasks(
        "random", part=Part.SECOND_HALF
    )
    found = []
    for processes in (1, 2, 3):
        with Pool(source, processes) as pool:
            found.append(timeless(pool.run(asked)))
    assert found[0] == found[1] == found[2]
    assert [(report.seed, report.settings["load"]) for report, _ in found[0][:4]] == [
        (0, 0.5),
        (1, 0.5),
        (0, 1.2),
        (1, 1.2),
    ]
    assert found[0][0] != found[0][4]


def test_each_process_reads_the_trace_once_for_all_that_it_runs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Pool(Counted(CHAT, log), 2) as pool:
        pool.run(tasks("random"))
        pool.run(tasks("cache_aware", part=Part.FIRST_HALF))
    readers = log.read_text().splitlines()
    assert len(readers) == len(set(readers)) == 2
    assert str(os.getpid()) not in log.read_text()


def test_one_process_is_this_one_and_makes_each_seeds_trace_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Pool(Counted(CHAT, log, of_seeds=True), 1) as pool:
        pool.run(tasks("random", "round_robin", seeds=3))
    assert log.read_text().splitlines() == [f"{os.getpid()} {seed}" for seed in range(3)]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_policy_that_raises_ends_the_study_with_its_name_and_the_place(
    tmp_path: Path, processes: int
) -> None:
    asked = [*tasks("round_robin"), *tasks("live.broken_policy:Broken", seeds=1)[:1]]
    with Pool(Counted(CHAT, tmp_path / "log"), processes) as pool:
        with pytest.raises(RunFailed) as failed:
            pool.run(asked)
        assert str(failed.value).startswith(
            "live.broken_policy:Broken, 3 workers, load 0.5, seed 0: LookupError: no such shelf ("
        )
        assert "broken_policy.py, line " in str(failed.value)
        assert not failed.value.usage


@pytest.mark.parametrize("processes", [1, 2])
def test_what_a_user_asked_for_and_cannot_have_is_his_fault(tmp_path: Path, processes: int) -> None:
    at_once = Setup(RunConfig(FLEET, PolicySpec(""), arrivals=ArrivalPlan()))
    asked = [Task(at_once, Cell(PolicySpec("random"), load, 0)) for load in (1.0, -1.0)]
    with Pool(Counted(CHAT, tmp_path / "log"), processes) as pool:
        with pytest.raises(
            RunFailed, match="random, 3 workers, load -1, seed 0: the load must be above 0"
        ) as failed:
            pool.run(asked)
        assert failed.value.usage


@pytest.mark.parametrize("processes", [1, 2])
def test_a_trace_that_cannot_be_read_is_no_runs_fault(tmp_path: Path, processes: int) -> None:
    with Pool(Counted("chats:requests=3", tmp_path / "log"), processes) as pool:
        with pytest.raises(RunFailed, match=r"^there is no generator `chats`") as failed:
            pool.run(tasks("random"))
        assert failed.value.usage


def test_a_process_that_is_killed_ends_the_study_with_what_it_was_at(tmp_path: Path) -> None:
    with Pool(Counted(CHAT, tmp_path / "log"), 2) as pool, pytest.raises(RunFailed) as failed:
        pool.run(tasks("studied:Killed", "round_robin"))
    assert str(failed.value).startswith("studied:Killed, 3 workers, load 0.5, seed ")
    assert "killed, as Linux does when memory runs out" in str(failed.value)


def test_no_process_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one process, not 0"):
        Pool(Counted(CHAT, tmp_path / "log"), 0)

"""What is said beside numbers: of one run, and of several at once."""

from __future__ import annotations

from warmroute_policies.events import PolicySpec
from warmroute_simulator.engine import EngineConfig
from warmroute_simulator.generators.registry import generate
from warmroute_simulator.report.model import Report
from warmroute_simulator.simulation.config import RunConfig
from warmroute_simulator.simulation.fleet import WorkerPlan
from warmroute_simulator.study.cell import Cell, Setup, run_cell
from warmroute_simulator.study.compare import compared, in_a_sentence
from warmroute_simulator.study.config_file import config_text
from warmroute_simulator.study.notes import of_several

FLEET = tuple(WorkerPlan(f"w{number}", EngineConfig(), "llama-3.1-8b-h100") for number in range(2))


def report_of(spec: str, policy: str = "cache_aware", seed: int = 0) -> Report:
    setup = Setup(RunConfig(FLEET, PolicySpec("")))
    return run_cell(generate(spec, seed), setup, Cell(PolicySpec(policy), seed=seed)).report


def test_a_fleet_that_still_fills_when_the_trace_ends_is_told_and_a_steady_one_is_not() -> None:
    filling = report_of("chat:requests=800,sessions_per_s=3,turns=10,think_s=30")
    steady = report_of("chat:requests=800,sessions_per_s=1,turns=2,think_s=1")
    assert any("a fleet that fills" in note for note in filling.notes)
    assert not any("a fleet that fills" in note for note in steady.notes)


def test_notes_that_differ_in_numbers_alone_are_one_note() -> None:
    reports = [
        report_of("chat:requests=800,sessions_per_s=3,turns=10,think_s=30", seed=seed) for seed in range(3)
    ]
    (note,) = of_several(reports)
    assert note.endswith("(and 2 like it, of other runs)")


def test_a_comparison_in_a_sentence_names_the_first_by_the_mean_over_all_seeds() -> None:
    spec = "chat:requests=300,sessions_per_s=6"
    policies = ("random", "cache_aware")
    reports = [report_of(spec, policy, seed) for policy in policies for seed in range(5)]
    sentence = in_a_sentence(compared(reports, "random", False))
    assert sentence.startswith("cache_aware answers first: mean TTFT ")
    assert " over 5 seeds; random comes next with " in sentence


def test_a_fitted_preset_is_named_by_a_path_that_holds_from_every_folder() -> None:
    fleet = [WorkerPlan("w0", EngineConfig(), "my-gpu.json")]
    (line,) = [
        line for line in config_text(PolicySpec("cache_aware"), fleet, []).splitlines() if "preset" in line
    ]
    assert line.startswith('latency_preset: "/')
    assert line.endswith('/my-gpu.json"')

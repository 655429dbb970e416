"""`simulator tune`, from the command line to the file that a router takes."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from warmroute_policies.events import PolicySpec
from warmroute_policies.parameters import Value
from warmroute_simulator.cli import main
from warmroute_simulator.engine import EngineConfig
from warmroute_simulator.simulation.fleet import WorkerPlan
from warmroute_simulator.study.config_file import config_text
from warmroute_simulator.study.fleet_size import smallest

CHAT = "generate:chat:requests=200,sessions_per_s=8"
SMALL = (CHAT, "--workers", "3", "--processes", "1", "--budget", "14", "--seeds", "3")


def tuned(tmp_path: Path, *options: str, code: int = 0) -> dict[str, Any]:
    out = tmp_path / "tuned.json"
    assert main(["tune", *options, "--quiet", "--json", str(out)]) == code
    found: dict[str, Any] = json.loads(out.read_bytes())
    return found


@pytest.fixture(scope="module")
def leaning(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any], str]:
    """A policy that keeps to one worker of three by default, and should not."""
    folder = tmp_path_factory.mktemp("tune")
    config = folder / "router.yaml"
    options = ("--policy", "studied:Leaning", "--params", "lean=0..1", "--load", "0.6", "--out", str(config))
    found = tuned(folder, *SMALL, *options)
    return found, yaml.safe_load(config.read_text()), config.read_text()


def test_a_bad_default_is_beaten_and_the_config_says_by_what(
    leaning: tuple[dict[str, Any], dict[str, Any], str],
) -> None:
    found, config, text = leaning
    assert found["winner"] == "found"
    assert found["check"]["found"] < found["check"]["given"]
    assert found["check"]["over_seeds"]["high"] < 0
    assert found["check"]["over_tenths"]["high"] < 0
    assert config["policy"] == "studied:Leaning"
    assert list(config["policy_param"]) == ["lean"]
    assert config["policy_param"]["lean"] < 0.9
    assert found["found"] == f"studied:Leaning:lean={config['policy_param']['lean']}"
    assert (config["latency_preset"], config["kv_capacity_tokens"]) == ("llama-3.1-8b-h100", 441_000)
    for word in (
        "chat:requests=200",
        "a load of 0.6",
        "lean=0..1",
        "mean TTFT",
        "budget 14",
        "on the second half",
    ):
        assert word in " ".join(line.removeprefix("# ") for line in text.splitlines()), word


def test_the_search_sees_the_first_half_and_the_check_the_second(
    leaning: tuple[dict[str, Any], dict[str, Any], str],
) -> None:
    found, _, _ = leaning
    assert found["runs"] == sum(len(tried["costs"]) for tried in found["tried"]) <= 14
    assert set(found["tried"][0]["costs"]) == {"0", "1", "2"}
    assert {cell["trace"] for cell in found["cells"]} == {"chat:requests=200,sessions_per_s=8 (second half)"}
    assert found["trace"] == "chat:requests=200,sessions_per_s=8"
    assert [cell["seed"] for cell in found["cells"]] == [0, 1, 2, 0, 1, 2]
    assert found["check"]["given"] == pytest.approx(
        sum(cell["ttft_s"]["mean"] for cell in found["cells"][:3]) / 3
    )


def test_what_is_given_stays_where_the_difference_is_within_chance(tmp_path: Path) -> None:
    config = tmp_path / "router.yaml"
    options = (
        "--policy",
        "cache_aware",
        "--params",
        "rent_price=1.9..2.1",
        "--load",
        "0.5",
        "--out",
        str(config),
    )
    found = tuned(tmp_path, *SMALL, *options)
    assert found["winner"] == "given"
    assert found["why"]
    assert "policy_param" not in yaml.safe_load(config.read_text())
    assert "stay with cache_aware" in " ".join(
        line.removeprefix("# ") for line in config.read_text().splitlines()
    )


def test_results_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    leaning = ("--policy", "studied:Leaning", "--objective", "e2e_mean", "--budget", "14", "--seeds", "2")
    once, twice = (tuned(tmp_path, *SMALL[:3], *leaning, "--processes", number) for number in ("1", "2"))
    for found in (once, twice):
        del found["cells"]
    assert once == twice


@pytest.mark.parametrize("objective", ["ttft_p99", "goodput"])
def test_any_objective_is_made_smaller_on_the_half_that_was_searched(tmp_path: Path, objective: str) -> None:
    options = ("--policy", "studied:Leaning", "--params", "lean=0..1", "--load", "0.8", "--slo-ttft", "0.1")
    found = tuned(tmp_path, *SMALL, *options, "--objective", objective)
    given, *others = found["tried"]
    assert min(min(tried["costs"].values()) for tried in others) <= min(given["costs"].values())


def test_sessions_of_a_closed_loop_are_divided_too(tmp_path: Path) -> None:
    agents = "generate:agents:requests=120,steps=3-8,task_tokens=2000,system_tokens=3000"
    found = tuned(tmp_path, agents, *SMALL[1:], "--params", "miss_price=0.5..8:log", "--load", "0.5")
    assert found["tried"][0]["params"] == {"miss_price": 2.0}


def test_the_smallest_fleet_is_found_and_its_parameters_are_searched(tmp_path: Path) -> None:
    config = tmp_path / "router.yaml"
    trace = "generate:chat:requests=400,sessions_per_s=12"
    options: tuple[str, ...] = (trace, "--processes", "1", "--slo-ttft", "0.2", "--speed", "6")
    options += ("--budget", "8", "--seeds", "2", "--out", str(config))
    found = tuned(tmp_path, *options, "--fleet-sizes", "1-9")
    workers = found["fleet"]["workers"]
    tried = {one["workers"]: one["attainment"] for one in found["fleet"]["tried"]}
    assert 1 < workers < 9
    assert tried[workers] >= 0.95 > tried[workers - 1]
    assert len(tried) <= 5
    assert found["workers"] == workers
    assert all(cell["workers"] == workers for cell in found["cells"])
    assert f"{workers} workers are the fewest" in " ".join(config.read_text().replace("\n# ", " ").split())


def test_a_fleet_can_be_sized_for_a_policy_without_parameters(tmp_path: Path) -> None:
    found = tuned(tmp_path, CHAT, "--processes", "1", "--policy", "round_robin", "--fleet-sizes", "1-4")
    assert found["fleet"]["workers"] is not None
    assert (found["runs"], found["winner"], found["tried"]) == (0, "given", [])


def test_no_fleet_that_is_large_enough_is_a_failure_and_writes_no_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "router.yaml"
    options = (CHAT, "--processes", "1", "--slo-ttft", "0.001", "--fleet-sizes", "1-2", "--out", str(config))
    assert main(["tune", *options]) == 1
    assert "none keeps TTFT ≤ 1.00 ms" in capsys.readouterr().out
    assert not config.exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--policy", "random"), "has no parameter whose range is known"),
        (("--budget", "3"), "a budget of at least 8 runs, not 3"),
        (("--params", "miss_prise=1..2"), "did you mean `miss_price`"),
        (("--out", "router.json"), "the router tells a file by its name: .yaml or .yml"),
        (("--fleet-sizes", "few"), "--fleet-sizes: expected LOW-HIGH, as in 2-16"),
        (("--fleet-sizes", "8-2"), "--fleet-sizes: expected 1 ≤ LOW ≤ HIGH"),
        (("--fleet-sizes", "2-8", "--load", "0.5"), "--load would grow with the fleet"),
        (("--fleet-sizes", "2-8", "--fleet", "2xllama-3.1-8b-h100"), "is for workers that are all alike"),
    ],
)
def test_what_cannot_be_asked_for_is_told(
    options: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", CHAT, "--processes", "1", *options]) == 2
    assert expected in capsys.readouterr().err


def test_the_terminal_tells_the_verdict(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    options = ("--policy", "studied:Leaning", "--params", "lean=0..1", "--load", "0.6", "--html", str(page))
    assert main(["tune", *SMALL, *options]) == 0
    shown = capsys.readouterr().out
    assert "use studied:Leaning:lean=" in shown
    assert "as found: studied:Leaning:lean=" in shown
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("least", range(1, 12))
def test_the_smallest_that_holds_is_found_in_few_questions(least: int) -> None:
    asked: list[int] = []

    def holds(number: int) -> bool:
        asked.append(number)
        return number >= least

    assert smallest(2, 10, holds) == (None if least > 10 else max(least, 2))
    assert len(asked) == len(set(asked)) <= 5
    assert all(before != after for before, after in pairwise(asked))


def test_values_are_written_so_that_yaml_reads_them_back() -> None:
    params: dict[str, Value] = {
        "small": 1e-05,
        "large": 12.5,
        "whole": 40,
        "yes": True,
        "word": "no",
        "other": "least_requests",
    }
    fleet = [WorkerPlan("w0", EngineConfig(kv_tokens=1000), "my-own-fit")]
    text = config_text(PolicySpec("package.module:Class", params), fleet, ["What it is for. " * 20])
    assert yaml.safe_load(text) == {
        "policy": "package.module:Class",
        "policy_param": params,
        "latency_preset": "my-own-fit",
        "kv_capacity_tokens": 1000,
    }
    assert max(len(line) for line in text.splitlines()) <= 110


def test_fleets_of_several_kinds_leave_to_the_operator_what_differs() -> None:
    fleet = [
        WorkerPlan("w0", EngineConfig(kv_tokens=1000), "llama-3.1-8b-h100"),
        WorkerPlan("w1", EngineConfig(kv_tokens=2000), "llama-3.1-8b-h200"),
    ]
    text = config_text(PolicySpec("cache_aware"), fleet, [])
    assert yaml.safe_load(text) == {"policy": "cache_aware"}
    assert "`preset` in `backend`" in text
    assert "`kv_capacity_tokens` in `backend`" in text


@pytest.mark.parametrize("params", ["patience=0..1", "patience=0.9..1"])
def test_ctrl_c_recommends_nothing_and_writes_no_config(
    tmp_path: Path, params: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the search, or at once."""
    config, out = tmp_path / "router.yaml", tmp_path / "tuned.json"
    patience = "1" if params == "patience=0..1" else "0"
    options = ("--policy", f"studied:Impatient:patience={patience}", "--params", params, "--out", str(config))
    assert main(["tune", *SMALL, *options, "--json", str(out)]) == 1
    found = json.loads(out.read_bytes())
    assert found["partial"] is True
    assert (found["winner"], found["found"], found["check"]) == ("given", None, None)
    assert not config.exists()
    assert "partial: interrupted" in capsys.readouterr().out

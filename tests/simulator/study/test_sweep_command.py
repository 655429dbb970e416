"""`simulator sweep`, from the command line to the files and the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from warmroute_simulator.cli import main
from warmroute_simulator.study.knee import HIGHEST, LOWEST, load_at

CHAT = "generate:chat:requests=150,sessions_per_s=6"
LONG = f"{CHAT},system_prompts=12,system_tokens=8000,output_tokens=50-100"
"""Where a request goes decides how much of it is computed."""
AGENTS = "generate:agents:requests=120,steps=3-8,task_tokens=2000,system_tokens=3000"


def swept(tmp_path: Path, *options: str) -> dict[str, Any]:
    out = tmp_path / "swept.json"
    assert main(["sweep", *options, "--quiet", "--json", str(out)]) == 0
    found: dict[str, Any] = json.loads(out.read_bytes())
    return found


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return swept(
        tmp_path_factory.mktemp("sweep"), LONG, "--workers", "2", "--kv-tokens", "100000", "--processes", "1",
        "--slo-ttft", "0.3", "--policies", "cache_aware,round_robin", "--seeds", "3",
        "--attainment", "0.9,0.95,0.99",
    )  # fmt: skip


def test_the_knee_is_the_largest_load_that_holds_and_the_next_one_does_not(chats: dict[str, Any]) -> None:
    grid = [load_at(step) for step in range(LOWEST, HIGHEST + 1)]
    assert [one["policy"] for one in chats["policies"]] == ["cache_aware", "round_robin"]
    for one in chats["policies"]:
        curve = {point["load"]: point for point in one["curve"]}
        assert list(curve) == sorted(curve)
        assert [knee["target"] for knee in one["knees"]] == [0.9, 0.95, 0.99]
        for knee in one["knees"]:
            assert curve[knee["fails_at"]]["attainment"] < knee["target"]
            held = [point["attainment"] for load, point in curve.items() if load <= knee["load"]]
            assert all(share >= knee["target"] for share in held)
            assert grid.index(knee["fails_at"]) == grid.index(knee["load"]) + 1
            assert knee["goodput_per_s"] == curve[knee["load"]]["goodput_per_s"]


def test_a_load_is_judged_by_the_median_of_its_seeds(chats: dict[str, Any]) -> None:
    for one in chats["policies"]:
        for point in one["curve"]:
            cells = [
                cell
                for cell in chats["cells"]
                if cell["policy"] == one["policy"] and cell["settings"]["load"] == point["load"]
            ]
            shares = sorted(cell["goodput"]["requests"] / 150 for cell in cells)
            assert point["seeds"] == [cell["seed"] for cell in cells] == [0, 1, 2]
            assert point["attainment"] == shares[1]
            assert point["ttft_p99_s"] == sorted(cell["ttft_s"]["p99"] for cell in cells)[1]


def test_nothing_is_dropped_at_overload(chats: dict[str, Any]) -> None:
    past = max(chats["cells"], key=lambda cell: cell["settings"]["load"])
    assert past["goodput"]["share"] < 0.9
    assert past["outcomes"]["ok"] == past["requests"] == 150


def test_the_policy_that_uses_caches_bears_more(chats: dict[str, Any]) -> None:
    ours, theirs = (one["knees"][1]["load"] for one in chats["policies"])
    assert ours > theirs


def test_what_is_offered_grows_with_the_load(chats: dict[str, Any]) -> None:
    for one in chats["policies"]:
        base = one["curve"][0]
        for point in one["curve"]:
            assert point["offered_per_s"] / base["offered_per_s"] == pytest.approx(
                point["load"] / base["load"]
            )


def test_sessions_of_a_closed_loop_start_as_often_as_the_load_says(tmp_path: Path) -> None:
    found = swept(
        tmp_path, AGENTS, "--workers", "2", "--processes", "1", "--seeds", "1", "--policies", "cache_aware"
    )
    assert all(cell["settings"]["starts"] == "poisson" for cell in found["cells"])
    (one,) = found["policies"]
    assert one["knees"][0]["load"] is None or one["knees"][0]["goodput_per_s"] > 0


def test_results_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    options = (
        CHAT,
        "--workers",
        "2",
        "--policies",
        "cache_aware,random",
        "--seeds",
        "2",
        "--slo-ttft",
        "0.15",
    )
    once, twice = (swept(tmp_path, *options, "--processes", processes) for processes in ("1", "2"))
    assert once["policies"] == twice["policies"]
    assert once["notes"] == twice["notes"]


def test_one_seed_is_enough_where_the_seed_changes_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "chat.jsonl"
    assert main(["generate", CHAT.removeprefix("generate:"), "--out", str(trace)]) == 0
    found = swept(
        tmp_path, str(trace), "--workers", "2", "--processes", "1", "--policies", "cache_aware,random"
    )
    seeds = [[len(point["seeds"]) for point in one["curve"]] for one in found["policies"]]
    assert sorted(seeds[0], reverse=True) == [3] * 4 + [1] * (len(seeds[0]) - 4), "at first it is not known"
    assert set(seeds[1]) == {3}


def test_limits_that_an_idle_fleet_misses_and_loads_that_are_none_are_told(tmp_path: Path) -> None:
    options = (CHAT, "--workers", "2", "--processes", "1", "--seeds", "1", "--policies", "cache_aware")
    never = swept(tmp_path, *options, "--slo-ttft", "0.001")
    assert never["policies"][0]["knees"][0]["load"] is None
    assert any("even an idle fleet cannot keep them" in note for note in never["notes"])
    ever = swept(tmp_path, *options, "--slo-ttft", "1000", "--slo-tpot", "1000")
    assert ever["policies"][0]["knees"][0] | {"load": 10, "fails_at": None} == ever["policies"][0]["knees"][0]
    assert any("the trace is too short to load the fleet" in note for note in ever["notes"])


def test_the_terminal_and_the_page_show_knees_and_curves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    options = (CHAT, "--workers", "2", "--processes", "1", "--seeds", "1", "--policies", "cache_aware,random")
    assert main(["sweep", *options, "--html", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "the largest load that keeps TTFT ≤ 2.00 s and TPOT ≤ 0.10 s" in shown
    assert shown.count("cache_aware") >= 2
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--attainment", "1.5"), "--attainment: shares are above 0 and at most 1"),
        (("--attainment", "most"), "--attainment: expected numbers behind commas"),
        (("--slo-ttft", "0"), "--slo-ttft must be above 0"),
    ],
)
def test_what_cannot_be_asked_for_is_told(
    options: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", CHAT, *options]) == 2
    assert expected in capsys.readouterr().err


def test_ctrl_c_keeps_the_loads_that_are_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "swept.json"
    policies = ("--policies", "cache_aware", "--policy", "studied:Impatient:patience=0")
    options = (CHAT, "--workers", "2", "--processes", "1", "--seeds", "2", *policies)
    assert main(["sweep", *options, "--json", str(out)]) == 1
    found = json.loads(out.read_bytes())
    assert found["partial"] is True
    done, not_begun = found["policies"]
    assert [(point["load"], point["seeds"]) for point in done["curve"]] == [
        (load, [0]) for load in (0.316, 0.464, 0.681, 1.0)
    ]
    assert (not_begun["curve"], not_begun["knees"]) == ([], [])
    assert "partial: interrupted" in capsys.readouterr().out

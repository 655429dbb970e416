"""`simulator compare`, from the command line to the files and the terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from live.polling import eventually
from warmroute_simulator.cli import main

CHAT = "generate:chat:requests=60,sessions_per_s=6"
SMALL = (CHAT, "--workers", "3", "--processes", "1")


def compared(tmp_path: Path, *options: str) -> dict[str, Any]:
    out = tmp_path / "compared.json"
    assert main(["compare", *options, "--quiet", "--json", str(out)]) == 0
    found: dict[str, Any] = json.loads(out.read_bytes())
    return found


def timeless(found: Any) -> Any:
    """Without what a clock said."""
    if isinstance(found, dict):
        return {key: timeless(value) for key, value in found.items() if key not in ("wall_s", "cpu_s")}
    return [timeless(value) for value in found] if isinstance(found, list) else found


@pytest.fixture(scope="module")
def trace_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "chat.jsonl"
    spec = CHAT.removeprefix("generate:")
    assert main(["generate", spec, "--out", str(path)]) == 0
    return path


def test_every_policy_meets_every_load_with_every_seed(tmp_path: Path) -> None:
    policies = ["cache_aware", "random", "cache_aware:miss_price=4,rent_price=0"]
    names = ("--policies", ",".join(policies[:2]), "--policy", policies[2])
    found = compared(tmp_path, *SMALL, *names, "--loads", "0.5,1.2", "--seed-list", "3,5,8")
    assert found["schema"] == 1
    assert found["partial"] is False
    assert [(cell["settings"]["load"], cell["policy"], cell["seed"]) for cell in found["cells"]] == [
        (load, policy, seed) for load in (0.5, 1.2) for policy in policies for seed in (3, 5, 8)
    ]
    assert [(one["settings"]["load"], one["policy"], one["seeds"]) for one in found["summary"]] == [
        (load, policy, [3, 5, 8]) for load in (0.5, 1.2) for policy in policies
    ]
    first = found["summary"][0]["keys"]["ttft_s.mean"]
    values = [cell["ttft_s"]["mean"] for cell in found["cells"][:3]]
    assert first["mean"] == pytest.approx(sum(values) / 3)
    rounding = 1e-12  # of a mean of three equal numbers
    assert min(values) - rounding <= first["low"] <= first["mean"] <= first["high"] <= max(values) + rounding


def test_differences_are_to_the_first_policy_seed_by_seed(tmp_path: Path) -> None:
    found = compared(tmp_path, *SMALL, "--policies", "random,cache_aware", "--seeds", "3")
    (difference,) = found["differences"]
    assert (difference["policy"], difference["versus"], difference["seeds"]) == (
        "cache_aware",
        "random",
        [0, 1, 2],
    )
    theirs, ours = found["cells"][:3], found["cells"][3:]
    expected = sum(our["hit_rate"] - their["hit_rate"] for our, their in zip(ours, theirs, strict=True)) / 3
    assert difference["keys"]["hit_rate"]["mean"] == pytest.approx(expected)
    assert expected > 0


def test_results_do_not_depend_on_the_number_of_processes_nor_on_when(
    tmp_path: Path, trace_file: Path
) -> None:
    for trace in (CHAT, str(trace_file)):
        options = (
            trace,
            "--policies",
            "cache_aware,random",
            "--loads",
            "0.7,1",
            "--seeds",
            "2",
            "--workers",
            "2",
        )
        once, twice, again = (
            compared(tmp_path, *options, "--processes", processes) for processes in ("1", "2", "1")
        )
        assert timeless(once) == timeless(twice) == timeless(again)


def test_a_recorded_trace_that_no_seed_changes_says_so(tmp_path: Path, trace_file: Path) -> None:
    options = (str(trace_file), "--workers", "2", "--processes", "1", "--seeds", "2", "--policies")
    assert "the seed changes nothing here" in compared(tmp_path, *options, "cache_aware")["notes"][-1]
    assert compared(tmp_path, *options, "cache_aware,random")["notes"] == []


def test_the_terminal_shows_policies_side_by_side_and_the_page_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    options = ("--policies", "cache_aware,random", "--loads", "0.5,1", "--seeds", "2", "--html", str(page))
    assert main(["compare", *SMALL, *options]) == 0
    shown = capsys.readouterr().out
    assert shown.count("cache_aware") >= 2
    assert "random − cache_aware" in shown
    html = page.read_text()
    assert html.startswith("<!doctype html>")
    assert html.count("cache_aware") > 2
    assert "random" in html


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--policies", "cache_awear"), "there is no policy `cache_awear`; did you mean `cache_aware`"),
        (("--policy", "cache_aware:miss_price=-1"), "miss_price must not be negative"),
        (("--policies", "random,random"), "policy random is given twice"),
        (("--loads", "0.5,high"), "--loads: expected numbers behind commas"),
        (("--loads", "0"), "the load must be above 0"),
        (("--seeds", "0"), "--seeds must be 1 to 1000, not 0"),
        (("--seed-list", "1,1"), "--seed-list names a seed twice"),
        (("--seed-list", ","), "--seed-list names no number"),
        (("--processes", "0"), "at least one process, not 0"),
        (("--workers", "0"), "a fleet has 1 to 1024 workers, not 0"),
    ],
)
def test_what_cannot_be_asked_for_is_told_before_anything_runs(
    options: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *SMALL, *options]) == 2
    assert expected in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "nowhere.jsonl", "--workers", "2", "--processes", "2"]) == 2
    assert "nowhere.jsonl" in capsys.readouterr().err


def test_a_run_that_fails_ends_the_study_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--policies", "random", "--policy", "live.broken_policy:Broken", "--seeds", "1")
    assert main(["compare", *SMALL, *options]) == 1
    shown = capsys.readouterr()
    assert "simulator compare: live.broken_policy:Broken, 3 workers, seed 0: LookupError" in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_keeps_what_is_done_marks_it_partial_and_leaves_no_process(
    tmp_path: Path, processes: int
) -> None:
    marker, out = tmp_path / "begun", tmp_path / "out.json"
    command = [sys.executable, "-m", "warmroute_simulator", "compare", *SMALL[:3], "--seeds", "1"]
    command += ["--policies", "random,cache_aware", "--policy", f"studied:Stuck:marker={marker}"]
    command += ["--processes", str(processes), "--json", str(out)]
    tests = str(Path(__file__).parents[2])
    with subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": tests},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            eventually(
                lambda: marker.exists() or process.poll() is not None, "the run that never ends begins"
            )
            os.killpg(process.pid, signal.SIGINT)
            shown, complaints = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 1, complaints
    assert "Traceback" not in complaints
    found = json.loads(out.read_bytes())
    assert found["partial"] is True
    policies = [cell["policy"] for cell in found["cells"]]
    # With two processes one of the two may not have been done yet.
    assert policies in (
        [["random", "cache_aware"]]
        if processes == 1
        else [["random", "cache_aware"], ["random"], ["cache_aware"]]
    )
    assert f"partial: interrupted when {len(policies)} of 3 runs were done" in shown
    stuck = int(marker.read_text())
    assert stuck == process.pid or processes == 2
    eventually(lambda: not _alive(stuck), "no process is left")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

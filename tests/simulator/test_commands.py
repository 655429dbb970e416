"""The `simulator` command as people use it: processes, files, exit codes."""

from __future__ import annotations

import csv
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from warmroute_policies.blocks import PromptBlocks, salt_of
from warmroute_policies.events import PolicySpec
from warmroute_policies.journal import RecordedBalancer
from warmroute_policies.registry import make_policy
from warmroute_policies.types import Outcome, RoutingRequest, Usage, WorkerSpec
from warmroute_simulator.cli import COMMANDS

CHATS = "generate:chat:requests=300"
SPREAD = {"mean", "p50", "p90", "p99"}
PROMISED = {
    "schema", "trace", "policy", "workers", "seed", "requests", "hit_rate", "predicted_hit_rate", "ttft_s",
    "tpot_s", "e2e_s", "session_s", "output_tokens_per_s", "imbalance", "evicted_tokens", "bounds", "wall_s",
    "cpu_s",
}  # fmt: skip


def simulator(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "warmroute_simulator", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, check=False)


def test_a_replay_writes_a_table_a_report_rows_and_a_page(tmp_path: Path) -> None:
    report, rows, page = tmp_path / "report.json", tmp_path / "rows.csv", tmp_path / "page.html"
    done = simulator("replay", CHATS, "--workers", "3", "--json", report, "--csv", rows, "--html", page)
    assert done.returncode == 0, done.stderr
    assert "hit rate" in done.stdout
    found = json.loads(report.read_bytes())
    assert found.keys() >= PROMISED
    assert found["schema"] == 1
    assert (found["requests"], found["workers"], found["policy"]) == (300, 3, "cache_aware")
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        assert found[name].keys() >= SPREAD
    assert found["bounds"].keys() == {"single_infinite", "pooled_lru", "pooled_belady"}
    with rows.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 300
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "why w" in text  # a slow request's decision is explained


def test_the_same_replay_twice_is_the_same_report_but_for_the_time_it_took(tmp_path: Path) -> None:
    reports = []
    for number in range(2):
        file = tmp_path / f"{number}.json"
        assert simulator("replay", CHATS, "--seed", "5", "--quiet", "--json", file).returncode == 0
        report = json.loads(file.read_bytes())
        del report["wall_s"], report["cpu_s"]
        reports.append(report)
    assert reports[0] == reports[1]


def test_a_generated_file_replays_as_what_it_was_generated_from(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl.gz"
    assert simulator("generate", "agents:requests=300", "--out", file).returncode == 0
    found = []
    for trace in ("generate:agents:requests=300", str(file)):
        report = tmp_path / "report.json"
        assert simulator("replay", trace, "--quiet", "--json", report).returncode == 0
        values = json.loads(report.read_bytes())
        found.append(
            {name: values[name] for name in ("hit_rate", "ttft_s", "session_s", "bounds", "requests")}
        )
    assert found[0] == found[1]


def test_ctrl_c_leaves_a_report_of_what_was_done_so_far_marked_partial(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [
        *(sys.executable, "-m", "warmroute_simulator", "replay", "generate:chat:requests=200000"),
        *("--json", str(report), "--no-bounds"),
    ]
    # A terminal, so that there is a bar: it tells when the run is under way.
    controller, terminal = pty.openpty()
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, text=True) as process:
            os.read(controller, 1)
            process.send_signal(signal.SIGINT)
            table, _ = process.communicate(timeout=60)
    finally:
        os.close(terminal)
        os.close(controller)
    assert process.returncode == 1
    assert "partial" in table
    found = json.loads(report.read_bytes())
    assert found["partial"] is True
    assert 0 < found["outcomes"]["ok"] < 200_000


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["replay", "no-such-file.jsonl"], "no-such-file.jsonl"),
        (["replay", CHATS, "--policy", "cash_aware"], "did you mean `cache_aware`"),
        (["replay", CHATS, "--policy", "cache_aware:miss_prize=2"], "did you mean `miss_price`"),
        (["replay", CHATS, "--policy", "cache_aware:miss_price"], "expected `param=value`"),
        (["replay", CHATS, "--preset", "llama-3.1-8b-h101"], "did you mean `llama-3.1-8b-h100`"),
        (["replay", CHATS, "--fleet", "four×h100"], "expected N×PRESET"),
        (["replay", CHATS, "--fleet", "4xllama-3.1-8b-h100:kv=5"], "known: kv-tokens, weight"),
        (["replay", CHATS, "--workers", "0"], "1 to 1024 workers"),
        (["replay", CHATS, "--load", "-1"], "load must be above 0"),
        (["replay", CHATS, "--load", "80"], "80 % of the capacity are 0.8"),
        (["replay", CHATS, "--workers", "2", "--fleet", "4xllama-3.1-8b-h100"], "not both"),
        (["replay", CHATS, "--scenario", "dead"], "did you mean `death`"),
        (["replay", CHATS, "--speed", "0"], "speed must be above 0"),
        (["replay", CHATS, "--at", "5:die:99"], "there is no worker 99"),
        (["replay", CHATS, "--slo-ttft", "0"], "--slo-ttft must be above 0"),
        (["replay", CHATS, "--routers", "0"], "at least one router"),
        (["replay", "generate:chatt"], "did you mean `chat`"),
        (["replay", CHATS, "--starts", "poisson"], "needs a rate"),
        (["replai", CHATS], "invalid choice"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line_that_says_what_was_expected(
    arguments: list[str], expected: str, tmp_path: Path
) -> None:
    done = simulator(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("option", ["--json", "--csv", "--html"])
def test_a_result_that_could_not_be_written_is_refused_before_the_work(option: str, tmp_path: Path) -> None:
    done = simulator("replay", "generate:chat:requests=1000000", option, tmp_path / "no-such-folder" / "file")
    assert done.returncode == 2
    assert f"{option} " in done.stderr
    assert "there is no folder" in done.stderr


def test_a_malformed_line_is_told_with_its_place_and_can_be_passed_over(tmp_path: Path) -> None:
    lines = [
        f'{{"timestamp": {n * 100}, "input_length": 600, "output_length": 5, "hash_ids": [0, {n + 1}]}}'
        for n in range(20)
    ]
    lines[6] = lines[6].replace('length": 600', 'length": "many"')
    file = tmp_path / "trace.jsonl"
    file.write_text("\n".join(lines) + "\n")
    refused = simulator("replay", file)
    assert refused.returncode == 2
    assert "trace.jsonl line 7" in refused.stderr
    assert "input_length" in refused.stderr
    report = tmp_path / "report.json"
    assert simulator("replay", file, "--skip-bad", "--quiet", "--json", report).returncode == 0
    found = json.loads(report.read_bytes())
    assert (found["requests"], found["skipped"]) == (19, 1)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    done = simulator(name, "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout
    assert "None)" not in done.stdout


def test_a_journal_is_replayed_on_its_own_fleet_unless_another_is_named(tmp_path: Path) -> None:
    lines: list[bytes] = []
    balancer = RecordedBalancer(
        make_policy("round_robin"), write=lines.append, made_by=PolicySpec("round_robin")
    )
    balancer.add_worker(WorkerSpec("http://a", kv_capacity_tokens=50_000), 0.0)
    balancer.add_worker(WorkerSpec("http://b", kv_capacity_tokens=70_000), 0.0)
    blocks = PromptBlocks(b"a prompt of some length " * 500, salt_of("m"))
    balancer.route(RoutingRequest(1, "m", blocks), 1.0)
    balancer.finish(1, Outcome.OK, Usage(3_000, 10, 0), 2.0)
    journal, report = tmp_path / "journal.jsonl", tmp_path / "report.json"
    journal.write_bytes(b"".join(lines))

    def replayed(*options: str) -> tuple[list[str], float]:
        done = simulator("replay", journal, *options, "--quiet", "--json", report)
        assert done.returncode == 0, done.stderr
        values = json.loads(report.read_bytes())
        return [worker["worker"] for worker in values["per_worker"]], values["ttft_s"]["mean"]

    workers, ttft_s = replayed()
    assert workers == ["http://a", "http://b"]
    same_workers, slower_s = replayed("--preset", "llama-3.1-8b-l40s")
    assert same_workers == workers
    assert slower_s > 2 * ttft_s
    assert replayed("--workers", "3")[0] == ["w0", "w1", "w2"]


def test_a_mixed_fleet_is_priced_and_filled_by_what_each_worker_is(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    fleet = ["--fleet", "2xllama-3.1-8b-h100", "--fleet", "2xllama-3.1-8b-l40s:kv-tokens=100000"]
    assert simulator("replay", CHATS, *fleet, "--load", "0.9", "--quiet", "--json", report).returncode == 0
    workers = json.loads(report.read_bytes())["per_worker"]
    fast, slow = (sum(worker["requests"] for worker in workers[start : start + 2]) for start in (0, 2))
    assert fast > 1.3 * slow > 0


def report_of(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    file = tmp_path / "report.json"
    done = simulator("replay", *arguments, "--quiet", "--json", file)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(file.read_bytes())
    return found


def test_reports_of_different_runs_can_be_told_apart_by_their_settings(tmp_path: Path) -> None:
    ways = (
        (), ("--preset", "qwen3-8b-h100"), ("--engine", "sglang"), ("--kv-tokens", "30000"),
        ("--network-ms", "30"), ("--feedback-ms", "5"), ("--routers", "2"), ("--at", "5:die:1"),
        ("--scenario", "death"), ("--page-tokens", "32"), ("--max-num-seqs", "4"), ("--speed", "2"),
        ("--load", "0.5"), ("--fleet", "3xllama-3.1-8b-h100:kv-tokens=1000000"), ("--max-model-len", "9000"),
    )  # fmt: skip
    settings = [report_of(tmp_path, CHATS, *way)["settings"] for way in ways]
    assert len({json.dumps(one, sort_keys=True) for one in settings}) == len(ways)


@pytest.mark.parametrize("scenario", ["cache-flush", "death", "restart", "scale-up", "slow-worker"])
def test_a_scenario_strikes_in_the_middle_of_a_closed_loop_trace_too(scenario: str, tmp_path: Path) -> None:
    agents = "generate:agents:requests=400"
    steady = report_of(tmp_path, agents, "--workers", "3")
    struck = report_of(tmp_path, agents, "--workers", "3", "--scenario", scenario)
    assert struck["ttft_s"] != steady["ttft_s"]
    told = [note for note in struck["notes"] if note.startswith("at ")]
    assert told
    assert all("after the last request" not in note for note in told)
    moments = [float(note.split()[1].replace(",", "")) for note in told]
    assert all(0.2 * steady["span_s"] < moment < 0.8 * steady["span_s"] for moment in moments)


def test_think_times_that_are_cut_are_told(tmp_path: Path) -> None:
    capped = report_of(tmp_path, "generate:agents:requests=400", "--idle-cap", "5")
    assert capped["settings"]["idle_cap_s"] == 5
    assert any(note.startswith("think times cut to 5.00 s") for note in capped["notes"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--load", "1", "--lanes", "4"], "--load decides how often sessions start"),
        (["--lanes", "4", "--sessions-per-s", "5"], "give one"),
        (["--fleet", "2xllama-3.1-8b-h100", "--preset", "qwen3-8b-h100"], "not both"),
        (["--max-model-len", "1"], "at least 2"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments: list[str], expected: str) -> None:
    done = simulator("replay", "generate:agents:requests=50", *arguments)
    assert done.returncode == 2
    assert expected in done.stderr

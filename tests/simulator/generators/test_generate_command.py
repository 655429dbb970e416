"""`simulator generate`: what it writes can be read, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from warmroute_simulator.cli import main
from warmroute_simulator.generators.registry import available, generate
from warmroute_simulator.generators.summary import summarise
from warmroute_simulator.traces.formats import ReadOptions, read_trace


def run(*arguments: str) -> int:
    return main(["generate", *arguments])


@pytest.mark.parametrize("name", available())
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_what_was_written_is_read_as_the_same_trace(tmp_path: Path, name: str, suffix: str) -> None:
    file = tmp_path / f"trace.jsonl{suffix}"
    assert run(f"{name}:requests=300", "--seed", "5", "--out", str(file)) == 0
    made, read = generate(f"{name}:requests=300", 5), read_trace(file, ReadOptions())
    for column in ("output_tokens", "arrivals_s", "sessions", "after", "think_s"):
        assert getattr(read, column) == getattr(made, column), column
    assert (read.also_after, read.closed_loop, read.name) == (made.also_after, made.closed_loop, made.name)
    assert [read.prompt_tokens(row) for row in range(300)] == [made.prompt_tokens(row) for row in range(300)]
    assert summarise(read).reused_tokens == summarise(made).reused_tokens


def test_equal_seeds_write_equal_files(tmp_path: Path) -> None:
    for out in ("one.jsonl.gz", "two.jsonl.gz"):
        run("mix:requests=200", "--seed", "3", "--out", str(tmp_path / out))
    assert (tmp_path / "one.jsonl.gz").read_bytes() == (tmp_path / "two.jsonl.gz").read_bytes()


def test_it_tells_what_the_trace_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = "shared_prefix:groups=4,prompts_per_group=3,order=shuffled,requests=24"
    assert run(spec, "--json", str(tmp_path / "told.json")) == 0
    said = capsys.readouterr().out
    assert f"{spec} · seed 0 · open loop" in said
    assert "77.9 % of the prompt tokens" in said
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["schema"] == 1
    assert told["requests"] == 24
    assert told["prompt_tokens"] == 24 * 7344
    assert told["reuse"] == pytest.approx(1 - (4 * 6144 + 12 * 1200) / (24 * 7344))


def test_a_mix_comes_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "mix.yaml"
    spec.write_text("requests: 100\nparts: [{generator: chat}, {generator: rag}]\n")
    assert run("--spec", str(spec), "--out", str(tmp_path / "trace.jsonl")) == 0
    assert "mix.yaml · seed 0" in capsys.readouterr().out
    assert len(read_trace(tmp_path / "trace.jsonl", ReadOptions())) == 100


def test_the_list_shows_every_generator(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--list") == 0
    said = capsys.readouterr().out
    for name in available():
        assert f"\n{name}: " in f"\n{said}"
    assert "lognormal(350,0.42,10,2000)" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either a generator or --spec"),
        (["chat", "--spec", "x.yaml"], "either a generator or --spec"),
        (["chat", "--list"], "--list takes no generator"),
        (["chatt"], "did you mean `chat`"),
        (["chat:turns=0"], "from 1 on"),
        (["--spec", "nowhere.yaml"], "nowhere.yaml cannot be read"),
    ],
)
def test_what_cannot_be_generated_is_a_usage_error(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--out", "--json"])
def test_a_file_that_cannot_be_written_is_a_failure(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("uniform:requests=5", flag, str(tmp_path)) == 1
    assert "simulator generate: " in capsys.readouterr().err

"""Several workloads in one trace: shares, stretches of time, and what closed loop does to all."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from warmroute_policies.errors import ConfigError
from warmroute_simulator.generators.registry import generate, generate_file
from warmroute_simulator.generators.summary import summarise
from warmroute_simulator.traces.trace import NO_SESSION, NOTHING, Trace


def lengths(trace: Trace) -> Counter[int]:
    """Requests by the length of their prompts, which tells the parts of these mixes apart."""
    return Counter(trace.prompt_tokens(row) for row in range(len(trace)))


def test_parts_have_their_shares_of_requests_and_rate() -> None:
    spec = "mix:spec=uniform(prompt_tokens=11)*3+uniform(prompt_tokens=22),rate_per_s=40,requests=8000"
    trace = generate(spec, seed=1)
    assert lengths(trace) == {11: 6000, 22: 2000}
    for tokens, share in ((11, 0.75), (22, 0.25)):
        times = [at for row, at in enumerate(trace.arrivals_s) if trace.prompt_tokens(row) == tokens]
        assert len(times) / times[-1] == pytest.approx(40 * share, rel=0.06)
    assert all(early <= late for early, late in pairwise(trace.arrivals_s))


def test_portions_add_up_to_the_whole() -> None:
    spec = "+".join(f"uniform(prompt_tokens={tokens})" for tokens in range(1, 8))
    assert sorted(lengths(generate(f"mix:spec={spec},requests=10", 0)).values()) == [1, 1, 1, 1, 2, 2, 2]


def test_a_part_that_rounds_to_nothing_is_left_out() -> None:
    spec = "mix:spec=uniform(prompt_tokens=1)*0.001+uniform(prompt_tokens=2),requests=10"
    assert lengths(generate(spec, 0)) == {2: 10}


def test_sessions_are_the_requests_that_a_share_counts() -> None:
    trace = generate("mix:spec=chat(turns=10)+uniform(prompt_tokens=1),rate_per_s=30,duration_s=3000", seed=0)
    ones = lengths(trace)[1]
    chats = len(trace) - ones
    assert ones == pytest.approx(45_000, rel=0.03)
    assert chats == pytest.approx(45_000, rel=0.2)  # its first sessions need their time to come to all turns


def test_nothing_is_shared_between_parts() -> None:
    one, two = (
        summarise(generate(f"shared_prefix:groups={groups},order=shuffled,requests=500", 0))
        for groups in (3, 7)
    )
    parts = "shared_prefix(groups=3,order=shuffled)+shared_prefix(groups=7,order=shuffled)"
    both = summarise(generate(f"mix:spec={parts},requests=1000", 0))
    assert both.prompt_tokens == one.prompt_tokens + two.prompt_tokens
    assert both.reused_tokens == one.reused_tokens + two.reused_tokens


def test_one_part_in_closed_loop_puts_all_in_closed_loop() -> None:
    trace = generate("mix:spec=chat+agents+uniform(prompt_tokens=1),requests=3000", seed=0)
    assert trace.closed_loop
    assert NO_SESSION not in trace.sessions
    assert [note.split()[0] for note in trace.notes] == ["chat", "uniform"]
    sizes = Counter(trace.sessions)
    for row in range(len(trace)):
        if trace.prompt_tokens(row) == 1:
            assert sizes[trace.sessions[row]] == 1
        before = trace.after[row]
        assert before == NOTHING or trace.sessions[before] == trace.sessions[row]
    starts = dict(zip(trace.sessions, trace.arrivals_s, strict=True))
    assert list(starts) == sorted(starts)
    assert list(starts.values()) == sorted(starts.values())


def test_rows_that_wait_for_several_find_them_after_sorting() -> None:
    spec = "mix:spec=agents(fan_out_probability=0.3,steps=4,sub_steps=2)+chat(turns=2),requests=4000"
    trace = generate(spec, seed=0)
    assert trace.also_after
    for row, others in trace.also_after.items():
        reports = [trace.after[row], *others]
        assert all(other < row for other in reports)
        assert {trace.sessions[other] for other in reports} == {trace.sessions[row]}
        results = trace.tree.ends[trace.prompts[row]] - trace.tree.start(trace.prompts[row])
        assert results == sum(trace.output_tokens[other] for other in reports)


def test_a_part_is_the_same_whatever_stands_after_it() -> None:
    alone = generate("mix:spec=uniform,requests=500,rate_per_s=10", 3)
    mixed = generate("mix:spec=uniform+chat,requests=1000,rate_per_s=20", 3)
    firsts = [row for row in range(1000) if mixed.sessions[row] == NO_SESSION]
    assert [mixed.prompt_tokens(row) for row in firsts] == [alone.prompt_tokens(row) for row in range(500)]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_gives_parts_their_stretches_of_time(tmp_path: Path) -> None:
    spec = """
        rate_per_s: 5
        duration_s: 1000
        parts:
          - generator: uniform
            params: {prompt_tokens: 1}
            share: 1
          - {generator: uniform, params: {prompt_tokens: 2, rate_per_s: 50}, start_s: 100, end_s: 300}
          - {generator: uniform, params: {prompt_tokens: 3, rate_per_s: 1}, start_s: 900}
    """
    trace = generate_file(write(tmp_path / "burst.yaml", spec), seed=0)
    times: dict[int, list[float]] = {1: [], 2: [], 3: []}
    for row, at_s in enumerate(trace.arrivals_s):
        times[trace.prompt_tokens(row)].append(at_s)
    for tokens, rate, begin, end in ((1, 5, 0, 1000), (2, 50, 100, 300), (3, 1, 900, 1000)):
        assert begin <= min(times[tokens])
        assert max(times[tokens]) < end
        assert len(times[tokens]) == pytest.approx(rate * (end - begin), rel=0.25)
    assert trace.name == "burst.yaml"


def test_json_and_a_plain_list_are_read_too(tmp_path: Path) -> None:
    text = '[{"generator": "uniform", "params": {"prompt_tokens": "7"}}, {"generator": "rag", "share": 3}]'
    trace = generate_file(write(tmp_path / "mix.json", text), seed=0)
    assert lengths(trace)[7] == 2500
    assert len(trace) == 10_000


def test_a_share_and_a_stretch_of_time_go_together(tmp_path: Path) -> None:
    text = (
        "[{generator: uniform, share: 1, start_s: 10, end_s: 30}, {generator: uniform, share: 1, end_s: 10}]"
    )
    trace = generate_file(write(tmp_path / "mix.yaml", text), seed=0)
    assert len(trace) == pytest.approx(5 * 20 + 5 * 10, rel=0.3)
    assert trace.arrivals_s[-1] < 30


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("parts: [", "neither YAML nor JSON"),
        ("7", "Expected `object`, got `int`"),
        ("[]", "at least one part"),
        ("[{generator: chat, shares: 1}]", "unknown field `shares` - at `\\$.parts\\[0\\]`"),
        (
            "[{generator: chat, share: big}]",
            "Expected `float \\| null`, got `str` - at `\\$.parts\\[0\\].share`",
        ),
        ("[{params: {turns: 3}}]", "missing required field `generator`"),
        ("[{generator: chatt}]", "did you mean `chat`"),
        ("[{generator: mix}]", "there is no generator `mix`"),
        ("[{generator: chat, share: -1}]", "share must be a number above 0"),
        ("[{generator: chat, params: {requests: 5}}]", "`requests` must not be given; .* the mix's"),
        ("[{generator: chat, end_s: 9, params: {duration_s: 5}}]", "`duration_s` must not be given"),
        ("[{generator: chat, start_s: 9, end_s: 9}]", "starts at 9 s and ends before"),
        ("{parts: [{generator: chat}], rate_per_s: 0}", "rate_per_s must be above 0"),
        ("{parts: [{generator: chat}], seed: 0}", "unknown field `seed`"),
    ],
)
def test_a_file_that_is_no_mix_is_refused_and_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"mix.yaml.*{said}"):
        generate_file(write(tmp_path / "mix.yaml", text), 0)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("chat*0.5*0.5", "NAME\\*SHARE with one number"),
        ("chat*much", "NAME\\*SHARE with one number"),
        ("chat(turns=4)more", "expected NAME\\(param=value"),
        ("chat(turns)", "expected param=value"),
        ("", "there is no generator ``"),
        ("chat*nan", "share must be a number above 0"),
        ("chat+rag*0", "rag: share must be a number above 0"),
    ],
)
def test_a_line_that_is_no_mix_is_refused(spec: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"mix: .*{said}"):
        generate(f"mix:spec={spec}", 0)

"""What holds for every generator, whatever its parameters: valid rows, and the same for the same seed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmroute_simulator.generators.registry import available, generate
from warmroute_simulator.generators.summary import summarise
from warmroute_simulator.traces.prompts import ROOT
from warmroute_simulator.traces.trace import NO_SESSION, NOTHING, Trace

length = st.one_of(
    st.integers(1, 60).map(str),
    st.tuples(st.integers(1, 60), st.integers(0, 90)).map(lambda pair: f"{pair[0]}-{sum(pair)}"),
    st.tuples(st.integers(1, 30), st.floats(0.05, 3).map(lambda sigma: round(sigma, 2))).map(
        lambda pair: f"lognormal({pair[0]},{pair[1]},1,90)"
    ),
)
few = st.one_of(st.integers(1, 5).map(str), st.sampled_from(["1-4", "lognormal(2,1,1,6)"]))
pause = st.sampled_from(["0", "0.25", "0-30", "lognormal(5,2,0,60)"])
exponent = st.sampled_from(["0", "0.7", "1", "3"])
rate = st.sampled_from(["0.01", "1", "250"])
limit = st.one_of(
    st.integers(1, 120).map(lambda requests: {"requests": str(requests)}),
    st.just({"requests": "120", "duration_s": "3.5"}),
)


def spec(name: str, **parameters: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Some of the parameters, and a limit."""
    chosen = st.fixed_dictionaries({}, optional=parameters)
    return st.tuples(chosen, limit).map(
        lambda both: f"{name}:" + ",".join(f"{key}={value}" for key, value in {**both[0], **both[1]}.items())
    )


simple = {
    "shared_prefix": spec(
        "shared_prefix",
        groups=st.integers(1, 9).map(str),
        prompts_per_group=st.integers(0, 4).map(str),
        prefix_tokens=length,
        question_tokens=length,
        output_tokens=length,
        zipf_exponent=exponent,
        rate_per_s=rate,
    ),
    "chat": spec(
        "chat",
        system_prompts=st.integers(0, 4).map(str),
        system_tokens=length,
        turns=few,
        message_tokens=length,
        output_tokens=length,
        think_s=pause,
        closed_loop=st.sampled_from(["true", "false"]),
        zipf_exponent=exponent,
        sessions_per_s=rate,
    ),
    "agents": spec(
        "agents",
        kinds=st.integers(1, 4).map(str),
        system_tokens=length,
        task_tokens=length,
        steps=few,
        output_tokens=length,
        result_tokens=length,
        think_s=pause,
        fan_out_probability=st.sampled_from(["0", "0.3", "1"]),
        fan_out=few,
        sub_steps=few,
        sub_system_tokens=length,
        briefing_tokens=length,
        part_tokens=length,
        report_tokens=st.just("1-50"),
        summary_tokens=length,
        sessions_per_s=rate,
    ),
    "rag": spec(
        "rag",
        documents=st.integers(6, 30).map(str),
        documents_per_prompt=few,
        document_tokens=length,
        system_tokens=st.integers(0, 9).map(str),
        question_tokens=length,
        zipf_exponent=exponent,
        rate_per_s=rate,
    ),
    "uniform": spec("uniform", prompt_tokens=length, output_tokens=length, rate_per_s=rate),
    "mix": spec(
        "mix",
        spec=st.lists(
            st.sampled_from(
                [
                    "chat*0.7",
                    "agents(steps=1-9,fan_out_probability=0.5)*2",
                    "rag",
                    "uniform*0.1",
                    "shared_prefix",
                ]
            ),
            min_size=1,
            max_size=4,
        ).map("+".join),
        rate_per_s=rate,
    ),
}


def check(trace: Trace) -> None:
    """Every rule that `Trace` and `PromptTree` state."""
    rows, tree = range(len(trace)), trace.tree
    columns = (trace.prompts, trace.answers, trace.output_tokens, trace.arrivals_s, trace.sessions)
    assert {len(column) for column in (*columns, trace.after, trace.think_s)} == {len(trace)}
    for node in range(1, len(tree)):
        assert tree.parents[node] < node
        assert tree.ends[node] > tree.start(node)
    continued = {tree.parents[node]: node for prompt in trace.prompts for node in tree.path(prompt)}
    on_paths = {node for prompt in trace.prompts for node in tree.path(prompt)}
    assert continued.keys() <= on_paths | {ROOT}
    for row in rows:
        assert trace.prompt_tokens(row) >= 1
        assert trace.output_tokens[row] >= 1
        answer = trace.answers[row]
        if answer != trace.prompts[row]:
            assert answer in on_paths, "an answer that nobody goes on from"
            assert tree.parents[answer] == trace.prompts[row]
            assert tree.ends[answer] == trace.prompt_tokens(row) + trace.output_tokens[row]
        assert trace.arrivals_s[row] >= 0
        assert trace.think_s[row] >= 0
        waits_for = [trace.after[row], *trace.also_after.get(row, ())]
        if waits_for != [NOTHING]:
            assert trace.closed_loop
            assert all(0 <= other < row for other in waits_for)
            assert len(set(waits_for)) == len(waits_for)
            assert {trace.sessions[other] for other in waits_for} == {trace.sessions[row]}
    assert set(trace.also_after) <= set(rows)
    assert all(early <= late for early, late in pairwise(trace.arrivals_s))
    met = list(dict.fromkeys(session for session in trace.sessions if session != NO_SESSION))
    assert met == list(range(trace.session_count)), "numbers with a gap, or not in order"
    if trace.closed_loop:
        assert NO_SESSION not in trace.sessions
        starts = {(s, at_s) for s, at_s in zip(trace.sessions, trace.arrivals_s, strict=True)}
        assert len(starts) == trace.session_count


@pytest.mark.parametrize("name", simple)
@settings(max_examples=40)
@given(data=st.data(), seed=st.integers(0, 2**40))
def test_every_row_of_every_trace_is_valid(name: str, data: st.DataObject, seed: int) -> None:
    trace = generate(data.draw(simple[name]), seed)
    check(trace)
    if "duration_s" not in trace.name:
        assert len(trace) == int(trace.name.rpartition("requests=")[2])
    summary = summarise(trace)
    assert 0 <= summary.reused_tokens < max(1, summary.prompt_tokens)


@pytest.mark.parametrize("name", available())
def test_equal_seeds_make_equal_traces_and_others_do_not(name: str) -> None:
    one, same, other = (generate(f"{name}:requests=500", seed) for seed in (7, 7, 8))
    assert (one.tree.parents, one.tree.ends) == (same.tree.parents, same.tree.ends)
    for column in ("prompts", "answers", "output_tokens", "arrivals_s", "sessions", "after", "think_s"):
        assert getattr(one, column) == getattr(same, column)
    assert one.also_after == same.also_after
    assert one.arrivals_s != other.arrivals_s


def test_all_generators_are_tried() -> None:
    assert set(simple) == set(available())

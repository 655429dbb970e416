"""Agent loops: what a step holds, who waits for whom, and what happens when a context is full."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean

import pytest

from warmroute_policies.errors import ConfigError
from warmroute_simulator.generators.agents import SUMMARISE_TOKENS
from warmroute_simulator.generators.registry import generate
from warmroute_simulator.generators.summary import summarise
from warmroute_simulator.traces.trace import NOTHING, Trace

FIXED = (
    "system_tokens=1000,task_tokens=100,output_tokens=20,result_tokens=30,think_s=5,"
    "sub_system_tokens=500,briefing_tokens=40,part_tokens=10,report_tokens=70,sub_steps=2,summary_tokens=60"
)
ALONE = f"agents:kinds=1,fan_out_probability=0,{FIXED}"
FANNING = f"agents:kinds=1,fan_out_probability=1,fan_out=3,{FIXED}"


def texts(trace: Trace, row: int) -> list[int]:
    """Lengths of the nodes of a prompt."""
    tree = trace.tree
    return [tree.ends[node] - tree.start(node) for node in tree.path(trace.prompts[row])]


def test_a_step_is_the_one_before_with_its_answer_and_what_the_tools_said() -> None:
    trace = generate(f"{ALONE},steps=3,requests=3", seed=0)
    assert [texts(trace, row) for row in range(3)] == [
        [1000, 100],
        [1000, 100, 20, 30],
        [1000, 100, 20, 30, 20, 30],
    ]
    assert list(trace.after) == [NOTHING, 0, 1]
    assert list(trace.think_s) == [0, 5, 5]
    assert trace.answers[0] == trace.tree.path(trace.prompts[1])[2]
    assert trace.answers[2] == trace.prompts[2]
    assert trace.closed_loop


def test_reuse_of_agents_is_what_can_be_counted_by_hand() -> None:
    """Five sessions of four steps: new are system prompt and tools once, then tasks and tools' results."""
    summary = summarise(generate(f"{ALONE},steps=4,requests=20", seed=0))
    assert summary.prompt_tokens == 5 * (1100 + 1150 + 1200 + 1250)
    assert summary.prompt_tokens - summary.reused_tokens == 1000 + 5 * (100 + 3 * 30)


def test_sub_agents_begin_alike_run_together_and_are_waited_for() -> None:
    trace = generate(f"{FANNING},steps=2,requests=8", seed=0)
    parent, *parts, join = range(8)
    first, last = parts[::2], parts[1::2]
    for row in first:
        assert texts(trace, row) == [500, 40, 10]
        assert trace.tree.path(trace.prompts[row])[:2] == trace.tree.path(trace.prompts[first[0]])[:2]
        assert trace.after[row] == parent
        assert trace.think_s[row] == 0
        assert trace.output_tokens[row] == 20
    for before, row in zip(first, last, strict=True):
        assert texts(trace, row) == [500, 40, 10, 20, 30]
        assert trace.after[row] == before
        assert trace.output_tokens[row] == 70
    assert texts(trace, join) == [1000, 100, 20, 3 * 70]
    assert trace.after[join] == last[0]
    assert trace.also_after == {join: tuple(last[1:])}
    assert set(trace.sessions) == {0}


def test_a_full_context_is_replaced_by_a_summary() -> None:
    """Prompt, answer, request and summary fit into 1,800 tokens: 1,100 + 50·k + 20 + 560 for the k-th step
    after the first, so the third would be too long."""
    trace = generate(f"{ALONE},steps=5,context_tokens=1800,requests=6", seed=0)
    assert [texts(trace, row) for row in range(6)] == [
        [1000, 100],
        [1000, 100, 20, 30],
        [1000, 100, 20, 30, 20, 30],
        [1000, 100, 20, 30, 20, 30, 20, SUMMARISE_TOKENS],
        [1000, 60, 30],
        [1000, 60, 30, 20, 30],
    ]
    assert list(trace.output_tokens) == [20, 20, 20, 60, 20, 20]
    assert list(trace.after) == [NOTHING, 0, 1, 2, 3, 4]
    assert list(trace.think_s) == [0, 5, 5, 5, 0, 5]
    # The summary was written at another place, so its tokens are new behind the system prompt.
    assert trace.answers[3] == trace.prompts[3]


def test_a_sub_agent_whose_context_is_full_goes_on_below_its_own_system_prompt() -> None:
    """Its third step would have 650 tokens, a report of 70 and 560 for what a summary needs: 1,280."""
    lean = FANNING.replace("system_tokens=1000,task_tokens=100", "system_tokens=10,task_tokens=10", 1)
    lean = lean.replace("fan_out=3", "fan_out=1").replace("sub_steps=2", "sub_steps=3")
    trace = generate(f"{lean},steps=2,context_tokens=1279,requests=5", seed=0)
    assert [texts(trace, row) for row in range(1, 5)] == [
        [500, 40, 10],
        [500, 40, 10, 20, 30],
        [500, 40, 10, 20, 30, 20, SUMMARISE_TOKENS],
        [500, 60, 30],
    ]
    assert list(trace.output_tokens[1:5]) == [20, 20, 60, 70]


def test_a_share_of_a_mix_counts_the_requests_of_sub_agents() -> None:
    part = "agents(steps=10,fan_out_probability=0.5,fan_out=2,sub_steps=3)"
    trace = generate(f"mix:spec={part},rate_per_s=20,duration_s=4000", seed=0)
    assert len(trace) / trace.session_count == pytest.approx(10 + 9 * 0.5 * 2 * 3, rel=0.03)
    assert len(trace) == pytest.approx(80_000, rel=0.07)


def test_no_prompt_with_its_answer_exceeds_the_context() -> None:
    for seed in range(5):
        spec = "agents:context_tokens=120000,requests=3000,fan_out_probability=0.05,steps=100-200"
        trace = generate(spec, seed)
        assert summarise(trace).longest_tokens <= 120_000
        assert summarise(trace).longest_tokens > 100_000


def test_agents_of_a_kind_share_system_prompt_and_tools() -> None:
    trace = generate("agents:kinds=3,fan_out_probability=0,requests=3000,zipf_exponent=0", seed=1)
    kinds = defaultdict(set)
    for prompt, session in zip(trace.prompts, trace.sessions, strict=True):
        kinds[trace.tree.path(prompt)[0]].add(session)
    assert len(kinds) == 3
    assert sum(map(len, kinds.values())) == trace.session_count


def test_steps_and_fan_outs_come_as_often_as_asked_for() -> None:
    trace = generate(f"agents:kinds=1,fan_out_probability=0.1,fan_out=2,{FIXED},steps=21,requests=60000", 3)
    joins = len(trace.also_after)
    per_session = [0] * trace.session_count
    for session in trace.sessions:
        per_session[session] += 1
    assert joins / trace.session_count == pytest.approx(20 * 0.1, rel=0.05)
    assert fmean(per_session) == pytest.approx(21 + 2 * 2 * 2, rel=0.05)


def test_a_number_of_requests_is_met_wherever_it_falls() -> None:
    for requests in range(1, 30):
        trace = generate(f"{FANNING},steps=3,requests={requests}", seed=0)
        assert len(trace) == requests
        continued = {node for prompt in trace.prompts for node in trace.tree.path(prompt)}
        for row, answer in enumerate(trace.answers):
            assert answer == trace.prompts[row] or answer in continued


def test_a_context_that_holds_no_beginning_is_refused() -> None:
    with pytest.raises(ConfigError, match="must hold the longest beginning and a summary, 1680 tokens"):
        generate(f"{ALONE},context_tokens=1679", 0)
    generate(f"{ALONE},context_tokens=1680,requests=50", 0)


@pytest.mark.parametrize("params", ["kinds=0", "fan_out_probability=1.5", "steps=0", "sessions_per_s=0"])
def test_parameters_that_mean_nothing_are_refused(params: str) -> None:
    with pytest.raises(ConfigError, match=rf"agents: .*{params.partition('=')[0]}"):
        generate(f"agents:{params}", 0)

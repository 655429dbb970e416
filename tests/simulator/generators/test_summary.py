"""What is told of a trace, against counting token by token."""

from __future__ import annotations

import pytest

from warmroute_simulator.generators.registry import available, generate
from warmroute_simulator.generators.summary import summarise
from warmroute_simulator.traces.prompts import ROOT, PromptTree
from warmroute_simulator.traces.trace import Trace


def naive_reuse(trace: Trace) -> int:
    """Every token by its node and its place in it, in a set."""
    tree, seen, reused = trace.tree, set[tuple[int, int]](), 0
    for prompt, answer in zip(trace.prompts, trace.answers, strict=True):
        tokens = {(n, place) for n in tree.path(prompt) for place in range(tree.ends[n] - tree.start(n))}
        reused += len(tokens & seen)
        seen |= tokens
        if answer != prompt:
            seen |= {(answer, place) for place in range(tree.ends[answer] - tree.start(answer))}
    return reused


@pytest.mark.parametrize("name", available())
def test_reuse_is_that_of_an_endless_cache(name: str) -> None:
    trace = generate(f"{name}:requests=25", seed=3)
    assert summarise(trace).reused_tokens == naive_reuse(trace)


def test_an_answer_counts_only_for_those_who_go_on_from_it() -> None:
    tree = PromptTree()
    trace = Trace("by hand", tree)
    first = tree.add(ROOT, 10)
    answer = tree.add(first, 4)
    trace.add(first, 4, answer=answer, arrival_s=1.0)
    trace.add(tree.add(answer, 3), 5, arrival_s=2.0)  # 14 of 17 tokens
    trace.add(tree.add(first, 4), 5, arrival_s=4.0)  # 10 of 14
    summary = summarise(trace)
    assert (summary.reused_tokens, summary.prompt_tokens) == (24, 41)
    assert summary.reuse == 24 / 41
    assert (summary.span_s, summary.longest_tokens, summary.nodes) == (3.0, 22, 4)


def test_a_trace_of_nothing_has_a_summary() -> None:
    summary = summarise(generate("uniform:duration_s=0.000001", 0))
    assert (summary.requests, summary.reuse, summary.span_s) == (0, 0.0, 0.0)

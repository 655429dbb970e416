"""Prompts of ranked documents: the tree of all rankings, how documents are drawn, and what can be reused."""

from __future__ import annotations

from array import array
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmroute_policies.errors import ConfigError
from warmroute_simulator.generators.rag import Rankings
from warmroute_simulator.generators.registry import generate
from warmroute_simulator.generators.summary import summarise
from warmroute_simulator.traces.prompts import ROOT, PromptTree

rankings = st.lists(st.lists(st.integers(0, 3), unique=True, max_size=4), max_size=12)


def common_documents(one: list[int], other: list[int]) -> int:
    shared = 0
    while shared < min(len(one), len(other)) and one[shared] == other[shared]:
        shared += 1
    return shared


@given(rankings, st.booleans())
def test_prompts_share_the_documents_with_which_both_begin(lists: list[list[int]], system: bool) -> None:
    lengths = array("i", [100, 20, 3, 700])
    tree, made = PromptTree(), Rankings(lengths)
    for question, documents in enumerate(lists, start=1):
        made.add(documents, question)
    root = tree.add(ROOT, 5) if system else ROOT
    leaves = made.leaves(tree, root)
    for question, (documents, leaf) in enumerate(zip(lists, leaves, strict=True), start=1):
        assert tree.ends[leaf] == tree.ends[root] + sum(lengths[d] for d in documents) + question
    for at, one in enumerate(lists):
        for below, other in enumerate(lists[:at]):
            alike = common_documents(one, other)
            shared = set(tree.path(leaves[at])) & set(tree.path(leaves[below]))
            tokens = max((tree.ends[node] for node in shared), default=0)
            assert tokens == tree.ends[root] + sum(lengths[d] for d in one[:alike])


def test_reuse_is_what_can_be_counted_by_hand() -> None:
    """Two documents in either order: new are the system prompt, two rankings of two documents, and all
    questions."""
    spec = "rag:documents=2,documents_per_prompt=2,document_tokens=100,system_tokens=50,question_tokens=10"
    summary = summarise(generate(f"{spec},requests=200", seed=0))
    assert summary.prompt_tokens == 200 * 260
    assert summary.prompt_tokens - summary.reused_tokens == 50 + 2 * 200 + 200 * 10


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_documents_come_as_often_as_zipf_says(seed: int) -> None:
    trace = generate("rag:documents=40,documents_per_prompt=1,zipf_exponent=1,requests=20000", seed)
    seen = Counter(trace.tree.path(prompt)[1] for prompt in trace.prompts)
    shares = sorted((count / 20_000 for count in seen.values()), reverse=True)
    whole = sum(1 / rank for rank in range(1, 41))
    for rank in (1, 2, 3, 10):
        assert shares[rank - 1] == pytest.approx(1 / rank / whole, rel=0.15), f"seed {seed}"


def test_a_prompt_has_as_many_documents_as_asked_for() -> None:
    spec = "rag:documents=50,document_tokens=100,documents_per_prompt=2-4,system_tokens=0,question_tokens=1"
    trace = generate(f"{spec},requests=3000", seed=0)
    counts = Counter(trace.prompt_tokens(row) for row in range(len(trace)))
    assert set(counts) == {201, 301, 401}
    assert min(counts.values()) > 900


def test_all_documents_of_the_stock_may_be_in_a_prompt() -> None:
    trace = generate(
        "rag:documents=3,document_tokens=10,documents_per_prompt=3,zipf_exponent=3,requests=50", 0
    )
    assert trace.prompt_tokens(0) > 600 + 30


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("documents=0", "documents must be 1"),
        ("documents=4,documents_per_prompt=5", "exceeds the 4 documents"),
        ("document_tokens=9000000,documents_per_prompt=2", "may exceed 10,000,000"),
        ("system_tokens=-1", "system_tokens must be 0"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(params: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"rag: .*{said}"):
        generate(f"rag:{params}", 0)

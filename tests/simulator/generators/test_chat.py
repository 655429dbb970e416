"""Conversations: what a next prompt holds, when it comes, and what an endless cache would have of it."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import pytest

from warmroute_policies.errors import ConfigError
from warmroute_simulator.generators.registry import generate
from warmroute_simulator.generators.summary import summarise
from warmroute_simulator.traces.prompts import ROOT
from warmroute_simulator.traces.trace import NOTHING, Trace

PLAIN = "chat:system_prompts=1,system_tokens=1000,turns=3,message_tokens=50,output_tokens=200,think_s=10"


def rows_by_session(trace: Trace) -> dict[int, list[int]]:
    rows = defaultdict(list)
    for row, session in enumerate(trace.sessions):
        rows[session].append(row)
    return rows


@pytest.mark.parametrize("closed_loop", [False, True])
def test_a_next_prompt_is_the_one_before_with_its_answer_and_a_message(closed_loop: bool) -> None:
    trace = generate(f"chat:requests=2000,closed_loop={closed_loop}", seed=1)
    for rows in rows_by_session(trace).values():
        for before, after in pairwise(rows):
            *earlier, answer, message = trace.tree.path(trace.prompts[after])
            assert earlier == trace.tree.path(trace.prompts[before])
            assert answer == trace.answers[before]
            assert trace.tree.ends[answer] == trace.prompt_tokens(before) + trace.output_tokens[before]
            assert message == trace.prompts[after]
        assert trace.answers[rows[-1]] == trace.prompts[rows[-1]]


def test_reuse_is_what_can_be_counted_by_hand() -> None:
    """Ten sessions of three turns: prompts of 1050, 1300 and 1550 tokens. New are the system prompt once,
    and three messages of 50 in each session: answers were computed when they were written."""
    trace = generate(f"{PLAIN},requests=30,closed_loop=true", seed=0)
    summary = summarise(trace)
    assert summary.sessions == 10
    assert summary.prompt_tokens == 10 * (1050 + 1300 + 1550)
    assert summary.reused_tokens == 39_000 - 1000 - 10 * 3 * 50
    assert summary.longest_tokens == 1750


def test_open_loop_messages_come_when_an_answer_would_have_been_read() -> None:
    trace = generate(f"{PLAIN},token_s=0.05,requests=300", seed=0)
    assert not trace.closed_loop
    assert set(trace.after) == {NOTHING}
    for rows in rows_by_session(trace).values():
        for before, after in pairwise(rows):
            assert trace.arrivals_s[after] - trace.arrivals_s[before] == pytest.approx(200 * 0.05 + 10)


def test_closed_loop_messages_wait_for_the_answer_and_think() -> None:
    trace = generate(f"{PLAIN},closed_loop=yes,requests=300", seed=0)
    assert trace.closed_loop
    for rows in rows_by_session(trace).values():
        assert trace.after[rows[0]] == NOTHING
        assert trace.think_s[rows[0]] == 0
        for before, after in pairwise(rows):
            assert trace.after[after] == before
            assert trace.think_s[after] == 10
            assert trace.arrivals_s[after] == trace.arrivals_s[before]


def test_an_open_loop_trace_ends_in_the_midst_of_sessions() -> None:
    """A trace that ended with its longest sessions would have hours of almost nothing at its end."""
    trace = generate("chat:sessions_per_s=5,think_s=60,turns=10,duration_s=600", seed=0)
    assert 590 < trace.arrivals_s[-1] < 600
    last_minute = sum(at_s >= 540 for at_s in trace.arrivals_s)
    assert last_minute > 5 * 60 * 7  # of 10 turns per session, once all are under way


def test_sessions_begin_at_their_rate_and_have_their_turns() -> None:
    trace = generate("chat:sessions_per_s=3,duration_s=1000,closed_loop=true,turns=2-4", seed=2)
    assert trace.session_count == pytest.approx(3000, rel=0.06)
    lengths = [len(rows) for rows in rows_by_session(trace).values()]
    assert set(lengths) == {2, 3, 4}
    assert sum(lengths) / len(lengths) == pytest.approx(3, rel=0.03)


def test_sessions_share_their_system_prompts_and_nothing_else() -> None:
    trace = generate("chat:system_prompts=3,requests=3000,zipf_exponent=0", seed=1)
    paths = [trace.tree.path(prompt) for prompt in trace.prompts]
    assert {path[0] for path in paths} == {1, 2, 3}
    session_of: dict[int, int] = {}
    for path, session in zip(paths, trace.sessions, strict=True):
        for node in path[1:]:
            assert session_of.setdefault(node, session) == session


def test_without_system_prompts_a_session_begins_with_its_message() -> None:
    trace = generate("chat:system_prompts=0,requests=200", seed=1)
    first = [rows[0] for rows in rows_by_session(trace).values()]
    assert {trace.tree.parents[trace.prompts[row]] for row in first} == {ROOT}


def test_a_session_ends_before_it_exceeds_its_context() -> None:
    """1000 + 250 tokens a turn: the fourth fills 2,000."""
    spec = f"{PLAIN},closed_loop=true,context_tokens=2000,requests=40".replace("turns=3", "turns=40")
    trace = generate(spec, seed=0)
    assert {len(rows) for rows in rows_by_session(trace).values()} == {4}
    assert summarise(trace).longest_tokens == 2000


def test_a_context_that_holds_no_first_turn_is_refused() -> None:
    with pytest.raises(ConfigError, match="must hold the longest first turn, 1250 tokens; it is 1249"):
        generate(f"{PLAIN},context_tokens=1249", 0)


def test_a_number_of_requests_is_met_exactly() -> None:
    for closed_loop in (False, True):
        assert len(generate(f"chat:requests=777,closed_loop={closed_loop}", 0)) == 777

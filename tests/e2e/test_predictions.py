"""What the router predicts of caches is what the engines report."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.asking import INDEX_BLOCK_BYTES, Answer, ask, prose, teach, tolerance_tokens, user
from e2e.engines.engine import BLOCK_TOKENS, Engine
from e2e.findings import Findings
from e2e.predictions import (
    EXACT,
    Asked,
    accuracy,
    by_kind,
    conversations,
    crowding,
    flags,
    play,
    settled,
)
from live.processes import StartRouter

pytestmark = pytest.mark.e2e

FLEETS = {"vllm": "vllm_pair", "sglang": "sglang_engine", "mixed": "mixed_fleet"}


@pytest.fixture(params=list(FLEETS))
def fleet(request: pytest.FixtureRequest) -> tuple[str, list[Engine]]:
    """A name, and engines of one kind or of all."""
    found = request.getfixturevalue(FLEETS[request.param])
    return request.param, found if isinstance(found, list) else [found]


def wrong(asked: list[Asked]) -> list[tuple[str, Answer]]:
    return [(one.kind, one.answer) for one in asked if one.answer.off_tokens]


def test_conversations_hit_as_predicted(
    fleet: tuple[str, list[Engine]],
    start_router: StartRouter,
    mode: str,
    e2e_home: Path,
    findings: Findings,
) -> None:
    """By belief within a block of the index on average; from what engines tell, every one to the token."""
    name, engines = fleet
    router = start_router(*(engine.url for engine in engines), flags=flags(mode, e2e_home))
    seed = f"conversations {name} {mode}"
    bytes_per_token = teach(router, seed)
    asked = play(router, conversations(seed), seed, settled(router, mode))
    for kind, lot in by_kind(asked):
        findings.add(f"predictions, {mode}: {kind}", name, str(accuracy(lot)))
    found = accuracy(asked)
    findings.add(f"predictions, {mode}: all", name, str(found))
    if mode == EXACT:
        tell = {engine.url for engine in engines if engine.kind != "llamacpp"}
        assert wrong([one for one in asked if one.answer.worker in tell]) == []
    else:
        assert found.mean_off_tokens <= INDEX_BLOCK_BYTES / bytes_per_token, found
    again = [one.answer for one in asked if one.known_before]
    assert sum(answer.cached_tokens > 0 for answer in again) >= 0.9 * len(again), again


def test_prompts_that_do_not_fit_are_known_to_be_gone(
    vllm_pair: list[Engine],
    start_router: StartRouter,
    mode: str,
    e2e_home: Path,
    findings: Findings,
) -> None:
    router = start_router(*(engine.url for engine in vllm_pair), flags=flags(mode, e2e_home))
    seed = f"crowding {mode}"
    teach(router, seed)
    asked = play(router, crowding(seed), seed, settled(router, mode))
    found = accuracy(asked)
    findings.add(f"predictions, {mode}: crowding", "vllm", str(found))
    if mode == EXACT:
        assert wrong(asked) == []
    gone = [one for one in asked if one.known_before and not one.answer.cached_tokens]
    assert gone, "some had to make room"
    share = sum(one.answer.off_tokens for one in asked) / sum(one.answer.prompt_tokens for one in asked)
    assert share <= 0.1, found


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_repeated_prompt_returns_to_the_worker_that_holds_it(
    vllm_pair: list[Engine], start_router: StartRouter, stream: bool
) -> None:
    router = start_router(*(engine.url for engine in vllm_pair))
    tolerance = tolerance_tokens(teach(router, f"teach repeated {stream}"))
    used = set()
    for number in range(6):
        messages = [user(prose(f"returns {stream} {number}", 2000 + 1500 * number))]
        first = ask(router, messages, stream=stream)
        again = ask(router, messages, stream=stream)
        assert first.cached_tokens <= BLOCK_TOKENS, first
        assert first.predicted_hit_tokens == 0, first
        assert again.worker == first.worker, (first, again)
        assert again.cached_tokens > 0, again
        assert again.off_tokens <= tolerance, (again, tolerance)
        used.add(first.worker)
    assert len(used) == 2, "new prompts are spread over both engines"


def test_growing_conversations_stay_where_they_are_warm(
    vllm_pair: list[Engine], start_router: StartRouter
) -> None:
    router = start_router(*(engine.url for engine in vllm_pair))
    teach(router, "teach staying")
    conversations = [[user(prose(f"staying {number}", 2500))] for number in range(3)]
    homes = ["", "", ""]
    for turn in range(5):
        for number, messages in enumerate(conversations):
            answer = ask(router, messages, 24)
            if turn:
                assert answer.worker == homes[number], (turn, number, answer, homes)
                assert answer.cached_tokens > 0, (turn, number, answer)
            homes[number] = answer.worker
            messages.append({"role": "assistant", "content": answer.text})
            messages.append(user(prose(f"staying turn {turn} of {number}", 600)))

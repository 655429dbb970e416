"""The engines themselves: what the tests of the router take for granted of them."""

from __future__ import annotations

import httpx
import pytest

from e2e.asking import body, prose, user
from e2e.engines.engine import BLOCK_TOKENS, BLOCKS, MODEL_NAME, Engine
from live.processes import StartRouter

pytestmark = pytest.mark.e2e


def usage(engine: Engine, content: str) -> tuple[int, int]:
    """Prompt tokens and cached tokens of a chat."""
    answer = httpx.post(
        f"{engine.url}/v1/chat/completions", json=body([user(content)], 4), timeout=60, trust_env=False
    )
    assert answer.status_code == httpx.codes.OK, answer.text
    told = answer.json()["usage"]
    return told["prompt_tokens"], told["prompt_tokens_details"]["cached_tokens"]


def test_each_engine_caches_what_it_saw_itself_in_whole_blocks_or_slots(engine: Engine) -> None:
    prompt = prose(f"cache {engine.url}", 2000)
    _, cold = usage(engine, prompt)
    assert cold < BLOCK_TOKENS, "the turn's marks alone are known"
    tokens, warm = usage(engine, prompt)
    whole_blocks = (tokens - 1) // BLOCK_TOKENS * BLOCK_TOKENS
    assert warm == (tokens - 1 if engine.kind == "llamacpp" else whole_blocks)


def test_all_count_a_prompts_tokens_alike(mixed_fleet: list[Engine]) -> None:
    prompt = prose("alike", 3000)
    assert len({usage(engine, prompt)[0] for engine in mixed_fleet}) == 1


def test_two_vllm_engines_share_nothing(vllm_pair: list[Engine]) -> None:
    first, second = vllm_pair
    prompt = prose("shared", 1500)
    usage(first, prompt)
    assert usage(first, prompt)[1] > 0
    assert usage(second, prompt)[1] == 0


def test_capacity_and_page_size_are_read_from_the_engines(
    mixed_fleet: list[Engine], start_router: StartRouter
) -> None:
    router = start_router(*(engine.url for engine in mixed_fleet))
    rows = httpx.get(f"{router.url}/workers", trust_env=False).json()["workers"]
    kinds = {engine.url: engine.kind for engine in mixed_fleet}
    assert {row["url"] for row in rows} == kinds.keys()
    for row in rows:
        kind = kinds[row["url"]]
        assert row["status"] == "healthy"
        assert row["models"] == [MODEL_NAME]
        if kind == "llamacpp":
            continue
        assert row["engine"] == kind
        assert row["block_tokens"] == BLOCK_TOKENS
        assert row["kv_capacity_tokens"] == BLOCKS * BLOCK_TOKENS
        assert row["kv_capacity_from"] == "engine"

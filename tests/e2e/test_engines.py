"""The engines themselves: what the tests of the router take for granted of vLLM."""

from __future__ import annotations

import random

import httpx
import pytest

from e2e.engines.vllm import BLOCK_TOKENS, BLOCKS, Vllm

pytestmark = pytest.mark.e2e


def words(seed: str, count: int) -> str:
    """Text of that many short words, always the same for a seed."""
    rng = random.Random(seed)
    return " ".join(rng.choice(("def", "self", "return", "import", "class", "value")) for _ in range(count))


def chat(engine: Vllm, content: str) -> dict[str, int | dict[str, int]]:
    body = {
        "model": engine.model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 4,
        "temperature": 0,
    }
    response = httpx.post(f"{engine.url}/v1/chat/completions", json=body, timeout=60)
    assert response.status_code == httpx.codes.OK, response.text
    usage: dict[str, int | dict[str, int]] = response.json()["usage"]
    return usage


def cached(usage: dict[str, int | dict[str, int]]) -> int:
    details = usage["prompt_tokens_details"]
    assert isinstance(details, dict)
    return details["cached_tokens"]


def test_each_engine_caches_whole_blocks_of_what_it_saw_itself(engines: list[Vllm]) -> None:
    first, second = engines
    prompt = words("cache", 500)
    assert cached(chat(first, prompt)) == 0
    usage = chat(first, prompt)
    prompt_tokens = usage["prompt_tokens"]
    assert isinstance(prompt_tokens, int)
    assert cached(usage) == (prompt_tokens - 1) // BLOCK_TOKENS * BLOCK_TOKENS
    assert cached(chat(second, prompt)) == 0


def test_an_engine_tells_how_much_its_cache_holds(engines: list[Vllm]) -> None:
    page = httpx.get(f"{engines[0].url}/metrics").text
    (line,) = (line for line in page.splitlines() if line.startswith("vllm:cache_config_info{"))
    assert f'num_gpu_blocks="{BLOCKS}"' in line
    assert f'block_size="{BLOCK_TOKENS}"' in line

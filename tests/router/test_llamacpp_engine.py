"""The real engine behaves as the router's tests rely on: llama.cpp's server, asked directly."""

from __future__ import annotations

import json
import random
from typing import Any

import httpx
import pytest

from engines.llamacpp import LlamaCpp


@pytest.fixture
def prompt(request: pytest.FixtureRequest) -> str:
    """A prompt that no other test sends: the engine is shared and remembers."""
    return random.Random(request.node.nodeid).randbytes(512).hex()


def chat(engine: LlamaCpp, prompt: str, **options: Any) -> httpx.Response:
    body = {
        "model": engine.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 4,
        "temperature": 0,
        **options,
    }
    response = httpx.post(f"{engine.url}/v1/chat/completions", json=body, timeout=30)
    assert response.status_code == httpx.codes.OK, response.text
    return response


def test_a_repeated_prompt_is_cached_but_for_its_last_token(llamacpp_engine: LlamaCpp, prompt: str) -> None:
    cold, warm = (chat(llamacpp_engine, prompt).json()["usage"] for _ in range(2))
    # The turn's marks before the prompt are shared with every other chat.
    assert cold["prompt_tokens_details"]["cached_tokens"] < 16
    assert warm["prompt_tokens_details"]["cached_tokens"] == warm["prompt_tokens"] - 1


def test_a_prompt_is_nearly_as_many_tokens_as_bytes(llamacpp_engine: LlamaCpp, prompt: str) -> None:
    tokens = chat(llamacpp_engine, prompt).json()["usage"]["prompt_tokens"]
    assert len(prompt) <= tokens < len(prompt) + 32


def test_a_streamed_answer_ends_with_its_usage(llamacpp_engine: LlamaCpp, prompt: str) -> None:
    answer = chat(llamacpp_engine, prompt, stream=True, stream_options={"include_usage": True})
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    usage = json.loads(events[-2])["usage"]
    assert usage["completion_tokens"] == 4
    assert "cached_tokens" in usage["prompt_tokens_details"]


def test_it_names_its_model(llamacpp_engine: LlamaCpp) -> None:
    models = httpx.get(f"{llamacpp_engine.url}/v1/models").json()["data"]
    assert [model["id"] for model in models] == [llamacpp_engine.model]

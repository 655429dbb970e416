"""Exact mode before the built-in engines, which is found and followed by itself: predictions are right."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from live.polling import eventually
from live.processes import Engines, Router, StartEngines, StartRouter
from ring_lib.vocabulary import write_model
from warmroute_simulator.serve.tokens import WORDS

_PATIENT = ("--tokenizer-timeout-s", "20")
"""On a busy machine too every prompt is to be told."""


def ask(url: str, messages: list[dict[str, str]], tokens: int = 24, **more: object) -> httpx.Response:
    body = {"model": "llama-3.1-8b", "messages": messages, "max_tokens": tokens, **more}
    return httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False, timeout=20).raise_for_status()


def told_all(router: Router, engines: Engines) -> bool:
    """Whether the router knows as many blocks of each engine as it holds, and nothing else is on its way."""
    page = httpx.get(f"{router.url}/workers", trust_env=False, timeout=20).json()
    known: dict[str, Any] = {worker["id"]: worker["kv_events"] for worker in page["workers"]}
    for number, url in enumerate(engines.urls):
        state = engines.state(number)
        blocks = state["blocks"]
        if known[url]["state"] != "exact" and blocks["cached"]:
            return False
        if sum(known[url]["blocks"].values()) != blocks["cached"] + blocks["referenced"]:
            return False
        if state["kv_events"]["batches"] and known[url]["last_batch"] != {
            "0": state["kv_events"]["batches"] - 1
        }:
            return False
    return True


def play(router: Router, engines: Engines, seed: int, turns: int) -> list[tuple[int, int]]:
    """Sessions that grow and begin alike, one request after the other: of each what was predicted, and what
    was cached."""
    chance = random.Random(seed)

    def words(most: int) -> str:
        return b"".join(chance.choices(WORDS, k=chance.randint(20, most))).decode()

    beginnings = [[{"role": "system", "content": words(300)}] for _ in range(2)]
    sessions = [[*chance.choice(beginnings)] for _ in range(5)]
    found = []
    for _ in range(turns):
        at = chance.randrange(len(sessions))
        if len(sessions[at]) > 10:
            sessions[at] = [*chance.choice(beginnings)]
        sessions[at].append({"role": "user", "content": words(400)})
        eventually(lambda: told_all(router, engines), "all that engines hold is known")
        answer = ask(router.url, sessions[at])
        document = answer.json()
        sessions[at].append({"role": "assistant", "content": document["choices"][0]["message"]["content"]})
        found.append(
            (
                int(answer.headers["x-router-predicted-hit-tokens"]),
                document["usage"]["prompt_tokens_details"]["cached_tokens"],
            )
        )
    return found


def counted(router: Router, *names: str) -> float:
    """The sum of these counters."""
    page = httpx.get(f"{router.url}/metrics", trust_env=False, timeout=20).text
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(names))


def wait_tokens(router: Router, engines: Engines) -> None:
    """Until prompts are told in tokens: with the first blocks that an engine tells of their size is known,
    and the router looks for that now and then."""

    def told() -> bool:
        ask(router.url, [{"role": "user", "content": "zer " * 32}])
        return counted(router, "router_tokenized_requests_total") > 0

    eventually(told, "prompts are told in tokens")
    eventually(lambda: told_all(router, engines), "all that engines hold is known")


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
@pytest.mark.parametrize("tokenizer", ["of its own", "the engine's"])
def test_every_prediction_is_what_was_cached(
    start_engines: StartEngines, start_router: StartRouter, tmp_path: Path, kind: str, tokenizer: str
) -> None:
    seed = 3
    print(f"seed {seed}")
    small = ("--kv-tokens", "4096")  # so that something is evicted
    engines = start_engines(2, "--kv-events", "--engine", kind, *small)
    own = ("--tokenizer", str(write_model(tmp_path / "model"))) if tokenizer == "of its own" else ()
    router = start_router(*engines.urls, flags=("--kv-events", "auto", *own, *_PATIENT))
    wait_tokens(router, engines)
    found = play(router, engines, seed, turns=40)
    assert found == [(cached, cached) for _, cached in found]
    assert counted(router, "router_token_checks_total") >= 40
    assert counted(router, "router_token_mismatches_total") == 0
    assert sum(cached > 0 for _, cached in found) > 20
    assert sum(engines.state(number)["blocks"]["evicted_total"] for number in range(2)) > 50


def test_a_first_try_needs_no_tokenizer_whatever_the_text_is(
    start_engines: StartEngines, start_router: StartRouter
) -> None:
    engines = start_engines(2, "--kv-events")
    router = start_router(*engines.urls, flags=("--kv-events", "auto", *_PATIENT))
    wait_tokens(router, engines)
    messages = [{"role": "user", "content": "any text, naïve or not. " * 30}]
    first, again = (ask(router.url, messages) for _ in range(2))
    assert first.headers["x-router-predicted-hit-tokens"] == "0"
    cached = again.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached > 100
    assert again.headers["x-router-predicted-hit-tokens"] == str(cached)


def test_a_router_that_comes_later_and_a_cache_that_is_cleared_are_known_too(
    start_engines: StartEngines, start_router: StartRouter, tmp_path: Path
) -> None:
    engines = start_engines(1, "--kv-events")
    messages = [{"role": "user", "content": WORDS[0].decode() * 200}]
    ask(engines.urls[0], messages)
    tokenizer = ("--tokenizer", str(write_model(tmp_path / "model")), *_PATIENT)
    router = start_router(*engines.urls, flags=("--kv-events", "auto", *tokenizer))
    eventually(lambda: told_all(router, engines), "what was before the router is known")
    wait_tokens(router, engines)
    answer = ask(router.url, messages)
    assert answer.headers["x-router-predicted-hit-tokens"] == "192"
    assert answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"] == 192
    httpx.post(f"{engines.urls[0]}/reset_prefix_cache", trust_env=False).raise_for_status()
    eventually(lambda: told_all(router, engines), "that it is empty is known")
    assert ask(router.url, messages).headers["x-router-predicted-hit-tokens"] == "0"

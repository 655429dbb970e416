"""Chats have the tokens that vLLM and SGLang give them: as written down, and as they say themselves where
they are installed."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from xxhash import xxh3_64_hexdigest

from tokens.conversations import TABLE, TOOLS, Body, made_up
from tokens.expected import ENGINES, FILE, digest, questions
from tokens.models import BY_ENGINE, ROOT, model, read
from tokens.oracles import TEMPLATES, ask
from warmroute.compiled import is_compiled
from warmroute.tokens import asked
from warmroute.tokens.asked import Untold
from warmroute_policies.kv_blocks import TOKEN_BYTES, chain

WRITTEN: dict[str, dict[str, Any]] = json.loads(FILE.read_text())


def told(engine: str, template: str, request: Body) -> tuple[int, bytes] | None:
    """Tokens of a chat, and the ids of blocks of one."""
    chat, messages = read(json.dumps({"model": "m", **request}).encode())
    try:
        prompt = (
            model(template)
            .whole(chat, asked.read_messages(messages), BY_ENGINE[engine], (1,), ROOT, slowly=False)
            .prompt
        )
    except Untold:
        return None
    return prompt.tokens, prompt.runs[1]


@pytest.mark.skipif(is_compiled(), reason="compiled modules call each other unseen: make test-interpreted")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("template", TEMPLATES)
def test_the_tokens_are_those_that_were_written_down(
    template: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: list[bytes] = []

    def seen(parent: int, tokens: bytes, size: int) -> bytes:
        ids.append(tokens)
        return chain(parent, tokens, size)

    monkeypatch.setattr("warmroute.tokens.told.chain", seen)
    wrong = {}
    for of, name, request in questions():
        if of != template:
            continue
        ids.clear()
        found = told(engine, template, request)
        written = WRITTEN[engine][f"{template}: {name}"]
        if written is not None:  # else the engine answers 400, whatever is thought of its tokens here
            ours = None if found is None else [found[0], xxh3_64_hexdigest(b"".join(ids))]
            if ours != written:
                wrong[name] = (ours, written)
    assert not wrong


def test_what_is_written_down_is_of_every_chat() -> None:
    for engine in ENGINES:
        assert set(WRITTEN[engine]) == {f"{template}: {name}" for template, name, _ in questions()}
        assert sum(value is None for value in WRITTEN[engine].values()) < len(WRITTEN[engine]) / 3


@pytest.mark.parametrize("engine", ENGINES)
def test_the_tokens_are_those_that_the_engine_itself_says(engine: str) -> None:
    requests = [(template, body) for template, _, body in questions()]
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    for template in TEMPLATES:
        for _ in range(20):
            messages = [one for added in made_up(chance, chance.randrange(6), 20) for one in added]
            requests.append(
                (template, {"messages": messages, **({"tools": TOOLS} if chance.random() < 0.5 else {})})
            )
    answers = ask(ENGINES[engine], requests)
    if answers is None:
        pytest.skip(f"{ENGINES[engine][0]} names no interpreter that has it")
    wrong = []
    for (template, request), ids in zip(requests, answers, strict=True):
        if ids is None:
            continue
        packed = b"".join(one.to_bytes(TOKEN_BYTES, "little") for one in ids)
        if told(engine, template, request) != (len(ids), chain(ROOT, packed, 1)):
            wrong.append((template, request))
    assert not wrong, f"seed {seed}"


def test_digests_tell_ids_apart() -> None:
    assert digest([1, 2]) != digest([2, 1])
    assert len(TABLE) > 30

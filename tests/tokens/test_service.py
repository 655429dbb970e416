"""Tokens on a request's way: at once, in a thread, by asking an engine, or not at all; never at its cost."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest

from live.fake_worker import Call
from live.polling import eventually_async
from tokens.conftest import BLOCK, Serve, Served, answers
from tokens.conversations import said, user
from tokens.models import model
from warmroute.tokens.told import told_of_numbers
from warmroute_policies.known import BlockChange
from warmroute_policies.kv_blocks import root_of

SHORT = {"model": "m", "messages": [{"role": "system", "content": "shared " * 20}, user("hello")]}
LONG = {"model": "m", "messages": [{"role": "system", "content": "shared words " * 3000}, user("hello")]}

SLOW = (
    """{% for i in range(300) %}{% for j in range(3000) %}{% endfor %}{% endfor %}{{ messages[0].content }}"""
)


def expected(body: dict[str, Any], root: int = root_of()) -> Any:
    """The prompt as it is told without a router."""
    from tokens.models import read
    from warmroute.tokens.asked import read_messages
    from warmroute.tokens.vllm_rules import VLLM

    chat, messages = read(json.dumps(body).encode())
    return model("chatml").whole(chat, read_messages(messages), VLLM, (BLOCK,), root, slowly=False).prompt


def told(served: Served) -> dict[str, int]:
    return {how: count for how, count in served.tokens.counts.told.items() if count}


def untold(served: Served) -> dict[str, int]:
    return {why: count for why, count in served.tokens.counts.untold.items() if count}


async def test_a_short_prompt_is_routed_with_its_tokens(serve: Serve) -> None:
    async with serve() as served:
        assert (await served.ask(SHORT)).status_code == 200
        assert served.routed[0].exact == expected(SHORT)
        assert served.routed[0].prompt_tokens == expected(SHORT).tokens
        assert told(served) == {"whole": 1}


async def test_a_long_prompt_is_told_in_a_thread_and_answered(serve: Serve) -> None:
    async with serve() as served:
        assert (await served.ask(LONG)).status_code == 200
        assert served.routed[0].exact == expected(LONG)
        assert told(served) == {"thread": 1}


async def test_the_next_turn_of_a_long_prompt_is_told_at_once(serve: Serve) -> None:
    async with serve() as served:
        await served.ask(LONG)
        longer = {**LONG, "messages": [*LONG["messages"], said("I see"), user("and now?")]}
        await served.ask(longer)
        assert served.routed[1].exact == expected(longer)
        assert told(served) == {"thread": 1, "onwards": 1}


async def test_what_a_worker_told_that_it_holds_decides(serve: Serve) -> None:
    async with serve() as served:
        holder = served.workers[1].url
        run = expected(SHORT).runs[BLOCK]
        served.gateway.balancer.blocks_changed(holder, 0, (BlockChange(True, 0, run),), 0.0)
        answer = await served.ask(SHORT)
        assert answer.headers["x-router-worker"] == holder
        held = len(run) // 8 * BLOCK
        assert int(answer.headers["x-router-predicted-hit-tokens"]) == min(held, expected(SHORT).tokens - 1)


async def test_tenants_share_no_block(serve: Serve) -> None:
    async with serve() as served:
        await served.ask({**SHORT, "cache_salt": "a"})
        assert served.routed[0].exact == expected(SHORT, root_of(None, "a"))


async def test_adapters_share_no_block(serve: Serve) -> None:
    async with serve() as served:
        for worker in served.gateway.workers.values():
            models = ({"id": "m", "parent": None}, {"id": "tuned", "parent": "m"})
            worker.learned = type(worker.learned)(models=models)
        await served.ask({**SHORT, "model": "tuned"})
        assert served.routed[0].exact == expected(SHORT, root_of("tuned"))


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        (
            "/v1/chat/completions",
            {"messages": [user([{"type": "image_url", "image_url": {"url": "x"}}])]},
            "media",
        ),
        ("/v1/chat/completions", {**SHORT, "chat_template": "{{ 1 }}"}, "option"),
        ("/v1/chat/completions", {**SHORT, "truncate_prompt_tokens": 5}, "option"),
        ("/v1/chat/completions", {"messages": [1]}, "odd"),
        ("/v1/chat/completions", {"messages": "hello"}, "odd"),
        ("/v1/completions", {"prompt": ["a", "b"]}, "several"),
        ("/v1/completions", {"prompt": "a", "suffix": "b"}, "option"),
        ("/v1/completions", {"prompt": [1, -1]}, "odd"),
        ("/v1/responses", {"input": "hello"}, "endpoint"),
        ("/v1/messages", {"messages": [user("a")]}, "endpoint"),
        ("/generate", {"text": "a", "image_data": "b"}, "media"),
    ],
)
async def test_a_prompt_that_cannot_be_told_is_routed_without(
    path: str, body: dict[str, Any], why: str, serve: Serve
) -> None:
    async with serve() as served:
        assert (await served.ask(body, path)).status_code == 200
        assert served.routed[0].exact is None
        assert untold(served) == {why: 1}


@pytest.mark.parametrize(
    ("path", "body", "ids"),
    [
        ("/v1/completions", {"prompt": list(range(40))}, list(range(40))),
        ("/v1/completions", {"prompt": [list(range(40))]}, list(range(40))),
        ("/generate", {"input_ids": list(range(40))}, list(range(40))),
        ("/inference/v1/generate", {"token_ids": list(range(40))}, list(range(40))),
    ],
)
async def test_ids_are_taken_as_they_come(path: str, body: object, ids: list[int], serve: Serve) -> None:
    async with serve(tokenizer=()) as served:
        assert (await served.ask(body, path)).status_code == 200
        assert served.routed[0].exact == told_of_numbers(ids, (BLOCK,), root_of(), slowly=False).prompt


async def test_a_text_has_the_ids_of_the_tokenizer(serve: Serve) -> None:
    import tokenizers

    from tokens.oracles import TINY

    tokenizer = tokenizers.Tokenizer.from_file(str(TINY / "tokenizer.json"))
    async with serve() as served:
        for path, body in (
            ("/v1/completions", {"prompt": "a text " * 20}),
            ("/generate", {"text": "a text " * 20}),
        ):
            await served.ask(body, path)
            ids = tokenizer.encode("a text " * 20).ids
            assert served.routed[-1].exact == told_of_numbers(ids, (BLOCK,), root_of(), slowly=False).prompt


async def test_a_template_that_fails_costs_no_request(serve: Serve) -> None:
    async with serve("{{ messages[5].content.nobody() }}") as served:
        assert (await served.ask(SHORT)).status_code == 200
        assert untold(served) == {"template": 1}


async def test_a_template_without_an_end_costs_no_more_than_the_time_that_is_set(serve: Serve) -> None:
    async with serve(SLOW, tokenizer_timeout_s=0.05, tokenizer_inline_bytes=1) as served:
        assert (await served.ask(SHORT)).status_code == 200
        assert untold(served) == {"late": 1}


async def test_a_fault_of_the_router_costs_no_request(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as served:
        monkeypatch.setattr(served.tokens, "_model", lambda *_: 1 / 0)
        assert (await served.ask(SHORT)).status_code == 200
        assert untold(served) == {"fault": 1}
        assert "could not be told" in caplog.text


async def test_more_than_may_wait_go_on_without_tokens(serve: Serve) -> None:
    async with serve(SLOW, tokenizer_inline_bytes=1, tokenizer_waiting_max=1, tokenizer_threads=1) as served:
        both = await asyncio.gather(*(served.ask(SHORT) for _ in range(3)))
        assert [answer.status_code for answer in both] == [200, 200, 200]
        assert untold(served).get("busy", 0) >= 1


async def test_a_prompt_that_waited_for_its_tokens_waits_for_room_like_any_other(serve: Serve) -> None:
    word = threading.Event()

    def held(call: Call) -> None:
        word.wait(20)
        call.answer(b"{}")

    async with serve(max_inflight=1, queue_size=1) as served:
        for worker in served.workers:
            worker.script = held
        first = asyncio.create_task(served.ask(SHORT))

        async def at_its_worker() -> bool:
            return any(worker.calls for worker in served.workers)

        await eventually_async(at_its_worker, "the first one is under way")
        second = asyncio.create_task(served.ask(LONG))

        async def is_told() -> bool:
            return told(served) == {"whole": 1, "thread": 1}

        await eventually_async(is_told, "the second one has its tokens")
        assert len(served.routed) == 1
        assert (await served.ask(SHORT)).status_code == 429, "it is in the queue, which has one place"
        word.set()
        assert [(await one).status_code for one in (first, second)] == [200, 200]
        assert served.routed[1].exact == expected(LONG)


async def test_a_client_that_leaves_while_its_tokens_are_told_leaves_nothing_behind(serve: Serve) -> None:
    async with serve(SLOW, tokenizer_inline_bytes=1, tokenizer_timeout_s=20) as served:
        asking = asyncio.create_task(served.ask(SHORT))

        async def waits() -> bool:
            return served.tokens.waiting == 1

        await eventually_async(waits, "the request waits for a thread")
        asking.cancel()

        async def left() -> bool:
            return served.tokens.waiting == 0 and not served.gateway.clients

        await eventually_async(left, "nothing waits any more")
        assert not served.gateway.exchanges
        assert not served.routed
        assert not any(worker.calls for worker in served.workers)


# --- by asking an engine ----------------------------------------------------------------------------------


def tokenizing(call: Call) -> None:
    if call.path == "/tokenize":
        call.answer(json.dumps({"count": 40, "max_model_len": 100, "tokens": list(range(40))}).encode())
    else:
        call.answer(b"{}")


def not_tokenizing(call: Call) -> None:
    call.answer(b"{}", 404 if call.path == "/tokenize" else 200)


async def test_without_a_tokenizer_an_engine_is_asked(serve: Serve) -> None:
    async with serve(tokenizer=()) as served:
        for worker in served.workers:
            worker.script = tokenizing
        body = {
            **SHORT,
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "reasoning_effort": "low",
        }
        assert (await served.ask(body)).status_code == 200
        ids = list(range(40))
        assert served.routed[0].exact == told_of_numbers(ids, (BLOCK,), root_of(), slowly=False).prompt
        (question,) = (json.loads(c.body) for w in served.workers for c in w.calls if c.path == "/tokenize")
        assert question["messages"] == SHORT["messages"]
        assert question["tools"] == body["tools"]
        assert question["chat_template_kwargs"] == {"enable_thinking": True, "reasoning_effort": "low"}
        assert told(served) == {"engine": 1}


async def test_an_engine_that_does_not_know_the_question_is_asked_once(serve: Serve) -> None:
    async with serve(tokenizer=(), count=1) as served:
        served.workers[0].script = not_tokenizing
        for _ in range(3):
            assert (await served.ask(SHORT)).status_code == 200
        asked = [call for call in served.workers[0].calls if call.path == "/tokenize"]
        assert len(asked) == 1
        assert untold(served) == {"engine": 1, "no_tokenizer": 2}


async def test_an_engine_that_does_not_answer_costs_the_time_that_is_set(serve: Serve) -> None:
    release = threading.Event()

    def silent(call: Call) -> None:
        if call.path == "/tokenize":
            call.hold(release)
        call.answer(b"{}")

    async with serve(tokenizer=(), tokenizer_timeout_s=0.1) as served:
        for worker in served.workers:
            worker.script = silent
        assert (await served.ask(SHORT)).status_code == 200
        assert untold(served) == {"late": 1}
        release.set()


async def test_a_tokenizer_for_one_model_says_nothing_of_another(serve: Serve) -> None:
    from tokens.oracles import TINY

    async with serve(tokenizer=(f"other={TINY}",)) as served:
        assert (await served.ask(SHORT)).status_code == 200
        assert untold(served) == {"no_tokenizer": 1}


# --- whether it was right ---------------------------------------------------------------------------------


async def test_a_model_whose_prompts_engines_count_otherwise_is_left_alone(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as served:
        for worker in served.workers:
            worker.script = answers(lambda _: 3)
        for _ in range(8):
            await served.ask(SHORT)
        assert served.tokens.counts.differences["engine"] == 8
        await served.ask(SHORT)
        assert served.routed[-1].exact is None
        assert untold(served) == {"distrusted": 1}
        assert "other numbers of tokens" in caplog.text


async def test_now_and_then_a_wrong_count_is_no_reason_for_distrust(serve: Serve) -> None:
    right = expected(SHORT).tokens
    counted = iter([3, 3, 3, 3, 3, 3, 3, right] * 4)
    async with serve() as served:
        for worker in served.workers:
            worker.script = answers(lambda _: next(counted))
        for _ in range(32):
            await served.ask(SHORT)
        assert untold(served) == {}
        assert served.tokens.counts.checks["engine"] == 32


async def test_a_sample_of_turns_is_done_again_as_a_whole(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from warmroute.tokens import jobs, service

    monkeypatch.setattr(service, "_CHECK_EVERY", 1)
    async with serve() as served:
        await served.ask(LONG)
        longer = {**LONG, "messages": [*LONG["messages"], said("I see"), user("and now?")]}
        await served.ask(longer)

        async def checked() -> bool:
            return served.tokens.counts.checks["check"] == 1

        await eventually_async(checked, "the turn is done again")
        assert served.tokens.counts.differences["check"] == 0
        monkeypatch.setattr(
            jobs.ChatJob, "whole", lambda self, slowly: told_of_numbers([1], (BLOCK,), 0, slowly=False)
        )
        await served.ask({**longer, "messages": [*longer["messages"], said("yes"), user("so?")]})

        async def noticed() -> bool:
            return served.tokens.counts.differences["check"] == 1

        await eventually_async(noticed, "the difference is noticed")
        assert not served.tokens._models[""].goes_on
        assert len(served.tokens.memory) == 0
        assert "do not go on from each other" in caplog.text


# --- while nobody tells -----------------------------------------------------------------------------------


async def test_while_no_worker_tells_what_it_holds_no_prompt_is_tokenized(serve: Serve) -> None:
    async with serve() as served:
        for worker in served.workers:
            served.gateway.balancer.doubt_blocks(worker.url, 0.0)
        served.gateway.tick(0.0)
        assert served.gateway.tokens is None
        assert (await served.ask(SHORT)).status_code == 200
        assert served.routed[0].exact is None


async def test_the_metrics_page_has_it(serve: Serve) -> None:
    async with serve() as served:
        await served.ask(SHORT)
        async with httpx.AsyncClient(trust_env=False) as client:
            page = (await client.get(f"{served.url}/metrics")).text
        assert 'router_tokenized_requests_total{how="whole"} 1' in page
        assert 'router_untokenized_requests_total{reason="late"} 0' in page
        assert "router_tokenize_seconds_count 1" in page

"""The engines' API shapes over real sockets: answers, streams, usage, errors."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from .conftest import Served, serving

Json = dict[str, Any]
TEXT = "The quick brown fox jumps over the lazy dog, again and again. " * 40


def events_of(text: str) -> list[Json]:
    """The JSON of each server-sent event, `[DONE]` left out."""
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


# Per endpoint: a body for a prompt; text and usage (prompt, cached, output) of an answer and of a stream.
Reader = Callable[[Json], tuple[str, tuple[int, int, int]]]
StreamReader = Callable[[list[Json]], tuple[str, tuple[int, int, int]]]


def openai_usage(usage: Json) -> tuple[int, int, int]:
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    return usage["prompt_tokens"], cached, usage["completion_tokens"]


def anthropic_usage(usage: Json) -> tuple[int, int, int]:
    cached = usage["cache_read_input_tokens"]
    return usage["input_tokens"] + cached, cached, usage["output_tokens"]


def responses_usage(usage: Json) -> tuple[int, int, int]:
    return usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"], usage["output_tokens"]


def sglang_usage(meta: Json) -> tuple[int, int, int]:
    return meta["prompt_tokens"], meta["cached_tokens"], meta["completion_tokens"]


def chat_body(prompt: str, tokens: int) -> Json:
    return {"messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}


def with_usage(body: Json) -> Json:
    return body | {"stream": True, "stream_options": {"include_usage": True}}


ENDPOINTS: dict[str, tuple[Callable[[str, int], Json], Reader, StreamReader]] = {
    "/v1/chat/completions": (
        chat_body,
        lambda a: (a["choices"][0]["message"]["content"], openai_usage(a["usage"])),
        lambda es: (
            "".join(e["choices"][0]["delta"]["content"] for e in es[:-1]),
            openai_usage(es[-1]["usage"]),
        ),
    ),
    "/v1/completions": (
        lambda prompt, tokens: {"prompt": prompt, "max_tokens": tokens},
        lambda a: (a["choices"][0]["text"], openai_usage(a["usage"])),
        lambda es: ("".join(e["choices"][0]["text"] for e in es[:-1]), openai_usage(es[-1]["usage"])),
    ),
    "/v1/messages": (
        chat_body,
        lambda a: (a["content"][0]["text"], anthropic_usage(a["usage"])),
        lambda es: (
            "".join(e["delta"]["text"] for e in es if e["type"] == "content_block_delta"),
            anthropic_usage(es[-2]["usage"]),
        ),
    ),
    "/v1/responses": (
        lambda prompt, tokens: {"input": prompt, "max_output_tokens": tokens},
        lambda a: (a["output"][0]["content"][0]["text"], responses_usage(a["usage"])),
        lambda es: (
            "".join(e["delta"] for e in es if e["type"] == "response.output_text.delta"),
            responses_usage(es[-1]["response"]["usage"]),
        ),
    ),
    "/generate": (
        lambda prompt, tokens: {"text": prompt, "sampling_params": {"max_new_tokens": tokens}},
        lambda a: (a["text"], sglang_usage(a["meta_info"])),
        lambda es: (es[-1]["text"], sglang_usage(es[-1]["meta_info"])),
    ),
}


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("tokens", [1, 2, 20])
def test_a_stream_says_what_the_whole_answer_says_and_a_repeat_is_cached(
    served: Served, path: str, tokens: int
) -> None:
    make_body, read, read_stream = ENDPOINTS[path]
    body = make_body(f"{path} {tokens} {TEXT}", tokens)
    text, (prompt_tokens, cached, output) = read(httpx.post(served.url + path, json=body).json())
    assert (cached, output, len(text)) == (0, tokens, 4 * tokens)

    answer = httpx.post(served.url + path, json=with_usage(body))
    assert answer.headers["content-type"].startswith("text/event-stream")
    streamed_text, (again, streamed_cached, streamed_output) = read_stream(events_of(answer.text))
    assert (streamed_text, again, streamed_output) == (text, prompt_tokens, tokens)
    assert streamed_cached == (prompt_tokens - 1) // 16 * 16


def test_a_chat_stream_has_the_role_first_then_one_token_per_chunk_then_usage(served: Served) -> None:
    body = with_usage(chat_body("shape", 5))
    answer = httpx.post(served.url + "/v1/chat/completions", json=body)
    assert answer.text.endswith("data: [DONE]\n\n")
    events = events_of(answer.text)
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [len(event["choices"][0]["delta"]["content"]) for event in events[1:6]] == [4] * 5
    assert [event["choices"][0]["finish_reason"] for event in events[:6]] == [None] * 5 + ["length"]
    assert events[6]["choices"] == []
    assert len(events) == 7
    plain = httpx.post(served.url + "/v1/chat/completions", json=body | {"stream_options": None})
    assert not any("usage" in event for event in events_of(plain.text))


def test_the_next_turn_hits_the_former_prompt_and_its_answer(served: Served) -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    messages: list[Json] = [{"role": "system", "content": TEXT}, {"role": "user", "content": "next turn?"}]
    url = served.url + "/v1/chat/completions"
    first = httpx.post(url, json={"messages": messages, "tools": tools, "max_tokens": 100}).json()
    messages += [first["choices"][0]["message"], {"role": "user", "content": "and then?"}]
    second = httpx.post(url, json={"messages": messages, "tools": tools, "max_tokens": 1}).json()
    computed = first["usage"]["total_tokens"] - 1
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == computed // 16 * 16


def test_without_a_limit_the_answer_ends_by_itself(served: Served) -> None:
    answer = httpx.post(
        served.url + "/v1/chat/completions", json={"messages": [{"role": "user", "content": "no limit"}]}
    ).json()
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert 32 <= answer["usage"]["completion_tokens"] <= 256


def test_token_ids_and_the_text_they_stand_for_are_the_same_prompt(served: Served) -> None:
    text = "token ids and text are one prompt" + TEXT
    tokenized = httpx.post(served.url + "/tokenize", json={"prompt": text}).json()
    assert tokenized["count"] == len(tokenized["tokens"]) == -(-len(text) // 4)
    back = httpx.post(served.url + "/detokenize", json={"tokens": tokenized["tokens"]}).json()
    assert back["prompt"] == text
    url = served.url + "/v1/completions"
    httpx.post(url, json={"prompt": text, "max_tokens": 1})
    for prompt in (tokenized["tokens"], [text], [tokenized["tokens"]]):
        usage = httpx.post(url, json={"prompt": prompt, "max_tokens": 1}).json()["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == (tokenized["count"] - 1) // 16 * 16


def test_a_rendered_chat_has_the_tokens_that_its_answer_is_computed_from(served: Served) -> None:
    body = chat_body("rendered first " + TEXT, 1)
    rendered = httpx.post(served.url + "/v1/chat/completions/render", json=body).json()
    answer = httpx.post(served.url + "/v1/chat/completions", json=body).json()
    assert len(rendered["token_ids"]) == answer["usage"]["prompt_tokens"]
    again = httpx.post(
        served.url + "/v1/completions", json={"prompt": rendered["token_ids"], "max_tokens": 1}
    ).json()
    assert (
        again["usage"]["prompt_tokens_details"]["cached_tokens"]
        == (len(rendered["token_ids"]) - 1) // 16 * 16
    )


def test_a_rendered_text_has_its_tokens(served: Served) -> None:
    rendered = httpx.post(served.url + "/v1/completions/render", json={"prompt": TEXT}).json()
    tokenized = httpx.post(served.url + "/tokenize", json={"prompt": TEXT}).json()
    assert [one["token_ids"] for one in rendered] == [tokenized["tokens"]]


def test_another_cache_salt_shares_nothing(served: Served) -> None:
    def cached(salt: str) -> int:
        body = {"prompt": "salted " + TEXT, "max_tokens": 1, "cache_salt": salt}
        usage = httpx.post(served.url + "/v1/completions", json=body).json()["usage"]
        return openai_usage(usage)[1]

    assert cached("a") == cached("b") == 0
    assert cached("a") > 0


def test_embeddings_are_deterministic_unit_vectors(served: Served) -> None:
    body = {"input": ["one", "two", "one"], "dimensions": 8}
    answer = httpx.post(served.url + "/v1/embeddings", json=body).json()
    one, two, again = (item["embedding"] for item in answer["data"])
    assert one == again != two
    assert sum(value * value for value in one) == pytest.approx(1, abs=1e-5)
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


BAD_REQUESTS: list[tuple[str, str, int, str]] = [
    ("/v1/chat/completions", "{", 400, "not valid JSON"),
    ("/v1/chat/completions", '{"messages": 3}', 400, "Expected"),
    ("/v1/chat/completions", '{"messages": []}', 400, "empty"),
    ("/v1/chat/completions", '{"messages": [{"role":"user","content":"a"}], "n": 2}', 400, "n must be 1"),
    ("/v1/completions", '{"prompt": "a", "max_tokens": 0}', 400, "max_tokens"),
    ("/v1/completions", '{"prompt": ["a", "b"]}', 400, "one prompt"),
    ("/v1/completions", '{"prompt": [1, "b"]}', 400, "mixes"),
    ("/v1/completions", '{"prompt": [-1]}', 400, "token ids"),
    ("/v1/completions", '{"prompt": ""}', 400, "empty"),
    ("/v1/completions", '{"prompt": "a", "max_tokens": 200000}', 400, "maximum context length"),
    ("/v1/completions", json.dumps({"prompt": "x" * 600_000}), 400, "maximum context length"),
    ("/v1/completions", '{"prompt": "a", "model": "other"}', 404, "`other` does not exist"),
    ("/v1/messages", '{"messages": [{"role":"user","content":"a"}]}', 400, "max_tokens"),
    ("/v1/responses", '{"input": "a", "previous_response_id": "r"}', 400, "not stored"),
    ("/generate", '{"sampling_params": {}}', 400, "text or input_ids"),
    ("/v1/embeddings", '{"input": []}', 400, "empty"),
]


@pytest.mark.parametrize(("path", "body", "status", "message"), BAD_REQUESTS)
def test_bad_requests_get_the_engines_error_json(
    served: Served, path: str, body: str, status: int, message: str
) -> None:
    answer = httpx.post(served.url + path, content=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert message in error["message"]
    if path != "/v1/messages":
        assert error["code"] == status


def test_operator_endpoints_answer_in_vllms_shapes(served: Served) -> None:
    def get(path: str) -> httpx.Response:
        return httpx.get(served.url + path)

    assert get("/health").status_code == get("/ping").status_code == 200
    assert httpx.head(served.url + "/v1/models").status_code == 200
    assert get("/v1/models").json()["data"][0]["max_model_len"] == 131_072
    assert get("/version").json()["version"]
    assert get("/load").json() == {"server_load": 0}
    assert get("/server_info").status_code == get("/nowhere").status_code == 404
    assert httpx.post(served.url + "/v1/nowhere", json={}).status_code == 404
    count = httpx.post(served.url + "/v1/messages/count_tokens", json=chat_body("four", 1)).json()
    assert count["input_tokens"] == 8


def test_metrics_parse_and_agree_with_the_engines_state(served: Served) -> None:
    # The second worker sees no embeddings, which finish without a first token.
    url = served.urls[1]
    for _ in range(2):
        httpx.post(url + "/v1/completions", json={"prompt": "metrics " + TEXT})
    text = httpx.get(url + "/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    values = {sample.name: sample.value for sample in samples}
    totals = served.state(1)["totals"]
    assert values["vllm:prompt_tokens_total"] == values["vllm:prefix_cache_queries_total"]
    assert values["vllm:prompt_tokens_total"] == totals["prompt_tokens"]
    assert values["vllm:prefix_cache_hits_total"] == totals["cached_tokens"]
    assert values["vllm:generation_tokens_total"] == totals["output_tokens"]
    assert values["vllm:num_requests_running"] == values["vllm:num_requests_waiting"] == 0
    finished = sum(s.value for s in samples if s.name == "vllm:request_success_total")
    assert finished == values["vllm:time_to_first_token_seconds_count"] == totals["finished"]
    [cache] = [sample for sample in samples if sample.name == "vllm:cache_config_info"]
    assert int(cache.labels["num_gpu_blocks"]) * int(cache.labels["block_size"]) == 440_992


def test_resetting_the_prefix_cache_forgets_every_prompt(served: Served) -> None:
    body = {"prompt": "forget me " + TEXT, "max_tokens": 1}
    cached = []
    for path in (None, None, "/reset_prefix_cache", None, "/flush_cache"):
        if path is not None:
            assert httpx.post(served.urls[1] + path).status_code == 200
        usage = httpx.post(served.urls[1] + "/v1/completions", json=body).json()["usage"]
        cached.append(openai_usage(usage)[1] > 0)
    assert cached == [False, True, False, True, False]


def start_time(url: str) -> float | None:
    """As its metrics page tells it, like prometheus_client's."""
    families = text_string_to_metric_families(httpx.get(url + "/metrics").text)
    samples = [s for family in families for s in family.samples if s.name == "process_start_time_seconds"]
    assert all(not sample.labels for sample in samples)
    return samples[0].value if samples else None


def test_a_reset_of_the_prefix_cache_is_no_restart() -> None:
    before = time.time()
    with serving() as fleet:
        started = start_time(fleet.url)
        assert started is not None
        assert before <= started <= time.time()
        assert httpx.post(fleet.url + "/reset_prefix_cache").status_code == 200
        assert start_time(fleet.url) == started


def test_the_official_openai_client_reads_plain_and_streamed_answers(served: Served) -> None:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=served.url + "/v1", api_key="none") as client:
        messages = [{"role": "user", "content": "openai client"}]
        whole = client.chat.completions.create(model="llama-3.1-8b", messages=messages, max_tokens=7)
        stream = client.chat.completions.create(
            model="llama-3.1-8b", messages=messages, max_tokens=7, stream=True
        )
        parts = [chunk.choices[0].delta.content for chunk in stream]
        assert "".join(parts) == whole.choices[0].message.content
        response = client.responses.create(model="llama-3.1-8b", input="openai client", max_output_tokens=5)
        assert response.usage.output_tokens == 5
        with client.responses.stream(
            model="llama-3.1-8b", input="openai client", max_output_tokens=5
        ) as events:
            assert events.get_final_response().output_text == response.output_text
        vector = client.embeddings.create(model="llama-3.1-8b", input="openai client", dimensions=8)
        assert len(vector.data[0].embedding) == 8


def test_the_official_anthropic_client_reads_plain_and_streamed_answers(served: Served) -> None:
    anthropic = pytest.importorskip("anthropic")
    with anthropic.Anthropic(base_url=served.url, api_key="none") as client:
        asked = {"model": "llama-3.1-8b", "max_tokens": 7}
        asked["messages"] = [{"role": "user", "content": "anthropic client"}]
        whole = client.messages.create(**asked)
        assert whole.usage.output_tokens == 7
        with client.messages.stream(**asked) as stream:
            assert stream.get_final_text() == whole.content[0].text


def test_an_sglang_engine_has_sglangs_operator_endpoints() -> None:
    with serving("--engine", "sglang", "--kv-tokens", "32768", "--model", "m") as fleet:
        assert httpx.get(fleet.url + "/server_info").json()["max_total_num_tokens"] == 32_768
        assert httpx.get(fleet.url + "/load").status_code == 404
        loads = httpx.get(fleet.url + "/v1/loads").json()["loads"]
        assert (loads[0]["num_running_reqs"], loads[0]["max_total_num_tokens"]) == (0, 32_768)
        assert loads[0]["num_waiting_uncached_tokens"] == 0
        other_name = httpx.post(fleet.url + "/v1/completions", json={"prompt": "a", "model": "x"})
        assert other_name.status_code == 200
        assert "sglang:num_running_reqs{" in httpx.get(fleet.url + "/metrics").text

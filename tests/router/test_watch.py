"""What engines tell is read; what they babble is survived."""

from __future__ import annotations

import gzip
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from live.polling import eventually
from live.processes import Router, StartEngines, StartRouter
from warmroute.config import Settings
from warmroute.config.backends import Backend
from warmroute.engines import (
    MODELS_MAX,
    KvCache,
    Learned,
    has_restarted,
    learned_spec,
    read_metrics,
    read_models,
    read_server_info,
    read_start_time,
)
from warmroute_policies.resilience import Checks

SAMPLES = Path(__file__).parents[3] / "shared" / "engines" / "samples"

VLLM = (
    '# TYPE vllm:cache_config_info gauge\nvllm:cache_config_info{block_size="16",cache_dtype="auto",'
    'engine="0",note="a \\"quoted\\" word",num_gpu_blocks="1000",%s} 1.0\n'
    'vllm:num_requests_running{engine="0"} 3.0\n'
)


# --- readers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vllm_metrics.txt.gz", KvCache("vllm", 1_048_576, 32)),
        ("sglang_metrics.txt.gz", KvCache("sglang", 32_768, 16)),
    ],
)
def test_the_pages_of_real_engines_are_read(name: str, expected: KvCache) -> None:
    if not (SAMPLES / name).exists():
        pytest.skip(f"no recorded page at {SAMPLES / name}")
    assert read_metrics(gzip.decompress((SAMPLES / name).read_bytes()).decode()) == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("vllm_metrics.txt.gz", 1_795_145_039.43), ("sglang_metrics.txt.gz", None)]
)
def test_vllm_tells_when_its_process_started_and_sglang_does_not(name: str, expected: float | None) -> None:
    if not (SAMPLES / name).exists():
        pytest.skip(f"no recorded page at {SAMPLES / name}")
    assert read_start_time(gzip.decompress((SAMPLES / name).read_bytes()).decode()) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("process_start_time_seconds 1.79514503943e+09\n", 1_795_145_039.43),
        ("a 1\nprocess_start_time_seconds 5 1795145039000\nb 2", 5.0),
        ("# TYPE process_start_time_seconds gauge\n", None),
        ('process_start_time_seconds{instance="another"} 5\n', None),
        ("sglang:process_start_time_seconds 5\n", None),
        *((f"process_start_time_seconds {odd}\n", None) for odd in ("", "0", "-5", "NaN", "+Inf", "noon")),
    ],
)
def test_a_start_time_is_read_where_it_stands_for_the_process_itself(
    text: str, expected: float | None
) -> None:
    assert read_start_time(text) == expected


@pytest.mark.parametrize(
    ("before_s", "now_s", "restarted"),
    [(50.0, 51.0, False), (50.0, 51.1, True), (50.0, 48.9, False), (None, 50.0, False), (50.0, None, False)],
)
def test_a_start_time_more_than_a_second_later_is_another_processs(
    before_s: float | None, now_s: float | None, restarted: bool
) -> None:
    assert has_restarted(before_s, now_s) is restarted


def test_vllm_tells_tokens_or_blocks() -> None:
    assert read_metrics(VLLM % 'kv_cache_size_tokens="15984"') == KvCache("vllm", 15_984, 16)
    assert read_metrics(VLLM % 'kv_cache_size_tokens="None"') == KvCache("vllm", 16_000, 16)
    assert read_metrics(VLLM % "") == KvCache("vllm", 16_000, 16)
    untold = (VLLM % "").replace('num_gpu_blocks="1000"', 'num_gpu_blocks="None"')
    assert read_metrics(untold) == KvCache("vllm", None, 16)


def test_the_caches_of_data_parallel_ranks_add_up() -> None:
    second = (VLLM % "").replace('engine="0"', 'engine="1"')
    assert read_metrics((VLLM % "") + second) == KvCache("vllm", 32_000, 16)
    sglang = "".join(
        f'sglang:max_total_num_tokens{{dp_rank="{dp}",tp_rank="{tp}"}} 5000.0\n'
        for dp in "01"
        for tp in "0123"
    )
    assert read_metrics(sglang) == KvCache("sglang", 10_000, None)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"max_total_num_tokens": 5000, "page_size": 16}, KvCache("sglang", 5000, 16)),
        ({"max_total_num_tokens": 5000, "page_size": 1, "dp_size": 2}, KvCache("sglang", 10_000, 1)),
        (
            {"page_size": 1, "internal_states": [{"max_total_num_tokens": 70}, {"max_total_num_tokens": 30}]},
            KvCache("sglang", 100, 1),
        ),
        ({"max_total_num_tokens": None, "page_size": 16}, None),
        ({"vllm_config": "a long text"}, None),
        ([], None),
        ("5000", None),
    ],
)
def test_sglang_tells_on_top_or_by_rank(document: Any, expected: KvCache | None) -> None:
    assert read_server_info(json.dumps(document).encode()) == expected


@pytest.mark.parametrize("value", ["0", "-16", "1e400", "nan", "inf", "None", "", "16.5", "true", "1" * 40])
def test_a_number_that_cannot_be_a_capacity_is_not_told(value: str) -> None:
    told = read_metrics(f'vllm:cache_config_info{{engine="0",kv_cache_size_tokens="{value}"}} 1')
    assert told == KvCache("vllm", None, None)


def test_models_are_read_once_each_and_up_to_a_limit() -> None:
    cards = [{"id": "a", "max_model_len": 5}, {"id": "a"}, {"id": ""}, {"id": 7}, {}, "b", {"id": "b"}]
    assert read_models(json.dumps({"data": cards}).encode()) == ({"id": "a", "max_model_len": 5}, {"id": "b"})
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    assert read_models(json.dumps({"data": [{"id": "a", "x": deep}]}).encode()) == ({"id": "a"},)
    many = [{"id": f"adapter-{number}"} for number in range(MODELS_MAX + 50)]
    assert len(read_models(json.dumps({"data": many}).encode())) == MODELS_MAX
    for odd in (b"", b"[]", b"{}", b'{"data": 5}', b"<html>", b"\xff\xfe"):
        with pytest.raises(ValueError, match=r"JSON|models"):
            read_models(odd)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: (VLLM % text).encode()))
def test_no_answer_breaks_a_reader(body: bytes) -> None:
    cache = read_metrics(body.decode("utf-8", "replace"))
    assert cache is None or cache.capacity_tokens is None or cache.capacity_tokens >= 1
    assert read_server_info(body) is None
    assert read_start_time(body.decode("utf-8", "replace")) is None
    with suppress(ValueError):
        read_models(body)


def test_what_the_operator_gave_wins_over_what_the_engine_told() -> None:
    told = Learned(({"id": "told"},), KvCache("vllm", 9000, 32))
    settings = Settings(kv_capacity_tokens=7000)
    plain = learned_spec(Backend(url="http://a:1"), told, settings)
    assert (plain.models, plain.kv_capacity_tokens, plain.engine_block_tokens) == (("told",), 9000, 32)
    given_both = Backend(url="http://a:1", model=("given",), kv_capacity_tokens=5000)
    spec = learned_spec(given_both, told, settings)
    assert (spec.models, spec.kv_capacity_tokens, spec.engine_block_tokens) == (("given",), 5000, 32)
    silent = learned_spec(Backend(url="http://a:1"), Learned((), KvCache("vllm", None, None)), settings)
    assert (silent.models, silent.kv_capacity_tokens, silent.engine_block_tokens) == ((), 7000, 16)


# --- rise and fall ----------------------------------------------------------------------------------


def verdicts(checks: Checks, course: str) -> str:
    return "".join(
        "+" if checks.seen(None if sign == "+" else "down", now) else "-" for now, sign in enumerate(course)
    )


@pytest.mark.parametrize(
    ("course", "expected"),
    [
        ("+--+--+", "+++++++"),  # outliers are ridden out
        ("+---", "+++-"),
        ("+---+-++", "+++----+"),
        ("-+", "-+"),  # it was never well: the first good check decides
        ("---+---", "---+++-"),
    ],
)
def test_rise_and_fall_decide_in_a_row(course: str, expected: str) -> None:
    assert verdicts(Checks(rise=2, fall=3), course) == expected


def test_a_verdict_changes_only_after_a_run_of_checks() -> None:
    for seed in range(50):
        chance = random.Random(seed)
        rise, fall = chance.randint(1, 4), chance.randint(1, 4)
        course = "+" + "".join(chance.choice("+-") for _ in range(100))
        given_verdicts = verdicts(Checks(rise, fall), course)
        for place in range(1, len(course)):
            if given_verdicts[place] != given_verdicts[place - 1]:
                need = rise if given_verdicts[place] == "+" else fall
                run = course[place - need + 1 : place + 1]
                assert run == given_verdicts[place] * need, f"seed {seed}, check {place}"


# --- a watch that is lied to ------------------------------------------------------------------------

Pages = dict[str, Callable[[BaseHTTPRequestHandler], None]]


def page(body: bytes, status: int = 200) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@contextmanager
def worker_with(pages: Pages) -> Iterator[str]:
    """An engine that answers these paths, and 404 else; `pages` may change while it runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(OSError):  # the router does not wait for an endless answer
                pages.get(self.path, page(b"", 404))(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def worker_of(router: Router) -> dict[str, Any]:
    [worker] = httpx.get(f"{router.url}/workers", trust_env=False).json()["workers"]
    assert isinstance(worker, dict)
    return worker


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"vllm:nothing 0\n" * 4096)


def not_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x00\x01\x02 this is no HTTP\r\n\r\n")


@pytest.mark.parametrize(
    "odd",
    [
        page(b"{"),
        page(b"[" * 100_000),
        page(b'{"a": "\xff"}'),
        page(b"[1,2]"),
        page(b"\xff" * 1000),
        page(b"", 500),
        page(b"", 401),
        endless,
        not_http,
    ],
    ids=["half", "brackets", "not-utf-8", "list", "binary", "500", "401", "endless", "no-http"],
)
def test_odd_answers_are_logged_once_and_the_worker_serves(
    start_router: StartRouter, odd: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    pages = {"/health": page(b""), "/v1/models": odd, "/metrics": odd, "/server_info": odd}
    with worker_with(pages) as url:
        router = start_router(url)
        worker = worker_of(router)
        assert worker["healthy"] is True
        assert worker["models"] == []
        assert worker["kv_capacity_tokens"] is None, "nothing is guessed"

        def checked_again() -> bool:
            return bool(worker_of(router)["last_check"]["ago_s"] < worker["last_check"]["ago_s"])

        eventually(checked_again, "it is still being checked")
        warnings = [line for line in router.lines() if line["level"] == "warning"]
    assert len(warnings) == 2, warnings
    assert {line["worker"] for line in warnings} == {url}


def test_a_worker_that_came_back_as_another_is_asked_anew(
    start_engines: StartEngines, start_router: StartRouter
) -> None:
    alpha = start_engines(1, "--model", "alpha", "--kv-tokens", "32768")
    router = start_router(*alpha.urls)
    assert worker_of(router)["models"] == ["alpha"]
    alpha.kill()
    eventually(lambda: not worker_of(router)["healthy"], "its end is noticed")
    port = httpx.URL(alpha.urls[0]).port or 0
    start_engines(1, "--model", "beta", "--kv-tokens", "16384", port=port)
    worker = eventually(lambda: (seen := worker_of(router))["healthy"] and seen, "it is back")
    assert worker["models"] == ["beta"]
    assert worker["kv_capacity_tokens"] == 16384


CHAT = {
    "model": "llama-3.1-8b",
    "messages": [{"role": "user", "content": "why is the sky blue? " * 400}],
    "max_tokens": 4,
}


def predicted_hit_tokens(router: Router) -> int:
    """Sends the prompt, and says what the router believed of it."""
    answer = httpx.post(f"{router.url}/v1/chat/completions", json=CHAT, trust_env=False, timeout=20)
    assert answer.status_code == 200, answer.text
    return int(answer.headers["x-router-predicted-hit-tokens"])


def restarts(router: Router, url: str) -> float:
    """As its metrics say."""
    text = httpx.get(f"{router.url}/metrics", trust_env=False).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "router_worker_restarts_total" and sample.labels == {"worker": url}
    )


def test_the_cache_of_an_engine_that_restarted_is_not_believed_in(
    start_engines: StartEngines, start_router: StartRouter
) -> None:
    engines = start_engines()
    [url] = engines.urls
    router = start_router(url)
    assert [predicted_hit_tokens(router) > 0 for _ in range(3)] == [False, True, True]
    began_s = read_start_time(httpx.get(f"{url}/metrics", trust_env=False).text)
    assert began_s is not None
    engines.kill()
    eventually(lambda: not worker_of(router)["healthy"], "its end is noticed")
    # Start times within a second are one process.
    eventually(lambda: time.time() > began_s + 1.1, "the clock goes on")
    start_engines(port=httpx.URL(url).port or 0)
    eventually(lambda: worker_of(router)["healthy"], "it is back")
    assert restarts(router, url) == 1
    assert predicted_hit_tokens(router) == 0
    assert router.messages().count("worker restarted") == 1
    eventually(lambda: predicted_hit_tokens(router) > 0, "its new cache is believed in")
    assert restarts(router, url) == 1


def test_a_check_that_failed_once_is_reason_enough_to_ask_for_the_start_time(
    start_router: StartRouter,
) -> None:
    def metrics(start_s: float) -> Callable[[BaseHTTPRequestHandler], None]:
        return page(f"process_start_time_seconds {start_s}\n".encode())

    pages = {"/health": page(b""), "/metrics": metrics(1000.0)}
    with worker_with(pages) as url:
        router = start_router(url, flags=("--health-fall", "1000000"))
        pages["/metrics"] = metrics(1000.9)
        pages["/health"] = page(b"", 503)
        eventually(lambda: worker_of(router)["last_check"]["why"], "a check failed")
        pages["/health"] = page(b"")
        eventually(lambda: worker_of(router)["last_check"]["why"] is None, "a check passed")
        assert restarts(router, url) == 0, "less than a second apart"
        pages["/metrics"] = metrics(1060.0)
        pages["/health"] = page(b"", 503)
        eventually(lambda: worker_of(router)["last_check"]["why"], "a check failed")
        pages["/health"] = page(b"")
        eventually(lambda: restarts(router, url) == 1, "the restart is noticed")
        assert worker_of(router)["healthy"] is True
    assert "worker unhealthy" not in router.messages()


def test_a_health_check_that_fails_says_why(start_router: StartRouter) -> None:
    pages = {"/health": page(b"", 503)}
    with worker_with(pages) as url:
        router = start_router(url)
        worker = worker_of(router)
        assert worker["status"] == "unhealthy"
        assert worker["last_check"]["why"] == "GET /health answered 503"
        pages["/health"] = page(b"")
        eventually(lambda: worker_of(router)["healthy"], "it recovers")
    assert [line["why"] for line in router.lines() if line["message"] == "worker unhealthy"] == [
        "GET /health answered 503"
    ]


def test_a_worker_that_takes_connections_and_never_answers_delays_the_start_by_one_timeout(
    start_router: StartRouter,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        router = start_router(url, flags=("--health-timeout-s", "0.3"))
        assert worker_of(router)["last_check"]["why"] == "GET /health was not answered in time"


def test_models_are_not_asked_for_where_they_are_given_or_discovery_is_off(
    start_engines: StartEngines, start_router: StartRouter
) -> None:
    engines = start_engines(2)
    given_url, other = engines.urls
    router = start_router(f"{given_url},model=llama-3.1-8b", other, flags=("--no-model-discovery",))
    workers = httpx.get(f"{router.url}/workers", trust_env=False).json()["workers"]
    assert [worker["models"] for worker in workers] == [["llama-3.1-8b"], []]
    listed = httpx.get(f"{router.url}/v1/models", trust_env=False).json()["data"]
    assert [(model["id"], model["owned_by"]) for model in listed] == [("llama-3.1-8b", "warmroute")]

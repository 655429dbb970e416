"""Health, readiness, models, metrics and errors of a running router."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from live.polling import eventually
from live.processes import Engines, Router, StartEngines, StartRouter

CHAT = {"model": "llama-3.1-8b", "messages": [{"role": "user", "content": "why is the sky blue? " * 200}]}

# DESIGN of the metrics: names that dashboards and alerts rely on.
DOCUMENTED = {
    "router_requests_total": {"model", "worker", "policy", "outcome"},
    "router_prompt_tokens_total": {"model", "worker"},
    "router_predicted_hit_tokens_total": {"model", "worker"},
    "router_actual_hit_tokens_total": {"model", "worker"},
    "router_ttft_seconds_bucket": {"model", "worker", "le"},
    "router_inter_token_seconds_bucket": {"model", "worker", "le"},
    "router_request_duration_seconds_bucket": {"model", "worker", "le"},
    "router_decision_seconds_bucket": {"le"},
    "router_decisions_total": {"policy", "reason"},
    "router_worker_inflight_requests": {"worker"},
    "router_worker_queued_prefill_seconds": {"worker"},
    "router_worker_health": {"worker"},
    "router_index_blocks": set(),
    "router_index_bytes": set(),
    "router_worker_believed_kv_capacity_tokens": {"worker"},
    "router_loop_lag_seconds_bucket": {"le"},
}


@pytest.fixture
def client(router: Router) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=router.url, timeout=20, trust_env=False) as client:
        yield client


def error_of(answer: httpx.Response) -> dict[str, str]:
    error: dict[str, str] = answer.json()["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return error


@pytest.mark.parametrize("path", ["/health", "/liveness"])
def test_it_is_alive_without_any_worker(start_router: StartRouter, path: str) -> None:
    router = start_router()
    for method in ("GET", "HEAD"):
        assert httpx.request(method, router.url + path, trust_env=False).status_code == 200
    readiness = httpx.get(f"{router.url}/readiness", trust_env=False)
    assert readiness.status_code == 503
    assert readiness.json()["status"] == "not ready"
    assert readiness.json()["reason"] == "there are no workers"


def test_readiness_follows_the_last_worker_down_and_up_again(
    start_engines: StartEngines, start_router: StartRouter
) -> None:
    engines = start_engines()
    router = start_router(*engines.urls)

    def readiness() -> httpx.Response:
        return httpx.get(f"{router.url}/readiness", trust_env=False)

    assert readiness().json() == {"status": "ready", "healthy_workers": 1, "total_workers": 1}
    engines.kill()
    eventually(lambda: readiness().status_code == 503, "the router is not ready")
    assert "none of the 1 workers" in readiness().json()["reason"]
    refused = httpx.post(f"{router.url}/v1/chat/completions", json=CHAT, trust_env=False)
    assert refused.status_code == 503
    assert "retry-after" in refused.headers
    start_engines(port=httpx.URL(engines.urls[0]).port or 0)
    eventually(lambda: readiness().status_code == 200, "the router is ready again")
    assert httpx.post(f"{router.url}/v1/chat/completions", json=CHAT, trust_env=False).status_code == 200


def test_a_worker_that_is_down_at_the_start_is_not_trusted_until_it_is_up(
    start_engines: StartEngines, start_router: StartRouter
) -> None:
    gone = start_engines()
    gone.kill()
    router = start_router(*gone.urls)
    assert httpx.get(f"{router.url}/readiness", trust_env=False).status_code == 503
    start_engines(port=httpx.URL(gone.urls[0]).port or 0)
    eventually(
        lambda: httpx.get(f"{router.url}/readiness", trust_env=False).status_code == 200, "it is found"
    )
    [worker] = httpx.get(f"{router.url}/workers", trust_env=False).json()["workers"]
    assert worker["models"] == ["llama-3.1-8b"], "its models were asked for before it was trusted"


def test_the_models_of_all_workers_are_one_list(
    start_engines: StartEngines, start_router: StartRouter
) -> None:
    alpha, beta = start_engines(2, "--model", "org/alpha"), start_engines(1, "--model", "beta")
    router = start_router(*alpha.urls, *beta.urls)
    listed = httpx.get(f"{router.url}/v1/models", trust_env=False).json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["org/alpha", "beta"]
    assert {model["owned_by"] for model in listed["data"]} == {"vllm"}
    one = httpx.get(f"{router.url}/v1/models/org/alpha", trust_env=False)
    assert one.status_code == 200
    assert one.json() == listed["data"][0]

    for model, urls in (("org/alpha", alpha.urls), ("beta", beta.urls)):
        answer = httpx.post(
            f"{router.url}/v1/chat/completions", json=CHAT | {"model": model}, trust_env=False
        )
        assert answer.headers["x-router-worker"] in urls


def test_an_unknown_model_is_answered_404_with_the_known_names(client: httpx.Client) -> None:
    for answer in (
        client.get("/v1/models/gpt-5"),
        client.post("/v1/chat/completions", json=CHAT | {"model": "gpt-5"}),
        client.post("/route", json=CHAT | {"model": "gpt-5"}),
    ):
        assert answer.status_code == 404
        error = error_of(answer)
        assert error["code"] == "model_not_found"
        assert error["param"] == "model"
        assert "llama-3.1-8b" in error["message"]


def test_a_model_whose_workers_are_away_is_not_listed_and_not_unknown(
    start_engines: StartEngines, start_router: StartRouter
) -> None:
    alpha, beta = start_engines(1, "--model", "alpha"), start_engines(1, "--model", "beta")
    router = start_router(*alpha.urls, *beta.urls)
    beta.kill()

    def names() -> list[str]:
        return [model["id"] for model in httpx.get(f"{router.url}/v1/models", trust_env=False).json()["data"]]

    eventually(lambda: names() == ["alpha"], "beta is off the list")
    answer = httpx.get(f"{router.url}/v1/models/beta", trust_env=False)
    assert answer.status_code == 503
    assert error_of(answer)["code"] == "no_worker"


def test_every_documented_metric_is_there_after_one_request(client: httpx.Client) -> None:
    assert (
        client.post("/v1/chat/completions", json=CHAT | {"stream": True, "max_tokens": 8}).status_code == 200
    )

    def samples() -> dict[str, set[str]]:
        families = text_string_to_metric_families(client.get("/metrics").text)
        return {sample.name: set(sample.labels) for family in families for sample in family.samples}

    found = samples()
    assert {name: found.get(name) for name in DOCUMENTED} == DOCUMENTED
    assert {"process_resident_memory_bytes", "python_info", "python_gc_collections_total"} <= found.keys()


def test_the_metrics_count_what_was_sent(client: httpx.Client) -> None:
    answers = [client.post("/v1/chat/completions", json=CHAT | {"max_tokens": 4}) for _ in range(3)]
    usage = answers[-1].json()["usage"]

    def value(name: str) -> float:
        families = text_string_to_metric_families(client.get("/metrics").text)
        return sum(s.value for family in families for s in family.samples if s.name == name)

    assert value("router_requests_total") == 3
    assert value("router_prompt_tokens_total") == 3 * usage["prompt_tokens"]
    assert value("router_actual_hit_tokens_total") == 2 * usage["prompt_tokens_details"]["cached_tokens"] > 0
    assert value("router_worker_inflight_requests") == 0


def test_the_metrics_page_is_openmetrics_for_those_who_ask(client: httpx.Client) -> None:
    client.post("/v1/chat/completions", json=CHAT)
    page = client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert page.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in openmetrics.text_string_to_metric_families(page.text)}  # type: ignore[no-untyped-call]
    assert "router_requests" in names


def test_an_unknown_url_is_named(client: httpx.Client) -> None:
    answer = client.get("/v2/nothing?x=1")
    assert answer.status_code == 404
    assert error_of(answer)["code"] == "unknown_url"
    assert "GET /v2/nothing" in error_of(answer)["message"]
    hint = error_of(client.post("/chat/completions", json=CHAT))
    assert "did you mean /v1/chat/completions" in hint["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/generate"])
def test_an_inference_endpoint_knows_only_post(client: httpx.Client, path: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = client.request(method, path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
        assert error_of(answer)["code"] == "method_not_allowed"


def test_the_wrong_method_on_a_control_endpoint_is_405(client: httpx.Client) -> None:
    answer = client.put("/policy", json={})
    assert answer.status_code == 405
    assert "/policy does not know PUT, it knows GET, POST" in error_of(answer)["message"]
    for path, methods in (
        ("/workers", "GET, PATCH, POST, PUT"),
        ("/workers/http://h:1", "DELETE, GET, PATCH"),
        ("/flush_cache", "GET, POST"),
        ("/metrics", "GET"),
    ):
        answer = client.request("TRACE", path)
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)


def test_the_api_describes_itself(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    assert {"/health", "/readiness", "/metrics", "/workers", "/route", "/v1/models"} <= described[
        "paths"
    ].keys()
    assert client.get("/docs").status_code == 200


def test_a_dry_run_books_and_sends_nothing(client: httpx.Client, engines: Engines) -> None:
    first = client.post("/v1/chat/completions", json=CHAT)
    before = [engines.state(index)["totals"]["requests"] for index in range(2)]
    planned = client.post("/route", json=CHAT)
    assert planned.status_code == 200
    plan = planned.json()
    assert plan["worker"] == first.headers["x-router-worker"], "its prefix is warm there"
    assert plan["policy"] == "cache_aware"
    costs = {cost["worker"]: cost for cost in plan["costs"]}
    assert set(costs) == set(engines.urls)
    assert costs[plan["worker"]]["predicted_hit_tokens"] == plan["predicted_hit_tokens"] > 0
    assert min(costs, key=lambda worker: costs[worker]["total_s"]) == plan["worker"]
    assert 0 < plan["predicted_hit_tokens"] < plan["prompt_tokens"]
    assert [engines.state(index)["totals"]["requests"] for index in range(2)] == before
    assert {worker["inflight_requests"] for worker in client.get("/workers").json()["workers"]} == {0}
    again = client.post("/route", json=CHAT).json()
    assert again["costs"] == plan["costs"], "asking changed nothing"


def test_a_dry_run_reads_the_dialect_of_its_path(client: httpx.Client) -> None:
    body = {"model": "llama-3.1-8b", "prompt": "x" * 4096}
    plan = client.post("/route", params={"path": "/v1/completions"}, json=body).json()
    assert plan["prompt_blocks"] == 8
    assert client.post("/route", params={"path": "/nowhere"}, json=body).status_code == 400
    assert error_of(client.post("/route", content=b"[1"))["code"] == "invalid_json"


def test_the_debug_page_shows_requests_in_progress_and_no_secret(
    start_engines: StartEngines, start_router: StartRouter
) -> None:
    engines = start_engines()
    engines.fault(0, "hang")
    router = start_router(
        *engines.urls, flags=("--api-key", "client-secret", "--admin-api-key", "admin-secret")
    )
    client = {"authorization": "Bearer client-secret"}
    admin = {"authorization": "Bearer admin-secret"}
    with httpx.Client(base_url=router.url, trust_env=False) as http:

        def state() -> dict[str, object]:
            answer = http.get("/debug/state", headers=admin)
            assert "secret" not in answer.text
            document: dict[str, object] = answer.json()
            return document

        with pytest.raises(httpx.ReadTimeout):
            http.post(
                "/v1/chat/completions", json=CHAT, headers=client, timeout=httpx.Timeout(20.0, read=0.5)
            )
        eventually(
            lambda: state()["exchanges"] == {"total": 0, "oldest": []}, "the client's leaving ended it"
        )
        document = state()
    assert document["settings"]["api_key"] == ["********"]  # type: ignore[index]
    assert document["policy"] == "cache_aware"
    assert document["versions"]["warmroute"]  # type: ignore[index]

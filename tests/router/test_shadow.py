"""Shadow policies: they decide beside the policy, are counted, and can do no harm."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from live.front import CHAT_PATH
from live.processes import Router, StartEngines, StartRouter
from warmroute.shadow import Shadow
from warmroute_policies.balancer import Balancer
from warmroute_policies.config import BalancerConfig
from warmroute_policies.registry import make_policy
from warmroute_policies.types import LoadReport, WorkerSpec

MODEL = "m"


def counted(router: Router, name: str, **labels: str) -> float:
    page = httpx.get(f"{router.url}/metrics", trust_env=False).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def turn(router: Router, conversation: int, length: int, **more: Any) -> httpx.Response:
    """The next turn of a conversation that grows by 2 KB each time."""
    said = [f"conversation {conversation} turn {number} " * 80 for number in range(length)]
    messages = [{"role": "user", "content": text} for text in said]
    body = {"model": MODEL, "max_tokens": 4, "messages": messages} | more
    answer = httpx.post(f"{router.url}{CHAT_PATH}", json=body, trust_env=False, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer


def converse(router: Router, conversations: int = 5, turns: int = 4) -> None:
    for length in range(1, turns + 1):
        for conversation in range(conversations):
            turn(router, conversation, length, stream=bool(conversation % 2))


@pytest.fixture
def shadowed(start_engines: StartEngines, start_router: StartRouter) -> Router:
    engines = start_engines(3, "--model", MODEL)
    flags = ("--policy", "cache_aware", "--shadow-policy", "cache_aware,round_robin")
    return start_router(*engines.urls, flags=flags)


def test_a_shadow_of_the_same_policy_agrees_and_one_that_scatters_hits_less(shadowed: Router) -> None:
    converse(shadowed)
    for policy in ("cache_aware", "round_robin"):
        assert counted(shadowed, "router_shadow_decisions_total", policy=policy) == 20
    same = counted(shadowed, "router_shadow_decisions_total", policy="cache_aware", agreed="true")
    assert same >= 16, "the same rule on the same traffic; its ties may fall otherwise"
    hit = {
        policy: counted(shadowed, "router_shadow_predicted_hit_tokens_total", policy=policy)
        for policy in ("cache_aware", "round_robin")
    }
    assert hit["cache_aware"] > 2 * hit["round_robin"]
    live = counted(shadowed, "router_predicted_hit_tokens_total")
    assert hit["cache_aware"] == pytest.approx(live, rel=0.1)


def test_when_all_requests_have_ended_a_shadow_has_nothing_in_flight(shadowed: Router) -> None:
    converse(shadowed, conversations=3, turns=2)
    for name in ("router_shadow_worker_inflight_requests", "router_shadow_worker_queued_prefill_seconds"):
        assert counted(shadowed, name) == 0
    assert counted(shadowed, "router_shadow_failures_total") == 0


def test_shadows_follow_workers_that_come_drain_and_go(
    start_engines: StartEngines, start_router: StartRouter
) -> None:
    engines = start_engines(2, "--model", MODEL)
    router = start_router(engines.urls[0], flags=("--shadow-policy", "least_requests"))
    with httpx.Client(base_url=router.url, trust_env=False) as client:
        client.post("/workers", json={"url": engines.urls[1]}).raise_for_status()
        converse(router, conversations=4, turns=1)
        page = client.get("/metrics").text
        for url in engines.urls:
            labels = f'policy="least_requests",worker="{url}"'
            assert f"router_shadow_worker_inflight_requests{{{labels}}} 0" in page
        name = engines.urls[0].removeprefix("http://")
        client.patch(f"/workers/{name}", json={"draining": True}).raise_for_status()
        before = counted(router, "router_shadow_decisions_total")
        turn(router, 1, 2)
        assert counted(router, "router_shadow_decisions_total", agreed="true") >= 1
        assert counted(router, "router_shadow_decisions_total") == before + 1
        client.delete(f"/workers/{name}?drain=false").raise_for_status()
        turn(router, 2, 2)
        assert engines.urls[0] not in client.get("/metrics").text


def test_a_shadow_that_breaks_ends_itself_and_costs_no_request(
    start_engines: StartEngines, start_router: StartRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
    engines = start_engines(1, "--model", MODEL)
    broken = "live.broken_policy:Broken"
    router = start_router(*engines.urls, flags=("--shadow-policy", broken), tolerant=True)
    converse(router, conversations=2, turns=2)
    assert counted(router, "router_shadow_failures_total", policy=broken) == 1
    assert "the shadow policy failed and decides no more" in router.messages()
    assert counted(router, "router_requests_total", outcome="ok") == 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--shadow-policy", "round_robin,no_such"), "no policy `no_such`"),
        (("--shadow-policy", "random,random"), "listed twice"),
        (("--shadow-policy", "a,b,c,d,e"), "at most 4 policies"),
        (("--shadow-policy", "cache_aware:miss_price=x"), "miss_price"),
    ],
)
def test_a_shadow_that_cannot_be_made_is_refused_at_the_start(
    start_router: StartRouter, flags: tuple[str, ...], message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        start_router("http://127.0.0.1:9", flags=flags)


def test_a_shadow_sees_what_others_have_on_the_workers() -> None:
    live = Balancer(make_policy("least_requests"), BalancerConfig(load_smoothing_s=0.0))
    shadow = Shadow("round_robin", make_policy("round_robin"), live)
    for worker in ("w0", "w1"):
        live.add_worker(WorkerSpec(worker), 0.0)
        shadow.follow(worker, 0.0)
    for now, requests in ((1.0, 0), (2.0, 6)):
        live.report_load("w0", LoadReport(requests, 0, 500), now, now)
    shadow.tick(3.0)
    own = shadow._balancer.fleet
    assert (own.inflight, own.queued_tokens) == ([6, 0], [500, 0])
    assert shadow.inflight() == {"w0": 0, "w1": 0}, "its own requests are none"

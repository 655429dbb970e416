"""Rate limits of tenants: who counts as one, what they may use, and what they are told beyond it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import openai
import pytest

from live.fake_worker import Call
from live.front import CHAT, Front, die
from warmroute.callers import ANYBODY, Callers, fingerprint
from warmroute.config import Settings, UsageError, load
from warmroute.config.sources import Given
from warmroute.wire.heads import read_head

StartFront = Callable[..., Front]

# A second's worth is the burst, so that a test may empty a bucket and no slow machine fills it meanwhile.
SLOW = ("--rate-limit-burst-s", "1")


def prompt_of(chars: int) -> object:
    return CHAT | {"messages": [{"role": "user", "content": "x" * chars}]}


def test_what_is_beyond_the_rate_is_answered_429_with_the_time_to_wait(start_front: StartFront) -> None:
    front = start_front("--rate-limit-requests-per-s", "0.1", "--rate-limit-burst-s", "20")
    assert [front.ask().status for _ in range(2)] == [200, 200]
    refused = front.ask()
    assert refused.status == 429
    error = refused.json()["error"]
    assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
    assert "0.1 requests per second" in error["message"]
    assert 7 <= int(refused.headers["retry-after"]) <= 10
    assert int(refused.headers["retry-after-ms"]) <= 10_000
    assert refused.headers["x-ratelimit-limit-requests"] == "6"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(front.calls) == 2
    assert front.counted("router_rate_limited_requests_total", tenant="other", limit="requests") == 1
    assert front.counted("router_refusals_total", code="rate_limit_exceeded") == 1
    front.wait_idle()


def test_the_official_client_takes_it_for_a_rate_limit(start_front: StartFront) -> None:
    front = start_front("--rate-limit-requests-per-s", "0.001", "--rate-limit-burst-s", "1000")
    front.ask(authorization="Bearer sk-1")
    client = openai.OpenAI(api_key="sk-1", base_url=f"{front.router.url}/v1", max_retries=0)
    with pytest.raises(openai.RateLimitError, match="requests per second is used up"):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])


def test_a_key_has_a_bucket_of_its_own_and_so_has_a_tenant_of_the_header(start_front: StartFront) -> None:
    flags = ("--rate-limit-requests-per-s", "0.001", "--rate-limit-burst-s", "1000")
    front = start_front(*flags, "--tenant-header", "x-team")
    asked = [
        front.ask(authorization="Bearer a"),
        front.ask(authorization="Bearer a"),
        front.ask(authorization="Bearer b"),
        front.ask(x_api_key="b"),
        front.ask(),
        front.ask(authorization="Bearer a", x_team="one"),
        front.ask(authorization="Bearer b", x_team="one"),
    ]
    assert [answer.status for answer in asked] == [200, 429, 200, 429, 200, 200, 429]


def test_named_tenants_have_limits_of_their_own(start_front: StartFront) -> None:
    key = f"key-{fingerprint('sk-big')}"
    front = start_front(
        "--rate-limit-requests-per-s", "0.001", "--rate-limit-burst-s", "1000",
        "--tenant", f"{key},requests_per_s=0.003", "key-0123456789ab,requests_per_s=inf",
    )  # fmt: skip
    answers = [front.ask(authorization="Bearer sk-big").status for _ in range(4)]
    assert answers == [200, 200, 200, 429]
    assert front.counted("router_rate_limited_requests_total", tenant=key) == 1
    assert front.counted("router_tenant_admitted_prompt_tokens_total", tenant=key) > 0


def test_prompt_tokens_are_counted_as_the_engine_counts_them(start_front: StartFront) -> None:
    def reports(call: Call) -> None:
        call.answer(json.dumps({"usage": {"prompt_tokens": 100, "completion_tokens": 1}}).encode())

    # The burst is 1728 tokens. Six thousand bytes are taken for 1500, and turn out to be 100.
    front = start_front("--rate-limit-prompt-tokens-per-s", "0.02", "--rate-limit-burst-s", "86400")
    front.script(reports)
    answers = [front.ask(prompt_of(6000)).status for _ in range(3)]
    assert answers == [200, 200, 200], "with the estimate alone the second one would be too much"
    front.script(lambda call: call.answer(b'{"usage": {"prompt_tokens": 30000, "completion_tokens": 1}}'))
    assert front.ask(prompt_of(100)).status == 200
    refused = front.ask(prompt_of(100))
    assert refused.status == 429
    assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
    assert front.counted("router_rate_limited_requests_total", limit="prompt_tokens") == 1


def test_embeddings_are_measured_by_their_bodies(start_front: StartFront) -> None:
    front = start_front("--rate-limit-prompt-tokens-per-s", "0.01", "--rate-limit-burst-s", "86400")
    body = {"model": "m", "input": "x" * 8000}
    assert [front.ask(body, "/v1/embeddings").status for _ in range(2)] == [200, 429]


def test_what_no_worker_took_costs_nothing(start_front: StartFront) -> None:
    front = start_front("--rate-limit-requests-per-s", "0.001", "--rate-limit-burst-s", "1000")
    front.workers[0].healthy = False
    path = f"/workers/127.0.0.1:{front.workers[0].port}"
    with front.connect() as connection:
        assert connection.ask("PATCH", path, {"draining": True}).status == 200
        assert [front.ask().status for _ in range(3)] == [503, 503, 503]
        assert connection.ask("PATCH", path, {"draining": False}).status == 200
        front.workers[0].healthy = True
    assert front.counted("router_refusals_total", code="rate_limit_exceeded") == 0


def test_a_request_that_its_worker_fails_is_paid_for(start_front: StartFront) -> None:
    front = start_front("--rate-limit-requests-per-s", "0.001", "--rate-limit-burst-s", "1000")
    front.script(die)
    assert [front.ask().status for _ in range(2)] == [502, 429]
    front.wait_idle()


def test_without_limits_nothing_is_admitted_and_nothing_is_counted(start_front: StartFront) -> None:
    front = start_front()
    assert front.ask().status == 200
    assert front.state()["admission"] is None
    assert front.counted("router_admitted_requests_total") == 0


# --- who counts as one tenant ---------------------------------------------------------------------


def caller(headers: str = "", **settings: object) -> tuple[str, int, float]:
    callers = Callers(Settings(**settings))  # type: ignore[arg-type]
    head = read_head(f"POST /v1/chat/completions HTTP/1.1\r\nhost: r\r\n{headers}\r\n".encode())
    found = callers.of(head)
    return found.tenant, callers.rank(found, 0), found.patience_s


def test_a_key_is_known_by_a_fingerprint_that_a_shell_can_make() -> None:
    # printf %s sk-secret | sha256sum | cut -c1-12
    assert caller("authorization: Bearer sk-secret\r\n")[0] == "key-746b4ad1ca91"
    assert caller("x-api-key: sk-secret\r\n")[0] == "key-746b4ad1ca91"
    assert caller()[0] == caller("authorization: Bearer \r\n")[0] == ANYBODY


def test_a_header_names_the_tenant_only_where_it_is_trusted() -> None:
    headers = "x-team: ops\r\nx-api-key: k\r\n"
    assert caller(headers)[0].startswith("key-")
    assert caller(headers, tenant_header="X-Team")[0] == "ops"
    assert caller("x-api-key: k\r\n", tenant_header="x-team")[0].startswith("key-")
    assert len(caller(f"x-team: {'n' * 5000}\r\n", tenant_header="x-team")[0]) < 64


@pytest.mark.parametrize("text", ["", "soon", "-1", "0", "nan"])
def test_a_deadline_that_is_none_is_none(text: str) -> None:
    assert caller(f"x-stainless-timeout: {text}\r\n")[2] == float("inf")


def test_the_highest_class_that_a_client_may_name_has_a_bound() -> None:
    high = "x-request-priority: high\r\n"
    assert [caller(high)[1], caller(high, priority_max="high")[1], caller(high, priority_max="low")[1]] == [
        1, 0, 2,
    ]  # fmt: skip


# --- what operators write -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("tenant", "acme,wait=2", "a tenant has no option 'wait'"),
        ("tenant", "acme,weight=0", "expected a number above 0"),
        ("tenant", "acme,weight", "got 'weight' behind the name"),
        ("tenant", "a b", None),
        ("tenant", "acme acme", "tenant acme is listed twice"),
        ("tenant", "ac/me", "expected NAME,option=value"),
        ("tenant", "acme,priority_max=urgent", "there is no class 'urgent' (known: high, default, low)"),
        ("tenant", "acme,weight=1,weight=2", "`weight` of tenant acme is given twice"),
        ("priority_class", "high", "expected NAME=WEIGHT, such as high=16, got 'high'"),
        ("priority_class", "high=-1 default=1", "expected a number above 0"),
        ("priority_class", "gold=3 silver=1", "there is no class 'default' (known: gold, silver)"),
        ("priority_class", "default=2 default=1", "class default is listed twice"),
        ("priority_max", "urgent", "there is no class 'urgent'"),
        ("max_inflight", "0", "expected a whole number, at least 1, got '0'"),
        ("max_inflight_per_worker", "-1", None),
        ("rate_limit_requests_per_s", "inf", "expected a number above 0, got 'inf'"),
    ],
)
def test_what_is_written_wrongly_is_said_in_one_line(name: str, value: str, problem: str | None) -> None:
    given = {name: Given(value, f"--{name}")}
    if problem is None:
        load(given)
        return
    with pytest.raises(UsageError) as raised:
        load(given)
    assert problem in str(raised.value)


def test_classes_may_have_other_names(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(
        "priority_class: [bronze=1, gold=10, silver=3]\npriority_default: silver\npriority_max: gold\n"
        "tenant: ['acme,weight=2,priority_max=gold', 'small,requests_per_s=1']\n"
    )
    callers = Callers(load({}, path).settings)
    assert callers.classes == ["gold", "silver", "bronze"]
    assert callers.default == 1
    assert callers.tenants["acme"].weight == 2.0

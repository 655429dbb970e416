"""The peers' command lines with the program's name changed, and their clients' calls."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import httpx
import pytest

from live.fake_worker import FakeWorker
from live.front import Front
from live.polling import PATIENCE_S, eventually
from live.processes import Router
from warmroute import cli
from warmroute.config import peers
from warmroute.config.flags import settled
from warmroute.config.sources import load

StartLike = Callable[..., Front]

SGLANG = (
    "--host 127.0.0.1 --policy round_robin --prometheus-host 127.0.0.1 --prometheus-port 0 --log-level info "
    "--retry-max-retries 3 --retry-initial-backoff-ms 10 --retry-max-backoff-ms 50 --cb-failure-threshold 2 "
    "--cb-success-threshold 1 --cb-timeout-duration-secs 2 --cb-window-duration-secs 10 "
    "--worker-startup-check-interval 1 --worker-startup-timeout-secs 600"
)
VLLM = (
    "--host 127.0.0.1 --policy round_robin --prometheus-host 127.0.0.1 --prometheus-port 0 --log-level info "
    "--intra-node-data-parallel-size 1 --health-check-interval-secs 60 --request-timeout-secs 600"
)
LINES = pytest.mark.parametrize(
    ("command", "line"),
    [(("launch",), SGLANG), (("serve",), SGLANG), ((), VLLM)],
    ids=["sglang-router launch", "launch_router", "vllm-router"],
)

COMPLETION = {"model": "test-model", "prompt": "x", "max_tokens": 1, "stream": False}


def client_of(router: Router) -> httpx.Client:
    return httpx.Client(base_url=router.url, trust_env=False, timeout=PATIENCE_S)


@LINES
def test_a_peers_command_line_serves_with_the_programs_name_changed(
    command: tuple[str, ...], line: str, start_like: StartLike
) -> None:
    front = start_like(line, command=command)
    with client_of(front.router) as client:
        seen = [client.post("/v1/completions", json=COMPLETION).json()["worker"] for _ in range(6)]
        assert sorted(set(seen)) == sorted(worker.url for worker in front.workers)
        chat = {"model": "test-model", "messages": [{"role": "user", "content": "hi"}]}
        assert client.post("/v1/chat/completions", json=chat).status_code == 200
        assert client.post("/generate", json={"text": "hi"}).status_code == 200
        assert client.get("/health").status_code == 200
        assert client.get("/readiness").status_code == 200
        ready = next(line for line in front.router.lines() if line["message"] == "router ready")
        page = httpx.get(ready["metrics_url"], trust_env=False, timeout=PATIENCE_S)
        assert "router_requests_total" in page.text


@LINES
def test_their_clients_add_list_and_remove_workers(
    command: tuple[str, ...], line: str, start_like: StartLike
) -> None:
    front = start_like(line, count=1, command=command)
    more = FakeWorker()
    try:
        with client_of(front.router) as client:
            assert client.post("/workers", json={"url": more.url}).is_success
            listed = client.get("/workers").json()["workers"]
            assert {worker["url"] for worker in listed} == {front.workers[0].url, more.url}

            def both_serve() -> bool:
                seen = {client.post("/v1/completions", json=COMPLETION).json()["worker"] for _ in range(4)}
                return seen == {front.workers[0].url, more.url}

            eventually(both_serve, "the worker that was added gets requests")
            assert client.delete(f"/workers/{quote(more.url, safe='')}").is_success
            eventually(lambda: len(client.get("/workers").json()["workers"]) == 1, "it is gone")
            more.calls.clear()
            for _ in range(6):
                assert client.post("/v1/completions", json=COMPLETION).status_code == 200
            assert more.calls == []
    finally:
        more.stop()


def test_a_router_without_workers_is_there_and_serves_those_that_are_added(start_like: StartLike) -> None:
    front = start_like("--policy round_robin", count=0)
    worker = FakeWorker()
    try:
        with client_of(front.router) as client:
            assert client.get("/health").status_code == 200
            assert client.get("/workers").json()["workers"] == []
            assert client.post("/v1/completions", json=COMPLETION).status_code == 503
            assert client.post("/workers", json={"url": worker.url}).is_success
            eventually(
                lambda: client.post("/v1/completions", json=COMPLETION).status_code == 200, "it serves"
            )
            assert client.delete(f"/workers/{quote(worker.url, safe='')}").is_success
            eventually(lambda: client.get("/workers").json()["workers"] == [], "it is gone")
            assert client.post("/v1/completions", json=COMPLETION).status_code == 503
    finally:
        worker.stop()


def test_a_refused_command_line_starts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["launch", "--pd-disaggregation", "--worker-urls", "http://gpu1:8000"]) == cli.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("router: error: --pd-disaggregation is a flag of sglang-router without a ")


def test_launch_listens_where_sglang_router_does_unless_somebody_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def listens(*words: str) -> tuple[str, str, int | None]:
        options = cli.settings_parser("serve").parse_words(words)
        settings = cli.resolve(options, peers.LAUNCH).settings
        return settings.host, settings.metrics_host, settings.metrics_port

    monkeypatch.delenv("ROUTER_METRICS_PORT", raising=False)
    assert listens() == ("0.0.0.0", "0.0.0.0", 29000)
    assert listens("--host", "::1", "--prometheus-port", "9000") == ("::1", "0.0.0.0", 9000)
    monkeypatch.setenv("ROUTER_METRICS_PORT", "9001")
    assert listens("--prometheus-host", "127.0.0.1") == ("0.0.0.0", "127.0.0.1", 29000)
    assert listens() == ("0.0.0.0", "0.0.0.0", 9001)
    assert load(settled(cli.settings_parser("serve").parse_words([]))[0]).settings.host == "127.0.0.1"

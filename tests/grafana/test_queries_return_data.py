"""Every query of a panel and every rule has data in a real Prometheus that scrapes a real router.

The router has the traffic of the demo (sessions, streams, shared prefixes), one engine that fails whatever it
is asked, and one worker that accepts a request and never answers, so that something is in flight and queued.
That one publishes KV events, and tells its load.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest
import yaml

from live.fake_worker import FakeWorker, fake_workers
from live.front import CHAT, CHAT_PATH
from live.kv_publisher import advertise, publishing
from live.polling import PATIENCE_S, eventually
from live.processes import Router, spawn_engines, spawn_router
from live.wire import Connection, request
from observed.expressions import (
    GRAFANA,
    RULES,
    Expression,
    alerts,
    filled_in,
    of_panels,
    of_rules,
    whether_or_not,
)
from observed.prometheus import Prometheus, prometheus, says_something
from warmroute.demo.client import Client
from warmroute.demo.play import play
from warmroute.demo.tally import Tally
from warmroute.demo.traffic import sessions

SCRAPE: Final = "250ms"
STEP_S: Final = 0.5
TRAFFIC_S: Final = 4.0
"""Some hundred requests of all three kinds."""

SEED: Final = 1
MODEL: Final = "llama-3.1-8b"
"""That of the simulated engines."""

STUCK: Final = "stuck"
"""The model of the worker that never answers."""

LOAD: Final = (
    b'{"loads": [{"num_running_reqs": 1, "num_waiting_reqs": 0, "num_waiting_uncached_tokens": 0, '
    b'"token_usage": 0.5}]}'
)
"""What that worker says of its load, as SGLang does."""

SHADOWS: Final = ("round_robin", "least_requests")


@dataclass
class Observed:
    """A router after its traffic, and the Prometheus that has watched it."""

    server: Prometheus
    start_s: float
    end_s: float

    def values(self, expression: Expression) -> list[float]:
        """As Grafana would ask for them."""
        query = filled_in(expression.text)
        if expression.over_time:
            steps = int((self.end_s - self.start_s) / STEP_S)
            return self.server.over(query, self.end_s - steps * STEP_S, self.end_s, STEP_S)
        return self.server.now(query)


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("observed")
    with ExitStack() as stack:
        engines = spawn_engines(folder / "engines.log", 3, "--fault", "2:error_500", "--speed", "3")
        stack.callback(engines.kill)
        (stuck,) = stack.enter_context(fake_workers(1))
        stuck.script = lambda call: call.wait_gone()
        publisher = stack.enter_context(publishing())
        publisher.prompt(list(range(100)))
        advertise(stuck, publisher)
        stuck.pages["/v1/loads?include=core"] = (200, LOAD)
        shadows = [word for policy in SHADOWS for word in ("--shadow-policy", policy)]
        found = folder / "workers.yaml"
        found.write_text(yaml.safe_dump({"backend": [f"{stuck.url},model={STUCK}"]}))
        router = spawn_router(
            folder / "router.log",
            *("--backend", *engines.urls, f"{stuck.url},model={STUCK},max_inflight=1"),
            *("--discover-file", str(found)),
            *("--eject-after-failures", "2", "--eject-for-s", "60", *shadows),
            *("--kv-events", "auto"),
            *("--load-poll", "auto", "--load-poll-min-s", "0.1", "--load-poll-share", "1"),
        )
        stack.callback(router.kill)
        config = folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(_scraping(router)))
        server = stack.enter_context(prometheus(config, folder / "prometheus.log"))
        start_s = time.time()
        _later_than_now(server, "up")
        unknown = {"model": "nobody's", "prompt": "x"}
        refused = httpx.post(f"{router.url}/v1/completions", json=unknown, trust_env=False)
        assert refused.status_code == 404
        first, second, third = (stack.enter_context(Connection(router.url)) for _ in range(3))
        for client in (first, second):  # the second one waits until the first one's client has left
            client.send(request("POST", CHAT_PATH, CHAT | {"model": STUCK}))
            eventually(lambda: _chats(stuck), "the request reaches the worker that never answers")
        eventually(lambda: _waits(router), "the second one waits")
        first.socket.close()
        eventually(lambda: _chats(stuck) == 2, "the second one reaches it too")
        third.send(request("POST", CHAT_PATH, CHAT | {"model": STUCK}))
        asyncio.run(_traffic(router))
        _move_a_session(router)
        for series in ("up", "up", "job:warmroute_wanted:rate5m"):  # two scrapes, and then the rules
            _later_than_now(server, series)
        yield Observed(server, start_s, time.time())


def _scraping(router: Router) -> dict[str, Any]:
    """The checked-in configuration, faster, with the router's address and every rule."""
    config: dict[str, Any] = yaml.safe_load((GRAFANA / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE, "scrape_timeout": SCRAPE}
    config["rule_files"] = [str(path) for path in RULES]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [router.url.removeprefix("http://")]}]
    return config


def _chats(worker: FakeWorker) -> int:
    """Clients' requests that have reached the worker; the router asks for other things."""
    return sum(call.path == CHAT_PATH for call in worker.calls)


def _waits(router: Router) -> bool:
    """Whether a request waits for room."""
    page = httpx.get(f"{router.url}/metrics", trust_env=False).text
    return re.search(r"^router_queue_requests\{[^}]*\} 1$", page, re.MULTILINE) is not None


async def _traffic(router: Router) -> None:
    played = sessions(TRAFFIC_S, SEED)
    tally = Tally(sum(session.requests for session in played))
    client = Client("127.0.0.1", router.port, MODEL)
    await play(played, client, tally)
    client.close()
    assert not tally.failures, tally.failures


def _move_a_session(router: Router) -> None:
    """Drains the worker of a session's first turn, so that the second goes elsewhere."""
    with httpx.Client(base_url=router.url, trust_env=False, timeout=PATIENCE_S) as client:

        def turn() -> str:
            answer = client.post(CHAT_PATH, json=CHAT | {"model": MODEL}, headers={"x-session-id": "moves"})
            return answer.raise_for_status().headers["x-router-worker"]

        first = turn()
        worker = first.removeprefix("http://")
        client.patch(f"/workers/{worker}", json={"draining": True}).raise_for_status()
        assert turn() != first
        client.patch(f"/workers/{worker}", json={"draining": False}).raise_for_status()


def _later_than_now(server: Prometheus, series: str) -> None:
    """Until Prometheus has a newer sample of the series."""
    since = time.time()
    eventually(
        lambda: any(at > since for at in server.now(f"timestamp({series})")),
        f"a sample of {series} after now",
    )


def test_every_panel_has_data(observed: Observed) -> None:
    empty = [panel.where for panel in of_panels() if not says_something(observed.values(panel))]
    assert empty == []


def test_every_rule_has_data(observed: Observed) -> None:
    asked = {rule["alert"] for rule in alerts()}
    empty = []
    for rule in of_rules():
        text = whether_or_not(rule.text) if rule.where in asked else rule.text
        if not says_something(observed.values(rule._replace(text=text))):
            empty.append(rule.where)
    assert empty == []


def test_prometheus_evaluates_every_rule_without_an_error(observed: Observed) -> None:
    loaded = observed.server.rules()
    assert len(loaded) == len(list(of_rules()))
    assert [(rule["name"], rule.get("lastError")) for rule in loaded if rule["health"] != "ok"] == []


def test_the_worker_that_fails_is_seen_as_ejected(observed: Observed) -> None:
    assert max(observed.server.now("max_over_time(router_worker_breaker_state[1m])")) == 2

"""A router in the test's own process, so that a test can say what its workers hold; its workers are
scripted."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from live.fake_worker import Call, FakeWorker, fake_workers
from tokens.models import vocabulary
from tokens.oracles import TEMPLATES, TINY
from warmroute.app import build
from warmroute.config import Settings
from warmroute.exchange import Exchange
from warmroute.gateway import Gateway
from warmroute.listen.doors import Doors
from warmroute.tokens import loading
from warmroute.tokens.service import Tokens
from warmroute.tokens.start import start_tokens
from warmroute_policies.types import Decision, Outcome, RoutingRequest, Usage

BLOCK = 16


def folder_with(folder: Path, template: str) -> Path:
    """A model's folder, as it is published."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((TINY / name).read_bytes())
    (folder / "chat_template.jinja").write_text(TEMPLATES.get(template, template))
    return folder


class Recorder:
    """An observer that keeps requests as they are about to be routed."""

    def __init__(self, requests: list[RoutingRequest]) -> None:
        self._requests = requests

    def arrived(self, exchange: Exchange, request: RoutingRequest, now: float) -> None:
        self._requests.append(request)

    def routed(self, exchange: Exchange, decision: Decision, now: float) -> None:
        pass

    def first_byte(self, exchange: Exchange, now: float) -> None:
        pass

    def finished(self, exchange: Exchange, outcome: Outcome, usage: Usage | None, now: float) -> None:
        pass

    def refused(self, exchange: Exchange, code: str, now: float) -> None:
        pass


class Served:
    """State: a router that serves on a port, the requests that it routed, and its scripted workers."""

    def __init__(self, gateway: Gateway, workers: list[FakeWorker], url: str) -> None:
        self.gateway = gateway
        self.workers = workers
        self.url = url
        self.routed: list[RoutingRequest] = []
        gateway.watch(Recorder(self.routed))

    @property
    def tokens(self) -> Tokens:
        assert self.gateway.tokens is not None
        return self.gateway.tokens

    async def ask(self, body: object, path: str = "/v1/chat/completions") -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            return await client.post(self.url + path, json=body)


Serve = Callable[..., contextlib.AbstractAsyncContextManager[Served]]


def answers(counted: Callable[[dict[str, Any]], int | None]) -> Callable[[Call], None]:
    """A worker that counts a prompt's tokens in this way."""

    def script(call: Call) -> None:
        body = json.loads(call.body)
        usage = {"prompt_tokens": counted(body), "completion_tokens": 1}
        call.answer(json.dumps({"choices": [], "usage": usage}).encode())

    return script


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Starts routers whose workers tell what they hold: nothing at first."""
    monkeypatch.setattr(loading, "Vocabulary", lambda *_, **__: vocabulary())  # the same file each time

    @asynccontextmanager
    async def start(template: str = "chatml", count: int = 2, **settings: Any) -> AsyncIterator[Served]:
        with fake_workers(count) as workers, contextlib.ExitStack() as stack:
            given: dict[str, Any] = {
                "tokenizer": (str(folder_with(tmp_path, template)),),
                "backend": tuple(worker.url for worker in workers),
                "port": 0,
                "policy": "cache_aware",
                "tokenizer_timeout_s": 20.0,  # other tests may have the processor
                **settings,
            }
            gateway = build(Settings(**given))
            start_tokens(gateway, stack)
            for worker in workers:
                gateway.balancer.set_health(worker.url, True, monotonic())
                gateway.balancer.know_blocks(worker.url, 0, BLOCK, complete=True, now=monotonic())
            gateway.tick(monotonic())
            doors = Doors(gateway, None)
            await doors.open()
            try:
                yield Served(gateway, workers, doors.urls[0])
            finally:
                doors.close()
                for client in list(gateway.clients):
                    client.transport.abort()
                await asyncio.sleep(0)

    return start

"""Engines that die, come back, join and leave while requests run: every request is accounted for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.asking import (
    Answer,
    Stream,
    ask,
    body,
    prose,
    teach,
    tolerance_tokens,
    user,
    workers,
)
from e2e.engines.engine import Engine, running
from e2e.engines.llamacpp import llamacpp
from e2e.findings import Findings
from e2e.predictions import flags, settled
from live.polling import eventually
from live.processes import Router, StartRouter

pytestmark = pytest.mark.e2e

# A restarted engine takes some 15 s on an idle core, a minute on a busy one.
RESTART_WITHIN_S = 300.0

# More than two engines run at a time, so that some wait without a first token.
CROWD = 44
# Some seconds of decoding for the crowd; llama.cpp computes the tiny model ten times as fast as the others.
CROWD_ANSWER_TOKENS = {"vllm": 400, "sglang": 400, "llamacpp": 1500}
BEGUN = 3

# Requests in flight at a time where an engine joins or leaves; each client asks one after the other.
CLIENTS = 12
ROUNDS = 6


async def until(condition: Any, what: str, patience_s: float = 120.0) -> None:
    """`eventually` for conditions that this loop's tasks make true."""
    deadline = asyncio.get_running_loop().time() + patience_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within {patience_s:g} s: {what}"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def client_of(router: Router) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=router.url, timeout=240, trust_env=False, limits=limits) as client:
        yield client


@pytest.fixture(params=["vllm", "sglang", "llamacpp"])
def doomed(request: pytest.FixtureRequest, e2e_home: Path, tmp_path: Path) -> Iterator[tuple[Engine, Engine]]:
    """An engine that is about to die, and one that is not."""
    kind: str = request.param
    if kind == "llamacpp":
        with running(lambda number: llamacpp(e2e_home, tmp_path, number), 2) as (victim, survivor):
            yield victim, survivor
        return
    pair: list[Engine] = request.getfixturevalue("mortal_vllm_pair")
    if kind == "vllm":
        yield pair[1], pair[0]
        return
    victim = request.getfixturevalue("sglang_engine")
    yield victim, pair[0]
    if not victim.runs:
        victim.start()
        victim.wait_until_healthy()


async def test_a_killed_engine_takes_nothing_with_it_that_had_not_started(
    doomed: tuple[Engine, Engine], start_router: StartRouter, findings: Findings
) -> None:
    victim, survivor = doomed
    router = start_router(victim.url, survivor.url)
    tokens = CROWD_ANSWER_TOKENS[victim.kind]
    async with client_of(router) as client, asyncio.TaskGroup() as group:
        crowd = [Stream() for _ in range(CROWD)]
        for number, one in enumerate(crowd):
            # Every fourth is not streamed: nothing of it reaches its client before its end.
            asked = body(
                [user(prose(f"crowd {victim.kind} {number}", 1200))], tokens, stream=bool(number % 4)
            )
            group.create_task(one.run(client, asked))
        await until(
            lambda: sum(one.worker == victim.url and b"data: " in one.received for one in crowd) >= BEGUN,
            "some of the crowd have begun on the engine that is about to die",
        )
        victim.kill()

        # New requests are answered while the dead engine is still being found out.
        for number in range(6):
            late = Stream()
            asked = body([user(prose(f"late {victim.kind} {number}", 600))], 4, stream=bool(number % 2))
            await late.run(client, asked)
            assert late.status == httpx.codes.OK, late
            assert late.worker == survivor.url
    ends = Counter(how_it_ended(one, victim) for one in crowd)
    assert ends["lost"] == 0, [one for one in crowd if how_it_ended(one, victim) == "lost"]
    assert ends["cut"] >= BEGUN, "a cut stream must not look complete"
    retried = [line for line in router.lines() if line["message"] == "request" and line["attempts"] > 1]
    assert retried, "some were waiting at the engine that died"
    assert {line["outcome"] for line in retried} == {"ok"}
    assert {line["worker"] for line in retried} == {survivor.url}
    findings.add(
        "kill -9 under load",
        victim.kind,
        f"{CROWD} requests: {ends['whole']} whole ({len(retried)} of them on a second engine), "
        f"{ends['cut']} cut after their first byte, {ends['lost']} lost",
    )

    status = eventually(
        lambda: (row := workers(router)[victim.url])["status"] == "unhealthy" and row,
        "the dead engine is marked",
    )
    assert status["failures"].keys() <= {"broken", "connect"}
    assert workers(router)[survivor.url]["status"] == "healthy"

    victim.start()
    victim.wait_until_healthy()
    eventually(lambda: workers(router)[victim.url]["healthy"], "the engine is back", RESTART_WITHIN_S)
    answers = (ask(router, [user(prose(f"back {victim.kind} {number}", 800))]) for number in range(20))
    assert any(answer.worker == victim.url for answer in answers), "it gets requests again"


def how_it_ended(one: Stream, victim: Engine) -> str:
    """`whole`; `cut` where it had begun on the engine that died; anything else is `lost`."""
    if one.whole:
        return "whole"
    begun = bool(one.received) and bool(one.broke) and one.worker == victim.url
    return "cut" if begun else "lost"


def test_after_a_restart_predictions_are_right_again(
    mortal_vllm_pair: list[Engine],
    start_router: StartRouter,
    mode: str,
    e2e_home: Path,
    findings: Findings,
) -> None:
    router = start_router(*(engine.url for engine in mortal_vllm_pair), flags=flags(mode, e2e_home))
    known = settled(router, mode)
    tolerance = 0 if mode == "exact" else tolerance_tokens(teach(router, f"teach restart {mode}"))
    prompts = [[user(prose(f"restart {mode} {number}", 3000))] for number in range(8)]

    def asked() -> list[Answer]:
        answers = []
        for prompt in prompts:
            known()
            answers.append(ask(router, prompt))
        return answers

    asked()
    warm = asked()
    assert all(answer.cached_tokens for answer in warm), warm
    victim = next(engine for engine in mortal_vllm_pair if engine.url == warm[0].worker)
    victim.kill()
    eventually(lambda: not workers(router)[victim.url]["healthy"], "the dead engine is marked")
    victim.start()
    victim.wait_until_healthy()
    eventually(lambda: workers(router)[victim.url]["healthy"], "the engine is back", RESTART_WITHIN_S)

    first, second = asked(), asked()
    for answer in [*first, *second]:
        assert answer.off_tokens <= tolerance, (answer, tolerance)
    assert not all(answer.cached_tokens for answer in first), "what the dead one held is gone"
    assert all(answer.cached_tokens for answer in second)
    off = sum(answer.off_tokens for answer in [*first, *second]) / (len(first) + len(second))
    findings.add(f"predictions, {mode}: after a restart", "vllm", f"off by {off:.1f} tokens on average")


async def keep_asking(client: httpx.AsyncClient, seed: str) -> list[Stream]:
    """Clients that ask one after the other, half of them streamed; all their requests."""

    async def one_client(number: int) -> list[Stream]:
        asked = []
        for turn in range(ROUNDS):
            stream = Stream()
            messages = [user(prose(f"{seed} {number} {turn}", 600))]
            await stream.run(client, body(messages, 60, stream=bool((number + turn) % 2)))
            asked.append(stream)
        return asked

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one_client(number)) for number in range(CLIENTS)]
    return [one for task in tasks for one in task.result()]


async def test_an_engine_that_is_added_under_load_takes_its_share_and_nothing_is_lost(
    vllm_pair: list[Engine], start_router: StartRouter, findings: Findings
) -> None:
    first, second = vllm_pair
    router = start_router(first.url)
    async with client_of(router) as client:
        load = asyncio.create_task(keep_asking(client, "added"))
        await asyncio.sleep(0)
        added = await client.post("/workers", json={"url": second.url})
        assert added.status_code == httpx.codes.CREATED, added.text
        asked = await load
    assert [one for one in asked if not one.whole] == []
    shares = Counter(one.worker for one in asked)
    assert set(shares) == {first.url, second.url}
    findings.add(
        "an engine added under load", "vllm", f"{len(asked)} requests whole; {shares[second.url]} there"
    )


async def test_an_engine_that_is_drained_under_load_ends_what_it_has_and_gets_nothing_more(
    vllm_pair: list[Engine], start_router: StartRouter, findings: Findings
) -> None:
    leaving, staying = vllm_pair
    router = start_router(leaving.url, staying.url)
    path = "/workers/" + leaving.url.removeprefix("http://")
    async with client_of(router) as client:
        held = Stream()
        others = [Stream() for _ in range(3)]
        async with asyncio.TaskGroup() as group:
            for number, one in enumerate([held, *others]):
                messages = [user(prose(f"held {number}", 600))]
                group.create_task(one.run(client, body(messages, 700, stream=True)))
            await until(lambda: leaving.url in {one.worker for one in [held, *others]}, "one runs there")
            load = group.create_task(keep_asking(client, "drained"))
            drained = await client.patch(path, json={"draining": True})
            assert drained.status_code == httpx.codes.OK, drained.text
            while_draining = await keep_asking(client, "while draining")
            assert {one.worker for one in while_draining} == {staying.url}
        assert all(one.whole for one in [held, *others])
        assert [one for one in [*load.result(), *while_draining] if not one.whole] == []
        row = workers(router)[leaving.url]
        assert row["inflight_requests"] == 0
        assert row["draining"]
        assert (await client.patch(path, json={"draining": False})).status_code == httpx.codes.OK
        again = await keep_asking(client, "taken back")
    assert [one for one in again if not one.whole] == []
    assert leaving.url in {one.worker for one in again}
    total = len(load.result()) + len(while_draining) + len(again) + 4
    findings.add("an engine drained under load, and taken back", "vllm", f"{total} requests whole")

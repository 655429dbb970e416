"""`simulator serve --kv-events`: what is published is what the cache holds, in the engines' own forms."""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import zmq

from live.polling import eventually
from live.processes import Engines, spawn_engines
from warmroute.kv_events.wire import (
    Message,
    Removed,
    Stored,
    key_of,
    read_batch,
    read_live,
    read_replayed,
    replay_request,
)
from warmroute_simulator.engine import PagedCache
from warmroute_simulator.serve import kv_events
from warmroute_simulator.serve.tokens import WORDS, TokenBlocks

_WAIT_MS = 20_000
SMALL = ("--kv-tokens", "4096", "--speed", "50")
"""A cache of 256 blocks, which a few prompts fill."""


@contextmanager
def engines_that_tell(folder: Path, *flags: str, count: int = 1) -> Iterator[Engines]:
    engines = spawn_engines(folder / "engines.log", count, "--kv-events", *SMALL, *flags)
    try:
        yield engines
    finally:
        engines.kill()


class Listener:
    """What somebody knows of an engine's cache who was told of it alone. State: blocks and their parents."""

    def __init__(self, engines: Engines, worker: int = 0) -> None:
        self.engines, self.worker = engines, worker
        told = engines.state(worker)["kv_events"]
        self._context = zmq.Context()
        self._live = self._context.socket(zmq.SUB)
        self._live.setsockopt(zmq.SUBSCRIBE, b"")
        self._live.connect(told["endpoint"])
        self._questions = self._context.socket(zmq.DEALER)
        self._questions.connect(told["replay_endpoint"])
        for one in (self._live, self._questions):
            one.setsockopt(zmq.RCVTIMEO, _WAIT_MS)
        self.resident: dict[int, int | None] = {}
        self.tokens: dict[int, list[int]] = {}
        self.seen: list[str] = []
        self.messages: list[Message] = []

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def listen(self) -> Message:
        """One batch as it comes."""
        return read_live(self._live.recv_multipart())

    def ask(self, start: int) -> list[Message]:
        """Old batches from one on."""
        self._questions.send_multipart(replay_request(start))
        found = []
        while (message := read_replayed(self._questions.recv_multipart())) is not None:
            found.append(message)
        return found

    def hear(self, message: Message) -> None:
        assert message.seq == len(self.messages), "a batch was left out"
        self.messages.append(message)
        batch = read_batch(message.payload)
        assert (batch.rank, batch.skipped, message.topic) == (0, 0, b"")
        for event in batch.events:
            self.seen.append(type(event).__name__)
            if isinstance(event, Stored):
                self._stored(event)
            elif isinstance(event, Removed):
                for name in event.block_hashes:
                    del self.resident[key_of(name)]
            else:
                self.resident.clear()

    def _stored(self, event: Stored) -> None:
        before = None if event.parent_block_hash is None else key_of(event.parent_block_hash)
        size = event.block_size
        assert len(event.token_ids) == size * len(event.block_hashes)
        for number, name in enumerate(event.block_hashes):
            assert before is None or before in self.resident, "a block before the one that it extends"
            key = key_of(name)
            assert key not in self.resident
            self.resident[key] = before
            self.tokens[key] = event.token_ids[number * size : (number + 1) * size]
            before = key

    def hear_all(self) -> None:
        """All that has been published so far."""
        for message in self.ask(len(self.messages)):
            self.hear(message)

    def prompts(self) -> list[list[int]]:
        """The tokens from the beginning to each resident block."""
        found: dict[int, list[int]] = {}

        def whole(key: int) -> list[int]:
            if key not in found:
                before = self.resident[key]
                found[key] = ([] if before is None else whole(before)) + self.tokens[key]
            return found[key]

        return [whole(key) for key in self.resident]


def words(chance: random.Random, count: int) -> str:
    return b"".join(chance.choices(WORDS, k=count)).decode()


def chat(engines: Engines, messages: list[dict[str, str]], tokens: int = 40, **more: object) -> Any:
    """Asks; adds the answer to the messages. Its usage."""
    body = {"messages": messages, "max_tokens": tokens, **more}
    answer = httpx.post(
        f"{engines.urls[0]}/v1/chat/completions", json=body, trust_env=False, timeout=20
    ).raise_for_status()
    messages.append(answer.json()["choices"][0]["message"] | {"tool_calls": None})
    return answer.json()["usage"]


def resident(engines: Engines) -> int:
    blocks = engines.state()["blocks"]
    return int(blocks["cached"] + blocks["referenced"])


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_who_hears_all_batches_knows_what_the_cache_holds(tmp_path: Path, kind: str) -> None:
    seed = 5
    print(f"seed {seed}")
    chance = random.Random(seed)
    with engines_that_tell(tmp_path, "--engine", kind) as engines, Listener(engines) as listener:
        messages: list[dict[str, str]] = []
        sessions = [messages, *([] for _ in range(5))]
        for _ in range(40):
            messages = chance.choice(sessions)
            if len(messages) > 6:
                messages.clear()
            messages.append({"role": "user", "content": words(chance, chance.randint(20, 400))})
            chat(engines, messages)
            listener.hear_all()
            assert len(listener.resident) == resident(engines)
        assert engines.state()["blocks"]["evicted_total"] > 100
        assert "Removed" in listener.seen
        asked = httpx.post(f"{engines.urls[0]}/tokenize", json={"messages": messages[:-1]}, trust_env=False)
        prompt = asked.json()["tokens"]
        longest = max((one for one in listener.prompts() if prompt[: len(one)] == one), key=len)
        assert len(longest) == len(prompt) // 16 * 16, "the ids of events are those of /tokenize"


def test_what_is_said_live_is_what_is_said_again(tmp_path: Path) -> None:
    with engines_that_tell(tmp_path) as engines, Listener(engines) as listener:
        chance = random.Random(7)
        chat(engines, [{"role": "user", "content": words(chance, 200)}])
        listener.hear_all()
        known = len(listener.messages)
        chat(engines, [{"role": "user", "content": words(chance, 200)}])
        live = [listener.listen()]
        while live[-1].seq < engines.state()["kv_events"]["batches"] - 1:
            live.append(listener.listen())
        live = [message for message in live if message.seq >= known]
        assert live
        assert live == listener.ask(known)
        assert [message.seq for message in listener.ask(0)] == list(range(live[-1].seq + 1))
        assert listener.ask(live[-1].seq + 1) == []


def test_questions_that_make_no_sense_are_not_answered_and_the_next_one_is(tmp_path: Path) -> None:
    with engines_that_tell(tmp_path) as engines, Listener(engines) as listener:
        for odd in ([b""], [b"x", b"12345678"], [b"", b"123"], [b"", b"12345678", b""]):
            listener._questions.send_multipart(odd)
        assert listener.ask(0) == []
        chat(engines, [{"role": "user", "content": "bar " * 64}])
        listener.hear_all()
        assert listener.resident
        assert listener.ask(2**64 - 2) == []


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_a_cleared_cache_is_told_at_once(tmp_path: Path, kind: str) -> None:
    with engines_that_tell(tmp_path, "--engine", kind) as engines, Listener(engines) as listener:
        messages = [{"role": "user", "content": "bar " * 64}]
        chat(engines, messages)
        listener.hear_all()
        assert listener.resident
        httpx.post(f"{engines.urls[0]}/reset_prefix_cache", trust_env=False).raise_for_status()
        listener.hear_all()
        assert not listener.resident
        assert listener.seen[-1] == "Cleared"
        assert chat(engines, messages[:1])["prompt_tokens_details"]["cached_tokens"] == 0


def test_what_a_running_request_uses_stays_known_when_the_cache_is_cleared(tmp_path: Path) -> None:
    with engines_that_tell(tmp_path, "--speed", "1") as engines, Listener(engines) as listener:
        chat(engines, [{"role": "user", "content": "bar " * 64}])
        endless = {"prompt": "kas " * 64, "max_tokens": 2000, "stream": True}
        with httpx.stream(
            "POST", f"{engines.urls[0]}/v1/completions", json=endless, trust_env=False
        ) as answer:
            pieces = answer.iter_bytes()  # whose end would be the answer's
            next(pieces)
            httpx.post(f"{engines.urls[0]}/reset_prefix_cache", trust_env=False).raise_for_status()
            listener.hear_all()
            assert "Cleared" not in listener.seen
            assert "Removed" in listener.seen
            assert len(listener.resident) >= 4
        eventually(lambda: engines.state()["running"] == 0, "the request was dropped")
        listener.hear_all()
        assert len(listener.resident) == resident(engines)


def test_salted_prompts_say_their_salt_beside_their_first_block(tmp_path: Path) -> None:
    with engines_that_tell(tmp_path) as engines, Listener(engines) as listener:
        chat(engines, [{"role": "user", "content": "bar " * 64}], cache_salt="tenant")
        first, *later = [
            event
            for message in listener.ask(0)
            for event in read_batch(message.payload).events
            if isinstance(event, Stored)
        ]
        assert first.extra_keys[0] == ["tenant"]
        assert not any(any(event.extra_keys) for event in later)
        assert first.extra_keys[1:] == [None] * (len(first.block_hashes) - 1)


def test_each_worker_says_where_it_publishes_as_its_kind_does(tmp_path: Path) -> None:
    with engines_that_tell(tmp_path, count=2) as engines:
        for number, url in enumerate(engines.urls):
            told = engines.state(number)["kv_events"]
            source = httpx.get(f"{url}/kv_event_sources", trust_env=False).json()["0"]
            assert source["endpoint"].replace("*", "127.0.0.1") == told["endpoint"]
            assert source["replay_endpoint"].replace("*", "127.0.0.1") == told["replay_endpoint"]
            assert f"kv-events {told['endpoint']} replay {told['replay_endpoint']}" in engines.text()
    with engines_that_tell(tmp_path, "--engine", "sglang") as engines:
        told = engines.state()["kv_events"]
        said = httpx.get(f"{engines.urls[0]}/server_info", trust_env=False).json()["kv_events"]
        assert told["endpoint"].endswith(f":{said['endpoint_port_base']}")
        assert told["replay_endpoint"].endswith(f":{said['replay_endpoint_port_base']}")
        assert said["block_size"] == 16


async def test_what_is_kept_for_questions_is_bounded_and_answers_begin_with_the_oldest_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kv_events, "KEPT_BATCHES", 3)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    cache = PagedCache(100)
    publisher = kv_events.Publisher(context, cache, "vllm", "127.0.0.1", (0, 0), asyncio.get_running_loop())
    try:
        for number in range(10):
            publisher.tell()  # nothing has changed: no batch
            keys = TokenBlocks(bytes([number]) * 64, 4)
            cache.grow(cache.acquire(keys, 0), 0, 16, 4)
            publisher.tell()
        assert (publisher.report()["batches"], publisher.report()["kept"]) == (10, 3)
        asking = context.socket(zmq.DEALER)
        asking.setsockopt(zmq.RCVTIMEO, _WAIT_MS)
        asking.connect(publisher.replay_endpoint)
        asking.send_multipart(replay_request(2))
        told = [await asyncio.to_thread(lambda: read_replayed(asking.recv_multipart())) for _ in range(4)]
        assert [message and message.seq for message in told] == [7, 8, 9, None]
    finally:
        publisher.close()
        context.destroy(linger=0)


def test_it_ends_at_once_while_somebody_listens_and_says_how_much_was_told(tmp_path: Path) -> None:
    with engines_that_tell(tmp_path, "--json", str(tmp_path / "end.json")) as engines:
        with Listener(engines) as listener:
            chat(engines, [{"role": "user", "content": "bar " * 64}])
            listener.hear_all()
            engines.terminate()
            assert engines.wait() == 0
        ended = json.loads((tmp_path / "end.json").read_bytes())["workers"][0]
        assert ended["kv_events"]["batches"] == len(listener.messages)


def test_ports_are_counted_from_the_one_that_is_given_and_one_that_is_taken_ends_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1] - 3
        ended = serve("--workers", "2", "--port", "0", "--kv-events", str(port))
        assert (ended.returncode, ended.stdout) == (1, "")
        found = re.search(r"cannot listen on tcp://127\.0\.0\.1:(\d+)", ended.stderr)
        assert found, ended.stderr
        assert port <= int(found[1]) <= port + 3  # another process may have one of those before it


def test_without_pyzmq_it_says_what_to_install() -> None:
    ended = serve("--kv-events", code="import sys; sys.modules['zmq'] = None; ")
    assert ended.returncode == 2
    assert "pip install 'warmroute[exact]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def serve(*words: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """A `simulator serve` that is to end by itself."""
    program = f"{code}from warmroute_simulator.cli import main; raise SystemExit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, "serve", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

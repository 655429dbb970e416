"""`router demo`: the traffic it plays, its client, and the whole of it as a process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import median

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from live.polling import eventually
from live.processes import StartEngines
from warmroute.demo.client import Client, Failed
from warmroute.demo.play import play
from warmroute.demo.screen import bars
from warmroute.demo.tally import Tally, quantile
from warmroute.demo.traffic import (
    AGENT_KINDS,
    CHAT_KINDS,
    DOCUMENTS,
    FAN_OUT,
    TOOL_OUTPUT_TOKENS,
    Writer,
    sessions,
)

SEED = 7
MODEL = "llama-3.1-8b"

# One agent, a few chats and questions, on engines so quick that the whole demo takes seconds.
TINY = ("--duration-s", "1", "--speed", "20", "--port", "0")


# --- the traffic ----------------------------------------------------------------------------------


def test_a_seed_makes_the_same_traffic_and_another_seed_does_not() -> None:
    assert sessions(5, SEED) == sessions(5, SEED)
    assert sessions(5, SEED) != sessions(5, SEED + 1)


def test_twice_the_time_is_twice_the_sessions() -> None:
    short, long = (Counter(session.kind for session in sessions(time_s, SEED)) for time_s in (10, 20))
    assert long == {kind: 2 * count for kind, count in short.items()}


def test_even_the_shortest_demo_has_every_kind() -> None:
    assert {session.kind for session in sessions(0.01, SEED)} == {"agent", "chat", "rag"}


def test_sessions_come_in_order_and_start_within_the_time() -> None:
    starts = [session.starts_at_s for session in sessions(20, SEED)]
    assert starts == sorted(starts)
    assert starts[0] >= 0
    assert starts[-1] < 20


def test_agents_share_few_prompts_and_have_a_task_of_their_own() -> None:
    agents = [session for session in sessions(60, SEED) if session.kind == "agent"]
    assert len({(agent.system, agent.tools) for agent in agents}) == AGENT_KINDS
    assert len({agent.turns[0].text for agent in agents}) == len(agents)
    assert all(json.loads(agent.tools) for agent in agents)


def test_chats_share_few_system_prompts() -> None:
    systems = {session.system for session in sessions(60, SEED) if session.kind == "chat"}
    assert len(systems) == CHAT_KINDS


def test_some_agents_ask_several_things_at_once() -> None:
    agents = [session for session in sessions(60, SEED) if session.kind == "agent"]
    fans = [turn for agent in agents for turn in agent.turns if turn.branches]
    assert fans
    assert {len(turn.branches) for turn in fans} == {FAN_OUT}
    assert len(fans) < len(agents), "and some do not"


def test_a_few_documents_are_asked_about_most() -> None:
    asked = Counter(
        session.turns[0].text.split("\n\n")[1] for session in sessions(200, SEED) if session.kind == "rag"
    )
    assert len(asked) <= DOCUMENTS
    counts = sorted(asked.values(), reverse=True)
    assert sum(counts[:8]) > 2.5 * sum(counts[-40:]), "the first tenth beats the last half"


def test_half_of_the_tools_outputs_are_longer_than_their_median() -> None:
    outputs = [
        len(turn.text) / 4
        for session in sessions(100, SEED)
        if session.kind == "agent"
        for turn in session.turns[1:]
    ]
    assert median(outputs) == pytest.approx(TOOL_OUTPUT_TOKENS, rel=0.15)


@given(st.integers(1, 20_000))
def test_text_has_the_length_that_was_asked_for(tokens: int) -> None:
    text = Writer(Random(SEED)).text(tokens)
    assert len(text.encode()) == 4 * tokens


# --- what came back -------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_a_quantile_is_the_least_value_that_so_many_do_not_exceed(values: list[float], share: float) -> None:
    found = quantile(sorted(values), share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values)


def test_a_bar_is_full_at_full_load_and_empty_at_none() -> None:
    assert bars([0, 1, 16, 99]).plain == " 0   ▁1   █16  █99  "


def _client(url: str) -> Client:
    parsed = httpx.URL(url)
    return Client(parsed.host, parsed.port or 0, MODEL)


async def test_the_client_reads_text_and_cached_tokens(start_engines: StartEngines) -> None:
    client = _client(start_engines(1).urls[0])
    messages = [{"role": "user", "content": "The very same words, again and again. " * 40}]
    first = await client.chat(messages, "", 8, "s")
    second = await client.chat(messages, "", 8, "s")
    client.close()
    assert len(first.text.split()) == 8
    assert (first.prompt_tokens, first.cached_tokens) == (second.prompt_tokens, 0)
    assert 0 < second.prompt_tokens - second.cached_tokens <= 16, "all but the last block"
    assert first.ttft_s > 0


@pytest.mark.parametrize("kind", ["refuse", "error_500", "die_midstream"])
async def test_the_client_says_when_there_is_no_whole_answer(start_engines: StartEngines, kind: str) -> None:
    engines = start_engines(1)
    engines.fault(0, kind)
    client = _client(engines.urls[0])
    with pytest.raises(Failed):
        await client.chat([{"role": "user", "content": "hello"}], "", 64, "s")
    client.close()


async def test_every_planned_request_is_accounted_for_when_engines_fail(start_engines: StartEngines) -> None:
    engines = start_engines(1)
    engines.fault(0, "die_midstream", count=5)
    traffic = sessions(1, SEED)
    tally = Tally(planned=sum(session.requests for session in traffic))
    client = _client(engines.urls[0])
    await play(traffic, client, tally)
    client.close()
    assert tally.errors == 5
    assert tally.ended == tally.planned
    assert engines.state()["totals"]["finished"] == len(tally.ttft_s)


# --- the whole ------------------------------------------------------------------------------------


class Demo:
    """A demo at work; everything that it starts carries a mark, so that nothing can hide."""

    def __init__(self, log: Path, *flags: str) -> None:
        self._mark = f"WARMROUTE_TEST={uuid.uuid4()}"
        name, _, value = self._mark.partition("=")
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "warmroute", "demo", *flags],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {name: value},
                start_new_session=True,
            )

    def text(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def descendants(self) -> list[str]:
        """Command lines of what it started and what still runs."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            if int(entry.name) == self.process.pid:
                continue
            try:
                environment, command = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
            except OSError:  # another user's, or just ended
                continue
            if self._mark.encode() in environment:
                found.append(command.replace(b"\0", b" ").decode())
        return found

    def until(self, words: str) -> None:
        """Waits until it has printed them."""
        eventually(lambda: words in self.text() or self._ended(), f"the demo prints {words!r}", 60)
        assert words in self.text(), self.text()

    def _ended(self) -> bool:
        return self.process.poll() is not None


@pytest.fixture
def demos() -> Iterator[list[Demo]]:
    """Whatever a failed test leaves behind is ended."""
    started: list[Demo] = []
    yield started
    for demo in started:
        if demo.process.poll() is None:
            demo.process.terminate()
            demo.process.wait(30)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"
)


@needs_proc
def test_once_it_measures_both_policies_on_the_same_requests_and_ends(
    tmp_path: Path, demos: list[Demo]
) -> None:
    demo = Demo(tmp_path / "log", *TINY, "--once", "--json", str(tmp_path / "figures.json"))
    demos.append(demo)
    assert demo.process.wait(60) == 0, demo.text()
    assert demo.descendants() == []
    document = json.loads((tmp_path / "figures.json").read_text())
    planned = sum(session.requests for session in sessions(1, 0))
    assert list(document["policies"]) == ["round_robin", "cache_aware"]
    for figures in document["policies"].values():
        assert figures["requests"] == planned
        assert figures["errors"] == 0
        assert 0 < figures["hit_rate"] < 1
        assert 0 < figures["ttft_s"]["p50"] <= figures["ttft_s"]["p99"]
    assert "round_robin" in demo.text()
    assert "\x1b" not in demo.text(), "no terminal, no colours"


@needs_proc
def test_it_keeps_the_url_up_until_it_is_interrupted(tmp_path: Path, demos: list[Demo]) -> None:
    demo = Demo(tmp_path / "log", *TINY)
    demos.append(demo)
    demo.until("curl -i ")
    url = demo.text().partition("curl -i ")[2].split()[0]
    body = json.loads(demo.text().partition("-d '")[2].partition("'")[0])
    answer = httpx.post(url, json=body, trust_env=False)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"]
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(30) == 0
    assert demo.descendants() == []


@needs_proc
@pytest.mark.parametrize(
    "moment", ["warmroute_simulator serve", "--policy round_robin", "--policy cache_aware"]
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_at_any_moment_it_leaves_no_process_behind(
    tmp_path: Path, demos: list[Demo], moment: str, number: int
) -> None:
    demo = Demo(tmp_path / "log", *TINY)
    demos.append(demo)
    eventually(lambda: any(moment in command for command in demo.descendants()), f"it runs {moment}", 60)
    demo.process.send_signal(number)
    assert demo.process.wait(30) == 1
    assert demo.descendants() == []
    assert "interrupted" in demo.text()


@needs_proc
def test_killed_it_takes_its_processes_with_it(tmp_path: Path, demos: list[Demo]) -> None:
    demo = Demo(tmp_path / "log", *TINY)
    demos.append(demo)
    demo.until("engines of")
    eventually(demo.descendants, "it has processes of its own")
    demo.process.kill()
    demo.process.wait()
    eventually(lambda: not demo.descendants(), "its processes end")
    assert demo.descendants() == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of a parent's end on Linux only")
def test_a_process_whose_demo_was_killed_while_it_was_made_does_not_go_on() -> None:
    another = os.getpid()  # of whom the new process is a grandchild: its own parent is the shell
    program = f"from warmroute.demo.processes import die_with; die_with({another}); print('it goes on')"
    ended = subprocess.run(
        ["sh", "-c", '"$0" -c "$1"; echo $?', sys.executable, program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ended.stdout.split() == [str(128 + signal.SIGKILL)]


def test_a_port_in_use_is_said_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        demo = Demo(tmp_path / "log", "--once", "--port", str(port))
        assert demo.process.wait(30) == 1
    assert f"port {port} is in use" in demo.text()

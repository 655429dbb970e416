"""That everybody in the ring is asked the same, that figures are what engines and clients say, and that the
page tells all of it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane_lib.routers import CannotRun
from live.fake_worker import Call, FakeWorker, fake_workers
from live.polling import PATIENCE_S
from ring_lib import playing
from ring_lib.agenda import FIRST_SEED, Agenda, play_all, versions
from ring_lib.asking import Asked, Asker
from ring_lib.contestants import OURS, OURS_EXACT, QUICK, Contestant, Start, contestants
from ring_lib.dynamo_fleet import write_model
from ring_lib.fleets import FleetFailed, Truth, counted
from ring_lib.installing import PINNED, Places
from ring_lib.measured import Stage, figures, measure
from ring_lib.page import page, terminal
from ring_lib.playing import NOT_ASKED, OUT_OF_TIME, before, play
from ring_lib.results import SCHEMA, About, Key, Ring, Run, Store, decoded, encoded
from ring_lib.texts import Script
from ring_lib.verdicts import METRICS, Word, verdicts, word
from ring_lib.workloads import MOONCAKE, SIMULATED, VLLM, Workload, workloads
from warmroute_simulator.serve.dialects import chat
from warmroute_simulator.serve.tokens import answer_words
from warmroute_simulator.traces.prompts import ROOT, PromptTree
from warmroute_simulator.traces.trace import Trace

DOCS = Path(__file__).parents[2] / "docs"
NOWHERE = Path("/nonexistent")
SMALL = workloads(NOWHERE, 2.0)
NAMES = ("shared prefix", "mooncake", "agents", "unique")

CORES = sorted(os.sched_getaffinity(0))


def rendered(script: Script, row: int) -> bytes:
    """The prompt's tokens, as an engine makes them; every answer before it has come."""
    return bytes(chat.parse(script.body(row)).tokens)


def answered(trace: Trace, seed: int = 1) -> Script:
    """With made-up answers of the right length."""
    script = Script(trace, seed, "m")
    for row in range(len(trace)):
        if script.wants(row):
            script.answer(row, b"".join(answer_words(row, trace.output_tokens[row])).decode())
    return script


def common(one: bytes, other: bytes) -> int:
    """Tokens that both begin with."""
    pairs = zip(one, other, strict=False)
    length = next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
    return length // 4


# What is asked.


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_asks_the_same_bytes_and_another_seed_others(name: str) -> None:
    def bodies(seed: int) -> list[bytes]:
        script = answered(SMALL[name].trace(seed), seed)
        return [script.body(row) for row in range(len(script.trace))]

    assert bodies(3) == bodies(3)
    assert not set(bodies(3)) & set(bodies(4))


@pytest.mark.parametrize("name", NAMES)
def test_two_prompts_share_in_text_what_they_share_in_the_trace(name: str) -> None:
    trace = SMALL[name].trace(5)
    script = answered(trace)
    chance = Random(5)
    rows = range(len(trace))
    for _ in range(200):
        one, other = chance.choice(rows), chance.choice(rows)
        paths = [trace.tree.path(trace.prompts[row]) for row in (one, other)]
        shared = [node for node, same in zip(*paths, strict=False) if node == same]
        tokens = trace.tree.ends[shared[-1]] if shared else 0
        got = common(rendered(script, one), rendered(script, other))
        markers = 3 * (2 * len(paths[0]) + 2)
        assert tokens <= got <= tokens + markers, (one, other)


def test_a_prompt_is_as_long_as_the_trace_says_but_for_the_markers_of_its_messages() -> None:
    for name in NAMES:
        trace = SMALL[name].trace(7)
        script = answered(trace)
        for row in range(0, len(trace), 7):
            extra = len(rendered(script, row)) // 4 - trace.prompt_tokens(row)
            assert 0 < extra <= 6 * (len(script.messages(row)) + 1)


def test_agents_fan_out_and_wait_for_all_of_their_sub_agents() -> None:
    trace = workloads(NOWHERE, 22.0)["agents"].trace(FIRST_SEED)
    assert trace.closed_loop
    assert any(len(before(trace, row)) > 1 for row in range(len(trace)))
    assert len(trace) > 300


@pytest.mark.parametrize("name", NAMES)
def test_what_is_sent_at_its_time_holds_no_answer_that_may_not_have_come(name: str) -> None:
    trace = SMALL[name].trace(1)
    script = Script(trace, 1, "m")
    assert trace.closed_loop or not any(script.wants(row) for row in range(len(trace)))


def test_without_the_recording_a_generator_takes_its_place_and_says_so() -> None:
    assert "was not there" in SMALL["mooncake"].about
    assert len(SMALL["mooncake"].trace(1)) > 10


@pytest.mark.skipif(
    not (Path(__file__).parents[3] / "shared/traces" / MOONCAKE).exists(), reason="no recorded traces here"
)
def test_a_recording_keeps_its_order_and_its_sharing_and_fills_the_time() -> None:
    workload = workloads(Path(__file__).parents[3] / "shared/traces", 4.0)["mooncake"]
    trace = workload.trace(1)
    assert len(trace) == 120
    assert max(trace.arrivals_s) == pytest.approx(4.0)
    first = {trace.tree.path(prompt)[0] for prompt in trace.prompts}
    assert len(first) == 1, "every request of the recording begins alike"
    assert workload.trace(2).arrivals_s != trace.arrivals_s


def test_a_fleet_of_real_engines_is_asked_for_less() -> None:
    for name, real in workloads(NOWHERE, 20.0, VLLM).items():
        built_in = workloads(NOWHERE, 20.0)[name]
        work = [
            sum(trace.prompt_tokens(row) for row in range(len(trace)))
            for trace in (real.trace(1), built_in.trace(1))
        ]
        assert work[0] < work[1] / 5


# How it is asked.


def line_of() -> Trace:
    """Two turns, and one that waits for both."""
    trace = Trace("two turns", PromptTree(), closed_loop=True)
    first = trace.add(trace.tree.add(ROOT, 8), 4, session=0)
    trace.answers[first] = trace.tree.add(trace.prompts[first], 4)
    second = trace.add(trace.tree.add(trace.answers[first], 8), 4, session=0, after=first)
    trace.add(trace.tree.add(trace.answers[first], 9), 4, session=0, after=first, also_after=(second,))
    return trace


EVENTS = [
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"one "}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"two "}}]}\n\n',
    b": a comment\n\n",
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}\n\n',
    b"data: [DONE]\n\n",
]


@pytest.fixture
def engine() -> Iterator[FakeWorker]:
    """Streams "one two " to whoever asks."""
    with fake_workers(1) as workers:
        workers[0].script = streams()
        yield workers[0]


def streams(*, until: int | None = None, piece: int = 0, reason: str = "warm") -> Callable[[Call], None]:
    """A script: the first `until` events, in chunks of `piece` bytes (0: a chunk each)."""

    def script(call: Call) -> None:
        call.stream(f"x-router-reason: {reason}")
        text = b"".join(EVENTS[:until])
        pieces = [text[at : at + piece] for at in range(0, len(text), piece)] if piece else EVENTS[:until]
        for part in pieces:
            call.chunk(part)
        call.end()

    return script


@pytest.mark.parametrize("piece", [0, 1, 7, 1000])
async def test_an_answer_is_read_in_whatever_pieces_it_comes(engine: FakeWorker, piece: int) -> None:
    engine.script = streams(piece=piece)
    asker = Asker(engine.port)
    for _ in range(2):
        asked, text = await asker.ask(b"{}", "", perf_counter())
        assert (asked.error, text, asked.reason) == ("", "one two ", "warm")
        assert (asked.prompt_tokens, asked.output_tokens, asked.cached_tokens) == (9, 2, None)
        assert 0 < asked.ttft_s <= asked.e2e_s
    asker.close()
    assert engine.accepted == 1, "the connection is kept"


async def test_an_answer_that_is_not_whole_is_an_error(engine: FakeWorker) -> None:
    asker = Asker(engine.port)

    async def error_of(script: Callable[[Call], None]) -> str:
        engine.script = script
        asked, text = await asker.ask(b"{}", "", perf_counter())
        assert text == ""
        return asked.error

    assert await error_of(streams(until=5)) == "the stream ended without [DONE]"
    assert await error_of(lambda call: call.answer(b"busy", 503)) == "status 503: busy"
    assert await error_of(Call.reset) == "the connection was closed inside the answer"
    assert await error_of(lambda call: call.write(b"nonsense\r\n\r\n")) != ""
    asker.close()


async def test_a_turn_holds_the_answer_before_it_and_names_its_session(engine: FakeWorker) -> None:
    found = await play(Script(line_of(), 1, "m"), engine.port, PATIENCE_S)
    assert [one.error for one in found] == ["", "", ""]
    bodies = [msgspec.json.decode(call.body) for call in engine.calls]
    assert [message["role"] for message in bodies[1]["messages"]] == ["user", "assistant", "user"]
    assert bodies[1]["messages"][1]["content"] == "one two "
    assert {call.headers["x-session-id"] for call in engine.calls} == {"1-0"}


async def test_what_waits_for_a_failed_request_is_not_asked_and_counts_as_failed(engine: FakeWorker) -> None:
    engine.script = lambda call: call.answer(b"", 500)
    found = await play(Script(line_of(), 1, "m"), engine.port, PATIENCE_S)
    assert found[0].error.startswith("status 500")
    assert [one.error for one in found[1:]] == [NOT_ASKED, NOT_ASKED]
    assert len(engine.calls) == 1


async def test_what_has_no_answer_by_the_end_of_the_play_has_failed(engine: FakeWorker) -> None:
    def first_only(call: Call) -> None:
        if len(engine.calls) == 1:
            streams()(call)
        else:
            call.wait_gone()

    engine.script = first_only
    found = await play(Script(line_of(), 1, "m"), engine.port, 1.0)
    assert [one.error for one in found] == ["", OUT_OF_TIME, OUT_OF_TIME]


async def test_nobody_listening_is_an_error_of_the_request() -> None:
    asked, _ = await Asker(1).ask(b"{}", "", 0.0)
    assert asked.error.startswith("no connection")


# What comes of it.


def test_figures_are_the_engines_count_of_hits_and_the_clients_times() -> None:
    asked = [Asked(0.001 * n, 0.1 * n, 1.0, 100, 32, reason="warm") for n in range(1, 11)]
    asked.append(Asked(0.5, error="status 503"))
    run = figures(RUN, asked, [Truth(600, 300), Truth(400, 0), Truth(0, 0)], 5.0)
    assert run.hit_rate == pytest.approx(0.3)
    assert run.imbalance == pytest.approx(400 / (700 / 3))
    assert run.ttft_mean_s == pytest.approx(0.55)
    assert run.ttft_p99_s == pytest.approx(1.0)
    assert (run.requests, run.errors) == (11, {"status 503": 1})
    assert run.requests_per_s == pytest.approx(2.0)
    assert run.reasons == {"warm": 10}


def test_an_engine_that_does_not_count_hits_is_an_error() -> None:
    page = 'vllm:prefix_cache_queries_total{engine="0"} 10.0\nvllm:prefix_cache_hits_total{engine="0"} 4\n'
    assert counted(page) == Truth(10, 4)
    with pytest.raises(FleetFailed, match="prefix_cache_hits"):
        counted(page.splitlines()[0])


KEY = Key("agents", "asked", SIMULATED, OURS, "1", 0)
RUN = Run(KEY, 11)


def test_a_ring_goes_on_where_it_stopped_but_plays_again_what_failed(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    other = msgspec.structs.replace(RUN, key=msgspec.structs.replace(KEY, round=1), failed="no nginx")
    store = Store(path, resume=False)
    store.add(RUN)
    store.add(other)
    with path.open("ab") as file:
        file.write(b'{"key": {"workl')  # killed while it wrote
    again = Store(path, resume=True)
    assert again.get(KEY) == RUN
    assert again.get(other.key) is None
    assert Store(path, resume=False).get(KEY) is None, "a new ring begins anew"


def test_in_every_round_each_plays_each_workload_once_and_another_one_begins() -> None:
    everybody = list(contestants().values())
    programs = {one.program: "1" for one in everybody}
    agenda = Agenda(everybody, SMALL, 3, SIMULATED, programs)
    keys = [key for key, _, _ in agenda.plays()]
    assert len(keys) == len(set(keys)) == 3 * len(SMALL) * len(everybody)
    begin = {keys[at].contestant for at in range(0, len(keys), len(everybody))}
    assert len(begin) > len(SMALL)


async def test_a_contestant_that_cannot_run_is_a_row_with_the_reason(tmp_path: Path) -> None:
    ends = Contestant("ends", "warmroute", "", lambda _: [sys.executable, "-c", "print('out of luck')"])
    absent = replace(contestants()["nginx"], name="absent")
    stage = Stage(Places({}, "/no/such/nginx"), CORES[-1], CORES[0], (), "m", tmp_path)
    found = versions(stage, [ends])
    agenda = Agenda([ends, absent], {"unique": SMALL["unique"]}, 1, SIMULATED, found | {"nginx": "1"})
    said: list[str] = []
    runs = await play_all(agenda, stage, Store(tmp_path / "runs.jsonl", resume=False), said.append)
    assert "out of luck" in runs[0].failed
    assert "/no/such/nginx" in runs[1].failed
    assert len(said) == 2


@pytest.mark.parametrize("name", [OURS, OURS_EXACT])
async def test_ours_is_measured_by_real_processes(tmp_path: Path, name: str) -> None:
    tiny = Workload("tiny", "a few", "shared_prefix:groups=2,prefix_tokens=640,question_tokens=64,"
        "prompts_per_group=0,output_tokens=4,rate_per_s=20", 2.0)  # fmt: skip
    stage = Stage(Places({}, None), CORES[-1], CORES[0], (), "m", tmp_path)
    run = await measure(stage, contestants()[name], tiny, KEY, 1)
    assert not run.failed
    assert run.errors == {}
    assert run.requests > 10
    assert 0.3 < run.hit_rate <= run.hit_bound + 0.01 < 1
    assert sum(run.reasons.values()) == run.requests
    assert run.cpu_us > 0
    assert run.memory_mb > 10


def test_every_contestant_has_a_command_of_its_own_program(tmp_path: Path) -> None:
    places = Places({name: environment(tmp_path / name) for name in PINNED}, sys.executable)
    source = {"endpoint": "tcp://*:5557", "replay_endpoint": "tcp://*:5558"}
    with fake_workers(2) as engines:
        for engine in engines:
            engine.pages["/kv_event_sources"] = 200, msgspec.json.encode({"0": source})
        urls = tuple(engine.url for engine in engines)
        start = Start(places, 9, urls, "m", tmp_path)
        for one in contestants().values():
            command = one.command(start)
            words = " ".join(command) + "".join(
                path.read_text() for path in tmp_path.glob("*") if path.is_file()
            )
            assert urls[0].removeprefix("http://") in words or one.helpers is not None
            assert "9" in words.split() or "127.0.0.1:9" in words
            if one.name == "vllm-router kv_aware":
                assert f"{urls[1]}=tcp://127.0.0.1:5557" in command
                assert f"{urls[1]}=tcp://127.0.0.1:5558" in command
    assert set(QUICK) <= contestants().keys()


def test_who_is_to_be_told_of_events_cannot_run_before_engines_that_publish_none(tmp_path: Path) -> None:
    places = Places({name: environment(tmp_path / name) for name in PINNED}, sys.executable)
    with fake_workers(1) as engines:
        start = Start(places, 9, (engines[0].url,), "m", tmp_path)
        with pytest.raises(CannotRun, match="does not say where it publishes"):
            contestants()["vllm-router kv_aware"].command(start)


def environment(folder: Path) -> Path:
    """A virtual environment's shape."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").touch()
    return folder


def test_a_token_of_dynamos_stands_for_one_word_of_the_workloads(tmp_path: Path) -> None:
    write_model(tmp_path)
    tokenizer = msgspec.json.decode((tmp_path / "tokenizer.json").read_bytes())
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    script = Script(SMALL["unique"].trace(1), 1, "m")
    assert set(script.messages(0)[0]["content"].split()) <= vocabulary.keys()
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))


# Verdicts, and the page.


@given(st.lists(st.floats(0.2, 5), min_size=1, max_size=5), st.sampled_from(METRICS))
def test_better_and_worse_are_each_others_mirror(values: list[float], metric: Any) -> None:
    if metric.as_difference:
        gains = [value - 1 for value in values]
        mirrored = [-value for value in gains]
    else:
        gains, mirrored = values, [2 - value for value in values]
    words = word(metric, gains), word(metric, mirrored)
    assert words in {
        (Word.BETTER, Word.WORSE),
        (Word.WORSE, Word.BETTER),
        (Word.NOISE, Word.NOISE),
    }


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ((0.5, 0.6, 0.7), Word.BETTER),
        ((0.5, 0.6, 1.01), Word.NOISE),  # not in every round
        ((0.98, 0.99, 0.99), Word.NOISE),  # not by enough
        ((1.3, 1.2, 1.1), Word.WORSE),
    ],
)
def test_better_is_in_every_round_and_by_more_than_the_margin(ratios: Sequence[float], said: Word) -> None:
    assert word(METRICS[1], ratios) is said


def ring_of(ours: Sequence[float], theirs: Sequence[float]) -> Ring:
    """By round, the mean TTFT of ours and of one peer; another peer never ran."""
    runs = []
    for name, values in ((OURS, ours), ("nginx", theirs)):
        for number, ttft_s in enumerate(values):
            key = msgspec.structs.replace(KEY, contestant=name, round=number)
            runs.append(Run(key, 11 + number, requests=9, ttft_mean_s=ttft_s, ttft_p99_s=1, cpu_us=5))
    runs.append(Run(msgspec.structs.replace(KEY, contestant="smg"), 11, failed="cannot run: no index"))
    return Ring(
        SCHEMA, "published", "bench/ring.py", "0" * 12, "2026-11-21", "a machine", "3", SIMULATED,
        [About(OURS, "ours", "1"), About("nginx", "theirs", "2"), About("smg", "absent", "3")],
        [About("agents", "agents of three kinds")],
        runs,
    )  # fmt: skip


def test_rounds_are_compared_within_themselves() -> None:
    """Ours is faster in each round, though its slow rounds are slower than the other's fast ones."""
    mean = next(one for one in verdicts(ring_of((1, 2, 4), (2, 4, 8))) if one.metric.name == "mean TTFT")
    assert (mean.word, mean.values) == (Word.BETTER, (0.5, 0.5, 0.5))


def test_ours_with_events_is_no_peer_and_has_a_table_of_its_own() -> None:
    ring = ring_of((2, 2, 2), (1, 1, 1))
    runs = [
        Run(msgspec.structs.replace(KEY, contestant=OURS_EXACT, round=number), 1, ttft_mean_s=1.0, cpu_us=9)
        for number in range(3)
    ]
    with_events = msgspec.structs.replace(
        ring, contestants=[*ring.contestants, About(OURS_EXACT, "ours", "1")], runs=[*ring.runs, *runs]
    )
    assert {one.peer for one in verdicts(with_events)} == {"nginx"}
    assert {one.word for one in verdicts(with_events, OURS_EXACT) if one.metric is METRICS[1]} == {Word.NOISE}
    assert "`warmroute exact` beside `warmroute`" in page(with_events)
    assert "| mean TTFT | 0.50 **better** |" in page(with_events)
    assert "warmroute exact" not in page(ring)


def test_a_loss_stands_at_the_top_of_the_page_and_so_does_who_did_not_run() -> None:
    text = page(ring_of((2, 2, 2), (1, 1, 1)))
    assert "- agents, mean TTFT: 2.00 beside nginx" in text
    assert "- smg did not run: cannot run: no index" in text
    assert "It is worse nowhere." in page(ring_of((1, 1, 1), (1, 1, 1)))
    assert "nginx" in terminal(ring_of((1,), (1,)))


@pytest.mark.parametrize("name", ["comparison", "comparison-vllm"])
def test_the_page_in_the_repository_is_that_of_its_results(name: str) -> None:
    found = decoded((DOCS / f"{name}.json").read_bytes())
    assert (DOCS / f"{name}.md").read_text(encoding="utf-8") == page(found), "run bench/ring.py --render"


def test_results_are_read_as_they_were_written() -> None:
    ring = ring_of((1,), (2,))
    assert decoded(encoded(ring)) == ring
    with pytest.raises(ValueError, match="schema 2, but this version reads 1"):
        decoded(encoded(msgspec.structs.replace(ring, schema=2)))


def test_links_lead_somewhere_and_tables_have_as_many_columns_in_every_row() -> None:
    text = page(ring_of((1, 2, 3), (2, 2, 2)))
    links = re.findall(r"\]\(([^)#]+)", text)
    assert links
    assert all((DOCS / link).exists() for link in links)
    widths: dict[int, int] = {}
    table = 0
    for line in text.splitlines():
        if not line.startswith("|"):
            table += 1
            continue
        assert widths.setdefault(table, line.count("|")) == line.count("|"), line


def test_a_request_waits_for_nobody_in_open_loop() -> None:
    trace = SMALL["unique"].trace(1)
    assert all(playing.before(trace, row) == () for row in range(len(trace)))

"""The router's journal as a trace: written by the router's own core, compared with what was asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import isnan
from pathlib import Path

import pytest

from warmroute_policies.blocks import NO_BLOCKS, PromptBlocks, salt_of
from warmroute_policies.config import BalancerConfig
from warmroute_policies.errors import NoWorkers
from warmroute_policies.events import PolicySpec
from warmroute_policies.journal import RecordedBalancer
from warmroute_policies.registry import make_policy
from warmroute_policies.types import Outcome, RoutingRequest, Usage, WorkerSpec
from warmroute_simulator.traces.files import TraceError
from warmroute_simulator.traces.formats import ReadOptions, read_trace
from warmroute_simulator.traces.journal import journal_header, measured
from warmroute_simulator.traces.trace import NO_SESSION, Trace

BYTES = 4
"""Of a token, in these texts."""
WORKERS = ("http://a", "http://b")


class Recording:
    """A router's core that writes a journal, on a clock that starts somewhere. State: lines and clock."""

    def __init__(self, policy: str = "round_robin", workers: Sequence[str] = WORKERS) -> None:
        self.lines: list[bytes] = []
        spec = PolicySpec(policy, seed=3)
        self.balancer = RecordedBalancer(
            make_policy(policy, seed=3), BalancerConfig(), write=self.lines.append, made_by=spec
        )
        self.now = 500.0
        self.requests = 0
        for worker in workers:
            self.balancer.add_worker(WorkerSpec(worker, kv_capacity_tokens=100_000), self.now)

    def start(self, text: str, session: str | None = None, max_tokens: int | None = None, **more: str) -> int:
        """Writes. Routes a request, a second after what was last; its number."""
        self.now += 1.0
        self.requests += 1
        blocks = PromptBlocks(text.encode(), salt_of(more.get("model", "m")))
        model = more.get("model", "m")
        request = RoutingRequest(self.requests, model, blocks, max_tokens=max_tokens, session=session)
        self.balancer.route(request, self.now)
        return self.requests

    def end(
        self, number: int, usage: Usage | None, outcome: Outcome = Outcome.OK, first_token: bool = True
    ) -> None:
        """Writes. Ends a request, half a second after its first token."""
        if first_token:
            self.balancer.first_token(number, self.now + 0.25)
        self.balancer.finish(number, outcome, usage, self.now + 0.75)

    def ask(
        self,
        text: str,
        answer_tokens: int,
        cached_tokens: int | None = None,
        session: str | None = None,
        model: str = "m",
    ) -> None:
        """Writes. A whole request."""
        usage = Usage(len(text) // BYTES, answer_tokens, cached_tokens)
        self.end(self.start(text, session, model=model), usage)

    def write(self, path: Path, torn: bytes = b"") -> Path:
        path.write_bytes(b"".join(self.lines) + torn)
        return path


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Recording], Trace]:
    return lambda recording: read_trace(recording.write(tmp_path / "journal.jsonl"))


def path_ends(trace: Trace, row: int) -> list[int]:
    return [trace.tree.ends[node] for node in trace.tree.path(trace.prompts[row])]


def goes_on(trace: Trace, row: int, former: int) -> bool:
    """Reads. Whether a prompt holds the answer to a former one."""
    answer = trace.answers[former]
    return answer != trace.prompts[former] and answer in trace.tree.path(trace.prompts[row])


def words(seed: int, length: int) -> str:
    return "".join(random.Random(seed).choices("abcdefghij", k=length))


def test_a_trace_has_the_requests_arrivals_lengths_and_sessions(read: Callable[[Recording], Trace]) -> None:
    recording = Recording()
    recording.ask(words(1, 2_000), 50, session="alice")
    recording.ask(words(2, 4_096), 60)
    recording.ask(words(3, 100), 70, session="bob")
    recording.ask(words(4, 100), 80, session="alice")
    trace = read(recording)
    assert list(trace.arrivals_s) == [0.0, 1.0, 2.0, 3.0]
    assert [trace.prompt_tokens(row) for row in range(4)] == [500, 1_024, 25, 25]
    assert list(trace.output_tokens) == [50, 60, 70, 80]
    assert list(trace.sessions) == [0, NO_SESSION, 1, 0]
    assert not trace.closed_loop


def test_prompts_share_whole_blocks_at_their_own_ratio_of_tokens(read: Callable[[Recording], Trace]) -> None:
    document = words(5, 5_000)
    recording = Recording()
    recording.ask(document + words(6, 300), 5)
    recording.ask(document + words(7, 1_000), 5)
    trace = read(recording)
    # Nine blocks of 512 bytes are the document's, at 4 bytes a token.
    assert path_ends(trace, 0) == [1_152, 1_280, 1_325]
    assert path_ends(trace, 1) == [1_152, 1_408, 1_500]
    assert trace.tree.path(trace.prompts[0])[0] == trace.tree.path(trace.prompts[1])[0]


def test_a_conversation_of_one_session_goes_on_from_its_answers(read: Callable[[Recording], Trace]) -> None:
    recording = Recording()
    text = words(8, 3_000)
    lengths = []
    for turn in range(4):
        recording.ask(text, 100, session="s")
        lengths.append(len(text) // BYTES)
        text += words(20 + turn, 100 * BYTES + 600)
    trace = read(recording)
    for row in range(3):
        answer = trace.answers[row]
        assert trace.tree.parents[answer] == trace.prompts[row]
        assert trace.tree.ends[answer] == lengths[row] + 100
        assert answer in trace.tree.path(trace.prompts[row + 1])
    assert trace.answers[3] == trace.prompts[3]


def test_questions_behind_one_system_prompt_do_not_go_on_from_each_other(
    read: Callable[[Recording], Trace],
) -> None:
    system = words(9, 512 * 6)
    recording = Recording()
    for question in range(6):
        recording.ask(system + words(30 + question, 50 + 300 * question), 20)
    trace = read(recording)
    assert trace.answers == trace.prompts
    assert {tuple(path_ends(trace, row)[:1]) for row in range(6)} == {(768,)}


def test_a_nameless_prompt_alone_behind_another_goes_on_from_its_answer(
    read: Callable[[Recording], Trace],
) -> None:
    recording = Recording()
    text = words(10, 2_100)
    recording.ask(text, 40)
    recording.ask(text + words(11, 1_000), 40)
    trace = read(recording)
    assert goes_on(trace, 1, 0)


@pytest.mark.parametrize(("cached_tokens", "comes_back"), [(560, True), (512, False)])
def test_the_engine_that_wrote_the_answer_says_whether_it_is_gone_on_from(
    read: Callable[[Recording], Trace], cached_tokens: int, comes_back: bool
) -> None:
    recording = Recording(workers=WORKERS[:1])
    text = words(10, 2_100)
    recording.ask(text, 40, 0)
    # Equal in whole blocks only, so the router's core does not see it as going on.
    recording.ask(text[:2_048] + words(11, 1_052), 40, cached_tokens)
    trace = read(recording)
    assert goes_on(trace, 1, 0) is comes_back
    assert (trace.answers[0] != trace.prompts[0]) is comes_back


def test_the_journals_own_word_counts(read: Callable[[Recording], Trace]) -> None:
    recording = Recording("cache_aware")
    system = words(12, 512 * 4)
    for question in range(3):  # of several lengths, so that nothing else tells
        recording.ask(system + words(50 + question, 100 + question), 40, 0)
    last = system + words(52, 102)
    recording.ask(last + words(13, 700), 40)
    assert b'"continued":true' in b"".join(recording.lines[-4:])
    trace = read(recording)
    assert goes_on(trace, 3, 2)


@pytest.mark.parametrize(("cached_tokens", "comes_back"), [((560, 736), True), ((512, 688), False)])
def test_what_the_engine_had_of_an_answer_counts_more_than_the_journals_word(
    read: Callable[[Recording], Trace], cached_tokens: tuple[int, int], comes_back: bool
) -> None:
    recording = Recording(workers=WORKERS[:1])
    text = words(10, 2_100)
    recording.ask(text, 40, 0)
    for turn, cached in enumerate(cached_tokens):  # in pages of 16
        text += words(70 + turn, 700)
        recording.ask(text, 40, cached)
        assert b'"continued":true' in b"".join(recording.lines[-3:])
    trace = read(recording)
    assert [goes_on(trace, row + 1, row) for row in range(2)] == [comes_back] * 2


def test_where_no_answer_that_can_be_checked_comes_back_none_is_believed_to(
    read: Callable[[Recording], Trace],
) -> None:
    recording = Recording()
    former = [words(80 + number, 2_100) for number in range(3)]
    longer = [text + words(90 + number, 700 + 32 * number) for number, text in enumerate(former)]
    turns = [(former[0], 0), (former[1], 0), (longer[0], 512), (longer[1], 512)]  # each where it was
    turns += [(longer[0] + words(99, 700), 688)]
    turns += [(former[2], 0), (longer[2], 0)]  # here and there
    for text, cached in turns:
        recording.ask(text, 40, cached)
    assert b'"continued":true' in b"".join(recording.lines[-3:])
    trace = read(recording)
    assert trace.answers == trace.prompts
    # All of the former prompt, with the end that fills no block.
    assert 525 in path_ends(trace, 6)
    assert 525 in path_ends(trace, 5)


def test_models_whose_answers_do_not_come_back_say_nothing_of_others(
    read: Callable[[Recording], Trace],
) -> None:
    recording = Recording()
    thinks = [words(110 + number, 2_100 + 200 * number) for number in range(4)]
    plain = words(120, 2_100)
    for text in thinks:
        recording.ask(text, 40, 0, model="thinks")
    for text in thinks:  # each where it was, in pages of 16
        recording.ask(text + words(130, 700), 40, len(text) // BYTES // 16 * 16, model="thinks")
    recording.ask(plain, 40, 0, model="plain")
    recording.ask(plain + words(131, 700), 40, 0, model="plain")
    assert b'"continued":true' in b"".join(recording.lines[-3:])
    trace = read(recording)
    assert goes_on(trace, 9, 8)
    assert not any(goes_on(trace, row + 4, row) for row in range(4))


def test_an_answer_that_was_evicted_with_its_question_is_not_taken_for_another_text(
    read: Callable[[Recording], Trace],
) -> None:
    recording = Recording(workers=WORKERS[:1])
    system = words(140, 512 * 6)
    for number in range(3):
        text = system + words(141 + number, 400)
        recording.ask(text, 60, 768 if number else 0)
        # Of the former prompt its system prompt is still held, and nothing else.
        recording.ask(text + words(145, 900), 60, 784 if number else 768)
        assert b'"continued":true' in b"".join(recording.lines[-3:])
    trace = read(recording)
    assert all(goes_on(trace, row + 1, row) for row in (0, 2, 4))


def test_each_workers_pages_are_its_own(read: Callable[[Recording], Trace]) -> None:
    recording = Recording()
    text = words(150, 2_120)
    recording.ask(text, 40, 0)  # there, in pages of 32: 530 tokens and an answer of 40 are 544 in whole pages
    recording.ask(words(151, 2_000), 40, 0)  # here, in pages of 1
    recording.ask(text + words(152, 900), 40, 544)
    recording.ask(words(151, 2_000) + words(153, 900), 40, 539)
    recording.ask(words(154, 1_000), 40, 32)
    trace = read(recording)
    assert all(goes_on(trace, row + 2, row) for row in range(2))


def test_one_question_taken_up_again_is_not_shared_by_all_behind_its_system_prompt(
    read: Callable[[Recording], Trace],
) -> None:
    system = words(160, 512 * 4)
    questions = [system + words(161 + number, 344 - 8 * number) for number in range(4)]
    recording = Recording()
    for text in questions:
        recording.ask(text, 2_000)  # more than the next prompt has room for
    recording.ask(questions[3] + words(170, 900), 40)
    assert b'"continued":true' in b"".join(recording.lines[-3:])
    trace = read(recording)
    assert {path_ends(trace, row)[0] for row in range(5)} == {512}
    assert len({trace.tree.path(trace.prompts[row])[1] for row in range(4)}) == 4


def test_a_prompt_that_was_sent_elsewhere_goes_on_from_none_that_came_after_it(tmp_path: Path) -> None:
    recording = Recording()
    text = words(180, 2_100)
    recording.ask(text, 40)
    late = recording.start(text + words(181, 900))
    recording.ask(text, 40)
    recording.balancer.reroute(late, recording.now + 0.1)
    recording.end(late, Usage(750, 40))
    assert b'"continued":true' in b"".join(recording.lines[-4:])
    trace = read_trace(recording.write(tmp_path / "journal.jsonl"))
    assert goes_on(trace, 1, 0)


def test_what_engines_had_cached_of_a_block_that_prompts_part_in_is_shared(
    read: Callable[[Recording], Trace],
) -> None:
    system = words(14, 512 * 4 + 400)
    recording = Recording()
    for question in range(5):
        recording.ask(system + words(60 + question, 900), 5, 0 if question < 2 else 608)
    trace = read(recording)
    assert {tuple(path_ends(trace, row)[:2]) for row in range(5)} == {(512, 608)}
    assert len({tuple(trace.tree.path(trace.prompts[row])[:2]) for row in range(5)}) == 1


def test_refused_and_failed_requests_are_told(tmp_path: Path, read: Callable[[Recording], Trace]) -> None:
    recording = Recording()
    number = recording.start(words(15, 800), max_tokens=30)
    recording.end(number, None, Outcome.CLIENT_GONE)
    recording.end(recording.start(words(16, 800)), None, Outcome.CLIENT_ERROR, first_token=False)
    recording.end(recording.start(words(17, 800)), Usage(190, None, None))
    for worker in WORKERS:
        recording.balancer.drain_worker(worker, True, recording.now)
    with pytest.raises(NoWorkers):
        recording.start(words(18, 800))
    for worker in WORKERS:
        recording.balancer.drain_worker(worker, False, recording.now)
    recording.start(words(19, 800))
    trace = read(recording)
    assert [trace.prompt_tokens(row) for row in range(len(trace))] == [200, 190, 200]
    assert list(trace.output_tokens) == [30, 1, 1]
    assert set(trace.notes) >= {
        "1 requests were refused by the router and are left out",
        "1 requests were refused by their worker and are left out",
        "1 requests ended with client_gone",
        "1 requests had not ended",
        "1 requests without a counted answer are taken to have their `max_tokens`",
        "2 requests without a counted answer are taken to have one token",
    }


def test_a_rerouted_request_is_one_request(tmp_path: Path) -> None:
    recording = Recording()
    number = recording.start(words(21, 2_000))
    recording.balancer.reroute(number, recording.now + 0.1)
    recording.end(number, Usage(480, 9, 16))
    path = recording.write(tmp_path / "journal.jsonl")
    assert len(read_trace(path)) == 1
    (row,) = measured(path)
    assert row.worker == WORKERS[1]
    assert (row.prompt_tokens, row.cached_tokens, row.output_tokens) == (480, 16, 9)
    assert (row.ttft_s, row.e2e_s, row.outcome) == (0.25, 0.75, Outcome.OK)


@pytest.mark.parametrize("hedge_wins", [True, False])
def test_a_hedged_request_is_one_request_of_the_worker_whose_answer_was_taken(
    tmp_path: Path, hedge_wins: bool
) -> None:
    recording = Recording()
    number = recording.start(words(21, 2_000))
    recording.balancer.hedge(number, -number, recording.now + 0.1)
    won, lost = (-number, number) if hedge_wins else (number, -number)
    recording.end(lost, None, Outcome.CANCELLED, first_token=False)
    recording.end(won, Usage(480, 9, 16))
    path = recording.write(tmp_path / "journal.jsonl")
    trace = read_trace(path)
    assert len(trace) == 1
    assert not any("ended with" in note for note in trace.notes), "the leg that lost is no failure"
    (row,) = measured(path)
    assert row.worker == WORKERS[1 if hedge_wins else 0]
    assert (row.prompt_tokens, row.cached_tokens, row.output_tokens) == (480, 16, 9)
    assert (row.ttft_s, row.e2e_s, row.outcome) == (0.25, 0.75, Outcome.OK)


def test_what_was_not_measured_is_not_a_number(tmp_path: Path) -> None:
    recording = Recording()
    recording.start(words(22, 2_000))
    (row,) = measured(recording.write(tmp_path / "journal.jsonl"))
    assert isnan(row.ttft_s)
    assert isnan(row.e2e_s)
    assert (row.cached_tokens, row.output_tokens, row.outcome) == (None, None, None)


def test_the_header_tells_policy_and_fleet(tmp_path: Path) -> None:
    recording = Recording("cache_aware")
    recording.balancer.update_worker(WorkerSpec("http://b", kv_capacity_tokens=7_000), recording.now)
    recording.balancer.add_worker(WorkerSpec("http://c"), recording.now)
    recording.balancer.remove_worker("http://a", recording.now)
    recording.ask(words(23, 100), 5)
    recording.balancer.remove_worker("http://c", recording.now)
    header = journal_header(recording.write(tmp_path / "journal.jsonl"))
    assert header.policy == PolicySpec("cache_aware", seed=3)
    assert header.config == BalancerConfig()
    assert [(worker.worker_id, worker.kv_capacity_tokens) for worker in header.workers] == [
        ("http://b", 7_000),
        ("http://c", None),
    ]


def test_what_was_measured_live_is_told_beside_the_trace(read: Callable[[Recording], Trace]) -> None:
    recording = Recording()
    recording.ask(words(25, 2_000), 5, cached_tokens=0)
    recording.ask(words(25, 2_000), 5, cached_tokens=400)
    recording.ask(words(26, 4_000), 5)  # an engine that does not tell its hits has no part in their rate
    live = "measured live: hit rate 40.0 %, mean TTFT 250.0 ms (p50 250.0 ms, p99 250.0 ms)"
    assert read(recording).notes == [live]


def test_a_torn_last_line_is_left_out_and_a_torn_other_one_is_an_error(tmp_path: Path) -> None:
    recording = Recording()
    recording.ask(words(24, 900), 5)
    path = recording.write(tmp_path / "journal.jsonl", torn=b'{"e":"rou')
    torn = f"1 line at the end is torn and left out (line {len(recording.lines) + 1})"
    assert torn in read_trace(path).notes
    path = recording.write(tmp_path / "journal.jsonl", torn=b'{"e":"rou\n')
    number = len(recording.lines) + 1
    with pytest.raises(TraceError, match=rf"journal.jsonl line {number}: expected a line of JSON"):
        read_trace(path)
    assert read_trace(path, ReadOptions(skip_bad=True)).skipped == 1
    assert journal_header(path).policy.name == "round_robin", "the fleet is known even so"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([b'{"e":"header","version":9}\n'], "line 1: field `version`: expected 1, which is what"),
        ([b'{"e":"tick","now":1}\n'], "line 1: expected a header"),
        (None, "line 2: expected one header; each run"),
    ],
)
def test_a_journal_begins_with_one_header_of_this_version(
    tmp_path: Path, lines: Sequence[bytes] | None, message: str
) -> None:
    header = Recording().lines[0]
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(lines or [header, header]))
    with pytest.raises(TraceError, match=message):
        read_trace(path)


def test_the_limit_counts_requests_and_waits_for_their_ends(tmp_path: Path) -> None:
    recording = Recording()
    first = recording.start(words(25, 900))
    recording.ask(words(26, 900), 5)
    recording.ask(words(27, 900), 5)
    recording.end(first, Usage(225, 33, None))
    path = recording.write(tmp_path / "journal.jsonl")
    trace = read_trace(path, ReadOptions(limit=2))
    assert list(trace.output_tokens) == [33, 5]


def test_several_models_are_told(read: Callable[[Recording], Trace]) -> None:
    recording = Recording()
    text = words(28, 900)
    for model in ("m", "n"):
        recording.end(recording.start(text, model=model), Usage(225, 5, 0))
    trace = read(recording)
    assert "of 2 models, which are simulated as one" in trace.notes
    assert trace.tree.path(trace.prompts[0])[0] != trace.tree.path(trace.prompts[1])[0]


def test_requests_about_what_one_worker_keeps_are_left_out_and_counted(
    read: Callable[[Recording], Trace], tmp_path: Path
) -> None:
    recording = Recording()
    recording.ask("a" * 4_000, 5)
    for number in (100, 101):
        recording.balancer.route(RoutingRequest(number, "", NO_BLOCKS, owner="http://b"), recording.now)
        recording.balancer.finish(number, Outcome.OK, None, recording.now)
    recording.ask("b" * 4_000, 5)
    trace = read(recording)
    assert len(trace.prompts) == 2
    assert any("2 requests about what one worker keeps" in note for note in trace.notes), trace.notes
    assert len(measured(tmp_path / "journal.jsonl")) == 2


def test_a_policy_that_took_over_is_no_request_and_changes_none(tmp_path: Path) -> None:
    recordings = []
    for switches in (False, True):
        recording = Recording()
        for number in range(6):
            if switches and number % 2:
                made = PolicySpec("least_requests" if number == 3 else "round_robin", seed=3)
                recording.balancer.set_policy(make_policy(made.name, seed=3), made, recording.now)
            started = recording.start(f"prompt {number} " * 200)
            recording.end(started, Usage(600, 10, 0))
        recordings.append(recording)
    plain, switched = (recording.write(tmp_path / f"{n}.jsonl") for n, recording in enumerate(recordings))
    assert len(switched.read_bytes().splitlines()) == len(plain.read_bytes().splitlines()) + 3
    assert [row.prompt_tokens for row in measured(switched)] == [600] * 6
    assert journal_header(switched).workers == journal_header(plain).workers
    assert list(read_trace(switched).arrivals_s) == list(read_trace(plain).arrivals_s)

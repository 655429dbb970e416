"""A stream ends up with what the engine holds, whatever was lost, late, double or began anew."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from itertools import count

import msgspec
import pytest

from kv_events.recording import WORKER, RecordingCore, live_a_little
from live.kv_engine import DIALECTS, Dialect, KvEngine
from warmroute.kv_events.counts import Counts
from warmroute.kv_events.ledger import Ledger
from warmroute.kv_events.stream import Stream
from warmroute.kv_events.wire import Message


class Rig:
    """An engine, a stream, and what is between them: messages that may be lost, replays that take a while.
    Time goes on by ten seconds with every message, so that no restart is too quick."""

    def __init__(
        self, engine: KvEngine | None = None, *, replays: bool = True, rank_is_known: bool = True
    ) -> None:
        self.engine = engine or KvEngine(block_tokens=4)
        self.core, self.counts = RecordingCore(), Counts(WORKER)
        self.ledger = Ledger(WORKER, 0, self.core, self.counts, 4)
        self.asked: list[int] = []
        self.answers: deque[Message | None] | None = None
        """Of the replay under way; None: it is not answered."""
        self.answering = True
        self.woken = False
        ask = self._ask if replays else None
        self.stream = Stream(self.ledger, self.counts, ask, self._wake, rank_is_known=rank_is_known)
        self._clock = count(1000.0, 10.0)

    def _ask(self, from_seq: int) -> None:
        self.asked.append(from_seq)
        self.answers = None
        if self.answering:
            kept = [Message(b"", seq, payload) for seq, payload in self.engine.kept if seq >= from_seq]
            self.answers = deque([*kept, None])

    def _wake(self) -> None:
        self.woken = True

    def restart(self) -> None:
        """Another process answers at the engine's address."""
        self.engine.restart()
        self.answers = None
        self.stream.connected(next(self._clock))

    def begin(self) -> Rig:
        self.stream.begin(next(self._clock))
        return self

    def publish(self, *, lost: bool = False, payload: bytes | None = None) -> Message:
        """The engine's next batch."""
        seq, told = self.engine.batch()
        message = Message(b"", seq, told if payload is None else payload)
        if not lost:
            self.live(message)
        return message

    def live(self, message: Message) -> None:
        self.stream.live(message, next(self._clock))

    def prompt(self, *tokens: int, lost: bool = False) -> None:
        """Four blocks for each number, and their batch."""
        self.engine.prompt([token for token in tokens for _ in range(4)])
        self.publish(lost=lost)

    def answer(self, most: int = 10**9, *, drop: Iterator[bool] | None = None) -> None:
        """The replay under way tells so many batches, and its end."""
        answers, asked = self.answers, len(self.asked)
        while answers and most and len(self.asked) == asked:
            most -= 1
            message = answers.popleft()
            if message is None:
                self.answers = None
                self.stream.replay_ended(next(self._clock))
            elif drop is None or message.seq == self.asked[-1] or not next(drop):
                self.stream.replayed(message, next(self._clock))

    def settle(self) -> None:
        """Every replay is answered, nothing waits."""
        for _ in range(1000):
            if self.answers:
                self.answer()
            elif self.stream.asked is not None:
                self.stream.replay_failed(next(self._clock))
            elif not self.stream.step(next(self._clock)) and self.stream.asked is None:
                return
        raise AssertionError("it never settles")

    @property
    def held(self) -> list[set[int]]:
        return self.core.lanes[0]

    def knows_all(self) -> bool:
        return self.held == self.engine.ids() and self.core.complete == {0: True} and not self.stream.shortage


# --- from the beginning -----------------------------------------------------------------------------


def test_who_is_there_from_the_first_batch_on_knows_all_without_replay() -> None:
    rig = Rig(replays=False).begin()
    rig.prompt(1, 2, 3)
    rig.prompt(1, 2, 4)
    assert rig.knows_all()


def test_who_joins_late_asks_for_all_and_knows_all() -> None:
    rig = Rig()
    for number in range(5):
        rig.prompt(1, number, lost=True)
    rig.begin()
    rig.prompt(1, 9)  # waits
    assert rig.core.calls == 0
    rig.answer(2)
    assert rig.core.complete == {0: False}, "while old batches are applied the cache is not known whole"
    rig.settle()
    assert (rig.asked, rig.knows_all()) == ([0], True)


def test_who_joins_late_without_replay_knows_what_comes_and_not_whole() -> None:
    rig = Rig(replays=False)
    rig.prompt(1, 2, lost=True)
    rig.begin()
    rig.prompt(7, 8)
    assert (rig.stream.shortage, rig.core.complete) == ("joined late", {0: False})
    assert rig.held[0] < rig.engine.ids()[0]
    rig.engine.clear()
    rig.prompt(5, 6)
    assert rig.knows_all(), "an engine that cleared its cache holds nothing that is not known"


def test_an_engine_that_has_published_nothing_holds_nothing() -> None:
    rig = Rig().begin()
    rig.settle()
    assert (rig.core.complete, rig.stream.last) == ({0: True}, -1)
    rig.prompt(1, 2)
    assert rig.knows_all()


def test_an_engine_that_has_forgotten_its_first_batches_is_not_known_whole() -> None:
    rig = Rig(KvEngine(block_tokens=4, kept=3))
    for number in range(6):
        rig.prompt(number, lost=True)
    rig.begin().settle()
    assert (rig.stream.shortage, rig.core.complete, rig.counts.replays["short"]) == (
        "joined late",
        {0: False},
        1,
    )
    assert rig.held[0] < rig.engine.ids()[0]


def test_a_replay_that_nobody_answers_is_as_none_and_is_asked_for_again() -> None:
    rig = Rig()
    rig.prompt(1, 2, lost=True)
    rig.answering = False
    rig.begin()
    rig.prompt(3, 4)
    rig.settle()
    assert (rig.stream.shortage, rig.counts.replays["unanswered"]) == ("joined late", 1)
    rig.answering = True
    rig.stream.verify(0.0)
    rig.settle()
    assert rig.knows_all()


# --- what is missing --------------------------------------------------------------------------------


def test_a_gap_is_filled_and_what_came_meanwhile_is_applied_behind_it() -> None:
    rig = Rig().begin()
    rig.settle()
    rig.prompt(1, 2)
    rig.prompt(1, 3, lost=True)
    rig.prompt(1, 3, 4)
    rig.prompt(1, 3, 5)
    assert (rig.asked, rig.counts.gaps) == ([0, 0], 1)
    rig.settle()
    assert rig.knows_all()


def test_a_last_batch_that_was_lost_is_found_when_somebody_asks() -> None:
    rig = Rig().begin()
    rig.settle()
    rig.prompt(1, 2)
    rig.prompt(3, 4, lost=True)
    assert not rig.knows_all()
    rig.stream.verify(0.0)
    rig.settle()
    assert rig.knows_all()
    calls = rig.core.calls
    rig.stream.verify(0.0)
    rig.settle()
    assert rig.core.calls == calls, "to find nothing changes nothing"


def test_a_gap_that_cannot_be_filled_leaves_no_phantom() -> None:
    rig = Rig(replays=False).begin()
    rig.prompt(1, 2)
    rig.engine.evict(8, random.Random(0))
    rig.publish(lost=True)
    rig.prompt(7, 8)
    assert (rig.stream.shortage, rig.core.complete) == ("gap", {0: False})
    assert rig.held == rig.engine.ids()


def test_a_gap_beyond_what_the_engine_keeps_leaves_what_it_still_tells() -> None:
    rig = Rig(KvEngine(block_tokens=4, kept=2)).begin()
    rig.settle()
    for number in range(6):
        rig.prompt(number, 9, lost=number not in (0, 5))
    rig.settle()
    assert (rig.stream.shortage, rig.counts.replays["short"]) == ("gap", 1)
    assert rig.held[0] < rig.engine.ids()[0]
    assert len(rig.held[0]) == 4, "of the last two prompts"


def test_a_publisher_that_leaves_numbers_out_does_not_make_the_stream_ask_for_ever() -> None:
    rig = Rig().begin()
    rig.settle()
    for _ in range(20):
        rig.engine.next_seq += 1
        rig.prompt(1, 2)
        rig.settle()
    assert len(rig.asked) <= 41


def test_a_batch_that_cannot_be_read_takes_what_was_known_with_it() -> None:
    rig = Rig().begin()
    rig.settle()
    rig.prompt(1, 2)
    rig.engine.prompt([3] * 4)
    rig.engine.evict(8, random.Random(0))
    rig.publish(payload=b"\xc1")
    assert (rig.held[0], rig.stream.shortage, rig.counts.odds["unreadable"]) == (set(), "gap", 1)
    rig.prompt(5, 6)
    assert rig.held == rig.engine.ids(), "it goes on behind it"


def test_what_waits_is_bounded_and_what_is_dropped_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("warmroute.kv_events.stream._WAITING_MAX", 3)
    rig = Rig().begin()
    for number in range(10):
        rig.prompt(1, number)
    assert len(rig.stream._waiting) == 3
    rig.settle()
    assert rig.knows_all()
    assert len(rig.asked) == 2


# --- what began anew --------------------------------------------------------------------------------


def test_an_engine_that_counts_anew_has_an_empty_cache() -> None:
    rig = Rig().begin()
    rig.settle()
    for number in range(5):
        rig.prompt(1, number)
    rig.engine.restart()
    rig.prompt(7, 8)
    assert rig.held == [set()] * 4
    rig.settle()
    assert (rig.knows_all(), rig.counts.restarts) == (True, 1)


def test_an_engine_that_began_anew_unseen_is_found_out_by_its_last_batch() -> None:
    for published in (0, 1, 5, 9):
        rig = Rig().begin()
        rig.settle()
        for number in range(5):
            rig.prompt(1, number)
        rig.engine.restart()
        for number in range(published):
            rig.prompt(2, number, lost=True)
        rig.stream.verify(0.0)
        rig.settle()
        assert rig.held == rig.engine.ids(), published
        assert (rig.core.complete, rig.counts.restarts) == ({0: True}, 1), published


def test_a_batch_that_came_by_replay_and_live_is_applied_once() -> None:
    rig = Rig()
    late = []
    for number in range(4):
        rig.engine.prompt([number] * 8)
        late.append(rig.publish(lost=True))
    rig.begin().settle()
    for message in late:
        rig.live(message)
    assert (rig.counts.restarts, rig.counts.batches, rig.knows_all()) == (0, 4, True)


def test_two_engines_in_one_stream_do_not_make_it_ask_all_the_time() -> None:
    rig = Rig().begin()
    rig.settle()
    other = KvEngine(block_tokens=4)
    now = 50_000.0
    for number in range(200):
        seq, payload = (rig.engine if number % 2 else other).batch()
        rig.stream.live(Message(b"", seq, payload), now + number / 1000)
    assert len(rig.asked) < 5


def test_a_doubted_stream_begins_anew_with_the_next_batch() -> None:
    rig = Rig().begin()
    rig.settle()
    rig.prompt(1, 2)
    rig.core.doubt_blocks(WORKER, 0.0)
    rig.stream.doubt()
    rig.stream.verify(0.0)
    assert rig.asked == [0], "it is not looked after"
    rig.prompt(3, 4)
    rig.settle()
    assert rig.knows_all()


# --- ranks ------------------------------------------------------------------------------------------


def test_a_rank_that_nobody_named_is_what_the_batches_say() -> None:
    rig = Rig(KvEngine(block_tokens=4, rank=3), rank_is_known=False).begin()
    rig.ledger.block_tokens = 0
    rig.settle()
    rig.prompt(1, 2)
    assert set(rig.core.lanes) == {3}
    seq, _ = rig.engine.batch()
    rig.live(Message(b"", seq, msgspec.msgpack.encode([1e10, [{"type": "AllBlocksCleared"}], 4])))
    assert (rig.counts.odds["rank"], len(rig.core.lanes[3][0])) == (1, 2), "another rank's is not ours"


# --- whatever happens -------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kept", [10_000, 8])
def test_whatever_is_lost_and_whenever_it_restarts_knowledge_becomes_true(
    dialect: Dialect, kept: int
) -> None:
    for seed in range(40):
        chance = random.Random(seed)
        rig = Rig(KvEngine(dialect, block_tokens=4, kept=kept))
        loss = chance.choice([0.01, 0.1, 0.5])
        drops = (lot < 0.05 for lot in iter(chance.random, 1.0))
        begun = False
        for _ in range(chance.randint(1, 120)):
            what = chance.random()
            if not begun and what < 0.2:
                begun = True
                rig.begin()
            elif what < 0.6:
                live_a_little(rig.engine, chance)
                rig.publish(lost=not begun or chance.random() < loss)
            elif what < 0.85:
                rig.answer(chance.randint(1, 4), drop=drops)
            elif what < 0.9:
                rig.stream.step(next(rig._clock))
            elif what < 0.93:
                rig.stream.verify(next(rig._clock))
            elif what < 0.95:
                rig.restart()
            elif what < 0.96 and rig.stream.asked is not None:
                rig.answers = None
                rig.stream.replay_failed(next(rig._clock))
            elif what < 0.97:
                rig.answering = not rig.answering
        rig.answering = True
        if not begun:
            rig.begin()
        for _ in range(3):
            rig.settle()
            rig.engine.prompt([seed] * 8)
            rig.publish()
            rig.settle()
            rig.stream.verify(next(rig._clock))
        rig.settle()
        where = f"{dialect}, {kept} kept, seed {seed}, {rig.stream.shortage}"
        for known, true in zip(rig.held, rig.engine.ids(), strict=True):
            assert known <= true, f"phantoms: {where}"
        if kept == 10_000:
            assert rig.knows_all(), where
        else:
            assert rig.core.complete[0] == (not rig.stream.shortage), where
            if not rig.stream.shortage:
                assert rig.held == rig.engine.ids(), where

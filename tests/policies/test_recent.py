"""What the books said lately is never told narrower than it was, and takes bounded room."""

from __future__ import annotations

from random import Random

import pytest

from warmroute_policies.recent import GRAIN_S, HORIZON_S, Extremes, Recent


@pytest.mark.parametrize("seed", range(60))
def test_a_window_holds_all_that_the_books_said_in_it(seed: int) -> None:
    chance, recent = Random(seed), Recent()
    now = began = 100.0
    said = [(now, (0, 0, 0))]
    recent.begin(3, 0, 0, 0, now)
    for _ in range(400):
        now += chance.choice([0.0, 0.001, 0.01, 0.07, 0.4])
        books = (chance.randrange(20), chance.randrange(20), chance.randrange(9000))
        recent.note(3, *books, now)
        said.append((now, books))
        since = max(began, now - chance.random() * HORIZON_S)
        before = [books for at, books in said if at <= since][-1:]
        within = before + [books for at, books in said if at > since]
        found = recent.extremes(3, since, now)
        assert found is not None, f"seed {seed}"
        # A grain earlier may be in it too, and nothing beyond.
        wider = [books for at, books in said if at > since - GRAIN_S]
        wider += [books for at, books in said if at <= since - GRAIN_S][-1:]
        assert min(r for r, _, _ in wider) <= found.least_requests <= min(r for r, _, _ in within)
        assert max(r for r, _, _ in within) <= found.most_requests <= max(r for r, _, _ in wider)
        assert max(w for _, w, _ in within) <= found.most_waiting <= max(w for _, w, _ in wider)
        assert max(t for _, _, t in within) <= found.most_tokens <= max(t for _, _, t in wider)


def test_of_what_was_before_nothing_is_known() -> None:
    recent = Recent()
    assert recent.extremes(0, 10.0, 10.0) is None
    recent.begin(0, 4, 2, 700, 10.0)
    assert recent.extremes(0, 9.9, 11.0) is None
    assert recent.extremes(0, 10.0, 11.0) == Extremes(4, 4, 2, 700)
    assert recent.extremes(0, 12.0, 12.1 + HORIZON_S) is None, "so long ago, others' requests came and went"
    recent.end(0)
    recent.end(0)
    assert recent.extremes(0, 10.0, 11.0) is None


def test_a_slot_that_is_busy_for_hours_takes_no_more_room_than_its_horizon() -> None:
    recent = Recent()
    recent.begin(0, 0, 0, 0, 0.0)
    for number in range(100_000):
        recent.note(0, number, 0, 0, number / 100)
    assert len(recent._pasts[0].entries) <= HORIZON_S / GRAIN_S + 1

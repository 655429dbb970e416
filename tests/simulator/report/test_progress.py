"""The bar on stderr, with a clock that the test turns."""

from __future__ import annotations

import io

from warmroute_simulator.report.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Says what it was set to, and counts how often it was asked."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        return self.now


def run(stream: io.StringIO, items: int, per_item_s: float) -> tuple[bool, Clock]:
    clock = Clock()
    with Progress(items, "requests", stream, clock) as progress:
        for _ in range(items):
            clock.now += per_item_s
            progress.advance()
        return progress.shown, clock


def test_what_takes_less_than_a_second_shows_nothing() -> None:
    terminal = Terminal()
    shown, _ = run(terminal, 900, 0.001)
    assert not shown
    assert terminal.getvalue() == ""


def test_what_takes_longer_shows_how_far_it_is_and_how_long_it_will_take() -> None:
    terminal = Terminal()
    clock = Clock()
    with Progress(10_000, "requests", terminal, clock) as progress:
        clock.now = 30.0
        progress.advance(2_500)
        assert progress.shown
    written = terminal.getvalue()
    assert "requests" in written
    assert "2500/10000" in written
    assert "0:01:30 left" in written


def test_where_stderr_is_no_terminal_nothing_is_written_and_no_clock_is_read() -> None:
    file = io.StringIO()
    shown, clock = run(file, 1_000, 1.0)
    assert not shown
    assert file.getvalue() == ""
    assert clock.asked == 1


def test_the_clock_is_read_some_ten_times_a_second_and_not_for_every_request() -> None:
    _, clock = run(Terminal(), 100_000, 0.0001)  # ten seconds
    assert 60 <= clock.asked <= 200


def test_few_slow_steps_are_all_shown() -> None:
    _, clock = run(Terminal(), 5, 20.0)
    assert clock.asked == 6


def test_a_total_that_nobody_knows_gives_no_time_left() -> None:
    terminal = Terminal()
    clock = Clock()
    with Progress(None, "lines", terminal, clock) as progress:
        clock.now = 2.0
        progress.advance(10)
        assert progress.shown
    assert "left" not in terminal.getvalue()

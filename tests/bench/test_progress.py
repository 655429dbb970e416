"""What is told of a study's progress, and how often."""

from __future__ import annotations

from io import StringIO

from routing_lib.progress import Progress


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """State: the time."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def told(stream: StringIO, seconds: float, runs: int) -> str:
    """After so many runs of 10 requests in that time, with 300 to come at first."""
    clock = Clock()
    progress = Progress(stream, clock)
    progress.expect(300.0)
    for _ in range(runs):
        clock.now_s += seconds / runs
        progress.tell(10)
    progress.end()
    return stream.getvalue()


def test_the_time_left_is_guessed_from_requests() -> None:
    assert told(StringIO(), 60.0, 1) == "1 runs, 0:01:00 past, 0:29:00 left\n"


def test_in_a_log_there_is_a_line_a_minute() -> None:
    lines = told(StringIO(), 600.0, 1200).splitlines()
    assert 10 <= len(lines) <= 11
    assert all("\r" not in line for line in lines)


def test_on_a_terminal_one_line_is_written_over_and_then_taken_away() -> None:
    text = told(Terminal(), 10.0, 100)
    assert "\n" not in text
    assert text.count("left") >= 15
    assert text.endswith("\r\x1b[K")

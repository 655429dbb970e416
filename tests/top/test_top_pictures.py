"""Pictures of any router fit any terminal; numbers in few characters; keys as terminals send them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from warmroute.top import frame
from warmroute.top.feed import NotReachable
from warmroute.top.live import WAITING_MAX, Waiting
from warmroute.top.schema import (
    Decision,
    Decisions,
    History,
    Prefix,
    Session,
    Sessions,
    Shadow,
    Snapshot,
    Totals,
    Worker,
)
from warmroute.top.shapes import bar, count, percent, rate, seconds, spark
from warmroute.top.state import PANES, State
from warmroute.top.terminal import keys_of

HOSTILE = "[red]\x1b[2J\n\r\u2028🜂[/]" + "x" * 300


def worker(number: int) -> Worker:
    return Worker(
        id=f"http://a-host-with-a-long-name-{number}.of.some.cluster:8000",
        status=("healthy", "ejected", "probing", HOSTILE)[number % 4],
        draining=number % 5 == 0,
        leaves_in_s=12.0,
        inflight_requests=number * 37,
        queued_prefill_s=number / 3,
        kv_share=None if number % 3 else 0.5,
        failures={"timeout": number},
    )


def state_of(workers: int) -> State:
    state = State("http://router:30000")
    points: list[float | None] = [None, *(step / 59 for step in range(59))]
    state.take(
        Snapshot(
            at_s=1.0, uptime_s=2e6, version="1", policy="cache_aware", models=[HOSTILE] * 20,
            workers=[worker(number) for number in range(workers)],
            totals=Totals(12345.6, 3.0, 99999, 12345, 1e9, 0.876, 0.861, 0.902, 0.019, 123.4, 2.0),
            history=History(5.0, points, points, points, points, points),
            prefixes=[Prefix("0123456789abcdef" * 4, HOSTILE, 10**9, 1e12, 0.5, 3.0)] * 30,
            sessions=Sessions(12, 100, 5, [Session(HOSTILE, None, 3, 1, 5e6, 9e6)] * 30),
            shadows=[Shadow(HOSTILE, 5, None, 0.5, 0, {"http://w": 3})] * 9,
        )
    )  # fmt: skip
    decisions = [
        Decision(1, worker=None, reason="no_worker", outcome="refused"),
        Decision(
            2, worker="http://w", reason=HOSTILE, attempt=1, prompt_tokens=10**7, predicted_hit_tokens=10**6
        ),
        Decision(3, worker="http://w", reason="warm", prompt_tokens=10, outcome="ok", cached_tokens=5),
    ]
    state.take(Decisions(decisions, skipped=7))
    return state


def drawn(state: State, width: int, height: int) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=height, force_terminal=False, highlight=False)
    with console.screen(hide_cursor=False):
        console.print(frame.picture(state, width, height), height=height, end="")
    return stream.getvalue().removesuffix("\n").split("\n")


@pytest.mark.parametrize(
    ("width", "height"), [(80, 24), (200, 60), (150, 20), (149, 20), (40, 12), (20, 8), (10, 5), (300, 100)]
)
@pytest.mark.parametrize("workers", [0, 1, 4, 300])
def test_a_picture_is_as_large_as_the_terminal(width: int, height: int, workers: int) -> None:
    state = state_of(workers)
    for pane in range(len(PANES)):
        state.pane = pane
        lines = drawn(state, width, height)
        assert len(lines) == height
        assert all(cells <= width for cells in map(_cells, lines))
        assert all(character.isprintable() for line in lines for character in line)


def _cells(line: str) -> int:
    from rich.cells import cell_len

    return cell_len(line)


def test_the_workers_column_is_as_wide_as_the_longest_name() -> None:
    [line] = [line for line in drawn(state_of(1), 140, 24) if line.startswith("▶")]
    assert "name-0.of.some.cluster:8000 draining" in line


def test_the_balance_of_shadows_and_of_the_live_policy_is_the_most_over_the_mean() -> None:
    state = state_of(3)
    state.pane = PANES.index("shadows")
    lines = drawn(state, 120, 40)
    [live] = [line for line in lines if "cache_aware (live)" in line]
    assert live.split()[-1] == "2.00", "of 0, 37 and 74"
    assert [line.split()[-1] for line in lines if line.startswith("[red]")] == ["1.00"] * 9


@pytest.mark.parametrize("height", [24, 60])
@pytest.mark.parametrize("place", [0, 17, 299])
def test_the_selected_worker_is_among_those_that_fit(height: int, place: int) -> None:
    state = state_of(300)
    for _ in range(place):
        state.press("down")
    lines = drawn(state, 120, height)
    [line] = [line for line in lines if line.startswith("▶")]
    assert f"name-{place}.of" in line


def test_an_order_is_about_the_worker_that_was_asked_about_whoever_leaves() -> None:
    state = state_of(4)
    state.press("down")
    state.press("d")
    asked = state.workers[1].id
    assert state.snapshot is not None
    state.take(Snapshot(at_s=2.0, uptime_s=2e6 + 1, version="1", policy="p", workers=[worker(3)]))
    order = state.press("y")
    assert order is not None
    assert (order.worker, order.draining) == (asked, True)


def test_decisions_of_a_router_that_was_restarted_are_forgotten() -> None:
    state = state_of(1)
    assert len(state.decisions) == 3
    state.take(NotReachable("gone"))
    assert "gone" in drawn(state, 80, 24)[0]
    state.take(Snapshot(at_s=3.0, uptime_s=1.0, version="1", policy="p", workers=[]))
    assert (len(state.decisions), state.skipped) == (0, 0)
    assert state.trouble is None


def test_while_the_terminal_blocks_only_the_newest_waits_and_what_is_lost_is_counted() -> None:
    waiting = Waiting()
    for number in range(1, WAITING_MAX + 11):
        waiting.put(Snapshot(1.0, float(number), "1", "p", []))
        waiting.put(Decisions([Decision(number, worker="http://w")], skipped=1))
    waiting.put("w drains")
    state = State("http://r")
    news = waiting.take()
    assert len(news) == WAITING_MAX + 1
    for told in news:
        if isinstance(told, Snapshot | Decisions):
            state.take(told)
    assert state.snapshot is not None
    assert state.snapshot.uptime_s == WAITING_MAX + 10
    assert len(state.decisions) + state.skipped == 2 * (WAITING_MAX + 10), "shown, or counted as left out"
    assert "w drains" in news
    assert waiting.take() == []


def test_an_end_takes_the_place_of_the_decision_it_is_about() -> None:
    state = state_of(1)
    state.take(Decisions([Decision(2, worker="http://w", outcome="ok")]))
    ends = {number: told.outcome for number, told in state.decisions.items()}
    assert list(ends.items()) == [
        (1, "refused"), (2, "ok"), (3, "ok"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0"), (999, "999"), (1000, "1.0k"), (9949, "9.9k"), (12_345, "12k"), (999_600, "1.0M")),
        *((5e9, "5.0G"), (None, "–")),
    ],
)  # fmt: skip
def test_counts_take_few_characters(value: float | None, text: str) -> None:
    assert count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.0004, "0 ms"), (0.019, "19 ms"), (0.9996, "1.0 s"), (12.4, "12 s"), (300, "5 min")),
        *((7200, "2 h"), (200_000, "2 d")),
    ],
)  # fmt: skip
def test_times_take_few_characters(value: float, text: str) -> None:
    assert seconds(value) == text


def test_what_is_not_known_is_no_zero() -> None:
    assert (percent(None), rate(None), seconds(None)) == ("–", "–", "–")
    assert percent(0.0) == "0 %"


def test_a_sparkline_shows_the_newest_on_the_right_and_gaps_as_gaps() -> None:
    assert spark([0.0, None, 1.0], 3).plain == "▁·█"
    assert spark([0.0, 0.5, 1.0], 2).plain == "▅█"
    assert spark([1.0], 3).plain == "  █"
    assert spark([0.5], 1, top=1.0).plain == "▅"
    assert spark([0.0, 0.0], 2).plain == "▁▁"


def test_a_bar_is_filled_by_eighths_and_never_overflows() -> None:
    assert bar(0.5, 4).plain == "██  "
    assert bar(1 / 16, 2).plain == "▏ "
    assert bar(7.0, 3).plain == "███"
    assert bar(0.0, 3).plain == "   "


def test_keys_are_told_apart_as_terminals_send_them() -> None:
    assert keys_of(b"j\x1b[A\x1bOB\t\x1b[Zq\x03") == ["j", "up", "down", "tab", "back-tab", "q", "ctrl-c"]
    assert keys_of(b"\x1b[1;5C\x1b[15~\xc3\xa4?") == ["?"]
    assert keys_of(b"\x1b") == ["esc"]

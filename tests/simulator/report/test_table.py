"""What a terminal shows, read back as text."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from warmroute_simulator.bounds.hits import HitBounds
from warmroute_simulator.report.comparison import Difference, Interval, Summary, alone, varying
from warmroute_simulator.report.comparison_table import show_comparison
from warmroute_simulator.report.model import Report, Slo
from warmroute_simulator.report.summary import summarize
from warmroute_simulator.report.table import bar, console_for, show
from warmroute_simulator.simulation.records import Records


def report_of(records: Records, policy: str = "cache_aware", load: float = 0.8) -> Report:
    return summarize(
        records,
        policy=policy,
        seed=3,
        slo=Slo(),
        bounds=HitBounds(single_infinite=0.5, pooled_lru=0.3, pooled_belady=0.4),
        wall_s=1.0,
        cpu_s=0.9,
        settings={"load": load, "preset": "8b"},
    )


def shown(report: Report, width: int = 100, *, colour: bool = False) -> str:
    file = io.StringIO()
    kind = "truecolor" if colour else None
    show(report, Console(file=file, width=width, force_terminal=colour, color_system=kind))  # type: ignore[arg-type]
    return file.getvalue()


def compared(summaries: list[Summary], differences: list[Difference], width: int) -> list[str]:
    file = io.StringIO()
    show_comparison(summaries, Console(file=file, width=width), differences)
    return file.getvalue().splitlines()


def line(text: str, beginning: str) -> str:
    (found,) = (row for row in text.splitlines() if row.startswith(beginning))
    return found


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_a_report_says_what_it_is_of(records: Records) -> None:
    text = shown(report_of(records))
    assert text.startswith("by hand · cache_aware · 2 workers · seed 3\n")
    assert "5 requests over 7.00 s: 3 ok, 1 failed, 1 refused" in text
    assert "note: two lines were skipped" in text


def test_hits_stand_beside_their_bounds(records: Records) -> None:
    text = shown(report_of(records))
    assert "28.8 %" in line(text, "this run")
    assert "30.0 %    −1.2" in line(text, "mark: one pooled LRU cache")
    assert "50.0 %   −21.2" in line(text, "bound: one infinite cache")


def test_latencies_are_in_a_row_each(records: Records) -> None:
    row = line(shown(report_of(records)), "TTFT")
    assert squeezed(row) == "TTFT time to first token 1.50 s 1.00 s 3.00 s 3.00 s"


def test_an_interrupted_run_is_marked(records: Records) -> None:
    assert "partial" not in shown(report_of(records))
    records.partial = True
    assert "partial: the run was interrupted" in shown(report_of(records))


def test_without_colour_nothing_but_text_is_written(records: Records) -> None:
    assert "\x1b" not in shown(report_of(records))
    assert "\x1b" in shown(report_of(records), colour=True)


def test_no_color_is_obeyed(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in shown(report_of(records), colour=True)


def test_a_large_fleet_shows_its_extremes(make_run: Callable[..., Records]) -> None:
    text = shown(report_of(make_run(1, workers=40)))
    assert sum(row.startswith("http://") for row in text.splitlines()) == 16
    assert "8 with most and 8 with least computed" in text


def test_a_report_of_nothing_is_shown_all_the_same() -> None:
    from warmroute_simulator.traces.prompts import PromptTree
    from warmroute_simulator.traces.trace import Trace

    text = shown(report_of(Records.of(Trace("empty", PromptTree()), ["http://a"])))
    assert "0 requests" in text


def test_bars_are_as_long_as_their_share() -> None:
    assert (bar(0, 4), bar(0.5, 4), bar(0.53125, 4), bar(1, 4)) == ("", "██", "██▏", "████")
    assert bar(7, 4) == "████"


def test_a_pipe_is_as_wide_as_it_takes_and_columns_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert console_for(io.StringIO()).width == 160
    monkeypatch.setenv("COLUMNS", "70")
    assert console_for(io.StringIO()).width == 70


def cells() -> list[Summary]:
    return [
        Summary(
            policy,
            {"load": 0.8, "preset": "8b"},
            [0, 1, 2],
            {
                "hit_rate": Interval(hit, hit - 0.01, hit + 0.01),
                "below_bounds_points.pooled_lru": Interval(100 * (0.4 - hit), None, None),
                "ttft_s.mean": Interval(ttft, ttft * 0.9, ttft * 1.1),
                "imbalance": Interval(1.2, 1.1, 1.3),
                "e2e_s.mean": Interval(10.0, 9.0, 11.0),
            },
        )
        for policy, hit, ttft in (("cache_aware", 0.341, 0.92), ("random", 0.1, 2.5))
    ]


def test_cells_of_a_comparison_are_rows_with_intervals() -> None:
    head, first, second, *_ = compared(cells(), [], 120)
    assert squeezed(head) == "policy hit rate vs LRU TTFT mean E2E mean imbalance"
    assert squeezed(first) == "cache_aware 34.1 % ±1.0 −5.9 0.92 s ±10 % 10.0 s ±10 % 1.20 ±8 %"
    assert second.startswith("random")


def test_settings_that_differ_are_columns_and_others_are_not(records: Records) -> None:
    rows = [alone(report_of(records, load=load)) for load in (0.8, 1.2)]
    assert varying([row.settings for row in rows]) == ["load"]
    head, first, second, *_ = compared(rows, [], 200)
    assert head.split()[:2] == ["policy", "load"]
    assert (first.split()[1], second.split()[1]) == ("0.8", "1.2")


def test_a_narrow_terminal_loses_columns_names_them_and_wraps_nothing() -> None:
    lines = compared(cells(), [], 50)
    assert squeezed(lines[0]) == "policy hit rate vs LRU TTFT mean"
    assert max(len(row.rstrip()) for row in lines[:3]) <= 50
    hidden = "No room here for E2E mean, imbalance: a wider terminal, --html and --json have them"
    assert hidden in squeezed(" ".join(lines))
    assert "No room" not in " ".join(compared(cells(), [], 120))


def test_differences_that_chance_does_not_explain_are_marked() -> None:
    keys = {
        "hit_rate": Interval(0.241, 0.23, 0.25),
        "ttft_s.mean": Interval(-1.58, -3.0, 0.1),
        "imbalance": Interval(0.02, 0.01, 0.03),
    }
    lines = compared([], [Difference("cache_aware", "random", {}, [0, 1], keys)], 120)
    assert squeezed(lines[1]) == "cache_aware − random +24.1* −1.58 s +0.02*"

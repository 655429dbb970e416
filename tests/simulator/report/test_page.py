"""The page: one file, well formed, that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from math import inf
from xml.etree import ElementTree as ET

import msgspec
import pytest

from warmroute_policies.types import CostShares
from warmroute_simulator.bounds.hits import HitBounds
from warmroute_simulator.report.comparison import Difference, Interval, LoadPoint, Summary
from warmroute_simulator.report.curves import curves, slowest_rows
from warmroute_simulator.report.model import Slo
from warmroute_simulator.report.page import Panel, page
from warmroute_simulator.report.summary import summarize
from warmroute_simulator.simulation.records import Explanation, Happened, Records
from warmroute_simulator.traces.prompts import PromptTree
from warmroute_simulator.traces.trace import Trace

MakeRun = Callable[..., Records]
VOID = {"meta", "br"}
BOUNDS = HitBounds(single_infinite=0.374, pooled_lru=0.345, pooled_belady=0.361)


class Balance(HTMLParser):
    """Fails on an element that is not closed, or closed twice."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def panel(
    records: Records,
    policy: str,
    bounds: HitBounds | None = BOUNDS,
    settings: dict[str, str | int | float] | None = None,
) -> Panel:
    report = summarize(
        records, policy=policy, seed=0, slo=Slo(), bounds=bounds, wall_s=2.0, cpu_s=1.5, settings=settings
    )
    infinite = [int(1.05 * records.hit_tokens[row]) for row in records.admitted]
    drawn = curves(records, report, infinite if bounds is not None else ())
    return Panel(report, drawn, [explained(records, row) for row in slowest_rows(records, report, 3)])


def explained(records: Records, row: int) -> Explanation:
    shares = [
        CostShares(worker, place != 1, 1.0 + place, {"queue": 0.5, "miss": 0.5 + place, "rtt": 0.0}, 0)
        for place, worker in enumerate(records.workers)
    ]
    shares[1] = msgspec.structs.replace(shares[1], total_s=inf)
    return Explanation(row, records.workers[records.worker[row]], "warm", shares)


def read(html: str) -> Balance:
    balance = Balance()
    balance.feed(html)
    balance.close()
    assert balance.open == []
    return balance


def svgs(html: str) -> list[ET.Element]:
    return [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]


def four(make_run: MakeRun, requests: int) -> str:
    runs = (
        ("cache_aware", 1.0, 0.35),
        ("session_sticky", 1.1, 0.3),
        ("least_requests", 1.6, 0.1),
        ("random", 2.0, 0.08),
    )
    panels = [
        panel(make_run(1, requests, slowness=slow, reuse=reuse), policy) for policy, slow, reuse in runs
    ]
    points = [
        LoadPoint(policy, float(load), load * 0.9, 0.9, 0.5 * load)
        for policy, _, _ in runs
        for load in (1, 2, 4)
    ]
    return page(panels, sweep=points, load_name="requests/s")


def test_four_policies_of_12000_requests_fit_into_a_megabyte(make_run: MakeRun) -> None:
    assert len(four(make_run, 12_000).encode()) < 1_000_000


def test_a_page_is_well_formed_and_so_is_every_plot(make_run: MakeRun) -> None:
    html = four(make_run, 300)
    read(html)
    plots = svgs(html)
    # Three distributions, TTFT over time, hits, tokens, three knees, two for each of 32 workers, three
    # decisions of each run.
    assert len(plots) == 4 + 2 + 3 + 2 * 32 + 3 * 4
    for plot in plots:
        assert plot.get("aria-label")
        for part in plot.iter():
            for name in ("d", "x", "y", "width", "height", "cx", "cy"):
                assert "nan" not in part.get(name, "")
                assert "inf" not in part.get(name, "")
                assert not (name in ("width", "height") and part.get(name, "0").startswith("-"))


def test_a_page_loads_nothing_and_runs_nothing(make_run: MakeRun) -> None:
    html = four(make_run, 200)
    assert not read(html).seen & {"script", "link", "img", "iframe", "object", "embed", "image", "use"}
    assert not re.search(r"(src|href|url\(|@import)\s*=?", html)


def test_the_sentence_on_top_says_what_a_single_run_came_to(records: Records) -> None:
    html = page(
        [panel(records, "cache_aware", HitBounds(single_infinite=0.5, pooled_lru=0.3, pooled_belady=0.4))]
    )
    text = "".join(read(html).texts)
    assert "cache_aware reuses 28.8 % of prompt tokens, 96 % of what one pooled LRU cache could" in text
    assert "mean TTFT 1.50 s, p99 3.00 s." in text


def test_the_sentence_on_top_names_the_first_and_the_last_of_several(make_run: MakeRun) -> None:
    text = "".join(read(four(make_run, 300)).texts)
    assert "Of 4 runs cache_aware answers first" in text
    assert "random comes last" in text


def test_every_text_from_outside_is_escaped(records: Records) -> None:
    nasty = "<img src=x onerror=alert(1)>&\"'"
    records.trace.name = nasty
    records.trace.notes = [nasty]
    records.workers[:] = [nasty, nasty + "2"]
    records.reasons[:] = [nasty, nasty]
    html = page([panel(records, nasty, settings={nasty: nasty})] * 2, title=nasty, load_name=nasty,
                sweep=[LoadPoint(nasty, 1.0, 1.0, 1.0, 1.0)])  # fmt: skip
    assert "img" not in read(html).seen
    assert len(svgs(html)) > 5


def test_runs_of_one_policy_are_told_apart_by_their_settings(make_run: MakeRun) -> None:
    records = make_run(1, 100)
    html = page([panel(records, "random", settings={"load": load, "preset": "8b"}) for load in (0.8, 1.2)])
    assert "random, load 0.8" in html
    assert "random, load 1.2" in html


def test_seeds_are_shown_with_intervals_and_differences_with_their_sign(records: Records) -> None:
    keys = {"hit_rate": Interval(0.3, 0.29, 0.31), "ttft_s.mean": Interval(0.5, 0.4, 0.6)}
    summary = Summary("random", {}, [0, 1, 2], keys)
    difference = Difference("random", "other", {}, [0, 1], {"hit_rate": Interval(-0.1, -0.2, -0.05)})
    text = "".join(
        read(page([panel(records, "random")], summaries=[summary], differences=[difference])).texts
    )
    assert "Means over 3 seeds" in text
    assert "30.0 % ±1.0" in text
    assert "0.50 s ±20 %" in text
    assert "−10.0*" in text
    assert "What chance may have done" not in page([panel(records, "random")])


def test_a_single_seed_is_no_word_on_chance_and_all_its_loads_are_told(records: Records) -> None:
    light, heavy = (
        Summary("random", {"load": load}, [0], {"hit_rate": Interval(hit, None, None)})
        for load, hit in ((0.5, 0.31), (1.5, 0.29))
    )
    assert "All runs" not in page([panel(records, "random")], summaries=[light])
    text = "".join(read(page([panel(records, "random")], summaries=[light, heavy])).texts)
    assert "What chance may have done" not in text
    assert "31.0 %" in text.partition("All runs")[2]


def test_what_happened_in_some_of_the_runs_says_in_which(make_run: MakeRun) -> None:
    both, one = make_run(1), make_run(2)
    both.happened = [Happened(60.0, "die w0"), Happened(120.0, "start w0")]
    one.happened = [Happened(60.0, "die w0")]
    for records in (both, one):
        records.arrived_s[0] = 0.0
    html = page([panel(both, "random"), panel(one, "cache_aware")])
    assert "1 min: die w0\n" in html.replace("</title>", "\n")
    assert "2 min: start w0 (random)" in html


def test_what_was_not_measured_is_not_drawn() -> None:
    empty = Records.of(Trace("empty", PromptTree()), ["http://a", "http://b"])
    html = page([panel(empty, "random", None)])
    assert "No request ended." in html
    assert "How long requests took" not in html
    assert "The slowest requests" not in html
    read(html)
    assert svgs(html)


def test_an_interrupted_run_is_marked(records: Records) -> None:
    assert "Partial" not in page([panel(records, "random")])
    records.partial = True
    assert "Partial: interrupted before the end (random)." in page([panel(records, "random")])


def test_of_a_large_fleet_some_workers_are_drawn(make_run: MakeRun) -> None:
    html = page([panel(make_run(1, 500, 64), "random")])
    assert "16 of 64 workers" in html
    assert len(re.findall(r'aria-label="Share of the KV cache', html)) == 16


def test_a_decision_shows_the_chosen_worker_and_leaves_out_those_that_could_not_be(records: Records) -> None:
    html = page([panel(records, "random")])
    drawn = [plot for plot in svgs(html) if plot.get("aria-label") == "Price of each worker for this request"]
    names = [[text.text for text in plot.iter("text") if text.get("text-anchor") == "end"] for plot in drawn]
    # The worker b was not eligible: shown only where it was chosen.
    assert names == [["a", "b ◂"], ["a ◂"], ["a ◂"]]


def test_a_page_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs a run"):
        page([])

"""Plots as the XML that a browser reads."""

from __future__ import annotations

from itertools import pairwise
from math import nan
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmroute_simulator.report.axes import Axis
from warmroute_simulator.report.svg import Plot, apart, element

UNIT = Axis(lambda value: value, ((0.0, "0"), (1.0, "1")))


def plot() -> Plot:
    """The inside is 100 wide and 100 high, at (0, 0)."""
    return Plot("a plot", UNIT, UNIT, width=100, height=100, left=0, right=0, top=0, bottom=0)


def found(drawn: Plot, css: str) -> list[ET.Element]:
    return [part for part in ET.fromstring(drawn.render()).iter() if css in part.get("class", "").split()]


def test_a_line_goes_through_its_points_upwards() -> None:
    drawn = plot()
    drawn.line([(0, 0), (0.5, 0.25), (1, 1)], "s0", "one")
    (line,) = found(drawn, "line")
    assert line.get("d") == "M0,100L50,75L100,0"
    assert line.findtext("title") == "one"


def test_a_line_is_interrupted_where_nothing_was_measured() -> None:
    drawn = plot()
    drawn.line([(0, 0), (0.1, nan), (0.2, 0.5), (0.3, 0.5)], "s0")
    assert found(drawn, "line")[0].get("d") == "M0,100M20,50L30,50"


def test_steps_are_level_between_edges_and_end_at_gaps() -> None:
    drawn = plot()
    drawn.steps([0, 0.25, 0.5, 0.75, 1], [0.5, 1, None, 0], "s0")
    assert [line.get("d") for line in found(drawn, "line")] == ["M0,50L25,50L25,0L50,0", "M75,100L100,100"]


def test_an_area_is_closed() -> None:
    drawn = plot()
    drawn.area([(0, 0), (1, 0)], [(0, 0.5), (1, 1)], "used")
    assert found(drawn, "area")[0].get("d") == "M0,100L100,100L100,0L0,50Z"


def test_a_bar_shows_its_text_only_where_there_is_room() -> None:
    drawn = plot()
    drawn.bar((0, 0.9), (0, 0.2), "reused", "", "34.1 %")
    drawn.bar((0.9, 1), (0, 0.2), "first", "", "34.1 %")
    assert [text.text for text in found(drawn, "in-bar")] == ["34.1 %"]
    assert found(drawn, "reused")[0].get("width") == "90"


def test_whatever_is_written_is_escaped() -> None:
    nasty = "<script>\"&'"
    drawn = Plot(nasty, Axis(lambda value: value, ((0.5, nasty),), nasty), UNIT)
    drawn.line([(0, 0), (1, 1)], "s0", nasty)
    drawn.bar((0, 1), (0, 1), "s0", nasty, nasty)
    drawn.text(0.5, 0.5, nasty, "strong", "middle")
    drawn.edge_label(0.5, nasty, "")
    drawn.hover(0, 1, nasty)
    assert "<script" not in drawn.render()
    assert ET.fromstring(drawn.render()).get("aria-label") == nasty


def test_numbers_are_short() -> None:
    assert element("a", css="b", x=1 / 3, y=2.0) == '<a class="b" x="0.3" y="2"/>'


def test_a_plot_without_marks_is_a_plot() -> None:
    empty = Axis(lambda value: value, ())
    assert ET.fromstring(Plot("nothing", empty, empty).render()).get("role") == "img"


@pytest.mark.parametrize(
    ("places", "moved"),
    [([], []), ([5.0], [5.0]), ([0.0, 100.0], [0.0, 100.0]), ([10.0, 10.0], [5.0, 15.0]),
     ([0.0, 8.0, 9.0], [-13 / 3, 17 / 3, 47 / 3])],
)  # fmt: skip
def test_labels_that_would_touch_stand_around_their_middle(places: list[float], moved: list[float]) -> None:
    assert apart(places, 10) == pytest.approx(moved)


@given(st.lists(st.floats(0, 300), max_size=12), st.floats(1, 30))
def test_labels_keep_their_order_and_their_distance(places: list[float], gap: float) -> None:
    places.sort()
    moved = apart(places, gap)
    assert all(other - one >= gap - 1e-6 for one, other in pairwise(moved))
    assert sum(moved) == pytest.approx(sum(places), abs=1e-6)
    if all(other - one >= gap for one, other in pairwise(places)):
        assert moved == pytest.approx(places)

"""Plots as SVG text: axes, a few kinds of marks, nothing else.

A plot is some 400 units wide and scales with its place on the page. Colours, type and line widths are the
page's business: marks only name a class (`s0`, `s1` … for series; `grid`, `rule`, `area`). Whatever is
written goes through `element`, where texts are escaped and numbers are shortened. A plot has a label for
those who cannot see it, and marks can carry a <title>, which browsers show as a tooltip.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from math import isfinite
from typing import Final

from warmroute_simulator.report.axes import Axis

Point = tuple[float, float]

_LINE_HEIGHT: Final = 13.0
"""Of the small type: labels that are closer would touch."""
_LETTER: Final = 6.5
"""Width of a letter of it, rather more than less."""


def element(tag: str, inside: str = "", **attributes: str | float) -> str:
    """Reads. `inside` is markup, attributes are escaped; `css` is written `class`, and `_` as `-`."""
    written = "".join(
        f' {"class" if name == "css" else name.replace("_", "-")}="{_value(value)}"'
        for name, value in attributes.items()
    )
    return f"<{tag}{written}>{inside}</{tag}>" if inside else f"<{tag}{written}/>"


@dataclass(slots=True)
class Plot:
    """State: the marks so far, and labels at the right edge that must not touch. `render` reads, the others
    write. The margins are for the labels of the axes."""

    label: str
    """What it shows, for those who cannot see it."""
    x: Axis
    y: Axis
    width: float = 400.0
    height: float = 250.0
    left: float = 50.0
    right: float = 14.0
    top: float = 26.0
    bottom: float = 40.0
    _marks: list[str] = field(default_factory=list)
    _hover: list[str] = field(default_factory=list)
    _edge: list[tuple[float, str, str]] = field(default_factory=list)

    def line(self, points: Iterable[Point], css: str, tooltip: str = "") -> None:
        """A line through the points, interrupted where one is `nan`."""
        path, pen = [], "M"
        for x, y in points:
            if isfinite(x) and isfinite(y):
                path.append(f"{pen}{self._at(x, y)}")
                pen = "L"
            else:
                pen = "M"
        self._path("".join(path), f"line {css}", tooltip)

    def steps(self, edges: Sequence[float], values: Sequence[float | None], css: str) -> None:
        """A level for each stretch between two edges, of which there is one more than values; None: a gap."""
        for run in _levels(edges, values):
            self.line(run, css)

    def steps_area(self, edges: Sequence[float], values: Sequence[float | None], css: str) -> None:
        """The same, filled down to 0."""
        for run in _levels(edges, values):
            self.area([(run[0][0], 0.0), (run[-1][0], 0.0)], run, css)

    def area(self, lower: Sequence[Point], upper: Sequence[Point], css: str, tooltip: str = "") -> None:
        """What lies between two lines."""
        if lower and upper:
            corners = "L".join(self._at(x, y) for x, y in (*lower, *reversed(upper)))
            self._path(f"M{corners}Z", f"area {css}", tooltip)

    def bar(self, xs: Point, ys: Point, css: str, tooltip: str = "", text: str = "") -> None:
        """A rectangle between two values of each axis; its text is shown if there is room."""
        left, right = sorted((self._x(xs[0]), self._x(xs[1])))
        top, bottom = sorted((self._y(ys[0]), self._y(ys[1])))
        self._marks.append(
            element(
                "rect",
                _title(tooltip),
                css=f"bar {css}",
                x=left,
                y=top,
                width=right - left,
                height=bottom - top,
            )
        )
        if text and right - left > _LETTER * (len(text) + 1):
            middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
            self._marks.append(
                element("text", escape(text), css="in-bar", text_anchor="middle", x=middle_x, y=middle_y + 4)
            )

    def dot(self, x: float, y: float, css: str, tooltip: str = "", radius: float = 3.0) -> None:
        """A round mark."""
        mark = element("circle", _title(tooltip), css=f"dot {css}", cx=self._x(x), cy=self._y(y), r=radius)
        self._marks.append(mark)

    def upright(self, x: float, css: str, tooltip: str = "") -> None:
        """A line from the bottom to the top."""
        self._path(f"M{_value(self._x(x))},{_value(self.top)}V{_value(self._floor)}", css, tooltip)

    def level(self, y: float, css: str, tooltip: str = "") -> None:
        """A line from the left to the right."""
        self._path(f"M{_value(self.left)},{_value(self._y(y))}H{_value(self._wall)}", css, tooltip)

    def text(
        self, x: float, y: float, text: str, css: str, anchor: str, *, right: float = 0.0, down: float = 0.0
    ) -> None:
        """A text near a point, so many units away; `anchor`: which end of it is there."""
        at_x, at_y = self._x(x) + right, self._y(y) + down
        self._marks.append(element("text", escape(text), css=css, text_anchor=anchor, x=at_x, y=at_y))

    def edge_label(self, y: float, text: str, css: str) -> None:
        """A text at the right edge, moved up or down where it would touch another."""
        self._edge.append((self._y(y), text, css))

    def hover(self, left: float, right: float, tooltip: str) -> None:
        """A tooltip for all that stands between two places of the x axis."""
        start, width = self._x(left), self._x(right) - self._x(left)
        height = self._floor - self.top
        self._hover.append(
            element("rect", _title(tooltip), css="hover", x=start, y=self.top, width=width, height=height)
        )

    def render(self) -> str:
        """Reads. One <svg> element."""
        inside = "".join((*self._axes(), *self._marks, *self._edge_labels(), *self._hover))
        size = f"0 0 {_value(self.width)} {_value(self.height)}"
        # Only the label is read out: single marks say nothing on their own.
        return element("svg", inside or " ", viewBox=size, role="img", aria_label=self.label)

    def _axes(self) -> list[str]:
        parts = []
        for value, label in self.y.ticks:
            y = self._y(value)
            parts.append(
                element("path", css="grid", d=f"M{_value(self.left)},{_value(y)}H{_value(self._wall)}")
            )
            parts.append(
                element("text", escape(label), css="tick", text_anchor="end", x=self.left - 6, y=y + 4)
            )
        for value, label in self.x.ticks:
            x = self._x(value)
            parts.append(element("path", css="axis", d=f"M{_value(x)},{_value(self._floor)}v4"))
            parts.append(
                element("text", escape(label), css="tick", text_anchor="middle", x=x, y=self._floor + 18)
            )
        if self.x.ticks:
            floor = f"M{_value(self.left)},{_value(self._floor)}H{_value(self._wall)}"
            parts.append(element("path", css="axis", d=floor))
        if self.y.label:
            parts.append(element("text", escape(self.y.label), css="axis-label", x=0, y=12))
        if self.x.label:
            label, y = escape(self.x.label), self.height - 4
            parts.append(element("text", label, css="axis-label", text_anchor="end", x=self._wall, y=y))
        return parts

    def _edge_labels(self) -> list[str]:
        ordered = sorted(self._edge)
        places = apart([y for y, _, _ in ordered], _LINE_HEIGHT)
        return [
            element("text", escape(text), css=f"edge {css}", x=self._wall + 6, y=y + 4)
            for y, (_, text, css) in zip(places, ordered, strict=True)
        ]

    def _path(self, path: str, css: str, tooltip: str) -> None:
        if path:
            self._marks.append(element("path", _title(tooltip), css=css, d=path))

    @property
    def _floor(self) -> float:
        return self.height - self.bottom

    @property
    def _wall(self) -> float:
        return self.width - self.right

    def _x(self, value: float) -> float:
        return self.left + self.x.place(value) * (self._wall - self.left)

    def _y(self, value: float) -> float:
        return self._floor - self.y.place(value) * (self._floor - self.top)

    def _at(self, x: float, y: float) -> str:
        return f"{_value(self._x(x))},{_value(self._y(y))}"


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Reads. Ascending places, moved as little as it takes to be `gap` from each other: those that would
    touch stand around their common middle."""
    groups: list[tuple[float, int]] = []
    """Middle and size of each run of neighbours."""
    for place in places:
        middle, size = place, 1
        while groups:
            before, others = groups[-1]
            if middle - before >= gap * (size + others) / 2:
                break
            groups.pop()
            middle, size = (before * others + middle * size) / (others + size), others + size
        groups.append((middle, size))
    return [middle + gap * (position - (size - 1) / 2) for middle, size in groups for position in range(size)]


def _levels(edges: Sequence[float], values: Sequence[float | None]) -> list[list[Point]]:
    """Corners of the steps, a list for each run of values without a gap."""
    runs: list[list[Point]] = [[]]
    for left, right, value in zip(edges, edges[1:], values, strict=False):
        if value is not None:
            runs[-1] += [(left, value), (right, value)]
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


def _value(value: str | float) -> str:
    """Numbers to a tenth: a fifth of a pixel at most."""
    return escape(value, quote=True) if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")

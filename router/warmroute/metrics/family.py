"""One metric family, and the text of a page of them.

Written here and not by prometheus-client, whose objects and encoder take 80 ms for the 15,000 lines of 256
workers; these lines take 10 ms. Tests read both formats with that library's parsers.

A page is made in a thread, and while that works the event loop waits for the interpreter. So it works in
slices of a quarter of a millisecond and pauses between them (`Breathe`): a request, which needs the
interpreter some five times, is then held up by about as many slices at most.

A family's samples are lines from the beginning; a series' labels are spelled once for all of its families.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, final

from warmroute.series import Histogram

Breathe = Callable[[], None]
"""Lets others have the interpreter; called after every slice."""

SLICE: Final = 8
"""Series of a model and worker, some 60 lines each, that are written down in a quarter of a millisecond."""

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@final
class Family:
    """State: the lines so far. `name` is without the `_total` of a counter's samples."""

    __slots__ = ("_sample", "documentation", "labels", "lines", "name", "type")

    def __init__(self, name: str, kind: str, documentation: str, labels: tuple[str, ...] = ()) -> None:
        self.name = name
        self.type = kind
        """counter, gauge or histogram."""
        self.documentation = documentation
        self.labels = labels
        self.lines: list[str] = []
        self._sample = f"{name}_total" if kind == "counter" else name

    def add(self, labels: str, value: float) -> None:
        """Writes. A sample; `labels` is what `label_text` gave, or nothing."""
        braced = f"{{{labels}}}" if labels else ""
        self.lines.append(f"{self._sample}{braced} {_number(value)}\n")

    def add_histogram(self, labels: str, histogram: Histogram) -> None:
        """Writes. The cumulative buckets of one series, their count and their sum."""
        name, lines, before, total = self.name, self.lines, f"{labels}," if labels else "", 0
        start = f"{name}_bucket{{{before}"
        for bound, count in zip(histogram.bound_labels, histogram.counts, strict=True):
            total += count
            lines.append(f"{start}{bound}}} {total}\n")
        braced = f"{{{labels}}}" if labels else ""
        lines.append(f"{name}_count{braced} {total}\n")
        lines.append(f"{name}_sum{braced} {_number(histogram.sum)}\n")


def label_text(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Labels as they stand between the braces."""
    return ",".join([f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)])


def page(families: Iterable[Family], *, openmetrics: bool) -> Iterator[bytes]:
    """The families' text, a piece for each, without OpenMetrics' last line: other families may follow."""
    for family in families:
        name = family.name if openmetrics or family.type != "counter" else f"{family.name}_total"
        head = f"# HELP {name} {family.documentation}\n# TYPE {name} {family.type}\n"
        yield "".join([head, *family.lines]).encode()


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value


def _number(value: float) -> str:
    text = str(value)
    return "+Inf" if text == "inf" else text

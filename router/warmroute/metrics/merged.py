"""Pages of metrics of many engines as one: every sample gets a label that says whose it is.

In Prometheus' text format a family's description stands once, before all of its samples. So pages are taken
apart by family and put together again, the first worker's description first. What is not a sample or a
description of one is left out, whatever an engine writes there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from warmroute.metrics.family import label_text

# A name, perhaps labels, and the rest. Label values may hold any escaped character, braces too.
_SAMPLE: Final = re.compile(
    r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?([ \t]+\S.*)', re.DOTALL
)
_DESCRIPTION: Final = re.compile(r"# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*)(?: .*)?", re.DOTALL)
_OWN_LABEL: Final = re.compile(r"(^|,)\s*worker\s*=")

# What belongs to a family of another name: its buckets, sums and counts.
_SUFFIXES: Final = ("_bucket", "_sum", "_count", "_total", "_created")


def merged(pages: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Pieces of one page from workers' URLs and pages, a piece for each family."""
    heads: dict[str, dict[str, str]] = {}
    samples: dict[str, list[str]] = {}
    for worker, page in pages:
        mine = label_text(("worker",), (worker,))
        for line in page.split("\n"):
            if line.startswith("#"):
                described = _DESCRIPTION.fullmatch(line)
                if described is not None:
                    heads.setdefault(described[2], {}).setdefault(described[1], line)
                continue
            found = _SAMPLE.fullmatch(line)
            if found is None:
                continue
            name, labels, rest = found.groups()
            if labels:
                labels = _OWN_LABEL.sub(r"\1exported_worker=", labels).strip().strip(",")
            inside = f"{mine},{labels}" if labels else mine
            samples.setdefault(_family(name, heads), []).append(f"{name}{{{inside}}}{rest}\n")
    for family, lines in samples.items():
        head = heads.get(family, {})
        yield "".join([*(f"{head[kind]}\n" for kind in ("HELP", "TYPE") if kind in head), *lines])


def _family(name: str, heads: dict[str, dict[str, str]]) -> str:
    if name in heads:
        return name
    for suffix in _SUFFIXES:
        if name.endswith(suffix) and name.removesuffix(suffix) in heads:
            return name.removesuffix(suffix)
    return name

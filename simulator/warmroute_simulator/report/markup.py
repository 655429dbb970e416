"""Pieces of HTML that a page is made of. Texts are escaped here; what is `inside` is markup already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from warmroute_simulator.report.curves import Curves
from warmroute_simulator.report.model import Report


class Series(NamedTuple):
    """One run among those of a page: its name, its colour's class, and what is shown of it."""

    name: str
    css: str
    report: Report
    curves: Curves


def swatch(css: str) -> str:
    return f'<i class="{css}"></i>'


def named(one: Series) -> str:
    """The run's name behind its colour."""
    return swatch(one.css) + escape(one.name)


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Classes of colours, and what they stand for."""
    items = "".join(f"<li>{swatch(css)}{escape(name)}</li>" for css, name in entries)
    return f'<ul class="legend">{items}</ul>'


def legend_of(series: Sequence[Series]) -> str:
    """Of the runs, where there are several."""
    return legend((one.css, one.name) for one in series) if len(series) > 1 else ""


def figure(name: str, meaning: str, inside: str) -> str:
    caption = f"{escape(name)} <span>{escape(meaning)}</span>"
    return f"<figure><figcaption>{caption}</figcaption>{inside}</figure>"


def section(title: str, text: str, inside: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p>{escape(text)}</p>{inside}</section>"


def table(head: str, rows: Iterable[str]) -> str:
    """It scrolls where the page is too narrow for it."""
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="scroll">{whole}</div>'

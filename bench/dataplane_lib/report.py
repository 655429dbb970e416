"""Medians over the rounds, ratios within them, and the tables."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from dataplane_lib.rounds import Figures

Rounds = Sequence[dict[str, Figures]]
OURS = "warmroute"


def medians(rounds: Rounds) -> dict[str, Figures]:
    """By router and metric."""
    return {
        name: {metric: median(values) for metric, values in _by_metric(rounds, name).items()}
        for name in _names(rounds)
    }


def ratios(rounds: Rounds) -> dict[str, dict[str, list[float]]]:
    """By peer and metric: ours over theirs in each round, sorted. Both sides of a ratio are minutes apart."""
    found: dict[str, dict[str, list[float]]] = {}
    for peer in _names(rounds):
        if peer == OURS:
            continue
        both = [figures for figures in rounds if OURS in figures and peer in figures]
        found[peer] = {
            metric: sorted(figures[OURS][metric] / figures[peer][metric] for figures in both)
            for metric in (both[0][peer] if both else ())
            if all(figures[peer][metric] > 0 for figures in both)
        }
    return found


def tables(rounds: Rounds) -> str:
    """What is printed: figures, then ratios as median and range."""
    middle, compared = medians(rounds), ratios(rounds)
    names = list(middle)
    metrics = list(next(iter(middle.values()), {}))
    lines = [_row("median", names)]
    lines += [_row(metric, [f"{middle[name][metric]:.1f}" for name in names]) for metric in metrics]
    if compared:
        lines += ["", _row(f"{OURS} over", list(compared))]
        for metric in metrics:
            cells = []
            for peer in compared:
                values = compared[peer].get(metric)
                cells.append(f"{median(values):.2f} [{values[0]:.2f}-{values[-1]:.2f}]" if values else "-")
            lines.append(_row(metric, cells))
    return "\n".join(lines)


def _row(first: str, cells: Sequence[str]) -> str:
    return f"{first:<24}" + "".join(f"{cell:>20}" for cell in cells)


def _names(rounds: Rounds) -> list[str]:
    """Ours first; routers with a figure in every round, so that all medians are of equally many."""
    return sorted(
        set.intersection(*(set(figures) for figures in rounds)), key=lambda name: (name != OURS, name)
    )


def _by_metric(rounds: Rounds, name: str) -> dict[str, list[float]]:
    metrics = rounds[0][name]
    return {metric: [figures[name][metric] for figures in rounds] for metric in metrics}

"""What the end-to-end tests measured: a line each, printed as a table when all is over."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Findings:
    """State: the lines, and what is only counted."""

    lines: list[tuple[str, str, str]] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, what: str, where: str, figures: str) -> None:
        """Notes a line. Writes."""
        self.lines.append((what, where, figures))

    def count(self, what: str, where: str) -> None:
        """One more of a kind. Writes."""
        self.counts[what, where] += 1

    def table(self) -> list[str]:
        """Aligned lines. Reads."""
        lines = [(*key, str(count)) for key, count in self.counts.items()] + self.lines
        wide = [max((len(line[column]) for line in lines), default=0) for column in range(2)]
        return [f"{what:{wide[0]}}  {where:{wide[1]}}  {figures}" for what, where, figures in sorted(lines)]

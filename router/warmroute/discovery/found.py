"""What a source of workers says, and to whom."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple, Protocol

from warmroute.config.backends import Backend


class Sight(IntEnum):
    """How a worker looks to its source; of two opinions the smaller one holds."""

    READY = 0
    PAUSED = 1
    """It is there and not ready: no new requests, and what is known of its cache is kept."""
    LEAVING = 2
    """It was told to go: like one that is not there, but said in so many words."""


class Found(NamedTuple):
    """One worker as a source sees it."""

    backend: Backend
    sight: Sight = Sight.READY


class Report(Protocol):
    """Who a source reports to. Nothing here awaits."""

    def found(self, workers: Iterable[Found]) -> None:
        """Writes. All workers that the source knows now; those that are missing are gone."""
        ...

    def failed(self, why: str) -> None:
        """Writes. The source does not know; what it said before still holds."""
        ...


class Source(Protocol):
    """Says which workers there should be."""

    @property
    def kind(self) -> str:
        """Reads. "file", "dns" or "kubernetes"."""
        ...

    @property
    def target(self) -> str:
        """Reads. What is watched, for people."""
        ...

    async def run(self, report: Report) -> None:
        """Writes. Reports until it is cancelled."""
        ...


def in_words(error: Exception) -> str:
    """One line, for people."""
    return " ".join(str(error).split()) or type(error).__name__

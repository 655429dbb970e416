"""What is counted of prompts' tokens: how they were found, why not, how long it took, and what was wrong."""

from __future__ import annotations

from typing import Final

from warmroute.series import Histogram
from warmroute.tokens.asked import Why

ONWARDS: Final = "onwards"
"""From where an earlier turn ended, at once."""
WHOLE: Final = "whole"
"""From the beginning, at once."""
THREAD: Final = "thread"
"""In a thread, either way."""
ENGINE: Final = "engine"
"""By asking an engine."""

HOWS: Final = (ONWARDS, WHOLE, THREAD, ENGINE)

# From a short prompt at once to a long one in a thread.
_BOUNDS_S: Final = (
    25e-6,
    50e-6,
    100e-6,
    200e-6,
    300e-6,
    500e-6,
    1e-3,
    2e-3,
    5e-3,
    10e-3,
    25e-3,
    0.1,
    0.25,
    0.5,
    1.0,
)


class TokenCounts:
    """State: numbers that only grow."""

    def __init__(self) -> None:
        self.told = dict.fromkeys(HOWS, 0)
        self.untold = {why.value: 0 for why in Why}
        self.seconds = Histogram(_BOUNDS_S)
        """Until a prompt's tokens were known."""
        self.differences = {"engine": 0, "check": 0}
        """Counts of an engine that were others; samples that were others when done as a whole."""
        self.checks = {"engine": 0, "check": 0}
        """How often that was looked at."""

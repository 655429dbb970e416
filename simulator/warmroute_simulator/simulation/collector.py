"""Python's garbage collector, while a trace is played.

The simulator's own objects die with their last reference: of a run over a million requests the collector
finds nothing. Looking for it took a tenth of the time, and more the more there was to look through. A policy
of the user's own may leave cycles behind, so collections become rare and do not end.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_ALLOCATIONS: Final = 200_000
"""Objects more than before until the collector looks: some 20 MB of the kind that a run makes."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """What is alive already is not looked at again; the rest seldom."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()

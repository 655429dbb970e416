"""Workers whose KV cache is full get no new requests while others have room.

    begins    the engine says that at least `gate` of its cache is held by requests, and that requests wait
    ends      it says less than `gate` − 0.05, or says nothing any more

Who is sent there waits until somebody ends, or makes the engine throw out a request that it has begun. The
books know what this router's own requests hold and price it; they know neither how long answers will be nor
what others hold there.

Rules kept. A cache that is full of prefixes nobody uses is not under pressure, and engines do not report it
as such. Without a word on waiting requests nothing begins. The two ends lie apart, so that a worker at the
edge does not come and go. Where all workers are under pressure, none is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

# Some requests' worth of cache: what a batch of answers gives back at its end, and the next one takes.
_MARGIN: Final = 0.05


@final
class Pressure:
    """State: who is under pressure."""

    def __init__(self, gate: float | None) -> None:
        """None: nobody ever is."""
        self._gate = gate
        self.slots: set[int] = set()

    def told(self, slot: int, usage: float, waiting: int | None) -> None:
        """Writes. The slot's engine says that requests hold this share of its cache, and that so many wait;
        None: it does not say."""
        gate = self._gate
        if gate is None:
            return
        if usage < gate - _MARGIN:
            self.slots.discard(slot)
        elif usage >= gate and waiting:
            self.slots.add(slot)

    def end(self, slot: int) -> None:
        """Writes. Nothing is known of the slot's engine any more. Twice is once."""
        self.slots.discard(slot)

    def held_back(self, eligible: Sequence[int]) -> list[int]:
        """Reads. Of these slots, those that are under pressure while another one is not."""
        pressed = [slot for slot in eligible if slot in self.slots]
        return pressed if len(pressed) < len(eligible) else []

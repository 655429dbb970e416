"""The sequences that decode: a step touches only those to which something happens in it.

Each sequence of the batch gains a token per step, so the batch counts steps instead of tokens, and a
sequence remembers where the count stood:

    holds          = offset + clock            tokens that it has blocks for
    tokens to come = ends_at − settled         0: its last token is out

A sequence opens a block when what it holds is a multiple of the block size, thus every `block_tokens` steps:
the batch keeps it under its phase, and looks at one phase in a step. Ends stand in a heap. In a batch of 256
with blocks of 16 tokens, 16 sequences are touched in a step.

Rules kept here. `clock` is ahead of `settled` by the one step in flight, and equal to it between steps, when
sequences join. The lists keep the order in which sequences joined, which is the order of their admission. A
block that is filled becomes known in the step that fills it; what is behind `named_tokens` never does.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import final

from warmroute_simulator.engine.cache import KVCache
from warmroute_simulator.engine.sequence import Sequence


@final
class DecodeBatch:
    """State: who decodes, by phase and by end, and the two counts of steps."""

    __slots__ = (
        "_block_tokens", "_cache", "_ends", "_joined", "_named", "_phases", "clock", "context_tokens",
        "settled", "size", "streams",
    )  # fmt: skip

    def __init__(self, cache: KVCache, block_tokens: int) -> None:
        self._cache = cache
        self._block_tokens = block_tokens
        self.size = 0
        self.clock = 0
        self.settled = 0
        self.context_tokens = 0
        """What all of them hold."""
        self.streams: list[Sequence] = []
        """Those of which every token is an event."""
        self._phases: list[list[Sequence]] = [[] for _ in range(block_tokens)]
        self._ends: list[tuple[int, int, Sequence]] = []
        self._joined = 0
        self._named = 0

    def sequences(self) -> list[Sequence]:
        """Reads. All of them, phase by phase."""
        return [sequence for phase in self._phases for sequence in phase]

    def join(self, sequence: Sequence) -> None:
        """Writes. Its prompt is computed and it has tokens to come; no step is in flight."""
        sequence.decoding = True
        sequence.offset = sequence.computed - self.clock
        sequence.ends_at = self.settled + sequence.output_tokens - sequence.generated
        self._phases[-sequence.offset % self._block_tokens].append(sequence)
        self._joined += 1
        heappush(self._ends, (sequence.ends_at, self._joined, sequence))
        self.size += 1
        self.context_tokens += sequence.computed
        if sequence.named_tokens > sequence.computed:
            self._named += 1
        if sequence.token_events:
            self.streams.append(sequence)

    def leave(self, sequence: Sequence) -> None:
        """Writes. The sequence's own counts are true from now on."""
        sequence.decoding = False
        if sequence.named_tokens > sequence.computed:
            self._named -= 1
        sequence.computed = sequence.offset + self.settled
        sequence.held = sequence.offset + self.clock
        sequence.generated = sequence.output_tokens - (sequence.ends_at - self.settled)
        self._phases[-sequence.offset % self._block_tokens].remove(sequence)
        self.size -= 1
        self.context_tokens -= sequence.held
        if sequence.token_events:
            self.streams.remove(sequence)

    def generated(self, sequence: Sequence) -> int:
        """Reads. Tokens of the answer that are out."""
        return sequence.output_tokens - (sequence.ends_at - self.settled)

    def steps_to_end(self) -> int:
        """Steps until the next sequence ends; the batch is not empty."""
        ends = self._ends
        while ends[0][2].ends_at != ends[0][0] or not ends[0][2].decoding:
            heappop(ends)  # it has left and perhaps come back since
        return ends[0][0] - self.settled

    def pop_ended(self) -> Sequence | None:
        """Writes. A sequence whose last token is out leaves; in the order of admission."""
        ends = self._ends
        while ends and ends[0][0] <= self.settled:
            ends_at, _, sequence = heappop(ends)
            if sequence.decoding and sequence.ends_at == ends_at:
                self.leave(sequence)
                return sequence
        return None

    # Blocks for the tokens to come.

    def opening(self) -> list[Sequence]:
        """Reads. Those that need a new block for their next token; a copy."""
        return self._phases[self.clock % self._block_tokens][:]

    def opens(self) -> int:
        """Reads. How many need a new block for their next token."""
        return len(self._phases[self.clock % self._block_tokens])

    def grow(self, sequence: Sequence) -> bool:
        """Room for the sequence's next token. False, and nothing changed, when there is no block left."""
        held = sequence.offset + self.clock
        return self._cache.grow(sequence.lease, held, held + 1, self._block_tokens)

    def take(self, sequence: Sequence, held: int, more: int = 1) -> None:
        """Writes. Room for tokens that has been counted on. Raises RuntimeError when it is not there: a
        sequence without blocks would never end."""
        if not self._cache.grow(sequence.lease, held, held + more, self._block_tokens):
            raise RuntimeError(f"no block for request {sequence.request_id}, which was promised one")

    def tick(self) -> None:
        """Writes. A step starts; each sequence of `opening` has been grown."""
        if self._named and self._block_tokens > 1:
            for sequence in self._phases[(self.clock + 1) % self._block_tokens]:
                held = sequence.offset + self.clock
                if held < sequence.named_tokens:
                    self.take(sequence, held)
        self.clock += 1
        self.context_tokens += self.size

    def steps_in(self, blocks: int, limit: int) -> int:
        """Reads. How many steps after the one in flight `blocks` blocks are enough for; at most `limit`."""
        block_tokens = self._block_tokens
        cycles = blocks // self.size
        if cycles * block_tokens >= limit:
            return limit
        steps = cycles * block_tokens
        blocks -= cycles * self.size
        while steps < limit:
            blocks -= len(self._phases[(self.clock + steps) % block_tokens])
            if blocks < 0:
                break
            steps += 1
        return steps

    def grow_through(self, steps: int) -> None:
        """Writes. Takes the blocks of `steps` further steps, all of which there is room for."""
        block_tokens = self._block_tokens
        if self._named:
            for _ in range(steps):
                for sequence in self._phases[self.clock % block_tokens]:
                    self.take(sequence, sequence.offset + self.clock)
                self.tick()
            return
        for ahead in range(min(steps, block_tokens)):  # blocks that nobody can meet: the order is no matter
            at = self.clock + ahead
            more = (steps - ahead - 1) // block_tokens * block_tokens + 1
            for sequence in self._phases[at % block_tokens]:
                self.take(sequence, sequence.offset + at, more)
        self.clock += steps
        self.context_tokens += self.size * steps

"""What a rule sent where and has seen no first token of, by its own estimate of what is cached there.

    Q_i = Σ (n − h_i) over the requests dispatched to i whose first token did not come yet

The fleet's own column says the same by our index. A rule with an index of its own must not use it: it would
be charged for hits that it did not predict. A request whose answer is not streamed shows no first token and
waits until its end, as it does where these rules come from (llm-d-router ebab687, `inflight-load-producer`).

Rules kept. A request waits in one place: one that is sent again leaves the former. Told twice is told once,
and the work of a slot that was emptied is forgotten, whatever its requests report later. Rules ask how much
waits, or how many and in which order.
"""

from __future__ import annotations

from collections.abc import Collection


class Books:
    """State: by slot the uncached tokens that wait, in all and of each request, by request where it waits.
    Bounded by the requests in flight."""

    def __init__(self) -> None:
        self.queued_tokens: dict[int, int] = {}
        """Slots where nothing waits are missing."""
        self._waiting: dict[int, dict[int, int]] = {}
        self._slot_of: dict[int, int] = {}

    def book(self, request_id: int, slot: int, uncached_tokens: int) -> None:
        """Writes. The request was sent to the slot."""
        self.release(request_id)
        self._slot_of[request_id] = slot
        self._waiting.setdefault(slot, {})[request_id] = uncached_tokens
        self.queued_tokens[slot] = self.queued_tokens.get(slot, 0) + uncached_tokens

    def release(self, request_id: int) -> None:
        """Writes. Its first token came, or it ended."""
        slot = self._slot_of.pop(request_id, None)
        if slot is None:
            return
        waiting = self._waiting[slot]
        self.queued_tokens[slot] -= waiting.pop(request_id)
        if not waiting:
            del self._waiting[slot], self.queued_tokens[slot]

    def drop(self, slot: int) -> None:
        """Writes. The worker is gone."""
        for request_id in self._waiting.pop(slot, ()):
            del self._slot_of[request_id]
        self.queued_tokens.pop(slot, None)

    def waiting(self, slot: int) -> Collection[int]:
        """Reads. The uncached tokens of each request that waits on the slot, the first sent first."""
        return self._waiting.get(slot, {}).values()

    def __len__(self) -> int:
        """Reads. Requests that wait."""
        return len(self._slot_of)

"""What a rule sent where and has seen no first token of, by its own estimate of what is cached there.

    Q_i = Σ (n − h_i) over the requests dispatched to i whose first token did not come yet

The fleet's own column says the same by our index. A rule with an index of its own must not use it: it would
be charged for hits that it did not predict. A request whose answer is not streamed shows no first token and
waits until its end, as it does where these rules come from (llm-d-router ebab687, `inflight-load-producer`).

Rules kept. A request waits in one place: one that is sent again leaves the former. Told twice is told once,
and the work of a slot that was emptied is forgotten, whatever its requests report later.
"""

from __future__ import annotations


class Books:
    """State: by slot the uncached tokens and the requests that wait, by request where it waits. Bounded by
    the requests in flight."""

    def __init__(self) -> None:
        self.queued_tokens: dict[int, int] = {}
        """Slots where nothing waits are missing."""
        self.queued_requests: dict[int, int] = {}
        self._places: dict[int, tuple[int, int]] = {}

    def book(self, request_id: int, slot: int, uncached_tokens: int) -> None:
        """Writes. The request was sent to the slot."""
        self.release(request_id)
        self._places[request_id] = (slot, uncached_tokens)
        self.queued_tokens[slot] = self.queued_tokens.get(slot, 0) + uncached_tokens
        self.queued_requests[slot] = self.queued_requests.get(slot, 0) + 1

    def release(self, request_id: int) -> None:
        """Writes. Its first token came, or it ended."""
        place = self._places.pop(request_id, None)
        if place is None:
            return
        slot, uncached_tokens = place
        if self.queued_requests[slot] == 1:
            del self.queued_requests[slot], self.queued_tokens[slot]
        else:
            self.queued_requests[slot] -= 1
            self.queued_tokens[slot] -= uncached_tokens

    def drop(self, slot: int) -> None:
        """Writes. The worker is gone."""
        if self.queued_requests.pop(slot, 0):
            del self.queued_tokens[slot]
            self._places = {key: place for key, place in self._places.items() if place[0] != slot}

    def __len__(self) -> int:
        """Reads. Requests that wait."""
        return len(self._places)

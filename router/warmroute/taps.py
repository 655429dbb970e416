"""What may look at an answer's body on its way to the client, and change it.

Most answers have no tap: their bytes are spliced as they came. A tap belongs to one exchange and is asked,
once the answer's head is there, whether this answer is its business. One that is on an answer sees every
piece in order and gives back what goes on in its place.

Rules kept. A tap never waits for more than it needs to tell; what it holds back is bounded. What a worker
counted is read from its own bytes, not from what a tap made of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from warmroute.wire.answers import AnswerHead
    from warmroute_policies.types import WorkerId


class Tap:
    """Passes everything on. State: none."""

    def wants(self, head: AnswerHead, data: bytes, worker: WorkerId, *, http_10: bool) -> bool:
        """Writes. Whether it has to see the body behind this head of the worker's (`data`: its bytes);
        `http_10`: pieces come without chunk framing, as the client does not know it."""
        return False

    def whole(self, head: AnswerHead, body: bytes, worker: WorkerId) -> None:
        """Writes. The answer came in one piece, with a length, and goes on as it is."""

    def take(self, data: bytes) -> bytes:
        """Writes. A piece of the body, and what the client gets of it now; may be empty."""
        return data

    def end(self) -> bytes:
        """Writes. The answer is complete: what was held back."""
        return b""

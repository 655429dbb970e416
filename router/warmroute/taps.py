"""What may look at an answer's body on its way to the client, and change it.

Most answers have no tap: their bytes are spliced as they came. A tap belongs to one exchange. It is shown the
head of every answer that is begun (another worker may be asked before a byte of the body has come), then each
piece in order, and gives back what goes on in its place; where an answer is none of its business, the piece.

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

    def begin(self, head: AnswerHead, data: bytes, worker: WorkerId, *, http_10: bool) -> None:
        """Writes. A worker's answer begins with this head (`data`: its bytes); `http_10`: pieces will come
        without chunk framing, as the client does not know it."""

    def whole(self, head: AnswerHead, body: bytes, worker: WorkerId) -> None:
        """Writes. The answer came in one piece, with a length, and goes on as it is."""

    def take(self, data: bytes) -> bytes:
        """Writes. A piece of the body, and what the client gets of it now; may be empty."""
        return data

    def end(self) -> bytes:
        """Writes. The answer is complete: what was held back."""
        return b""

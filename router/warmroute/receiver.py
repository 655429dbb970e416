"""Whom a worker's answer is for: what the worker's connection calls while it reads one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from warmroute.plan import Plan
    from warmroute.wire.answers import AnswerHead


class Receiver(ABC):
    """An exchange, or the second leg of one that is hedged.

    One of `declines` (then the connection is closed), `take_whole`, or `take_head`, any `take_piece`, and
    then `answer_ended`; `answer_broke` instead of whatever is still to come.
    """

    __slots__ = ("plan",)

    plan: Plan

    @abstractmethod
    def declines(self, head: AnswerHead) -> bool:
        """Writes. Whether an error with this head is dropped, because somebody else may answer."""

    @abstractmethod
    def take_head(self, head: AnswerHead, data: bytes) -> None:
        """Writes. The answer's head, with its bytes."""

    @abstractmethod
    def take_piece(self, data: bytes) -> None:
        """Writes. A piece of the answer's body, never empty."""

    @abstractmethod
    def take_whole(self, head: AnswerHead, data: bytes, end: int) -> None:
        """Writes. Head and body at once; the body begins at `end`."""

    @abstractmethod
    def answer_ended(self) -> None:
        """Writes. The answer is complete."""

    @abstractmethod
    def answer_broke(self, why: str) -> None:
        """Writes. The connection ended inside the answer, or its bytes are no answer."""

    def keeps(self, head: AnswerHead) -> bool:
        """Reads. Whether the worker's connection may carry another request behind this answer."""
        return head.keep_alive

    def switches(self) -> bool:
        """Reads. Whether the worker may change to another protocol (101)."""
        return False

    def worker_full(self) -> None:  # noqa: B027 -- to most it is no matter
        """Writes. The worker reads the request more slowly than it is written; all of it is written, unless
        the client is still sending."""

    def worker_drained(self) -> None:  # noqa: B027 -- as above
        """Writes. It has caught up."""

    def worker_ended(self) -> bool:
        """Writes. The worker has said all it will say; whether it may still be told something."""
        return False

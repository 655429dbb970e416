"""What can be broken on purpose, per worker.

    refuse         new connections are closed at accept, and idle ones at once; running answers go on
    hang           a request is taken and never answered
    die_midstream  the connection is aborted after `after_chunks` tokens (0: before the head)
    error_500/503  the request is answered with that status
    slow           the engine's clock runs `factor` times slower
    none           nothing is broken

`count` limits how many connections (refuse) or requests (the others, not slow) are hit; without it the fault
stays until another is set. Faults hit requests that generate; `health: true` lets hang and the errors hit
GET /health too, which does not use up the count.
"""

from __future__ import annotations

from typing import Literal

import msgspec

FaultKind = Literal["refuse", "hang", "die_midstream", "error_500", "error_503", "slow", "none"]
FAULT_KINDS: tuple[str, ...] = ("refuse", "hang", "die_midstream", "error_500", "error_503", "slow", "none")


class FaultSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fault as `POST /__fault` and `--fault` describe it."""

    kind: FaultKind
    count: int | None = None
    after_chunks: int = 1
    factor: float = 2.0
    health: bool = False
    worker: int | None = None
    """Which worker of the process; None: the one whose port was asked. A worker that refuses
    connections can be reached through another one."""

    def problem(self) -> str | None:
        """Why the fault makes no sense, or None."""
        if self.count is not None and self.count < 1:
            return "count must be at least 1"
        if self.kind == "slow" and self.count is not None:
            return "slow has no count: it holds until another fault is set"
        if self.kind == "slow" and self.factor <= 0:
            return "factor must be positive"
        if self.after_chunks < 0:
            return "after_chunks must not be negative"
        if self.health and self.kind not in ("hang", "error_500", "error_503"):
            return "health goes with hang, error_500 and error_503 only"
        return None


NO_FAULT = FaultSpec("none")


def parse_fault_flag(text: str) -> FaultSpec:
    """`WORKER:KIND[:COUNT]`. Raises ValueError that says what was expected."""
    parts = text.split(":")
    expected = f"expected WORKER:KIND[:COUNT] with KIND one of {', '.join(FAULT_KINDS)}; got {text!r}"
    if len(parts) not in (2, 3) or not parts[0].isdigit() or (len(parts) == 3 and not parts[2].isdigit()):
        raise ValueError(expected)
    try:
        count = int(parts[2]) if len(parts) == 3 else None
        spec = msgspec.convert({"worker": int(parts[0]), "kind": parts[1], "count": count}, FaultSpec)
    except msgspec.ValidationError:
        raise ValueError(expected) from None
    problem = spec.problem()
    if problem:
        raise ValueError(f"{text!r}: {problem}")
    return spec


class FaultBox:
    """The fault that is set on one worker. State: the fault and how often it still hits."""

    def __init__(self) -> None:
        self.spec = NO_FAULT
        self._left: int | None = None

    def set(self, spec: FaultSpec) -> None:
        self.spec, self._left = spec, spec.count

    def take(self, *kinds: str) -> FaultSpec | None:
        """The fault, if it is of one of `kinds`; uses up one of its count."""
        spec = self.spec
        if spec.kind not in kinds:
            return None
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.spec, self._left = NO_FAULT, None
        return spec

    @property
    def on_health(self) -> FaultSpec | None:
        return self.spec if self.spec.health else None

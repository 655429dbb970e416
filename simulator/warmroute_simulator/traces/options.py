"""What a user may say about a trace file; every reader takes all of it and heeds what concerns its format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

AUTO: Final = "auto"

# English text in the tokenizers of current models; the router's first guess is the same.
BYTES_PER_TOKEN: Final = 4.0


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Raises ValueError for numbers that mean nothing; the message names the command's flag."""

    format: str = AUTO
    """A name of `formats.FORMATS`, or `auto`: the first lines tell."""
    block_tokens: int | None = None
    """Tokens for which an id of the file stands; None: what is usual in the format."""
    share_prefixes: bool = False
    """Agentic sessions with equal sizes of tool definitions and system prompt have the same ones."""
    contents: bool = False
    """Ids name what is in a block, not all that comes before it; they are chained on import."""
    skip_bad: bool = False
    """Malformed lines are counted and passed over."""
    limit: int | None = None
    """Only the first requests of the file."""
    bytes_per_token: float = BYTES_PER_TOKEN
    """For texts, which are not tokenized."""

    def __post_init__(self) -> None:
        if self.block_tokens is not None and not 1 <= self.block_tokens <= 1_000_000:
            raise ValueError(f"--trace-block-tokens must be 1 to 1000000, not {self.block_tokens}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"--limit must be at least 1, not {self.limit}")
        if not 0.25 <= self.bytes_per_token <= 64:
            raise ValueError(f"bytes per token must be 0.25 to 64, not {self.bytes_per_token}")

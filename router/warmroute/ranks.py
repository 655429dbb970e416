"""Data-parallel ranks behind one URL, each a worker of its own: `http://gpu1:8000@3`.

An engine with several ranks has a KV cache for each, and chooses among them by load alone: a router that sees
one worker there finds a prefix again by chance. vLLM and SGLang let a field of the head say which rank it
shall be. So a rank is a worker: its id is the engine's URL with the rank behind it, as sglang-router writes
it, its requests carry the field, and whatever concerns the process is asked at the URL.
"""

from __future__ import annotations

import re
from typing import Final

_RANKED: Final = re.compile(r"(.*[^@])@([0-9]{1,4})", re.DOTALL)

RANKS_MAX: Final = 1024
"""Ranks behind one URL; a slip of the finger shall not fill the memory."""


def split_rank(worker: str) -> tuple[str, int | None]:
    """A worker's URL, and its rank; None: it has none."""
    found = _RANKED.fullmatch(worker)
    return (worker, None) if found is None else (found[1], int(found[2]))


def rank_field(rank: int | None) -> bytes:
    """The line of a request's head that chooses the rank; empty where there is nothing to choose."""
    return b"" if rank is None else b"x-data-parallel-rank: %d\r\n" % rank

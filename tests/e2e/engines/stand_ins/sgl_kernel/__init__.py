"""Stands in for the kernels that SGLang brings for GPUs, where a dense model runs on a CPU through torch.

SGLang imports this package and many names of it, and without AMX calls one of them: the bookkeeping of which
cache slot a request's tokens are in. Whatever else is called says that it is not here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

__version__ = "0.4.10"


def assign_req_to_token_pool_cpu(
    requests: Any, slots_by_request: Any, starts: Any, ends: Any, slots: Any, _width: Any
) -> None:
    """Writes, for each request, its next slots into its row, from its start to its end."""
    taken = 0
    for request, start, end in zip(requests.tolist(), starts.tolist(), ends.tolist(), strict=True):
        given = slots[taken : taken + end - start]
        slots_by_request[request, start:end] = given.to(slots_by_request.dtype)
        taken += end - start


def __getattr__(name: str) -> Callable[..., NoReturn]:
    if name.startswith("__"):
        raise AttributeError(name)

    def absent(*_: object, **__: object) -> NoReturn:
        raise NotImplementedError(f"{name} is a GPU's kernel; this is a CPU")

    return absent
